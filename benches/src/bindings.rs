//! A worker that does one operation on one binding per request.

use std::time::Duration;

use crate::hello::{EdgeCpu, Peers};
use crate::load;
use crate::report::Report;
use crate::rounds::{Plan, compare};

const READS: [(&str, &str); 3] =
    [("/kv-get", "KV.get, 1 KiB"), ("/d1-get", "D1 point SELECT"), ("/r2-get", "R2 get, 1 KiB")];
const WRITES: [(&str, &str); 3] =
    [("/kv-put", "KV.put, 1 KiB"), ("/d1-put", "D1 INSERT"), ("/r2-put", "R2 put, 1 KiB")];

/// Reads and writes beside Miniflare. `edge` is what a request costs without a binding.
pub async fn measure(peers: &Peers, edge: EdgeCpu, report: &mut Report) -> Result<(), String> {
    let both = [&peers.skep, &peers.miniflare];
    for peer in both {
        if load::get(peer.address, "/setup", 1, Duration::from_millis(1)).await.ok == 0 {
            return Err(format!("/setup failed on {}", peer.address));
        }
    }
    let plan = Plan { connections: 64, time: Duration::from_millis(1500), rounds: 4 };
    for (path, what) in READS {
        // Longer, for the slowest hundredth: who collects seldom, and for long, has to be seen doing it.
        let plan = Plan { time: Duration::from_secs(3), ..plan };
        read(peers, (path, what), edge, plan, report).await?;
    }
    for (path, what) in WRITES {
        let rounds = compare(&both, path, plan).await?;
        report.at_least(&format!("{what}: requests/s, Skep / Miniflare"), rounds.rate_ratio((0, 1)), 2.0, "");
        report.note(&format!("{what}: Skep"), rounds.of(0, |s| s.load.rate()), "requests/s");
    }
    Ok(())
}

/// One read: beside Miniflare, and beside nginx around an engine, where the answer is a string that nginx has: what is left to
/// win is the distance to that.
async fn read(
    peers: &Peers,
    (path, what): (&str, &str),
    edge: EdgeCpu,
    plan: Plan,
    report: &mut Report,
) -> Result<(), String> {
    let mut all = vec![&peers.skep, &peers.miniflare];
    all.extend(peers.around.iter().flat_map(|(nginx, engine)| [nginx, engine]));
    let rounds = compare(&all, path, plan).await?;
    report.at_least(&format!("{what}: requests/s, Skep / Miniflare"), rounds.rate_ratio((0, 1)), 3.0, "");
    report.at_most(&format!("{what}: p99, Skep / Miniflare"), rounds.p99_ratio((0, 1)), 0.25, "");
    report.note(&format!("{what}: Skep"), rounds.of(0, |s| s.load.rate()), "requests/s");
    let own = rounds.of(0, |s| s.own_cpu).minus(edge.skep);
    report.at_most(&format!("{what}: our CPU per read, without the edge's"), own, 10.0, "µs");
    if peers.around.is_none() {
        return Ok(());
    }
    let nginx = format!("{what}: nginx that has the answer ready, as edge and binding server");
    report.note(&format!("{nginx}: requests/s / Miniflare"), rounds.rate_ratio((2, 1)), "");
    report.note(&format!("{nginx}: p99 / Miniflare"), rounds.p99_ratio((2, 1)), "");
    let theirs = rounds.of(2, |s| s.own_cpu).minus(edge.nginx);
    report.note(&format!("{nginx}: CPU per read, without the edge's"), theirs, "µs");
    let engine = format!("{what}: the engine without an edge, its binding server that nginx");
    report.note(&format!("{engine}: requests/s / Miniflare"), rounds.rate_ratio((3, 1)), "");
    report.note(&format!("{engine}: p99 / Miniflare"), rounds.p99_ratio((3, 1)), "");
    Ok(())
}
