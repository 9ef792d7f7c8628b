//! The registry's side, for a Podman that really pushes.

use std::collections::HashMap;

use base64::Engine as _;

use super::cloudflare::PASSWORD;
use crate::harness::recorder::Recorded;
use crate::harness::standin::Says;

/// In hex.
pub fn sha256(content: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, content);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a registry needs so that one image can be pushed to it.
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#push>
pub fn registry(contents: &mut HashMap<String, Vec<u8>>, request: &Recorded) -> Says {
    let login = base64::engine::general_purpose::STANDARD.encode(format!("v1:{PASSWORD}"));
    if request.header("authorization") != format!("Basic {login}") {
        return (401, vec![("www-authenticate".into(), "Basic realm=\"images\"".into())], Vec::new());
    }
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let last = path.rsplit('/').next().unwrap();
    let told = |digest: &str| vec![("docker-content-digest".to_owned(), digest.to_owned())];
    match request.method.as_str() {
        "GET" if path == "/v2/" => (200, Vec::new(), Vec::new()),
        "GET" | "HEAD" => match contents.get(last) {
            Some(content) => (200, told(&format!("sha256:{}", sha256(content))), content.clone()),
            None => (404, Vec::new(), Vec::new()),
        },
        "POST" => (202, vec![("location".into(), format!("{path}one"))], Vec::new()),
        "PATCH" => {
            contents.insert("sent".into(), request.body.clone());
            (202, vec![("location".into(), path.to_owned())], Vec::new())
        }
        "PUT" if path.contains("/manifests/") => {
            let digest = format!("sha256:{}", sha256(&request.body));
            contents.insert(digest.clone(), request.body.clone());
            contents.insert(last.to_owned(), request.body.clone());
            (201, told(&digest), Vec::new())
        }
        "PUT" => {
            let digest =
                query.split('&').find_map(|pair| pair.strip_prefix("digest=")).unwrap().replace("%3A", ":");
            let content = contents.remove("sent").unwrap_or_default();
            assert_eq!(format!("sha256:{}", sha256(&content)), digest);
            contents.insert(digest.clone(), content);
            (201, told(&digest), Vec::new())
        }
        _ => (405, Vec::new(), Vec::new()),
    }
}
