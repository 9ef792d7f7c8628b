//! What lifecycle rules do, a few objects at a time.

use std::sync::Arc;

use rusqlite::Transaction;
use skep_store::StoreError;

use crate::R2Error;
use crate::bucket::Bucket;
use crate::change::{Action, Change};
use crate::lifecycle::{self, Fate};
use crate::rows::{self, After};
use crate::rules::Rules;

/// Objects looked at, and changed, in one step; others get their turn between two.
pub(crate) const BATCH: usize = 200;
/// What was stored this long ago is not looked at again. Objects whose times a clock that was set back made younger
/// than it would be missed until the rules change or the bucket is opened anew.
const SLACK_MS: i64 = 3600 * 1000;

/// How far the rules have been followed: each step of a rule has dealt with what was stored until its mark.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    rules: Option<Arc<Rules>>,
    marks: Vec<i64>,
}

impl Progress {
    /// The marks for these rules: new rules start from the beginning.
    fn marks(&mut self, rules: &Arc<Rules>, count: usize) -> &mut [i64] {
        if !self.rules.as_ref().is_some_and(|known| Arc::ptr_eq(known, rules)) {
            *self = Self { rules: Some(rules.clone()), marks: vec![i64::MIN; count] };
        }
        &mut self.marks
    }
}

/// What became of a few objects.
#[derive(Debug, Default)]
struct Step {
    done: usize,
    /// The earliest upload of those that should go and are locked.
    locked: Option<i64>,
}

impl Bucket {
    /// Follows its lifecycle rules in a while: whoever has set them does not wait for what they do. Inside a tokio runtime only.
    pub fn sweep_soon(self: &Arc<Self>) {
        let bucket = self.clone();
        tokio::spawn(async move {
            if let Err(error) = bucket.sweep().await {
                tracing::warn!(%error, "the lifecycle rules of a bucket could not be followed");
            }
        });
    }

    /// Does what is due by the lifecycle rules; returns how many objects and uploads were changed or removed. One
    /// run at a time.
    pub async fn sweep(&self) -> Result<usize, R2Error> {
        let mut progress = self.core.progress.lock().await;
        let (rules, now) = (self.rules(), self.core.clock.now_ms() as i64);
        let mut done = self.end_uploads(&rules.lifecycle, now).await?;
        let cutoffs = lifecycle::cutoffs(&rules.lifecycle, now);
        let marks = progress.marks(&rules, cutoffs.len());
        for (cutoff, mark) in cutoffs.into_iter().zip(marks) {
            if let Some(cutoff) = cutoff {
                done += self.follow(&rules, now, cutoff, mark).await?;
            }
        }
        Ok(done)
    }

    /// Deals with what was stored after `mark` and until `cutoff`, oldest first.
    async fn follow(&self, rules: &Rules, now: i64, cutoff: i64, mark: &mut i64) -> Result<usize, R2Error> {
        let (mut after, mut done, mut locked) = (After { ms: *mark, row: i64::MAX }, 0, i64::MAX);
        loop {
            let page = self.core.db.read(|c| rows::aged(c, after, cutoff, BATCH))?;
            let full = page.len() == BATCH;
            after = page.last().map_or(after, |last| After { ms: last.uploaded, row: last.row });
            let due = page
                .into_iter()
                .filter(|object| fate(rules, &object.key, object.uploaded, object.class, now) != Fate::Stays);
            let due: Vec<String> = due.map(|object| object.key).collect();
            if !due.is_empty() {
                let step = self.step(due).await?;
                done += step.done;
                locked = step.locked.map_or(locked, |at| locked.min(at));
            }
            if !full {
                break;
            }
            tokio::task::yield_now().await;
        }
        *mark = cutoff.min(now.saturating_sub(SLACK_MS)).min(locked.saturating_sub(1));
        Ok(done)
    }

    /// Does to these objects what is due by the rules that are in effect when it is done. Locks go first.
    async fn step(&self, keys: Vec<String>) -> Result<Step, R2Error> {
        let (in_effect, clock) = (self.core.rules.clone(), self.core.clock.clone());
        let write = move |t: &Transaction<'_>| -> Result<_, StoreError> {
            let (rules, at_ms) = (in_effect.get(), clock.now_ms());
            let now = at_ms as i64;
            let (mut step, mut garbage, mut changes) = (Step::default(), Vec::new(), Vec::new());
            for key in keys {
                let Some((uploaded, class)) = rows::age(t, &key)? else { continue };
                match fate(&rules, &key, uploaded, class, now) {
                    Fate::Stays => continue,
                    Fate::Changes(class) => rows::set_class(t, &key, class)?,
                    Fate::Goes if rules.locked(&key, uploaded, now) => {
                        step.locked = Some(step.locked.map_or(uploaded, |at| at.min(uploaded)));
                        continue;
                    }
                    Fate::Goes => {
                        garbage.extend(rows::remove(t, &key)?);
                        changes.push(Change { action: Action::Expire, key, state: None, at_ms });
                    }
                }
                step.done += 1;
            }
            Ok(Ok((step, garbage, changes)))
        };
        self.core.commit_change(Vec::new(), write).await
    }
}

fn fate(rules: &Rules, key: &str, uploaded: i64, class: crate::StorageClass, now: i64) -> Fate {
    lifecycle::fate(&rules.lifecycle, key, uploaded, class, now)
}
