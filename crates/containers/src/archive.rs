//! Files as the engine takes them: in archives.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};

use crate::engine::{Engine, EngineError, Reply};

/// The longest answer.
const MOST: usize = 1 << 20;

/// An archive of one file, which belongs to root.
pub(crate) fn of_file(path: &str, mode: u32, content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, path, content)?;
    archive.into_inner()
}

impl Engine {
    /// The request that sends an archive.
    pub(crate) fn with_archive(
        &self,
        method: Method,
        target: &str,
        archive: Vec<u8>,
    ) -> Result<Request<Full<Bytes>>, EngineError> {
        let request = Request::builder().method(method).uri(target).header(HOST, "docker");
        let request = request.header(CONTENT_TYPE, "application/x-tar");
        request.body(Full::new(Bytes::from(archive))).map_err(|error| self.absent(error))
    }

    /// Puts what is in an archive into the container at `path`, which may run or not.
    pub(crate) async fn unpack(&self, path: &str, archive: Vec<u8>) -> Result<Reply, EngineError> {
        let request = self.with_archive(Method::PUT, &format!("{path}/archive?path=%2F"), archive)?;
        let response = self.send(request).await?;
        let status: StatusCode = response.status();
        let body = Limited::new(response.into_body(), MOST).collect().await;
        Ok(Reply { status, body: body.map_err(|error| self.absent(error))?.to_bytes() })
    }
}
