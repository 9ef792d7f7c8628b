//! Data from one account to another: KV, R2, D1, over the public API alone. What is done is written down, so that a copy
//! that was interrupted goes on where it was.

mod d1;
mod export;
mod kv;
mod r2;

pub use export::export;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::client::Client;
use crate::error::ApiError;

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
    pub(crate) notes: Vec<String>,
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
        Ok(Self { from, to, file: file.to_owned(), progress, notes: Vec::new() })
    }

    /// Copies everything whose name `wanted` takes: `kv/TITLE`, `r2/BUCKET`, `d1/NAME`. Returns what a person should know.
    pub async fn run(
        mut self,
        wanted: impl Fn(&str) -> bool,
        print: impl Fn(&str),
    ) -> Result<Vec<String>, String> {
        for (title, id) in kv::namespaces(self.from).await.map_err(text)? {
            let name = format!("kv/{title}");
            if wanted(&name) && !self.is_done(&name, &print) {
                kv::copy(&mut self, &name, &title, &id).await.map_err(|error| format!("{name}: {error}"))?;
                self.tell(&name, "values", &print);
            }
        }
        for bucket in r2::buckets(self.from).await.map_err(text)? {
            let name = format!("r2/{bucket}");
            if wanted(&name) && !self.is_done(&name, &print) {
                r2::copy(&mut self, &name, &bucket).await.map_err(|error| format!("{name}: {error}"))?;
                self.tell(&name, "objects", &print);
            }
        }
        for (database, id) in d1::databases(self.from).await.map_err(text)? {
            let name = format!("d1/{database}");
            if wanted(&name) && !self.is_done(&name, &print) {
                d1::copy(&mut self, &name, &database, &id)
                    .await
                    .map_err(|error| format!("{name}: {error}"))?;
                self.tell(&name, "statements", &print);
            }
        }
        Ok(self.notes)
    }

    fn is_done(&self, name: &str, print: &impl Fn(&str)) -> bool {
        let done = self.progress.resources.get(name).is_some_and(|mark| mark.done);
        if done {
            print(&format!("{name}: is there already"));
        }
        done
    }

    fn tell(&self, name: &str, what: &str, print: &impl Fn(&str)) {
        print(&format!("{name}: {} {what}", self.mark(name).copied));
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
