//! The paths and URLs that rules are written with.

use url::Url;

/// Lines of such a file that are looked at; all rules that there may be, with their headers, are a quarter of them.
pub(crate) const MAX_LINES: usize = 100_000;
/// Lines that are said to be wrong.
pub(crate) const MAX_WARNINGS: usize = 1000;
/// Most characters of a line of `_redirects` and `_headers`.
pub(crate) const MAX_LINE_LENGTH: usize = 2000;

/// What a rule's URL may be, and what of it is kept.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Allowed {
    pub(crate) only_relative: bool,
    pub(crate) no_port: bool,
    pub(crate) search_and_hash: bool,
}

/// Reads a rule's path (`/…`) or URL (`https://host/…`) and gives its normal form; the error is wrangler's.
pub(crate) fn read(token: &str, allowed: Allowed) -> Result<String, String> {
    if let Some((host, path)) = split_host(token) {
        if allowed.only_relative {
            return Err(format!("Only relative URLs are allowed. Skipping absolute URL {token}."));
        }
        if allowed.no_port && has_port(host) {
            return Err(format!("Specifying ports is not supported. Skipping absolute URL {token}."));
        }
        let path = extract(path, allowed).ok_or_else(|| unreadable(token))?;
        return Ok(format!("https://{host}{path}"));
    }
    if !token.starts_with('/') && !allowed.only_relative {
        return Err(
            "URLs should either be relative (e.g. begin with a forward-slash), or use HTTPS (e.g. begin \
                    with \"https://\")."
                .to_owned(),
        );
    }
    extract(token, allowed).ok_or_else(|| unreadable(token))
}

fn unreadable(token: &str) -> String {
    format!("Error parsing URL segment {token}. Skipping.")
}

/// Whether a rule names a host.
pub(crate) fn has_host(token: &str) -> bool {
    split_host(token).is_some()
}

/// `https://host/path` → `host`, `path` (without its first slash). More than two slashes are taken too.
fn split_host(token: &str) -> Option<(&str, &str)> {
    let after = token.strip_prefix("https:/")?;
    let rest = after.trim_start_matches('/');
    if rest.is_empty() || rest.len() == after.len() {
        return None;
    }
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

fn extract(path: &str, allowed: Allowed) -> Option<String> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    // A scheme that is not special: backslashes stay, and two leading slashes name no host.
    let url = Url::parse(&format!("relative://{slash}{path}")).ok()?;
    let mut out = url.path().to_owned();
    if allowed.search_and_hash {
        for (mark, part) in [('?', url.query()), ('#', url.fragment())] {
            if let Some(part) = part.filter(|p| !p.is_empty()) {
                out.push(mark);
                out.push_str(part);
            }
        }
    }
    Some(out)
}

/// `line.trim()` as JavaScript does it: a byte order mark is white space too.
pub(crate) fn trim(line: &str) -> &str {
    line.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
}

/// Whether a line is too long, and the warning for it. Lengths are UTF-16 units.
pub(crate) fn too_long(line: &str, number: usize) -> Option<String> {
    (line.len() > MAX_LINE_LENGTH && line.encode_utf16().count() > MAX_LINE_LENGTH).then(|| {
        format!("Ignoring line {number} as it exceeds the maximum allowed length of {MAX_LINE_LENGTH}.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_take_their_normal_form() {
        let from = Allowed { only_relative: true, no_port: true, ..Allowed::default() };
        let to = Allowed { search_and_hash: true, ..Allowed::default() };
        assert_eq!(read("/a/../b?x#y", from).unwrap(), "/b");
        assert_eq!(read("foo", from).unwrap(), "/foo");
        assert_eq!(read("/é/:id/*", from).unwrap(), "/%C3%A9/:id/*");
        assert_eq!(read("/b?x=1#y", to).unwrap(), "/b?x=1#y");
        assert_eq!(read("https:///h.com//a?x", to).unwrap(), "https://h.com/a?x");
        assert_eq!(read("https://h.com", to).unwrap(), "https://h.com/");
        assert_eq!(read("//evil.com/x", to).unwrap(), "//evil.com/x");
        assert_eq!(
            read("https://h.com/a", from).unwrap_err(),
            "Only relative URLs are allowed. Skipping absolute URL https://h.com/a."
        );
        let headers = Allowed { no_port: true, ..Allowed::default() };
        assert_eq!(
            read("https://h.com:80/a", headers).unwrap_err(),
            "Specifying ports is not supported. Skipping absolute URL https://h.com:80/a."
        );
        assert!(read("http://h.com", to).unwrap_err().starts_with("URLs should either be relative"));
        assert!(read("ftp", to).is_err());
    }
}
