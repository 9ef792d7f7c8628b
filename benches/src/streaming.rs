//! R2 objects of 100 MiB through a worker.

use std::time::Duration;

use crate::hello::Peers;
use crate::peers::nginx;
use crate::process::{forget_peak, peak_mib};
use crate::report::Report;
use crate::rounds::{Plan, compare};
use crate::stats::Spread;

/// Streaming into and out of a bucket, beside Miniflare, and the memory it takes.
pub async fn measure(peers: &Peers, report: &mut Report) -> Result<(), String> {
    let both = [&peers.skep, &peers.miniflare];
    let engine_alone = "R2 get of 100 MiB: bare workerd sending as much that it made itself / Miniflare";
    forget_peak(peers.skep.pid());
    let plan = Plan { connections: 1, time: Duration::from_millis(1500), rounds: 3 };
    let put = compare(&both, "/r2-big-put", plan).await?;
    report.at_least("R2 put of 100 MiB, streamed: Skep / Miniflare", put.rate_ratio((0, 1)), 3.0, "");
    report.note("R2 put of 100 MiB, streamed: Skep", put.of(0, |s| s.load.rate() * 100.0), "MiB/s");
    let plan = Plan { connections: 2, ..plan };
    // The same bytes as a file, from the kernel's memory to the client: nothing over this loopback is faster.
    let scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
    let public = scratch.path().join("public");
    let file = public.join("r2-big-get");
    let made = std::fs::create_dir(&public).and_then(|()| std::fs::write(file, vec![b'x'; 100 << 20]));
    made.map_err(|e| e.to_string())?;
    let nginx = nginx(&public, scratch.path(), "/r2-big-get").await?;
    let mut peers_of_get = both.to_vec();
    peers_of_get.extend(&nginx);
    let get = compare(&peers_of_get, "/r2-big-get", plan).await?;
    report.at_least("R2 get of 100 MiB, streamed: Skep / Miniflare", get.rate_ratio((0, 1)), 3.0, "");
    report.note("R2 get of 100 MiB, streamed: Skep", get.of(0, |s| s.load.rate() * 100.0), "MiB/s");
    if nginx.is_some() {
        report.note("R2 get of 100 MiB: nginx sending it as a file / Miniflare", get.rate_ratio((2, 1)), "");
        report.note("R2 get of 100 MiB: Skep / nginx sending it as a file", get.rate_ratio((0, 2)), "");
    }
    report.note("R2 get of 100 MiB: Skep's CPU", get.of(0, |s| s.own_cpu / 1000.0), "ms");
    let made = compare(&[&peers.workerd], "/made-big", plan).await?;
    let limit = made.of(0, |s| s.load.rate() * 100.0);
    report.note("100 MiB that bare workerd made itself, without any storage", limit, "MiB/s");
    let theirs = get.of(1, |s| s.load.rate() * 100.0);
    report.note(engine_alone, limit.over(theirs.median), "");
    let peak = Spread::of([peak_mib(peers.skep.pid())]);
    report.at_most("R2 streaming: peak resident memory of the Rust process", peak, 60.0, "MiB");
    Ok(())
}
