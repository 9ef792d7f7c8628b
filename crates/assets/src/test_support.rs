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
    let response = assets.serve(&request(method, uri, headers)).await;
    let (parts, body) = response.into_parts();
    Got {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: read_all(body, 64 << 20).await.unwrap(),
    }
}

pub(crate) async fn get(assets: &Arc<Assets>, uri: &str, headers: &[(&'static str, &str)]) -> Got {
    ask(assets, "GET", uri, headers).await
}

pub(crate) const PAGE: &str = "<!doctype html><title>a page long enough to be worth compressing</title><p>words words words words words \
                    words words words words words words words words words words words words words words words words";
