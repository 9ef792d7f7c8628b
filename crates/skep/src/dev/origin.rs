//! Who may ask for what `skep dev` answers itself: not every page that a browser on this machine shows.

use std::net::IpAddr;

use http::request::Parts;
use http::{Uri, header};

/// A host without its port and brackets.
fn host(authority: &str) -> Option<String> {
    let parsed: Uri = authority.parse().ok()?;
    Some(parsed.host()?.trim_matches(['[', ']']).to_ascii_lowercase())
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What wrangler says to requests of others. A name may lead here that somebody else made up, an address cannot; a page of
/// this machine may ask, and one that was served under the address that it asks.
pub fn check(head: &Parts) -> Result<(), &'static str> {
    let header = |name| head.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let authority = head.uri.authority().map(http::uri::Authority::as_str).or_else(|| header(header::HOST));
    let own = authority.map(|authority| host(authority).unwrap_or_default());
    if own.as_ref().is_some_and(|host| !is_here(host) && host.parse::<IpAddr>().is_err()) {
        return Err("Invalid Host header");
    }
    let origin = header(header::ORIGIN).filter(|origin| !origin.is_empty());
    let origin = origin.map(|origin| host(origin).unwrap_or_default());
    match origin {
        Some(origin) if !is_here(&origin) && Some(&origin) != own.as_ref() => Err("Invalid Origin header"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &str, origin: Option<&str>) -> Result<(), &'static str> {
        let mut request = http::Request::get("/cdn-cgi/handler/email").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        check(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn pages_of_others_may_not_ask() {
        for host in ["localhost:8787", "127.0.0.1:8787", "[::1]:8787", "192.168.1.2:80"] {
            assert_eq!(asked(host, None), Ok(()), "{host}");
            assert_eq!(asked(host, Some("http://localhost:3000")), Ok(()), "{host}");
            assert_eq!(asked(host, Some(&format!("http://{host}"))), Ok(()), "{host}");
            for origin in
                ["https://example.com", "http://192.168.1.9", "null", "http://localhost.example.com"]
            {
                assert_eq!(asked(host, Some(origin)), Err("Invalid Origin header"), "{host} {origin}");
            }
        }
        for host in ["example.com", "localhost.example.com:80", "a b"] {
            assert_eq!(asked(host, None), Err("Invalid Host header"), "{host}");
        }
    }
}
