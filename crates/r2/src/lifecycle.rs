//! What becomes of objects and uploads as they grow old
//! (<https://developers.cloudflare.com/r2/buckets/object-lifecycles/>). Pure.

use serde::{Deserialize, Serialize};

use crate::model::StorageClass;
use crate::moment::Moment;
use crate::rules::{self, Unfit};

/// A transition to another class is left out where an object goes this soon after it.
const CONFLICT_MS: i64 = 24 * 3600 * 1000;
/// The rule that each bucket has until others are set, as on Cloudflare.
const DEFAULT_ID: &str = "Default Multipart Abort Rule";
const DEFAULT_SECONDS: u64 = 7 * 24 * 3600;

/// What is done, and when, to objects and uploads whose keys start alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleRule {
    /// Its name, unique in the bucket.
    pub id: String,
    /// Whether it is in effect.
    pub enabled: bool,
    /// To what.
    #[serde(default)]
    pub conditions: Conditions,
    /// When uploads that were not completed end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort_multipart_uploads_transition: Option<Transition>,
    /// When objects are removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_objects_transition: Option<Transition>,
    /// When objects change their storage class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_transitions: Option<Vec<ClassTransition>>,
}

/// What a rule is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// Only keys that start with this; none is for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// When.
    pub condition: When,
}

/// A change of storage class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassTransition {
    /// When.
    pub condition: When,
    /// To which; only `InfrequentAccess` is one that objects change to.
    pub storage_class: StorageClass,
}

/// When something happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum When {
    /// So long after an object was stored, or an upload was started.
    Age {
        /// Seconds.
        #[serde(rename = "maxAge")]
        max_age: u64,
    },
    /// From a moment on.
    Date {
        /// Which one.
        date: Moment,
    },
}

impl When {
    /// When it happens to what began at `start`; milliseconds since 1970.
    fn due(&self, start: i64) -> i64 {
        match self {
            Self::Age { max_age } => rules::later(start, *max_age),
            Self::Date { date } => date.ms(),
        }
    }

    /// What began at this moment, or before, is what it happens to by `now`; `None` if that is nothing.
    fn cutoff(&self, now: i64) -> Option<i64> {
        match self {
            Self::Age { max_age } => {
                Some(now.saturating_sub(i64::try_from(*max_age).unwrap_or(i64::MAX).saturating_mul(1000)))
            }
            Self::Date { date } => (date.ms() <= now).then_some(now),
        }
    }
}

/// What becomes of an object now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Stays,
    Goes,
    Changes(StorageClass),
}

impl LifecycleRule {
    /// The rule of a bucket for which none was set.
    pub(crate) fn default_abort() -> Self {
        Self {
            id: DEFAULT_ID.into(),
            enabled: true,
            conditions: Conditions::default(),
            abort_multipart_uploads_transition: Some(Transition {
                condition: When::Age { max_age: DEFAULT_SECONDS },
            }),
            delete_objects_transition: None,
            storage_class_transitions: None,
        }
    }

    fn is_about(&self, key: &str) -> bool {
        self.enabled && key.starts_with(self.conditions.prefix.as_deref().unwrap_or_default())
    }

    fn removes(&self) -> Option<&When> {
        self.delete_objects_transition.as_ref().map(|transition| &transition.condition)
    }

    fn changes(&self) -> impl Iterator<Item = &When> {
        self.storage_class_transitions.iter().flatten().map(|transition| &transition.condition)
    }
}

