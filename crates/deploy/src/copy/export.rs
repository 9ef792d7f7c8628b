//! An account into a folder: what other tools read. A file is there when it is whole.

use std::io::Write;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value as Json, json};

use super::{Wanted, d1, files, kv, r2, text, vectorize};
use crate::client::Client;
use crate::deploy::counted;
use crate::resources::encode;

/// Values at once.
const PARALLEL: usize = 8;

/// Writes all that is `wanted` below `dir`:
///
/// * `kv/TITLE.json`: what `wrangler kv bulk put` reads;
/// * `r2/BUCKET/index.ndjson` and a file per object;
/// * `d1/NAME.sql`: what `wrangler d1 execute --file` reads;
/// * `vectorize/NAME.ndjson`: what `wrangler vectorize insert --file` reads; `vectorize/NAME.json` says what the index is;
/// * `worker/NAME/`, `dispatch/NAMESPACE/NAME/`: a project that can be deployed.
///
/// What is there already is left alone, so that the same call goes on after a failure. Returns what a person should know.
pub async fn export(
    from: &Client,
    dir: &Path,
    wanted: &Wanted,
    print: impl Fn(&str),
) -> Result<Vec<String>, String> {
    let told = |name: &str, there: bool, count: u64, one: &str| match there {
        true => print(&format!("{name}: is there already")),
        false => print(&format!("{name}: {}", counted(count, one))),
    };
    if wanted.has_any("kv") {
        for (title, id) in kv::namespaces(from).await.map_err(text)? {
            let name = format!("kv/{title}");
            if wanted.has(&name) {
                let file = dir.join("kv").join(format!("{}.json", file_name(&title)));
                let (there, count) = (file.exists(), namespace(from, &id, &file).await);
                told(&name, there, count.map_err(|e| format!("{name}: {e}"))?, "value");
            }
        }
    }
    if wanted.has_any("r2") {
        for bucket in r2::buckets(from).await.map_err(text)? {
            let name = format!("r2/{bucket}");
            if wanted.has(&name) {
                let folder = dir.join("r2").join(file_name(&bucket));
                let there = folder.join("index.ndjson").exists();
                let count = objects(from, &bucket, &folder, &print).await;
                told(&name, there, count.map_err(|e| format!("{name}: {e}"))?, "object");
            }
        }
    }
    if wanted.has_any("d1") {
        for (database, id) in d1::databases(from).await.map_err(text)? {
            let name = format!("d1/{database}");
            if wanted.has(&name) {
                let file = dir.join("d1").join(format!("{}.sql", file_name(&database)));
                let there = file.exists();
                let bytes = if there {
                    0
                } else {
                    sql(from, &id, &file).await.map_err(|e| format!("{name}: {e}"))?
                };
                told(&name, there, bytes, "byte");
            }
        }
    }
    let mut notes = Vec::new();
    if wanted.has_any("vectorize") {
        match vectorize::indexes(from).await {
            Err(error) => notes.push(format!("vectorize: cannot be read with this token: {error}")),
            Ok(all) => {
                for index in all {
                    let own = index["name"].as_str().unwrap_or_default();
                    let name = format!("vectorize/{own}");
                    if wanted.has(&name) {
                        let file = dir.join("vectorize").join(format!("{}.ndjson", file_name(own)));
                        let (there, count) = (file.exists(), vectors(from, own, &index, &file).await);
                        told(&name, there, count.map_err(|e| format!("{name}: {e}"))?, "vector");
                    }
                }
            }
        }
    }
    notes.extend(files::workers(from, dir, wanted, &print).await?);
    Ok(notes)
}

/// A name as the name of a file: no name leaves the folder or meets another one's.
pub(super) fn file_name(name: &str) -> String {
    let encoded = encode(name).replace('*', "%2A");
    if encoded.starts_with('.') { encoded.replacen('.', "%2E", 1) } else { encoded }
}

/// A file that gets its name once it is whole.
pub(super) struct Whole {
    file: std::io::BufWriter<std::fs::File>,
    path: PathBuf,
    /// Bytes so far.
    size: u64,
}

