//! Names that an authority may be asked about.

use std::borrow::Borrow;
use std::fmt;

/// A certificate's file is called after its name: 255 bytes, of which we add some.
const LONGEST: usize = 240;

/// A host name that can have a certificate: lower case, two labels or more, not below `localhost`, no address, no
/// wildcard (which neither HTTP-01 nor TLS-ALPN-01 can prove).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// Reads a name; `None` if it can have no certificate.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.to_ascii_lowercase();
        let labels: Vec<&str> = name.split('.').collect();
        let last = labels.last()?;
        let fits = name.len() <= LONGEST && labels.len() > 1 && labels.iter().all(|label| is_label(label));
        let is_address = last.bytes().all(|b| b.is_ascii_digit());
        (fits && !is_address && *last != "localhost").then_some(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// RFC 1123 §2.1
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_an_authority_can_look_up() {
        assert_eq!(HostName::parse("Shop.Example.COM").unwrap().as_str(), "shop.example.com");
        assert!(HostName::parse("xn--bcher-kva.example").is_some());
        let long = format!("{}.example", "a.".repeat(150));
        for wrong in [
            "",
            "localhost",
            "a.localhost",
            "example",
            "*.example.com",
            "10.0.0.1",
            "::1",
            "a..b",
            ".a.b",
            "a.b.",
            "-a.b",
            "a-.b",
            "a/../b.c",
            "a_b.c",
            "bücher.example",
            long.as_str(),
        ] {
            assert_eq!(HostName::parse(wrong), None, "{wrong}");
        }
    }
}
