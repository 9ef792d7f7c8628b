//! A connection of a cell to a database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_runtime::Bounds;
use skep_wire::{BoxFuture, Connections, Socket};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::connect::{CONNECT, Judge, connect};
use crate::login::{login, try_query};
use crate::messages::{First, MAX_FIRST, OPTION, fatal, first, let_in, oldest_version, packet};
use crate::open::{Open, bounds};
use crate::refusals::Refusals;
use crate::slots::{Place, Slots};
use crate::tls::{Connectors, Io};
use crate::used::Used;
use crate::{Failure, Origin};

/// How long a driver may take to say who it is.
const FIRST: Duration = Duration::from_secs(30);
/// How long a connection waits for one of those that the database may have.
/// <https://developers.cloudflare.com/hyperdrive/platform/limits/>
const WAIT: Duration = Duration::from_secs(15);
/// How long a query of a worker that has gone may go on: as long as Cloudflare lets any.
const LAST: Duration = Duration::from_secs(60);
/// How long a driver that is refused may take to say who it is, as some expect no answer before, and to take the answer.
const HEAR: Duration = Duration::from_secs(1);
/// Those that may at a time, as nothing bounds how many are refused. Others hear it at once.
const HEARD: usize = 32;
/// How much of a failure is logged: what a database says may be long.
const LOGGED: usize = 300;

/// Says which database a configuration is for; the error is for the application.
pub type Find = Arc<dyn Fn() -> Result<Origin, String> + Send + Sync>;

/// Connects to databases.
pub struct Hyperdrive {
    judge: Judge,
    connectors: Connectors,
    /// By the ids of configurations.
    slots: Used<Slots>,
    open: Open,
    refusals: Refusals,
    hearing: Semaphore,
}

impl Hyperdrive {
    /// Connects to where `judge` lets it.
    pub fn new(judge: Judge) -> Arc<Self> {
        Self::within(judge, bounds())
    }

    /// The same, with `bounds` for the files that connections take.
    fn within(judge: Judge, bounds: Bounds) -> Arc<Self> {
        let (connectors, slots, refusals) = Default::default();
        let (open, hearing) = (Open::new(bounds), Semaphore::new(HEARD));
        Arc::new(Self { judge, connectors, slots, open, refusals, hearing })
    }

    /// Whether a database can be used.
    pub async fn check(&self, origin: &Origin) -> Result<(), Failure> {
        let checked = async {
            let mut stream = self.dial(origin).await?;
            login(&mut stream, origin, &[]).await?;
            try_query(&mut stream).await
        };
        in_time(checked).await
    }

    /// A configuration may have `most` connections from now on, for those that wait for one. Who comes later finds that out himself.
    pub fn limit(&self, id: &str, most: usize) {
        if let Some(slots) = self.slots.get(id) {
            slots.limit(most);
        }
    }

    /// Forgets what it knows of a configuration, unless it has connections: another one may get its id.
    pub fn forget(&self, id: &str) {
        self.slots.forget(id);
    }

    async fn dial(&self, origin: &Origin) -> Result<Box<dyn Io>, Failure> {
        let (stream, verdict) = connect(origin, &self.judge).await?;
        self.connectors.secure(stream, verdict, origin).await
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = |_| Failure::Unreachable(format!("no answer after {} s", CONNECT.as_secs()));
    timeout(CONNECT, work).await.map_err(late)?
}

/// A binding of a cell.
pub struct Binding {
    /// What connects.
    pub hyperdrive: Arc<Hyperdrive>,
    /// Which configuration it is, for all that share its connections.
    pub id: String,
    /// Whose configuration it is, for all that share what one may have open.
    pub owner: String,
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
        let Some(_open) = self.hyperdrive.open.begin(&self.owner) else {
            return self.turn_away(client).await;
        };
        let Ok(begun) = timeout(FIRST, self.begin(&mut client)).await else { return Ok(()) };
        let Some((minor, parameters)) = begun? else { return Ok(()) };
        let (mut origin, before, _place) = match self.open(&parameters).await {
            Ok(opened) => opened,
            Err(failure) => return self.refuse(client, &failure, "a database cannot be used").await,
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

    /// Its owner has as many connections as may be.
    async fn turn_away(&self, mut client: Socket) -> std::io::Result<()> {
        let place = self.hyperdrive.hearing.try_acquire();
        if place.is_ok()
            && let Ok(begun) = timeout(HEAR, self.begin(&mut client)).await
            && begun?.is_none()
        {
            return Ok(());
        }
        self.refuse(client, &Failure::Busy, "an account has as many connections to databases as it may").await
    }

    /// Says why there is no connection.
    async fn refuse(&self, mut client: Socket, failure: &Failure, what: &str) -> std::io::Result<()> {
        let text = failure.to_string();
        if let Some(untold) = self.hyperdrive.refusals.tell(&self.id, Instant::now()) {
            // Quoted: some of it may be a database's own words.
            let failure: String = text.chars().take(LOGGED).collect();
            tracing::warn!(script = self.script, hyperdrive = self.id, failure, untold, "{what}");
        }
        // Who has not read what came before is not waited for.
        let told = timeout(HEAR, client.write_all(&fatal(failure.sqlstate(), &text))).await;
        told.unwrap_or(Ok(()))?;
        client.shutdown().await
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
        let passed = in_time(async {
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
    ) -> Result<(Box<dyn Io>, Vec<u8>, Place), Failure> {
        let origin = (self.find)().map_err(Failure::Other)?;
        let slots = self.hyperdrive.slots.of(&self.id, || Slots::new(origin.connections));
        slots.limit(origin.connections);
        let place = timeout(WAIT, slots.enter()).await.ok().flatten().ok_or(Failure::Busy)?;
        let opened = in_time(async {
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

#[cfg(test)]
#[path = "pass_tests.rs"]
mod tests;
