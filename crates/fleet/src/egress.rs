//! Which addresses a cell may connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Networks that a cell may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress(Vec<Reach>);

/// Some addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reach {
    /// What the internet routes.
    Public,
    /// Everything else.
    Private,
    /// A network, by its address and the length of its prefix in bits.
    Network(IpAddr, u8),
}

/// Networks that the internet does not route, or not to one machine: IANA's special-purpose registries.
const SPECIAL_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

impl Egress {
    /// Reads the engine's words: `public`, `private`, or a network as `10.1.0.0/16`.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        words.iter().map(|word| word.parse()).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a connection to `address` is allowed.
    pub fn allows(&self, address: IpAddr) -> bool {
        // `::ffff:10.0.0.1` is 10.0.0.1.
        let address = address.to_canonical();
        self.0.iter().any(|reach| match reach {
            Reach::Public => is_public(address),
            Reach::Private => !is_public(address),
            Reach::Network(network, bits) => is_in(address, *network, *bits),
        })
    }
}

/// Whether `text` is a network or an address that [`Egress`] understands.
pub fn check_network(text: &str) -> Result<String, String> {
    match text.parse()? {
        Reach::Network(..) => Ok(text.to_owned()),
        _ => Err(format!("\"{text}\" is no network: give one as 10.1.0.0/16")),
    }
}

impl FromStr for Reach {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "public" => return Ok(Self::Public),
            "private" => return Ok(Self::Private),
            _ => {}
        }
        let wrong = || format!("\"{word}\" is no network: give one as 10.1.0.0/16");
        let (address, bits) =
            word.split_once('/').map_or((word, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if bits > most {
            return Err(wrong());
        }
        Ok(Self::Network(address, bits))
    }
}

fn is_in(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

/// Whether the internet routes an address.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            !SPECIAL_V4.iter().any(|(net, bits)| is_in(address.into(), (*net).into(), *bits))
        }
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Global unicast, 2000::/3, without documentation; where an IPv4 address is inside, that decides.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match segments {
        // NAT64 and 6to4.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public(v4(high, low)),
        [0x2002, high, low, ..] => is_public(v4(high, low)),
        // Teredo, benchmarks, documentation and other protocol assignments.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn egress(words: &[&str]) -> Egress {
        Egress::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_public_internet_is_what_is_not_special() {
        let public = egress(&["public"]);
        for yes in
            ["1.1.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
        {
            assert!(public.allows(yes.parse().unwrap()), "{yes}");
        }
        for no in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "::7f00:1",
        ] {
            assert!(!public.allows(no.parse().unwrap()), "{no}");
        }
    }

    #[test]
    fn networks_are_added() {
        let some = egress(&["public", "10.1.0.0/16", "192.168.7.7", "fd12::/16"]);
        for yes in ["10.1.255.1", "192.168.7.7", "fd12:3::4", "::ffff:10.1.0.1", "1.1.1.1"] {
            assert!(some.allows(yes.parse().unwrap()), "{yes}");
        }
        for no in ["10.2.0.1", "192.168.7.8", "fd13::4", "127.0.0.1"] {
            assert!(!some.allows(no.parse().unwrap()), "{no}");
        }
        assert!(egress(&["0.0.0.0/0"]).allows("127.0.0.1".parse().unwrap()));
        assert!(!Egress::default().allows("1.1.1.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for wrong in
            ["", "10.0.0.0/33", "::/129", "10.0.0/8", "example.com", "10.0.0.0/", "10.0.0.0/-1", "public"]
        {
            assert!(check_network(wrong).is_err(), "{wrong}");
        }
        assert!(check_network("10.0.0.0/8").is_ok());
    }

    proptest! {
        #[test]
        fn an_address_is_public_or_private(address: [u8; 16], v4: bool) {
            let short = [address[0], address[1], address[2], address[3]];
            let address = if v4 { IpAddr::from(short) } else { IpAddr::from(address) };
            prop_assert_ne!(egress(&["public"]).allows(address), egress(&["private"]).allows(address));
            prop_assert!(egress(&["0.0.0.0/0", "::/0"]).allows(address));
        }
    }
}
