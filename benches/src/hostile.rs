//! What a script notices of two others, one that loops for ever and one that takes all the memory it gets, again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;

use crate::load;
use crate::node::Node;
use crate::report::Report;
use crate::stats::Spread;
use crate::tools::Tools;

const LOOP: &str = "export default { fetch() { for (;;); } };";
const BOMB: &str = "const kept = []; export default { async fetch() {
    for (;;) { kept.push(new Uint8Array(4 << 20).fill(1)); await scheduler.wait(0); }
} };";
const WELL: &str = "export default { fetch() { return new Response('well') } };";
const CONNECTIONS: usize = 8;
const ROUNDS: u32 = 8;
const TIME: Duration = Duration::from_secs(3);

/// Everything.
pub async fn measure(tools: &Tools, report: &mut Report) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let node = Arc::new(Node::start(tools, dir.path(), &[]).await?);
    let limits = json!({ "limits": { "cpu_ms": 500 } });
    node.deploy_with(None, "loop", &limits, LOOP).await?;
    node.deploy_with(None, "bomb", &limits, BOMB).await?;
    node.deploy_with(None, "well", &limits, WELL).await?;
    let attacking = Arc::new(AtomicBool::new(false));
    let ended = Arc::new(AtomicU64::new(0));
    let _attackers = ["loop", "bomb"].map(|name| attacker(&node, name, &attacking, &ended));

    let (mut calm, mut beset, mut failed) = (Vec::new(), Vec::new(), 0);
    let host = Node::host("well");
    load::get_from(node.peer.address, &host, "/", CONNECTIONS, TIME).await;
    for round in 0..ROUNDS {
        // First one, then the other; and the other way around.
        for attacked in [round % 2 == 1, round % 2 == 0] {
            attacking.store(attacked, Ordering::SeqCst);
            // What was begun comes to its end, and what begins is under way.
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let load = load::get_from(node.peer.address, &host, "/", CONNECTIONS, TIME).await;
            failed += load.failed;
            if attacked { &mut beset } else { &mut calm }.push(load.p99());
        }
    }
    attacking.store(false, Ordering::SeqCst);
    if ended.load(Ordering::SeqCst) == 0 {
        return Err("nobody attacked".into());
    }
    let one = |value: f64| Spread::of([value]);
    let ratios = Spread::of(beset.iter().zip(&calm).map(|(beset, calm)| beset / calm));
    report.at_most("p99 of a script beside an endless loop and a heap bomb / without them", ratios, 2.0, "");
    report.at_most("its requests that failed", one(failed as f64), 0.0, "");
    report.note("its p99 without them", Spread::of(calm), "µs");
    report.note("attacks that were answered with an error", one(ended.load(Ordering::SeqCst) as f64), "");
    Ok(())
}

/// Calls `name` again and again while `attacking`, and counts what is refused or ended.
fn attacker(
    node: &Arc<Node>,
    name: &'static str,
    attacking: &Arc<AtomicBool>,
    ended: &Arc<AtomicU64>,
) -> JoinHandle<()> {
    let (node, attacking, ended) = (node.clone(), attacking.clone(), ended.clone());
    tokio::spawn(async move {
        loop {
            if attacking.load(Ordering::SeqCst) {
                let status = node.visit(name).await;
                ended.fetch_add(u64::from(status == Some(503)), Ordering::SeqCst);
            }
            // Who is refused at once comes back soon.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}
