//! Ports, browsers, time zones.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use skep_config::Dev;
use tokio::net::TcpListener;

use crate::args::{DevArgs, parse_host};

/// wrangler's default ports.
const PORT: u16 = 8787;
const INSPECTOR_PORT: u16 = 9229;

/// The socket for visitors.
pub async fn visitors(args: &DevArgs, dev: &Dev) -> Result<TcpListener, String> {
    let host = match (&args.host, &dev.ip) {
        (Some(host), _) => *host,
        (None, Some(ip)) => parse_host(ip).map_err(|e| format!("\"dev.ip\" is \"{ip}\": {e}"))?,
        (None, None) => Ipv4Addr::LOCALHOST.into(),
    };
    bind(host, args.port.or(dev.port), PORT, "--port").await
}

/// The socket for DevTools, on this machine only.
pub async fn inspector(args: &DevArgs, dev: &Dev) -> Result<TcpListener, String> {
    let port = args.inspector_port.or(dev.inspector_port);
    bind(Ipv4Addr::LOCALHOST.into(), port, INSPECTOR_PORT, "--inspector-port").await
}

/// The port that was asked for; else the usual one, or any if that is taken.
async fn bind(host: IpAddr, asked: Option<u16>, usual: u16, flag: &str) -> Result<TcpListener, String> {
    let port = asked.unwrap_or(usual);
    match TcpListener::bind(SocketAddr::new(host, port)).await {
        Ok(listener) => Ok(listener),
        Err(error) if asked.is_none() && error.kind() == std::io::ErrorKind::AddrInUse => {
            TcpListener::bind(SocketAddr::new(host, 0))
                .await
                .map_err(|e| format!("cannot listen on {host}: {e}"))
        }
        Err(error) => Err(format!("cannot listen on {host}:{port}: {error}; {flag} chooses another port")),
    }
}

/// Opens `url` in the user's browser, if there is one.
pub fn open(url: &str) {
    let opened = Command::new("xdg-open")
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match opened {
        Ok(mut child) => {
            std::thread::spawn(move || child.wait());
        }
        Err(_) => crate::terminal::say(&format!("Open {url} in a browser")),
    }
}

/// The IANA name of this machine's time zone.
pub fn timezone() -> String {
    let from_env = std::env::var("TZ").ok().map(|zone| zone.trim_start_matches(':').to_owned());
    let from_link = || {
        let target = std::fs::read_link("/etc/localtime").ok()?;
        let text = target.to_string_lossy().into_owned();
        text.split_once("zoneinfo/").map(|(_, zone)| zone.to_owned())
    };
    let zone = from_env.filter(|zone| !zone.is_empty() && !zone.starts_with('/')).or_else(from_link);
    zone.unwrap_or_else(|| "UTC".to_owned())
}
