//! Chrome DevTools: one port for the developer, while cells and their own ports come and go.

mod admission;
mod sources;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use skep_fleet::Worker;
use skep_runtime::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use admission::{Asked, Refusal, read};
pub use sources::Sources;

/// How long a connection may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(30);
/// The head of a request is shorter.
const MAX_HEAD: usize = 16 << 10;

/// Passes DevTools connections on to the inspector of the cell that runs at that moment, and answers for source maps.
pub async fn serve(listener: TcpListener, worker: Arc<Worker>, sources: Arc<Sources>, shutdown: Shutdown) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((devtools, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (worker, sources, shutdown) = (worker.clone(), sources.clone(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                // Who hangs up is not answered.
                _ = answer(devtools, &worker, &sources) => {}
                () = shutdown.requested() => {}
            }
        });
    }
}

async fn answer(mut devtools: TcpStream, worker: &Worker, sources: &Sources) -> std::io::Result<()> {
    let Ok(head) = tokio::time::timeout(PATIENCE, head(&mut devtools)).await else { return Ok(()) };
    let head = head?;
    let path = match read(&head) {
        Ok(Asked { path }) => path,
        Err(refusal) => return refuse(devtools, refusal).await,
    };
    if let Some(map) = sources.find(&path) {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Access-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n",
            map.len()
        );
        devtools.write_all(head.as_bytes()).await?;
        devtools.write_all(&map).await?;
        return devtools.shutdown().await;
    }
    // Load may have made several processes: DevTools are of one.
    let _debugged = worker.debugged().await;
    let Some(port) = worker.current().and_then(|cell| cell.inspector_port()) else {
        return refuse(devtools, Refusal::NotThere).await;
    };
    let mut cell = TcpStream::connect((IpAddr::V4(Ipv4Addr::LOCALHOST), port)).await?;
    cell.write_all(&head).await?;
    tokio::io::copy_bidirectional(&mut devtools, &mut cell).await.map(drop)
}

/// What comes first, with the end of the request's head in it.
async fn head(devtools: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(1 << 10);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= MAX_HEAD || devtools.read_buf(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
    }
    Ok(head)
}

async fn refuse(mut devtools: TcpStream, refusal: Refusal) -> std::io::Result<()> {
    let (status, text) = (refusal.status(), refusal.text());
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    devtools.write_all(answer.as_bytes()).await?;
    devtools.shutdown().await
}

/// The address that opens DevTools on the worker behind `port`.
pub fn devtools_url(port: u16) -> String {
    // The engine's inspector has one path per service; the application's is `user`.
    format!("https://devtools.devprod.cloudflare.dev/js_app?theme=systemPreferred&ws=127.0.0.1:{port}/user")
}
