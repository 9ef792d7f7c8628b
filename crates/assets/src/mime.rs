//! The content type of a file by its extension.

use std::collections::HashMap;
use std::sync::LazyLock;

/// One type a line, with its extensions; made from the answers of the npm package `mime` 4.0 (MIT), which
/// wrangler asks.
static TYPES: &str = include_str!("mime.types");

static BY_EXTENSION: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    TYPES
        .lines()
        .flat_map(|line| {
            let mut words = line.split(' ');
            let kind = words.next().unwrap_or_default();
            words.map(move |extension| (extension, kind))
        })
        .collect()
});

/// The `Content-Type` of the file at `path` (slashes, case ignored), as wrangler uploads it: text types carry
/// their charset; `None` when the extension is unknown.
pub fn content_type(path: &str) -> Option<String> {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let (stem, extension) = name.rsplit_once('.')?;
    if stem.is_empty() {
        // `.html` is a name, not an extension.
        return None;
    }
    let kind = BY_EXTENSION.get(extension.to_lowercase().as_str())?;
    let charset = if kind.starts_with("text/") && !kind.contains("charset") { "; charset=utf-8" } else { "" };
    Some(format!("{kind}{charset}"))
}

/// Whether a body of this type gets smaller by compression; close to the list of
/// <https://developers.cloudflare.com/speed/optimization/content/compression/>.
pub(crate) fn is_compressible(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or(content_type).trim();
    let Some((group, name)) = kind.split_once('/') else { return false };
    match group {
        "text" => true,
        "font" => matches!(name, "ttf" | "otf" | "collection" | "x-woff"),
        "image" => matches!(name, "svg+xml" | "bmp" | "x-icon" | "vnd.microsoft.icon"),
        "model" => name.ends_with("+json") || name.ends_with("+xml"),
        "application" => {
            name.ends_with("json")
                || name.ends_with("xml")
                || matches!(
                    name,
                    "javascript"
                        | "x-javascript"
                        | "wasm"
                        | "vnd.ms-fontobject"
                        | "x-font-ttf"
                        | "x-sh"
                        | "sql"
                        | "rtf"
                        | "postscript"
                        | "toml"
                        | "yaml"
                )
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_those_that_wrangler_uploads() {
        for (path, expected) in [
            ("/a.html", Some("text/html; charset=utf-8")),
            ("/a.JS", Some("text/javascript; charset=utf-8")),
            ("/dir.x/a.mjs", Some("text/javascript; charset=utf-8")),
            ("/a.svg", Some("image/svg+xml")),
            ("/a.json", Some("application/json")),
            ("/a.map", Some("application/json")),
            ("/a.wasm", Some("application/wasm")),
            ("/a.webmanifest", Some("application/manifest+json")),
            ("/favicon.ico", Some("image/vnd.microsoft.icon")),
            ("/a.xml", Some("application/xml")),
            ("/a.bin", Some("application/octet-stream")),
            ("/a.b.css", Some("text/css; charset=utf-8")),
            ("/noext", None),
            ("/dir.html/noext", None),
            ("/.html", None),
            ("/a.unknownext", None),
        ] {
            assert_eq!(content_type(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn text_is_compressible_and_pictures_are_not() {
        for yes in ["text/html; charset=utf-8", "application/json", "image/svg+xml", "application/wasm"] {
            assert!(is_compressible(yes), "{yes}");
        }
        for no in ["image/png", "video/mp4", "font/woff2", "application/zip", "application/octet-stream"] {
            assert!(!is_compressible(no), "{no}");
        }
    }
}
