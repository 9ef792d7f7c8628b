//! What is kept of an authority: the account, and a certificate with its key per name.
//!
//! One folder per directory URL, so that certificates of a staging directory are never taken for real ones. Files are
//! complete or not there, and readable by their owner alone.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use instant_acme::AccountCredentials;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

use crate::certificate::Certificate;
use crate::name::HostName;

/// The version of both files.
const FORMAT: u32 = 1;

/// An account's file.
#[derive(Serialize, Deserialize)]
pub(crate) struct AccountFile {
    format: u32,
    /// For people.
    directory: String,
    pub contact: Vec<String>,
    pub credentials: AccountCredentials,
}

#[derive(Serialize, Deserialize)]
struct CertificateFile {
    format: u32,
    name: String,
    /// PEM, the name's own certificate first.
    chain: String,
    /// PEM.
    key: String,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// The folder of one directory URL.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    directory: String,
}

impl Store {
    /// Opens or makes it below `folder`.
    pub fn open(folder: &Path, directory: &Url) -> Result<Self, String> {
        let digest = hex::encode(Sha256::digest(directory.as_str()));
        let host = directory.host_str().unwrap_or_default().trim_matches(['[', ']']).replace(':', "-");
        let this = Self {
            folder: folder.join(format!("{host}-{}", &digest[..8])),
            directory: directory.to_string(),
        };
        let certificates = this.folder.join("certificates");
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&certificates);
        let made = made.and_then(|()| std::fs::set_permissions(folder, Permissions::from_mode(0o700)));
        made.map_err(|e| format!("cannot use {}: {e}", certificates.display()))?;
        Ok(this)
    }

    /// The account, if one was made.
    pub fn account(&self) -> Result<Option<AccountFile>, String> {
        read(&self.account_path())
    }

    /// Keeps an account. Blocking.
    pub fn keep_account(&self, contact: &[String], credentials: AccountCredentials) -> Result<(), String> {
        let directory = self.directory.clone();
        let file = AccountFile { format: FORMAT, directory, contact: contact.to_vec(), credentials };
        write(&self.account_path(), &file)
    }

    /// The authority does not know the account any more.
    pub fn forget_account(&self) -> Result<(), String> {
        remove(&self.account_path())
    }

    /// All certificates. One that cannot be read is left out, and ordered anew.
    pub fn certificates(&self) -> Result<Vec<(HostName, Certificate)>, String> {
        let folder = self.folder.join("certificates");
        let failed = |e: std::io::Error| format!("cannot list {}: {e}", folder.display());
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            // Of a newer Skep: that is not ours to overwrite.
            let Some(file) = read::<CertificateFile>(&path)? else { continue };
            match checked(&file) {
                Ok(found) => all.push(found),
                Err(error) => tracing::warn!(file = %path.display(), error, "a kept certificate is not used"),
            }
        }
        Ok(all)
    }

    /// Keeps a certificate. Blocking.
    pub fn keep(&self, name: &HostName, chain: String, key: String) -> Result<(), String> {
        let file = CertificateFile { format: FORMAT, name: name.to_string(), chain, key };
        write(&self.path(name), &file)
    }

    /// Removes a certificate. Blocking.
    pub fn forget(&self, name: &HostName) -> Result<(), String> {
        remove(&self.path(name))
    }

    fn account_path(&self) -> PathBuf {
        self.folder.join("account.json")
    }

    fn path(&self, name: &HostName) -> PathBuf {
        self.folder.join("certificates").join(format!("{name}.json"))
    }
}

fn checked(file: &CertificateFile) -> Result<(HostName, Certificate), String> {
    let name = HostName::parse(&file.name).ok_or("it has no name")?;
    let certificate = Certificate::read(&name, &file.chain, &file.key)?;
    Ok((name, certificate))
}

/// A file's content; `None` if there is no such file.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let failed = |e: &dyn std::fmt::Display| format!("cannot read {}: {e}", path.display());
    let text = match std::fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|e| failed(&e))?,
    };
    // Errors of JSON say where, not what: no key gets into a log.
    let place = |e: serde_json::Error| failed(&format!("line {}, column {}", e.line(), e.column()));
    let Format { format } = serde_json::from_slice(&text).map_err(place)?;
    if format > FORMAT {
        return Err(failed(&"a newer Skep wrote it"));
    }
    serde_json::from_slice(&text).map(Some).map_err(place)
}

fn write(path: &Path, content: &impl Serialize) -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| format!("cannot write {}: {e}", path.display());
    let text = serde_json::to_vec_pretty(content).map_err(|e| failed(&e))?;
    let new = path.with_extension("json.new");
    remove(&new)?;
    let file = File::options().write(true).create_new(true).mode(0o600).open(&new);
    let written = file.and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
    let renamed = written.and_then(|()| std::fs::rename(&new, path));
    let folder = path.parent().unwrap_or(Path::new("."));
    renamed.and_then(|()| File::open(folder)?.sync_all()).map_err(|e| failed(&e))
}

fn remove(path: &Path) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(format!("cannot remove {}: {e}", path.display())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path, directory: &str) -> Store {
        Store::open(&dir.join("acme"), &Url::parse(directory).unwrap()).unwrap()
    }

    #[test]
    fn a_certificate_is_kept_for_its_owner_alone_and_apart_from_other_directories() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "https://a.example/directory");
        let name = HostName::parse("shop.example").unwrap();
        let made = rcgen::generate_simple_self_signed([name.to_string()]).unwrap();
        store.keep(&name, made.cert.pem(), made.signing_key.serialize_pem()).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&store.path(&name)), mode(&dir.path().join("acme"))), (0o600, 0o700));
        let kept =
            |store: &Store| store.certificates().map(|all| all.into_iter().map(|(name, _)| name).collect());
        assert_eq!(kept(&store), Ok(vec![name.clone()]));
        assert_eq!(kept(&open(dir.path(), "https://a.example/staging")), Ok(vec![]));
        store.forget(&name).unwrap();
        assert_eq!(kept(&store), Ok(vec![]));
    }

    #[test]
    fn a_broken_certificate_is_left_out_and_one_of_a_newer_skep_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "https://a.example/directory");
        let name = HostName::parse("shop.example").unwrap();
        store.keep(&name, "x".into(), "y".into()).unwrap();
        assert!(store.certificates().unwrap().is_empty());
        std::fs::write(store.path(&name), r#"{"format":2,"key":"hidden"}"#).unwrap();
        let error = store.certificates().unwrap_err();
        assert!(error.ends_with("a newer Skep wrote it"), "{error}");
        std::fs::write(store.account_path(), r#"{"format":1,"credentials":"hidden"}"#).unwrap();
        let error = store.account().err().unwrap();
        assert!(error.contains("line 1") && !error.contains("hidden"), "{error}");
    }
}
