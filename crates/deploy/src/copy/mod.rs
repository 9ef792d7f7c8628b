//! One account into another, over the public API alone: KV, R2, D1, queues, Vectorize, Workers. What is done is written down, so that
//! a copy that was interrupted goes on where it was.

mod bring;
mod config;
mod d1;
mod export;
mod files;
mod hyperdrive;
mod kv;
mod queues;
mod r2;
mod source;
mod vectorize;

pub use export::export;
pub(crate) use kv::keys;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::client::Client;
use crate::deploy::counted;
use crate::error::ApiError;

/// What is copied: kinds (`kv`, `r2`, `d1`, `queue`, `hyperdrive`, `vectorize`, `worker`, `dispatch`), or things by their names (`kv/settings`,
/// `dispatch/tenants/ada`). Empty: everything.
#[derive(Clone, Debug, Default)]
pub struct Wanted(pub Vec<String>);

impl Wanted {
    /// The kinds that there are.
    pub const KINDS: [&str; 8] = ["kv", "r2", "d1", "queue", "hyperdrive", "vectorize", "worker", "dispatch"];

    /// Whether a thing is wanted, or all of the folder that it is in.
    pub fn has(&self, name: &str) -> bool {
        let is_above =
            |own: &String| name.strip_prefix(own.as_str()).is_some_and(|rest| rest.starts_with('/'));
        self.0.is_empty() || self.0.iter().any(|own| own == name || is_above(own))
    }

    /// Whether anything of a kind is wanted.
    pub fn has_any(&self, kind: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|own| own.split('/').next() == Some(kind))
    }
}

/// How far a copy has come, by what is copied.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// From where to where: a file of another copy is not taken for this one's.
    pub route: String,
    /// By resource.
    pub resources: BTreeMap<String, Mark>,
}

/// How far one resource has come.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// Where the next page begins.
    pub cursor: Option<String>,
    /// Values, objects or databases that are there.
    pub copied: u64,
    /// Nothing is left.
    pub done: bool,
}

/// A copy.
pub struct Copy<'a> {
    pub(crate) from: &'a Client,
    pub(crate) to: &'a Client,
    file: PathBuf,
    progress: Progress,
    /// What a person should know at the end.
    pub notes: Vec<String>,
    /// Says what no API tells: the value of a variable of this name. Nothing, unless it is set.
    pub variable: fn(&str) -> Option<String>,
}

impl<'a> Copy<'a> {
    /// A copy whose progress is in `file`.
    pub fn open(from: &'a Client, to: &'a Client, file: &Path) -> Result<Self, String> {
        let route = format!("{}#{} → {}#{}", from.base(), from.account, to.base(), to.account);
        let progress = match std::fs::read(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Progress::default(),
            Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
            Ok(bytes) => {
                let known: Progress =
                    serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", file.display()))?;
                if known.route != route {
                    return Err(format!(
                        "{} is the progress of another copy ({}): remove it, or name another file with --state",
                        file.display(),
                        known.route
                    ));
                }
                known
            }
        };
        let progress = Progress { route, ..progress };
        Ok(Self { from, to, file: file.to_owned(), progress, notes: Vec::new(), variable: |_| None })
    }

    /// Copies all that is `wanted`; what a person should know of it is in `notes`, also after a failure.
    pub async fn run(&mut self, wanted: &Wanted, print: impl Fn(&str)) -> Result<(), String> {
        if wanted.has_any("kv") {
            for (title, id) in kv::namespaces(self.from).await.map_err(text)? {
                let name = format!("kv/{title}");
                if wanted.has(&name) && !self.is_done(&name, &print) {
                    let copied = kv::copy(self, &name, &title, &id).await;
                    copied.map_err(|error| format!("{name}: {error}"))?;
                    self.tell(&name, "value", &print);
                }
            }
        }
        if wanted.has_any("r2") {
            for bucket in r2::buckets(self.from).await.map_err(text)? {
                let name = format!("r2/{bucket}");
                if wanted.has(&name) && !self.is_done(&name, &print) {
                    r2::copy(self, &name, &bucket).await.map_err(|error| format!("{name}: {error}"))?;
                    self.tell(&name, "object", &print);
                }
            }
        }
        if wanted.has_any("d1") {
            for (database, id) in d1::databases(self.from).await.map_err(text)? {
                let name = format!("d1/{database}");
                if wanted.has(&name) && !self.is_done(&name, &print) {
                    let copied = d1::copy(self, &name, &database, &id).await;
                    copied.map_err(|error| format!("{name}: {error}"))?;
                    self.tell(&name, "statement", &print);
                }
            }
        }
        if wanted.has_any("queue") {
            queues::copy(self, wanted, &print).await?;
        }
        if wanted.has_any("hyperdrive") {
            hyperdrive::copy(self, wanted, &print).await?;
        }
        if wanted.has_any("vectorize") {
            vectorize::copy(self, wanted, &print).await?;
        }
        if wanted.has_any("worker") || wanted.has_any("dispatch") {
            bring::workers(self, wanted, &print).await?;
        }
        Ok(())
    }

    fn is_done(&self, name: &str, print: &impl Fn(&str)) -> bool {
        let done = self.progress.resources.get(name).is_some_and(|mark| mark.done);
        if done {
            print(&format!("{name}: is there already"));
        }
        done
    }

    fn tell(&self, name: &str, one: &str, print: &impl Fn(&str)) {
        print(&format!("{name}: {}", counted(self.mark(name).copied, one)));
    }

    pub(crate) fn mark(&self, name: &str) -> Mark {
        self.progress.resources.get(name).cloned().unwrap_or_default()
    }

    /// Writes down how far `name` has come, in one step: after a crash it is the old or the new state.
    pub(crate) fn keep(&mut self, name: &str, mark: Mark) -> Result<(), String> {
        self.progress.resources.insert(name.to_owned(), mark);
        let failed = |e: std::io::Error| format!("cannot write {}: {e}", self.file.display());
        let bytes = serde_json::to_vec_pretty(&self.progress).map_err(|e| e.to_string())?;
        let new = self.file.with_extension("json.new");
        std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, &self.file)).map_err(failed)
    }
}

pub(crate) fn text(error: ApiError) -> String {
    error.to_string()
}

/// All pages of a list that is counted by pages.
async fn pages(
    client: &Client,
    path: &str,
    per_page: usize,
    key: Option<&str>,
) -> Result<Vec<Json>, ApiError> {
    let mut all = Vec::new();
    for page in 1.. {
        let answer = client.get(format!("{path}?page={page}&per_page={per_page}")).await?.result;
        let list = key.map_or(&answer, |key| &answer[key]).as_array().cloned().unwrap_or_default();
        let last = list.len() < per_page;
        all.extend(list);
        if last {
            break;
        }
    }
    Ok(all)
}
