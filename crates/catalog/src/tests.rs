use super::*;

fn version(script: &str, migrations: Option<MigrationSet>) -> Publish {
    Publish { script: script.into(), create: true, deploy: true, migrations, ..Publish::default() }
}

fn classes(old_tag: Option<Option<&str>>, new_tag: &str, classes: &[&str]) -> Option<MigrationSet> {
    Some(MigrationSet {
        old_tag: old_tag.map(|tag| tag.map(str::to_owned)),
        new_tag: Some(new_tag.into()),
        changes: classes.iter().map(|class| new(class)).collect(),
    })
}

#[tokio::test]
async fn a_version_comes_with_its_migrations_and_its_deployment_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
    let first = catalog.publish(version("s", classes(None, "v1", &["A"]))).await.unwrap();
    assert_eq!((first.version.number, first.version.content.migration_tag.as_deref()), (1, Some("v1")));
    let wrong = catalog.publish(version("s", classes(Some(None), "v2", &["B"]))).await.unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "Actor migration tag precondition failed, got tag '' when expected tag is 'v1'"
    );
    let twice = catalog.publish(version("s", classes(Some(Some("v1")), "v2", &["B", "A"]))).await;
    assert!(matches!(twice, Err(CatalogError::Migration { code: 10074, .. })), "{twice:?}");
    assert_eq!(catalog.versions(&first.script.tag, 0, 10).unwrap().1, 1);
    assert_eq!(catalog.namespaces("s").unwrap().len(), 1);
    let tried = catalog.try_migrations("s", classes(Some(Some("v1")), "v2", &["B"])).await.unwrap();
    assert_eq!(tried.keys().collect::<Vec<_>>(), ["A", "B"]);
    assert_eq!(catalog.namespaces("s").unwrap().len(), 1, "a rehearsal changes nothing");
    let active = catalog.active_deployment(&first.script.tag).unwrap().unwrap();
    assert_eq!(active.versions, [(first.version.id, 100.0)]);
}

#[tokio::test]
async fn versions_without_end_are_refused_once_the_account_is_full_and_go_on_being_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let quota = Arc::new(Quota::new(4 << 20));
    let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap().within(quota.clone());
    let large = || {
        let mut made = version("s", None);
        made.content.bindings = vec![serde_json::json!({ "name": "A", "text": "x".repeat(500_000) })];
        made
    };
    let full = |refused: &CatalogError| matches!(refused, CatalogError::Store(StoreError::QuotaReached));
    let mut kept = 0;
    let refused = loop {
        match catalog.publish(large()).await {
            Ok(_) => kept += 1,
            Err(refused) => break refused,
        }
        assert!(kept < 20, "it has an end");
    };
    assert!(full(&refused) && (6..=10).contains(&kept), "{kept}: {refused}");
    let made =
        Resource { id: "a".into(), name: "a".into(), created_ms: 1, settings: serde_json::Value::Null };
    assert!(full(&catalog.add_resource(Kind::Kv, made).await.unwrap_err()));
    catalog.remove_script("s").await.unwrap();
    assert!(catalog.script("s").unwrap().is_none());
}

#[tokio::test]
async fn a_deployment_is_found_by_its_id_and_by_its_versions() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
    let first = catalog.publish(version("s", None)).await.unwrap();
    let tag = first.script.tag;
    let second = catalog.publish(Publish { deploy: false, ..version("s", None) }).await.unwrap();
    assert!(catalog.was_deployed(&tag, &first.version.id).unwrap());
    assert!(!catalog.was_deployed(&tag, &second.version.id).unwrap());
    assert!(!catalog.was_deployed("other", &first.version.id).unwrap());
    let both = Deployment {
        id: "both".into(),
        versions: vec![(first.version.id, 90.0), (second.version.id.clone(), 10.0)],
        ..catalog.active_deployment(&tag).unwrap().unwrap()
    };
    catalog.deploy("s", both.clone(), Vec::new()).await.unwrap();
    assert!(catalog.was_deployed(&tag, &second.version.id).unwrap());
    assert_eq!(catalog.deployment(&tag, "both").unwrap(), Some(both));
    assert_eq!(catalog.deployment("other", "both").unwrap(), None);
}

#[tokio::test]
async fn a_removed_script_leaves_nothing_but_doomed_objects() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
    catalog.publish(version("s", classes(None, "v1", &["A"]))).await.unwrap();
    catalog.remove_script("s").await.unwrap();
    assert_eq!(catalog.scripts().unwrap(), []);
    assert_eq!(catalog.doomed().unwrap(), ["s-A"]);
    assert!(matches!(catalog.remove_script("s").await, Err(CatalogError::NoScript)));
    let again = catalog.publish(version("s", None)).await.unwrap();
    assert_eq!((again.version.number, again.version.content.migration_tag), (1, None));
}

fn new(class: &str) -> Change {
    Change::New { class: class.into(), sqlite: true }
}

fn step(tag: &str, changes: Vec<Change>) -> Migration {
    Migration { tag: Some(tag.into()), changes }
}

