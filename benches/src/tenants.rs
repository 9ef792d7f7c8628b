//! Workers for Platforms: a thousand tenants behind one dispatcher, few of them warm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::load;
use crate::node::Node;
use crate::process::memory_mib;
use crate::report::Report;
use crate::stats::Spread;
use crate::tools::Tools;

const TENANTS: u32 = 1_000;
const IN_FLIGHT: u32 = 20;
/// So many of them start in bursts, the others twenty at any time.
const IN_BURSTS: u32 = 200;
const WARM: u32 = 100;

const DISPATCHER: &str = "export default { fetch(request, env) {
  return env.TENANTS.get(new URL(request.url).pathname.slice(1)).fetch(request);
} };";
const TENANT: &str = "export default { fetch() { return new Response(\"ok\"); } };";

/// Everything.
pub async fn measure(tools: &Tools, report: &mut Report) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let node = Node::start(tools, dir.path(), &[]).await?;
    node.call("POST", "/workers/dispatch/namespaces", "application/json", br#"{"name":"tenants"}"#).await?;
    node.deploy(Some("tenants"), "tenant", &json!([]), TENANT).await?;
    let binding = json!([{ "type": "dispatch_namespace", "name": "TENANTS", "namespace": "tenants" }]);
    node.deploy(None, "dispatcher", &binding, DISPATCHER).await?;
    node.multiply("tenant", TENANTS)?;

    let enough = IN_FLIGHT.to_string();
    let node = Arc::new(Node::start(tools, dir.path(), &["--waiting-cells", &enough]).await?);
    let (times, unanswered) = bursts(&node).await?;
    latency(report, "20 tenants start at once, --waiting-cells 20", times);
    drop(node);
    let node = Arc::new(Node::start(tools, dir.path(), &[]).await?);
    let (times, failed) = bursts(&node).await?;
    latency(report, "20 tenants start at once", times);
    let mut failed = unanswered + failed;

    let (mut times, mut running) = (Vec::new(), JoinSet::new());
    for n in IN_BURSTS..TENANTS {
        if running.len() == IN_FLIGHT as usize {
            match running.join_next().await.transpose().map_err(|e| e.to_string())? {
                Some(Ok(time)) => times.push(time),
                _ => failed += 1,
            }
        }
        running.spawn(first_byte(node.clone(), n));
    }
    for time in running.join_all().await {
        match time {
            Ok(time) => times.push(time),
            Err(_) => failed += 1,
        }
    }
    latency(report, "tenants start, 20 in flight at any time", times);
    let one = |value: f64| Spread::of([value]);
    report.at_most(
        "1,000 tenants, each called once: requests without an answer",
        one(f64::from(failed)),
        0.0,
        "",
    );
    drop(node);

    let node = Node::start(tools, dir.path(), &[]).await?;
    for n in 0..WARM {
        visit(&node, &format!("tenant-{n}")).await?;
    }
    let processes = node.peer.processes();
    if processes.len() < WARM as usize {
        return Err(format!("{} processes are not {WARM} warm tenants", processes.len()));
    }
    let memory: f64 = processes.into_iter().map(|pid| memory_mib(pid).1).sum();
    report.at_most("100 tenants warm at once: private memory of all processes", one(memory), 2048.0, "MiB");
    Ok(())
}

/// Bursts of starts: what each took, and how many had no answer.
async fn bursts(node: &Arc<Node>) -> Result<(Vec<f64>, u32), String> {
    visit(node, "tenant").await?;
    let (mut times, mut failed) = (Vec::new(), 0);
    for burst in 0..IN_BURSTS / IN_FLIGHT {
        // The end of the last burst is not a part of this one; engines for this one are started meanwhile.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let names = (burst * IN_FLIGHT..).take(IN_FLIGHT as usize);
        let all: JoinSet<_> = names.map(|n| first_byte(node.clone(), n)).collect();
        for time in all.join_all().await {
            match time {
                Ok(time) => times.push(time),
                Err(_) => failed += 1,
            }
        }
    }
    Ok((times, failed))
}

fn latency(report: &mut Report, what: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    report.at_most(&format!("{what}: first byte"), Spread::of(times), 60.0, "ms");
    report.at_most(&format!("{what}: first byte, p99"), Spread::of([p99]), 200.0, "ms");
}

/// Milliseconds.
async fn first_byte(node: Arc<Node>, tenant: u32) -> Result<f64, String> {
    let start = Instant::now();
    visit(&node, &format!("tenant-{tenant}")).await?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

async fn visit(node: &Node, tenant: &str) -> Result<(), String> {
    match load::status_from(node.peer.address, &Node::host("dispatcher"), &format!("/{tenant}")).await {
        Some(200) => Ok(()),
        status => Err(format!("{tenant} answers with {status:?}")),
    }
}
