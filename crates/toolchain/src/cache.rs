//! The per-user cache: each package unpacked in a folder of its own, complete or not there.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use sha2::{Digest, Sha512};

use crate::ToolchainError;
use crate::npm::pack;
use crate::packages::Package;

/// Written last, into every complete package: the size of [`Package::file`].
const MARKER: &str = ".skep-size";

/// Makes sure that `package` is unpacked at `target`, a folder below `cache`. Of several processes that ask at
/// once, one fetches it.
pub(crate) fn fetch_to(
    cache: &Path,
    npm: &Path,
    package: &Package,
    target: &Path,
) -> Result<(), ToolchainError> {
    if is_complete(package, target) {
        return Ok(());
    }
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |source| ToolchainError::Cache { path, source }
    };
    std::fs::create_dir_all(cache).map_err(unusable(cache))?;
    let lock_path = cache.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
    let lock = lock.map_err(unusable(&lock_path))?;
    lock.lock().map_err(unusable(&lock_path))?;
    if is_complete(package, target) {
        return Ok(());
    }
    let work = tempfile::Builder::new().prefix("fetch-").tempdir_in(cache).map_err(unusable(cache))?;
    let tarball = pack(npm, package, work.path())?;
    check(package, &tarball)?;
    let unpacked = work.path().join("unpacked");
    unpack(package, &tarball, &unpacked).map_err(unusable(&unpacked))?;
    if !is_complete(package, &unpacked) {
        return Err(ToolchainError::Content { package: package.name, file: package.file });
    }
    put_in_place(&unpacked, target).map_err(unusable(target))
}

/// Whether the package is there and nobody has cut it short.
fn is_complete(package: &Package, target: &Path) -> bool {
    let stated = std::fs::read_to_string(target.join(MARKER)).ok().and_then(|text| text.parse::<u64>().ok());
    let found = std::fs::metadata(target.join(package.file)).ok().map(|meta| meta.len());
    stated.is_some() && stated == found
}

fn check(package: &Package, tarball: &Path) -> Result<(), ToolchainError> {
    let hash = || -> io::Result<String> {
        let mut hasher = Sha512::new();
        let mut file = File::open(tarball)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(STANDARD.encode(hasher.finalize())),
                read => hasher.update(&buffer[..read]),
            }
        }
    };
    let got = hash().map_err(|source| ToolchainError::Cache { path: tarball.to_owned(), source })?;
    if got == package.sha512 {
        return Ok(());
    }
    let Package { name, version, sha512, .. } = *package;
    Err(ToolchainError::Hash { package: name, version, expected: sha512, got })
}

fn unpack(package: &Package, tarball: &Path, into: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(tarball)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        // npm puts everything below one folder, mostly called `package`.
        let path: PathBuf = entry.path()?.components().skip(1).collect();
        let plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !plain || !entry.header().entry_type().is_file() {
            continue;
        }
        let path = into.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        entry.unpack(&path)?;
        File::open(&path)?.sync_all()?;
    }
    if let Ok(meta) = std::fs::metadata(into.join(package.file)) {
        std::fs::write(into.join(MARKER), meta.len().to_string())?;
        File::open(into.join(MARKER))?.sync_all()?;
    }
    Ok(())
}

fn put_in_place(unpacked: &Path, target: &Path) -> io::Result<()> {
    if target.exists() {
        // Incomplete: somebody has damaged it.
        std::fs::remove_dir_all(target)?;
    }
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::rename(unpacked, target)?;
    // The rename itself has to outlast a power cut.
    target.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ENGINE: &[u8] = b"#!/bin/sh\necho engine\n";

    /// A tarball with an engine in it, and its hash.
    fn tarball() -> (Vec<u8>, &'static str) {
        let mut tar =
            tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_size(ENGINE.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, "package/bin/workerd", ENGINE).unwrap();
        let bytes = tar.into_inner().unwrap().finish().unwrap();
        let hash = STANDARD.encode(Sha512::digest(&bytes));
        (bytes, Box::leak(hash.into_boxed_str()))
    }

    fn package(sha512: &'static str) -> Package {
        Package { name: "engine", version: "1.0.0", sha512, size: 100, file: "bin/workerd" }
    }

    /// An npm client that does what `script` says. `$into` is the folder for the tarball, `$home` its own.
    fn npm(home: &Path, script: &str) -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let path = home.join(format!("npm{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let find = "while [ $# -gt 0 ]; do [ \"$1\" = --pack-destination ] && into=$2; shift; done";
        let script = format!("#!/bin/sh\nhome={}\n{find}\n{script}\n", home.display());
        // Written by another process: a descriptor open for writing that a fork of another test's thread
        // inherits would make it "busy" when it is to run.
        let write = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
        let written = std::process::Command::new("sh").args(["-c", write]).arg(&path).arg(script).status();
        assert!(written.unwrap().success());
        path
    }

    #[test]
    fn a_package_is_fetched_once_even_by_two_at_a_time_and_again_when_damaged() {
        let home = tempfile::tempdir().unwrap();
        let (bytes, hash) = tarball();
        std::fs::write(home.path().join("t.tgz"), bytes).unwrap();
        let npm = npm(home.path(), "sleep 0.2; echo x >> $home/calls; cp $home/t.tgz $into/");
        let cache = home.path().join("cache");
        let target = cache.join("engine-1.0.0");
        let calls = || std::fs::read_to_string(home.path().join("calls")).unwrap().lines().count();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| fetch_to(&cache, &npm, &package(hash), &target).unwrap());
            }
        });
        assert_eq!(calls(), 1);
        let binary = target.join("bin/workerd");
        assert_eq!(std::fs::read(&binary).unwrap(), ENGINE);
        assert_ne!(std::fs::metadata(&binary).unwrap().permissions().mode() & 0o100, 0);

        std::fs::write(&binary, "cut").unwrap();
        fetch_to(&cache, &npm, &package(hash), &target).unwrap();
        assert_eq!(calls(), 2);
        assert_eq!(std::fs::read(&binary).unwrap(), ENGINE);
    }

    #[test]
    fn another_package_than_expected_is_thrown_away() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("t.tgz"), tarball().0).unwrap();
        let npm = npm(home.path(), "cp $home/t.tgz $into/");
        let cache = home.path().join("cache");
        let error = fetch_to(&cache, &npm, &package("wrong"), &cache.join("e")).unwrap_err();
        assert!(matches!(error, ToolchainError::Hash { .. }), "{error}");
        let left: Vec<_> = std::fs::read_dir(&cache).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"]);
    }

    #[test]
    fn what_npm_complains_of_is_passed_on() {
        let home = tempfile::tempdir().unwrap();
        let failing = npm(home.path(), "echo 'npm error code ENOTFOUND' >&2; exit 1");
        let error = fetch_to(home.path(), &failing, &package("x"), &home.path().join("e")).unwrap_err();
        assert!(error.to_string().contains("ENOTFOUND"), "{error}");
        let error = fetch_to(home.path(), Path::new("/nowhere/npm"), &package("x"), &home.path().join("e"));
        assert!(matches!(error, Err(ToolchainError::NoNpm { .. })));
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_named() {
        let home = tempfile::tempdir().unwrap();
        let cache = home.path().join("file");
        std::fs::write(&cache, "in the way").unwrap();
        let error = fetch_to(&cache, Path::new("npm"), &package("x"), &cache.join("e")).unwrap_err();
        assert!(error.to_string().contains("SKEP_CACHE names another folder"), "{error}");
    }
}
