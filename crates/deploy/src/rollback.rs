//! Puts an earlier version in force again.

use http::Method;
use serde_json::{Value as Json, json};

use crate::client::Client;
use crate::remote::{NO_SCRIPT, script_path};

/// Gives all requests of `script` to `version`, or to the one that had them before the present one. Returns its id.
/// Data, settings and addresses stay as they are.
pub async fn rollback(
    client: &Client,
    script: &str,
    version: Option<&str>,
    message: &str,
) -> Result<String, String> {
    let path = format!("{}/deployments", script_path(None, script));
    let found = client.find(&path, NO_SCRIPT).await.map_err(|error| error.to_string())?;
    let found = found.ok_or_else(|| format!("there is no Worker \"{script}\" in this account"))?;
    let deployments = found["deployments"].as_array().map(Vec::as_slice).unwrap_or_default();
    let version = match version {
        Some(version) => version.to_owned(),
        None => {
            before(deployments).ok_or_else(|| format!("\"{script}\" has had no other version in force"))?
        }
    };
    let body = json!({
        "strategy": "percentage",
        "versions": [{ "version_id": version, "percentage": 100 }],
        "annotations": { "workers/message": message },
    });
    // The same version twice at 100 % is the same state.
    let call = client.call(Method::POST, &path).json(&body).repeatable();
    call.send().await.map_err(|error| error.to_string())?;
    Ok(version)
}

/// The version that all requests went to before they went to where they go now; deployments come newest first.
fn before(deployments: &[Json]) -> Option<String> {
    let only = |deployment: &Json| match deployment["versions"].as_array().map(Vec::as_slice) {
        Some([only]) => only["version_id"].as_str().map(str::to_owned),
        _ => None,
    };
    let (now, earlier) = deployments.split_first()?;
    earlier.iter().filter_map(only).find(|version| Some(version) != only(now).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_before_is_the_last_other_one_that_had_all_requests() {
        let one = |id: &str| json!({ "versions": [{ "version_id": id, "percentage": 100 }] });
        let two = json!({ "versions": [{ "version_id": "a" }, { "version_id": "b" }] });
        assert_eq!(before(&[one("c"), one("c"), two.clone(), one("b"), one("a")]).as_deref(), Some("b"));
        assert_eq!(before(&[two, one("a")]).as_deref(), Some("a"));
        assert_eq!(before(&[one("a")]), None);
        assert_eq!(before(&[]), None);
    }
}
