//! `skep serve`: a node that keeps what was deployed, serves it, and speaks the v4 API.

mod accounts;
mod acme;
mod alarms;
mod authority;
mod backup;
mod backups;
mod boxes;
mod browsers;
mod control;
mod credentials;
mod export;
mod hosts;
mod hyperdrive;
mod images;
mod links;
mod machine;
mod mail;
mod metrics;
mod names;
mod notifications;
mod patterns;
mod public_buckets;
mod quota;
mod rotate;
mod runner;
mod s3;
mod sizes;
mod stored;
mod stored_secrets;
mod tails;
mod tenant;
mod tls;
mod traces;
mod version;
mod workflows;

use std::path::Path;
use std::sync::Arc;

use skep_api::{Addresses, Api, BASE};
use skep_catalog::{Registry, Sealer};
use skep_edge::{EdgeOptions, Places, Traffic};
use skep_fleet::{Machine, MachineOptions};
use skep_runtime::{Clock, Jobs, Shutdown};
use skep_sandbox::Sandbox;
use skep_toolchain::Toolchain;
use tokio::net::TcpListener;

use crate::args::ServeArgs;
use crate::signals::Signals;
use crate::terminal::{Style, paint, say};
use accounts::Accounts;
pub use backup::{backup, restore_archive as restore};
pub use backups::OWNER;
pub use credentials::Credentials;
pub use hyperdrive::{Place, parse_place};
pub use rotate::rotate;
use runner::Surroundings;

/// Connections to the API, and to the metrics: whoever can reach these can open some without a token.
const CLIENTS: skep_wire::CrowdLimits = skep_wire::CrowdLimits { all: 2048, per_address: 256 };

/// How long a collector has to take what is said last.
const LAST_EXPORT: std::time::Duration = std::time::Duration::from_secs(3);

