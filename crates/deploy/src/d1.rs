//! SQL migrations over the API, as `wrangler d1 migrations apply --remote` does, into the same table.

use http::Method;
use serde_json::json;

use crate::client::Client;
use crate::error::ApiError;
use crate::resources::encode;

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The names that are applied already; none where the table is not there.
pub(crate) async fn applied(client: &Client, database: &str, table: &str) -> Result<Vec<String>, ApiError> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = ?";
    let there = rows(client, database, json!({ "sql": sql, "params": [table] })).await?;
    if there.is_empty() {
        return Ok(Vec::new());
    }
    rows(client, database, json!({ "sql": format!("SELECT name FROM {} ORDER BY id", quoted(table)) })).await
}

async fn rows(client: &Client, database: &str, body: serde_json::Value) -> Result<Vec<String>, ApiError> {
    let path = format!("{{account}}/d1/database/{}/query", encode(database));
    let answer = client.call(Method::POST, path).json(&body).repeatable().send().await?.result;
    let rows = answer[0]["results"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect())
}

/// Applies one migration: all of it or nothing, with its row in the table.
pub(crate) async fn apply(
    client: &Client,
    database: &str,
    table: &str,
    name: &str,
    text: &str,
) -> Result<(), ApiError> {
    let table = quoted(table);
    let path = format!("{{account}}/d1/database/{}/query", encode(database));
    let make = format!(
        "CREATE TABLE IF NOT EXISTS {table}(\n\tid INTEGER PRIMARY KEY AUTOINCREMENT,\n\tname TEXT UNIQUE,\n\tapplied_at \
         TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL\n);"
    );
    client.call(Method::POST, &path).json(&json!({ "sql": make })).repeatable().send().await?;
    let sql = with_record(text, &table, name);
    client.call(Method::POST, &path).json(&json!({ "sql": sql })).send().await?;
    Ok(())
}

/// The migration's text with the statement that records it.
fn with_record(text: &str, table: &str, name: &str) -> String {
    let text = text.trim_end();
    let end = if text.is_empty() || text.ends_with(';') { "" } else { "\n;" };
    format!("{text}{end}\nINSERT INTO {table} (name)\nvalues ('{}');", name.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_is_recorded_whatever_it_ends_with() {
        let insert = "INSERT INTO \"t\" (name)\nvalues ('a''b.sql');";
        assert_eq!(with_record("SELECT 1;\n\n", "\"t\"", "a'b.sql"), format!("SELECT 1;\n{insert}"));
        assert_eq!(
            with_record("SELECT 1 -- one", "\"t\"", "a'b.sql"),
            format!("SELECT 1 -- one\n;\n{insert}")
        );
        assert_eq!(with_record("", "\"t\"", "a'b.sql"), format!("\n{insert}"));
    }
}
