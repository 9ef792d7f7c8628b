//! One esbuild process and the requests that go both ways over its pipes.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};

use crate::error::BundleError;
use crate::packet::{Packet, Value};
use crate::plugin::Plugin;

/// The version whose protocol this is.
pub(crate) const VERSION: &str = "0.28.2";
/// The largest packet that is read, in bytes; the largest bundles are a tenth of it.
const PACKET_LIMIT: usize = 1 << 30;

type Waiting = Arc<Mutex<Option<HashMap<u32, oneshot::Sender<Value>>>>>;

/// Sends requests to the process; cheap to clone.
#[derive(Clone)]
pub(crate) struct Caller {
    next: Arc<AtomicU32>,
    waiting: Waiting,
    out: mpsc::UnboundedSender<Packet>,
}

impl Caller {
    /// The response to `request`.
    pub async fn call(&self, request: Value) -> Result<Value, BundleError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        match &mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(waiting) => waiting.insert(id, answer),
            None => return Err(BundleError::Gone),
        };
        let sent = self.out.send(Packet { id, is_request: true, value: request });
        sent.map_err(|_| BundleError::Gone)?;
        let value = answered.await.map_err(|_| BundleError::Gone)?;
        match value.text("error") {
            "" => Ok(value),
            said => Err(BundleError::Refused(said.to_owned())),
        }
    }
}

/// Which plugin answers for which build.
pub(crate) type Plugins = Arc<Mutex<HashMap<u32, Arc<Plugin>>>>;

/// The process. It ends when this is dropped.
pub(crate) struct Service {
    pub caller: Caller,
    pub plugins: Plugins,
    _child: Child,
}

impl Service {
    /// Starts `esbuild`.
    pub async fn start(esbuild: &Path, folder: &Path) -> Result<Self, BundleError> {
        let spawn = Command::new(esbuild)
            .args([&format!("--service={VERSION}"), "--ping"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let failed = |source| BundleError::Start { path: esbuild.to_owned(), source };
        let mut child = spawn.map_err(failed)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(BundleError::Gone);
        };
        let mut stdout = BufReader::with_capacity(64 << 10, stdout);
        let version = read(&mut stdout).await.map_err(failed)?;
        if version != VERSION.as_bytes() {
            let found = String::from_utf8_lossy(&version).into_owned();
            return Err(BundleError::Version { path: esbuild.to_owned(), found, needed: VERSION });
        }
        let (out, packets) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let caller = Caller { next: Arc::default(), waiting: waiting.clone(), out: out.clone() };
        let plugins = Plugins::default();
        tokio::spawn(write_all(stdin, packets));
        tokio::spawn(read_all(stdout, caller.clone(), plugins.clone()));
        Ok(Self { caller, plugins, _child: child })
    }
}

async fn write_all(mut stdin: ChildStdin, mut packets: mpsc::UnboundedReceiver<Packet>) {
    while let Some(packet) = packets.recv().await {
        if stdin.write_all(&packet.encode()).await.is_err() {
            return;
        }
    }
}

async fn read_all(mut stdout: BufReader<ChildStdout>, caller: Caller, plugins: Plugins) {
    while let Ok(bytes) = read(&mut stdout).await {
        let Some(packet) = Packet::decode(&bytes) else { break };
        match packet.is_request {
            true => answer(packet, &caller, &plugins),
            false => {
                let mut waiting = caller.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(waiter) = waiting.as_mut().and_then(|waiting| waiting.remove(&packet.id)) {
                    let _ = waiter.send(packet.value);
                }
            }
        }
    }
    // Nobody is to wait for a process that is gone.
    caller.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
}

fn answer(packet: Packet, caller: &Caller, plugins: &Plugins) {
    let request = packet.value;
    let plugin = request
        .int("key")
        .and_then(|key| plugins.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned());
    let caller = caller.clone();
    tokio::spawn(async move {
        let value = match plugin {
            Some(plugin) => plugin.answer(&request, &caller).await,
            None => Value::map([]),
        };
        let _ = caller.out.send(Packet { id: packet.id, is_request: false, value });
    });
}

async fn read(from: &mut BufReader<ChildStdout>) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32_le().await? as usize;
    if length > PACKET_LIMIT {
        return Err(std::io::Error::other("esbuild sent a packet that is too large"));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}
