//! Chrome DevTools: one port for the developer, while cells and their own ports come and go.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use skep_fleet::Worker;
use skep_runtime::Shutdown;
use tokio::net::{TcpListener, TcpStream};

/// Passes DevTools connections on to the inspector of the cell that runs at that moment.
pub async fn serve(listener: TcpListener, worker: Arc<Worker>, shutdown: Shutdown) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((mut devtools, _)) = accepted else {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        let (worker, shutdown) = (worker.clone(), shutdown.clone());
        tokio::spawn(async move {
            let Some(port) = worker.current().and_then(|cell| cell.inspector_port()) else { return };
            let Ok(mut cell) = TcpStream::connect((IpAddr::V4(Ipv4Addr::LOCALHOST), port)).await else {
                return;
            };
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut devtools, &mut cell) => {}
                () = shutdown.requested() => {}
            }
        });
    }
}

/// The address that opens DevTools on the worker behind `port`.
pub fn devtools_url(port: u16) -> String {
    // The engine's inspector has one path per service; the application's is `user`.
    format!("https://devtools.devprod.cloudflare.dev/js_app?theme=systemPreferred&ws=127.0.0.1:{port}/user")
}
