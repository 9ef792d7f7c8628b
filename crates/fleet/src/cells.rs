//! The processes of a script that take requests.

use std::sync::Arc;

use crate::generation::Generation;
use crate::idle::Seen;

/// At least one; all run the same version.
#[derive(Clone, Debug)]
pub(crate) struct Cells(Arc<[Arc<Generation>]>);

impl Cells {
    pub(crate) fn one(generation: Arc<Generation>) -> Self {
        Self(Arc::new([generation]))
    }

    /// One more.
    pub(crate) fn with(&self, generation: Arc<Generation>) -> Self {
        Self(self.0.iter().cloned().chain([generation]).collect())
    }

    /// One less; `None` if that was the last.
    pub(crate) fn without(&self, generation: &Arc<Generation>) -> Option<Self> {
        let left: Arc<[_]> = self.0.iter().filter(|other| !Arc::ptr_eq(other, generation)).cloned().collect();
        (!left.is_empty()).then_some(Self(left))
    }

    pub(crate) fn all(&self) -> &[Arc<Generation>] {
        &self.0
    }

    /// Whether `generation` is one of them.
    pub(crate) fn has(&self, generation: &Arc<Generation>) -> bool {
        self.0.iter().any(|other| Arc::ptr_eq(other, generation))
    }

    /// The one with the fewest requests in it. It beat taking turns by a tenth to a seventh where there were two.
    pub(crate) fn least_busy(&self) -> &Arc<Generation> {
        match &*self.0 {
            [only] => only,
            all => all.iter().min_by_key(|generation| generation.in_flight()).unwrap_or(&all[0]),
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.0.iter().any(|generation| generation.is_busy())
    }

    /// Whether no instance of a Workflow is in the middle of a step.
    pub(crate) async fn workflows_rest(&self) -> bool {
        for generation in &*self.0 {
            if !generation.workflows_rest().await {
                return false;
            }
        }
        true
    }

    pub(crate) fn last_used(&self) -> u64 {
        self.0.iter().map(|generation| generation.last_used()).max().unwrap_or_default()
    }

    /// What can be seen of them from outside, as if they were one.
    pub(crate) fn seen(&self) -> Seen {
        let all = self.0.iter().map(|generation| generation.seen());
        all.fold(Seen { busy: false, uses: 0, cpu: 0, called: false }, |sum, one| Seen {
            busy: sum.busy || one.busy,
            uses: sum.uses + one.uses,
            cpu: sum.cpu + one.cpu,
            called: sum.called || one.called,
        })
    }
}
