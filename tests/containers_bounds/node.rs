//! A node with containers, whose images are pushed without Docker: they have busybox and nothing else.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::serve::{FORM, Serve, form};
use crate::harness::{eventually, request};
use crate::image_registry::host;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Starts containers and runs commands in them.
const WORKER: &str = "import { DurableObject, WorkerEntrypoint } from 'cloudflare:workers';\n\
    const text = (bytes) => new TextDecoder().decode(bytes);\n\
    export class Box extends DurableObject {\n\
      async fetch(request) {\n\
        const { pathname, searchParams } = new URL(request.url), box = this.ctx.container;\n\
        try {\n\
          if (pathname === '/start') {\n\
            this.ended = '';\n\
            box.start({ enableInternet: searchParams.has('internet') });\n\
            box.monitor().then(() => (this.ended = 'well'), (error) => (this.ended = String(error)));\n\
            await box.setInactivityTimeout(600000);\n\
            return new Response('started');\n\
          }\n\
          if (pathname === '/state') return Response.json({ running: box.running, ended: this.ended });\n\
          if (pathname === '/destroy') { await box.destroy(); return new Response('gone'); }\n\
          if (pathname === '/exec') {\n\
            const one = await box.exec(['/bin/sh', '-c', searchParams.get('run')]);\n\
            const { stdout, exitCode } = await one.output();\n\
            return new Response(text(stdout), { headers: { 'x-code': String(exitCode) } });\n\
          }\n\
          const outbound = () => this.ctx.exports.Outbound({ props: { by: this.ctx.id.name } });\n\
          if (pathname === '/intercept') await box.interceptOutboundHttp(searchParams.get('host'), outbound());\n\
          if (pathname === '/intercept-all') await box.interceptAllOutboundHttp(outbound());\n\
          if (pathname === '/intercept-tls') await box.interceptOutboundHttps(searchParams.get('host'), outbound());\n\
          if (pathname.startsWith('/intercept')) return new Response('intercepted');\n\
          return await box.getTcpPort(8080).fetch(request);\n\
        } catch (error) { return new Response(String(error), { status: 500 }); }\n\
      }\n\
    }\n\
    export class Outbound extends WorkerEntrypoint {\n\
      fetch({ method, url }) {\n\
        if (url.endsWith('/work')) for (let n = 0; n < 5e7; n++);\n\
        return new Response(`${this.ctx.props.by}: ${method} ${url}`);\n\
      }\n\
    }\n\
    export default { fetch(request, env) {\n\
      return env.BOX.getByName(new URL(request.url).searchParams.get('box')).fetch(request);\n\
    } }";

/// An account of the node.
pub struct Account {
    pub id: String,
    pub token: String,
}

/// An image with busybox whose containers serve this word by HTTP on port 8080, as a layer.
pub fn layer(word: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for folder in ["bin", "tmp", "www"] {
        std::fs::create_dir(at(folder)).unwrap();
    }
    let path = std::env::var_os("PATH").unwrap();
    let busybox =
        std::env::split_paths(&path).map(|folder| folder.join("busybox")).find(|file| file.is_file());
    std::fs::copy(busybox.unwrap(), at("bin/busybox")).unwrap();
    for name in [
        "sh", "nc", "cat", "ip", "nslookup", "sleep", "dd", "head", "tail", "ls", "find", "grep", "yes",
        "seq", "wget", "mkdir", "rm", "id", "cut", "timeout", "wc", "touch", "stat", "truncate",
    ] {
        std::os::unix::fs::symlink("busybox", at("bin").join(name)).unwrap();
    }
    std::fs::write(at("www/word"), word).unwrap();
    let init = "trap 'exit 0' TERM\n/bin/busybox httpd -f -p 8080 -h /www &\nwait\n";
    std::fs::write(at("www/init"), init).unwrap();
    let output =
        Command::new("tar").arg("-C").arg(dir.path()).args(["--numeric-owner", "-c", "."]).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}

impl Account {
    /// A request below the account, which must succeed; its result.
    pub fn make(&self, serve: &Serve, method: &str, path: &str, body: Option<&Value>) -> Value {
        let body = body.map(|body| body.to_string().into_bytes());
        let answer = self.send(serve, method, path, "application/json", body.as_deref());
        answer["result"].clone()
    }

    fn send(&self, serve: &Serve, method: &str, path: &str, kind: &str, body: Option<&[u8]>) -> Value {
        let token = format!("Bearer {}", self.token);
        let headers = [("authorization", token.as_str()), ("content-type", kind)];
        let answer = serve.raw_call(method, &format!("/accounts/{}{path}", self.id), &headers, body);
        assert!(answer.status < 300, "{method} {path}: {}\n{}", answer.text(), serve.output());
        answer.json()
    }

