//! What a request says of who sends it: AWS Signature Version 4, in a header or in the query. Pure. The order in which things are
//! looked at, and the texts, are R2's.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-authentication-methods.html>

use http::HeaderMap;
use http::request::Parts;

use crate::error::S3Error;
use crate::query::Query;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The longest time that a presigned URL is good for, in seconds.
const LONGEST: f64 = 604_800.0;
/// What the clocks of both sides may differ, in milliseconds.
const SKEW_MS: i64 = 15 * 60 * 1000;
/// What the payload's hash is where it is not signed.
pub(crate) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
pub(crate) const CONTENT_HASH: &str = "x-amz-content-sha256";

/// What is to be proved by the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The id of the key that it was signed with.
    pub key: String,
    /// `yyyymmdd`, of the key that is made of the secret.
    pub date: String,
    pub region: String,
    /// `yyyymmddThhmmssZ`
    pub at: String,
    /// The names of the headers that were signed, as they were given.
    pub headers: Vec<String>,
    /// In hexadecimal digits.
    pub signature: String,
    /// What the payload's hash was said to be.
    pub payload: String,
    /// Whether it is in the query.
    pub presigned: bool,
}

/// Whether a request says anything of who sends it.
pub(crate) fn is_there(head: &Parts, query: &Query) -> bool {
    head.headers.contains_key(http::header::AUTHORIZATION) || query.has("X-Amz-Credential")
}

impl Claim {
    /// Reads it, at a time in milliseconds since 1970.
    pub fn read(head: &Parts, query: &Query, now_ms: i64) -> Result<Self, S3Error> {
        // What says two things of who sends it, says it by its header.
        if let Some(text) = text(&head.headers, "authorization") {
            return Self::in_header(&head.headers, text, now_ms);
        }
        match query.has("X-Amz-Credential") {
            true => Self::in_query(query, now_ms),
            false => Err(S3Error::invalid_argument("Authorization")),
        }
    }

