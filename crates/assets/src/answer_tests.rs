//! Answers of Cloudflare's own router and asset workers to random `_redirects`, `_headers`, files and requests, one
//! set a line: each file's content and hash are `H<n>`, its place in the list.

use std::collections::BTreeMap;
use std::fs;

use http::HeaderMap;
use serde::Deserialize;
use skep_wire::{Service as _, empty, read_all};

use crate::{AssetEntry, Assets, AssetsBinding, AssetsConfig, Decision, HtmlHandling, NotFoundHandling};

#[derive(Deserialize)]
struct Case {
    redirects: String,
    headers: String,
    html: HtmlHandling,
    not_found: NotFoundHandling,
    files: Vec<String>,
    warnings: Vec<String>,
    /// Method, path and query, status, body, headers, whether the assets take it before a worker.
    asks: Vec<(String, String, u16, String, Vec<String>, bool)>,
}

#[tokio::test]
async fn random_sites_answer_as_cloudflares_do() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..20 {
        fs::write(dir.path().join(format!("H{n}")), format!("H{n}")).unwrap();
    }
    for line in include_str!("answer_vectors.jsonl").lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        let entry = |(path, hash): (&String, String)| AssetEntry {
            path: path.clone(),
            file: dir.path().join(&hash),
            size: hash.len() as u64,
            hash,
            content_type: Some("text/plain".to_owned()),
        };
        let entries = case.files.iter().zip((0..).map(|n| format!("H{n}"))).map(entry).collect();
        let config = AssetsConfig {
            html_handling: case.html,
            not_found_handling: case.not_found,
            has_worker: true,
            ..AssetsConfig::default()
        };
        let (assets, warnings) =
            Assets::from_entries(entries, &case.redirects, &case.headers, config).unwrap();
        // A rule that can never match is silently dropped there; here it is named.
        let ours = |message: &String| message.starts_with("A placeholder occurs twice");
        let warnings: Vec<String> = warnings.into_iter().map(|w| w.message).filter(|m| !ours(m)).collect();
        assert_eq!(warnings, case.warnings, "{line}");
        for (method, path, status, body, headers, fetchable) in case.asks {
            let uri = format!("https://example.com{path}");
            let request = http::Request::builder().method(method.as_str()).uri(uri).body(empty()).unwrap();
            let (parts, nothing) = request.into_parts();
            let to_worker = matches!(assets.route(&parts), Decision::Worker);
            assert_eq!(to_worker, !fetchable, "{method} {path} of {line}");
            let request = http::Request::from_parts(parts, nothing);
            let (head, got) = AssetsBinding(assets.clone()).call(request).await.into_parts();
            assert_eq!(head.status, status, "{method} {path} of {line}");
            assert_eq!(lines(&head.headers), headers, "{method} {path} of {line}");
            assert_eq!(read_all(got, 1000).await.unwrap(), body, "{method} {path} of {line}");
        }
    }
}

/// Sorted, several values of one name joined; without what we have and Cloudflare has not.
fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut joined: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| *name != "accept-ranges") {
        joined.entry(name.as_str()).or_default().push(value.to_str().unwrap());
    }
    joined.into_iter().map(|(name, values)| format!("{name}: {}", values.join(", "))).collect()
}