#[tokio::test]
async fn a_renamed_class_keeps_its_objects_and_frees_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
    catalog.migrate("s", vec![step("v1", vec![new("A")])]).await.unwrap();
    let key = catalog.namespaces("s").unwrap()["A"].unique_key.clone();
    assert_eq!(key, "s-A");
    let rename = Change::Rename { from: "A".into(), to: "B".into() };
    catalog.migrate("s", vec![step("v2", vec![rename]), step("v3", vec![new("A")])]).await.unwrap();
    let namespaces = catalog.namespaces("s").unwrap();
    assert_eq!(namespaces["B"].unique_key, key);
    assert_ne!(namespaces["A"].unique_key, key);
    assert_eq!(catalog.migration_tag("s").unwrap().as_deref(), Some("v3"));
}

#[tokio::test]
async fn a_refused_set_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
    let wrong = Change::Delete { class: "Nope".into() };
    let error = catalog.migrate("s", vec![step("v1", vec![new("A"), wrong])]).await.unwrap_err();
    assert!(error.to_string().contains("Nope"), "{error}");
    assert!(catalog.namespaces("s").unwrap().is_empty());
    assert_eq!(catalog.migration_tag("s").unwrap(), None);
}

#[tokio::test]
async fn deleted_objects_are_doomed_until_buried_and_transfers_keep_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
    catalog.migrate("s", vec![step("v1", vec![new("A"), new("B")])]).await.unwrap();
    let transfer = Change::Transfer { from: "A".into(), from_script: "s".into(), to: "C".into() };
    catalog.migrate("t", vec![step("v1", vec![transfer])]).await.unwrap();
    assert_eq!(catalog.namespaces("t").unwrap()["C"].unique_key, "s-A");
    let home = |script: &str, class: &str| {
        let home = catalog.home_of(script, class).unwrap();
        home.map(|(script, class, _)| format!("{script}.{class}"))
    };
    assert_eq!(home("s", "A").as_deref(), Some("t.C"), "who is bound to it finds it");
    catalog.migrate("s", vec![step("v2", vec![new("A")])]).await.unwrap();
    assert_eq!(home("s", "A").as_deref(), Some("s.A"), "unless there is another one");
    assert_eq!(catalog.namespaces("s").unwrap()["A"].unique_key, "s-A-2");
    let undone = Change::Delete { class: "A".into() };
    catalog.migrate("s", vec![step("v3", vec![undone])]).await.unwrap();
    assert_eq!(home("s", "A"), None);
    catalog.buried("s-A-2").await.unwrap();
    let delete = Change::Delete { class: "B".into() };
    catalog.migrate("s", vec![step("v4", vec![delete])]).await.unwrap();
    assert_eq!(catalog.doomed().unwrap(), ["s-B"]);
    catalog.buried("s-B").await.unwrap();
    assert!(catalog.doomed().unwrap().is_empty());
    assert!(catalog.namespaces("s").unwrap().is_empty());
}

#[tokio::test]
async fn a_class_goes_to_the_script_that_waits_for_it_and_to_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
    let untagged = |changes| vec![Migration { tag: None, changes }];
    let waits = |from: &str| Change::Await { class: "A".into(), from_script: from.into() };
    let gives = |to: &str| Change::HandOver { class: "A".into(), to_script: to.into() };
    catalog.publish(version("t", None)).await.unwrap();
    catalog.publish(version("s", classes(None, "v1", &["A"]))).await.unwrap();
    let refused = |outcome: Result<(), CatalogError>| {
        assert!(matches!(outcome, Err(CatalogError::Migration { code: 100_402, .. })), "{outcome:?}");
    };
    refused(catalog.migrate("s", untagged(vec![gives("t")])).await);
    refused(catalog.migrate("t", untagged(vec![waits("nobody")])).await);
    catalog.migrate("t", untagged(vec![waits("s")])).await.unwrap();
    refused(catalog.migrate("u", untagged(vec![waits("s")])).await);
    refused(catalog.migrate("s", untagged(vec![gives("u")])).await);
    assert_eq!(catalog.awaited("t").unwrap(), ["A"]);
    catalog.migrate("t", untagged(vec![Change::Forgo { class: "A".into() }])).await.unwrap();
    refused(catalog.migrate("s", untagged(vec![gives("t")])).await);
    catalog.migrate("t", untagged(vec![waits("s")])).await.unwrap();
    catalog.migrate("s", untagged(vec![gives("t")])).await.unwrap();
    assert_eq!(catalog.namespaces("t").unwrap()["A"].unique_key, "s-A");
    assert!(catalog.namespaces("s").unwrap().is_empty() && catalog.awaited("t").unwrap().is_empty());
    let declared = [("A".to_owned(), Declared::Expecting { sqlite: true, from: "s".into() })].into();
    let known = catalog.transfers("t", &declared).unwrap();
    assert_eq!(known.received, [("A".to_owned(), ["s".to_owned()].into())].into());
    assert!(matches!(&known.partners["s"], Partner::There { namespaces, .. } if namespaces.is_empty()));

    catalog.publish(version("ns:u", None)).await.unwrap();
    let from =
        |label: &str| [("A".to_owned(), Declared::Expecting { sqlite: true, from: label.into() })].into();
    let partner_of = |script: &str, label: &str| {
        catalog.transfers(script, &from(label)).unwrap().partners.remove(label).unwrap()
    };
    assert_eq!(partner_of("t", "u"), Partner::Elsewhere { dispatched: true });
    assert_eq!(partner_of("ns:u", "s"), Partner::Elsewhere { dispatched: false });
    assert!(matches!(partner_of("ns:v", "u"), Partner::There { name, .. } if name == "ns:u"));
    assert_eq!(partner_of("t", "v"), Partner::Missing);
}