/// Runs until a signal ends it.
pub async fn run(args: ServeArgs) -> Result<(), String> {
    crate::files::open_many();
    let schedule = match &args.backup_to {
        None => None,
        Some(to) => Some(backups::Schedule {
            to: crate::backups::parse(to, args.backup_key.as_deref())?,
            every: args.backup_every,
            keep: args.backup_keep,
        }),
    };
    let (trigger, shutdown) = Shutdown::new();
    let mut signals = Signals::listen()?;
    let clock = Clock::system();
    let jobs = Jobs::new(clock.clone(), shutdown.clone());
    crate::stores::let_sleep(&jobs);
    let data = std::path::absolute(&args.data).unwrap_or_else(|_| args.data.clone());
    if let Some(schedule) = &schedule {
        schedule.to.is_outside(&data)?;
    }
    std::fs::create_dir_all(&data).map_err(|e| format!("cannot create {}: {e}", data.display()))?;
    let in_data = |error: &dyn std::fmt::Display| format!("cannot use {}: {error}", data.display());
    let is_first = !data.join("registry.sqlite").exists();
    let key_file = args.key_file.clone().unwrap_or_else(|| data.join("secrets.key"));
    if !is_first && !key_file.exists() {
        return Err(no_key(&key_file));
    }
    let registry = Arc::new(Registry::open(&data.join("registry.sqlite")).map_err(|e| in_data(&e))?);
    let sealer = Arc::new(Sealer::open(&key_file).map_err(|e| e.to_string())?);
    let ai = args.ai.open(|name| std::env::var(name).ok())?;
    let places = match &args.geoip[..] {
        [] => None,
        files => Some(Places::open(files).map_err(|e| e.to_string())?),
    };
    let engine = engine(&args).await?;
    let launcher = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let sandbox = sandbox(&args, &launcher, &engine).await?;

    // Who starts a node twice hears of that, not of its ports.
    drop(backup::locks(&data)?);
    let api_listener = bind("--api", args.api).await?;
    let http_listener = bind("--http", args.http).await?;
    let https_listener = match args.https {
        None => None,
        Some(address) => Some(bind("--https", address).await?),
    };
    let own_certificate = tls::own(&args)?;
    let acme = acme::open(&data, &args.acme, &clock).await?;
    let https_port = match &https_listener {
        None => None,
        Some(listener) => Some(listener.local_addr().map_err(|e| e.to_string())?.port()),
    };
    let metrics_listener = match args.metrics {
        None => None,
        Some(address) => Some(bind("--metrics", address).await?),
    };
    let api_address = api_listener.local_addr().map_err(|e| e.to_string())?;
    let http_port = http_listener.local_addr().map_err(|e| e.to_string())?.port();
    let addresses = Addresses {
        scheme: if https_port.is_some() { "https" } else { "http" },
        domain: args.base_domain.first().cloned().unwrap_or_else(|| "localhost".into()),
        port: match https_port.unwrap_or(http_port) {
            80 | 443 => String::new(),
            port => format!(":{port}"),
        },
        api: format!("http://{api_address}"),
    };
    let api_base = format!("{}{BASE}", addresses.api);
    let credentials = credentials::establish(&data, &registry, &api_base, &clock).await?;
    let meters = Arc::new(metrics::Meters::new(args.metrics_scripts));
    let egress: Vec<String> = std::iter::once("public".to_owned()).chain(args.egress_allow.clone()).collect();
    let browsers = browsers::open(&args, &launcher, &sandbox, &egress).await?;
    let exporter = export::open(args.otlp_endpoint.clone())?;
    let relay = args.mail.relay(&clock)?;
    let machine = Machine::new(MachineOptions {
        launcher,
        engine,
        sandbox,
        max_cells: args.max_cells.unwrap_or_else(machine::cells_that_fit),
        waiting: args.waiting_cells,
        wait_at_once: true,
    });
    let machine = machine.map_err(|e| format!("cannot make the folder for cells' sockets: {e}"))?;
    let image_credentials = Arc::new(skep_registry::Credentials::new(clock.clone()));
    let account_ids: Vec<String> =
        registry.accounts().map_err(|e| e.to_string())?.into_iter().map(|account| account.id).collect();
    let (boxes, images_listener) = match &args.containers {
        None => {
            boxes::clear(&data, &account_ids).await;
            (None, None)
        }
        Some(named) => {
            // Docker takes plain http from this address alone, and a registry of one's own needs no other.
            let listener = bind("--containers", (std::net::Ipv4Addr::LOCALHOST, 0).into()).await?;
            let address = listener.local_addr().map_err(|e| e.to_string())?;
            let named = Some(named.as_str()).filter(|named| !named.is_empty());
            let boxes =
                boxes::Boxes::open(named, &data, &account_ids, address, image_credentials.clone()).await?;
            boxes::watch(&boxes, &jobs);
            (Some(boxes), Some(listener))
        }
    };
    let accounts = Accounts::open(
        &data,
        registry.clone(),
        addresses,
        args.base_domain.clone(),
        jobs.clone(),
        Surroundings {
            machine: machine.clone(),
            sealer: sealer.clone(),
            clock: clock.clone(),
            shutdown: shutdown.clone(),
            meters: meters.clone(),
            exporter: exporter.clone(),
            log: Arc::new(|log| tracing::info!(script = log.script, event = ?log.event)),
            rest: args.idle_timeout,
            per_script: args.cells_per_script.map_or_else(machine::cores, usize::from),
            cell_requests: args.cell_requests,
            wait_until: args.wait_until,
            alone: args.object_timeout,
            cell_memory: u64::from(args.cell_memory) << 20,
            object_room: machine::object_room(args.object_memory),
            keeps: tenant::Keeps {
                logs: skep_logs::Retention { age: args.log_retention, bytes: u64::from(args.log_size) << 20 },
                stores: crate::stores::Keeping {
                    history: args.d1.retention(),
                    cache: Some(u64::from(args.cache_size) << 20),
                },
                storage: args.max_account_storage.map(|mib| mib << 20),
            },
            images: crate::images::open()?,
            ai,
            credentials: image_credentials,
            boxes,
            browsers,
            hyperdrive: hyperdrive::connector(&egress, args.hyperdrive_allow.clone())?,
            relay: relay.clone(),
            hyperdrive_password: uuid::Uuid::new_v4().simple().to_string(),
            egress,
        },
    )
    .await?;
    let api =
        Api::new(accounts.clone(), registry, sealer.clone(), clock, args.scripts.limits(), relay.is_some());
    let keeper = backups::Keeper::new(data.clone(), key_file, accounts.clone(), shutdown.clone());
    let by_clock = schedule.is_some();
    if let Some(schedule) = schedule {
        say(&format!("{} Backups go to {}", paint(Style::Green, "⬢"), schedule.to.shown()));
        backups::schedule(keeper.clone(), schedule, &jobs);
    }
    let control =
        control::Control { keeper: keeper.clone(), accounts: accounts.clone(), api: api.clone(), sealer };
    let listener = skep_wire::bind_unix(&control::socket(&data)).map_err(|e| e.to_string())?;
    tokio::spawn(skep_wire::serve_unix(listener, Arc::new(control), shutdown.clone()));
    if let Some(listener) = images_listener {
        let own = Arc::new(images::Registry::new(accounts.clone()));
        tokio::spawn(skep_wire::serve_tcp(listener, own, CLIENTS, shutdown.clone()));
    }
    let front = Arc::new(images::Front::new(api, accounts.clone()));
    tokio::spawn(skep_wire::serve_tcp(api_listener, front, CLIENTS, shutdown.clone()));
    let traffic = Arc::new(Traffic::default());
    let metrics = metrics::Metrics::new(
        accounts.clone(),
        meters,
        traffic.clone(),
        acme.clone(),
        exporter.clone(),
        jobs.clone(),
        by_clock.then_some(keeper),
    );
    if let Some(exporter) = &exporter {
        exporter.measure(Arc::new(metrics.clone()));
        for to in exporter.settings().shown() {
            say(&format!("{} Telemetry goes to {to}", paint(Style::Green, "⬢")));
        }
    }
    if let Some(relay) = relay {
        say(&format!("{} Mail of workers goes to {}", paint(Style::Green, "⬢"), relay.shown()));
        tokio::spawn(async move { relay.check().await });
    }
    if let Some(listener) = metrics_listener {
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        tokio::spawn(skep_wire::serve_tcp(listener, Arc::new(metrics), CLIENTS, shutdown.clone()));
        say(&format!("{} Metrics at http://{address}/metrics", paint(Style::Green, "⬢")));
    }
    let options = EdgeOptions {
        show_errors: false,
        timezone: crate::dev::timezone(),
        places: places.map(Arc::new),
        tls: None,
        limits: args.visitors.limits(),
        traffic,
    };
    let hosts = accounts.hosts();
    let by_acme = acme.is_some();
    let secure = match https_listener {
        None => None,
        Some(listener) => {
            let wanted =
                acme.map(|acme| Arc::new(acme::Wanted::new(acme, hosts.clone(), own_certificate.clone())));
            let config = tls::Certificates::new(&data, own_certificate, wanted.clone())?.config()?;
            if let Some(wanted) = wanted {
                acme::drive(wanted, &jobs);
            }
            let options = EdgeOptions { tls: Some(config), ..options.clone() };
            Some(tokio::spawn(skep_edge::serve(listener, hosts.clone(), options, shutdown.clone())))
        }
    };
    let edge = tokio::spawn(skep_edge::serve(http_listener, hosts, options, shutdown));

    credentials.announce(&data);
    say(&format!("{} Ready on http://*.localhost:{http_port}", paint(Style::Green, "⬢")));
    if let Some(port) = https_port {
        say(&format!("{} Ready on https://*.localhost:{port}", paint(Style::Green, "⬢")));
        if let Some(directory) = &args.acme.acme_directory {
            say(&format!("  Certificates are ordered from {directory}"));
        }
        if args.tls_cert.is_none() {
            let others = if by_acme { "Other certificates" } else { "Certificates" };
            say(&format!(
                "  {others} are issued by {}: let your browser trust it",
                authority::certificate(&data).display()
            ));
        }
    }
    signals.any().await;
    trigger.trigger();
    let _ = edge.await;
    if let Some(secure) = secure {
        let _ = secure.await;
    }
    accounts.stop().await;
    machine.stop().await;
    if let Some(exporter) = exporter {
        exporter.finish(LAST_EXPORT).await;
    }
    let _ = std::fs::remove_file(control::socket(&data));
    Ok(())
}

