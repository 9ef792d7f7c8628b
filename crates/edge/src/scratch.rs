//! Reading without a buffer of one's own: a connection that is silent, as most WebSockets are, holds none.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::ready;

use tokio::io::{AsyncRead, ReadBuf};

/// Read at once.
const SIZE: usize = 32 << 10;

thread_local! {
    /// What all connections of a thread read into, one at a time.
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// What comes next; empty at the end. Whoever stops waiting loses nothing.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    poll_fn(|cx| {
        let mut scratch = SCRATCH.take().unwrap_or_else(|| vec![0; SIZE].into());
        let mut buffer = ReadBuf::new(&mut scratch);
        let read = Pin::new(&mut *from).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().to_vec());
        SCRATCH.set(Some(scratch));
        Ok(ready!(read)?).into()
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn what_comes_is_read_to_its_end_by_any_number_of_readers() {
        let (mut ends, mut readers) = (Vec::new(), Vec::new());
        for n in 0..20u8 {
            let (to, mut from) = tokio::io::duplex(1 << 20);
            ends.push(to);
            readers.push(tokio::spawn(async move {
                let mut all = Vec::new();
                loop {
                    match read(&mut from).await.unwrap() {
                        some if some.is_empty() => return (n, all),
                        some => all.extend(some),
                    }
                }
            }));
        }
        for part in 0..3 {
            for (n, to) in ends.iter_mut().enumerate() {
                to.write_all(&vec![n as u8; (part * SIZE).max(1)]).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
        drop(ends);
        for reader in readers {
            let (n, all) = reader.await.unwrap();
            assert_eq!(all, vec![n; 1 + 3 * SIZE]);
        }
    }
}
