//! Which files of a folder are assets.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::config::MAX_FILE_SIZE;
use crate::error::{AssetsError, Warning};

/// Files that say how to serve the others; at the root of the folder they are never served.
const META_FILES: [&str; 3] = [".assetsignore", "_redirects", "_headers"];

/// What tells that a file has changed, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) size: u64,
    /// Seconds and nanoseconds.
    pub(crate) modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }
}

/// A file that is an asset.
#[derive(Debug)]
pub(crate) struct Found {
    /// `/` and the path below the folder.
    pub(crate) name: String,
    pub(crate) disk: PathBuf,
    pub(crate) stamp: Stamp,
}

/// Lists the assets of `dir`. Symbolic links to files are followed, those to folders are not, as in wrangler.
pub(crate) fn walk(dir: &Path, max_files: usize) -> Result<(Vec<Found>, Vec<Warning>), AssetsError> {
    match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(AssetsError::NoDirectory(dir.to_owned()));
        }
        Err(error) => return Err(AssetsError::io(dir)(error)),
        Ok(metadata) if !metadata.is_dir() => return Err(AssetsError::NotADirectory(dir.to_owned())),
        Ok(_) => {}
    }
    let ignored = Ignored::read(dir)?;
    let mut walker = Walker { dir, ignored, found: Vec::new(), warnings: Vec::new() };
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        walker.folder(&folder, &mut folders)?;
    }
    if walker.found.len() > max_files {
        return Err(AssetsError::TooMany {
            found: walker.found.len(),
            limit: max_files,
            dir: dir.to_owned(),
        });
    }
    Ok((walker.found, walker.warnings))
}

struct Walker<'a> {
    dir: &'a Path,
    ignored: Ignored,
    found: Vec<Found>,
    warnings: Vec<Warning>,
}

impl Walker<'_> {
    fn folder(&mut self, folder: &Path, folders: &mut Vec<PathBuf>) -> Result<(), AssetsError> {
        let disk = self.dir.join(folder);
        let entries = match fs::read_dir(&disk) {
            // Removed while we walk.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(AssetsError::io(&disk))?,
        };
        for entry in entries {
            let entry = entry.map_err(AssetsError::io(&disk))?;
            let kind = entry.file_type().map_err(AssetsError::io(entry.path()))?;
            let relative = folder.join(entry.file_name());
            if self.ignored.matches(&relative, kind.is_dir()) {
                continue;
            }
            if kind.is_dir() {
                folders.push(relative);
            } else {
                self.file(&relative)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, relative: &Path) -> Result<(), AssetsError> {
        let disk = self.dir.join(relative);
        let metadata = match fs::metadata(&disk) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(AssetsError::io(&disk))?,
        };
        if !metadata.is_file() {
            return Ok(());
        }
        let Some(text) = relative.to_str() else {
            self.warnings.push(Warning {
                file: relative.to_string_lossy().into_owned(),
                line_number: None,
                line: None,
                message: "The file's name is not UTF-8, so that no URL can name it.".to_owned(),
            });
            return Ok(());
        };
        if !self.ignored.has_file && text.starts_with("_worker.js") {
            return Err(AssetsError::PagesWorker(if text == "_worker.js" { "file" } else { "directory" }));
        }
        if metadata.len() > MAX_FILE_SIZE {
            return Err(AssetsError::TooLarge { file: disk, size: metadata.len(), dir: self.dir.to_owned() });
        }
        self.found.push(Found { name: format!("/{text}"), disk, stamp: Stamp::of(&metadata) });
        Ok(())
    }
}

/// `.assetsignore`: gitignore's syntax, letter case ignored.
struct Ignored {
    rules: Gitignore,
    /// Whether there is a `.assetsignore`, even an empty one.
    has_file: bool,
}

