//! As much of DER as certificates and their requests take.

/// One element.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    /// With its tag and its length.
    pub whole: &'a [u8],
}

pub const SEQUENCE: u8 = 0x30;

/// The elements, one after the other.
pub fn elements(mut der: &[u8]) -> Vec<Element<'_>> {
    let mut all = Vec::new();
    while der.len() >= 2 {
        let (length, head) = match der[1] {
            short @ 0..=0x7f => (usize::from(short), 2),
            long => {
                let digits = usize::from(long & 0x7f);
                (der[2..2 + digits].iter().fold(0, |n, digit| n << 8 | usize::from(*digit)), 2 + digits)
            }
        };
        let (whole, rest) = der.split_at(head + length);
        all.push(Element { tag: whole[0], content: &whole[head..], whole });
        der = rest;
    }
    all
}

/// What is in an element.
pub fn inside<'a>(element: &Element<'a>) -> Vec<Element<'a>> {
    elements(element.content)
}

/// An extension: whether it is critical, and its value.
pub fn extension<'a>(extensions: &Element<'a>, id: &[u8]) -> Option<(bool, &'a [u8])> {
    inside(extensions).iter().map(inside).find(|parts| parts[0].content == id).map(|parts| {
        let critical = parts.len() == 3 && parts[1].content == [0xff];
        (critical, parts.last().unwrap().content)
    })
}

/// subjectAltName, 2.5.29.17
pub const ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// id-pe-acmeIdentifier, 1.3.6.1.5.5.7.1.31
pub const ACME_IDENTIFIER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 31];
/// extensionRequest, 1.2.840.113549.1.9.14
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];

/// The names in a subjectAltName.
pub fn names(value: &[u8]) -> Vec<String> {
    let names = elements(value);
    inside(&names[0])
        .iter()
        .map(|name| {
            assert_eq!(name.tag, 0x82, "only dNSName");
            String::from_utf8(name.content.to_vec()).unwrap()
        })
        .collect()
}

/// The fields of a certificate that are signed, from its version on.
fn signed_fields(certificate: &[u8]) -> Vec<Element<'_>> {
    inside(&inside(&elements(certificate)[0])[0])
}

/// The point that is a certificate's public key.
pub fn public_key(certificate: &[u8]) -> &[u8] {
    &inside(&signed_fields(certificate)[6])[1].content[1..]
}

/// The extensions of a certificate.
pub fn extensions(certificate: &[u8]) -> Element<'_> {
    let tbs = signed_fields(certificate);
    let tagged = tbs.iter().find(|field| field.tag == 0xa3).unwrap();
    inside(tagged)[0]
}

/// A certificate signing request (RFC 2986), its signature checked.
pub struct SigningRequest {
    /// The public key's point.
    pub key: Vec<u8>,
    pub names: Vec<String>,
}

impl SigningRequest {
    pub fn read(der: &[u8]) -> Option<Self> {
        let request = inside(elements(der).first()?);
        let info = inside(&request[0]);
        let bits = |element: &Element<'_>| element.content[1..].to_vec();
        let key = bits(&inside(&info[2])[1]);
        let signature = bits(&request[2]);
        let public = ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_ASN1, &key);
        public.verify(request[0].whole, &signature).ok()?;
        let attributes = inside(&info[3]);
        let wanted =
            attributes.iter().map(inside).find(|attribute| attribute[0].content == EXTENSION_REQUEST)?;
        let extensions = inside(&wanted[1])[0];
        assert_eq!(extensions.tag, SEQUENCE);
        Some(Self { key, names: names(extension(&extensions, ALT_NAME)?.1) })
    }
}

impl rcgen::PublicKeyData for SigningRequest {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}
