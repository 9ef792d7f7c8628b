//! Migration files, applied as `wrangler d1 migrations apply` does, into the same table, so that both tools
//! agree on what has been applied.

mod glob;
mod order;
mod script;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::database::D1Database;
use crate::error::D1Error;
use crate::request::{Param, ResultsFormat, Statement};

/// Where a binding's migrations are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrations {
    /// The folder, `migrations_dir`.
    pub dir: PathBuf,
    /// Which files in it, relative to it: `migrations_pattern` without the folder.
    pub pattern: String,
    /// The table of what has been applied, `migrations_table`.
    pub table: String,
}

impl Migrations {
    /// A folder, with wrangler's defaults: `*.sql` and `d1_migrations`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), pattern: "*.sql".into(), table: "d1_migrations".into() }
    }

    /// The names of all migration files in the order in which they are applied: paths relative to the folder,
    /// with `/`.
    pub fn names(&self) -> Result<Vec<String>, MigrateError> {
        if !self.dir.is_dir() {
            return Err(MigrateError::NoFolder(self.dir.clone()));
        }
        let mut names = Vec::new();
        list(&self.dir, "", &glob::Glob::new(&self.pattern), &mut names)
            .map_err(|source| MigrateError::Read { path: self.dir.clone(), source })?;
        names.sort_by(|a, b| order::compare(a, b));
        Ok(names)
    }

    fn table_name(&self) -> String {
        format!("\"{}\"", self.table.replace('"', "\"\""))
    }
}

/// Why migrations were not applied. Those before the one named stay applied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The folder is not there.
    #[error("No migrations present at {}.", .0.display())]
    NoFolder(PathBuf),
    /// A file or the folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A migration's SQL failed; nothing of it was kept.
    #[error("Migration {name} failed with the following errors: {error}")]
    Failed {
        /// The file.
        name: String,
        /// What SQLite said.
        error: D1Error,
    },
    /// The table of applied migrations cannot be read or made.
    #[error("the table of applied migrations: {0}")]
    Table(D1Error),
}

impl D1Database {
    /// The migrations not yet applied, in order. Creates the table of applied ones.
    pub async fn pending_migrations(&self, migrations: &Migrations) -> Result<Vec<String>, MigrateError> {
        let all = migrations.names()?;
        let applied = self.applied(migrations).await.map_err(MigrateError::Table)?;
        Ok(all.into_iter().filter(|name| !applied.contains(name)).collect())
    }

    /// Applies what is pending, each file as one transaction; returns the names of those applied.
    pub async fn migrate(&self, migrations: &Migrations) -> Result<Vec<String>, MigrateError> {
        let pending = self.pending_migrations(migrations).await?;
        for name in &pending {
            let path = migrations.dir.join(name);
            let file = std::fs::read(&path).map_err(|source| MigrateError::Read { path, source })?;
            let failed = |error| MigrateError::Failed { name: name.clone(), error };
            let sql = format!(
                "{}\nINSERT INTO {} (name)\nvalues ('{}');",
                String::from_utf8_lossy(&file),
                migrations.table_name(),
                name.replace('\'', "''")
            );
            let statements = script::statements(&sql).map_err(failed)?;
            let statements = statements.into_iter().map(Statement::new).collect();
            self.run(statements, ResultsFormat::Objects).await.map_err(failed)?;
        }
        Ok(pending)
    }

    async fn applied(&self, migrations: &Migrations) -> Result<Vec<String>, D1Error> {
        #[derive(Deserialize)]
        struct Row {
            name: Option<String>,
        }
        #[derive(Deserialize)]
        struct Rows {
            results: Vec<Row>,
        }
        let table = migrations.table_name();
        let exists = Statement {
            sql: "SELECT name FROM sqlite_schema WHERE type = 'table' AND name = ?".into(),
            params: vec![Param::Text(migrations.table.clone())],
        };
        let read = |body: bytes::Bytes| -> Result<Vec<Row>, D1Error> {
            let replies: Vec<Rows> =
                serde_json::from_slice(&body).map_err(|error| D1Error::new(error.to_string()))?;
            Ok(replies.into_iter().next().map(|reply| reply.results).unwrap_or_default())
        };
        if read(self.run(vec![exists], ResultsFormat::Objects).await?)?.is_empty() {
            // Wrangler's own text, so that the schema is the same to the letter.
            let create = format!(
                "CREATE TABLE IF NOT EXISTS {table}(\n\t\tid         INTEGER PRIMARY KEY AUTOINCREMENT,\n\t\t\
                 name       TEXT UNIQUE,\n\t\tapplied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL\n);"
            );
            self.run(vec![Statement::new(create)], ResultsFormat::Objects).await?;
        }
        let list = Statement::new(format!("SELECT name FROM {table} ORDER BY id"));
        let rows = read(self.run(vec![list], ResultsFormat::Objects).await?)?;
        Ok(rows.into_iter().filter_map(|row| row.name).collect())
    }
}

/// Regular files under `dir` that the pattern matches; symbolic links are not followed, as in wrangler.
fn list(dir: &Path, prefix: &str, glob: &glob::Glob, names: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(|name| format!("{prefix}{name}")) else { continue };
        let kind = entry.file_type()?;
        if kind.is_dir() && glob.may_match_below(&name) {
            list(&entry.path(), &format!("{name}/"), glob, names)?;
        } else if kind.is_file() && glob.matches(&name) {
            names.push(name);
        }
    }
    Ok(())
}
