//! How each peer is started.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Peer, free_port};
use crate::tools::Tools;

/// The date that all workers are compatible with.
const DATE: &str = "2026-11-01";

/// What makes nginx a proxy before the servers called `behind`.
const PROXY: &str =
    "location / { proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection \"\"; }";

/// A project in a folder of its own, and what it keeps.
#[derive(Debug)]
pub struct Project {
    folder: TempDir,
}

impl Project {
    /// A project whose configuration holds `settings` (JSON fields) beside name and date, with `files`.
    pub fn new(settings: &str, files: &[(&str, &[u8])]) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let comma = if settings.is_empty() { "" } else { ", " };
        let config = format!(r#"{{ "name": "bench", "compatibility_date": "{DATE}"{comma}{settings} }}"#);
        let project = Self { folder };
        project.write("wrangler.jsonc", config.as_bytes())?;
        for (name, content) in files {
            project.write(name, content)?;
        }
        Ok(project)
    }

    /// The worker that has an operation per path, with its bindings.
    pub fn operations(tools: &Tools) -> Result<Self, String> {
        let code = std::fs::read(tools.file("workers/worker.js")).map_err(|e| e.to_string())?;
        let settings = r#""main": "worker.js",
            "kv_namespaces": [{ "binding": "KV", "id": "bench" }],
            "r2_buckets": [{ "binding": "BUCKET", "bucket_name": "bench" }],
            "d1_databases": [{ "binding": "DB", "database_id": "bench", "database_name": "bench" }]"#;
        Self::new(settings, &[("worker.js", &code)])
    }

    /// Writes one of its files.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), String> {
        let path = self.path().join(name);
        let parent = path.parent().unwrap_or(self.path());
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, content))
            .map_err(|e| format!("cannot write {}: {e}", path.display()))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where Skep keeps the project's state.
    pub fn state(&self) -> PathBuf {
        self.path().join(".skep")
    }

    /// Removes what Skep and wrangler keep between runs.
    pub fn forget(&self) {
        for name in [".skep", ".wrangler"] {
            let _ = std::fs::remove_dir_all(self.path().join(name));
        }
    }
}

fn port() -> Result<u16, String> {
    free_port().map_err(|e| e.to_string())
}

/// `skep dev`.
pub async fn skep(tools: &Tools, project: &Project, path: &str) -> Result<Peer, String> {
    let port = port()?;
    let mut command = Command::new(&tools.skep);
    command.arg("dev").arg(project.path()).args(["--port", &port.to_string(), "--inspector-port", "0"]);
    command.arg("--workerd").arg(&tools.workerd);
    Peer::start(command, port, path).await
}

/// `wrangler dev`.
pub async fn wrangler(tools: &Tools, project: &Project, path: &str) -> Result<Peer, String> {
    let (port, inspector) = (port()?, port()?);
    let mut command = Command::new(&tools.node);
    command.arg(tools.npm.join("node_modules/wrangler/bin/wrangler.js")).arg("dev");
    command.args(["--ip", "127.0.0.1", "--port", &port.to_string()]);
    command.args(["--inspector-port", &inspector.to_string()]).current_dir(project.path());
    command.env("WRANGLER_SEND_METRICS", "false").env("CI", "1");
    Peer::start(command, port, path).await
}

/// The engine at its defaults, with the least configuration that runs the worker.
pub async fn bare_workerd(tools: &Tools, path: &str) -> Result<Peer, String> {
    let port = port()?;
    let mut command = Command::new(&tools.workerd);
    command.arg("serve").arg(format!("--socket-addr=http=127.0.0.1:{port}"));
    command.arg(tools.file("workers/workerd.capnp"));
    Peer::start(command, port, path).await
}

/// Engines alone, as [`engine_calls_engine`] starts them.
pub struct Engines {
    /// Asks the other one over a unix socket.
    pub calling: Peer,
    /// Answers.
    pub called: Peer,
    /// Where a worker in the process of `called` asks the one that answers.
    pub beside: SocketAddr,
}

/// Two engines alone: one that answers, and one that asks it.
pub async fn engine_calls_engine(tools: &Tools, scratch: &Path, path: &str) -> Result<Engines, String> {
    let socket = scratch.join("called.sock");
    let beside = port()?;
    let start = async |config: &str, options: &[String]| {
        let port = port()?;
        let mut command = Command::new(&tools.workerd);
        command.arg("serve").arg(format!("--socket-addr=http=127.0.0.1:{port}")).args(options);
        command.arg(tools.file(config));
        Peer::start(command, port, path).await
    };
    let inner = format!("--socket-addr=inner=unix:{}", socket.display());
    let outer = format!("--socket-addr=beside=127.0.0.1:{beside}");
    let called = start("workers/called.capnp", &[inner, outer]).await?;
    let other = format!("--external-addr=other=unix:{}", socket.display());
    let calling = start("workers/calling.capnp", &[other]).await?;
    Ok(Engines { calling, called, beside: SocketAddr::from(([127, 0, 0, 1], beside)) })
}

