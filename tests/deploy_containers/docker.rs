//! Docker's side: a program that is called as Docker is.

use std::process::Command;

use super::cloudflare::{ACCOUNT, REGISTRY};

/// A program that takes Docker's commands, writes them down and keeps images as files: `images/NAME` has the image's number,
/// `pushed/NAME` is there once it was pushed.
const DOCKER: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
echo "$@" >> calls
file() { echo "$1" | tr '/:@' '___'; }
case "$1" in
  info|login) cat > last-input-$1; exit 0 ;;
  build)
    text=$(cat)
    if [ -n "$INTERRUPT" ]; then kill -INT $PPID; sleep 0.2; fi
    while [ "$1" != "-t" ]; do shift; done
    printf '%s' "$text" | sha256sum | cut -c1-64 > images/$(file "$2")
    echo "built $2" ;;
  tag) cp images/$(file "$2") images/$(file "$3") ;;
  push) cp images/$(file "$2") pushed/$(cat images/$(file "$2")); echo pushing ;;
  image)
    case "$2" in
      rm) rm images/$(file "$3") ;;
      inspect)
        id=$(cat images/$(file "$3")) || exit 1
        case "$5" in
          *RepoDigests*) if [ -e pushed/$id ]; then name=${3##*/}; echo "[\"REGISTRY/ACCOUNT/${name%%:*}@sha256:$id\"]"; else echo "[]"; fi ;;
          *Size*) echo "${SIZE:-1000000} 3" ;;
          *Id*) echo "sha256:$id" ;;
        esac ;;
    esac ;;
  manifest) echo "{\"Descriptor\":{\"digest\":\"${4##*@}\"}}" ;;
esac
"#;

/// A folder with that program.
pub struct Docker {
    pub dir: tempfile::TempDir,
}

impl Docker {
    pub fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        for folder in ["images", "pushed"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let file = dir.path().join("docker");
        std::fs::write(&file, DOCKER.replace("REGISTRY", REGISTRY).replace("ACCOUNT", ACCOUNT)).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        Self { dir }
    }

    /// The commands that it got since the last time.
    pub fn calls(&self) -> Vec<String> {
        let file = self.dir.path().join("calls");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let _ = std::fs::remove_file(file);
        text.lines().map(str::to_owned).collect()
    }

    /// Makes it the Docker of a command.
    pub fn put_into(&self, command: &mut Command) {
        command.env("WRANGLER_DOCKER_BIN", self.dir.path().join("docker"));
        command.env("CLOUDFLARE_CONTAINER_REGISTRY", REGISTRY);
    }
}
