//! The signature of a request, computed anew: Signature Version 4.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>
//!
//! A path is signed as it stands in the request (that of other services than S3 is encoded once more).

use http::request::Parts;
use http::{HeaderMap, StatusCode};
use ring::hmac;
use sha2::{Digest, Sha256};

use crate::claim::Claim;
use crate::error::S3Error;
use crate::query::Query;

/// The key of a day that signs what comes after the head, too.
#[derive(Clone)]
pub(crate) struct SigningKey(hmac::Key);

impl SigningKey {
    /// From the secret of an access key.
    pub fn of(secret: &str, claim: &Claim) -> Self {
        let first = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
        let next = |key: hmac::Key, text: &str| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, text.as_bytes()).as_ref())
        };
        let texts = [&*claim.date, &*claim.region, "s3", "aws4_request"];
        Self(texts.into_iter().fold(first, next))
    }

    /// The signature of a text, in hexadecimal digits.
    #[cfg(test)]
    pub fn sign(&self, text: &str) -> String {
        hex::encode(hmac::sign(&self.0, text.as_bytes()))
    }

    /// Whether `signature`, in hexadecimal digits, is that of `text`. Takes as long for a wrong one.
    pub fn signed(&self, text: &str, signature: &str) -> bool {
        hex::decode(signature).is_ok_and(|bytes| hmac::verify(&self.0, text.as_bytes(), &bytes).is_ok())
    }
}

/// Checks a request's signature; returns the key that may sign its body.
pub(crate) fn check(
    claim: &Claim,
    secret: &str,
    head: &Parts,
    path: &str,
    query: &Query,
) -> Result<SigningKey, S3Error> {
    // Otherwise it would be good for any host.
    if !claim.headers.iter().any(|name| name == "host") {
        return Err(S3Error::unauthorized());
    }
    refuse_unsigned(claim, head)?;
    let key = SigningKey::of(secret, claim);
    let request = canonical(claim, head, path, query);
    let text = format!("AWS4-HMAC-SHA256\n{}\n{}\n{}", claim.at, claim.scope(), hash(request.as_bytes()));
    match key.signed(&text, &claim.signature) {
        true => Ok(key),
        false => Err(mismatch(claim, text, request)),
    }
}

/// What changes the meaning of a request has to be signed with it: who was given a URL to put an object by could copy another one there.
/// As in S3.
fn refuse_unsigned(claim: &Claim, head: &Parts) -> Result<(), S3Error> {
    let names = head.headers.keys().map(http::HeaderName::as_str);
    let meaning = |name: &&str| {
        name.starts_with("x-amz-") || name.starts_with("cf-copy-") || name.starts_with("cf-create-")
    };
    let unsigned: Vec<&str> =
        names.filter(meaning).filter(|name| !claim.headers.iter().any(|signed| signed == name)).collect();
    if unsigned.is_empty() {
        return Ok(());
    }
    let text = "There were headers present in the request which were not signed";
    let mut error = S3Error::new(StatusCode::FORBIDDEN, "AccessDenied", text);
    error.more = vec![("HeadersNotSigned", unsigned.join(", "))];
    Err(error)
}

/// The hexadecimal SHA-256.
pub(crate) fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub(crate) fn canonical(claim: &Claim, head: &Parts, path: &str, query: &Query) -> String {
    let mut headers = String::new();
    for name in &claim.headers {
        headers.push_str(name);
        headers.push(':');
        headers.push_str(&values(head, name));
        headers.push('\n');
    }
    let (signed, query) = (claim.headers.join(";"), query.canonical());
    format!("{}\n{path}\n{query}\n{headers}\n{signed}\n{}", head.method, claim.payload)
}

/// The values of a header, with the spaces in and around them made fewer.
fn values(head: &Parts, name: &str) -> String {
    let all = lines(&head.headers, name);
    match (all.is_empty(), name, head.uri.authority()) {
        // HTTP/2 has it elsewhere.
        (true, "host", Some(authority)) => authority.as_str().to_owned(),
        _ => all.join(","),
    }
}

fn lines(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values
        .map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            text.split([' ', '\t']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// As R2, and S3, say what was expected: what differs shows what is wrong with a client. Nothing of it is secret.
fn mismatch(claim: &Claim, text: String, request: String) -> S3Error {
    let bytes = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let mut error = S3Error::new(
        StatusCode::FORBIDDEN,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your secret access key and \
         signing method.",
    );
    error.more = vec![
        ("StringToSignBytes", bytes(&text)),
        ("StringToSign", text),
        ("CanonicalRequestBytes", bytes(&request)),
        ("CanonicalRequest", request),
        ("SignatureProvided", claim.signature.clone()),
    ];
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const NOW: i64 = 1_369_353_600_000;

    fn checked(request: http::Request<()>) -> Result<(), S3Error> {
        let head = request.into_parts().0;
        let query = Query::of(&head.uri);
        let claim = Claim::read(&head, &query, NOW)?;
        assert_eq!(claim.key, "AKIAIOSFODNN7EXAMPLE");
        check(&claim, SECRET, &head, head.uri.path(), &query).map(drop)
    }

    /// The examples of AWS: <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
    #[test]
    fn the_published_examples_are_right() {
        let get = |signature: &str| {
            http::Request::get("/test.txt")
                .header("host", "examplebucket.s3.amazonaws.com")
                .header("range", "bytes=0-9")
                .header(
                    "x-amz-content-sha256",
                    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                )
                .header("x-amz-date", "20130524T000000Z")
                .header(
                    "authorization",
                    format!(
                        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
                         SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature={signature}"
                    ),
                )
                .body(())
                .unwrap()
        };
        checked(get("f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")).unwrap();
        let wrong = checked(get("f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb42"));
        assert_eq!(wrong.unwrap_err().code, "SignatureDoesNotMatch");

        let list = http::Request::get("/?max-keys=2&prefix=J")
            .header("host", "examplebucket.s3.amazonaws.com")
            .header("x-amz-content-sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
            .header("x-amz-date", "20130524T000000Z")
            .header(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;\
                 x-amz-content-sha256;x-amz-date,Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            );
        checked(list.body(()).unwrap()).unwrap();
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
    #[test]
    fn the_published_presigned_url_is_right_for_its_host_and_time() {
        let get = |host: &str, expires: &str| {
            let uri = format!(
                "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2F\
                 aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host&X-Amz-Signature=\
                 aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
            );
            checked(http::Request::get(uri).header("host", host).body(()).unwrap())
                .map_err(|error| error.code)
        };
        let host = "examplebucket.s3.amazonaws.com";
        assert_eq!(get(host, "86400"), Ok(()));
        assert_eq!(get("other", "86400"), Err("SignatureDoesNotMatch"));
        assert_eq!(get(host, "86401"), Err("SignatureDoesNotMatch"));
        assert_eq!(get(host, "0"), Err("ExpiredRequest"));
        assert_eq!(get(host, "604801"), Err("InvalidArgument"));
        let more =
            http::Request::get("/").header("x-amz-copy-source", "/a/b").header("x-other", "a").body(());
        let head = more.unwrap().into_parts().0;
        let mut claim = Claim { headers: vec!["host".into()], ..Claim::for_test() };
        let refused = refuse_unsigned(&claim, &head).unwrap_err();
        assert_eq!(refused.more, [("HeadersNotSigned", "x-amz-copy-source".to_owned())]);
        claim.headers.push("x-amz-copy-source".into());
        assert_eq!(refuse_unsigned(&claim, &head), Ok(()));
    }
}