/// What becomes of an object that was stored at `uploaded`, by the earliest of all times that rules have for it.
pub(crate) fn fate(rules: &[LifecycleRule], key: &str, uploaded: i64, class: StorageClass, now: i64) -> Fate {
    let about = || rules.iter().filter(|rule| rule.is_about(key));
    let goes = about().filter_map(LifecycleRule::removes).map(|when| when.due(uploaded)).min();
    if goes.is_some_and(|at| at <= now) {
        return Fate::Goes;
    }
    let changes = about().flat_map(LifecycleRule::changes).map(|when| when.due(uploaded)).min();
    let spared = |at: i64| goes.is_some_and(|goes| goes <= at.saturating_add(CONFLICT_MS));
    match changes {
        Some(at) if at <= now && class == StorageClass::Standard && !spared(at) => {
            Fate::Changes(StorageClass::InfrequentAccess)
        }
        _ => Fate::Stays,
    }
}

/// Whether an upload that was started at `started` ends now.
pub(crate) fn ends(rules: &[LifecycleRule], key: &str, started: i64, now: i64) -> bool {
    let about = rules.iter().filter(|rule| rule.is_about(key));
    about
        .filter_map(|rule| rule.abort_multipart_uploads_transition.as_ref())
        .any(|transition| transition.condition.due(started) <= now)
}

/// For each thing that a rule does to objects, the latest upload that is old enough for it.
pub(crate) fn cutoffs(rules: &[LifecycleRule], now: i64) -> Vec<Option<i64>> {
    let enabled = rules.iter().filter(|rule| rule.enabled);
    enabled
        .flat_map(|rule| rule.removes().into_iter().chain(rule.changes()))
        .map(|when| when.cutoff(now))
        .collect()
}

/// The latest start of an upload that is old enough for any rule.
pub(crate) fn upload_cutoff(rules: &[LifecycleRule], now: i64) -> Option<i64> {
    let enabled = rules.iter().filter(|rule| rule.enabled);
    enabled
        .filter_map(|rule| rule.abort_multipart_uploads_transition.as_ref())
        .filter_map(|transition| transition.condition.cutoff(now))
        .max()
}

