//! Which objects must stay as they are, and until when
//! (<https://developers.cloudflare.com/r2/buckets/bucket-locks/>). Pure.

use serde::{Deserialize, Serialize};

use crate::moment::Moment;
use crate::rules::{self, Unfit};

/// A rule that keeps objects from being overwritten and deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRule {
    /// Its name, unique in the bucket.
    pub id: String,
    /// Whether it is in effect.
    pub enabled: bool,
    /// Only for keys that start with this; none is for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// For how long.
    pub condition: LockCondition,
}

/// How long an object is locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum LockCondition {
    /// For so long after it was stored.
    Age {
        /// Seconds, 1 or more.
        #[serde(rename = "maxAgeSeconds")]
        max_age_seconds: u64,
    },
    /// Until a moment.
    Date {
        /// Which one.
        date: Moment,
    },
    /// As long as the rule is there.
    Indefinite,
}

impl LockRule {
    /// Whether it holds an object that was stored at `uploaded`; times in milliseconds since 1970.
    fn holds(&self, key: &str, uploaded: i64, now: i64) -> bool {
        let still = match &self.condition {
            LockCondition::Age { max_age_seconds } => now < rules::later(uploaded, *max_age_seconds),
            LockCondition::Date { date } => now < date.ms(),
            LockCondition::Indefinite => true,
        };
        self.enabled && still && key.starts_with(self.prefix.as_deref().unwrap_or_default())
    }
}

/// Whether any rule holds the object: the strictest one counts.
pub(crate) fn locked(rules: &[LockRule], key: &str, uploaded: i64, now: i64) -> bool {
    rules.iter().any(|rule| rule.holds(key, uploaded, now))
}

/// Whether a bucket can have these.
pub(crate) fn check(all: &[LockRule]) -> Result<(), Unfit> {
    rules::check_list(all.iter().map(|rule| (rule.id.as_str(), rule.prefix.as_deref())))?;
    match all.iter().find(|rule| rule.condition == LockCondition::Age { max_age_seconds: 0 }) {
        Some(rule) => Err(Unfit(format!("rule \"{}\": maxAgeSeconds must be 1 or more", rule.id))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn conditions() -> impl Strategy<Value = LockCondition> {
        prop_oneof![
            (1u64..5).prop_map(|max_age_seconds| LockCondition::Age { max_age_seconds }),
            (0u64..9).prop_map(|s| LockCondition::Date { date: Moment::at_ms(s * 1000) }),
            Just(LockCondition::Indefinite),
        ]
    }

    fn rules() -> impl Strategy<Value = Vec<LockRule>> {
        let rule = (any::<bool>(), proptest::option::of("[ab]{0,2}"), conditions());
        let rule = rule.prop_map(|(enabled, prefix, condition)| LockRule {
            id: "r".into(),
            enabled,
            prefix,
            condition,
        });
        proptest::collection::vec(rule, 0..4)
    }

    /// When the last lock ends, written independently of the code above.
    fn free_from(rules: &[LockRule], key: &str, uploaded: i64) -> Option<i64> {
        let mut free = Some(i64::MIN);
        for rule in rules.iter().filter(|rule| rule.enabled) {
            if !rule.prefix.iter().all(|prefix| key.find(prefix.as_str()) == Some(0)) {
                continue;
            }
            let end = match &rule.condition {
                LockCondition::Age { max_age_seconds } => Some(uploaded + *max_age_seconds as i64 * 1000),
                LockCondition::Date { date } => Some(date.ms()),
                LockCondition::Indefinite => None,
            };
            free = free.zip(end).map(|(free, end)| free.max(end));
        }
        free
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn the_longest_lock_counts(rules in rules(), key in "[abc]{0,3}", uploaded in 0i64..5000, now in 0i64..12_000) {
            let free = free_from(&rules, &key, uploaded).is_some_and(|free| now >= free);
            prop_assert_eq!(locked(&rules, &key, uploaded, now), !free);
        }

        #[test]
        fn a_rule_is_read_as_it_is_written(rules in rules()) {
            let text = serde_json::to_string(&rules).unwrap();
            prop_assert_eq!(serde_json::from_str::<Vec<LockRule>>(&text).unwrap(), rules);
        }
    }

    #[test]
    fn rules_are_in_cloudflares_form() {
        let all = serde_json::json!([
            { "id": "a", "enabled": true, "prefix": "logs/", "condition": { "type": "Age", "maxAgeSeconds": 604_800 } },
            { "id": "b", "enabled": false, "condition": { "type": "Date", "date": "2026-01-01T00:00:00.000Z" } },
            { "id": "c", "enabled": true, "condition": { "type": "Indefinite" } },
        ]);
        let read: Vec<LockRule> = serde_json::from_value(all.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), all);
        assert!(check(&read).is_ok());
        let twice = [read[0].clone(), read[0].clone()];
        assert!(check(&twice).unwrap_err().0.contains("\"a\""));
        let never = LockRule { condition: LockCondition::Age { max_age_seconds: 0 }, ..read[0].clone() };
        assert!(check(&[never]).is_err());
        assert!(check(&vec![read[0].clone(); 1001]).unwrap_err().0.contains("1000"));
        let unknown = serde_json::json!({ "id": "x", "enabled": true, "condition": { "type": "Date", "date": "soon" } });
        assert!(serde_json::from_value::<LockRule>(unknown).is_err());
    }
}