impl Whole {
    pub(super) fn create(path: &Path) -> Result<Self, String> {
        let part = path.with_extension("part");
        let folder = path.parent().unwrap_or(Path::new("."));
        let made = std::fs::create_dir_all(folder).and_then(|()| std::fs::File::create(&part));
        let file = made.map_err(|e| format!("cannot write {}: {e}", part.display()))?;
        Ok(Self { file: std::io::BufWriter::new(file), path: path.to_owned(), size: 0 })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.file.write_all(bytes).map_err(|e| format!("cannot write {}: {e}", self.path.display()))?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), String> {
        let Self { file, path, .. } = self;
        let failed = |e: std::io::Error| format!("cannot write {}: {e}", path.display());
        let file = file.into_inner().map_err(|e| failed(e.into_error()))?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(path.with_extension("part"), &path).map_err(failed)
    }
}

/// The values of a namespace; how many there were.
async fn namespace(from: &Client, id: &str, file: &Path) -> Result<u64, String> {
    if file.exists() {
        return Ok(0);
    }
    let mut whole = Whole::create(file)?;
    let (mut count, mut cursor) = (0, None::<String>);
    whole.write(b"[")?;
    loop {
        let (keys, next) = kv::keys(from, id, cursor.as_deref()).await.map_err(text)?;
        let values = stream::iter(&keys).map(|key| kv::read(from, id, key)).buffered(PARALLEL);
        let mut values = std::pin::pin!(values);
        while let Some(value) = values.try_next().await.map_err(text)? {
            let Some((entry, _)) = value else { continue };
            let before = if count == 0 { "\n" } else { ",\n" };
            whole.write(format!("{before}{entry}").as_bytes())?;
            count += 1;
        }
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    whole.write(b"\n]\n")?;
    whole.finish()?;
    Ok(count)
}

/// The objects of a bucket, each in a file by its number; how many there were.
async fn objects(from: &Client, bucket: &str, folder: &Path, print: &impl Fn(&str)) -> Result<u64, String> {
    let index = folder.join("index.ndjson");
    if index.exists() {
        return Ok(0);
    }
    let mut whole = Whole::create(&index)?;
    let (mut count, mut cursor) = (0_u64, None::<String>);
    loop {
        let (page, next) = r2::page(from, bucket, cursor.as_deref()).await.map_err(text)?;
        for own in &page {
            let length = own["size"].as_u64().unwrap_or(0);
            if length > r2::MAX_OBJECT {
                let key = own["key"].as_str().unwrap_or_default();
                print(&format!("r2/{bucket}: {key} is too long for this API: export it over the S3 API"));
                continue;
            }
            let name = format!("{:08}.bin", count + 1);
            let path = folder.join(&name);
            let saved = r2::read(from, bucket, own).save(length, || Whole::create(&path), Whole::write).await;
            let Some(object) = r2::if_there(saved).map_err(text)? else { continue };
            count += 1;
            let size = object.size;
            object.finish()?;
            let line: Json = json!({
                "key": own["key"], "file": name, "size": size, "etag": own["etag"],
                "http_metadata": own["http_metadata"], "custom_metadata": own["custom_metadata"],
            });
            whole.write(format!("{line}\n").as_bytes())?;
        }
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    whole.finish()?;
    Ok(count)
}

/// The vectors of an index, a line each; how many there were.
async fn vectors(from: &Client, name: &str, index: &Json, file: &Path) -> Result<u64, String> {
    if file.exists() {
        return Ok(0);
    }
    let properties = vectorize::properties(from, name).await.map_err(text)?;
    let mut about = Whole::create(&file.with_extension("json"))?;
    let what = json!({ "name": name, "config": index["config"], "metadataIndexes": properties });
    about.write(format!("{what}\n").as_bytes())?;
    about.finish()?;
    let mut whole = Whole::create(file)?;
    let (mut count, mut cursor) = (0, None::<String>);
    loop {
        let (ids, next) = vectorize::ids(from, name, cursor.as_deref()).await.map_err(text)?;
        let keep = async |lines: Vec<String>| whole.write(format!("{}\n", lines.join("\n")).as_bytes());
        count += vectorize::vectors(from, name, &ids, keep).await?;
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    whole.finish()?;
    Ok(count)
}

/// A database as SQL; how many bytes it has.
async fn sql(from: &Client, id: &str, file: &Path) -> Result<u64, String> {
    let sql = d1::exported(from, id).await?;
    let mut whole = Whole::create(file)?;
    whole.write(&sql)?;
    whole.finish()?;
    Ok(sql.len() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_name_is_one_file_of_its_folder(name in ".{1,40}", other in ".{1,40}") {
            let file = file_name(&name);
            prop_assert!(!file.contains('/') && !file.starts_with('.') && !file.contains('\0'));
            prop_assert!(name == other || file != file_name(&other));
        }
    }
}
