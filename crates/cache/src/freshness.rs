//! Whether a response may be kept, and how long it is fresh. Pure.
//!
//! RFC 9111 for shared caches, with Cloudflare's differences: the request's `Cache-Control` and `Vary` are ignored,
//! `Set-Cookie` prevents storing, and there is a default time by status
//! (<https://developers.cloudflare.com/cache/concepts/default-cache-behavior/#edge-ttl>).

use std::time::UNIX_EPOCH;

use http::{HeaderMap, header};

use crate::directives::Directives;
use crate::head::Head;

/// What to do with a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Must not be stored.
    Refuse,
    /// May be stored, but would be stale at once.
    Stale,
    /// Store it without the fields of these names.
    Keep {
        /// Seconds from now.
        fresh_for: u64,
        /// Seconds of age that it brings along.
        age: u64,
        /// In lower case.
        stripped: Vec<String>,
    },
}

/// Judges `response` to a request with `request` headers at `now` (seconds since the epoch).
pub(crate) fn judge(request: &HeaderMap, response: &Head, now: u64) -> Verdict {
    let headers = &response.headers;
    let rules = Directives::of(headers);
    let cookie_stripped = rules.stripped.iter().any(|name| name == "set-cookie");
    let for_others = rules.public || rules.must_revalidate || rules.s_maxage.is_some();
    if rules.no_store
        || rules.no_reuse
        || matches!(response.status, 0..200 | 206 | 304)
        || (headers.contains_key(header::SET_COOKIE) && !cookie_stripped)
        || (request.contains_key(header::AUTHORIZATION) && !for_others)
        || headers.get_all(header::VARY).iter().any(|vary| vary.as_bytes().contains(&b'*'))
    {
        return Verdict::Refuse;
    }
    let lifetime = rules
        .s_maxage
        .or(rules.max_age)
        .or_else(|| expires(headers, now))
        .or_else(|| default_lifetime(response.status));
    let Some(lifetime) = lifetime else { return Verdict::Refuse };
    let age = text(headers, header::AGE).and_then(|age| age.trim().parse().ok()).unwrap_or(0);
    match lifetime.saturating_sub(age) {
        0 => Verdict::Stale,
        fresh_for => Verdict::Keep { fresh_for, age, stripped: rules.stripped },
    }
}

/// `Expires` counted from `Date`, as the sender's clock has both; one that cannot be read is in the past.
fn expires(headers: &HeaderMap, now: u64) -> Option<u64> {
    let expires = headers.get(header::EXPIRES)?;
    let at = expires.to_str().ok().and_then(seconds_of_date);
    let date = text(headers, header::DATE).and_then(seconds_of_date).unwrap_or(now);
    Some(at.map_or(0, |at| at.saturating_sub(date)))
}

fn default_lifetime(status: u16) -> Option<u64> {
    match status {
        200 | 301 => Some(120 * 60),
        302 | 303 => Some(20 * 60),
        404 | 410 => Some(3 * 60),
        _ => None,
    }
}

/// Seconds since the epoch of an HTTP date.
pub(crate) fn seconds_of_date(text: &str) -> Option<u64> {
    let time = httpdate::parse_http_date(text.trim()).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn with(status: u16, lines: &str, request: &str) -> Verdict {
        let head = Head::parse(format!("HTTP/1.1 {status} X\r\n{lines}\r\n").as_bytes()).unwrap();
        let request = Head::parse(format!("HTTP/1.1 200 X\r\n{request}\r\n").as_bytes()).unwrap();
        judge(&request.headers, &head, NOW)
    }

    fn fresh(status: u16, lines: &str) -> Option<u64> {
        match with(status, lines, "Cache-Control: no-store\r\n") {
            Verdict::Keep { fresh_for, .. } => Some(fresh_for),
            _ => None,
        }
    }

    #[test]
    fn the_most_specific_lifetime_wins() {
        let expires = "Date: Fri, 15 Jan 2027 08:00:00 GMT\r\nExpires: Fri, 15 Jan 2027 08:00:30 GMT\r\n";
        assert_eq!(fresh(200, &format!("Cache-Control: max-age=10, s-maxage=20\r\n{expires}")), Some(20));
        assert_eq!(fresh(200, &format!("Cache-Control: max-age=10\r\n{expires}")), Some(10));
        assert_eq!(fresh(200, expires), Some(30));
        assert_eq!(fresh(200, "Cache-Control: max-age=10\r\nAge: 4\r\n"), Some(6));
        assert_eq!(fresh(500, "Cache-Control: max-age=10\r\n"), Some(10));
    }

    #[test]
    fn without_a_lifetime_the_status_decides() {
        assert_eq!(fresh(200, ""), Some(7200));
        assert_eq!(fresh(302, ""), Some(1200));
        assert_eq!(fresh(404, ""), Some(180));
        assert_eq!(fresh(500, ""), None);
    }

    #[test]
    fn what_is_private_or_personal_is_refused() {
        for lines in [
            "Cache-Control: no-store, max-age=9\r\n",
            "Cache-Control: private, max-age=9\r\n",
            "Cache-Control: no-cache, max-age=9\r\n",
            "Cache-Control: max-age=9\r\nSet-Cookie: a=b\r\n",
            "Cache-Control: max-age=9\r\nVary: *\r\n",
        ] {
            assert_eq!(with(200, lines, ""), Verdict::Refuse, "{lines}");
        }
        let authorized = "Authorization: Bearer x\r\n";
        assert_eq!(with(200, "Cache-Control: max-age=9\r\n", authorized), Verdict::Refuse);
        assert_ne!(with(200, "Cache-Control: public, max-age=9\r\n", authorized), Verdict::Refuse);
        assert_eq!(with(206, "Cache-Control: max-age=9\r\n", ""), Verdict::Refuse);
    }

    #[test]
    fn a_cookie_that_is_marked_private_is_stripped() {
        let lines = "Cache-Control: private=Set-Cookie, max-age=9\r\nSet-Cookie: a=b\r\n";
        let kept = Verdict::Keep { fresh_for: 9, age: 0, stripped: vec!["set-cookie".to_owned()] };
        assert_eq!(with(200, lines, ""), kept);
    }

    #[test]
    fn what_is_stale_at_once_is_not_kept() {
        for lines in
            ["Cache-Control: max-age=0\r\n", "Expires: 0\r\n", "Cache-Control: max-age=5\r\nAge: 5\r\n"]
        {
            assert_eq!(with(200, lines, ""), Verdict::Stale, "{lines}");
        }
    }
}
