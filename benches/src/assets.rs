//! A static file of 10 KiB, which does not touch the worker.

use std::time::Duration;

use crate::peers::{Project, miniflare, nginx, skep};
use crate::report::Report;
use crate::rounds::{Plan, compare};
use crate::tools::Tools;

/// The file beside nginx and Miniflare.
pub async fn measure(tools: &Tools, report: &mut Report) -> Result<(), String> {
    let path = "/file.txt";
    let content: Vec<u8> =
        b"Ten kibibytes, all of them ASCII.\n".iter().copied().cycle().take(10 << 10).collect();
    let code = std::fs::read(tools.file("workers/worker.js")).map_err(|e| e.to_string())?;
    let settings = r#""main": "worker.js", "assets": { "directory": "public" }"#;
    let project = Project::new(settings, &[("worker.js", &code), ("public/file.txt", &content)])?;
    let public = project.path().join("public");
    let scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
    let skep = skep(tools, &project, path).await?;
    let miniflare = miniflare(tools, scratch.path(), Some(&public), path).await?;
    let nginx = nginx(&public, scratch.path(), path).await?;
    let mut peers = vec![&skep, &miniflare];
    peers.extend(&nginx);
    let plan = Plan { connections: 64, time: Duration::from_millis(1500), rounds: 4 };
    let rounds = compare(&peers, path, plan).await?;
    if nginx.is_some() {
        report.at_least("asset of 10 KiB: requests/s, Skep / nginx", rounds.rate_ratio((0, 2)), 1.0, "");
    }
    report.at_least("asset of 10 KiB: requests/s, Skep / Miniflare", rounds.rate_ratio((0, 1)), 10.0, "");
    report.note("asset of 10 KiB: Skep", rounds.of(0, |s| s.load.rate()), "requests/s");
    report.note("asset of 10 KiB: Skep's CPU per request", rounds.of(0, |s| s.own_cpu), "µs");
    Ok(())
}
