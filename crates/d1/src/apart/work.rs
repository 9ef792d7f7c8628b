//! The process's side.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use skep_runtime::Backlog;

use super::job::{BEGINS, DONE, FAILED, Job, WRITES};
use crate::plan::Plans;
use crate::readers::Call;
use crate::run::{Searches, Stop};
use crate::session::{Patience, Session};

/// Does what it is asked for, until nobody asks any more. `path` is the database; where `keeps_log` is set, its log is not to be taken
/// over. `begins` is called when a statement begins.
pub fn work(
    path: &Path,
    keeps_log: bool,
    begins: impl Fn(),
    mut from: impl Read,
    to: impl Write,
) -> io::Result<()> {
    let session = Session::reader(path).map_err(io::Error::other)?;
    if keeps_log {
        session.keep_log().map_err(io::Error::other)?;
    }
    let results = Backlog::new(Arc::default());
    let to = RefCell::new(to);
    // Who does not hear it any more kills this process.
    let say = |byte: u8| {
        let mut to = to.borrow_mut();
        to.write_all(&[byte])?;
        to.flush()
    };
    let plans = Plans::default();
    let mut schema = Ok(-1);
    while let Some(job) = Job::read(&mut from)? {
        let (statements, format, facts) = job.taken_apart();
        // Another one may have changed the schema since the last call.
        let now =
            session.trusted(|c| c.pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0)));
        if now.is_err() || now != schema {
            plans.clear();
            schema = now;
        }
        let call = Call {
            statements: &statements,
            format,
            patience: Patience::Full,
            searches: Searches::Here,
            begins: &|| {
                begins();
                let _ = say(BEGINS);
            },
            plans: &plans,
            facts,
            results: &results,
        };
        let ran = call.run(&session);
        session.rests();
        let (how, text) = match &ran {
            Ok(output) => (DONE, output.as_ref()),
            Err(Stop::Failed(error)) => (FAILED, error.0.as_bytes()),
            Err(Stop::NeedsWriter | Stop::TooLong | Stop::Apart) => {
                say(WRITES)?;
                continue;
            }
        };
        let mut to = to.borrow_mut();
        to.write_all(&[how])?;
        to.write_all(&(text.len() as u64).to_le_bytes())?;
        to.write_all(text)?;
        to.flush()?;
    }
    Ok(())
}
