//! What can be wrong with a folder of assets.

use std::fmt;
use std::path::PathBuf;

/// Why a folder of assets is refused. The texts are wrangler's, where it has one.
#[derive(Debug, thiserror::Error)]
pub enum AssetsError {
    /// The folder is missing.
    #[error(
        "The directory specified by the \"assets.directory\" field in your configuration file does not exist:\n{}",
        .0.display()
    )]
    NoDirectory(PathBuf),
    /// The path is something else than a folder.
    #[error(
        "The path specified by the \"assets.directory\" field in your configuration file doesn't point to a \
         directory:\n{}",
        .0.display()
    )]
    NotADirectory(PathBuf),
    /// A file is larger than [`crate::MAX_FILE_SIZE`].
    #[error(
        "Asset too large.\nCloudflare Workers supports assets with sizes of up to {}. We found a file {} with a \
         size of {}.\nEnsure all assets in your assets directory \"{}\" conform with the Workers maximum size \
         requirement.",
        pretty_bytes(crate::MAX_FILE_SIZE), file.display(), pretty_bytes(*size), dir.display()
    )]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The folder of assets.
        dir: PathBuf,
    },
    /// There are more files than the plan allows.
    #[error(
        "Maximum number of assets exceeded.\nCloudflare Workers supports up to {} assets in a version. We found {} \
         files in the specified assets directory \"{}\".\nEnsure your assets directory contains a maximum of {} \
         files, and that you have specified your assets directory correctly.",
        thousands(*limit), thousands(*found), dir.display(), thousands(*limit)
    )]
    TooMany {
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
        /// The folder of assets.
        dir: PathBuf,
    },
    /// A Pages `_worker.js` would be published; the field is `file` or `directory`.
    #[error(
        "Uploading a Pages _worker.js {0} as an asset.\nThis could expose your private server-side code to the \
         public Internet. Is this intended?\nIf you do not want to upload this {0}, either remove it or add an \
         \".assetsignore\" file, to the root of your asset directory, containing \"_worker.js\" to avoid uploading.\n\
         If you do want to upload this {0}, you can add an empty \".assetsignore\" file, to the root of your asset \
         directory, to hide this error."
    )]
    PagesWorker(&'static str),
    /// `run_worker_first` holds rules that mean nothing.
    #[error("{0}")]
    WorkerFirstRules(String),
    /// `run_worker_first` without a worker.
    #[error(
        "Cannot set run_worker_first without a Worker script.\nPlease remove run_worker_first from your \
         configuration file, or provide a Worker script in your configuration file (`main`)."
    )]
    NoWorker,
    /// A file of a Workers Site is larger than what KV takes.
    #[error(
        "File {0} is too big, it should be under 25 MiB. See https://developers.cloudflare.com/workers/platform/limits#kv-limits"
    )]
    SiteFileTooLarge(String),
    /// The path of such a file is longer than a key may be.
    #[error(
        "The asset path key \"{0}\" exceeds the maximum key size limit of 512. See \
         https://developers.cloudflare.com/workers/platform/limits#kv-limits"
    )]
    SiteKeyTooLong(String),
    /// The disk failed.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// What was being read.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl AssetsError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// A line of `_redirects` or `_headers`, or a file, that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// `_redirects`, `_headers`, or the path of the file that is left out.
    pub file: String,
    /// The line's number, from 1.
    pub line_number: Option<usize>,
    /// The line.
    pub line: Option<String>,
    /// What is wrong with it, in wrangler's words.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        match (&self.line, self.line_number) {
            (Some(line), Some(number)) => write!(f, "\n    at {}:{number} | {line}", self.file),
            (Some(line), None) => write!(f, "\n    at {} | {line}", self.file),
            (None, _) => write!(f, "\n    in {}", self.file),
        }
    }
}

/// `26214400` → `25 MiB`: three significant digits, binary units.
fn pretty_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {}", UNITS.get(unit).unwrap_or(&""))
}

/// `100000` → `100,000`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_read_as_in_wrangler() {
        assert_eq!(pretty_bytes(25 * 1024 * 1024), "25 MiB");
        assert_eq!(pretty_bytes(27_472_691), "26.2 MiB");
        assert_eq!(pretty_bytes(512), "512 B");
        assert_eq!(pretty_bytes(1536), "1.5 KiB");
        assert_eq!(thousands(100_000), "100,000");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(42), "42");
    }
}
