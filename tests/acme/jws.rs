//! Signed requests (RFC 8555 §6.2), checked.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A request before its signature is believed.
pub struct Jws {
    pub head: Value,
    /// Empty for POST-as-GET.
    pub payload: Vec<u8>,
    signed: String,
    signature: Vec<u8>,
}

pub fn decode(text: &Value) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.as_str()?).ok()
}

impl Jws {
    pub fn parse(body: &Value) -> Option<Self> {
        let head = serde_json::from_slice(&decode(&body["protected"])?).ok()?;
        let signed = format!("{}.{}", body["protected"].as_str()?, body["payload"].as_str()?);
        Some(Self {
            head,
            payload: decode(&body["payload"])?,
            signed,
            signature: decode(&body["signature"])?,
        })
    }

    /// Whether the owner of `key` has signed it.
    pub fn is_signed_by(&self, key: &Key) -> bool {
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.point);
        self.head["alg"] == "ES256" && public.verify(self.signed.as_bytes(), &self.signature).is_ok()
    }

    /// Whether it is the external account binding of `key` by who has `secret`.
    pub fn binds(&self, key: &Key, secret: &[u8]) -> bool {
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        let verified = ring::hmac::verify(&secret, self.signed.as_bytes(), &self.signature).is_ok();
        let named = serde_json::from_slice(&self.payload).ok().and_then(|jwk| Key::parse(&jwk));
        self.head["alg"] == "HS256" && verified && named.is_some_and(|named| named.point == key.point)
    }
}

/// An account's public key.
#[derive(Clone)]
pub struct Key {
    point: Vec<u8>,
    /// RFC 7638
    pub thumbprint: String,
}

impl Key {
    pub fn parse(jwk: &Value) -> Option<Self> {
        let (x, y) = (decode(&jwk["x"])?, decode(&jwk["y"])?);
        let fits = jwk["kty"] == "EC" && jwk["crv"] == "P-256" && x.len() == 32 && y.len() == 32;
        let canonical = json!({ "crv": "P-256", "kty": "EC", "x": jwk["x"], "y": jwk["y"] });
        let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical.to_string()));
        fits.then(|| Self { point: [&[4], x.as_slice(), &y].concat(), thumbprint })
    }
}