/// Whether a bucket can have these.
pub(crate) fn check(all: &[LifecycleRule]) -> Result<(), Unfit> {
    rules::check_list(all.iter().map(|rule| (rule.id.as_str(), rule.conditions.prefix.as_deref())))?;
    let to_standard = |rule: &&LifecycleRule| {
        rule.storage_class_transitions.iter().flatten().any(|t| t.storage_class == StorageClass::Standard)
    };
    if let Some(rule) = all.iter().find(to_standard) {
        return Err(Unfit(format!("rule \"{}\": objects change to InfrequentAccess only", rule.id)));
    }
    let dated = |rule: &&LifecycleRule| {
        let abort = rule.abort_multipart_uploads_transition.as_ref();
        abort.is_some_and(|transition| matches!(transition.condition, When::Date { .. }))
    };
    match all.iter().find(dated) {
        Some(rule) => Err(Unfit(format!("rule \"{}\": uploads are aborted by age, not by date", rule.id))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 24 * 3600 * 1000;

    fn whens() -> impl Strategy<Value = When> {
        prop_oneof![
            (0u64..5).prop_map(|days| When::Age { max_age: days * 24 * 3600 }),
            (0u64..9).prop_map(|days| When::Date { date: Moment::at_ms(days * DAY as u64) }),
        ]
    }

    fn all_rules() -> impl Strategy<Value = Vec<LifecycleRule>> {
        let change = |condition| ClassTransition { condition, storage_class: StorageClass::InfrequentAccess };
        let rule = (
            any::<bool>(),
            proptest::option::of("[ab]{0,2}"),
            proptest::option::of(whens()),
            proptest::option::of(proptest::collection::vec(whens().prop_map(change), 0..3)),
            proptest::option::of(0u64..5),
        );
        let rule = rule.prop_map(|(enabled, prefix, removes, changes, abort)| LifecycleRule {
            id: "r".into(),
            enabled,
            conditions: Conditions { prefix },
            abort_multipart_uploads_transition: abort
                .map(|days| Transition { condition: When::Age { max_age: days * 24 * 3600 } }),
            delete_objects_transition: removes.map(|condition| Transition { condition }),
            storage_class_transitions: changes,
        });
        proptest::collection::vec(rule, 0..4)
    }

    /// Days after 1970 at which something happens to what began at day `start`, as the page says it.
    fn day(when: &When, start: i64) -> i64 {
        match when {
            When::Age { max_age } => start + *max_age as i64 / 86_400,
            When::Date { date } => date.ms() / DAY,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn the_earliest_time_counts_and_going_goes_before_changing(
            rules in all_rules(), key in "[abc]{0,3}", start in 0i64..5, now in 0i64..12
        ) {
            let (mut goes, mut changes) = (i64::MAX, i64::MAX);
            for rule in rules.iter().filter(|rule| rule.enabled) {
                if rule.conditions.prefix.iter().all(|prefix| key.find(prefix.as_str()) == Some(0)) {
                    goes = rule.removes().map_or(goes, |when| goes.min(day(when, start)));
                    changes = rule.changes().fold(changes, |at, when| at.min(day(when, start)));
                }
            }
            let expected = match () {
                () if goes <= now => Fate::Goes,
                () if changes <= now && goes > changes + 1 => Fate::Changes(StorageClass::InfrequentAccess),
                () => Fate::Stays,
            };
            prop_assert_eq!(fate(&rules, &key, start * DAY, StorageClass::Standard, now * DAY), expected);
            let there = fate(&rules, &key, start * DAY, StorageClass::InfrequentAccess, now * DAY);
            prop_assert_eq!(there == Fate::Goes, expected == Fate::Goes);
            prop_assert!(!matches!(there, Fate::Changes(_)));
        }

        #[test]
        fn what_something_happens_to_is_before_a_cutoff(
            rules in all_rules(), key in "[abc]{0,3}", start in 0i64..12, now in 0i64..12
        ) {
            let (at, now) = (start.min(now) * DAY, now * DAY);
            if fate(&rules, &key, at, StorageClass::Standard, now) != Fate::Stays {
                prop_assert!(cutoffs(&rules, now).into_iter().flatten().any(|cutoff| at <= cutoff));
            }
            if ends(&rules, &key, at, now) {
                prop_assert!(upload_cutoff(&rules, now).is_some_and(|cutoff| at <= cutoff));
            }
        }

        #[test]
        fn a_rule_is_read_as_it_is_written(rules in all_rules()) {
            let text = serde_json::to_string(&rules).unwrap();
            prop_assert_eq!(serde_json::from_str::<Vec<LifecycleRule>>(&text).unwrap(), rules);
        }
    }

    #[test]
    fn rules_are_in_cloudflares_form() {
        let rule = serde_json::json!({
            "id": "all", "enabled": true, "conditions": { "prefix": "a/" },
            "abortMultipartUploadsTransition": { "condition": { "type": "Age", "maxAge": 1 } },
            "deleteObjectsTransition": { "condition": { "type": "Date", "date": "2026-01-01T00:00:00.000Z" } },
            "storageClassTransitions": [
                { "condition": { "type": "Age", "maxAge": 5 }, "storageClass": "InfrequentAccess" },
            ],
        });
        let mut read: LifecycleRule = serde_json::from_value(rule.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), rule);
        assert!(check(&[read.clone()]).is_ok());
        assert!(check(&[read.clone(), read.clone()]).is_err());
        read.storage_class_transitions.as_mut().unwrap()[0].storage_class = StorageClass::Standard;
        assert!(check(&[read.clone()]).is_err());
        read.storage_class_transitions = None;
        read.abort_multipart_uploads_transition = read.delete_objects_transition.clone();
        assert!(check(&[read]).is_err());
        let first = serde_json::json!({
            "id": "Default Multipart Abort Rule", "enabled": true, "conditions": {},
            "abortMultipartUploadsTransition": { "condition": { "type": "Age", "maxAge": 604_800 } },
        });
        assert_eq!(serde_json::to_value(LifecycleRule::default_abort()).unwrap(), first);
    }
}
