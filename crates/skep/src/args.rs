//! The command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Runs Cloudflare Workers applications on machines you own.
#[derive(Debug, Parser)]
#[command(name = "skep", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a wrangler project on this machine, with every binding real and durable
    Dev(DevArgs),
    /// Run a node that keeps and serves what wrangler deploys to it
    Serve(Box<ServeArgs>),
    /// Write everything that a node keeps into one archive, or what is new into a bucket, also while it serves
    Backup(BackupArgs),
    /// List the backups in a bucket or a folder
    Backups(BackupsArgs),
    /// Make a node's data folder from an archive, or a backup in a bucket
    Restore(RestoreArgs),
    /// What a node's secrets are encrypted with
    #[command(subcommand)]
    Secrets(SecretsCommand),
    /// Deploy a wrangler project to Skep or to Cloudflare
    Deploy(crate::deploy::DeployArgs),
    /// Say whether a project can be deployed, without deploying it
    Check(crate::deploy::CheckArgs),
    /// Put the version before the present one in force again
    Rollback(crate::deploy::RollbackArgs),
    /// Copy the data of an account on Cloudflare, or on another node, into a node: KV, R2 and D1
    Import(crate::deploy::ImportArgs),
    /// Write the data of an account into a folder: KV, R2 and D1
    Export(crate::deploy::ExportArgs),
    /// Write the TypeScript types of a project's bindings
    Types(crate::types::TypesArgs),
}

/// `skep dev`
#[derive(Clone, Debug, Args)]
pub struct DevArgs {
    /// The project: its folder, or its entry file in place of the configuration's `main`
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// The configuration file; several times for several workers, of which the first takes the requests
    #[arg(short, long = "config", value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// A worker in a dispatch namespace, by its configuration file or folder; several times for several workers
    #[arg(long = "dispatch-namespace", value_name = "NAMESPACE=FILE", value_parser = parse_namespaced)]
    pub namespaced: Vec<(String, PathBuf)>,
    /// The environment of the configuration to use
    #[arg(short, long, value_name = "NAME")]
    pub env: Option<String>,
    /// The port to listen on; 0 for any free one [default: `dev.port`, or 8787 or the next free one]
    #[arg(long)]
    pub port: Option<u16>,
    /// The address to listen on [default: 127.0.0.1]
    #[arg(long, visible_alias = "ip", value_parser = parse_host)]
    pub host: Option<IpAddr>,
    /// The port for Chrome DevTools [default: `dev.inspector_port`, or 9229 or the next free one]
    #[arg(long)]
    pub inspector_port: Option<u16>,
    /// Where state is kept between runs [default: .skep in the project's folder]
    #[arg(long, value_name = "DIR")]
    pub persist_to: Option<PathBuf>,
    /// A variable as NAME:VALUE; goes before those in files
    #[arg(long = "var", value_name = "NAME:VALUE", value_parser = parse_var)]
    pub vars: Vec<(String, String)>,
    /// Answer /__scheduled?cron=... by running the `scheduled` handler
    #[arg(long)]
    pub test_scheduled: bool,
    /// Print the engine's configuration and end
    #[arg(long)]
    pub print_config: bool,
    /// The engine's binary, instead of the pinned one
    #[arg(long, value_name = "FILE", env = "SKEP_WORKERD")]
    pub workerd: Option<PathBuf>,
    /// What `ai` bindings lead to
    #[command(flatten)]
    pub ai: crate::ai::AiArgs,
    /// The browser that `browser` bindings lead to, of the Chrome family [default: one that is fetched when it is first needed, on
    /// Linux on x86-64; elsewhere the one that is installed]
    #[arg(long, value_name = "FILE", env = "SKEP_BROWSER")]
    pub browser: Option<PathBuf>,
    /// Whether to run the containers of Durable Objects, which needs Docker [default: `dev.enable_containers`, or true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable_containers: Option<bool>,
    /// Where Docker listens [default: `dev.container_engine`, or DOCKER_HOST, or the usual sockets]
    #[arg(long, value_name = "SOCKET")]
    pub container_engine: Option<String>,
    /// Install the project's npm dependencies without asking, where a lock file but no node_modules is there
    #[arg(long)]
    pub yes: bool,
}

