//! `skep deploy` onto a node: many assets of which few changed, and how much memory a large first upload takes.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::load;
use crate::node::Node;
use crate::process::peak_mib;
use crate::report::Report;
use crate::stats::Spread;
use crate::tools::Tools;

const CONFIG: &str = r#"{ "name": "site", "main": "index.js", "compatibility_date": "2026-07-01", "assets": { "directory": "public" } }"#;
const CODE: &str = "export default { fetch: () => new Response('ok') };";
/// Assets of the project that is deployed again and again.
const MANY: u32 = 2000;
/// Rounds of it.
const ROUNDS: u32 = 7;

/// Everything.
pub async fn measure(tools: &Tools, report: &mut Report) -> Result<(), String> {
    changes(tools, report).await?;
    memory(tools, report).await
}

fn write(path: &Path, content: &[u8]) -> Result<(), String> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, content))
        .map_err(|e| format!("cannot write {}: {e}", path.display()))
}

fn project(dir: &Path) -> Result<(), String> {
    write(&dir.join("wrangler.jsonc"), CONFIG.as_bytes())?;
    write(&dir.join("index.js"), CODE.as_bytes())
}

/// `skep deploy` as a command, with the node's credentials.
fn deploy(tools: &Tools, project: &Path, data: &Path) -> Command {
    let mut command = Command::new(&tools.skep);
    command.arg("deploy").arg(project).args(["--target", "skep", "--data"]).arg(data);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(mut command: Command) -> Result<String, String> {
    let output = command.output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// From the command's start until what changed is served.
async fn changes(tools: &Tools, report: &mut Report) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let (site, data) = (dir.path().join("site"), dir.path().join("data"));
    project(&site)?;
    let asset = |n: u32| site.join(format!("public/part-{}/file-{n}.html", n % 40));
    for n in 0..MANY {
        write(&asset(n), format!("<p>{n}</p>").repeat(400).as_bytes())?;
    }
    let node = Node::start(tools, &data, &[]).await?;
    let start = Instant::now();
    run(deploy(tools, &site, &data))?;
    let first = Spread::of([milliseconds(start.elapsed())]);
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        for n in 0..2 {
            write(&asset(round * 100 + n), format!("changed in {round}").as_bytes())?;
        }
        // The third one is new, so that its answer tells the new version from the old one.
        write(&site.join(format!("public/new-{round}.txt")), b"new")?;
        let start = Instant::now();
        let said = run(deploy(tools, &site, &data))?;
        let path = format!("/new-{round}.txt");
        while load::status_from(node.peer.address, &Node::host("site"), &path).await != Some(200) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(milliseconds(start.elapsed()));
        if !said.contains(" files sent") {
            return Err(format!("nothing was sent:\n{said}"));
        }
    }
    report.at_most("2,000 assets, 3 changed: skep deploy → served", Spread::of(times), 2000.0, "ms");
    report.note("2,000 assets, first: skep deploy", first, "ms");
    Ok(())
}

/// The most memory that `skep deploy` has while it uploads 200 MiB.
async fn memory(tools: &Tools, report: &mut Report) -> Result<(), String> {
    for (files, size) in [(200, 1_u32 << 20), (8, 25 << 20)] {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let (site, data) = (dir.path().join("site"), dir.path().join("data"));
        project(&site)?;
        for n in 0..files {
            // Each has a content of its own: equal ones would be sent once.
            let content: Vec<u8> =
                (0..size).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ n).collect();
            write(&site.join(format!("public/{n}.bin")), &content)?;
        }
        let _node = Node::start(tools, &data, &[]).await?;
        let mut child =
            deploy(tools, &site, &data).stdout(Stdio::null()).spawn().map_err(|e| e.to_string())?;
        let mut peak = 0.0_f64;
        let status = loop {
            // The kernel keeps the highest value; it is gone with the process.
            peak = peak.max(peak_mib(child.id()));
            match child.try_wait().map_err(|e| e.to_string())? {
                Some(status) => break status,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        if !status.success() {
            return Err(format!("skep deploy ended with {status}"));
        }
        let what = format!("first deploy of 200 MiB in {files} assets: peak resident memory of skep deploy");
        report.at_most(&what, Spread::of([peak]), 150.0, "MiB");
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
