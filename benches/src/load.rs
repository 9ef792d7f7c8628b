//! An HTTP/1.1 load generator: closed loop, keep-alive, one thread.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Responses with status 200.
    pub ok: u64,
    /// Other responses and broken connections.
    pub failed: u64,
    /// How long it ran, in seconds.
    pub seconds: f64,
    connections: usize,
    /// Sorted latencies in microseconds.
    latencies: Vec<u32>,
}

impl Load {
    /// Successful requests per second.
    pub fn rate(&self) -> f64 {
        self.ok as f64 / self.seconds.max(f64::EPSILON)
    }

    /// The latency in microseconds below which `share` (0 to 1) of the requests stayed.
    pub fn percentile(&self, share: f64) -> f64 {
        below(&self.latencies, share)
    }

    /// The 99th percentile, in microseconds, for visitors who do not wait for each other, at the rate of this run.
    pub fn p99(&self) -> f64 {
        let interval = self.seconds * 1e6 * self.connections as f64 / self.latencies.len().max(1) as f64;
        below(&independent(&self.latencies, interval.max(1.0)), 0.99)
    }
}

/// Latencies as those have them who do not wait for each other. A client that sends its next request when the last was answered sends none while the
/// server stands still, so a stop of a second that holds up 64 requests here would hold up ten thousand of independent visitors. As wrk does it: who waited
/// for longer than two intervals between requests stands for those, too, who would have come meanwhile, each an interval later.
fn independent(latencies: &[u32], interval: f64) -> Vec<u32> {
    let mut all = latencies.to_vec();
    for latency in
        latencies.iter().map(|latency| f64::from(*latency)).filter(|latency| *latency >= 2.0 * interval)
    {
        let missed = (latency / interval) as u32 - 1;
        all.extend((1..=missed).map(|n| (latency - f64::from(n) * interval) as u32));
    }
    all.sort_unstable();
    all
}

/// The value below which `share` (0 to 1) of the sorted `values` are.
fn below(values: &[u32], share: f64) -> f64 {
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share).round() as usize).copied().unwrap_or_default().into()
}

/// Sends `GET path` to `address` over `connections` connections for `time`.
pub async fn get(address: SocketAddr, path: &str, connections: usize, time: Duration) -> Load {
    get_from(address, &address.to_string(), path, connections, time).await
}

/// As [`get`], for the site `host`.
pub async fn get_from(
    address: SocketAddr,
    host: &str,
    path: &str,
    connections: usize,
    time: Duration,
) -> Load {
    get_with(address, host, path, "", connections, time).await
}

/// As [`get_from`], with more header lines.
pub fn get_with(
    address: SocketAddr,
    host: &str,
    path: &str,
    headers: &str,
    connections: usize,
    time: Duration,
) -> impl Future<Output = Load> + use<> {
    let request: std::sync::Arc<[u8]> = request(host, path, headers).into();
    run(address, request, connections, time)
}

async fn run(address: SocketAddr, request: std::sync::Arc<[u8]>, connections: usize, time: Duration) -> Load {
    let start = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..connections {
        clients.spawn(client(address, request.clone(), start + time));
    }
    let mut total = Load { connections, ..Load::default() };
    for one in clients.join_all().await {
        total.ok += one.ok;
        total.failed += one.failed;
        total.latencies.extend(one.latencies);
    }
    total.seconds = start.elapsed().as_secs_f64();
    total.latencies.sort_unstable();
    total
}

/// The status of one `GET path`; `None` if nobody answers within ten seconds.
pub async fn status(address: SocketAddr, path: &str) -> Option<u16> {
    status_from(address, &address.to_string(), path).await
}

/// As [`status`], from the site `host`.
pub async fn status_from(address: SocketAddr, host: &str, path: &str) -> Option<u16> {
    let request = request(host, path, "");
    let answer = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        exchange(&mut stream, &request, &mut Vec::with_capacity(4 << 10)).await
    };
    tokio::time::timeout(Duration::from_secs(10), answer).await.ok()?
}

/// Sends a whole request on a connection of its own; the status, and when its last byte had been sent.
pub async fn send(address: SocketAddr, request: &[u8]) -> Option<(u16, Instant)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let last = request.len().saturating_sub(1);
    stream.write_all(request.get(..last)?).await.ok()?;
    let sent = Instant::now();
    let status = exchange(&mut stream, request.get(last..)?, &mut Vec::with_capacity(64 << 10)).await?;
    Some((status, sent))
}

fn request(host: &str, path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: identity\r\n{headers}\r\n").into_bytes()
}

async fn client(address: SocketAddr, request: std::sync::Arc<[u8]>, end: Instant) -> Load {
    let mut load = Load::default();
    while Instant::now() < end {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            load.failed += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let mut buffer = Vec::with_capacity(64 << 10);
        while Instant::now() < end {
            let start = Instant::now();
            match exchange(&mut stream, &request, &mut buffer).await {
                Some(200) => {
                    load.ok += 1;
                    load.latencies.push(start.elapsed().as_micros() as u32);
                }
                Some(_) => load.failed += 1,
                None => {
                    load.failed += 1;
                    break;
                }
            }
        }
    }
    load
}

/// One request and its response; the status, or `None` if the connection broke.
async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> Option<u16> {
    stream.write_all(request).await.ok()?;
    buffer.clear();
    let head = loop {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = std::str::from_utf8(buffer.get(..head)?).ok()?;
    let status = text.get(9..12)?.parse().ok()?;
    match content_length(text) {
        Some(length) => {
            let mut missing = length.checked_sub(buffer.len() - head)?;
            while missing > 0 {
                buffer.clear();
                let read = stream.read_buf(buffer).await.ok()?;
                missing = missing.checked_sub(read).filter(|_| read > 0)?;
            }
        }
        None => {
            while !buffer.ends_with(b"0\r\n\r\n") {
                let keep = buffer.len().saturating_sub(5);
                buffer.drain(..keep);
                if stream.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            }
        }
    }
    Some(status)
}

fn content_length(head: &str) -> Option<usize> {
    const NAME: &str = "content-length:";
    let mut lines = head.lines();
    let value = lines.find_map(|line| {
        line.get(..NAME.len()).filter(|name| name.eq_ignore_ascii_case(NAME))?;
        line.get(NAME.len()..)
    });
    value?.trim().parse().ok()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::{below, independent};

    #[test]
    fn a_stop_is_seen_by_all_who_would_have_come() {
        let mut latencies = vec![100; 990];
        latencies.push(10_000);
        assert_eq!(below(&latencies, 0.99), 100.0);
        let all = independent(&latencies, 100.0);
        assert_eq!(all.len(), 991 + 99);
        assert!(below(&all, 0.99) > 8_000.0);
        assert_eq!(independent(&[100, 150, 199], 100.0), [100, 150, 199]);
    }
}
