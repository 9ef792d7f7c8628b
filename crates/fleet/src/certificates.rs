//! The certificates by which cells judge servers: the machine's, each once, in one file. The engine reads them at every
//! start, and would read a whole folder beside the file with the same ones.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Say where the machine's certificates are, where somebody moved them.
const FILE: &str = "SSL_CERT_FILE";
const FOLDER: &str = "SSL_CERT_DIR";
/// Where distributions keep them: the first that exists.
const FILES: [&str; 7] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
    "/usr/lib/ssl/cert.pem",
];
const FOLDERS: [&str; 3] = ["/etc/ssl/certs", "/etc/pki/tls/certs", "/usr/lib/ssl/certs"];
/// No bundle is larger.
const MAX_FILE: u64 = 16 << 20;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Where cells find them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificates {
    /// What the engine is told, as variables of its environment.
    pub variables: Vec<(&'static str, OsString)>,
    /// Files and folders that it has to read.
    pub files: Vec<PathBuf>,
}

impl Certificates {
    /// Writes the machine's certificates, as they were when this process first asked, into `folder`. Blocking.
    pub(crate) fn gather(folder: &Path) -> io::Result<Self> {
        static FOUND: OnceLock<String> = OnceLock::new();
        let found = FOUND.get_or_init(|| {
            let (files, folders) = places(std::env::var_os(FILE), std::env::var_os(FOLDER));
            let listed = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok());
            let listed = listed.flat_map(|entries| entries.flatten().map(|entry| entry.path()));
            once(files.into_iter().chain(listed).filter_map(|file| read(&file)))
        });
        if found.is_empty() {
            // What the engine finds by itself.
            let set = [FILE, FOLDER].into_iter();
            let variables: Vec<_> = set.filter_map(|name| Some((name, std::env::var_os(name)?))).collect();
            let files = variables.iter().map(|(_, value)| PathBuf::from(value)).collect();
            return Ok(Self { variables, files });
        }
        let file = folder.join("certificates.pem");
        std::fs::write(&file, found)?;
        Ok(Self { variables: vec![(FILE, file.clone().into())], files: vec![file] })
    }
}

/// Where to look.
fn places(file: Option<OsString>, folder: Option<OsString>) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let first = |paths: &[&str]| paths.iter().map(PathBuf::from).find(|path| path.exists());
    match (&file, &folder) {
        (None, None) => (first(&FILES).into_iter().collect(), first(&FOLDERS).into_iter().collect()),
        _ => (
            file.into_iter().map(PathBuf::from).collect(),
            folder.iter().flat_map(std::env::split_paths).collect(),
        ),
    }
}

fn read(file: &Path) -> Option<String> {
    let metadata = std::fs::metadata(file).ok()?;
    (metadata.is_file() && metadata.len() <= MAX_FILE)
        .then(|| std::fs::read(file).ok())
        .flatten()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The certificates in `texts`, each once.
fn once(texts: impl Iterator<Item = String>) -> String {
    let mut seen = HashSet::new();
    let mut out = String::new();
    for text in texts {
        for rest in text.split(BEGIN).skip(1) {
            let Some((body, _)) = rest.split_once(END) else { continue };
            let body: String = body.split_whitespace().collect();
            if body.is_empty() || seen.contains(&body) {
                continue;
            }
            out.push_str(BEGIN);
            for (n, c) in body.chars().enumerate() {
                if n % 64 == 0 {
                    out.push('\n');
                }
                out.push(c);
            }
            out.push('\n');
            out.push_str(END);
            out.push('\n');
            seen.insert(body);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_is_there_once() {
        let long = "QUJD".repeat(30);
        let a = format!("# A\n{BEGIN}\nQUJD\nREVG\n{END}\ntext\n{BEGIN}\n{long}\n{END}\n");
        let same = format!("{BEGIN}\r\nQUJDREVG\r\n{END}");
        let broken = format!("{BEGIN}\nQUJD");
        let all = once([a, same, broken].into_iter());
        let (first, second) = (&long[..64], &long[64..]);
        assert_eq!(all, format!("{BEGIN}\nQUJDREVG\n{END}\n{BEGIN}\n{first}\n{second}\n{END}\n"));
    }

    #[test]
    fn what_somebody_names_is_all_that_counts() {
        let (files, folders) = places(Some("/a".into()), None);
        assert_eq!((files, folders), (vec![PathBuf::from("/a")], vec![]));
        let (files, folders) = places(None, Some("/b:/c".into()));
        assert_eq!((files, folders), (vec![], vec![PathBuf::from("/b"), PathBuf::from("/c")]));
    }
}
