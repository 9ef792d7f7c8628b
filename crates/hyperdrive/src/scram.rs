//! SCRAM-SHA-256 as a client, RFC 5802 and RFC 7677. Pure, but for the nonce that it is given.
//!
//! Channel binding is not used: `SCRAM-SHA-256-PLUS` proves to a server that nobody stands between, where certificates do
//! not; `sslmode` says what certificates do.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};

/// The rounds that a server may ask for. PostgreSQL's default is 4,096; a server that asks for more than this would hold
/// us up for seconds.
const MOST_ROUNDS: u32 = 100_000;

/// A login that is under way.
pub(crate) struct Scram {
    /// PostgreSQL takes the name from the start-up, and wants none here.
    name: &'static str,
    nonce: String,
    password: Vec<u8>,
}

/// What is sent second, and what the server has to say then.
pub(crate) struct Proof {
    /// `client-final-message`
    pub answer: String,
    server: hmac::Tag,
}

impl Scram {
    /// `nonce` is text that nobody can guess, without commas.
    pub fn new(password: &str, nonce: String) -> Self {
        // What cannot be prepared is used as it is, as PostgreSQL does.
        let prepared =
            stringprep::saslprep(password).map_or_else(|_| password.into(), |text| text.into_owned());
        Self { name: "", nonce, password: prepared.into_bytes() }
    }

    /// `client-first-message`. The user's name is the one of the start-up.
    pub fn first(&self) -> String {
        format!("n,,{}", self.bare())
    }

    fn bare(&self) -> String {
        format!("n={},r={}", self.name, self.nonce)
    }

    /// The answer to `server-first-message`. Takes a millisecond of CPU time, or what the server asks for.
    pub fn prove(&self, server_first: &str) -> Option<Proof> {
        let mut fields = server_first.split(',');
        let nonce = fields.next()?.strip_prefix("r=")?;
        let salt = STANDARD.decode(fields.next()?.strip_prefix("s=")?).ok()?;
        let rounds: std::num::NonZeroU32 = fields.next()?.strip_prefix("i=")?.parse().ok()?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() || rounds.get() > MOST_ROUNDS {
            return None;
        }
        let mut salted = [0; digest::SHA256_OUTPUT_LEN];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, &self.password, &mut salted);
        let keyed = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        let client_key = keyed(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        // `n,,` in base64.
        let without_proof = format!("c=biws,r={nonce}");
        let all = format!("{},{server_first},{without_proof}", self.bare());
        let signature = keyed(stored_key.as_ref(), all.as_bytes());
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
        let server_key = keyed(&salted, b"Server Key");
        Some(Proof {
            answer: format!("{without_proof},p={}", STANDARD.encode(proof)),
            server: keyed(server_key.as_ref(), all.as_bytes()),
        })
    }
}

impl Proof {
    /// Whether `server-final-message` shows that the server knows the password too.
    pub fn is_answered_by(&self, server_final: &str) -> bool {
        let said = server_final.split(',').next().and_then(|first| first.strip_prefix("v="));
        let said = said.and_then(|said| STANDARD.decode(said).ok());
        // It is no secret by now: to compare it takes as long as it takes.
        said.is_some_and(|said| said == self.server.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// <https://www.rfc-editor.org/rfc/rfc7677#section-3>
    #[test]
    fn the_example_of_the_rfc_comes_out() {
        let scram = Scram { name: "user", ..Scram::new("pencil", "rOprNGfwEbeRWgbNEkqO".into()) };
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let nonce = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let proof = scram.prove(&format!("{nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")).unwrap();
        let answer = format!("c=biws,{nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        assert_eq!(proof.answer, answer);
        assert!(proof.is_answered_by("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        assert!(!proof.is_answered_by("v=AAAA") && !proof.is_answered_by("e=other-error"));
    }

    #[test]
    fn a_server_that_makes_up_a_nonce_or_wants_too_much_is_refused() {
        let scram = Scram::new("p", "abc".into());
        for wrong in [
            "",
            "r=abc,s=AAAA,i=1",
            "r=xyz1,s=AAAA,i=1",
            "r=abc1,s=AAAA,i=0",
            "r=abc1,s=AAAA,i=2000000",
            "r=abc1,s=!,i=1",
        ] {
            assert!(scram.prove(wrong).is_none(), "{wrong}");
        }
        assert!(scram.prove("r=abc1,s=AAAA,i=1").is_some());
    }
}