/// `skep serve`
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// The folder that everything is kept in
    #[arg(long, value_name = "DIR", default_value = "skep-data")]
    pub data: PathBuf,
    /// Where the API listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8788")]
    pub api: SocketAddr,
    /// Where visitors are served
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8787")]
    pub http: SocketAddr,
    /// Where visitors are served over TLS
    #[arg(long, value_name = "HOST:PORT")]
    pub https: Option<SocketAddr>,
    /// A certificate chain (PEM) for --https, instead of one that Skep's own authority issues for each name
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Certificates from an ACME authority
    #[command(flatten)]
    pub acme: crate::acme::AcmeArgs,
    /// Where Prometheus reads what the node does, at /metrics; there is no password [default: nowhere]
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Where visitors are, for `request.cf` and CF-IPCountry: a MaxMind DB file, such as GeoLite2-City.mmdb; several times for several
    #[arg(long, value_name = "FILE")]
    pub geoip: Vec<PathBuf>,
    /// So many scripts have metrics of their own, those that are used first; the others' are counted together
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub metrics_scripts: usize,
    /// Traces, logs and metrics go to this OpenTelemetry collector, over OTLP/HTTP: http://127.0.0.1:4318
    /// [default: what OTEL_EXPORTER_OTLP_ENDPOINT says, or nowhere]
    #[arg(long, value_name = "URL", value_parser = parse_http_url)]
    pub otlp_endpoint: Option<url::Url>,
    /// Logs of scripts with `observability` are kept so long
    #[arg(long, value_name = "TIME", default_value = "3d", value_parser = humantime::parse_duration)]
    pub log_retention: Duration,
    /// Logs of an account take so much of the disk, in MiB; then the oldest ones go
    #[arg(long, value_name = "MIB", default_value = "256", value_parser = clap::value_parser!(u32).range(1..))]
    pub log_size: u32,
    /// What the scripts of an account cache (the Cache API) takes so much of the disk, in MiB; then what was used longest ago goes
    #[arg(long, value_name = "MIB", default_value = "10240", value_parser = clap::value_parser!(u32).range(16..))]
    pub cache_size: u32,
    /// What an account may store in all, in MiB: KV, R2, D1, Durable Objects, queues, code and assets [default: any
    /// amount]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pub max_account_storage: Option<u64>,
    /// What visitors may ask for
    #[command(flatten)]
    pub visitors: crate::limits::VisitorArgs,
    /// A script that nobody uses for so long is stopped until the next request
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    pub idle_timeout: Duration,
    /// While more processes run than this, the account with the most gives up the one that was used longest ago; by
    /// default what half of the memory holds
    #[arg(long, value_name = "N")]
    pub max_cells: Option<usize>,
    /// So many processes are started ahead and wait for a script, which then starts sooner; each holds about 5 MB
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub waiting_cells: usize,
    /// So many processes a script without Durable Objects gets while its requests wait for a core; by default one per
    /// core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub cells_per_script: Option<u16>,
    /// The memory that a script's process may use, heap and buffers together, in MiB
    #[arg(long, value_name = "MIB", default_value = "128", value_parser = clap::value_parser!(u32).range(16..))]
    pub cell_memory: u32,
    /// The memory beside that which the Durable Objects of a script may take to be awake, in MiB: each about 250 KB, until ten
    /// seconds after its last call; by default an eighth of the machine's. Where all scripts together have a quarter of it, none
    /// gets more than 256 MiB
    #[arg(long, value_name = "MIB")]
    pub object_memory: Option<u32>,
    /// What a request goes on with after its response (`waitUntil`) is ended after so long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub wait_until: Duration,
    /// What Durable Objects do by themselves, without requests and alarms, is ended after so long [default: 140s, or 15m
    /// for scripts whose compatibility date is 2026-10-01 or later, as at Cloudflare]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub object_timeout: Option<Duration>,
    /// The requests that may be in a script's process at once; as many more may wait while it starts
    #[arg(long, value_name = "N", default_value = "4096")]
    pub cell_requests: usize,
    /// What a script may be
    #[command(flatten)]
    pub scripts: crate::limits::ScriptArgs,
    /// What D1 databases were
    #[command(flatten)]
    pub d1: crate::limits::D1Args,
    /// A network beside the public internet that workers may reach, such as 10.1.0.0/16; several times for several
    #[arg(long, value_name = "CIDR", value_parser = skep_fleet::check_network)]
    pub egress_allow: Vec<String>,
    /// Where databases of Hyperdrive may be beside the public internet and --egress-allow: a network or an address, with or
    /// without a port, such as 10.1.2.3:5432; several times for several
    #[arg(long, value_name = "CIDR[:PORT]", value_parser = crate::serve::parse_place)]
    pub hyperdrive_allow: Vec<crate::serve::Place>,
    /// Run containers of Durable Objects, with the Docker engine that listens here, or without a SOCKET where Docker usually does; takes root
    /// and iptables, as what containers reach is bounded
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, default_missing_value = "", require_equals = true)]
    pub containers: Option<String>,
    /// What `browser` bindings lead to
    #[command(flatten)]
    pub browsers: crate::browser::BrowserArgs,
    /// What `ai` bindings lead to
    #[command(flatten)]
    pub ai: crate::ai::AiArgs,
    /// The mail that workers send
    #[command(flatten)]
    pub mail: crate::mail::RelayArgs,
    /// Do not run where anything that should hold workers is missing: namespaces, Landlock, seccomp
    #[arg(long)]
    pub require_sandbox: bool,
    /// Scripts answer at <script>.<account>.DOMAIN too, not only below localhost; several times for several
    #[arg(long, value_name = "DOMAIN")]
    pub base_domain: Vec<String>,
    /// The file with the key that secrets are encrypted with [default: secrets.key in the data folder]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Backups of everything by the clock, each of which stores only what is new: s3://BUCKET/PREFIX, with keys, region and server as for
    /// the AWS tools, or file:///FOLDER
    #[arg(long, value_name = "PLACE", env = "SKEP_BACKUP_TO")]
    pub backup_to: Option<String>,
    /// The time between two backups
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_period)]
    pub backup_every: Duration,
    /// The file with the key that backups are encrypted with: 64 hexadecimal digits [default: they are not]
    #[arg(long, value_name = "FILE", env = "SKEP_BACKUP_KEY")]
    pub backup_key: Option<PathBuf>,
    /// How long backups are kept; of each day before the last 24 hours only the last one is
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = humantime::parse_duration)]
    pub backup_keep: Duration,
    /// The engine's binary, instead of the pinned one
    #[arg(long, value_name = "FILE", env = "SKEP_WORKERD")]
    pub workerd: Option<PathBuf>,
}

