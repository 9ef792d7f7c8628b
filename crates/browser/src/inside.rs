//! What runs in a cage: our own binary, which parts with this machine, opens the ways in and out, and starts the browser.
//!
//! There are two of it. The first one leaves the machine's namespaces and waits for the second, which is the first process of its own
//! namespace, so that all end with it. That one makes the listener which the browser takes for a proxy and passes it on to who
//! started it all; from then on it opens connections to the browser's DevTools, one for each port that it is told,
//! and passes those on as well.

use std::ffi::OsString;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, getpid};
use serde::{Deserialize, Serialize};
use skep_sandbox::{Cage, SCRATCH, pass};

/// The hidden subcommand under which the binary must call [`become_browser`].
pub const COMMAND: &str = "__browser";

/// What comes with a listener or a connection, and what comes alone where there is none.
pub(crate) const HERE: u8 = b'h';
pub(crate) const NONE: u8 = b'n';
/// Bytes that say a port.
const PORT: usize = 2;
/// It is in the same network.
const CONNECTS: Duration = Duration::from_secs(10);

/// What is to be started, passed as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub cage: Cage,
    pub program: PathBuf,
    pub switches: Vec<String>,
    /// Names and values.
    pub environment: Vec<(String, String)>,
}

/// Starts a browser in a cage, of which standard input leads to who wants that. Returns if that fails; ends with the browser.
pub fn become_browser(args: &[OsString]) -> io::Error {
    let start = args.last().and_then(|json| serde_json::from_str::<Start>(json.to_str()?).ok());
    let Some(start) = start else {
        return io::Error::new(io::ErrorKind::InvalidInput, "what to start is not understood");
    };
    // Only the second one is the first process of a namespace.
    let done = match getpid().is_init() && args.len() > 1 {
        true => inside(&start),
        false => outside(&start),
    };
    match done {
        Ok(code) => std::process::exit(code),
        Err(error) => error,
    }
}

fn outside(start: &Start) -> io::Result<i32> {
    let own = std::env::current_exe()?;
    start.cage.part().map_err(refused)?;
    let mut command = Command::new(own);
    command.args([COMMAND, "inside"]).arg(serde_json::to_string(start)?);
    let status = command.status()?;
    Ok(status.code().unwrap_or(1))
}

fn inside(start: &Start) -> io::Result<i32> {
    start.cage.enter().map_err(refused)?;
    let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = proxy.local_addr()?.port();
    pass(io::stdin(), HERE, Some(proxy.as_fd()))?;
    drop(proxy);
    let mut command = Command::new(&start.program);
    command.args(&start.switches);
    command.arg(format!("--proxy-server=socks5://127.0.0.1:{port}"));
    command.env_clear().envs(start.environment.iter().cloned());
    command.env("HOME", SCRATCH).env("TMPDIR", SCRATCH).current_dir(SCRATCH);
    let browser = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let browser = Pid::from_child(&browser);
    // All who have lost their parents are children of this process.
    std::thread::spawn(move || {
        while let Ok(ended) = rustix::process::wait(WaitOptions::empty()) {
            if ended.is_some_and(|(pid, _)| pid == browser) {
                break;
            }
        }
        std::process::exit(0)
    });
    serve()?;
    Ok(0)
}

fn refused(error: skep_sandbox::JailError) -> io::Error {
    io::Error::other(format!("the browser cannot be held: {error}"))
}

/// Connects to the ports that it is told, until nobody is left who could tell any.
fn serve() -> io::Result<()> {
    let mut port = [0; PORT];
    while io::stdin().lock().read_exact(&mut port).is_ok() {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::from_be_bytes(port)));
        match TcpStream::connect_timeout(&to, CONNECTS) {
            Ok(stream) => pass(io::stdin(), HERE, Some(stream.as_fd()))?,
            Err(_) => pass(io::stdin(), NONE, None)?,
        }
    }
    Ok(())
}
