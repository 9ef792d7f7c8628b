//! A PostgreSQL of the machine, on data of its own.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::eventually;

/// The user that a superuser of the machine starts it as: it refuses to run as root.
const NOBODY: u32 = 65534;

/// A running server, gone with its data when dropped.
pub struct Postgres {
    child: Child,
    /// Of this machine, at 127.0.0.1.
    pub port: u16,
    _dir: tempfile::TempDir,
}

/// What it is started with.
#[derive(Clone, Copy, Default)]
pub struct Setup<'a> {
    /// `pg_hba.conf`; the default lets everybody in who proves his password by SCRAM.
    pub hba: &'a str,
    /// PEM: the certificate and its key.
    pub tls: Option<(&'a str, &'a str)>,
}

/// The password of `owner`, who may do everything.
pub const PASSWORD: &str = "s3cr3t p@ss/wörd";

/// Starts one; `None` where the machine has none.
pub fn start(setup: &Setup<'_>) -> Option<Postgres> {
    if Command::new("initdb").arg("--version").output().is_err() {
        println!("skipped: no initdb and postgres on the PATH");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("password", PASSWORD);
    if let Some((certificate, key)) = setup.tls {
        write("server.crt", certificate);
        write("server.key", key);
        use std::os::unix::fs::PermissionsExt;
        let own = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(dir.path().join("server.key"), own).unwrap();
    }
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        for path in
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).chain([dir.path().to_owned()])
        {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    let command = |program: &str| {
        let mut command = Command::new(program);
        command.arg("-D").arg(&data).current_dir(dir.path()).stdin(Stdio::null());
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    let made = command("initdb")
        .args([
            "-U",
            "owner",
            "--auth=scram-sha-256",
            "--pwfile=password",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    if !setup.hba.is_empty() {
        std::fs::write(data.join("pg_hba.conf"), setup.hba).unwrap();
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = command("postgres");
    server.args(["-p", &port.to_string()]);
    let sockets = format!("unix_socket_directories={}", dir.path().display());
    let settings = ["listen_addresses=127.0.0.1", &sockets, "fsync=off", "max_connections=40"];
    server.args(settings.iter().flat_map(|setting| ["-c", *setting]));
    if setup.tls.is_some() {
        for name in ["ssl=on", "ssl_cert_file=../server.crt", "ssl_key_file=../server.key"] {
            server.args(["-c", name]);
        }
    }
    let child = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let postgres = Postgres { child, port, _dir: dir };
    eventually("PostgreSQL", || postgres.try_sql("SELECT 1").ok());
    Some(postgres)
}

impl Postgres {
    /// Runs statements as `owner`; what they say.
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|said| panic!("{sql}: {said}"))
    }

    fn try_sql(&self, sql: &str) -> Result<String, String> {
        let output = Command::new("psql")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "owner", "-d", "postgres"])
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .env("PGPASSWORD", PASSWORD)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Where it is, for `--hyperdrive-allow`.
    pub fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT: at once; its other processes end with it.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        let _ = self.child.wait();
    }
}
