//! Which pages of other origins may read a bucket's objects: the CORS protocol of the Fetch standard, by rules
//! (<https://developers.cloudflare.com/r2/buckets/cors/>). Pure.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::rules::Unfit;

/// Rules of a bucket, at most. Cloudflare says none; S3 has 100.
const MAX_CORS_RULES: usize = 100;
/// Longest time that a browser may keep the answer to a preflight, in seconds.
const MAX_AGE: u64 = 86_400;

/// What pages of some origins may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CorsRule {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Who may do what.
    pub allowed: Allowed,
    /// Headers of answers that pages may read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expose_headers: Option<Vec<String>>,
    /// How long a browser may keep the answer to a preflight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u64>,
}

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// Methods.
    pub methods: Vec<String>,
    /// Origins (`https://example.com`), `*` for any; one `*` may stand for a part.
    pub origins: Vec<String>,
    /// Headers of requests, `*` for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<String>>,
}

impl CorsRule {
    /// The value of `Access-Control-Allow-Origin`, if the rule is about this origin and method.
    fn grants<'a>(&self, origin: &'a str, method: &str) -> Option<&'a str> {
        let any = self.allowed.origins.iter().any(|allowed| allowed == "*");
        let named = || self.allowed.origins.iter().any(|allowed| fits(allowed, origin));
        (self.allowed.methods.iter().any(|allowed| allowed == method) && (any || named())).then_some(if any {
            "*"
        } else {
            origin
        })
    }

    /// Whether requests may have these headers.
    fn takes(&self, asked: &[&str]) -> bool {
        let allowed = || self.allowed.headers.iter().flatten();
        asked.iter().all(|name| allowed().any(|one| one == "*" || one.eq_ignore_ascii_case(name)))
    }
}

