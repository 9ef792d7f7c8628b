//! A worker that does nothing: what the edge adds.

use std::time::Duration;

use crate::peers::{Project, bare_workerd, miniflare, nginx_proxy, skep};
use crate::process::Peer;
use crate::report::Report;
use crate::rounds::{Plan, compare};
use crate::stats::Spread;
use crate::tools::Tools;

/// Peers with the worker that has an operation per path.
#[derive(Debug)]
pub struct Peers {
    /// Ours.
    pub skep: Peer,
    /// The engine alone.
    pub workerd: Peer,
    /// The simulator.
    pub miniflare: Peer,
    /// A proxy of the same kind before the engine alone, where it is installed.
    pub proxy: Option<Peer>,
    _project: Project,
    _state: tempfile::TempDir,
}

impl Peers {
    /// Starts all three.
    pub async fn start(tools: &Tools) -> Result<Self, String> {
        let project = Project::operations(tools)?;
        let state = tempfile::tempdir().map_err(|e| e.to_string())?;
        let workerd = bare_workerd(tools, "/hello").await?;
        Ok(Self {
            skep: skep(tools, &project, "/hello").await?,
            proxy: nginx_proxy(workerd.address, state.path(), "/hello").await?,
            workerd,
            miniflare: miniflare(tools, state.path(), None, "/hello").await?,
            _project: project,
            _state: state,
        })
    }
}

/// Hello world at 64 connections and at one. Returns Skep's processor time per request in microseconds.
pub async fn measure(peers: &Peers, report: &mut Report) -> Result<f64, String> {
    let mut all = vec![&peers.skep, &peers.workerd, &peers.miniflare];
    all.extend(&peers.proxy);
    let plan = Plan { connections: 64, time: Duration::from_millis(1500), rounds: 6 };
    let busy = compare(&all, "/hello", plan).await?;
    report.at_least(
        "hello, 64 connections: requests/s, Skep / bare workerd",
        busy.rate_ratio((0, 1)),
        0.85,
        "",
    );
    report.at_most("hello, 64 connections: p99, Skep / bare workerd", busy.p99_ratio((0, 1)), 0.5, "");
    report.note("hello, 64 connections: requests/s, Skep / Miniflare", busy.rate_ratio((0, 2)), "");
    report.note("hello, 64 connections: Skep", busy.of(0, |s| s.load.rate()), "requests/s");
    let cpu = busy.of(0, |s| s.own_cpu);
    report.at_most("hello, 64 connections: the edge's CPU per request", cpu, 15.0, "µs");
    if peers.proxy.is_some() {
        let name = "hello, 64 connections: requests/s, nginx as a proxy / bare workerd";
        report.note(name, busy.rate_ratio((3, 1)), "");
        let name = "hello, 64 connections: CPU per request, nginx as a proxy";
        report.note(name, busy.of(3, |s| s.own_cpu), "µs");
        let name = "hello, 64 connections: CPU per request, Skep's edge / nginx as a proxy";
        report.note(name, busy.pairs((0, 3), |s| s.own_cpu, |ours, theirs| ours / theirs), "");
    }
    let plan = Plan { connections: 1, time: Duration::from_millis(800), rounds: 6 };
    let alone = compare(&[&peers.skep, &peers.workerd], "/hello", plan).await?;
    let above = alone.pairs((0, 1), |s| s.load.percentile(0.5), |ours, theirs| ours - theirs);
    report.at_most("hello, 1 connection: p50, Skep − bare workerd", above, 100.0, "µs");
    Ok(cpu.median)
}

/// What one process weighs at rest, in MiB: resident and private.
pub fn weigh(peer: &Peer, report: &mut Report) {
    let one = |value: f64| Spread::of([value]);
    let (resident, _) = crate::process::memory_mib(peer.pid());
    report.at_most(
        "the Rust process with all servers, after all loads: resident",
        one(resident),
        60.0,
        "MiB",
    );
}
