//! A node: deploys, many scripts, cold starts, dispatch.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::load;
use crate::node::Node;
use crate::peers::{Engines, engine_calls_engine};
use crate::process::{Peer, cpu_us, memory_mib};
use crate::report::Report;
use crate::stats::Spread;
use crate::tools::Tools;

const MANY: u32 = 10_000;

/// Everything.
pub async fn measure(tools: &Tools, report: &mut Report) -> Result<(), String> {
    deploys(tools, report).await?;
    many(tools, report).await
}

fn code(status: u16) -> String {
    format!("export default {{ fetch() {{ return new Response(\"ok\", {{ status: {status} }}); }} }};")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn scratch() -> Result<tempfile::TempDir, String> {
    tempfile::tempdir().map_err(|e| e.to_string())
}

/// How long a deploy takes, and whether visitors notice.
async fn deploys(tools: &Tools, report: &mut Report) -> Result<(), String> {
    let dir = scratch()?;
    let node = Node::start(tools, dir.path(), &[]).await?;
    let mut times = Vec::new();
    let padding = "x".repeat(1 << 20);
    for round in 0..15 {
        // The status tells old from new.
        let status = 210 + round;
        let large = format!("{} // {padding}", code(status));
        let sent = node.deploy(None, "large", &json!([]), &large).await?;
        while node.visit("large").await != Some(status) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(milliseconds(sent.elapsed()));
    }
    report.at_most("upload of 1 MB received → new version answers", Spread::of(times), 300.0, "ms");

    node.deploy(None, "busy", &json!([]), &code(200)).await?;
    let (address, host) = (node.peer.address, Node::host("busy"));
    let seconds = 12;
    let load =
        tokio::spawn(
            async move { load::get_from(address, &host, "/", 64, Duration::from_secs(seconds)).await },
        );
    let start = Instant::now();
    for _ in 0..50 {
        node.deploy(None, "busy", &json!([]), &code(200)).await?;
    }
    let took = start.elapsed();
    if took > Duration::from_secs(seconds) {
        return Err(format!("50 deploys took {} s: longer than the load", took.as_secs()));
    }
    let load = load.await.map_err(|e| e.to_string())?;
    let one = |value: f64| Spread::of([value]);
    report.at_most("50 deploys under 64 connections: failed requests", one(load.failed as f64), 0.0, "");
    report.note("50 deploys under 64 connections: requests that succeeded", one(load.ok as f64), "");
    Ok(())
}

/// Ten thousand scripts: what they cost while nobody calls them, and the first call.
async fn many(tools: &Tools, report: &mut Report) -> Result<(), String> {
    let (few_dir, many_dir) = (scratch()?, scratch()?);
    for dir in [&few_dir, &many_dir] {
        let node = Node::start(tools, dir.path(), &[]).await?;
        node.deploy(None, "s", &json!([]), &code(200)).await?;
        if std::ptr::eq(dir, &many_dir) {
            node.multiply("s", MANY)?;
        }
    }
    let few = Node::start(tools, few_dir.path(), &[]).await?;
    let many = Node::start(tools, many_dir.path(), &[]).await?;
    let one = |value: f64| Spread::of([value]);
    let start = one(milliseconds(many.peer.started_in));
    report.at_most("10,000 scripts: start to first answer", start, 2000.0, "ms");
    let (resident, _) = memory_mib(many.peer.pid());
    report.at_most(
        "10,000 scripts, none of them called: Rust process, resident",
        one(resident),
        200.0,
        "MiB",
    );
    report.at_most(
        "10,000 scripts, none of them called: processes beside Skep's, with the four engines that wait",
        one(many.peer.processes().len() as f64 - 1.0),
        4.0,
        "",
    );

    let mut cpu = (Vec::new(), Vec::new());
    for _ in 0..6 {
        for (node, figures) in [(&few, &mut cpu.0), (&many, &mut cpu.1)] {
            let before = cpu_us(node.peer.pid());
            let host = Node::host("s");
            let load = load::get_from(node.peer.address, &host, "/", 16, Duration::from_millis(1000)).await;
            figures.push((cpu_us(node.peer.pid()) - before) / load.ok.max(1) as f64);
        }
    }
    let above = Spread::of(cpu.1.iter().zip(&cpu.0).map(|(many, few)| many - few));
    report.at_most("routing among 10,000 scripts: CPU per request, − among one", above, 20.0, "µs");

    let mut alone = Vec::new();
    for n in 0..40 {
        let start = Instant::now();
        visit(&many, &format!("s-{n}")).await?;
        alone.push(milliseconds(start.elapsed()));
    }
    report.at_most("cold start, one at a time: first byte", Spread::of(alone), 60.0, "ms");

    // Twenty at any time, until two hundred have answered.
    let mut times = Vec::new();
    let mut running = JoinSet::new();
    let many = std::sync::Arc::new(many);
    for n in 100..300 {
        if running.len() == 20 {
            times.extend(running.join_next().await.transpose().map_err(|e| e.to_string())?.transpose()?);
        }
        let node = many.clone();
        running.spawn(async move {
            let start = Instant::now();
            visit(&node, &format!("s-{n}")).await.map(|()| milliseconds(start.elapsed()))
        });
    }
    for time in running.join_all().await {
        times.push(time?);
    }
    times.sort_by(f64::total_cmp);
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    report.at_most("cold start, 20 in flight: first byte", Spread::of(times), 60.0, "ms");
    report.at_most("cold start, 20 in flight: first byte, p99", one(p99), 200.0, "ms");
    let memory: f64 = many.peer.processes().into_iter().map(|pid| memory_mib(pid).1).sum();
    report.note("240 scripts warm at once: private memory of all processes", one(memory), "MiB");
    Ok(())
}

async fn visit(node: &Node, name: &str) -> Result<(), String> {
    match node.visit(name).await {
        Some(200) => Ok(()),
        status => Err(format!("{name} answers with {status:?}")),
    }
}

const DISPATCHER: &str =
    "export default { fetch(request, env) { return env.TENANTS.get(\"tenant\").fetch(request); } };";

/// A dispatched request beside a direct one, and beside engines that have nothing of ours between them.
pub async fn dispatch(tools: &Tools, report: &mut Report) -> Result<(), String> {
    let dir = scratch()?;
    let node = Node::start(tools, dir.path(), &[]).await?;
    let namespace = br#"{"name":"tenants"}"#;
    node.call("POST", "/workers/dispatch/namespaces", "application/json", namespace).await?;
    node.deploy(Some("tenants"), "tenant", &json!([]), &code(200)).await?;
    node.deploy(None, "direct", &json!([]), &code(200)).await?;
    let binding = json!([{ "type": "dispatch_namespace", "name": "TENANTS", "namespace": "tenants" }]);
    node.deploy(None, "dispatcher", &binding, DISPATCHER).await?;
    visit(&node, "dispatcher").await?;
    visit(&node, "direct").await?;
    let Engines { calling, called, beside } = engine_calls_engine(tools, dir.path(), "/").await?;
    let at = |peer: &Peer| (peer.address, peer.address.to_string());
    let all = [
        (node.peer.address, Node::host("direct")),
        (node.peer.address, Node::host("dispatcher")),
        at(&called),
        at(&calling),
        (beside, beside.to_string()),
    ];
    for (connections, figure) in [(1, "p50"), (64, "time per request")] {
        let mut times = [const { Vec::new() }; 5];
        for round in 0..8 {
            for turn in 0..all.len() {
                let which = (round + turn) % all.len();
                let (address, host) = &all[which];
                let time = Duration::from_millis(500);
                let load = load::get_from(*address, host, "/", connections, time).await;
                times[which].push(match connections {
                    1 => load.percentile(0.5),
                    _ => 1e6 / load.rate(),
                });
            }
        }
        let [direct, dispatched, called, calling, beside] = times;
        let over = |above: &[f64], below: &[f64]| Spread::of(above.iter().zip(below).map(|(a, b)| a / b));
        let many = if connections == 1 { String::new() } else { format!(", {connections} connections") };
        let ratio = over(&dispatched, &direct);
        let name = format!("a dispatched request{many}: {figure}, warm / a direct one");
        match connections {
            1 => report.at_most(&name, ratio, 1.6, ""),
            _ => report.note(&name, ratio, ""),
        }
        let bare = "bare workerd that asks another over a unix socket";
        report.note(
            &format!("{bare}{many}: {figure} / the other one asked directly"),
            over(&calling, &called),
            "",
        );
        report.note(
            &format!("{bare}{many}: {figure} / a direct request to Skep"),
            over(&calling, &direct),
            "",
        );
        // What no dispatcher can be below: nothing leaves the process, and nothing of ours is there.
        let own = "bare workerd that asks a worker in its own process";
        report.note(&format!("{own}{many}: {figure} / that one asked directly"), over(&beside, &called), "");
        report.note(&format!("a direct request{many}: {figure}, warm"), Spread::of(direct), "µs");
        report.note(&format!("a dispatched request{many}: {figure}, warm"), Spread::of(dispatched), "µs");
    }
    Ok(())
}
