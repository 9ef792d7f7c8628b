//! Workers Sites: files in a KV namespace, which came before static assets.
//! <https://developers.cloudflare.com/workers/configuration/sites/>

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use twox_hash::XxHash64;

use crate::config::MAX_FILE_SIZE;
use crate::error::AssetsError;

/// The longest key that KV takes, in bytes.
const MAX_KEY: usize = 512;

/// A file of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteFile {
    /// Where it is.
    pub file: PathBuf,
    /// Its key in the namespace, which names its content: what has changed has another one.
    pub key: String,
    /// Bytes.
    pub size: u64,
}

/// The files of the site in `bucket` by their paths, as wrangler takes and names them. `include` and `exclude` are
/// patterns of a `.gitignore`. Links to folders are not followed. Blocking: every file is read.
pub fn site_files(
    bucket: &Path,
    include: &[String],
    exclude: &[String],
) -> Result<BTreeMap<String, SiteFile>, AssetsError> {
    match fs::metadata(bucket) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(AssetsError::NotADirectory(bucket.to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(AssetsError::NoDirectory(bucket.to_owned()));
        }
        Err(error) => return Err(AssetsError::io(bucket)(error)),
    }
    let (included, excluded) = (patterns(include)?, patterns(exclude)?);
    let mut files = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let disk = bucket.join(&folder);
        for entry in fs::read_dir(&disk).map_err(AssetsError::io(&disk))? {
            let entry = entry.map_err(AssetsError::io(&disk))?;
            let name = entry.file_name();
            if is_left_out(&name.to_string_lossy()) {
                continue;
            }
            let relative = folder.join(&name);
            if entry.file_type().map_err(AssetsError::io(entry.path()))?.is_dir() {
                folders.push(relative);
                continue;
            }
            let matches = |rules: &Gitignore| rules.matched_path_or_any_parents(&relative, false).is_ignore();
            if (include.is_empty() || matches(&included)) && !matches(&excluded) && entry.path().is_file() {
                let path = relative.to_string_lossy().into_owned();
                let file = site_file(&path, entry.path())?;
                files.insert(path, file);
            }
        }
    }
    Ok(files)
}

/// wrangler takes no dependencies and nothing hidden.
fn is_left_out(name: &str) -> bool {
    name == "node_modules" || (name.starts_with('.') && name != ".well-known")
}

fn patterns(lines: &[String]) -> Result<Gitignore, AssetsError> {
    let wrong = |error: ignore::Error| AssetsError::io("site")(std::io::Error::other(error));
    let mut builder = GitignoreBuilder::new("");
    builder.case_insensitive(true).map_err(wrong)?;
    for line in lines {
        builder.add_line(None, line).map_err(wrong)?;
    }
    builder.build().map_err(wrong)
}

fn site_file(path: &str, file: PathBuf) -> Result<SiteFile, AssetsError> {
    let content = fs::read(&file).map_err(AssetsError::io(&file))?;
    let size = content.len() as u64;
    if size > MAX_FILE_SIZE {
        return Err(AssetsError::SiteFileTooLarge(path.to_owned()));
    }
    let key = key(path, &content);
    match key.len() > MAX_KEY {
        true => Err(AssetsError::SiteKeyTooLong(key)),
        false => Ok(SiteFile { file, key, size }),
    }
}

/// `folder/name.HASH.ending`: ten digits of the xxHash64 of the content in base64.
fn key(path: &str, content: &[u8]) -> String {
    let hash = format!("{:016x}", XxHash64::oneshot(0, BASE64.encode(content).as_bytes()));
    let hash = hash.get(..10).unwrap_or(&hash);
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
    // As Node.js does it: a dot at the start begins no ending.
    let stem = name.rfind('.').filter(|at| *at > 0).unwrap_or(name.len());
    let (stem, ending) = name.split_at(stem);
    match folder {
        "" => format!("{stem}.{hash}{ending}"),
        folder => format!("{folder}/{stem}.{hash}{ending}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::folder;

    fn paths(dir: &Path, include: &[&str], exclude: &[&str]) -> Vec<String> {
        let owned = |list: &[&str]| list.iter().map(|own| (*own).to_owned()).collect::<Vec<_>>();
        site_files(dir, &owned(include), &owned(exclude)).unwrap().into_keys().collect()
    }

    #[test]
    fn keys_are_those_that_wrangler_makes() {
        // Recorded from wrangler 4.164.
        assert_eq!(key("index.html", b"<h1>Hello</h1>\n"), "index.41835f6b9f.html");
    }

    #[test]
    fn an_ending_is_what_nodejs_takes_for_one() {
        let parts = |path| {
            let key = key(path, b"");
            key.replace("ef46db3751", "#")
        };
        assert_eq!(parts("a/b.tar.gz"), "a/b.tar.#.gz");
        assert_eq!(parts("LICENSE"), "LICENSE.#");
        assert_eq!(parts(".well-known/.x"), ".well-known/.x.#");
        assert_eq!(parts("a.d/b"), "a.d/b.#");
    }

    #[test]
    fn nothing_hidden_is_taken_and_patterns_choose() {
        let dir = folder(&[
            ("index.html", ""),
            ("img/a.png", ""),
            ("img/b.PNG", ""),
            (".well-known/x", ""),
            (".git/config", ""),
            (".hidden", ""),
            ("node_modules/x.js", ""),
        ]);
        assert_eq!(paths(dir.path(), &[], &[]), [".well-known/x", "img/a.png", "img/b.PNG", "index.html"]);
        assert_eq!(paths(dir.path(), &["*.png"], &[]), ["img/a.png", "img/b.PNG"]);
        assert_eq!(paths(dir.path(), &["img"], &["img/b*"]), ["img/a.png"]);
        assert_eq!(paths(dir.path(), &[], &["*.html", "img/"]), [".well-known/x"]);
        assert!(matches!(site_files(&dir.path().join("no"), &[], &[]), Err(AssetsError::NoDirectory(_))));
    }
}
