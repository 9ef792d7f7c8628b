//! What the browsers of all accounts have in common: the program, how they are held, and room.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::devtools::ANSWERS;
use crate::error::BrowserError;
use crate::held::Hold;
use crate::process::{Process, Program};
use crate::sessions::Browsers;
use crate::trial;

/// Finds the program to start, or fetches it. Blocking; asked once it has to be there.
pub type Provide = Arc<dyn Fn() -> Result<Program, BrowserError> + Send + Sync>;

/// The browsers of this machine.
pub struct Host {
    provide: Provide,
    program: Mutex<Option<Program>>,
    hold: Option<Hold>,
    most: usize,
    room: Arc<Semaphore>,
}

impl Host {
    /// Up to `most` at a time, of the program that `provide` finds; without `hold` they may do what this process may.
    pub fn new(provide: Provide, hold: Option<Hold>, most: usize) -> Arc<Self> {
        let room = Arc::new(Semaphore::new(most));
        Arc::new(Self { provide, program: Mutex::default(), hold, most, room })
    }

    /// The browsers of one account, up to `most` at a time.
    pub fn account(self: &Arc<Self>, most: usize) -> Arc<Browsers> {
        Browsers::new(self.clone(), most)
    }

    /// Starts one, has it run a page and ends it, so that what is missing is known now.
    pub async fn try_out(&self) -> Result<(), BrowserError> {
        let process = self.start().await?;
        let tried = tokio::time::timeout(ANSWERS, trial::run(&process.devtools)).await;
        process.end().await;
        let late = || BrowserError::Unreachable(format!("no page ran within {} s", ANSWERS.as_secs()));
        tried.unwrap_or_else(|_| Err(late()))
    }

    pub(crate) async fn start(&self) -> Result<Process, BrowserError> {
        Process::start(&self.program().await?, self.hold.as_ref()).await
    }

    pub(crate) fn room(&self) -> Result<OwnedSemaphorePermit, BrowserError> {
        self.room.clone().try_acquire_owned().map_err(|_| BrowserError::NodeFull(self.most))
    }

    /// Where what passes between a browser and others is moved.
    pub(crate) fn handle(&self) -> Handle {
        self.hold.as_ref().map_or_else(Handle::current, |hold| hold.handle().clone())
    }

    async fn program(&self) -> Result<Program, BrowserError> {
        let known = || self.program.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = known().clone() {
            return Ok(program);
        }
        let provide = self.provide.clone();
        let found = tokio::task::spawn_blocking(move || provide()).await;
        let program = found.map_err(|error| BrowserError::NoProgram(error.to_string()))??;
        *known() = Some(program.clone());
        Ok(program)
    }
}
