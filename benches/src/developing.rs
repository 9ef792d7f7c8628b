//! What a developer waits for: a start, and a saved change.

use std::time::{Duration, Instant};

use crate::load;
use crate::peers::{Project, skep, wrangler};
use crate::process::{Peer, memory_mib};
use crate::report::Report;
use crate::stats::Spread;
use crate::tools::Tools;

const WORKER: &str = r#"export default { fetch() { return new Response("ok", { status: 200 }); } };"#;
const OBJECTS: &str = r#"import { DurableObject } from "cloudflare:workers";
export class Counter extends DurableObject {}
export default { fetch() { return new Response("ok", { status: 200 }); } };"#;
const OBJECTS_CONFIG: &str = r#""main": "worker.js",
    "durable_objects": { "bindings": [{ "name": "COUNTER", "class_name": "Counter" }] },
    "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Counter"] }]"#;

/// Starting beside wrangler, saving, and what a cell weighs.
pub async fn measure(tools: &Tools, report: &mut Report) -> Result<(), String> {
    start(tools, report).await?;
    let plain = Project::new(r#""main": "worker.js""#, &[("worker.js", WORKER.as_bytes())])?;
    let peer = skep(tools, &plain, "/").await?;
    let saved = save(&plain, &peer, WORKER).await?;
    report.at_most("save → new code answers, a worker", saved, 150.0, "ms");
    let objects = Project::new(OBJECTS_CONFIG, &[("worker.js", OBJECTS.as_bytes())])?;
    let other = skep(tools, &objects, "/").await?;
    // Two cells run now, so that what they share is not counted as private.
    weigh(&peer, report)?;
    let saved = save(&objects, &other, OBJECTS).await?;
    report.at_most("save → new code answers, a worker with Durable Objects", saved, 150.0, "ms");
    Ok(())
}

async fn start(tools: &Tools, report: &mut Report) -> Result<(), String> {
    let project = Project::new(r#""main": "worker.js""#, &[("worker.js", WORKER.as_bytes())])?;
    let milliseconds = |peer: Peer| peer.started_in.as_secs_f64() * 1000.0;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        project.forget();
        ours.push(milliseconds(skep(tools, &project, "/").await?));
        project.forget();
        theirs.push(milliseconds(wrangler(tools, &project, "/").await?));
    }
    let ratio = Spread::of(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs));
    report.at_most("start to first answer: skep dev / wrangler dev", ratio, 0.1, "");
    report.note("start to first answer: skep dev", Spread::of(ours), "ms");
    report.note("start to first answer: wrangler dev", Spread::of(theirs), "ms");
    Ok(())
}

/// From writing the file to the first answer that only the new code gives.
async fn save(project: &Project, peer: &Peer, code: &str) -> Result<Spread, String> {
    let mut times = Vec::new();
    for round in 0..10 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        // The status tells old from new.
        let status = 210 + round;
        let start = Instant::now();
        project.write("worker.js", code.replace("200", &status.to_string()).as_bytes())?;
        while load::status(peer.address, "/").await != Some(status) {
            if start.elapsed() > Duration::from_secs(20) {
                return Err("saved code does not answer".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(Spread::of(times))
}

fn weigh(peer: &Peer, report: &mut Report) -> Result<(), String> {
    let is_engine =
        |pid: &u32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("workerd"));
    let cell = peer.processes().into_iter().find(is_engine).ok_or("Skep has no cell")?;
    let (resident, private) = memory_mib(cell);
    report.at_most("an idle cell: resident", Spread::of([resident]), 60.0, "MiB");
    report.at_most("an idle cell: private", Spread::of([private]), 12.0, "MiB");
    Ok(())
}
