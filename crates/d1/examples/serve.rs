//! Serves one D1 database on a unix socket, for `benches/d1-choice`: `serve DIR SOCKET`.

use std::path::Path;

use skep_d1::D1Store;
use skep_runtime::Shutdown;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(dir), Some(socket)) = (args.next(), args.next()) else {
        return Err("usage: serve DIR SOCKET".into());
    };
    let database = D1Store::open(Path::new(&dir))?.database("bench")?;
    let (_trigger, shutdown) = Shutdown::new();
    skep_wire::serve_unix(skep_wire::bind_unix(Path::new(&socket))?, database, shutdown).await;
    Ok(())
}