    /// Pushes an image of one layer to the account's part of the registry; its full name.
    pub fn push(&self, serve: &Serve, image: &str, layer: &[u8]) -> String {
        let (host, id) = (host(serve), &self.id);
        let wanted = json!({ "expiration_minutes": 15, "permissions": ["push", "pull"] });
        let login =
            self.make(serve, "POST", &format!("/containers/registries/{host}/credentials"), Some(&wanted));
        let login =
            format!("{}:{}", login["username"].as_str().unwrap(), login["password"].as_str().unwrap());
        let login = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login));
        let (repository, tag) = image.split_once(':').unwrap();
        let put = |method: &str, path: String, kind: &str, content: &[u8]| {
            let headers = [("authorization", login.as_str()), ("content-type", kind)];
            let url = format!("http://{host}/v2/{id}/{repository}/{path}");
            let answer = request(&url, method, &headers, Some(content)).unwrap();
            assert_eq!(answer.status, 201, "{}", answer.text());
        };
        let blob = |content: &[u8]| {
            let digest = digest(content);
            put("POST", format!("blobs/uploads/?digest={digest}"), "application/octet-stream", content);
            digest
        };
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let layer_digest = blob(layer);
        let config = json!({ "architecture": architecture, "os": "linux",
            "config": { "Cmd": ["/bin/sh", "/www/init"], "Env": ["PATH=/bin"] },
            "rootfs": { "type": "layers", "diff_ids": [layer_digest] } })
        .to_string();
        let config_digest = blob(config.as_bytes());
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest,
                "size": config.len() },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest,
                "size": layer.len() }] });
        put("PUT", format!("manifests/{tag}"), MANIFEST, manifest.to_string().as_bytes());
        format!("{host}/{id}/{image}")
    }

    /// Deploys a script whose objects have containers of an image, each of this size.
    pub fn deploy(&self, serve: &Serve, script: &str, image: &str, size: &Value) {
        self.deploy_with(serve, script, image, size, &json!({}));
    }

    /// The same, with more in the upload.
    pub fn deploy_with(&self, serve: &Serve, script: &str, image: &str, size: &Value, more: &Value) {
        let mut metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-01-01",
            "bindings": [{ "type": "durable_object_namespace", "name": "BOX", "class_name": "Box" }],
            "migrations": { "new_sqlite_classes": ["Box"] }, "containers": [{ "class_name": "Box" }] });
        metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let path = format!("/workers/scripts/{script}");
        self.send(serve, "PUT", &path, FORM, Some(&form(&metadata, &[("index.js", WORKER)])));
        self.make(serve, "POST", &format!("{path}/subdomain"), Some(&json!({ "enabled": true })));
        let namespaces = self.make(serve, "GET", "/workers/durable_objects/namespaces", None);
        let own = namespaces.as_array().unwrap().iter().find(|own| own["script"] == script).unwrap();
        let mut configuration = json!({ "image": image });
        configuration.as_object_mut().unwrap().extend(size.as_object().unwrap().clone());
        let application = json!({ "name": format!("{script}-box"), "max_instances": 10,
            "durable_objects": { "namespace_id": own["id"] }, "configuration": configuration });
        self.make(serve, "POST", "/containers/applications", Some(&application));
    }
}

/// The container of one object of a script.
pub struct Boxed<'a> {
    pub serve: &'a Serve,
    pub site: String,
    pub name: &'static str,
}

impl Boxed<'_> {
    /// Asks the object.
    pub fn ask(&self, path: &str, more: &[(&str, &str)]) -> crate::harness::Answer {
        let mut query = form_urlencoded(&[("box", self.name)]);
        query.push_str(&form_urlencoded(more));
        self.serve.get(&self.site, &format!("{path}?{query}"))
    }

    /// Starts it, and waits until it serves.
    pub fn start(&self, internet: bool) {
        let more: &[(&str, &str)] = if internet { &[("internet", "")] } else { &[] };
        let started = self.ask("/start", more);
        assert_eq!(started.text(), "started", "{}", self.serve.output());
        eventually("an answer of the container", || {
            Some(self.ask("/word", &[])).filter(|answer| answer.status == 200)
        });
    }

    /// What a command in it says.
    pub fn run(&self, command: &str) -> String {
        let answer = self.ask("/exec", &[("run", command)]);
        assert_eq!(answer.status, 200, "{command}: {}\n{}", answer.text(), self.serve.output());
        answer.text()
    }

    /// Has it begin with a command whose end nobody waits for.
    pub fn begin(&self, command: &str) {
        let mut stream = self.serve.connect();
        let query = form_urlencoded(&[("box", self.name), ("run", command)]);
        let request = format!("GET /exec?{query} HTTP/1.1\r\nHost: {}\r\n\r\n", self.site);
        stream.write_all(request.as_bytes()).unwrap();
        std::thread::spawn(move || drop(stream.read(&mut [0])));
    }

    /// Its address.
    pub fn address(&self) -> String {
        let own = self.run("ip -4 -o addr show dev eth0 | grep -o '[0-9.]*/' | head -n 1");
        own.trim().trim_end_matches('/').to_owned()
    }

    /// Which of these it reaches.
    pub fn reached(&self, targets: &[(String, u16)]) -> Vec<String> {
        let tries: String = targets
            .iter()
            .map(|(host, port)| {
                format!("(nc -w 3 {host} {port} </dev/null >/dev/null 2>&1 && echo {host}:{port}) & ")
            })
            .collect();
        let mut reached: Vec<String> =
            self.run(&format!("{tries} wait")).lines().map(str::to_owned).collect();
        reached.sort();
        reached
    }
}

fn form_urlencoded(pairs: &[(&str, &str)]) -> String {
    let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    pairs.iter().map(|(name, value)| format!("{name}={}&", escape(value))).collect()
}

/// `skep` with this Docker.
pub fn flag(socket: &str) -> String {
    format!("--containers={socket}")
}

/// The registry of accounts of a node.
pub fn registry(dir: &Path) -> std::path::PathBuf {
    dir.join("data/registry.sqlite")
}
