//! Durable Object migrations, applied to the ledger.
//! <https://developers.cloudflare.com/durable-objects/reference/durable-objects-migrations/>

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::CatalogError;
use crate::transfers::{end_wait, forgo, wait_for};

/// One migration: changes under one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The tag that the script has afterwards; `None` leaves it.
    pub tag: Option<String>,
    /// In the order in which they are applied.
    pub changes: Vec<Change>,
}

/// One change of which class names which namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new, empty namespace.
    New {
        /// The class.
        class: String,
        /// Whether objects have the SQL API.
        sqlite: bool,
    },
    /// Another class name for a namespace.
    Rename {
        /// The old class.
        from: String,
        /// The new class.
        to: String,
    },
    /// The namespace and all its objects go.
    Delete {
        /// The class.
        class: String,
    },
    /// A namespace of another script becomes this script's.
    Transfer {
        /// The class in the other script.
        from: String,
        /// The other script.
        from_script: String,
        /// The class in this script.
        to: String,
    },
    /// This script waits for a class of another script, which is to give it away.
    Await {
        /// The class, of both scripts.
        class: String,
        /// The other script.
        from_script: String,
    },
    /// This script does not wait for a class any more.
    Forgo {
        /// The class.
        class: String,
    },
    /// A namespace of this script becomes that of a script which waits for it.
    HandOver {
        /// The class, of both scripts.
        class: String,
        /// The other script.
        to_script: String,
    },
}

pub(crate) fn apply(t: &Transaction<'_>, script: &str, migrations: &[Migration]) -> Result<(), CatalogError> {
    for migration in migrations {
        for change in &migration.changes {
            apply_change(t, script, change)?;
        }
        if let Some(tag) = &migration.tag {
            t.execute(
                "INSERT INTO migration_tag VALUES (?, ?) ON CONFLICT DO UPDATE SET tag = excluded.tag",
                [script, tag],
            )?;
        }
    }
    Ok(())
}

fn apply_change(t: &Transaction<'_>, script: &str, change: &Change) -> Result<(), CatalogError> {
    match change {
        Change::New { class, sqlite } => {
            must_be_free(t, script, class, if *sqlite { "new-sqlite-class" } else { "new-class" })?;
            let key = free_key(t, script, class)?;
            t.execute("INSERT INTO namespace VALUES (?, ?, ?, ?)", params![key, script, class, sqlite])?;
            t.execute("DELETE FROM moved WHERE script = ? AND class = ?", [script, class])?;
        }
        Change::Rename { from, to } => {
            let key = key_of(t, script, from)?;
            must_be_free(t, script, to, "renamed-class")?;
            t.execute("UPDATE namespace SET class = ? WHERE unique_key = ?", [to, &key])?;
            t.execute("DELETE FROM moved WHERE script = ? AND class = ?", [script, to])?;
        }
        Change::Delete { class } => {
            let key = key_of(t, script, class)?;
            t.execute("DELETE FROM namespace WHERE unique_key = ?", [&key])?;
            t.execute("INSERT INTO doomed VALUES (?)", [&key])?;
            t.execute("DELETE FROM moved WHERE unique_key = ?", [&key])?;
        }
        Change::Transfer { from, from_script, to } => transfer(t, from_script, from, script, to)?,
        Change::Await { class, from_script } => {
            must_be_free(t, script, class, "transferred-class")?;
            wait_for(t, script, class, from_script)?;
        }
        Change::Forgo { class } => forgo(t, script, class)?,
        Change::HandOver { class, to_script } => {
            end_wait(t, script, class, to_script)?;
            transfer(t, script, class, to_script, class)?;
        }
    }
    Ok(())
}

/// The namespace of `from_script` and `from` becomes that of `script` and `to`.
fn transfer(
    t: &Transaction<'_>,
    from_script: &str,
    from: &str,
    script: &str,
    to: &str,
) -> Result<(), CatalogError> {
    let key = key_of(t, from_script, from)?;
    must_be_free(t, script, to, "transferred-class")?;
    t.execute("UPDATE namespace SET script = ?, class = ? WHERE unique_key = ?", [script, to, &key])?;
    t.execute("DELETE FROM moved WHERE script = ? AND class = ?", [script, to])?;
    t.execute("INSERT OR REPLACE INTO moved VALUES (?, ?, ?)", [from_script, from, &key])?;
    Ok(())
}

fn key_of(t: &Transaction<'_>, script: &str, class: &str) -> Result<String, CatalogError> {
    let key: Option<String> = t
        .query_row(
            "SELECT unique_key FROM namespace WHERE script = ? AND class = ?",
            [script, class],
            |row| row.get(0),
        )
        .optional()?;
    key.ok_or_else(|| {
        refused(
            NO_CLASS,
            format!(
                "Cannot apply migration to class '{class}': script '{script}' has no Durable Object class of that name"
            ),
        )
    })
}

/// Cloudflare's code for a migration that names a class which has no namespace.
const NO_CLASS: u32 = 10061;
/// Cloudflare's code for a new class that is there already.
const CLASS_EXISTS: u32 = 10074;

fn refused(code: u32, text: String) -> CatalogError {
    CatalogError::Migration { code, text }
}

/// The tag of the last migration of `script`.
pub(crate) fn current_tag(c: &Connection, script: &str) -> Result<Option<String>, CatalogError> {
    let mut query = c.prepare_cached("SELECT tag FROM migration_tag WHERE script = ?")?;
    Ok(query.query_row([script], |row| row.get(0)).optional()?)
}

fn must_be_free(t: &Transaction<'_>, script: &str, class: &str, kind: &str) -> Result<(), CatalogError> {
    // A key names a folder.
    if class.is_empty() || class.contains(['/', '\0']) {
        return Err(refused(NO_CLASS, format!("'{class}' is not the name of a class")));
    }
    match key_of(t, script, class) {
        Err(CatalogError::Migration { .. }) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(refused(
            CLASS_EXISTS,
            format!(
                "Cannot apply {kind} migration to class '{class}' that is already depended on by existing Durable Objects"
            ),
        )),
    }
}

/// `<script>-<class>`, or that with a number where an older namespace still has it.
fn free_key(t: &Transaction<'_>, script: &str, class: &str) -> Result<String, CatalogError> {
    let mut number = 1;
    loop {
        let key =
            if number == 1 { format!("{script}-{class}") } else { format!("{script}-{class}-{number}") };
        let taken: bool = t.query_row(
            "SELECT EXISTS(SELECT 1 FROM namespace WHERE unique_key = ?1)
                 OR EXISTS(SELECT 1 FROM doomed WHERE unique_key = ?1)",
            [&key],
            |row| row.get(0),
        )?;
        if !taken {
            return Ok(key);
        }
        number += 1;
    }
}
