//! `Cache-Control` of a response (RFC 9111 §5.2.2). Pure.

use http::{HeaderMap, header};

/// What a response's `Cache-Control` says to a shared cache.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    pub no_store: bool,
    /// `no-cache` or `private` without a field list: nothing of the response may be reused.
    pub no_reuse: bool,
    pub public: bool,
    pub must_revalidate: bool,
    /// Seconds. One that is no number counts as 0: stale (RFC 9111 §4.2.1).
    pub max_age: Option<u64>,
    /// Seconds.
    pub s_maxage: Option<u64>,
    /// Fields named by `private="…"` and `no-cache="…"`, in lower case: kept out, the rest may be stored.
    pub stripped: Vec<String>,
}

impl Directives {
    /// Reads all `Cache-Control` fields.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut all = Self::default();
        for value in headers.get_all(header::CACHE_CONTROL) {
            let text = String::from_utf8_lossy(value.as_bytes());
            for part in split_unquoted(&text) {
                all.read(part.trim());
            }
        }
        all
    }

    fn read(&mut self, directive: &str) {
        let (name, value) = match directive.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (directive, None),
        };
        match (name.to_ascii_lowercase().as_str(), value) {
            ("no-store", _) => self.no_store = true,
            ("private" | "no-cache", Some(fields)) if !fields.is_empty() => self.stripped.extend(
                fields.split(',').map(|field| field.trim().trim_end_matches(';').to_ascii_lowercase()),
            ),
            ("private" | "no-cache", _) => self.no_reuse = true,
            ("public", _) => self.public = true,
            ("must-revalidate" | "proxy-revalidate", _) => self.must_revalidate = true,
            ("max-age", value) => self.max_age = Some(seconds(value)),
            ("s-maxage", value) => self.s_maxage = Some(seconds(value)),
            _ => {}
        }
    }
}

/// Seconds, at most some 68 years (RFC 9111 §1.2.2).
fn seconds(text: Option<&str>) -> u64 {
    let digits = text.filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    digits.map_or(0, |digits| digits.parse().unwrap_or(u64::MAX).min(1 << 31))
}

/// Splits at commas that are not inside double quotes.
fn split_unquoted(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Directives {
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, text.parse().unwrap());
        Directives::of(&headers)
    }

    #[test]
    fn directives_are_read_whatever_their_case_and_quotes() {
        assert_eq!(
            of("Public, MAX-AGE=10 , s-maxage=\"20\""),
            Directives { public: true, max_age: Some(10), s_maxage: Some(20), ..Default::default() }
        );
        assert_eq!(of("max-age=soon").max_age, Some(0));
        assert_eq!(of("max-age=99999999999999999999").max_age, Some(1 << 31));
    }

    #[test]
    fn a_field_list_strips_fields_and_allows_the_rest() {
        let both = of("private=Set-Cookie, no-cache=\"X-A, x-b\", max-age=5");
        assert_eq!(both.stripped, ["set-cookie", "x-a", "x-b"]);
        assert!(!both.no_reuse && both.max_age == Some(5));
        assert!(of("private").no_reuse && of("no-cache").no_reuse && of("no-store").no_store);
    }
}
