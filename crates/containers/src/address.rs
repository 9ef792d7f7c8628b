//! Where an engine listens.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// A host and a port, without TLS.
    Tcp(String),
}

/// The variables that name an engine, the first one first: wrangler's own, then Docker's.
const VARIABLES: [&str; 2] = ["WRANGLER_DOCKER_HOST", "DOCKER_HOST"];

impl Address {
    /// Reads `unix:///var/run/docker.sock` or `tcp://host:port`, as `DOCKER_HOST` has them.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix://").or_else(|| text.starts_with('/').then_some(text)) {
            return Ok(Self::Unix(path.into()));
        }
        let host = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://"));
        match host.map(|host| host.trim_end_matches('/')) {
            Some(host) if host.contains(':') && !host.contains('/') => Ok(Self::Tcp(host.to_owned())),
            _ => Err(format!(
                "\"{text}\" is no address of a Docker engine that Skep can use: unix:///path/to/docker.sock, or \
                 tcp://host:port without TLS"
            )),
        }
    }

    /// Where to look for an engine: where a variable says, or else at the usual sockets, in order.
    pub fn candidates(variable: impl Fn(&str) -> Option<OsString>) -> Result<Vec<Self>, String> {
        let named = VARIABLES.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
        if let Some(named) = named {
            return Ok(vec![Self::parse(&named.to_string_lossy())?]);
        }
        let runtime = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
        let home = variable("HOME").map(PathBuf::from);
        let below = |folder: &Option<PathBuf>, name: &str| folder.as_deref().map(|folder| folder.join(name));
        let all = [
            Some(Path::new("/var/run/docker.sock").to_owned()),
            below(&runtime, "docker.sock"),
            below(&home, ".docker/run/docker.sock"),
            below(&home, ".docker/desktop/docker.sock"),
            below(&runtime, "podman/podman.sock"),
            Some(Path::new("/run/podman/podman.sock").to_owned()),
        ];
        Ok(all.into_iter().flatten().map(Self::Unix).collect())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_dockers() {
        assert_eq!(Address::parse("unix:///a b").unwrap(), Address::Unix("/a b".into()));
        assert_eq!(Address::parse("/run/x").unwrap(), Address::Unix("/run/x".into()));
        assert_eq!(Address::parse("tcp://127.0.0.1:2375/").unwrap(), Address::Tcp("127.0.0.1:2375".into()));
        for wrong in ["", "ssh://me@there", "tcp://host", "https://a:1", "npipe:////./pipe/docker_engine"] {
            assert!(Address::parse(wrong).unwrap_err().contains("unix:///"), "{wrong}");
        }
    }

    #[test]
    fn a_variable_is_the_only_place_to_look() {
        let docker = |name: &str| (name == "DOCKER_HOST").then(|| "unix:///d".into());
        assert_eq!(Address::candidates(docker).unwrap(), [Address::Unix("/d".into())]);
        let both = |name: &str| match name {
            "DOCKER_HOST" => Some("unix:///d".into()),
            "WRANGLER_DOCKER_HOST" => Some("unix:///w".into()),
            _ => None,
        };
        assert_eq!(Address::candidates(both).unwrap(), [Address::Unix("/w".into())]);
        assert_eq!(Address::candidates(|_| None).unwrap().len(), 2);
    }
}