fn no_key(file: &std::path::Path) -> String {
    format!(
        "{0} is missing, and the secrets that are kept here cannot be read without it: put it back, or name it with \
         --key-file. To go on without those secrets, write 64 random hexadecimal digits to {0}",
        file.display()
    )
}

async fn engine(args: &ServeArgs) -> Result<std::path::PathBuf, String> {
    let tools = Toolchain::locate(args.workerd.clone()).map_err(|e| e.to_string())?;
    let found = tokio::task::spawn_blocking(move || tools.engine()).await;
    found.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// Finds out what holds cells here, and says what does not.
async fn sandbox(args: &ServeArgs, launcher: &Path, engine: &Path) -> Result<Sandbox, String> {
    let (launcher, engine) = (launcher.to_owned(), engine.to_owned());
    let probed =
        tokio::task::spawn_blocking(move || Sandbox::probe(&launcher, skep_fleet::LAUNCHER_COMMAND, &engine));
    let sandbox = probed.await.map_err(|e| e.to_string())?;
    let sandbox = sandbox.map_err(|e| format!("cannot find out what can hold workers here: {e}"))?;
    let missing: Vec<&str> = sandbox.missing().into_iter().map(skep_sandbox::Layer::describe).collect();
    if missing.is_empty() {
        return Ok(sandbox);
    }
    let list = missing.iter().map(|what| format!("\n  * {what}")).collect::<String>();
    if args.require_sandbox {
        return Err(format!("this machine cannot hold workers as --require-sandbox asks:{list}"));
    }
    say(&format!(
        "{} Workers are held by less than usual here:{list}\n  Run trusted code only, or see --require-sandbox",
        paint(Style::Yellow, "▲")
    ));
    Ok(sandbox)
}

async fn bind(flag: &str, address: std::net::SocketAddr) -> Result<TcpListener, String> {
    let listening = TcpListener::bind(address).await;
    listening.map_err(|e| format!("cannot listen on {address}: {e}; {flag} names another address"))
}