    fn in_header(headers: &HeaderMap, authorization: &str, now_ms: i64) -> Result<Self, S3Error> {
        let payload = text(headers, CONTENT_HASH)
            .ok_or_else(|| S3Error::invalid_request(format!("Missing {CONTENT_HASH}")))?;
        let (name, at) = ["x-amz-date", "date"]
            .into_iter()
            .find_map(|name| Some((name, text(headers, name)?)))
            .ok_or_else(|| S3Error::invalid_argument("No date provided in x-amz-date nor date header"))?;
        let time = moment(at).ok_or_else(|| {
            S3Error::invalid_argument(format!(
                "Date provided in '{name}' header ({at}) didn't parse successfully"
            ))
        })?;
        if (now_ms - time).abs() > SKEW_MS {
            return Err(S3Error::new(
                http::StatusCode::FORBIDDEN,
                "RequestTimeTooSkewed",
                "The difference between the request time and the server's time is too large.",
            ));
        }
        let fields =
            authorization.strip_prefix(ALGORITHM).filter(|rest| rest.starts_with(' ')).unwrap_or_default();
        let field = |wanted: &str| {
            let mut fields = fields.split(',').filter_map(|field| field.split_once('='));
            let found = fields.find(|(name, _)| name.trim() == wanted).map(|(_, value)| value.trim());
            found.ok_or_else(unsupported)
        };
        let (credential, signed, signature) =
            (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
        Self::made(credential, at, signed, signature, payload, false)
    }

    fn in_query(query: &Query, now_ms: i64) -> Result<Self, S3Error> {
        let names =
            ["X-Amz-Algorithm", "X-Amz-Signature", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Expires"];
        let missing: Vec<&str> = names.into_iter().filter(|name| !query.has(name)).collect();
        match missing.as_slice() {
            [] => {}
            [one] => {
                return Err(S3Error::invalid_argument(format!("Required search parameter {one} missing")));
            }
            several => {
                let several = several.join(",  ");
                return Err(S3Error::invalid_argument(format!(
                    "Required search parameters {several} missing"
                )));
            }
        }
        let given = |name: &str| query.get(name).unwrap_or_default();
        if given("X-Amz-Algorithm") != ALGORITHM {
            return Err(unsupported());
        }
        let at = given("X-Amz-Date");
        let time = moment(at).ok_or_else(|| {
            S3Error::invalid_argument(format!("Date provided in X-Amz-Date ({at}) didn't parse successfully"))
        })?;
        let claim = Self::made(
            given("X-Amz-Credential"),
            at,
            given("X-Amz-SignedHeaders"),
            given("X-Amz-Signature"),
            // What comes is not known when a URL is signed; some do say its hash then.
            query.get("X-Amz-Content-Sha256").unwrap_or(UNSIGNED),
            true,
        )?;
        let expires: f64 = given("X-Amz-Expires")
            .trim()
            .parse()
            .ok()
            .filter(|expires: &f64| !expires.is_nan())
            .ok_or_else(|| S3Error::invalid_argument("X-Amz-Expires should be a number"))?;
        if expires > LONGEST {
            return Err(S3Error::invalid_argument(format!(
                "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than {LONGEST} seconds"
            )));
        }
        let over = expires < 1.0 || now_ms as f64 > time as f64 + expires * 1000.0;
        // What is signed for later would be good for longer than a week.
        if over || time - now_ms > SKEW_MS {
            return Err(S3Error::new(http::StatusCode::FORBIDDEN, "ExpiredRequest", "Request has expired"));
        }
        Ok(claim)
    }

    fn made(
        credential: &str,
        at: &str,
        signed: &str,
        signature: &str,
        payload: &str,
        presigned: bool,
    ) -> Result<Self, S3Error> {
        let parts: Vec<&str> = credential.rsplitn(5, '/').collect();
        let [terminator, service, region, date, key] = parts[..] else {
            return Err(S3Error::invalid_argument(format!(
                "Credential sigv4 header should have at least 5 slash-separated parts, not {}",
                parts.len()
            )));
        };
        if service != "s3" {
            let text = format!("Credential service should be s3, not {service}");
            return Err(S3Error::invalid_argument(text));
        }
        if terminator != "aws4_request" {
            let text = format!("Credential termination string should be aws4_request, not {terminator}");
            return Err(S3Error::invalid_argument(text));
        }
        if !at.starts_with(date) {
            let day = at.get(..8).unwrap_or(at);
            let text = format!("Credential signed date {date} does not match {day} from 'x-amz-date' header");
            return Err(S3Error::invalid_argument(text));
        }
        Ok(Self {
            key: key.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            at: at.to_owned(),
            headers: signed.split(';').map(str::to_ascii_lowercase).collect(),
            signature: signature.to_owned(),
            payload: payload.to_owned(),
            presigned,
        })
    }

    /// One for tests.
    #[cfg(test)]
    pub fn for_test() -> Self {
        Self {
            key: "key".into(),
            date: "20130524".into(),
            region: "auto".into(),
            at: "20130524T000000Z".into(),
            headers: Vec::new(),
            signature: String::new(),
            payload: String::new(),
            presigned: false,
        }
    }

    /// What the key that is made of the secret is good for.
    pub fn scope(&self) -> String {
        format!("{}/{}/s3/aws4_request", self.date, self.region)
    }
}

fn unsupported() -> S3Error {
    S3Error::invalid_request(format!("Please use {ALGORITHM}"))
}

/// A header that is there once, as a text.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `yyyymmddThhmmssZ` in milliseconds since 1970.
pub(crate) fn moment(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        let part = text.get(range)?;
        part.bytes().all(|b| b.is_ascii_digit()).then_some(part)
    };
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let [year, month, day] = [digits(0..4)?, digits(4..6)?, digits(6..8)?];
    let [hour, minute, second] = [digits(9..11)?, digits(11..13)?, digits(13..15)?];
    let number = |text: &str| text.parse::<i64>().ok();
    let (y, m, d) = (number(year)?, number(month)?, number(day)?);
    let (hour, minute, second) = (number(hour)?, number(minute)?, number(second)?);
    let length = match m {
        2 if y % 4 == 0 && (y % 100 != 0 || y % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&d) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days from a March on, so that a leap day is a year's last.
    let (y, m) = if m <= 2 { (y - 1, m + 9) } else { (y, m - 3) };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + d
        - 1
        - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_moment_is_read() {
        assert_eq!(moment("19700101T000000Z"), Some(0));
        assert_eq!(moment("20130524T000000Z"), Some(1_369_353_600_000));
        assert_eq!(moment("20240229T235959Z"), Some(1_709_251_199_000));
        for wrong in [
            "20230229T000000Z",
            "2013-05-24T00:00",
            "20130524T240000Z",
            "20131324T000000Z",
            "+0130524T000000Z",
            "",
        ] {
            assert_eq!(moment(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_moment_is_the_one_that_http_has(seconds in 0_u64..4_000_000_000) {
            let http = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
                .iter().position(|name| *name == &http[8..11]).unwrap() + 1;
            let (day, year, time) = (&http[5..7], &http[12..16], http[17..25].replace(':', ""));
            prop_assert_eq!(moment(&format!("{year}{month:02}{day}T{time}Z")), Some(seconds as i64 * 1000));
        }

        #[test]
        fn any_header_is_read_or_refused(text in "(AWS4-HMAC-SHA256 )?(Credential=|SignedHeaders=|Signature=|[a-z/,;=. ]){0,12}", at in "[0-9TZ]{14,17}|20130524T000000Z") {
            let mut request = http::Request::get("/b/k").header("authorization", text).header("x-amz-date", at);
            request = request.header(CONTENT_HASH, UNSIGNED);
            if let Ok(request) = request.body(()) {
                let head = request.into_parts().0;
                let _ = Claim::read(&head, &Query::of(&head.uri), 1_369_353_600_000);
            }
        }
    }
}
