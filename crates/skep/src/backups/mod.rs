//! Where backups go that store only what is new: `s3://bucket/prefix`, or `file:///folder`.

mod bucket;
mod commands;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skep_backup::{Folder, Key, Place, Repository};
use skep_deploy::http::Proxies;
use skep_runtime::Shutdown;
use url::Url;

use bucket::Bucket;
pub use commands::{list, restore};

/// Whether an argument names such a place, and not a file.
pub fn is_place(text: &str) -> bool {
    ["s3:", "file:"].iter().any(|scheme| text.starts_with(scheme))
}

/// Where backups are, and what they are encrypted with.
#[derive(Clone, Serialize, Deserialize)]
pub struct Destination {
    at: At,
    /// The file with the key, by its absolute path.
    key: Option<PathBuf>,
}

/// A place, with what is needed to get there.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum At {
    /// A folder, by its absolute path.
    Folder(PathBuf),
    /// A part of a bucket.
    Bucket(Bucket),
}

impl Destination {
    /// What `text` names. Keys, region and server of a bucket are those of the environment, under the names by which the AWS tools know
    /// them; `?region=` and `?endpoint=` go first. `key` is the file with the key that backups are encrypted with.
    pub fn parse(
        text: &str,
        key: Option<&Path>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let expected = "expected s3://BUCKET/PREFIX or file:///FOLDER";
        let url = Url::parse(text).map_err(|e| format!("{text}: {e}; {expected}"))?;
        let at = match url.scheme() {
            "s3" => Bucket::parse(&url, env).map(At::Bucket).map_err(|e| format!("{text}: {e}"))?,
            "file" => match url.to_file_path() {
                Ok(path) if path != Path::new("/") => At::Folder(path),
                _ => return Err(format!("{text}: {expected}")),
            },
            _ => return Err(format!("{text}: {expected}")),
        };
        let key = key.map(|file| std::path::absolute(file).unwrap_or_else(|_| file.to_owned()));
        // Said before anything begins.
        key.as_deref().map(Key::read).transpose()?;
        Ok(Self { at, key })
    }

    /// An error if the place is in the folder that is backed up: it would be in its own backups.
    pub fn is_outside(&self, data: &Path) -> Result<(), String> {
        let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match &self.at {
            At::Folder(path) if real(path).starts_with(real(data)) || path.starts_with(data) => Err(format!(
                "{} is in {}, which is backed up: name a folder elsewhere",
                path.display(),
                data.display()
            )),
            _ => Ok(()),
        }
    }

    /// The backups there, until `shutdown`: then whatever is under way is given up. Must be called inside a tokio runtime, which does what
    /// the place is asked for.
    pub fn open(&self, shutdown: &Shutdown) -> Result<Repository, String> {
        let key = self.key.as_deref().map(Key::read).transpose()?;
        let place: Arc<dyn Place> = match &self.at {
            At::Folder(path) => Arc::new(Folder::new(path.clone())),
            At::Bucket(bucket) => {
                let proxies = Proxies::from_env(|name| std::env::var(name).ok())?;
                Arc::new(bucket.open(proxies, tokio::runtime::Handle::current(), shutdown.clone())?)
            }
        };
        let shutdown = shutdown.clone();
        Ok(Repository::new(place, key).until(move || shutdown.is_requested()))
    }

    /// What it is called in messages.
    pub fn shown(&self) -> String {
        match &self.at {
            At::Folder(path) => path.display().to_string(),
            At::Bucket(bucket) => bucket.shown(),
        }
    }
}

/// As [`Destination::parse`], with this process's environment.
pub fn parse(text: &str, key: Option<&Path>) -> Result<Destination, String> {
    Destination::parse(text, key, |name| std::env::var(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, env: &[(&str, &str)]) -> Result<Destination, String> {
        let value = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Destination::parse(text, None, value)
    }

    #[test]
    fn a_place_is_a_bucket_or_a_folder() {
        let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        let shown = |text: &str| parse(text, &keys).map(|place| place.shown());
        assert_eq!(shown("s3://bucket").as_deref(), Ok("s3://bucket"));
        assert_eq!(shown("s3://bucket/a/b/").as_deref(), Ok("s3://bucket/a/b"));
        assert_eq!(shown("file:///mnt/backups").as_deref(), Ok("/mnt/backups"));
        for wrong in ["backup.tar", "s3:///x", "file:///", "file://host/x", "https://x/y", "s3://b/p?other=1"]
        {
            let error = shown(wrong).unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
        let error = parse("s3://bucket", &keys[..1]).map(drop).unwrap_err();
        assert!(error.contains("AWS_SECRET_ACCESS_KEY"), "{error}");
        assert!(is_place("s3://x") && is_place("file:///x") && !is_place("s3.tar") && !is_place("-"));
    }
}
