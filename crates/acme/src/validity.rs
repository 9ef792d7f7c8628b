//! When a certificate is valid: the two dates of an X.509 certificate (RFC 5280 §4.1.2.5), and nothing else of it.

use std::time::UNIX_EPOCH;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// From when until when a certificate in DER is valid, in milliseconds since the Unix epoch. `None`: it is none.
pub(crate) fn validity(der: &[u8]) -> Option<(u64, u64)> {
    let certificate = sequence(der)?;
    let mut fields = sequence(certificate)?;
    if let Some((VERSION, _, rest)) = element(fields) {
        fields = rest;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (kind, from, rest) = element(sequence(fields)?)?;
    let from = moment(kind, from)?;
    let (kind, until, _) = element(rest)?;
    let until = moment(kind, until)?;
    (from < until).then_some((from, until))
}

fn sequence(der: &[u8]) -> Option<&[u8]> {
    element(der).filter(|(kind, ..)| *kind == SEQUENCE).map(|(_, content, _)| content)
}

/// The first element: its kind, its content, what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&kind, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // The length's own length; certificates are far below 4 GiB.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((kind, content, rest))
}

fn moment(kind: u8, text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    let (year, rest) = match kind {
        // Two digits mean 1950 to 2049.
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            (format!("{}{year}", if year < "50" { "20" } else { "19" }), rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.to_owned(), rest)
        }
        _ => return None,
    };
    let digits = rest.strip_suffix('Z').filter(|digits| digits.len() == 10)?;
    let part = |n: usize| &digits[2 * n..2 * n + 2];
    let text = format!("{year}-{}-{}T{}:{}:{}Z", part(0), part(1), part(2), part(3), part(4));
    let since = humantime::parse_rfc3339(&text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certificate(from: (i32, u8, u8), until: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_ways_to_write_a_date_are_read() {
        let der = certificate((2026, 1, 2), (2051, 12, 31));
        assert_eq!(validity(&der), Some((1_767_312_000_000, 2_587_593_600_000)));
        assert_eq!(
            validity(&certificate((1999, 1, 1), (2000, 1, 1))),
            Some((915_148_800_000, 946_684_800_000))
        );
    }

    proptest! {
        #[test]
        fn a_broken_certificate_is_no_certificate(at in 0usize..400, byte: u8, length in 0usize..400) {
            let mut der = certificate((2026, 1, 2), (2027, 1, 2));
            let at = at.min(der.len() - 1);
            der[at] = byte;
            der.truncate(length);
            let _ = validity(&der);
        }

        #[test]
        fn bytes_are_no_certificate(der: Vec<u8>) {
            prop_assert_eq!(validity(&der), None);
        }
    }
}
