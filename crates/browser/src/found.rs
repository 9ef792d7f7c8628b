//! Browsers that are installed on this machine.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Names on the `PATH`, those with a name of their own for what is wanted first.
const NAMES: [&str; 6] = [
    "chrome-headless-shell",
    "google-chrome-stable",
    "google-chrome",
    "chromium",
    "chromium-browser",
    "chrome",
];

/// Where it is on a Mac.
const MAC: &str = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome";

/// The first browser of the Chrome family on `path`, a list of folders as in the variable `PATH`.
pub fn installed(path: Option<&OsStr>) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = path.map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
    let named = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    named.chain([PathBuf::from(MAC)]).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_program_by_name_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        for (folder, name, mode) in [
            (&one, "chromium", 0o755),
            (&two, "google-chrome", 0o755),
            (&one, "chrome-headless-shell", 0o644),
        ] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join(name), "").unwrap();
            std::fs::set_permissions(folder.join(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths([&one, &two]).unwrap();
        // Root may not execute either what nobody may.
        assert_eq!(installed(Some(&path)), Some(two.join("google-chrome")));
        assert_eq!(installed(Some(one.as_os_str())), Some(one.join("chromium")));
    }
}
