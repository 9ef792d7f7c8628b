use proptest::prelude::*;

use super::*;
use crate::Partner;

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

fn standing<'a>(
    provisioned: &'a BTreeMap<String, Namespace>,
    users: &'a BTreeMap<String, Vec<String>>,
    transfers: &'a Transfers,
) -> Standing<'a> {
    Standing { script: "s", provisioned, in_code: None, users, transfers, may_delete: true }
}

/// With `code` exported, and nobody else who uses a class.
fn outcome(
    declared: impl IntoIterator<Item = (&'static str, Declared)>,
    provisioned: &[(&'static str, bool)],
    code: &[&str],
) -> Result<Reconciled, Vec<&'static str>> {
    let code = code.iter().map(ToString::to_string).collect();
    let provisioned = there(provisioned);
    let (users, transfers) = (BTreeMap::new(), Transfers::default());
    let standing = Standing { in_code: Some(&code), ..standing(&provisioned, &users, &transfers) };
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
    let transfers = Transfers::default();
    let standing = standing(&provisioned, &users, &transfers);
    let wrong = reconcile(&declared, standing).unwrap_err();
    assert_eq!(wrong[0].scenario, "tombstone_delete_blocked_by_external_bindings");
    assert_eq!(wrong[0].users, ["other"]);
    let nobody = BTreeMap::new();
    let again = Standing { users: &nobody, may_delete: false, ..standing };
    assert_eq!(reconcile(&declared, again).unwrap_err()[0].scenario, "orphaned_provisioned_namespace");
    let first = Standing { users: &nobody, ..standing };
    assert_eq!(reconcile(&declared, first).unwrap().changes, [Change::Delete { class: "A".into() }]);
}

fn expects(from: &str) -> Declared {
    Declared::Expecting { sqlite: true, from: from.into() }
}

fn given(to: &str) -> Declared {
    Declared::Transferred { to: to.into() }
}

/// A script that is there, with these classes and these of them wanted by others.
fn partner(name: &str, classes: &[(&'static str, bool)], wanted: &[(&'static str, &str)]) -> Partner {
    let wanted = map(wanted.iter().map(|(class, by)| (*class, (*by).to_owned())));
    Partner::There { name: name.into(), namespaces: there(classes), wanted }
}

/// What `A` comes to, declared as `declaration` by the script `s`.
fn between(
    declaration: Declared,
    provisioned: &[(&'static str, bool)],
    transfers: &Transfers,
) -> Result<Reconciled, &'static str> {
    let (provisioned, users) = (there(provisioned), BTreeMap::new());
    let outcome = reconcile(&map([("A", declaration)]), standing(&provisioned, &users, transfers));
    outcome.map_err(|wrong| wrong[0].scenario)
}

#[test]
fn a_class_is_waited_for_and_then_given_away() {
    let source = partner("t", &[("A", true)], &[]);
    let target = Transfers { partners: map([("t", source)]), ..Transfers::default() };
    let waits = between(expects("t"), &[], &target).unwrap();
    assert_eq!(waits.changes, [Change::Await { class: "A".into(), from_script: "t".into() }]);
    let waiting = Transfers { awaited: map([("A", "t".into())]), ..target };
    assert_eq!(between(expects("t"), &[], &waiting).unwrap().changes.len(), 1, "it may say so again");
    let forgone = between(live(true), &[], &waiting).unwrap().changes;
    assert_eq!(
        forgone,
        [Change::Forgo { class: "A".into() }, Change::New { class: "A".into(), sqlite: true }],
        "another entry ends the wait"
    );

    let source = Transfers {
        wanted: map([("A", "t".into())]),
        partners: map([("t", partner("t", &[], &[]))]),
        ..Transfers::default()
    };
    let gives = between(given("t"), &[("A", true)], &source).unwrap();
    assert_eq!(gives.changes, [Change::HandOver { class: "A".into(), to_script: "t".into() }]);
    let again = between(given("t"), &[], &source).unwrap();
    assert_eq!((again.notes[0].scenario, again.removable), ("stale_tombstone", vec!["A".to_owned()]));

    let received = Transfers {
        received: map([("A", ["t".to_owned()].into())]),
        partners: map([("t", partner("t", &[], &[]))]),
        ..Transfers::default()
    };
    let has = between(expects("t"), &[("A", true)], &received).unwrap();
    assert_eq!((has.changes.len(), has.notes[0].scenario), (0, "transfer_receive_already_applied"));
    assert_eq!(between(live(true), &[("A", true)], &received).unwrap(), Reconciled::default());
}

#[test]
fn a_transfer_that_makes_no_sense_is_refused_by_its_name() {
    let with = |partner: Partner| Transfers { partners: map([("t", partner)]), ..Transfers::default() };
    let there = |wanted: &[(&'static str, &str)]| with(partner("t", &[("A", true)], wanted));
    let expected = |transfers: &Transfers| between(expects("t"), &[], transfers).unwrap_err();
    assert_eq!(expected(&Transfers::default()), "phase_one_transfer_source_missing");
    assert_eq!(expected(&with(Partner::Missing)), "phase_one_transfer_source_missing");
    assert_eq!(
        expected(&with(partner("t", &[("B", true)], &[]))),
        "phase_one_transfer_source_namespace_missing"
    );
    assert_eq!(expected(&with(partner("t", &[("A", false)], &[]))), "storage_type_mismatch");
    assert_eq!(expected(&with(partner("s", &[("A", true)], &[]))), "invalid_export");
    assert_eq!(expected(&there(&[("A", "other")])), "phase_one_transfer_duplicate");
    let other = Transfers { awaited: map([("A", "u".into())]), ..there(&[]) };
    assert_eq!(expected(&other), "phase_one_transfer_duplicate");
    for (dispatched, scenario) in [
        (true, "phase_one_transfer_source_in_dispatch_namespace"),
        (false, "phase_one_transfer_target_in_dispatch_namespace"),
    ] {
        assert_eq!(expected(&with(Partner::Elsewhere { dispatched })), scenario);
    }
    let own = between(expects("t"), &[("A", true)], &there(&[])).unwrap_err();
    assert_eq!(own, "phase_one_transfer_target_class_provisioned");
    let from_another = Transfers { received: map([("A", ["u".to_owned()].into())]), ..there(&[]) };
    let redirected = between(expects("t"), &[("A", true)], &from_another).unwrap_err();
    assert_eq!(redirected, "phase_one_transfer_after_commit_mismatch");

    let refused = |transfers: &Transfers| between(given("t"), &[("A", true)], transfers).unwrap_err();
    assert_eq!(refused(&with(Partner::Missing)), "transferred_target_missing");
    assert_eq!(refused(&there(&[])), "transferred_pending_not_found");
    let mismatch = Transfers { wanted: map([("A", "u".into())]), ..there(&[]) };
    assert_eq!(refused(&mismatch), "transferred_target_mismatch");
    assert_eq!(
        refused(&with(Partner::Elsewhere { dispatched: true })),
        "transferred_target_in_dispatch_namespace"
    );
    assert_eq!(
        refused(&with(Partner::Elsewhere { dispatched: false })),
        "transferred_source_in_dispatch_namespace"
    );
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
        let transfers = Transfers::default();
        let standing = standing(&before, &users, &transfers);
        if let Ok(reconciled) = reconcile(&declared, standing) {
            for change in reconciled.changes {
                match change {
                    Change::New { class, sqlite } => prop_assert!(classes.insert(class, sqlite).is_none()),
                    Change::Delete { class } => prop_assert!(classes.remove(&class).is_some()),
                    Change::Rename { from, to } => {
                        let sqlite = classes.remove(&from);
                        prop_assert!(sqlite.is_some() && classes.insert(to, sqlite.unwrap()).is_none());
                    }
                    _ => prop_assert!(false, "nothing is transferred"),
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
