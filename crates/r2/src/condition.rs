//! Conditions on reads and writes: RFC 9110 §13 with R2's specifics
//! (<https://developers.cloudflare.com/r2/api/workers/workers-api-reference/#conditional-operations>). Pure.

use serde::Deserialize;

/// An etag in a condition.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Etag {
    /// `"value"`.
    Strong {
        /// Without quotes.
        value: String,
    },
    /// `W/"value"`: equal only where a weak comparison will do.
    Weak {
        /// Without quotes.
        value: String,
    },
    /// `*`: any object.
    Wildcard,
}

/// What must hold for an operation to be done. The default always holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Conditional {
    /// `If-Match`: one of them is the object's etag.
    pub etag_matches: Option<Vec<Etag>>,
    /// `If-None-Match`: none of them is.
    pub etag_does_not_match: Option<Vec<Etag>>,
    /// `If-Unmodified-Since`, milliseconds since the Unix epoch.
    #[serde(deserialize_with = "crate::request::optional_i64")]
    pub uploaded_before: Option<i64>,
    /// `If-Modified-Since`, milliseconds since the Unix epoch.
    #[serde(deserialize_with = "crate::request::optional_i64")]
    pub uploaded_after: Option<i64>,
    /// Compare whole seconds, as HTTP dates do.
    pub seconds_granularity: bool,
}

impl Conditional {
    /// Whether it holds for the object with this etag and upload time, or for none.
    pub fn holds(&self, object: Option<(&str, i64)>) -> bool {
        let Some((etag, uploaded)) = object else {
            return self.etag_matches.is_none() && self.uploaded_after.is_none();
        };
        let matches = self.etag_matches.as_ref().map(|etags| contains(etags, etag, false));
        let differs = self.etag_does_not_match.as_ref().map(|etags| !contains(etags, etag, true));
        if matches == Some(false) || differs == Some(false) {
            return false;
        }
        let at = |ms: i64| if self.seconds_granularity { ms.div_euclid(1000) } else { ms };
        // RFC 9110 §13.2.2: an etag that was compared outranks the date of its kind.
        let before = matches.is_some() || self.uploaded_before.is_none_or(|t| at(uploaded) < at(t));
        let after = differs.is_some() || self.uploaded_after.is_none_or(|t| at(uploaded) > at(t));
        before && after
    }
}

fn contains(etags: &[Etag], etag: &str, weak_too: bool) -> bool {
    etags.iter().any(|one| match one {
        Etag::Wildcard => true,
        Etag::Strong { value } => value == etag,
        Etag::Weak { value } => weak_too && value == etag,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn etags() -> impl Strategy<Value = Option<Vec<Etag>>> {
        let value = prop_oneof![Just("a".to_owned()), Just("b".to_owned())];
        let one = prop_oneof![
            value.clone().prop_map(|value| Etag::Strong { value }),
            value.prop_map(|value| Etag::Weak { value }),
            Just(Etag::Wildcard),
        ];
        proptest::option::of(proptest::collection::vec(one, 1..3))
    }

    fn conditionals() -> impl Strategy<Value = Conditional> {
        let time = || proptest::option::of(-3000i64..6000);
        (etags(), etags(), time(), time(), any::<bool>()).prop_map(|(m, n, b, a, seconds)| Conditional {
            etag_matches: m,
            etag_does_not_match: n,
            uploaded_before: b,
            uploaded_after: a,
            seconds_granularity: seconds,
        })
    }

    /// The rules as a sentence each, written independently of the code above.
    fn by_the_book(c: &Conditional, etag: &str, uploaded: i64) -> bool {
        let round =
            |t: i64| if c.seconds_granularity { (t as f64 / 1000.0).floor() * 1000.0 } else { t as f64 };
        let strong = |e: &Etag| *e == Etag::Wildcard || *e == (Etag::Strong { value: etag.into() });
        let weak = |e: &Etag| strong(e) || *e == (Etag::Weak { value: etag.into() });
        let if_match = c.etag_matches.as_ref().is_none_or(|l| l.iter().any(strong));
        let if_none_match = !c.etag_does_not_match.as_ref().is_some_and(|l| l.iter().any(weak));
        let modified = c.uploaded_after.is_none_or(|t| round(t) < round(uploaded))
            || (c.etag_does_not_match.is_some() && if_none_match);
        let unmodified = c.uploaded_before.is_none_or(|t| round(uploaded) < round(t))
            || (c.etag_matches.is_some() && if_match);
        if_match && if_none_match && modified && unmodified
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn conditions_follow_the_rules(c in conditionals(), etag in "[abc]", uploaded in -3000i64..6000) {
            prop_assert_eq!(c.holds(Some((&etag, uploaded))), by_the_book(&c, &etag, uploaded));
        }

        #[test]
        fn a_missing_object_fails_only_what_needs_one(c in conditionals()) {
            prop_assert_eq!(c.holds(None), c.etag_matches.is_none() && c.uploaded_after.is_none());
        }
    }

    #[test]
    fn a_wildcard_that_must_not_match_means_create_only() {
        let create = Conditional { etag_does_not_match: Some(vec![Etag::Wildcard]), ..Default::default() };
        assert!(create.holds(None));
        assert!(!create.holds(Some(("a", 0))));
    }
}
