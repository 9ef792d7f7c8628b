//! Work on large requests, done where nobody waits for it.
//!
//! The API is served by the thread that serves visitors. To read a script of sixty megabytes, or a document with a million entries,
//! takes it seconds.

use skep_runtime::Turns;

use crate::reply::ApiError;

/// Bytes that are looked at at once.
const SMALL: usize = 64 << 10;

static TURNS: Turns = Turns::new();

/// Does `work` on `size` bytes: at once if they are few, else in a thread of its own when it is its turn.
pub(crate) async fn aside<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if size <= SMALL {
        return Ok(work());
    }
    TURNS.aside(0, work).await.map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_large_is_done_by_another_thread() {
        let here = std::thread::current().id();
        assert_eq!(aside(1, || std::thread::current().id()).await.ok(), Some(here));
        let there = aside(SMALL + 1, || std::thread::current().id()).await.ok();
        assert!(there.is_some_and(|there| there != here));
    }
}
