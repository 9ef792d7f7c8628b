//! What a browser asks its proxy, and what it is answered: SOCKS 5, RFC 1928, as far as browsers speak it. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const VERSION: u8 = 5;
const CONNECT: u8 = 1;
const NO_LOGIN: u8 = 0;
const NO_METHOD: u8 = 0xff;

/// Where it wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Name(String),
    Address(IpAddr),
}

/// What is said to a request (§6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Connected = 0,
    Failed = 1,
    NotAllowed = 2,
    Unreachable = 4,
    Refused = 5,
    NotSupported = 7,
}

/// How a client begins: the methods of logging in that it knows (§3). What it is answered and whether it may go on, and how many bytes
/// that were; `None` while it has not said all.
pub(crate) fn greeting(said: &[u8]) -> Option<(usize, [u8; 2], bool)> {
    let count = usize::from(*said.get(1)?);
    let methods = said.get(2..2 + count)?;
    let speaks = said[0] == VERSION && methods.contains(&NO_LOGIN);
    Some((2 + count, [VERSION, if speaks { NO_LOGIN } else { NO_METHOD }], speaks))
}

/// A request (§4), and how many bytes it has; `None` while it has not come whole. What is no request, or no wish for a connection, is
/// answered with the reply.
pub(crate) fn request(said: &[u8]) -> Option<Result<(usize, Host, u16), Reply>> {
    let (head, rest) = said.split_at_checked(4)?;
    if head[0] != VERSION || head[1] != CONNECT {
        return Some(Err(Reply::NotSupported));
    }
    let (host, length) = match head[3] {
        1 => (Host::Address(Ipv4Addr::from(*rest.first_chunk::<4>()?).into()), 4),
        4 => (Host::Address(Ipv6Addr::from(*rest.first_chunk::<16>()?).into()), 16),
        3 => {
            let length = usize::from(*rest.first()?);
            match std::str::from_utf8(rest.get(1..1 + length)?) {
                Ok(name) if !name.is_empty() => (Host::Name(name.to_owned()), 1 + length),
                _ => return Some(Err(Reply::Failed)),
            }
        }
        _ => return Some(Err(Reply::NotSupported)),
    };
    let port = u16::from_be_bytes(*rest.get(length..)?.first_chunk()?);
    Some(Ok((4 + length + 2, host, port)))
}

/// The answer; from which address the connection comes is nobody's business in there.
pub(crate) fn answer(reply: Reply) -> [u8; 10] {
    [VERSION, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_client_begins_as_browsers_do() {
        assert_eq!(greeting(&[5, 1, 0]), Some((3, [5, 0], true)));
        assert_eq!(greeting(&[5, 2, 2, 0, 9]), Some((4, [5, 0], true)));
        assert_eq!(greeting(&[5, 1, 2]), Some((3, [5, 0xff], false)));
        assert_eq!(greeting(&[4, 1, 0]), Some((3, [5, 0xff], false)));
        for short in [&[][..], &[5], &[5, 2, 0]] {
            assert_eq!(greeting(short), None);
        }
    }

    #[test]
    fn a_request_names_a_host_and_a_port() {
        let name = [&[5, 1, 0, 3, 11][..], b"example.com", &[1, 187, 22]].concat();
        assert_eq!(request(&name), Some(Ok((18, Host::Name("example.com".into()), 443))));
        let v4 = [5, 1, 0, 1, 127, 0, 0, 1, 0, 80];
        assert_eq!(request(&v4), Some(Ok((10, Host::Address("127.0.0.1".parse().unwrap()), 80))));
        let v6 = [&[5, 1, 0, 4][..], &Ipv6Addr::LOCALHOST.octets(), &[0, 80]].concat();
        assert_eq!(request(&v6), Some(Ok((22, Host::Address("::1".parse().unwrap()), 80))));
        for whole in [&name[..18], &v4, &v6] {
            for length in 0..whole.len() {
                assert_eq!(request(&whole[..length]), None, "{length}");
            }
        }
        for (wrong, reply) in [
            ([5, 2, 0, 1, 1, 1, 1, 1, 0, 80], Reply::NotSupported),
            ([5, 1, 0, 9, 1, 1, 1, 1, 0, 80], Reply::NotSupported),
            ([4, 1, 0, 1, 1, 1, 1, 1, 0, 80], Reply::NotSupported),
            ([5, 1, 0, 3, 0, 1, 1, 1, 0, 80], Reply::Failed),
            ([5, 1, 0, 3, 1, 0xff, 1, 1, 0, 80], Reply::Failed),
        ] {
            assert_eq!(request(&wrong), Some(Err(reply)), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_said_is_too_strange(said: Vec<u8>) {
            if let Some((used, _, _)) = greeting(&said) {
                prop_assert!(used <= said.len());
            }
            if let Some(Ok((used, _, _))) = request(&said) {
                prop_assert!(used <= said.len());
            }
        }

        #[test]
        fn every_host_and_port_is_understood(name in "[a-z0-9.-]{1,255}", port: u16, more: Vec<u8>) {
            let mut said = vec![5, 1, 0, 3, name.len() as u8];
            said.extend(name.bytes());
            said.extend(port.to_be_bytes());
            let length = said.len();
            said.extend(more);
            prop_assert_eq!(request(&said), Some(Ok((length, Host::Name(name), port))));
        }
    }
}
