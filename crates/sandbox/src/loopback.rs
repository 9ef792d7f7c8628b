//! The loopback device of a new network, which is down at first.

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

use crate::jail::{JailError, Step};

const LAYER: &str = "the loopback device";

/// `RTM_NEWLINK`, and that it is a request whose success is to be said: <linux/rtnetlink.h>, <linux/netlink.h>.
const NEW_LINK: u16 = 16;
const REQUEST_AND_SAY: u16 = 1 | 4;
/// The answer, which says an error's number or 0.
const SAID: u16 = 2;
/// The loopback device is the first of each network; `IFF_UP`.
const LOOPBACK: i32 = 1;
const UP: u32 = 1;
const LENGTH: u32 = 32;

/// Sets it up. Takes the right to administrate this process's network.
pub(crate) fn up() -> Result<(), JailError> {
    // The protocol that is 0 is that of routes and devices.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None);
    let socket = socket.step(LAYER)?;
    sendto(&socket, &request(), SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).step(LAYER)?;
    let mut answer = [0; 64];
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty()).step(LAYER)?;
    outcome(&answer[..length]).step(LAYER)
}

/// `nlmsghdr` and `ifinfomsg`.
fn request() -> Vec<u8> {
    let mut message = Vec::with_capacity(LENGTH as usize);
    message.extend(LENGTH.to_ne_bytes());
    message.extend(NEW_LINK.to_ne_bytes());
    message.extend(REQUEST_AND_SAY.to_ne_bytes());
    // The number of the request, and who asks; then no family and no type of device.
    message.extend([0; 12]);
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    message
}

fn outcome(answer: &[u8]) -> std::io::Result<()> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let error = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, error) {
        (Some(SAID), Some(0)) => Ok(()),
        (Some(SAID), Some(error)) => Err(std::io::Error::from_raw_os_error(-error)),
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_as_long_as_it_says_and_errors_are_read() {
        assert_eq!(request().len(), LENGTH as usize);
        let answer = |kind: u16, error: i32| {
            let mut bytes = vec![0; 20];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes[16..].copy_from_slice(&error.to_ne_bytes());
            outcome(&bytes)
        };
        answer(SAID, 0).unwrap();
        assert_eq!(answer(SAID, -libc::EPERM).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(answer(3, 0).is_err() && outcome(&[0; 5]).is_err());
    }
}
