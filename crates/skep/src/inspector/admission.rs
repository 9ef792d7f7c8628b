//! Who may debug a worker. Any page that the developer opens can connect to a port of this machine, and whoever is
//! connected can run code in the worker, with all of its bindings. So a page has to be DevTools or of this machine, and
//! has to know that it talks to this machine, which a name that was pointed here does not.
//! Origins and hosts are those that wrangler takes.

/// A request that is let in.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// The path that it is for.
    pub path: String,
}

/// Why one is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no HTTP.
    Malformed,
    /// It is for another machine.
    Host,
    /// It comes from a page that is not DevTools.
    Origin,
    /// There is no process.
    NotThere,
}

impl Refusal {
    /// The answer's text.
    pub fn text(self) -> &'static str {
        match self {
            Self::Malformed => "This is a port for DevTools.",
            Self::Host => "Disallowed `Host` header.",
            Self::Origin => "Disallowed `Origin` header.",
            Self::NotThere => "The worker does not run.",
        }
    }

    /// The answer's status.
    pub fn status(self) -> &'static str {
        match self {
            Self::Malformed => "400 Bad Request",
            Self::Host => "401 Unauthorized",
            Self::Origin => "403 Forbidden",
            Self::NotThere => "503 Service Unavailable",
        }
    }
}

const MAX_HEADERS: usize = 64;
const THIS_MACHINE: [&str; 3] = ["127.0.0.1", "[::1]", "localhost"];
const DEVTOOLS: [&str; 2] = ["devtools.devprod.cloudflare.dev", "cloudflare-devtools.pages.dev"];

/// Reads the head of a request, and decides.
pub fn read(head: &[u8]) -> Result<Asked, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    if !request.parse(head).is_ok_and(|parsed| parsed.is_complete()) {
        return Err(Refusal::Malformed);
    }
    let path = request.path.ok_or(Refusal::Malformed)?.to_owned();
    let one = |name: &str| {
        let mut all = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        match (all.next(), all.next()) {
            (None, _) => Ok(None),
            (Some(header), None) => std::str::from_utf8(header.value).map(Some).map_err(drop),
            (Some(_), Some(_)) => Err(()),
        }
    };
    match one("host") {
        Ok(Some(host)) if THIS_MACHINE.contains(&hostname(host)) => {}
        _ => return Err(Refusal::Host),
    }
    match one("origin") {
        // Pages always have one where it matters; editors and scripts have none.
        Ok(None) => {}
        Ok(Some(origin)) if is_devtools(origin) => {}
        _ => return Err(Refusal::Origin),
    }
    Ok(Asked { path })
}

/// Without the port.
fn hostname(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_devtools(origin: &str) -> bool {
    // What the developer's own browser has built in.
    if origin.starts_with("devtools://") || origin.starts_with("vscode-webview://") {
        return true;
    }
    let Some(host) = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")) else {
        return false;
    };
    let host = hostname(host);
    let is_preview = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    THIS_MACHINE.contains(&host)
        || DEVTOOLS.contains(&host)
        || host.strip_suffix(".cloudflare-devtools.pages.dev").is_some_and(is_preview)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(host: &str, origin: Option<&str>) -> Result<Asked, Refusal> {
        let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        read(format!("GET /user HTTP/1.1\r\nHost: {host}\r\n{origin}\r\n").as_bytes())
    }

    #[test]
    fn devtools_and_pages_of_this_machine_are_let_in() {
        for host in ["127.0.0.1:9229", "localhost:9229", "[::1]:9229", "localhost", "[::1]"] {
            assert_eq!(ask(host, None), Ok(Asked { path: "/user".into() }), "{host}");
        }
        for origin in [
            "https://devtools.devprod.cloudflare.dev",
            "https://cloudflare-devtools.pages.dev",
            "https://1a2b3c.cloudflare-devtools.pages.dev",
            "http://localhost:3000",
            "http://[::1]:3000",
            "devtools://devtools",
        ] {
            assert!(ask("127.0.0.1:9229", Some(origin)).is_ok(), "{origin}");
        }
    }

    #[test]
    fn other_pages_are_not() {
        for host in ["evil.example:9229", "127.0.0.1.evil.example", "localhost.evil.example:9229", ""] {
            assert_eq!(ask(host, None), Err(Refusal::Host), "{host}");
        }
        for origin in [
            "https://evil.example",
            "https://devtools.devprod.cloudflare.dev.evil.example",
            "https://evil.example:443/devtools.devprod.cloudflare.dev",
            "https://a.b.cloudflare-devtools.pages.dev",
            "https://.cloudflare-devtools.pages.dev",
            "https://evilcloudflare-devtools.pages.dev",
            "null",
            "",
        ] {
            assert_eq!(ask("127.0.0.1:9229", Some(origin)), Err(Refusal::Origin), "{origin}");
        }
        let twice = b"GET / HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n";
        assert_eq!(read(twice), Err(Refusal::Host));
        let twice =
            b"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nOrigin: http://evil.example\r\n\r\n";
        assert_eq!(read(twice), Err(Refusal::Origin));
        assert_eq!(read(b"\x16\x03\x01\r\n\r\n"), Err(Refusal::Malformed));
    }

    proptest! {
        #[test]
        fn no_head_is_too_strange(head in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&head);
        }

        #[test]
        fn a_page_elsewhere_is_never_let_in(name in "[a-z0-9.-]{1,40}\\.example") {
            prop_assert_eq!(ask("localhost:9229", Some(&format!("https://{name}"))), Err(Refusal::Origin));
            prop_assert_eq!(ask(&name, None), Err(Refusal::Host));
        }
    }
}
