//! A worker that does nothing: what the edge adds.

use std::time::Duration;

use crate::peers::{Project, bare_workerd, miniflare, nginx_around, nginx_proxy, skep};
use crate::process::Peer;
use crate::report::Report;
use crate::rounds::{Plan, Target, compare, compare_targets};
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
    /// nginx as edge and binding server, and the engine behind it.
    pub around: Option<(Peer, Peer)>,
    _project: Project,
    _state: tempfile::TempDir,
    _scratch: tempfile::TempDir,
}

impl Peers {
    /// Starts all three.
    pub async fn start(tools: &Tools) -> Result<Self, String> {
        let project = Project::operations(tools)?;
        let state = tempfile::tempdir().map_err(|e| e.to_string())?;
        let scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
        let workerd = bare_workerd(tools, "/hello").await?;
        Ok(Self {
            skep: skep(tools, &project, "/hello").await?,
            proxy: nginx_proxy(workerd.address, state.path(), "/hello").await?,
            around: nginx_around(tools, scratch.path(), "/hello").await?,
            workerd,
            miniflare: miniflare(tools, state.path(), None, "/hello").await?,
            _project: project,
            _state: state,
            _scratch: scratch,
        })
    }
}

/// What a request without a binding costs the edge, in microseconds of processor time.
#[derive(Clone, Copy, Debug)]
pub struct EdgeCpu {
    /// Skep's.
    pub skep: f64,
    /// nginx's as a proxy.
    pub nginx: f64,
}

/// What Cloudflare's edge, and Skep's, adds to every request. An application may read it, so the engine has to take it in.
const EDGE_HEADERS: &str = "CF-Connecting-IP: 203.0.113.7\r\nCF-Ray: 8f2c1e7b3a4d5e6f-LOC\r\n\
    CF-Visitor: {\"scheme\":\"http\"}\r\nX-Forwarded-Proto: http\r\n\
    X-Skep-CF: {\"clientTcpRtt\":0,\"colo\":\"LOC\",\"httpProtocol\":\"HTTP/1.1\",\"timezone\":\"UTC\"}\r\n";

/// Hello world at 64 connections and at one.
pub async fn measure(peers: &Peers, report: &mut Report) -> Result<EdgeCpu, String> {
    let plan = Plan { connections: 64, time: Duration::from_millis(1500), rounds: 6 };
    let plain = |peer| Target { peer, path: "/hello", headers: "" };
    let workerd = Target { headers: EDGE_HEADERS, ..plain(&peers.workerd) };
    let mut all = vec![plain(&peers.skep), plain(&peers.workerd), plain(&peers.miniflare), workerd];
    all.extend(peers.proxy.iter().map(plain));
    let busy = compare_targets(&all, plan).await?;
    let line = |what: &str| format!("hello, 64 connections: {what}");
    report.at_least(&line("requests/s, Skep / bare workerd"), busy.rate_ratio((0, 1)), 0.85, "");
    let name = line("requests/s, bare workerd sent what an edge adds / bare workerd");
    report.note(&name, busy.rate_ratio((3, 1)), "");
    let name = line("requests/s, Skep / bare workerd sent what an edge adds");
    report.note(&name, busy.rate_ratio((0, 3)), "");
    report.at_most(&line("p99, Skep / bare workerd"), busy.p99_ratio((0, 1)), 0.5, "");
    report.note(&line("p99, Skep / bare workerd sent what an edge adds"), busy.p99_ratio((0, 3)), "");
    report.note(&line("p99, bare workerd"), busy.of(1, |s| s.load.percentile(0.99) / 1000.0), "ms");
    report.note(&line("requests/s, Skep / Miniflare"), busy.rate_ratio((0, 2)), "");
    report.note(&line("Skep"), busy.of(0, |s| s.load.rate()), "requests/s");
    let cpu = busy.of(0, |s| s.own_cpu);
    report.at_most(&line("the edge's CPU per request"), cpu, 15.0, "µs");
    let mut nginx = 0.0;
    if peers.proxy.is_some() {
        nginx = busy.of(4, |s| s.own_cpu).median;
        let name = line("requests/s, nginx as a proxy / bare workerd");
        report.note(&name, busy.rate_ratio((4, 1)), "");
        let name = line("CPU per request, nginx as a proxy");
        report.note(&name, busy.of(4, |s| s.own_cpu), "µs");
        let name = line("CPU per request, Skep's edge / nginx as a proxy");
        report.note(&name, busy.pairs((0, 4), |s| s.own_cpu, |ours, theirs| ours / theirs), "");
    }
    let plan = Plan { connections: 1, time: Duration::from_millis(800), rounds: 6 };
    let alone = compare(&[&peers.skep, &peers.workerd], "/hello", plan).await?;
    let above = alone.pairs((0, 1), |s| s.load.percentile(0.5), |ours, theirs| ours - theirs);
    report.at_most("hello, 1 connection: p50, Skep − bare workerd", above, 100.0, "µs");
    Ok(EdgeCpu { skep: cpu.median, nginx })
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