/// `skep backup`
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// The archive to write, a tar file; - for the standard output; or where backups are that store only what is new: s3://BUCKET/PREFIX,
    /// with keys, region and server as for the AWS tools, or file:///FOLDER
    pub file: PathBuf,
    /// The node's data folder
    #[arg(long, value_name = "DIR", default_value = "skep-data")]
    pub data: PathBuf,
    /// The file with the key that backups in a place are encrypted with: 64 hexadecimal digits [default: they are not]
    #[arg(long, value_name = "FILE", env = "SKEP_BACKUP_KEY")]
    pub backup_key: Option<PathBuf>,
    /// The node's key file, which is left out, where it is not secrets.key in the data folder
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// `skep backups`
#[derive(Clone, Debug, Args)]
pub struct BackupsArgs {
    /// Where they are: s3://BUCKET/PREFIX or file:///FOLDER
    pub place: String,
}

/// `skep secrets`
#[derive(Clone, Debug, Subcommand)]
pub enum SecretsCommand {
    /// Encrypt all secrets with a new key, also while the node serves; the old one is removed from the key file
    Rotate(RotateArgs),
}

/// `skep secrets rotate`
#[derive(Clone, Debug, Args)]
pub struct RotateArgs {
    /// The node's data folder
    #[arg(long, value_name = "DIR", default_value = "skep-data")]
    pub data: PathBuf,
    /// The node's key file, where it is not secrets.key in the data folder; a node that runs knows its own
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// `skep restore`
#[derive(Clone, Debug, Args)]
pub struct RestoreArgs {
    /// The archive to read; - for the standard input; or where backups are: s3://BUCKET/PREFIX or file:///FOLDER
    pub file: PathBuf,
    /// The backup there to restore, by its name in `skep backups` [default: the last one]
    #[arg(long, value_name = "NAME")]
    pub at: Option<String>,
    /// Let the new node go on with the backups there, in place of the one that made them, which must be gone
    #[arg(long)]
    pub take_over: bool,
    /// The file with the key that the backups there are encrypted with
    #[arg(long, value_name = "FILE", env = "SKEP_BACKUP_KEY")]
    pub backup_key: Option<PathBuf>,
    /// The data folder to make; it must be empty or not be there
    #[arg(long, value_name = "DIR", default_value = "skep-data")]
    pub data: PathBuf,
}

/// An address, or the name that every machine has.
pub fn parse_host(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        "*" => Ok(Ipv4Addr::UNSPECIFIED.into()),
        _ => text.parse().map_err(|_| "expected an IP address, or localhost".to_owned()),
    }
}

/// The characters are those that a namespace's name may have.
fn parse_namespaced(text: &str) -> Result<(String, PathBuf), String> {
    let expected = "expected NAMESPACE=FILE, such as tenants=shop/wrangler.jsonc";
    let (namespace, file) = text.split_once('=').ok_or(expected)?;
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    match !namespace.is_empty() && namespace.bytes().all(valid) && !file.is_empty() {
        true => Ok((namespace.to_owned(), file.into())),
        false => Err(expected.to_owned()),
    }
}

fn parse_http_url(text: &str) -> Result<url::Url, String> {
    let url = url::Url::parse(text).map_err(|e| e.to_string())?;
    matches!(url.scheme(), "http" | "https")
        .then_some(url)
        .ok_or_else(|| "expected an http:// or https:// URL".into())
}

/// A time that is not too short for a background job.
fn parse_period(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    match time >= Duration::from_secs(1) {
        true => Ok(time),
        false => Err("a second is the least".into()),
    }
}

pub fn parse_var(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME:VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_host_is_an_address_or_localhost() {
        assert_eq!(parse_host("localhost"), Ok(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(parse_host("::1"), Ok(std::net::Ipv6Addr::LOCALHOST.into()));
        assert!(parse_host("example.com").is_err());
    }

    #[test]
    fn a_variable_may_hold_colons() {
        assert_eq!(parse_var("URL:http://x"), Ok(("URL".into(), "http://x".into())));
        assert!(parse_var("URL").is_err());
    }
}