impl Ignored {
    fn read(dir: &Path) -> Result<Self, AssetsError> {
        let path = dir.join(".assetsignore");
        let (text, has_file) = match fs::read(&path) {
            Ok(bytes) => (String::from_utf8_lossy(&bytes).into_owned(), true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (String::new(), false),
            Err(error) => return Err(AssetsError::io(path)(error)),
        };
        let wrong = |error: ignore::Error| AssetsError::io(&path)(io::Error::other(error));
        let mut builder = GitignoreBuilder::new("");
        builder.case_insensitive(true).map_err(wrong)?;
        for line in text.split('\n') {
            // A pattern that means nothing ignores nothing, as in git.
            if let Err(error) = builder.add_line(None, line.trim_end_matches('\r')) {
                tracing::warn!(%error, line, ".assetsignore: the line is left out");
            }
        }
        Ok(Self { rules: builder.build().map_err(wrong)?, has_file })
    }

    fn matches(&self, relative: &Path, is_dir: bool) -> bool {
        let meta = META_FILES
            .iter()
            .any(|name| relative.to_str().is_some_and(|relative| relative.eq_ignore_ascii_case(name)));
        (meta && !is_dir) || self.rules.matched_path_or_any_parents(relative, is_dir).is_ignore()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::folder;

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let mut names: Vec<String> = walk(dir.path(), 100).unwrap().0.into_iter().map(|f| f.name).collect();
        names.sort();
        names
    }

    #[test]
    fn everything_is_an_asset_but_the_files_about_assets() {
        let dir = folder(&[
            ("index.html", ""),
            (".well-known/x", ""),
            ("a/_headers", ""),
            ("_headers", ""),
            ("_redirects", ""),
            (".assetsignore", "!_headers"),
        ]);
        assert_eq!(names(&dir), ["/.well-known/x", "/a/_headers", "/index.html"]);
    }

    #[test]
    fn assetsignore_is_a_gitignore() {
        let dir = folder(&[
            (".assetsignore", "# comment\r\n*.map\r\nnode_modules/\n/only-root.txt\n!keep.map\nSECRET\n"),
            ("a.js.map", ""),
            ("keep.map", ""),
            ("node_modules/x/y.js", ""),
            ("b/only-root.txt", ""),
            ("only-root.txt", ""),
            ("secret", ""),
        ]);
        assert_eq!(names(&dir), ["/b/only-root.txt", "/keep.map"]);
    }

    #[test]
    fn a_pages_worker_is_refused_unless_there_is_an_assetsignore() {
        let error = |dir: &tempfile::TempDir| walk(dir.path(), 100).unwrap_err().to_string();
        assert!(
            error(&folder(&[("_worker.js", "")]))
                .starts_with("Uploading a Pages _worker.js file as an asset.")
        );
        assert!(error(&folder(&[("_worker.js/index.js", "")])).contains("_worker.js directory"));
        assert_eq!(names(&folder(&[("_worker.js", ""), (".assetsignore", "")])), ["/_worker.js"]);
        assert_eq!(names(&folder(&[("_worker.js", ""), (".assetsignore", "_worker.js")])), [""; 0]);
    }

    #[test]
    fn limits_are_cloudflares() {
        let dir = folder(&[("a", ""), ("b", "")]);
        let error = walk(dir.path(), 1).unwrap_err().to_string();
        assert!(error.contains("supports up to 1 assets in a version. We found 2 files"), "{error}");
        let big = folder(&[("big", "")]);
        fs::File::options()
            .write(true)
            .open(big.path().join("big"))
            .unwrap()
            .set_len(MAX_FILE_SIZE + 1)
            .unwrap();
        let error = walk(big.path(), 10).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "Asset too large.\nCloudflare Workers supports assets with sizes of up to 25 MiB."
            )
        );
        assert!(matches!(walk(Path::new("/no/such/folder"), 1), Err(AssetsError::NoDirectory(_))));
        assert!(matches!(walk(&big.path().join("big"), 1), Err(AssetsError::NotADirectory(_))));
    }

    #[test]
    fn links_to_files_are_followed_and_links_to_folders_are_not() {
        let outside = folder(&[("x.txt", "x")]);
        let dir = folder(&[("a.txt", "a")]);
        std::os::unix::fs::symlink(outside.path().join("x.txt"), dir.path().join("link.txt")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("linked")).unwrap();
        assert_eq!(names(&dir), ["/a.txt", "/link.txt"]);
    }
}