/// Miniflare with the same worker as [`Project::operations`], or with the assets in `assets`.
pub async fn miniflare(
    tools: &Tools,
    state: &Path,
    assets: Option<&Path>,
    path: &str,
) -> Result<Peer, String> {
    let port = port()?;
    let mut command = Command::new(&tools.node);
    command.arg(tools.file("workers/miniflare.mjs")).arg(&tools.npm).arg(port.to_string()).arg(DATE);
    command.arg(tools.file("workers/worker.js")).arg(state);
    command.args(assets);
    Peer::start(command, port, path).await
}

/// nginx as the edge of an engine and as the server of its bindings, in one process: the answer to each read is a string in
/// its configuration. Returns nginx and the engine behind it; `None` where nginx is not installed.
pub async fn nginx_around(tools: &Tools, scratch: &Path, path: &str) -> Result<Option<(Peer, Peer)>, String> {
    let (port, socket) = (port()?, scratch.join("bindings.sock"));
    let mut command = Command::new(&tools.workerd);
    command.arg("serve").arg(format!("--socket-addr=http=127.0.0.1:{port}"));
    command.arg(format!("--external-addr=backend=unix:{}", socket.display()));
    command.arg(tools.file("workers/around.capnp"));
    let engine = Peer::start(command, port, path).await?;
    let value = "x".repeat(1024);
    let head = r#"{"name":"key","version":"1","size":1024,"etag":"0","uploaded":1,"httpFields":{},"customFields":[],"range":{"offset":0,"length":1024},"checksums":{},"storageClass":"Standard"}"#;
    let row = format!(
        r#"[{{"success":true,"results":{{"columns":["v"],"rows":[["{}"]]}},"meta":{{"duration":0,"changes":0,"last_row_id":0,"changed_db":false,"size_after":8192,"rows_read":1,"rows_written":0}}}}]"#,
        "x".repeat(100)
    );
    let pool = format!(
        "upstream behind {{ server {}; keepalive 256; keepalive_requests 100000000; }}\n\
         server {{ listen unix:{}; keepalive_timeout 60s;\n\
         location = /key {{ return 200 '{value}'; }}\n\
         location = /query {{ default_type application/json; return 200 '{row}'; }}\n\
         location = / {{ add_header CF-R2-Metadata-Size {}; return 200 '{head}{value}'; }} }}",
        engine.address,
        socket.display(),
        head.len()
    );
    let nginx = start_nginx("master_process off;", &pool, PROXY, scratch, path).await?;
    Ok(nginx.map(|nginx| (nginx, engine)))
}

/// nginx on the files in `root`; `None` where it is not installed.
pub async fn nginx(root: &Path, scratch: &Path, path: &str) -> Result<Option<Peer>, String> {
    let serving = format!("root {};", root.display());
    start_nginx("worker_processes auto;", "", &serving, scratch, path).await
}

/// nginx as a proxy before the server at `upstream`, in one process; `None` where it is not installed.
pub async fn nginx_proxy(upstream: SocketAddr, scratch: &Path, path: &str) -> Result<Option<Peer>, String> {
    let pool =
        format!("upstream behind {{ server {upstream}; keepalive 256; keepalive_requests 100000000; }}");
    start_nginx("master_process off;", &pool, PROXY, scratch, path).await
}

/// A relay that only passes bytes on before the server at `upstream`.
pub async fn bytes_relay(upstream: SocketAddr, path: &str) -> Result<Peer, String> {
    let port = port()?;
    let mut command = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
    command.arg(crate::floor::COMMAND).arg(port.to_string()).arg(upstream.to_string());
    Peer::start(command, port, path).await
}

async fn start_nginx(
    processes: &str,
    before: &str,
    serving: &str,
    scratch: &Path,
    path: &str,
) -> Result<Option<Peer>, String> {
    let found = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"];
    let Some(nginx) = found.iter().find(|path| Path::new(path).exists()) else { return Ok(None) };
    let port = port()?;
    let config = format!(
        "daemon off; {processes} pid {dir}/nginx.pid; error_log stderr crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;\n\
         open_file_cache max=1000 inactive=60s; client_body_temp_path {dir}; proxy_temp_path {dir};\n\
         fastcgi_temp_path {dir}; uwsgi_temp_path {dir}; scgi_temp_path {dir};\n\
         {before}\n\
         server {{ listen 127.0.0.1:{port}; {serving} }} }}\n",
        dir = scratch.display(),
    );
    let file = scratch.join("nginx.conf");
    std::fs::write(&file, config).map_err(|e| e.to_string())?;
    let mut command = Command::new(nginx);
    command.arg("-p").arg(scratch).arg("-c").arg(&file);
    Peer::start(command, port, path).await.map(Some)
}
