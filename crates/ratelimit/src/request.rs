//! What the shim sends: the options of a `limit()` call.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use crate::limits::Limits;

/// The options that there are.
const OPTIONS: [&str; 3] = ["key", "limit", "period"];
/// The periods that a call may ask for, in seconds; besides the binding's own.
const PERIODS: [f64; 2] = [10.0, 60.0];

/// A call that was understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call<'a> {
    pub key: Cow<'a, str>,
    pub limits: Limits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options<'a> {
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(default)]
    limit: Option<f64>,
    #[serde(default)]
    period: Option<f64>,
}

/// Reads the options of a call on a binding with `limits`; the error is what the application reads.
pub(crate) fn read<'a>(body: &'a [u8], limits: &Limits) -> Result<Call<'a>, String> {
    let options: Options<'a> = serde_json::from_slice(body).map_err(|_| explain(body))?;
    let period_ms = match options.period {
        None => None,
        Some(period) if PERIODS.contains(&period) || period * 1000.0 == limits.period_ms as f64 => {
            Some((period * 1000.0) as u64)
        }
        Some(period) => return Err(format!("unsupported period: {period}")),
    };
    // A fraction of a call is none; what is below zero, or no number, is zero.
    let limit = options.limit.map(|limit| limit.floor() as u64);
    Ok(Call { key: options.key.unwrap_or_default(), limits: limits.overridden(limit, period_ms) })
}

/// What is wrong with options that could not be read.
fn explain(body: &[u8]) -> String {
    let Ok(Value::Object(options)) = serde_json::from_slice(body) else {
        return "invalid rate limit options".to_owned();
    };
    let unknown: Vec<&str> = options.keys().map(String::as_str).filter(|k| !OPTIONS.contains(k)).collect();
    if !unknown.is_empty() {
        return format!("bad rate limit options: [{}]", unknown.join(","));
    }
    match (options.get("key"), options.get("limit"), options.get("period")) {
        (Some(key), _, _) if !key.is_string() && !key.is_null() => format!("invalid key: {key}"),
        (_, Some(limit), _) if !limit.is_number() && !limit.is_null() => {
            format!("limit must be a number: {limit}")
        }
        (_, _, Some(period)) => format!("period must be a number: {period}"),
        _ => "invalid rate limit options".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn minute() -> Limits {
        Limits::simple(5, 60.0).unwrap()
    }

    #[test]
    fn a_call_may_say_nothing_or_override_the_limits() {
        let bare = read(b"{}", &minute()).unwrap();
        assert_eq!((bare.key.as_ref(), bare.limits), ("", minute()));
        let full = read(br#"{"key":"a\u00e9","limit":2.9,"period":10}"#, &minute()).unwrap();
        assert_eq!((full.key.as_ref(), full.limits.limit, full.limits.period_ms), ("aé", 2, 10_000));
        assert_eq!(read(br#"{"limit":-1}"#, &minute()).unwrap().limits.limit, 0);
        let odd = Limits::simple(5, 30.0).unwrap();
        assert_eq!(read(br#"{"period":30}"#, &odd).unwrap().limits, odd);
    }

    #[test]
    fn what_is_wrong_is_said_in_cloudflares_words() {
        let said = |body: &str| read(body.as_bytes(), &minute()).unwrap_err();
        assert_eq!(said(r#"{"kee":1,"key":"a","x":2}"#), "bad rate limit options: [kee,x]");
        assert_eq!(said(r#"{"period":30}"#), "unsupported period: 30");
        assert_eq!(said(r#"{"period":"10"}"#), "period must be a number: \"10\"");
        assert_eq!(said(r#"{"limit":"1"}"#), "limit must be a number: \"1\"");
        assert_eq!(said(r#"{"key":7}"#), "invalid key: 7");
        assert_eq!(said("null"), "invalid rate limit options");
        assert_eq!(said("{"), "invalid rate limit options");
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&body, &minute());
        }

        #[test]
        fn arbitrary_options_never_panic(
            body in r#"\{("(key|limit|period|x)":(-?[0-9]{1,20}(\.[0-9]+)?(e[0-9]{1,3})?|"[a-z]{0,3}"|null|\[\]),?){0,3}\}"#,
        ) {
            let _ = read(body.as_bytes(), &minute());
        }
    }
}
