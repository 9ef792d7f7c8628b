//! Skep's side: which process is asked, how many are, and when one is ended.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skep_runtime::Backlog;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::job::{BEGINS, DONE, FAILED, Job, WRITES};
use crate::error::{D1Error, TIMED_OUT, TOO_MUCH_MEMORY};
use crate::held::Output;
use crate::run::Stop;
use crate::session::QUERY_TIME;

/// Processes that compute at once; the kernel shares the processor among them, and gives it to others first. One account has half of them.
const AT_ONCE: usize = 16;
const OF_AN_ACCOUNT: usize = AT_ONCE / 2;
/// Processes that wait for the next call, of all databases.
const IDLE: usize = 16;
/// So long, in microseconds, a database whose search had to be killed shares one place with all such.
const SLOW: u64 = 300_000_000;
/// What a process may be late with saying by itself that a statement has had its time.
const GRACE: Duration = Duration::from_secs(1);
/// Bytes of a result that are read at a time.
const PIECE: u64 = 256 << 10;

/// What the last argument is.
const KEEP: &str = "keep";
const TAKE: &str = "take";

static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);
static SLOW_PLACE: Semaphore = Semaphore::const_new(1);
static WAITING: Semaphore = Semaphore::const_new(IDLE);

/// The program that calls [`work`](crate::work) with its standard input and output. Its last two arguments are the database's file, and
/// `keep` or `take` for its log. It has no other environment than this.
#[derive(Clone, Debug)]
pub struct Apart {
    /// What to start.
    pub program: PathBuf,
    /// With these arguments, before those two.
    pub args: Vec<OsString>,
    /// And these variables.
    pub env: Vec<(OsString, OsString)>,
}

/// The same for the databases of an account, which have so many at once.
#[derive(Debug)]
pub(crate) struct Searchers {
    program: Apart,
    places: Semaphore,
}

impl Searchers {
    pub fn new(program: Apart) -> Self {
        Self { program, places: Semaphore::new(OF_AN_ACCOUNT) }
    }
}

/// A process that has a database open. It ends when this is dropped.
#[derive(Debug)]
struct Process {
    _child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

/// One that waits for the next call.
#[derive(Debug)]
struct Idle {
    process: Process,
    _place: SemaphorePermit<'static>,
}

/// Who searches a database.
#[derive(Debug, Default)]
pub(crate) struct Searcher {
    idle: Mutex<Option<Idle>>,
    /// When a search had to be killed last, on the clock of `skep_store::now`; 0 for never.
    killed: AtomicU64,
}

/// A database as such a process opens it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub file: &'a Path,
    /// Whether its log is to be left alone.
    pub keeps_log: bool,
}

/// Why there is no result.
#[derive(Debug)]
enum Failure {
    /// The process has ended, or says what nobody understands.
    Ended(io::Error),
    /// A statement has had its time.
    Late,
    /// Its own answer.
    Stop(Stop),
    /// There is no room for the result.
    Refused(D1Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Ended(error)
    }
}

impl Searcher {
    /// Runs a call; its result counts among `results`.
    pub async fn ask(
        &self,
        all: &Searchers,
        place: Place<'_>,
        job: &Job,
        results: &Arc<Backlog>,
    ) -> Result<Output, Stop> {
        let job = job.to_bytes().map_err(|error| D1Error::new(error.to_string()))?;
        let _turn = self.turn(all).await?;
        if let Some(mut process) = self.waiting() {
            match process.ask(&job, results).await {
                // It has ended while nobody asked, as anybody may end it. It only reads, so another one may be asked the same.
                Err(Failure::Ended(_)) => {}
                answer => return self.answer(process, answer),
            }
        }
        let mut process = Process::start(&all.program, place).map_err(failed)?;
        let answer = process.ask(&job, results).await;
        self.answer(process, answer)
    }

    fn answer(&self, process: Process, answer: Result<Output, Failure>) -> Result<Output, Stop> {
        match answer {
            Ok(output) => {
                self.keep(process);
                Ok(output)
            }
            Err(Failure::Stop(stop)) => {
                self.keep(process);
                Err(stop)
            }
            // The process is killed, as it is dropped.
            Err(Failure::Late) => {
                self.killed.store(skep_store::now().max(1), Ordering::Relaxed);
                Err(D1Error::new(TIMED_OUT).into())
            }
            Err(Failure::Refused(error)) => Err(error.into()),
            Err(Failure::Ended(error)) => Err(failed(error)),
        }
    }

    /// Waits until it may compute.
    async fn turn<'a>(&self, all: &'a Searchers) -> Result<[SemaphorePermit<'a>; 2], Stop> {
        let killed = self.killed.load(Ordering::Relaxed);
        let slow = killed > 0 && skep_store::now() < killed + SLOW;
        // Who waits for the slow place keeps no other one meanwhile.
        let both = async {
            if slow {
                let slow = SLOW_PLACE.acquire().await?;
                return Ok([slow, all.places.acquire().await?]);
            }
            Ok([all.places.acquire().await?, PLACES.acquire().await?])
        };
        match timeout(QUERY_TIME, both).await {
            Ok(turn) => turn.map_err(|_: AcquireError| D1Error::closed().into()),
            Err(_) => Err(D1Error::new(TIMED_OUT).into()),
        }
    }

    fn waiting(&self) -> Option<Process> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        idle.map(|Idle { process, .. }| process)
    }

    fn keep(&self, process: Process) {
        if let Ok(place) = WAITING.try_acquire() {
            let idle = Idle { process, _place: place };
            *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(idle);
        }
    }
}

/// A process that ends without a word has been killed for what it took: its limits end it by a signal.
fn failed(error: io::Error) -> Stop {
    tracing::warn!(%error, "a process that searches a D1 database failed");
    D1Error::new(TOO_MUCH_MEMORY).into()
}

impl Process {
    fn start(apart: &Apart, place: Place<'_>) -> io::Result<Self> {
        let mut command = Command::new(&apart.program);
        command.args(&apart.args).arg(place.file).arg(if place.keeps_log { KEEP } else { TAKE });
        command.env_clear().envs(apart.env.iter().map(|(name, value)| (name, value)));
        command.current_dir("/").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(to), Some(from)) => Ok(Self { _child: child, to, from }),
            _ => Err(io::Error::other("it has no input or output")),
        }
    }

    async fn ask(&mut self, job: &[u8], results: &Arc<Backlog>) -> Result<Output, Failure> {
        self.to.write_all(job).await?;
        self.to.flush().await?;
        let how = loop {
            match timeout(QUERY_TIME + GRACE, self.from.read_u8()).await.map_err(|_| Failure::Late)?? {
                BEGINS => {}
                how => break how,
            }
        };
        match how {
            DONE => self.result(Output::new(results)).await,
            FAILED => {
                let text = self.result(Output::new(results)).await?;
                Err(Failure::Stop(D1Error::new(String::from_utf8_lossy(&text.bytes)).into()))
            }
            WRITES => Err(Failure::Stop(Stop::NeedsWriter)),
            other => Err(Failure::Ended(io::Error::other(format!("it says {other}")))),
        }
    }

    async fn result(&mut self, mut out: Output) -> Result<Output, Failure> {
        let mut left = self.from.read_u64_le().await?;
        while left > 0 {
            let read = (&mut self.from).take(left.min(PIECE)).read_to_end(&mut out.bytes).await?;
            if read == 0 {
                return Err(Failure::Ended(io::ErrorKind::UnexpectedEof.into()));
            }
            left -= read as u64;
            // What is left would be taken for the next answer: the process ends with this.
            out.note().map_err(Failure::Refused)?;
        }
        Ok(out)
    }
}
