//! Dependencies that a project states and does not have yet.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::error::BundleError;

/// A package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// npm.
    Npm,
    /// pnpm.
    Pnpm,
    /// Yarn.
    Yarn,
    /// Bun.
    Bun,
}

impl Client {
    /// The command that installs exactly what the lock file says.
    pub fn command(self) -> [&'static str; 3] {
        match self {
            Self::Npm => ["npm", "ci", "--no-audit"],
            Self::Pnpm => ["pnpm", "install", "--frozen-lockfile"],
            Self::Yarn => ["yarn", "install", "--frozen-lockfile"],
            Self::Bun => ["bun", "install", "--frozen-lockfile"],
        }
    }
}

/// A project whose dependencies are to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingDependencies {
    /// Where the lock file is.
    pub folder: PathBuf,
    /// The lock file's owner.
    pub client: Client,
}

/// The nearest `package.json` with a lock file at or above `project`, if it has no `node_modules`.
pub fn missing_dependencies(project: &Path) -> Option<MissingDependencies> {
    const LOCKS: [(&str, Client); 5] = [
        ("package-lock.json", Client::Npm),
        ("pnpm-lock.yaml", Client::Pnpm),
        ("yarn.lock", Client::Yarn),
        ("bun.lock", Client::Bun),
        ("bun.lockb", Client::Bun),
    ];
    for folder in project.ancestors() {
        if folder.join("node_modules").exists() {
            return None;
        }
        let lock = LOCKS.iter().find(|(file, _)| folder.join(file).is_file());
        if let (true, Some((_, client))) = (folder.join("package.json").is_file(), lock) {
            return Some(MissingDependencies { folder: folder.to_owned(), client: *client });
        }
    }
    None
}

impl MissingDependencies {
    /// Installs them; the client prints to the terminal.
    pub async fn install(&self) -> Result<(), BundleError> {
        let [program, args @ ..] = self.client.command();
        let said = self.client.command().join(" ");
        let child = Command::new(program).args(args).current_dir(&self.folder).stdin(Stdio::null()).status();
        match child.await {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                Err(BundleError::Install(format!("`{said}` in {} failed ({status})", self.folder.display())))
            }
            Err(error) => Err(BundleError::Install(format!(
                "{} has a lock file of {program}, which cannot be run ({error}): install {program}, or install the \
                 dependencies yourself and try again",
                self.folder.display()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_without_node_modules_asks_for_its_client() {
        let home = tempfile::tempdir().unwrap();
        let project = home.path().join("packages/worker");
        std::fs::create_dir_all(&project).unwrap();
        assert_eq!(missing_dependencies(&project), None);
        std::fs::write(home.path().join("package.json"), "{}").unwrap();
        std::fs::write(home.path().join("pnpm-lock.yaml"), "").unwrap();
        let missing = missing_dependencies(&project).unwrap();
        assert_eq!((missing.client, missing.folder.as_path()), (Client::Pnpm, home.path()));
        std::fs::create_dir(home.path().join("node_modules")).unwrap();
        assert_eq!(missing_dependencies(&project), None);
    }
}
