//! A worker that does one operation on one binding per request.

use std::time::Duration;

use crate::hello::Peers;
use crate::load;
use crate::report::Report;
use crate::rounds::{Plan, compare};
use crate::stats::Spread;

const READS: [(&str, &str); 3] =
    [("/kv-get", "KV.get, 1 KiB"), ("/d1-get", "D1 point SELECT"), ("/r2-get", "R2 get, 1 KiB")];
const WRITES: [(&str, &str); 3] =
    [("/kv-put", "KV.put, 1 KiB"), ("/d1-put", "D1 INSERT"), ("/r2-put", "R2 put, 1 KiB")];

/// Reads and writes beside Miniflare. `edge_cpu` is what a request costs Skep without a binding.
pub async fn measure(peers: &Peers, edge_cpu: f64, report: &mut Report) -> Result<(), String> {
    let both = [&peers.skep, &peers.miniflare];
    for peer in both {
        if load::get(peer.address, "/setup", 1, Duration::from_millis(1)).await.ok == 0 {
            return Err(format!("/setup failed on {}", peer.address));
        }
    }
    let plan = Plan { connections: 64, time: Duration::from_millis(1500), rounds: 4 };
    for (path, what) in READS {
        let rounds = compare(&both, path, plan).await?;
        report.at_least(&format!("{what}: requests/s, Skep / Miniflare"), rounds.rate_ratio((0, 1)), 3.0, "");
        report.at_most(&format!("{what}: p99, Skep / Miniflare"), rounds.p99_ratio((0, 1)), 0.25, "");
        report.note(&format!("{what}: Skep"), rounds.of(0, |s| s.load.rate()), "requests/s");
        let cpu = rounds.of(0, |s| s.own_cpu);
        let binding =
            Spread { median: cpu.median - edge_cpu, min: cpu.min - edge_cpu, max: cpu.max - edge_cpu };
        report.at_most(&format!("{what}: our CPU per read, without the edge's"), binding, 10.0, "µs");
    }
    for (path, what) in WRITES {
        let rounds = compare(&both, path, plan).await?;
        report.at_least(&format!("{what}: requests/s, Skep / Miniflare"), rounds.rate_ratio((0, 1)), 2.0, "");
        report.note(&format!("{what}: Skep"), rounds.of(0, |s| s.load.rate()), "requests/s");
    }
    Ok(())
}
