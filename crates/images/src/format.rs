//! Formats: which one some bytes are, by how they start, and which one is asked for.

use serde::{Deserialize, Serialize};

use crate::error::ImagesError;

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Png,
    Jpeg,
    Gif,
    WebP,
    /// Not changed, only told of.
    Svg,
}

impl Input {
    /// As HTTP calls it.
    pub fn mime(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Gif => "image/gif",
            Self::WebP => "image/webp",
            Self::Svg => "image/svg+xml",
        }
    }
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Output {
    Png,
    Jpeg,
    Gif,
    WebP,
    /// Bytes of pixels, row after row: red, green, blue.
    Rgb,
    /// The same with opacity.
    Rgba,
}

impl Output {
    /// As HTTP calls it.
    pub fn mime(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Gif => "image/gif",
            Self::WebP => "image/webp",
            Self::Rgb | Self::Rgba => "application/octet-stream",
        }
    }

    /// Reads the field `output_format`.
    pub fn parse(name: &str) -> Result<Self, ImagesError> {
        match name {
            "image/png" => Ok(Self::Png),
            "image/jpeg" => Ok(Self::Jpeg),
            "image/gif" => Ok(Self::Gif),
            "image/webp" => Ok(Self::WebP),
            "rgb" => Ok(Self::Rgb),
            "rgba" => Ok(Self::Rgba),
            "image/avif" => {
                Err(ImagesError::output_format("AVIF output is not supported by Skep; use image/webp"))
            }
            other => Err(ImagesError::option(format!("output.format {other:?}"))),
        }
    }

    /// Whether it can hold an animation.
    pub fn is_animated(self) -> bool {
        matches!(self, Self::Gif | Self::WebP)
    }

    /// Whether it can hold pixels that are not opaque.
    pub fn has_alpha(self) -> bool {
        !matches!(self, Self::Jpeg | Self::Rgb)
    }
}

/// How much of a text is looked through for `<svg`.
const SVG_HEAD: usize = 4096;

/// The format of `bytes`, or Cloudflare's words for those that are not read.
pub(crate) fn recognize(bytes: &[u8]) -> Result<Input, ImagesError> {
    let boxes = |brands: &[&[u8]]| {
        bytes.get(4..8) == Some(b"ftyp".as_slice())
            && bytes.get(8..12).is_some_and(|brand| brands.contains(&brand))
    };
    let supported = "You must convert";
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Ok(Input::Png)
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        Ok(Input::Jpeg)
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        Ok(Input::Gif)
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP".as_slice()) {
        Ok(Input::WebP)
    } else if boxes(&[b"avif", b"avis"]) {
        Err(ImagesError::not_an_image("AVIF input is not enabled for this account."))
    } else if boxes(&[b"heic", b"heix", b"mif1", b"msf1", b"hevc", b"heim", b"heis"]) {
        Err(ImagesError::not_an_image(&format!(
            "The HEIC format is not supported, and there are no plans to support it. {supported} HEIC files to one of the \
             supported formats (e.g. JPEG or PNG) before uploading them."
        )))
    } else if bytes.starts_with(b"II*\0") || bytes.starts_with(b"MM\0*") {
        Err(ImagesError::not_an_image(&format!(
            "The TIFF format is not supported. {supported} TIFF files to one of the supported formats (e.g. JPEG or PNG) \
             before uploading them."
        )))
    } else if is_svg(bytes) {
        Ok(Input::Svg)
    } else {
        Err(ImagesError::not_an_image(
            "The requested file is not an image. Please make sure the server always serves an image (e.g. not an error page, \
             or a login page)",
        ))
    }
}

/// Whether the first element of a text is `svg`.
fn is_svg(bytes: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(SVG_HEAD)]);
    let mut rest = head.trim_start_matches('\u{feff}').trim_start();
    loop {
        let end = match rest {
            _ if rest.starts_with("<?") => "?>",
            _ if rest.starts_with("<!--") => "-->",
            _ if rest.starts_with("<!") => ">",
            _ => {
                let name = rest.strip_prefix("<svg").map(|rest| rest.chars().next());
                return matches!(name, Some(Some(c)) if c.is_whitespace() || c == '>' || c == '/');
            }
        };
        match rest.split_once(end) {
            Some((_, after)) => rest = after.trim_start(),
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formats_are_known_by_their_start() {
        for (bytes, format) in [
            (&b"\x89PNG\r\n\x1a\nrest"[..], Input::Png),
            (b"\xff\xd8\xff\xe0", Input::Jpeg),
            (b"GIF89a", Input::Gif),
            (b"RIFF\0\0\0\0WEBPVP8 ", Input::WebP),
            (b"<svg/>", Input::Svg),
            (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a --><!DOCTYPE svg>\n<svg width='1'>", Input::Svg),
        ] {
            assert_eq!(recognize(bytes), Ok(format), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn other_things_are_no_images() {
        for (bytes, why) in [
            (&b"<!DOCTYPE html><html><svg></html>"[..], "not an image"),
            (b"", "not an image"),
            (b"<svgx>", "not an image"),
            (b"<!--", "not an image"),
            (b"\0\0\0\x20ftypavif", "AVIF input"),
            (b"\0\0\0\x20ftypheic", "HEIC"),
            (b"II*\0", "TIFF"),
        ] {
            let error = recognize(bytes).unwrap_err();
            assert!(error.code == 9412 && error.text.contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_format_or_none(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "[<!?>svg \\-]{0,40}") {
            let _ = recognize(&bytes);
            let _ = recognize(text.as_bytes());
        }
    }
}
