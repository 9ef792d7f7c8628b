//! Digests of a content that a client gives along, compared when all of it has come.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc::{CRC_32_ISCSI, CRC_32_ISO_HDLC, CRC_64_NVME, Crc, Table};
use http::{HeaderMap, HeaderName, HeaderValue};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::error::S3Error;

static CRC32: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISO_HDLC);
static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
static CRC64: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_NVME);

/// A digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
    Md5,
}

/// Those that a header, or a trailer, says.
const CHECKSUMS: [Kind; 5] = [Kind::Crc32, Kind::Crc32c, Kind::Crc64Nvme, Kind::Sha1, Kind::Sha256];

impl Kind {
    fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
            Self::Md5 => "content-md5",
        }
    }

    /// As an error says it.
    fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

enum Hasher {
    Crc32(crc::Digest<'static, u32, Table<16>>),
    Crc64(crc::Digest<'static, u64, Table<16>>),
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Hasher {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Crc32 => Self::Crc32(CRC32.digest()),
            Kind::Crc32c => Self::Crc32(CRC32C.digest()),
            Kind::Crc64Nvme => Self::Crc64(CRC64.digest()),
            Kind::Md5 => Self::Md5(Md5::new()),
            Kind::Sha1 => Self::Sha1(Sha1::new()),
            Kind::Sha256 => Self::Sha256(Sha256::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc32(digest) => digest.update(bytes),
            Self::Crc64(digest) => digest.update(bytes),
            Self::Md5(digest) => digest.update(bytes),
            Self::Sha1(digest) => digest.update(bytes),
            Self::Sha256(digest) => digest.update(bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc32(digest) => digest.finalize().to_be_bytes().to_vec(),
            Self::Crc64(digest) => digest.finalize().to_be_bytes().to_vec(),
            Self::Md5(digest) => digest.finalize().to_vec(),
            Self::Sha1(digest) => digest.finalize().to_vec(),
            Self::Sha256(digest) => digest.finalize().to_vec(),
        }
    }
}

struct Check {
    kind: Kind,
    hasher: Hasher,
    /// `None`: a trailer says it.
    expected: Option<Vec<u8>>,
}

/// All digests of a content.
pub(crate) struct Digests {
    checks: Vec<Check>,
    /// The signed hash, in hexadecimal digits.
    signed: Option<(String, Sha256)>,
}

impl Digests {
    /// What the head gives or announces; `signed` is the hash that the signature is about.
    pub fn of(headers: &HeaderMap, signed: Option<&str>) -> Result<Self, S3Error> {
        let mut checks = Vec::new();
        for kind in CHECKSUMS.into_iter().chain([Kind::Md5]) {
            let Some(value) = headers.get(kind.header()) else { continue };
            let expected = value.to_str().ok().and_then(|text| decoded(kind, text));
            let expected = Some(expected.ok_or_else(S3Error::invalid_digest)?);
            checks.push(Check { kind, hasher: Hasher::new(kind), expected });
        }
        let announced =
            headers.get("x-amz-trailer").and_then(|value| value.to_str().ok()).unwrap_or_default();
        for name in announced.split(',').map(str::trim) {
            let kind = CHECKSUMS.into_iter().find(|kind| name.eq_ignore_ascii_case(kind.header()));
            if let Some(kind) = kind
                && !checks.iter().any(|check| check.kind == kind)
            {
                checks.push(Check { kind, hasher: Hasher::new(kind), expected: None });
            }
        }
        Ok(Self { checks, signed: signed.map(|hash| (hash.to_ascii_lowercase(), Sha256::new())) })
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.checks.iter_mut().for_each(|check| check.hasher.update(bytes));
        if let Some((_, hasher)) = &mut self.signed {
            hasher.update(bytes);
        }
    }

    /// Compares all; returns what the answer repeats.
    pub fn finish(self, trailers: &[(String, String)]) -> Result<Vec<(HeaderName, HeaderValue)>, S3Error> {
        if let Some((expected, hasher)) = self.signed
            && hex::encode(hasher.finalize()) != expected
        {
            return Err(S3Error::new(
                http::StatusCode::BAD_REQUEST,
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            ));
        }
        let mut said = Vec::new();
        for Check { kind, hasher, expected } in self.checks {
            let given = expected.or_else(|| {
                let (_, text) = trailers.iter().find(|(name, _)| name == kind.header())?;
                decoded(kind, text)
            });
            let given = given.ok_or_else(S3Error::invalid_digest)?;
            let computed = hasher.finish();
            if given != computed {
                return Err(S3Error::bad_digest(kind.name(), &hex::encode(given), &hex::encode(computed)));
            }
            if kind != Kind::Md5
                && let Ok(value) = HeaderValue::try_from(STANDARD.encode(computed))
            {
                said.push((HeaderName::from_static(kind.header()), value));
            }
        }
        Ok(said)
    }
}

fn decoded(kind: Kind, text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.trim()).ok().filter(|bytes| bytes.len() == kind.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_other_programs() {
        // `123456789`: the check values of the catalogue of CRCs, and of `openssl dgst`.
        for (name, value) in [
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
            ("x-amz-checksum-crc32c", "4waSgw=="),
            ("x-amz-checksum-crc64nvme", "rosUhgp5mIg="),
            ("x-amz-checksum-sha1", "98O8HYCOBHMq32eZZczDTKeuNEE="),
            ("x-amz-checksum-sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
            ("content-md5", "JfnnlDI7RTiF9RgfG2JNCw=="),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            let mut digests = Digests::of(&headers, None).unwrap();
            digests.update(b"1234");
            digests.update(b"56789");
            let said = digests.finish(&[]).map_err(|error| error.message).unwrap();
            assert_eq!(said.len(), usize::from(name != "content-md5"), "{name}");
            let mut digests = Digests::of(&headers, None).unwrap();
            digests.update(b"123456780");
            assert_eq!(digests.finish(&[]).unwrap_err().code, "BadDigest", "{name}");
            headers.insert(name, "AAAA".parse().unwrap());
            assert_eq!(Digests::of(&headers, None).err().unwrap().code, "InvalidDigest");
        }
    }

    #[test]
    fn what_a_trailer_was_to_say_it_must_say() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-trailer", "x-amz-checksum-crc32".parse().unwrap());
        let finish = |trailers: &[(String, String)]| {
            let mut digests = Digests::of(&headers, None).unwrap();
            digests.update(b"123456789");
            digests.finish(trailers).map(|said| said.len()).map_err(|error| error.code)
        };
        let trailer = |value: &str| [("x-amz-checksum-crc32".to_owned(), value.to_owned())];
        assert_eq!(finish(&trailer("y/Q5Jg==")), Ok(1));
        assert_eq!(finish(&trailer("y/Q5Jw==")), Err("BadDigest"));
        assert_eq!(finish(&[]), Err("InvalidDigest"));
    }

    #[test]
    fn the_signed_hash_is_compared() {
        let hash = "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225";
        for (content, fits) in [(&b"123456789"[..], true), (b"12345678", false)] {
            let mut digests = Digests::of(&HeaderMap::new(), Some(hash)).unwrap();
            digests.update(content);
            assert_eq!(digests.finish(&[]).is_ok(), fits);
        }
    }
}
