//! An account's storage, measured now and then, so that what it may store holds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_fleet::FileLimit;
use skep_store::Quota;

use super::sizes::EVERY;
use super::tenant::Tenant;

/// At most which part of the time measuring may take: the first where there is room for as much again, the second where
/// there is not.
const SHARE: u32 = 50;
const SHARE_NEARLY_FULL: u32 = 10;

/// The largest file of a Durable Object of an account that is full. It takes what SQLite needs to open a database and
/// to read it (the index of its log has 32 KiB), and a few pages of its log.
const OPEN_ONLY: u64 = 32 << 10;

/// Bytes of what each D1 database of a full account was that stay.
const HISTORY: u64 = 1 << 20;

/// Measures an account, unless it was not long ago; to be called again and again.
pub async fn keep(tenant: Arc<Tenant>) -> Result<String, String> {
    let measured = tokio::task::spawn_blocking(move || {
        let Tenant { quota, stores, sizes, .. } = &*tenant;
        if sizes.last().is_some_and(|last| last.at.elapsed() < pause(quota, last.took)) {
            return Ok("not yet".to_owned());
        }
        let start = Instant::now();
        sizes.now(&stores.dir, start);
        if quota.is_nearly_full() {
            // What databases were gives way to what they are.
            stores.d1.tidy_to(HISTORY).map_err(|e| e.to_string())?;
            sizes.now(&stores.dir, start);
        }
        Ok(format!("{} bytes", quota.used()))
    });
    measured.await.map_err(|e| e.to_string())?
}

fn pause(quota: &Quota, took: Duration) -> Duration {
    let share = if quota.used() < quota.limit() / 2 { SHARE } else { SHARE_NEARLY_FULL };
    EVERY.saturating_sub(EVERY / 10).max(took * share)
}

/// How large the files of an account's Durable Objects may be just now. The engine knows nothing of quotas, but it
/// heeds the limit of a process's files: a write beyond it fails.
pub fn file_limit(quota: &Arc<Quota>) -> Option<FileLimit> {
    let quota = quota.is_limited().then(|| quota.clone())?;
    Some(Arc::new(move || match (quota.is_far_over(), quota.room()) {
        (true, _) => Some(0),
        (false, 0) => Some(OPEN_ONLY),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_full_account_are_small_and_beyond_that_none_is_written() {
        let quota = Arc::new(Quota::new(100 << 20));
        let limit = file_limit(&quota).unwrap();
        assert_eq!(limit(), None);
        quota.add(100 << 20);
        assert_eq!(limit(), Some(OPEN_ONLY));
        quota.add(17 << 20);
        assert_eq!(limit(), Some(0));
        assert!(file_limit(&Arc::default()).is_none());
    }
}
