//! `d1_databases[]`: where a database's migrations are.

use crate::read::Table;
use crate::storage::D1Database;

const FOLDER: &str = "migrations";
const FILES: &str = "*.sql";
const BOTH: &str = "When `migrations_pattern` is set, `migrations_dir` must also be set, and `migrations_pattern` must start with \
                    `${migrations_dir}/`";

pub(crate) fn read(table: &Table<'_>) -> D1Database {
    let binding = table.required("binding");
    D1Database {
        database_id: table.string("database_id").unwrap_or_else(|| binding.clone()),
        database_name: table.string("database_name"),
        migrations_dir: table.path("migrations_dir").unwrap_or_else(|| table.dir().join(FOLDER)),
        migrations_pattern: pattern(table).unwrap_or_else(|| FILES.to_owned()),
        migrations_table: table.string("migrations_table").unwrap_or_else(|| "d1_migrations".into()),
        binding,
    }
}

/// The pattern without the folder. The rules and their texts are wrangler's.
fn pattern(table: &Table<'_>) -> Option<String> {
    let said = table.string("migrations_pattern")?;
    let Some(folder) = table.string("migrations_dir") else {
        let message = format!(
            "You have set `migrations_pattern: \"{said}\"` but have not set `migrations_dir` for this D1 binding."
        );
        table.error("migrations_pattern", message, BOTH);
        return None;
    };
    let below = below(&normal(&said), &normal(&folder));
    if below.is_none() {
        let message = format!(
            "The configured `migrations_pattern: \"{said}\"` must start with `{folder}/` to match `\"migrations_dir\": \"{folder}\"`."
        );
        table.error("migrations_pattern", message, format!("for example `{folder}/{FILES}`"));
    }
    below
}

fn below(pattern: &str, folder: &str) -> Option<String> {
    match folder {
        "." => Some(pattern.to_owned()),
        folder => pattern.strip_prefix(folder)?.strip_prefix('/').map(str::to_owned),
    }
}

/// A relative path as Node.js's `path.posix.normalize` writes it, without a slash at its end.
fn normal(path: &str) -> String {
    let path = path.replace('\\', "/");
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    match parts.is_empty() && root.is_empty() {
        true => ".".to_owned(),
        false => format!("{root}{}", parts.join("/")),
    }
}

#[cfg(test)]
mod tests {
    use crate::{LoadOptions, load};

    fn pattern(database: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wrangler.jsonc");
        let text = format!(r#"{{ "main": "x.js", "d1_databases": [{{ "binding": "DB", {database} }}] }}"#);
        std::fs::write(&path, text).unwrap();
        let loaded = load(&path, &LoadOptions::default()).map_err(|e| e.to_string())?;
        Ok(loaded.config.d1_databases[0].migrations_pattern.clone())
    }

    #[test]
    fn a_pattern_is_below_its_folder() {
        for (database, expected) in [
            (r#""migrations_dir": "drizzle""#, "*.sql"),
            (
                r#""migrations_dir": "drizzle", "migrations_pattern": "drizzle/*/migration.sql""#,
                "*/migration.sql",
            ),
            (r#""migrations_dir": "./db/", "migrations_pattern": "db/../db//**/*.sql""#, "**/*.sql"),
            (r#""migrations_dir": ".", "migrations_pattern": "./sql/*.sql""#, "sql/*.sql"),
        ] {
            assert_eq!(pattern(database).as_deref(), Ok(expected), "{database}");
        }
        let error = pattern(r#""migrations_pattern": "migrations/*.sql""#).unwrap_err();
        assert!(error.contains("have not set `migrations_dir` for this D1 binding"), "{error}");
        let error = pattern(r#""migrations_dir": "a", "migrations_pattern": "ab/*.sql""#).unwrap_err();
        assert!(error.contains("must start with `a/`"), "{error}");
    }
}
