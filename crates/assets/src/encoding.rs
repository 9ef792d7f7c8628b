//! Compression: which encoding the client prefers (RFC 9110 §12.5.3), and the encoders.

use std::io::{self, Write as _};

use http::{HeaderMap, HeaderValue, header};

/// How a body is encoded on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Brotli,
    Zstd,
    Gzip,
}

impl Encoding {
    /// The best first: of equally welcome ones it is taken.
    pub(crate) const COMPRESSED: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Which of a file's four bodies.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// The value of `Content-Encoding`.
    pub(crate) fn header(self) -> Option<HeaderValue> {
        match self {
            Self::Identity => None,
            Self::Brotli => Some(HeaderValue::from_static("br")),
            Self::Zstd => Some(HeaderValue::from_static("zstd")),
            Self::Gzip => Some(HeaderValue::from_static("gzip")),
        }
    }

    /// The ending of a file that holds another in this encoding.
    pub(crate) fn file_ending(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Brotli => Some(".br"),
            Self::Zstd => Some(".zst"),
            Self::Gzip => Some(".gz"),
        }
    }
}

/// The encoding that the client likes most, by its q-values.
pub(crate) fn preferred(headers: &HeaderMap) -> Encoding {
    // Thousandths; `None`: not named.
    let mut named = [None::<u16>; 4];
    let mut others = None;
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let (coding, parameters) = item.split_once(';').unwrap_or((item, ""));
            let quality = quality(parameters);
            let coding = coding.trim();
            let known = match coding {
                c if c.eq_ignore_ascii_case("br") => Encoding::Brotli,
                c if c.eq_ignore_ascii_case("zstd") => Encoding::Zstd,
                c if c.eq_ignore_ascii_case("gzip") || c.eq_ignore_ascii_case("x-gzip") => Encoding::Gzip,
                c if c.eq_ignore_ascii_case("identity") => Encoding::Identity,
                "*" => {
                    others = Some(quality);
                    continue;
                }
                _ => continue,
            };
            if let Some(slot) = named.get_mut(known.index()) {
                *slot = Some(quality);
            }
        }
    }
    let quality = |encoding: Encoding| named.get(encoding.index()).copied().flatten().or(others).unwrap_or(0);
    let mut best = (Encoding::Identity, named.first().copied().flatten().unwrap_or(0));
    for encoding in Encoding::COMPRESSED {
        let q = quality(encoding);
        if q > 0 && (q > best.1 || (q == best.1 && best.0 == Encoding::Identity)) {
            best = (encoding, q);
        }
    }
    best.0
}

/// `;q=0.5` → 500; what is not a number is as good as no q at all.
fn quality(parameters: &str) -> u16 {
    for parameter in parameters.split(';') {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        if !name.trim().eq_ignore_ascii_case("q") {
            continue;
        }
        return match value.trim().parse::<f32>() {
            // The product lies in 0..=1000.
            Ok(q) if q >= 0.0 => (q.min(1.0) * 1000.0) as u16,
            _ => 1000,
        };
    }
    1000
}

/// Encodes a body that is sent many times: more effort than for one response, less than offline.
pub(crate) fn compress(content: &[u8], encoding: Encoding) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(content.len() / 3);
    match encoding {
        Encoding::Identity => out.extend_from_slice(content),
        Encoding::Brotli => {
            let params = brotli::enc::BrotliEncoderParams {
                quality: 5,
                size_hint: content.len(),
                ..brotli::enc::BrotliEncoderParams::default()
            };
            brotli::BrotliCompress(&mut &*content, &mut out, &params)?;
        }
        Encoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(6));
            encoder.write_all(content)?;
            out = encoder.finish()?;
        }
        Encoding::Zstd => out = zstd::bulk::compress(content, 9)?,
    }
    Ok(out)
}

#[cfg(test)]
pub(crate) fn decompress(content: &[u8], encoding: Encoding) -> Vec<u8> {
    use std::io::Read as _;
    let mut out = Vec::new();
    match encoding {
        Encoding::Identity => out.extend_from_slice(content),
        Encoding::Brotli => {
            brotli::BrotliDecompress(&mut &*content, &mut out).unwrap();
        }
        Encoding::Gzip => {
            flate2::read::GzDecoder::new(content).read_to_end(&mut out).unwrap();
        }
        Encoding::Zstd => out = zstd::stream::decode_all(content).unwrap(),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn best(accept: &str) -> Encoding {
        let value = HeaderValue::from_str(accept).unwrap();
        preferred(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]))
    }

    #[test]
    fn the_clients_preference_decides() {
        for (accept, expected) in [
            ("gzip, deflate, br, zstd", Encoding::Brotli),
            ("gzip, zstd", Encoding::Zstd),
            ("GZIP", Encoding::Gzip),
            ("br;q=0.5, gzip;q=0.8", Encoding::Gzip),
            ("br;q=0, gzip", Encoding::Gzip),
            ("*", Encoding::Brotli),
            ("*;q=0, gzip;q=0.1", Encoding::Gzip),
            ("identity, br;q=0.5", Encoding::Identity),
            ("identity;q=0.5, br;q=0.5", Encoding::Brotli),
            ("deflate", Encoding::Identity),
            ("", Encoding::Identity),
        ] {
            assert_eq!(best(accept), expected, "{accept}");
        }
        assert_eq!(preferred(&HeaderMap::new()), Encoding::Identity);
    }

    proptest! {
        #[test]
        fn arbitrary_preferences_never_panic(accept in "[a-z*,;=q0-9. ]{0,60}") {
            let _ = best(&accept);
        }

        #[test]
        fn what_is_compressed_comes_back(content in prop::collection::vec(any::<u8>(), 0..2000)) {
            for encoding in Encoding::COMPRESSED {
                prop_assert_eq!(&decompress(&compress(&content, encoding).unwrap(), encoding), &content);
            }
        }
    }
}
