//! `cargo bench -p skep-benches`: Skep beside its peers, as a table, in `README.md` and in `results.json`.
//! Words after `--` choose what to measure; nothing is written then.

use std::process::ExitCode;

use skep_benches::hello::Peers;
use skep_benches::report::Report;
use skep_benches::tools::{Tools, machine};
use skep_benches::{
    assets, bindings, deploying, developing, floor, growth, hello, hostile, serving, streaming, tenants,
};

fn main() -> ExitCode {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if let [command, port, upstream] = chosen.as_slice()
        && command == floor::COMMAND
    {
        return relay(port, upstream);
    }
    // One thread: the peers have the rest of the machine.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(|e| e.to_string()).and_then(|runtime| runtime.block_on(run(&chosen)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The program that only passes bytes on.
fn relay(port: &str, upstream: &str) -> ExitCode {
    let addresses = port.parse().ok().zip(upstream.parse().ok());
    match addresses.map(|(port, upstream)| floor::relay(port, upstream)) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("error: {port} {upstream} are no port and address");
            ExitCode::FAILURE
        }
    }
}

async fn run(chosen: &[String]) -> Result<(), String> {
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|word| word == name);
    let tools = Tools::prepare()?;
    let mut report = Report::default();
    if ["hello", "bindings", "streaming"].into_iter().any(wanted) {
        let peers = Peers::start(&tools).await?;
        let edge = hello::measure(&peers, &mut report).await?;
        if wanted("bindings") {
            bindings::measure(&peers, edge, &mut report).await?;
        }
        if wanted("streaming") {
            streaming::measure(&peers, &mut report).await?;
        }
        hello::weigh(&peers.skep, &mut report);
    }
    if wanted("assets") {
        assets::measure(&tools, &mut report).await?;
    }
    if wanted("developing") {
        developing::measure(&tools, &mut report).await?;
    }
    if wanted("growth") {
        growth::measure(&tools, &mut report).await?;
    }
    if wanted("serving") {
        serving::measure(&tools, &mut report).await?;
    }
    if wanted("dispatch") {
        serving::dispatch(&tools, &mut report).await?;
    }
    if wanted("hostile") {
        hostile::measure(&tools, &mut report).await?;
    }
    if wanted("deploying") {
        deploying::measure(&tools, &mut report).await?;
    }
    if wanted("tenants") {
        tenants::measure(&tools, &mut report).await?;
    }
    println!("\n{}\n\n{}", machine(), report.markdown());
    if chosen.is_empty() {
        let json = serde_json::to_string_pretty(&report.json(&machine())).map_err(|e| e.to_string())?;
        std::fs::write(tools.file("results.json"), json + "\n").map_err(|e| e.to_string())?;
        let readme = tools.file("README.md");
        let text = std::fs::read_to_string(&readme).map_err(|e| e.to_string())?;
        std::fs::write(&readme, report.replace_in(&text, &machine())).map_err(|e| e.to_string())?;
    }
    Ok(())
}
