//! What the tests of whole responses share.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use skep_wire::read_all;

use crate::{Assets, AssetsConfig};

pub(crate) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

pub(crate) fn open(dir: &tempfile::TempDir, config: AssetsConfig) -> Arc<Assets> {
    let (assets, warnings) = Assets::open(dir.path(), config).unwrap();
    assert_eq!(warnings, []);
    assets
}

pub(crate) fn request(method: &str, uri: &str, headers: &[(&'static str, &str)]) -> Parts {
    let mut request = http::Request::builder().method(method).uri(uri).header("host", "example.com");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub(crate) async fn ask(
    assets: &Arc<Assets>,
    method: &str,
    uri: &str,
    headers: &[(&'static str, &str)],
) -> Got {
    let request = request(method, uri, headers);
    let response = assets.serve(&request).await;
    let (parts, body) = response.into_parts();
    let body = read_all(body, 64 << 20).await.unwrap();
    let got = Got { status: parts.status.as_u16(), headers: parts.headers, body };
    if let Some((status, text)) = assets.text(&request, &[b"x-more: 1\r\n"]) {
        assert_eq!(status.as_u16(), got.status);
        assert_is(&text, &got);
    }
    got
}

/// Checks that a message says the same.
fn assert_is(message: &[u8], got: &Got) {
    let at = message.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    assert_eq!(message[at + 4..], got.body);
    let mut lines = std::str::from_utf8(&message[..at]).unwrap().split("\r\n");
    assert!(lines.next().unwrap().starts_with(&format!("HTTP/1.1 {} ", got.status)));
    let mut headers = http::HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    let length = got.body.len().to_string();
    assert_eq!(headers.remove("content-length").unwrap(), length.as_str());
    assert!(headers.remove("date").is_some() && headers.remove("x-more").is_some());
    assert_eq!(headers, got.headers);
}

pub(crate) async fn get(assets: &Arc<Assets>, uri: &str, headers: &[(&'static str, &str)]) -> Got {
    ask(assets, "GET", uri, headers).await
}

pub(crate) const PAGE: &str = "<!doctype html><title>a page long enough to be worth compressing</title><p>words words words words words \
                    words words words words words words words words words words words words words words words words";
