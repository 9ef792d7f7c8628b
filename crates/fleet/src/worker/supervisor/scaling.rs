//! How many processes a script has, seen to it: [`scale`](crate::scale) decides.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Supervisor;
use crate::cells::Cells;
use crate::generation::Generation;
use crate::render::Storage;
use crate::scale::{LOOK, LOOK_AT_REST, Load, Step, demand};
use crate::worker::State;

impl Supervisor {
    pub(super) fn may_scale(&self) -> bool {
        self.shared.per_script > 1 && self.spec.as_ref().is_some_and(|spec| !spec.is_exclusive())
    }

    /// Starts another process while requests wait for the code, ends one that is not needed.
    pub(super) async fn scale(&mut self) {
        let (Some(cells), Some(spec)) = (self.current(), self.spec.clone()) else { return };
        let now = Instant::now();
        let in_flight: usize = cells.all().iter().map(|cell| cell.in_flight()).sum();
        let at_rest = cells.all().len() == 1 && in_flight < 2;
        let loads = match at_rest {
            true => vec![Load { in_flight, busy: 0.0 }],
            false => self.loads(&cells, now),
        };
        match self.scale.note(&loads, self.most_cells(cells.all().len()), now) {
            Step::Stay => {}
            Step::Grow => match Generation::start(&self.shared, &spec, Storage::Real).await {
                Ok(new) => {
                    // One may have ended meanwhile; that is noticed next.
                    self.state.send_replace(State::Ready(cells.with(new)));
                }
                Err(error) => self.say(format!("another cell does not start: {error}")),
            },
            Step::Shrink => {
                let Some(last) = cells.all().last() else { return };
                if let Some(left) = cells.without(last) {
                    self.state.send_replace(State::Ready(left));
                    self.finish(last.clone());
                }
            }
        }
        self.scale_at = Instant::now() + if at_rest { LOOK_AT_REST } else { LOOK };
    }

    /// How many processes there may be, where there are `cells`.
    fn most_cells(&self, cells: usize) -> usize {
        match self.debugged.load(Ordering::Relaxed) {
            0 => self.shared.most_cells(cells),
            _ => 1,
        }
    }

    /// Leaves all to the first process; the others finish what they have.
    pub(super) fn narrow(&mut self) {
        let Some(cells) = self.current() else { return };
        let [first, others @ ..] = cells.all() else { return };
        if !others.is_empty() {
            self.state.send_replace(State::Ready(Cells::one(first.clone())));
            others.iter().for_each(|cell| self.finish(cell.clone()));
        }
    }

    /// What the processes did since the last look.
    fn loads(&mut self, cells: &Cells, now: Instant) -> Vec<Load> {
        let before = std::mem::take(&mut self.demands);
        let look = |cell: &Arc<Generation>| {
            let wanted = demand(cell.pid());
            self.demands.insert(cell.pid(), (wanted, now));
            let busy = before.get(&cell.pid()).map_or(0.0, |(last, at)| {
                let time = now.saturating_duration_since(*at).as_secs_f64();
                wanted.saturating_sub(*last).as_secs_f64() / time.max(f64::EPSILON)
            });
            Load { in_flight: cell.in_flight(), busy: busy.min(1.0) }
        };
        cells.all().iter().map(look).collect()
    }
}
