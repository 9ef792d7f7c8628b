//! A worker that does nothing: what the edge adds.

use std::time::Duration;

use crate::peers::{Project, bare_workerd, bytes_relay, miniflare, nginx_around, nginx_proxy, skep};
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
    /// What only passes bytes on before the engine alone.
    pub relay: Peer,
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
            relay: bytes_relay(workerd.address, "/hello").await?,
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

/// What Cloudflare's edge, and Skep's, adds to every request: what the bench's client is sent through Skep with, header by header. An application may
/// read it, so the engine has to take it in.
const EDGE_HEADERS: &str = "CF-Connecting-IP: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n\
    X-Forwarded-Proto: http\r\nCF-Visitor: {\"scheme\":\"http\"}\r\nCF-Ray: 8f2c1e7b3a4d5e6f-LOC\r\nX-Skep-Proto: http\r\n\
    X-Skep-CF: {\"colo\":\"LOC\",\"httpProtocol\":\"HTTP/1.1\",\"timezone\":\"Etc/UTC\",\"requestPriority\":\"\",\
    \"edgeRequestKeepAliveStatus\":1,\"tlsVersion\":\"\",\"tlsCipher\":\"\",\"clientAcceptEncoding\":\"identity\"}\r\n";

/// How long the engine alone is compared with. An engine at its defaults stands still for 80 to 230 ms while it collects, once in 30,000
/// to 50,000 requests: in a second and a half that happens or does not.
const SUSTAINED: Plan = Plan { connections: 64, time: Duration::from_secs(6), rounds: 5 };

/// Hello world at 64 connections and at one.
pub async fn measure(peers: &Peers, report: &mut Report) -> Result<EdgeCpu, String> {
    let line = |what: &str| format!("hello, 64 connections: {what}");
    let plain = |peer| Target { peer, path: "/hello", headers: "" };
    let workerd = Target { headers: EDGE_HEADERS, ..plain(&peers.workerd) };
    let long = compare_targets(&[plain(&peers.skep), plain(&peers.workerd), workerd], SUSTAINED).await?;
    report.at_least(&line("requests/s, Skep / bare workerd"), long.rate_ratio((0, 1)), 0.85, "");
    let name = line("requests/s, bare workerd sent what an edge adds / bare workerd");
    report.note(&name, long.rate_ratio((2, 1)), "");
    report.note(&line("requests/s, Skep / bare workerd sent what an edge adds"), long.rate_ratio((0, 2)), "");
    report.at_most(&line("p99, Skep / bare workerd"), long.p99_ratio((0, 1)), 0.5, "");
    report.note(&line("p99, Skep / bare workerd sent what an edge adds"), long.p99_ratio((0, 2)), "");
    report.note(&line("p99, bare workerd"), long.of(1, |s| s.load.p99() / 1000.0), "ms");
    let plan = Plan { connections: 64, time: Duration::from_millis(1500), rounds: 6 };
    let mut all = [&peers.skep, &peers.workerd, &peers.miniflare, &peers.relay].map(plain).to_vec();
    all.extend(peers.proxy.iter().map(plain));
    let busy = compare_targets(&all, plan).await?;
    report.note(&line("requests/s, Skep / Miniflare"), busy.rate_ratio((0, 2)), "");
    report.note(&line("Skep"), busy.of(0, |s| s.load.rate()), "requests/s");
    let cpu = busy.of(0, |s| s.own_cpu);
    report.at_most(&line("the edge's CPU per request"), cpu, 15.0, "µs");
    report.note(&line("CPU per request, a relay that only passes bytes on"), busy.of(3, |s| s.own_cpu), "µs");
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