/// Whether an origin is the allowed one, or is like it where that has a `*`.
fn fits(allowed: &str, origin: &str) -> bool {
    match allowed.split_once('*') {
        None => allowed == origin,
        Some((start, end)) => {
            origin.strip_prefix(start).is_some_and(|rest| rest.len() >= end.len() && rest.ends_with(end))
        }
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// What an answer says to the page that asked, and to caches.
pub(crate) fn granted(rules: &[CorsRule], origin: Option<&str>, method: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if rules.is_empty() {
        return headers;
    }
    // The answer is another for other origins, also where there is none.
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    let found =
        origin.and_then(|origin| rules.iter().find_map(|rule| Some((rule, rule.grants(origin, method)?))));
    if let Some((rule, origin)) = found {
        insert(&mut headers, header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = rule.expose_headers.iter().flatten().map(String::as_str).collect::<Vec<_>>();
        if !exposed.is_empty() {
            insert(&mut headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, &exposed.join(", "));
        }
    }
    headers
}

/// What a preflight is answered; `None` if the request that it is about is not allowed.
pub(crate) fn preflight(rules: &[CorsRule], origin: &str, method: &str, asked: &str) -> Option<HeaderMap> {
    let asked: Vec<&str> = asked.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let fitting = |rule: &CorsRule| rule.takes(&asked);
    let (rule, allowed) = rules
        .iter()
        .filter(|rule| fitting(rule))
        .find_map(|rule| Some((rule, rule.grants(origin, method)?)))?;
    let mut headers = HeaderMap::new();
    insert(&mut headers, header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    insert(&mut headers, header::ACCESS_CONTROL_ALLOW_METHODS, &rule.allowed.methods.join(", "));
    if !asked.is_empty() {
        insert(&mut headers, header::ACCESS_CONTROL_ALLOW_HEADERS, &asked.join(", "));
    }
    if let Some(seconds) = rule.max_age_seconds {
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, seconds.into());
    }
    insert(
        &mut headers,
        header::VARY,
        "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
    );
    Some(headers)
}

/// Whether a bucket can have these.
pub(crate) fn check(rules: &[CorsRule]) -> Result<(), Unfit> {
    if rules.len() > MAX_CORS_RULES {
        return Err(Unfit(format!("a bucket has at most {MAX_CORS_RULES} CORS rules")));
    }
    for rule in rules {
        if let Some(other) = rule
            .allowed
            .methods
            .iter()
            .find(|m| !["GET", "PUT", "POST", "DELETE", "HEAD"].contains(&m.as_str()))
        {
            return Err(Unfit(format!("\"{other}\" is not a method of CORS rules")));
        }
        if let Some(other) = rule.allowed.origins.iter().find(|origin| !is_origin(origin)) {
            return Err(Unfit(format!("\"{other}\" is not an origin: scheme://host[:port], without a path")));
        }
        let names = rule.allowed.headers.iter().chain(&rule.expose_headers).flatten();
        let is_name = |name: &&String| *name != "*" && HeaderName::try_from(name.as_str()).is_err();
        if let Some(other) = names.into_iter().find(is_name) {
            return Err(Unfit(format!("\"{other}\" is not the name of a header")));
        }
        if rule.max_age_seconds.is_some_and(|seconds| seconds > MAX_AGE) {
            return Err(Unfit(format!("maxAgeSeconds is at most {MAX_AGE}")));
        }
        if rule.allowed.methods.is_empty() || rule.allowed.origins.is_empty() {
            return Err(Unfit("a CORS rule allows methods and origins".into()));
        }
    }
    Ok(())
}

fn is_origin(origin: &str) -> bool {
    let Some((scheme, host)) = origin.split_once("://") else { return origin == "*" };
    let printable = origin.bytes().all(|b| b.is_ascii_graphic());
    let plain = !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '?', '#', '@']);
    printable && plain && origin.matches('*').count() <= 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(value: serde_json::Value) -> CorsRule {
        serde_json::from_value(value).unwrap()
    }

    fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
        headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn an_origin_gets_what_the_first_rule_that_fits_says() {
        let rules = [
            rule(serde_json::json!({
                "id": "own", "allowed": { "methods": ["GET"], "origins": ["https://a.test"], "headers": ["Range"] },
                "exposeHeaders": ["ETag", "Content-Length"], "maxAgeSeconds": 60,
            })),
            rule(
                serde_json::json!({ "allowed": { "methods": ["GET", "HEAD"], "origins": ["https://*.b.test"] } }),
            ),
            rule(
                serde_json::json!({ "allowed": { "methods": ["PUT"], "origins": ["*"], "headers": ["*"] } }),
            ),
        ];
        assert!(check(&rules).is_ok());
        let own = granted(&rules, Some("https://a.test"), "GET");
        assert_eq!(text(&own, "access-control-allow-origin"), "https://a.test");
        assert_eq!(text(&own, "access-control-expose-headers"), "ETag, Content-Length");
        assert_eq!(
            text(&granted(&rules, Some("https://x.b.test"), "HEAD"), "access-control-allow-origin"),
            "https://x.b.test"
        );
        for (origin, method) in [
            (None, "GET"),
            (Some("https://a.test"), "HEAD"),
            (Some("https://a.test:8443"), "GET"),
            (Some("https://b.test"), "GET"),
        ] {
            let headers = granted(&rules, origin, method);
            assert!(headers.get("access-control-allow-origin").is_none(), "{origin:?} {method}");
            assert_eq!(text(&headers, "vary"), "Origin");
        }
        assert!(granted(&[], Some("https://a.test"), "GET").is_empty());

        let asked = preflight(&rules, "https://a.test", "GET", "range").unwrap();
        assert_eq!(text(&asked, "access-control-allow-methods"), "GET");
        assert_eq!(text(&asked, "access-control-allow-headers"), "range");
        assert_eq!(text(&asked, "access-control-max-age"), "60");
        assert!(preflight(&rules, "https://a.test", "GET", "range, x-other").is_none());
        assert!(preflight(&rules, "https://c.test", "GET", "").is_none());
        let any = preflight(&rules, "https://c.test", "PUT", "x-any").unwrap();
        assert_eq!(text(&any, "access-control-allow-origin"), "*");
    }

    #[test]
    fn rules_that_mean_nothing_are_refused() {
        let allowed = |methods: &str, origins: &str, headers: &str| {
            rule(
                serde_json::json!({ "allowed": { "methods": [methods], "origins": [origins], "headers": [headers] } }),
            )
        };
        assert!(check(&[allowed("GET", "http://localhost:3000", "x-own")]).is_ok());
        for wrong in [
            allowed("PATCH", "*", "*"),
            allowed("GET", "https://a.test/", "*"),
            allowed("GET", "a.test", "*"),
            allowed("GET", "https://*.*.test", "*"),
            allowed("GET", "*", "no name"),
            CorsRule { max_age_seconds: Some(86_401), ..allowed("GET", "*", "*") },
            rule(serde_json::json!({ "allowed": { "methods": [], "origins": ["*"] } })),
        ] {
            assert!(check(std::slice::from_ref(&wrong)).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_star_stands_for_any_part(start in "[a*]{0,3}", end in "[ab]{0,3}", origin in "[ab]{0,6}") {
            let allowed = format!("{}*{end}", start.replace('*', ""));
            let expected = (0..=origin.len()).any(|at| (at..=origin.len()).any(|to| {
                allowed.replace('*', &origin[at..to]) == origin
            }));
            prop_assert_eq!(fits(&allowed, &origin), expected);
        }

        #[test]
        fn any_request_is_answered(origin in ".{0,30}", method in ".{0,6}", asked in ".{0,30}") {
            let rules = [rule(serde_json::json!({ "allowed": { "methods": ["GET"], "origins": ["*"], "headers": ["*"] } }))];
            let _ = granted(&rules, Some(&origin), &method);
            prop_assert_eq!(preflight(&rules, &origin, &method, &asked).is_some(), method == "GET");
        }
    }
}
