//! Which Durable Objects a namespace has, read from where the engine keeps them: a file for each that was ever called.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use skep_api::StoredObject;

/// Up to `limit` objects after the id `after`, in the order of their ids, and whether there are more. Blocking.
pub fn objects(
    folder: &Path,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<StoredObject>, bool), String> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), false)),
        Err(error) => return Err(format!("{}: {error}", folder.display())),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| format!("{}: {error}", folder.display()))?.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".sqlite")).filter(|id| is_id(id));
        ids.extend(id.filter(|id| after.is_none_or(|after| *id > after)).map(str::to_owned));
    }
    ids.sort_unstable();
    let more = ids.len() > limit;
    ids.truncate(limit);
    let look =
        |id: String| StoredObject { has_stored_data: has_data(&folder.join(format!("{id}.sqlite"))), id };
    Ok((ids.into_iter().map(look).collect(), more))
}

/// 64 hexadecimal digits. The engine's other files are named otherwise.
fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether there is a row in it. What cannot be read is taken for data.
fn has_data(file: &Path) -> bool {
    rows(file).unwrap_or_else(|error| {
        tracing::debug!(file = %file.display(), %error, "a Durable Object cannot be looked into");
        true
    })
}

fn rows(file: &Path) -> rusqlite::Result<bool> {
    let wal = file.with_extension("sqlite-wal");
    // Without a log nobody has it open. To open it as what does not change leaves no files beside it.
    let immutable = if wal.exists() { "" } else { "&immutable=1" };
    let path = percent_encoding::utf8_percent_encode(&file.to_string_lossy(), PATH).to_string();
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("file:{path}?mode=ro{immutable}"), flags)?;
    let mut select = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let tables: Vec<String> = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for table in tables {
        let condition = match table.as_str() {
            // Key 1 is the alarm.
            "_cf_METADATA" => "WHERE key = 1",
            name if name.starts_with("sqlite_") => continue,
            _ => "",
        };
        let sql = format!("SELECT EXISTS(SELECT 1 FROM \"{}\" {condition})", table.replace('"', "\"\""));
        if connection.query_row(&sql, [], |row| row.get(0))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a URI cannot have in a path.
const PATH: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%').add(b'?').add(b'#').add(b' ');

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    #[test]
    fn objects_come_in_the_order_of_their_ids_with_what_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("s-Counter 100%");
        assert_eq!(objects(&folder, None, 10), Ok((vec![], false)));
        std::fs::create_dir(&folder).unwrap();
        let tables = "CREATE TABLE _cf_KV(key, value); CREATE TABLE _cf_METADATA(key, value);
                      CREATE TABLE \"a \"\" table\"(x);";
        for (digit, rows) in [
            ('c', "INSERT INTO _cf_KV VALUES ('k', x'00')"),
            ('a', ""),
            ('b', "INSERT INTO \"a \"\" table\" VALUES (1)"),
            ('d', "INSERT INTO _cf_METADATA VALUES (1, 5)"),
            ('e', "INSERT INTO _cf_METADATA VALUES (2, 5)"),
        ] {
            let c = Connection::open(folder.join(format!("{}.sqlite", id(digit)))).unwrap();
            c.execute_batch(&format!("PRAGMA journal_mode = WAL; {tables} {rows}")).unwrap();
        }
        for other in
            ["metadata.sqlite".to_owned(), format!("{}.1.sqlite", id('a')), format!("{}.facets", id('a'))]
        {
            std::fs::write(folder.join(other), "").unwrap();
        }
        std::fs::write(folder.join(format!("{}.sqlite", id('f'))), "no database, and long enough to see")
            .unwrap();
        let shown = |after: Option<&str>, limit| {
            let (found, more) = objects(&folder, after, limit).unwrap();
            let letters = found.iter().map(|o| (o.id.chars().next().unwrap(), o.has_stored_data));
            (letters.collect::<Vec<_>>(), more)
        };
        let all = vec![('a', false), ('b', true), ('c', true), ('d', true), ('e', false), ('f', true)];
        assert_eq!(shown(None, 10), (all, false));
        assert_eq!(shown(None, 2), (vec![('a', false), ('b', true)], true));
        assert_eq!(shown(Some(&id('e')), 2), (vec![('f', true)], false));
        let left = std::fs::read_dir(&folder).unwrap().count();
        assert_eq!(left, 9, "nothing is left beside them");
    }
}
