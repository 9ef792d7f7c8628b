//! Visitors over TLS.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::serve::{Serve, serve_in};
use crate::harness::{eventually, repository};

const WORKER: &str = r#"
export default {
  fetch(request) {
    if (request.headers.get("upgrade") === "websocket") {
      const [client, server] = Object.values(new WebSocketPair());
      server.accept();
      server.send("hello over TLS");
      return new Response(null, { status: 101, webSocket: client });
    }
    const { tlsVersion, httpProtocol } = request.cf;
    const header = (name) => request.headers.get(name);
    return Response.json({
      url: request.url, tlsVersion, httpProtocol, proto: header("x-forwarded-proto"), visitor: header("cf-visitor"),
    });
  },
};
"#;

fn deployed(args: &[&str]) -> (Serve, u16) {
    let args = [&["--https", "127.0.0.1:0"], args].concat();
    let serve = serve_in(tempfile::tempdir().unwrap(), &args);
    let config = r#"{ "name": "hello", "main": "index.js", "compatibility_date": "2026-07-01" }"#;
    let dir = serve.project("hello", &[("index.js", WORKER), ("wrangler.jsonc", config)]);
    let text = serve.wrangler(&dir, &["deploy"]);
    assert!(text.contains("hello.main.localhost"), "{text}");
    let port = eventually("the port", || {
        let said = serve.output();
        said.split("Ready on https://*.localhost:").nth(1)?.split_whitespace().next()?.parse().ok()
    });
    (serve, port)
}

fn visit(port: u16, name: &str, ca: &Path) -> Result<Value, String> {
    let script = repository().join("tests/tls/visit.mjs");
    let output = Command::new("node").arg(script).arg(port.to_string()).arg(name).arg(ca).output().unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A certificate for `name` by nobody but itself, and its key.
fn certificate(dir: &Path, name: &str) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

#[test]
fn the_local_authority_issues_for_every_name_and_both_protocols_work() {
    let (serve, port) = deployed(&[]);
    let name = "hello.main.localhost";
    let ca = serve.dir.path().join("data/tls/ca.pem");
    let seen = visit(port, name, &ca).unwrap();
    let visitor = r#"{"scheme":"https"}"#;
    assert_eq!(
        seen["http1"],
        json!({ "status": 200, "body": {
            "url": format!("https://{name}:{port}/a?b=c"), "tlsVersion": "TLSv1.3", "httpProtocol": "HTTP/1.1",
            "proto": "https", "visitor": visitor,
        } })
    );
    assert_eq!(seen["http2"]["alpn"], "h2");
    assert_eq!(seen["http2"]["body"]["httpProtocol"], "HTTP/2");
    assert_eq!(seen["message"], "hello over TLS");
    // Plain HTTP is served beside it, and says so.
    let plain = serve.get(name, "/").json();
    assert_eq!((&plain["proto"], &plain["tlsVersion"]), (&json!("http"), &json!("")));

    // The authority is kept: who trusts it once goes on doing so.
    let before = std::fs::read(&ca).unwrap();
    let dir = serve.stop("TERM");
    let serve = serve_in(dir, &["--https", "127.0.0.1:0"]);
    assert_eq!(std::fs::read(serve.dir.path().join("data/tls/ca.pem")).unwrap(), before);
}

#[test]
fn an_operators_own_certificate_is_used_and_wrong_ones_are_refused() {
    let certs = tempfile::tempdir().unwrap();
    certificate(certs.path(), "hello.main.localhost");
    let (cert, key) = (certs.path().join("cert.pem"), certs.path().join("key.pem"));
    let args = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let (serve, port) = deployed(&args);
    let seen = visit(port, "hello.main.localhost", &cert).unwrap();
    assert_eq!(seen["http1"]["status"], 200);
    let error = visit(port, "other.main.localhost", &cert).unwrap_err();
    assert!(error.contains("ERR_TLS_CERT_ALTNAME_INVALID"), "{error}");
    drop(serve);

    let other = tempfile::tempdir().unwrap();
    certificate(other.path(), "localhost");
    let refused = |cert: &Path, key: &Path, text: &str| {
        let data = tempfile::tempdir().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_skep"))
            .args([
                "serve",
                "--api",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
                "--https",
                "127.0.0.1:0",
                "--data",
            ])
            .arg(data.path().join("data"))
            .arg("--tls-cert")
            .arg(cert)
            .arg("--tls-key")
            .arg(key)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(text), "{said}");
    };
    refused(&cert, &other.path().join("key.pem"), "it is not the key of");
    refused(&key, &key, "it has no certificate");
    refused(&certs.path().join("none.pem"), &key, "cannot use");
}
