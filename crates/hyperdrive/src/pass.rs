//! A connection of a cell to a database.

use std::sync::Arc;
use std::time::Duration;

use skep_wire::{BoxFuture, Connections, Socket};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::connect::{CONNECT, Judge, connect};
use crate::login::{login, try_query};
use crate::messages::{First, MAX_FIRST, OPTION, fatal, first, let_in, oldest_version, packet};
use crate::slots::Slots;
use crate::tls::{Connectors, Io};
use crate::{Failure, Origin};

/// How long a driver may take to say who it is.
const FIRST: Duration = Duration::from_secs(30);
/// How long a connection waits for one of those that the database may have.
/// <https://developers.cloudflare.com/hyperdrive/platform/limits/>
const WAIT: Duration = Duration::from_secs(15);
/// How long a query of a worker that has gone may go on: as long as Cloudflare lets any.
const LAST: Duration = Duration::from_secs(60);

/// Says which database a configuration is for; the error is for the application.
pub type Find = Arc<dyn Fn() -> Result<Origin, String> + Send + Sync>;

/// Connects to databases.
pub struct Hyperdrive {
    judge: Judge,
    connectors: Connectors,
    slots: Slots,
}

impl Hyperdrive {
    /// Connects to where `judge` lets it.
    pub fn new(judge: Judge) -> Arc<Self> {
        Arc::new(Self { judge, connectors: Connectors::default(), slots: Slots::default() })
    }

    /// Whether a database can be used.
    pub async fn check(&self, origin: &Origin) -> Result<(), Failure> {
        let checked = async {
            let mut stream = self.dial(origin).await?;
            login(&mut stream, origin, &[]).await?;
            try_query(&mut stream).await
        };
        within(checked).await
    }

    /// Forgets what it knows of a configuration.
    pub fn forget(&self, id: &str) {
        self.slots.forget(id);
    }

    async fn dial(&self, origin: &Origin) -> Result<Box<dyn Io>, Failure> {
        let (stream, verdict) = connect(origin, &self.judge).await?;
        self.connectors.secure(stream, verdict, origin).await
    }
}

async fn within<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = |_| Failure::Unreachable(format!("no answer after {} s", CONNECT.as_secs()));
    timeout(CONNECT, work).await.map_err(late)?
}

/// A binding of a cell.
pub struct Binding {
    /// What connects.
    pub hyperdrive: Arc<Hyperdrive>,
    /// Which configuration it is, for all that share its connections.
    pub id: String,
    /// Whose binding it is, for the log.
    pub script: String,
    /// Which database that is now.
    pub find: Find,
}

impl Connections for Binding {
    fn serve(&self, connection: Socket) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let _ = self.pass(connection).await;
        })
    }
}

impl Binding {
    /// Until the connection is over. Errors are of the cell's side alone.
    async fn pass(&self, mut client: Socket) -> std::io::Result<()> {
        let Ok(begun) = timeout(FIRST, self.begin(&mut client)).await else { return Ok(()) };
        let Some((minor, parameters)) = begun? else { return Ok(()) };
        let (mut origin, before, _place) = match self.open(&parameters).await {
            Ok(opened) => opened,
            Err(failure) => {
                tracing::warn!(script = self.script, hyperdrive = self.id, %failure, "a database cannot be used");
                client.write_all(&fatal(failure.sqlstate(), &failure.to_string())).await?;
                return client.shutdown().await;
            }
        };
        let names = parameters.iter().map(|(name, _)| name.as_slice());
        let options: Vec<&[u8]> = names.filter(|name| name.starts_with(OPTION)).collect();
        let mut answer = if minor > 0 || !options.is_empty() { oldest_version(&options) } else { Vec::new() };
        answer.extend(before);
        answer.extend(let_in());
        client.write_all(&answer).await?;
        both_ways(client, &mut origin).await;
        Ok(())
    }

    /// What a driver says of itself; `None` if it wanted something else, which is done.
    async fn begin(&self, client: &mut Socket) -> std::io::Result<Option<Parameters>> {
        loop {
            let length = client.read_u32().await? as usize;
            let Some(length) = length.checked_sub(4).filter(|length| *length <= MAX_FIRST) else {
                return Ok(None);
            };
            let mut body = vec![0; length];
            client.read_exact(&mut body).await?;
            match first(&body) {
                Some(First::Encrypt) => client.write_all(b"N").await?,
                Some(First::Startup { minor, parameters }) => {
                    return Ok(Some((minor, parameters)));
                }
                Some(First::Cancel) => {
                    self.cancel(&body).await;
                    return Ok(None);
                }
                None => {
                    client
                        .write_all(&fatal("08P01", "Hyperdrive speaks version 3 of PostgreSQL's protocol"))
                        .await?;
                    return Ok(None);
                }
            }
        }
    }

    /// A request to give up a query goes to the database, whose keys are in it.
    async fn cancel(&self, body: &[u8]) {
        let Ok(origin) = (self.find)() else { return };
        let passed = within(async {
            let mut stream = self.hyperdrive.dial(&origin).await?;
            let sent = async {
                stream.write_all(&packet(body)).await?;
                stream.shutdown().await
            };
            sent.await.map_err(|e| Failure::Other(e.to_string()))
        });
        let _ = passed.await;
    }

    async fn open(
        &self,
        parameters: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(Box<dyn Io>, Vec<u8>, OwnedSemaphorePermit), Failure> {
        let origin = (self.find)().map_err(Failure::Other)?;
        let places = self.hyperdrive.slots.of(&self.id, origin.connections);
        let place =
            timeout(WAIT, places.acquire_owned()).await.ok().and_then(Result::ok).ok_or(Failure::Busy)?;
        let opened = within(async {
            let mut stream = self.hyperdrive.dial(&origin).await?;
            let before = login(&mut stream, &origin, parameters).await?;
            Ok((stream, before))
        });
        let (stream, before) = opened.await?;
        Ok((stream, before, place))
    }
}

/// The minor version, and the parameters.
type Parameters = (u16, Vec<(Vec<u8>, Vec<u8>)>);

/// Bytes both ways until one side ends.
async fn both_ways(client: impl AsyncRead + AsyncWrite + Unpin, origin: &mut Box<dyn Io>) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_origin, mut to_origin) = tokio::io::split(origin);
    let up = async {
        let copied = tokio::io::copy(&mut from_client, &mut to_origin).await;
        let _ = to_origin.shutdown().await;
        // The worker has gone. What it asked for is not wanted; a database may not notice before it is done.
        if copied.is_ok() {
            tokio::time::sleep(LAST).await;
        }
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_origin, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
