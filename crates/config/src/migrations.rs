//! Durable Object migrations as a list of steps. Pure.

use std::collections::BTreeMap;

use crate::model::Migration;

/// One change of what a class name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields say what they are")]
pub enum Change {
    /// A new class.
    New { class: String, sqlite: bool },
    /// Another name for a class.
    Rename { from: String, to: String },
    /// The class and its objects go.
    Delete { class: String },
    /// A class of another script comes here.
    Transfer { from: String, from_script: String, to: String },
}

/// Why a list of migrations makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MigrationError {
    /// The tag that is applied is not in the list.
    #[error(
        "the migration \"{0}\" has been applied, but the configuration does not have it: migrations are only ever added"
    )]
    UnknownTag(String),
    /// Two migrations have the same tag.
    #[error("two migrations have the tag \"{0}\"")]
    DuplicateTag(String),
    /// A class is made that is there.
    #[error("the migration \"{tag}\" makes the class \"{class}\", which exists already")]
    Exists {
        /// The migration.
        tag: String,
        /// The class.
        class: String,
    },
    /// A class is needed that is not there.
    #[error("the migration \"{tag}\" needs the class \"{class}\", which does not exist")]
    Missing {
        /// The migration.
        tag: String,
        /// The class.
        class: String,
    },
}

/// The steps of the migrations that come after the one tagged `applied`, each with its tag.
pub fn steps_after(
    migrations: &[Migration],
    applied: Option<&str>,
) -> Result<Vec<(String, Vec<Change>)>, MigrationError> {
    classes_alive(migrations)?;
    let start = match applied {
        None => 0,
        Some(tag) => {
            let position = migrations.iter().position(|m| m.tag == tag);
            position.ok_or_else(|| MigrationError::UnknownTag(tag.to_owned()))? + 1
        }
    };
    Ok(migrations[start..].iter().map(|m| (m.tag.clone(), changes(m))).collect())
}

/// The classes that exist after all migrations; the value says whether with SQLite storage. The storage of
/// a transferred class is the other script's affair; SQLite is assumed.
pub fn classes_alive(migrations: &[Migration]) -> Result<BTreeMap<String, bool>, MigrationError> {
    let mut alive = BTreeMap::new();
    for (n, migration) in migrations.iter().enumerate() {
        let tag = &migration.tag;
        if migrations[..n].iter().any(|earlier| earlier.tag == *tag) {
            return Err(MigrationError::DuplicateTag(tag.clone()));
        }
        for change in changes(migration) {
            let missing = |class: &str| MigrationError::Missing { tag: tag.clone(), class: class.to_owned() };
            let (added, sqlite) = match change {
                Change::New { class, sqlite } => (class, sqlite),
                Change::Delete { class } => {
                    alive.remove(&class).ok_or_else(|| missing(&class))?;
                    continue;
                }
                Change::Rename { from, to } => {
                    let sqlite = alive.remove(&from).ok_or_else(|| missing(&from))?;
                    (to, sqlite)
                }
                Change::Transfer { to, .. } => (to, true),
            };
            if alive.insert(added.clone(), sqlite).is_some() {
                return Err(MigrationError::Exists { tag: tag.clone(), class: added });
            }
        }
    }
    Ok(alive)
}

/// The order inside one migration: what goes, then what moves, then what is new.
fn changes(migration: &Migration) -> Vec<Change> {
    let deleted = migration.deleted_classes.iter().map(|class| Change::Delete { class: class.clone() });
    let renamed = migration
        .renamed_classes
        .iter()
        .map(|(from, to)| Change::Rename { from: from.clone(), to: to.clone() });
    let transferred = migration.transferred_classes.iter().map(|(from, from_script, to)| Change::Transfer {
        from: from.clone(),
        from_script: from_script.clone(),
        to: to.clone(),
    });
    let new = |sqlite| move |class: &String| Change::New { class: class.clone(), sqlite };
    deleted
        .chain(renamed)
        .chain(transferred)
        .chain(migration.new_classes.iter().map(new(false)))
        .chain(migration.new_sqlite_classes.iter().map(new(true)))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(tag: &str, classes: &[&str]) -> Migration {
        Migration {
            tag: tag.into(),
            new_sqlite_classes: classes.iter().map(ToString::to_string).collect(),
            ..Migration::default()
        }
    }

    #[test]
    fn only_later_migrations_are_steps() {
        let rename = Migration {
            tag: "v2".into(),
            renamed_classes: vec![("A".into(), "B".into())],
            new_classes: vec!["A".into()],
            ..Migration::default()
        };
        let list = [made("v1", &["A"]), rename];
        let steps = steps_after(&list, Some("v1")).unwrap();
        assert_eq!(steps.len(), 1);
        assert_eq!(steps[0].1[0], Change::Rename { from: "A".into(), to: "B".into() });
        assert_eq!(classes_alive(&list).unwrap(), BTreeMap::from([("A".into(), false), ("B".into(), true)]));
        assert_eq!(steps_after(&list, Some("v9")), Err(MigrationError::UnknownTag("v9".into())));
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(matches!(classes_alive(&[made("v1", &["A", "A"])]), Err(MigrationError::Exists { .. })));
        assert!(matches!(
            classes_alive(&[made("v1", &[]), made("v1", &[])]),
            Err(MigrationError::DuplicateTag(_))
        ));
        let delete = Migration { deleted_classes: vec!["A".into()], ..made("v1", &[]) };
        assert!(matches!(classes_alive(&[delete]), Err(MigrationError::Missing { .. })));
    }

    proptest! {
        /// However the list is cut, the steps before and after the cut are all the steps.
        #[test]
        fn steps_add_up(sizes in prop::collection::vec(0usize..3, 0..6), cut in 0usize..6) {
            let list: Vec<Migration> = sizes.iter().enumerate().map(|(n, size)| {
                let classes: Vec<String> = (0..*size).map(|k| format!("C{n}_{k}")).collect();
                made(&format!("v{n}"), &classes.iter().map(String::as_str).collect::<Vec<_>>())
            }).collect();
            let all = steps_after(&list, None).unwrap();
            let cut = cut.min(list.len());
            let applied = cut.checked_sub(1).map(|n| list[n].tag.as_str());
            prop_assert_eq!(&all[cut..], &steps_after(&list, applied).unwrap()[..]);
        }
    }
}
