//! Templates: a folder, or a git repository that is cloned for it.

use std::path::Path;
use std::process::Stdio;

use sha2::{Digest, Sha256};
use skep_assets::MAX_FILE_SIZE;
use skep_deploy::{TemplateFile, TemplateFiles, Templates};

/// Files in all.
const MAX_FILES: usize = 10_000;

/// The files, and the folder that they are in if it is only for now.
pub async fn read(own: &Templates, dir: &Path) -> Result<(TemplateFiles, Option<tempfile::TempDir>), String> {
    let (root, cloned) = match &own.git {
        None => (dir.to_owned(), None),
        Some(url) => {
            let cloned = clone(url, own.branch.as_deref()).await?;
            (cloned.path().to_owned(), Some(cloned))
        }
    };
    let folder = own.dir.as_ref().map_or(root.clone(), |below| root.join(below));
    let inside = folder.canonicalize().map_err(|e| format!("cannot read {}: {e}", folder.display()))?;
    if cloned.is_some() && !inside.starts_with(root.canonicalize().map_err(|e| e.to_string())?) {
        return Err(format!("{} leads out of the repository", folder.display()));
    }
    let mut files = Vec::new();
    walk(&inside, "", &mut files)?;
    files.sort_by(|a: &TemplateFile, b| a.path.cmp(&b.path));
    Ok((TemplateFiles { bucket: own.bucket.clone(), prefix: own.prefix.clone(), files }, cloned))
}

/// The newest state alone. Nothing of the repository is run: no hooks, no submodules, no large-file filters.
async fn clone(url: &str, branch: Option<&str>) -> Result<tempfile::TempDir, String> {
    if url.starts_with('-') || branch.is_some_and(|branch| branch.starts_with('-')) {
        return Err(format!("\"{url}\" is not the URL of a repository"));
    }
    let folder = tempfile::tempdir().map_err(|e| format!("cannot make a folder: {e}"))?;
    let mut git = tokio::process::Command::new("git");
    git.args([
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "protocol.ext.allow=never",
        "clone",
        "--quiet",
        "--depth",
        "1",
    ]);
    if let Some(branch) = branch {
        git.args(["--branch", branch]);
    }
    git.arg("--").arg(url).arg(folder.path()).env("GIT_TERMINAL_PROMPT", "0").env("GIT_LFS_SKIP_SMUDGE", "1");
    let output = git.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(|e| format!("cannot run git, which fetches the templates: {e}"))?;
    match output.status.success() {
        true => Ok(folder),
        false => Err(format!("git clone {url}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Plain files; links are not followed, `.git` is left out.
fn walk(folder: &Path, below: &str, files: &mut Vec<TemplateFile>) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("cannot read {}: {e}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| *name != ".git") else { continue };
        let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        if kind.is_dir() {
            walk(&entry.path(), &path, files)?;
        } else if kind.is_file() {
            files.push(file(path, &entry.path())?);
        }
        if files.len() > MAX_FILES {
            return Err(format!("there are more than {MAX_FILES} templates"));
        }
    }
    Ok(())
}

fn file(path: String, disk: &Path) -> Result<TemplateFile, String> {
    let failed = |e: std::io::Error| format!("cannot read {}: {e}", disk.display());
    let mut hash = Sha256::new();
    let mut content = std::fs::File::open(disk).map_err(failed)?;
    let size = std::io::copy(&mut std::io::Read::take(&mut content, MAX_FILE_SIZE + 1), &mut hash)
        .map_err(failed)?;
    if size > MAX_FILE_SIZE {
        return Err(format!("{} has more than {MAX_FILE_SIZE} bytes", disk.display()));
    }
    Ok(TemplateFile { path, file: disk.to_owned(), size, sha256: hex::encode(hash.finalize()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(folder: &Path, args: &[&str]) {
        let mut git = std::process::Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]);
        let output = git.args(args).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn templates(git: Option<&Path>, dir: Option<&str>) -> Templates {
        let git = git.map(|path| path.to_str().unwrap().to_owned());
        let (dir, bucket) = (dir.map(str::to_owned), "b".to_owned());
        Templates { dir, git, branch: None, bucket, prefix: String::new() }
    }

    #[tokio::test]
    async fn a_repository_is_cloned_and_nothing_outside_of_it_is_read() {
        let (repository, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = repository.path();
        std::fs::create_dir_all(root.join("all/a")).unwrap();
        std::fs::write(root.join("all/a/x.txt"), "x").unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), root.join("all/link.txt")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("out")).unwrap();
        git(root, &["init", "--quiet"]);
        git(root, &["add", "."]);
        git(root, &["commit", "--quiet", "-m", "one"]);

        let (found, _clone) = read(&templates(Some(root), Some("all")), outside.path()).await.unwrap();
        let paths: Vec<&str> = found.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["a/x.txt"], "links are not followed");
        assert_eq!(found.files[0].sha256, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881");
        for (dir, part) in [
            ("out", "leads out of the repository"),
            ("../..", "leads out of the repository"),
            ("none", "cannot read"),
        ] {
            let error = read(&templates(Some(root), Some(dir)), outside.path()).await.err().unwrap();
            assert!(error.contains(part), "{dir}: {error}");
        }
        let error =
            read(&templates(Some(Path::new("--upload-pack=x")), None), outside.path()).await.err().unwrap();
        assert!(error.contains("not the URL"), "{error}");
    }
}
