use proptest::prelude::*;

use super::*;

fn live(sqlite: bool) -> Declared {
    Declared::Live { sqlite }
}

fn to(class: &str) -> Declared {
    Declared::Renamed { to: class.into() }
}

fn map<T>(entries: impl IntoIterator<Item = (&'static str, T)>) -> BTreeMap<String, T> {
    entries.into_iter().map(|(class, value)| (class.to_owned(), value)).collect()
}

fn there(classes: &[(&'static str, bool)]) -> BTreeMap<String, Namespace> {
    map(classes
        .iter()
        .map(|(class, sqlite)| (*class, Namespace { unique_key: format!("s-{class}"), sqlite: *sqlite })))
}

/// With `code` exported, and nobody else who uses a class.
fn outcome(
    declared: impl IntoIterator<Item = (&'static str, Declared)>,
    provisioned: &[(&'static str, bool)],
    code: &[&str],
) -> Result<Reconciled, Vec<&'static str>> {
    let code = code.iter().map(ToString::to_string).collect();
    let standing = Standing {
        provisioned: &there(provisioned),
        in_code: Some(&code),
        users: &BTreeMap::new(),
        may_delete: true,
    };
    reconcile(&map(declared), standing).map_err(|wrong| wrong.iter().map(|r| r.scenario).collect())
}

#[test]
fn what_is_new_is_made_once() {
    let made = outcome([("A", live(true))], &[], &["A"]).unwrap();
    assert_eq!(made.changes, [Change::New { class: "A".into(), sqlite: true }]);
    assert_eq!(outcome([("A", live(true))], &[("A", true)], &["A"]).unwrap(), Reconciled::default());
}

#[test]
fn a_renamed_class_frees_its_name_and_is_then_stale() {
    let declared = || [("A", to("B")), ("B", live(true))];
    let renamed = outcome(declared(), &[("A", true)], &["A", "B"]).unwrap();
    assert_eq!(renamed.changes, [Change::Rename { from: "A".into(), to: "B".into() }]);
    assert_eq!(renamed.notes[0].scenario, "tombstone_class_still_in_code");
    let again = outcome(declared(), &[("B", true)], &["B"]).unwrap();
    assert_eq!((again.changes.len(), again.removable), (0, vec!["A".to_owned()]));
    assert_eq!(again.notes[0].scenario, "stale_tombstone");
}

#[test]
fn what_makes_no_sense_is_refused_by_its_name() {
    let refused = |declared: Vec<(&'static str, Declared)>,
                   provisioned: &[(&'static str, bool)],
                   code: &[&str]| { outcome(declared, provisioned, code).unwrap_err() };
    assert_eq!(refused(vec![("A", live(true))], &[], &[]), ["config_export_not_in_code"]);
    assert_eq!(refused(vec![("A", live(true))], &[("A", false)], &["A"]), ["storage_type_mismatch"]);
    assert_eq!(refused(vec![("A", live(false))], &[], &["A"]), ["invalid_export"]);
    assert_eq!(refused(vec![], &[("A", true)], &["A"]), ["provisioned_class_missing_from_config"]);
    assert_eq!(
        refused(vec![("A", Declared::Deleted)], &[("A", true)], &["A"]),
        ["tombstone_delete_class_still_in_code"]
    );
    assert_eq!(refused(vec![("A", to("B"))], &[("A", true)], &[]), ["config_references_nonexistent_class"]);
    assert_eq!(refused(vec![("A", to("A"))], &[("A", true)], &[]), ["config_references_nonexistent_class"]);
    let occupied = vec![("A", to("B")), ("B", live(true))];
    assert_eq!(refused(occupied, &[("A", true), ("B", true)], &["B"]), ["tombstone_renamed_to_occupied"]);
    let two = vec![("A", to("C")), ("B", to("C")), ("C", live(true))];
    assert_eq!(refused(two, &[("A", true), ("B", true)], &["C"]), ["tombstone_renamed_to_occupied"]);
    let other_storage = vec![("A", to("B")), ("B", live(true))];
    assert_eq!(refused(other_storage, &[("A", false)], &["B"]), ["storage_type_mismatch"]);
}

#[test]
fn objects_that_others_use_or_that_came_back_are_not_deleted() {
    let users = map([("A", vec!["other".to_owned()])]);
    let (provisioned, declared) = (there(&[("A", true)]), map([("A", Declared::Deleted)]));
    let standing = Standing { provisioned: &provisioned, in_code: None, users: &users, may_delete: true };
    let wrong = reconcile(&declared, standing).unwrap_err();
    assert_eq!(wrong[0].scenario, "tombstone_delete_blocked_by_external_bindings");
    assert_eq!(wrong[0].users, ["other"]);
    let nobody = BTreeMap::new();
    let again = Standing { users: &nobody, may_delete: false, ..standing };
    assert_eq!(reconcile(&declared, again).unwrap_err()[0].scenario, "orphaned_provisioned_namespace");
    let first = Standing { users: &nobody, ..standing };
    assert_eq!(reconcile(&declared, first).unwrap().changes, [Change::Delete { class: "A".into() }]);
}

fn declaration() -> impl Strategy<Value = Declared> {
    prop_oneof![
        3 => any::<bool>().prop_map(live),
        1 => Just(Declared::Deleted),
        2 => prop::sample::select(vec!["A", "B", "C", "D"]).prop_map(to),
    ]
}

proptest! {
    /// What is accepted can be applied in its order, leaves exactly the live classes, and has nothing left to do.
    #[test]
    fn what_is_accepted_makes_it_so(
        declared in prop::collection::btree_map(prop::sample::select(vec!["A", "B", "C", "D"]), declaration(), 0..5),
        provisioned in prop::collection::btree_map(prop::sample::select(vec!["A", "B", "C", "D"]), any::<bool>(), 0..4),
    ) {
        let declared = map(declared);
        let mut classes: BTreeMap<String, bool> = map(provisioned);
        let spaces = |classes: &BTreeMap<String, bool>| -> BTreeMap<String, Namespace> {
            classes.iter().map(|(c, s)| (c.clone(), Namespace { unique_key: c.clone(), sqlite: *s })).collect()
        };
        let users = BTreeMap::new();
        let before = spaces(&classes);
        let standing = Standing { provisioned: &before, in_code: None, users: &users, may_delete: true };
        if let Ok(reconciled) = reconcile(&declared, standing) {
            for change in reconciled.changes {
                match change {
                    Change::New { class, sqlite } => prop_assert!(classes.insert(class, sqlite).is_none()),
                    Change::Delete { class } => prop_assert!(classes.remove(&class).is_some()),
                    Change::Rename { from, to } => {
                        let sqlite = classes.remove(&from);
                        prop_assert!(sqlite.is_some() && classes.insert(to, sqlite.unwrap()).is_none());
                    }
                    Change::Transfer { .. } => prop_assert!(false, "nothing is transferred"),
                }
            }
            let wanted: BTreeMap<String, bool> = declared.iter().filter_map(|(class, d)| match d {
                Declared::Live { sqlite } => Some((class.clone(), *sqlite)),
                _ => None,
            }).collect();
            prop_assert_eq!(&classes, &wanted);
            let after = spaces(&classes);
            let again = reconcile(&declared, Standing { provisioned: &after, ..standing }).unwrap();
            prop_assert_eq!(again.changes, []);
        }
    }
}
