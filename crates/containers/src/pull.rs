//! Images from a registry, without Docker's command line and its user's logins.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::{Bytes, BytesMut};
use http::header::HOST;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};

use crate::engine::{Engine, EngineError, Reply};

/// The longest line in which an engine says how far it is.
const MOST: usize = 1 << 20;

impl Engine {
    /// Gets an image from its registry: `host:port/repository:tag` or `host:port/repository@digest`. `login` is a name and a password
    /// there; they are not kept. Docker speaks HTTP without TLS with a registry on 127.0.0.1 only.
    pub async fn pull(&self, image: &str, login: Option<(&str, &str)>) -> Result<(), EngineError> {
        let (repository, tag) = parts(image);
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let path = format!("/images/create?fromImage={}&tag={}", encode(repository), encode(tag));
        let mut request = Request::builder().method(Method::POST).uri(path).header(HOST, "docker");
        if let Some((user, password)) = login {
            let server = repository.split('/').next().unwrap_or_default();
            let login = json!({ "username": user, "password": password, "serveraddress": server });
            request = request.header("x-registry-auth", URL_SAFE.encode(login.to_string()));
        }
        let request = request.body(Full::default()).map_err(|error| self.absent(error))?;
        self.steps(request).await
    }

    /// Asks for something that is done step by step, and waits for the last one.
    pub(crate) async fn steps(&self, request: Request<Full<Bytes>>) -> Result<(), EngineError> {
        let response = self.send(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut last = BytesMut::new();
        // One line for each step; the last one may be an error, whatever the status was.
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| self.absent(error))?.into_data() else { continue };
            for piece in data.split_inclusive(|byte| *byte == b'\n') {
                if last.ends_with(b"\n") || last.len() > MOST {
                    last.clear();
                }
                last.extend_from_slice(piece);
            }
        }
        let said: Json = serde_json::from_slice(&last).unwrap_or_default();
        match said["error"].as_str() {
            Some(message) => {
                Err(EngineError::Refused { status: StatusCode::BAD_GATEWAY, message: message.to_owned() })
            }
            None => Reply { status, body: last.freeze() }.checked().map(drop),
        }
    }
}

impl Engine {
    /// Gives an image, named by `image`, another name: `repository:tag`.
    pub async fn name(&self, image: &str, name: &str) -> Result<(), EngineError> {
        let (repository, tag) = parts(name);
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let path = format!("/images/{image}/tag?repo={}&tag={}", encode(repository), encode(tag));
        self.post(&path, None).await?.checked().map(drop)
    }

    /// Takes a name off an image; the image goes with its last one. `false` if a container has it, and it stays.
    pub async fn unname(&self, name: &str) -> Result<bool, EngineError> {
        let reply = self.delete(&format!("/images/{name}")).await?;
        match reply.status {
            StatusCode::CONFLICT => Ok(false),
            StatusCode::NOT_FOUND => Ok(true),
            _ => reply.checked().map(|_| true),
        }
    }

    /// The names of images in this repository; `*` is what has no `/` in it.
    pub async fn names(&self, repository: &str) -> Result<Vec<String>, EngineError> {
        let filters = json!({ "reference": [repository] }).to_string();
        let filters = utf8_percent_encode(&filters, NON_ALPHANUMERIC).to_string();
        let found = self.get(&format!("/images/json?filters={filters}")).await?.checked()?;
        let names =
            found.as_array().into_iter().flatten().flat_map(|own| own["RepoTags"].as_array()).flatten();
        // An image is listed with all its names.
        let inside = |name: &&str| {
            let own = parts(name).0;
            repository.strip_suffix('*').map_or(own == repository, |start| own.starts_with(start))
        };
        Ok(names.filter_map(Json::as_str).filter(inside).map(str::to_owned).collect())
    }
}

/// The repository, and the tag or the digest.
fn parts(image: &str) -> (&str, &str) {
    if let Some((repository, digest)) = image.split_once('@') {
        return (repository, digest);
    }
    let name = image.rfind('/').map_or(0, |slash| slash + 1);
    match image[name..].rfind(':') {
        Some(colon) => (&image[..name + colon], &image[name + colon + 1..]),
        None => (image, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Address;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    #[test]
    fn an_image_is_a_repository_and_a_tag_or_a_digest() {
        assert_eq!(parts("127.0.0.1:5000/a/b:v1"), ("127.0.0.1:5000/a/b", "v1"));
        assert_eq!(parts("127.0.0.1:5000/a/b"), ("127.0.0.1:5000/a/b", "latest"));
        assert_eq!(parts("h/a@sha256:00"), ("h/a", "sha256:00"));
        assert_eq!(parts("a:1"), ("a", "1"));
    }

    /// What is asked of an engine that says this, and what comes of it.
    async fn pulled(says: &'static str) -> (String, Result<(), EngineError>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let engine = tokio::spawn(async move {
            let version = "{}";
            for body in [version, says] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = vec![0; 4096];
                let length = stream.read(&mut asked).await.unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(body.as_bytes()).await.unwrap();
                asked.truncate(length);
                if body == says {
                    return String::from_utf8(asked).unwrap();
                }
            }
            String::new()
        });
        let client = Engine::at(Address::Unix(path)).await.unwrap();
        let result = client.pull("127.0.0.1:5000/a:1", Some(("me", "secret"))).await;
        (engine.await.unwrap(), result)
    }

    #[tokio::test]
    async fn an_error_in_the_last_line_is_one() {
        let (asked, result) = pulled("{\"status\":\"Pulling\"}\r\n{\"status\":\"Done\"}\r\n").await;
        result.unwrap();
        assert!(
            asked.starts_with("POST /images/create?fromImage=127%2E0%2E0%2E1%3A5000%2Fa&tag=1 "),
            "{asked}"
        );
        let login = asked.lines().find_map(|line| line.strip_prefix("x-registry-auth: ")).unwrap();
        let login: Json = serde_json::from_slice(&URL_SAFE.decode(login).unwrap()).unwrap();
        assert_eq!(
            login,
            json!({ "username": "me", "password": "secret", "serveraddress": "127.0.0.1:5000" })
        );
        let (_, result) = pulled("{\"status\":\"Pulling\"}\r\n{\"error\":\"manifest unknown\"}\r\n").await;
        assert!(result.unwrap_err().to_string().contains("manifest unknown"));
    }
}
