//! Which backups go, and what nobody needs any more.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::manifest::Needs;
use super::{BACKUPS, Backup, NEEDS, PACKS, Repository};
use crate::BackupError;

const DAY: u64 = 24 * 3600;

/// What went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Backups.
    pub backups: usize,
    /// Bytes of packs.
    pub freed: u64,
}

impl Repository {
    /// Removes backups that are older than `keep`, and of each day before the last 24 hours all but the last; then packs that no backup needs.
    /// The newest backup stays. Only for the owner, while no backup of it is under way. `now` is in seconds since 1970.
    pub fn prune(&self, owner: &str, keep: Duration, now: u64) -> Result<Pruned, BackupError> {
        self.claim(owner)?;
        let mut backups = self.backups()?;
        let Some(newest) = backups.last().map(|last| last.id.clone()) else { return Ok(Pruned::default()) };
        let go = superfluous(&backups, keep, now);
        let mut pruned = Pruned { backups: go.len(), freed: 0 };
        for id in &go {
            // A backup without its manifest is none.
            for key in [format!("{BACKUPS}{id}"), format!("{BACKUPS}{id}{NEEDS}")] {
                self.place.remove(&key).map_err(|e| self.failed(e))?;
            }
        }
        backups.retain(|backup| !go.contains(&backup.id));
        let mut needed = HashSet::new();
        for backup in &backups {
            needed.extend(self.needs(&backup.id)?.into_keys());
        }
        for pack in self.place.list(PACKS).map_err(|e| self.failed(e))? {
            let of = pack.key.strip_prefix(PACKS).and_then(|rest| rest.split_once('/')).map(|(id, _)| id);
            if of.is_some_and(|id| id <= newest.as_str()) && !needed.contains(&pack.key) {
                self.place.remove(&pack.key).map_err(|e| self.failed(e))?;
                pruned.freed += pack.size;
            }
        }
        Ok(pruned)
    }

    /// The packs that a backup needs.
    fn needs(&self, id: &str) -> Result<Needs, BackupError> {
        let list = self.get(&format!("{BACKUPS}{id}{NEEDS}"))?;
        match list.and_then(|text| serde_json::from_slice(&text).ok()) {
            Some(needs) => Ok(needs),
            // Its manifest says the same, in more words.
            None => Ok(self.manifest(id)?.needs()),
        }
    }
}

/// The names of the backups that go. They are in order.
fn superfluous(backups: &[Backup], keep: Duration, now: u64) -> HashSet<String> {
    let Some((newest, others)) = backups.split_last() else { return HashSet::new() };
    let mut last_of_day = BTreeMap::new();
    for backup in others.iter().chain([newest]) {
        last_of_day.insert(backup.made_at / DAY, &backup.id);
    }
    let goes = |backup: &&Backup| {
        let age = now.saturating_sub(backup.made_at);
        let is_last = last_of_day.get(&(backup.made_at / DAY)) == Some(&&backup.id);
        age > keep.as_secs() || (age > DAY && !is_last)
    };
    others.iter().filter(goes).map(|backup| backup.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::name;
    use super::*;

    fn backups(times: &[u64]) -> Vec<Backup> {
        times.iter().map(|at| Backup { id: name(*at), made_at: *at, size: 0 }).collect()
    }

    #[test]
    fn a_day_keeps_all_and_the_days_before_one_each() {
        let now = 20 * DAY;
        let times = [9 * DAY, 18 * DAY + 1, 18 * DAY + 2, 19 * DAY - 1, 19 * DAY, 19 * DAY + 5, now - 5];
        let goes = superfluous(&backups(&times), Duration::from_secs(10 * DAY), now);
        assert_eq!(goes, [9 * DAY, 18 * DAY + 1, 18 * DAY + 2].map(name).into());
        let old = backups(&[DAY]);
        assert!(superfluous(&old, Duration::ZERO, now).is_empty(), "the newest one stays");
    }

    proptest! {
        #[test]
        fn each_day_that_is_kept_has_its_last_one(
            mut times in proptest::collection::btree_set(0..40 * DAY, 1..60), keep in 0..30u64,
        ) {
            let now = 40 * DAY;
            times.insert(now);
            let times: Vec<u64> = times.into_iter().collect();
            let goes = superfluous(&backups(&times), Duration::from_secs(keep * DAY), now);
            for (n, at) in times.iter().enumerate() {
                let young = now - at <= keep * DAY;
                let last = times.get(n + 1).is_none_or(|next| next / DAY != at / DAY);
                let stays = !goes.contains(&name(*at));
                prop_assert_eq!(stays, *at == now || (young && (last || now - at <= DAY)));
            }
        }
    }
}
