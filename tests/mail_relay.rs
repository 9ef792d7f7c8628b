//! `send_email` on a node: deployed by stock wrangler, delivered to a mail server over SMTP.

mod smtp;

use std::process::Command;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use skep_edge::rustls::ServerConfig;
use skep_edge::rustls::crypto::ring::default_provider;
use skep_edge::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::harness::eventually;
use crate::harness::serve::{Serve, serve, serve_by, serve_in};
use smtp::{Smtp, Tls};

const CODE: &str = r#"
import { EmailMessage } from "cloudflare:email";

export default {
  async fetch(request, env) {
    const { binding, raw, from, to, mail, times = 1 } = await request.json();
    try {
      for (let n = 1; n < times; n++) await env[binding].send(mail);
      const sent = await env[binding].send(raw === undefined ? mail : new EmailMessage(from, to, raw));
      return Response.json(sent);
    } catch (error) {
      return Response.json({ code: error.code, message: error.message, isError: error instanceof Error }, { status: 400 });
    }
  },
};
"#;

fn bindings() -> Value {
    json!([
        { "name": "ANY" },
        { "name": "ONE", "destination_address": "one@example.com" },
        { "name": "SOME", "allowed_destination_addresses": ["b@example.com"], "allowed_sender_addresses": ["a@example.com"] },
    ])
}

fn deploy(serve: &Serve, name: &str) {
    let dir = serve.project(name, &[("index.js", CODE), ("wrangler.jsonc", &config(name).to_string())]);
    serve.wrangler(&dir, &["deploy"]);
}

fn config(name: &str) -> Value {
    json!({ "name": name, "main": "index.js", "compatibility_date": "2026-07-01", "send_email": bindings() })
}

/// A node whose relay is at `url`.
fn node(url: &str, args: &[&str]) -> Serve {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.env("SKEP_MAIL_RELAY", url);
    serve_by(command, tempfile::tempdir().unwrap(), args)
}

fn send(serve: &Serve, script: &str, asked: Value) -> Value {
    let host = format!("{script}.{}.localhost", subdomain(serve));
    let answer = serve.send("POST", &host, "/", &[], Some(asked.to_string().as_bytes()));
    answer.json()
}

fn subdomain(serve: &Serve) -> String {
    let answer = serve.call("GET", "/workers/subdomain", None).json();
    answer["result"]["subdomain"].as_str().unwrap().to_owned()
}

/// A mail by `binding` with some fields of its own.
fn mail(binding: &str, change: Value) -> Value {
    let mut mail =
        json!({ "from": "a@example.com", "to": "b@example.com", "subject": "hi", "text": "Hello" });
    mail.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    json!({ "binding": binding, "mail": mail })
}

fn raw(binding: &str, from: &str, to: &str, more: &str) -> Value {
    let raw = format!(
        "Message-ID: <mine@x>\r\nFrom: {from}\r\nTo: {to}\r\nBcc: secret@example.com\r\n{more}Subject: hi\r\n\r\nHello\r\n.dot\r\n"
    );
    json!({ "binding": binding, "from": from, "to": to, "raw": raw })
}

#[test]
fn wrangler_deploys_it_and_mail_arrives() {
    let relay = Smtp::start(0, Tls::None);
    let serve = node(&format!("smtp://postman:hunter2%40@127.0.0.1:{}", relay.port), &[]);
    deploy(&serve, "mailing");

    let sent = send(&serve, "mailing", raw("SOME", "a@example.com", "b@example.com", ""));
    let [arrived] = &relay.take()[..] else { panic!("{sent}") };
    assert_eq!((&*arrived.from, &arrived.to[..]), ("a@example.com", &["b@example.com".to_owned()][..]));
    assert_eq!(arrived.login, "postman hunter2@");
    let id = sent["messageId"].as_str().unwrap_or_else(|| panic!("{sent}"));
    let expected = format!(
        "Message-ID: {id}\r\nFrom: a@example.com\r\nTo: b@example.com\r\nSubject: hi\r\n\r\nHello\r\n.dot\r\n"
    );
    assert_eq!(arrived.text, expected);

    let sent = send(
        &serve,
        "mailing",
        mail(
            "ANY",
            json!({
                "from": { "name": "Ann Ö", "email": "a@example.com" }, "to": ["b@example.com", "Bob <bob@example.com>"],
                "cc": "c@example.com", "bcc": ["hidden.copy@example.com", "b@example.com"], "replyTo": "r@example.com", "html": "<b>rich</b>",
                "headers": { "x-campaign": "7", "List-Unsubscribe": "<https://example.com/u>" },
                "attachments": [{ "filename": "a.bin", "type": "application/octet-stream", "disposition": "attachment", "content": "AP8=" }],
            }),
        ),
    );
    let [arrived] = &relay.take()[..] else { panic!("{sent}") };
    assert_eq!(arrived.to, ["b@example.com", "bob@example.com", "c@example.com", "hidden.copy@example.com"]);
    let id = sent["messageId"].as_str().unwrap();
    for part in [
        format!("Message-ID: {id}\r\n"),
        "To: b@example.com, Bob <bob@example.com>\r\n".into(),
        "Cc: c@example.com\r\n".into(),
        "Reply-To: r@example.com\r\n".into(),
        "x-campaign: 7\r\n".into(),
        "List-Unsubscribe: <https://example.com/u>\r\n".into(),
        "\r\nHello\r\n".into(),
        "<b>rich</b>".into(),
        "AP8=".into(),
        "Date: ".into(),
    ] {
        assert!(arrived.text.contains(&part), "{part}: {}", arrived.text);
    }
    assert!(!arrived.text.contains("hidden.copy"), "{}", arrived.text);

    // A binding with one address needs none to be named.
    assert!(send(&serve, "mailing", mail("ONE", json!({ "to": null })))["messageId"].is_string());
    assert_eq!(relay.take()[0].to, ["one@example.com"]);

    let settings = serve.call("GET", "/workers/scripts/mailing/settings", None).json();
    let versions = serve.call("GET", "/workers/scripts/mailing/versions", None).json();
    let version = versions["result"]["items"][0]["id"].as_str().unwrap();
    let version = serve.call("GET", &format!("/workers/scripts/mailing/versions/{version}"), None).json();
    for found in [&settings["result"]["bindings"], &version["result"]["resources"]["bindings"]] {
        let mut found = found.as_array().unwrap_or_else(|| panic!("{settings} {version}")).clone();
        found.sort_by_key(|binding| binding["name"].as_str().unwrap().to_owned());
        let expected = json!([
            { "name": "ANY", "type": "send_email" },
            { "name": "ONE", "type": "send_email", "destination_address": "one@example.com" },
            {
                "name": "SOME", "type": "send_email", "allowed_destination_addresses": ["b@example.com"],
                "allowed_sender_addresses": ["a@example.com"],
            },
        ]);
        assert_eq!(Value::from(found), expected);
    }
    assert!(!serve.output().contains("hunter2"), "{}", serve.output());
}

#[test]
fn mail_that_may_not_be_sent_is_refused_with_cloudflares_codes() {
    let relay = Smtp::start(0, Tls::None);
    let serve =
        node(&format!("smtp://127.0.0.1:{}", relay.port), &["--mail-from", "example.com", "--max-mail", "1"]);
    deploy(&serve, "mailing");
    let many: Vec<String> = (0..51).map(|n| format!("{n}@example.com")).collect();
    let large = "x".repeat(1 << 20);
    let smuggled = "X: 1\r\n\r\nHello\n.\nMAIL FROM:<z@example.com>\nRCPT TO:<z@example.com>\nDATA\nSubject: smuggled\n\n.\n";
    for (asked, code) in [
        (mail("ONE", json!({})), "E_RECIPIENT_NOT_ALLOWED"),
        (mail("SOME", json!({ "to": ["b@example.com", "c@example.com"] })), "E_RECIPIENT_NOT_ALLOWED"),
        (mail("SOME", json!({ "cc": "c@example.com" })), "E_RECIPIENT_NOT_ALLOWED"),
        (mail("SOME", json!({ "bcc": "c@example.com" })), "E_RECIPIENT_NOT_ALLOWED"),
        (mail("SOME", json!({ "from": "c@example.com" })), "E_SENDER_NOT_VERIFIED"),
        (raw("SOME", "a@example.com", "c@example.com", ""), "E_RECIPIENT_NOT_ALLOWED"),
        (raw("ANY", "a@other.example", "b@example.com", ""), "E_SENDER_NOT_VERIFIED"),
        (raw("ANY", "a@example.com", "b@example.com", "From: z@bank.example\r\n"), "E_VALIDATION_ERROR"),
        (raw("ANY", "a@example.com", "b@example.com", "Received: by x\r\n"), "E_VALIDATION_ERROR"),
        (raw("ANY", "a@example.com", "b@example.com>\r\nRCPT TO:<z@example.com", ""), "E_VALIDATION_ERROR"),
        (mail("ANY", json!({ "to": many })), "E_TOO_MANY_RECIPIENTS"),
        (mail("ANY", json!({ "to": null })), "E_FIELD_MISSING"),
        (mail("ANY", json!({ "from": null })), "E_VALIDATION_ERROR"),
        (mail("ANY", json!({ "to": "nobody" })), "E_VALIDATION_ERROR"),
        (mail("ANY", json!({ "subject": "s\r\nBcc: z@example.com" })), "E_VALIDATION_ERROR"),
        (mail("ANY", json!({ "headers": { "Date": "now" } })), "E_HEADER_NOT_ALLOWED"),
        (mail("ANY", json!({ "headers": { "From": "z@example.com" } })), "E_HEADER_USE_API_FIELD"),
        (mail("ANY", json!({ "text": large })), "E_CONTENT_TOO_LARGE"),
        (mail("ANY", json!({ "text": large.repeat(3) })), "E_CONTENT_TOO_LARGE"),
        (
            mail(
                "ANY",
                json!({ "attachments": [{ "filename": "a", "type": "text/plain", "content": "not base64!" }] }),
            ),
            "E_VALIDATION_ERROR",
        ),
    ] {
        let answer = send(&serve, "mailing", asked);
        assert_eq!((&answer["code"], &answer["isError"]), (&json!(code), &json!(true)), "{answer}");
    }
    assert!(relay.take().is_empty());
    let heard: Vec<String> = relay.said().into_iter().filter(|line| line.starts_with("MAIL")).collect();
    assert_eq!(heard, Vec::<String>::new());

    // Where a message ends, a message says to nobody.
    let answer = send(&serve, "mailing", raw("ANY", "a@example.com", "b@example.com", smuggled));
    let [arrived] = &relay.take()[..] else { panic!("{answer}") };
    assert!(arrived.text.contains("Hello\r\n.\r\nMAIL FROM:<z@example.com>\r\n"), "{}", arrived.text);
}

#[test]
fn what_the_relay_does_not_take_is_an_error() {
    let relay = Smtp::start(0, Tls::None);
    let port = relay.port;
    let serve = node(&format!("smtp://127.0.0.1:{port}"), &[]);
    deploy(&serve, "mailing");
    let ask = |change: Value| {
        let answer = send(&serve, "mailing", mail("ANY", change));
        (
            answer["code"].as_str().unwrap_or_default().to_owned(),
            answer["message"].as_str().unwrap_or_default().to_owned(),
        )
    };
    for (change, text) in [
        (json!({ "to": ["b@example.com", "nobody@example.com"] }), "550 5.1.1 No such user here"),
        (json!({ "to": "later@example.com" }), "451 4.7.1 Greylisted, try again later"),
        (json!({ "subject": "spam" }), "554 5.7.1 Message rejected as spam"),
    ] {
        let expected = ("E_DELIVERY_FAILED".to_owned(), format!("Could not deliver the email: {text}"));
        assert_eq!(ask(change), expected);
        eventually("the log", || serve.output().contains(text).then_some(()));
    }
    let unknown = "The mail relay did not answer: it is not known whether it took the email";
    assert_eq!(ask(json!({ "subject": "drop" })), ("E_INTERNAL_SERVER_ERROR".into(), unknown.into()));
    // Who was not refused got nothing either.
    assert!(relay.take().is_empty());
    drop(relay);

    let gone = "Email Service temporarily unavailable: the mail relay cannot be reached";
    assert_eq!(ask(json!({})), ("E_INTERNAL_SERVER_ERROR".into(), gone.into()));
    eventually("the log", || serve.output().contains("a mail was not sent").then_some(()));
    let relay = Smtp::start(port, Tls::None);
    assert_eq!(ask(json!({})), (String::new(), String::new()));
    assert_eq!(relay.take().len(), 1);
}

#[test]
fn an_account_sends_no_more_than_it_may_also_from_a_namespace() {
    let relay = Smtp::start(0, Tls::None);
    let serve = node(&format!("smtp://127.0.0.1:{}", relay.port), &["--mail-per-day", "4"]);
    deploy(&serve, "mailing");
    // A script in a namespace has the bindings that its platform gives it, and shares what the account may.
    serve.make_namespace("tenants");
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "type": "send_email", "name": "ANY", "allowed_destination_addresses": ["b@example.com"] }],
    });
    serve.upload_tenant("tenants", "tenant", &metadata, CODE);
    let bindings = "/workers/dispatch/namespaces/tenants/scripts/tenant/bindings";
    let bindings = serve.call("GET", bindings, None).json();
    assert_eq!(bindings["result"], metadata["bindings"]);
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "type": "dispatch_namespace", "name": "ALL", "namespace": "tenants" }],
    });
    let code = "export default { fetch(request, env) { return env.ALL.get(\"tenant\").fetch(request); } };";
    assert_eq!(serve.upload("dispatcher", &metadata, code).status, 200);

    let send =
        |script: &str, to: Value| send(&serve, script, mail("ANY", json!({ "to": to })))["code"].clone();
    assert_eq!(send("mailing", json!(["b@example.com", "c@example.com"])), Value::Null);
    assert_eq!(send("dispatcher", json!("c@example.com")), "E_RECIPIENT_NOT_ALLOWED");
    assert_eq!(send("dispatcher", json!("b@example.com")), Value::Null);
    assert_eq!(send("mailing", json!(["b@example.com", "c@example.com"])), "E_DAILY_LIMIT_EXCEEDED");
    assert_eq!(send("mailing", json!("b@example.com")), Value::Null);
    assert_eq!(send("dispatcher", json!("b@example.com")), "E_DAILY_LIMIT_EXCEEDED");
    assert_eq!(relay.take().len(), 3);
}

#[test]
fn a_mail_is_a_request_to_others() {
    let relay = Smtp::start(0, Tls::None);
    let serve = node(&format!("smtp://127.0.0.1:{}", relay.port), &[]);
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01", "limits": { "subrequests": 2 },
        "bindings": [{ "type": "send_email", "name": "ANY" }],
    });
    assert_eq!(serve.upload("mailing", &metadata, CODE).status, 200);
    let mut asked = mail("ANY", json!({}));
    asked["times"] = json!(3);
    let answer = send(&serve, "mailing", asked);
    assert!(answer["message"].as_str().unwrap().starts_with("Too many API requests"), "{answer}");
    assert_eq!(relay.take().len(), 2);
}

#[test]
fn a_node_without_a_relay_refuses_the_binding_and_names_the_flag() {
    let plain = serve();
    let dir =
        plain.project("mailing", &[("index.js", CODE), ("wrangler.jsonc", &config("mailing").to_string())]);
    let ran = plain.try_wrangler(&dir, &["deploy"], "");
    assert!(!ran.success && ran.text.contains("--mail-relay") && ran.text.contains("10021"), "{}", ran.text);

    // A node that has lost its relay runs what was deployed, and mail is an error.
    let relay = Smtp::start(0, Tls::None);
    let with = node(&format!("smtp://127.0.0.1:{}", relay.port), &[]);
    deploy(&with, "mailing");
    let without = serve_in(with.stop("TERM"), &[]);
    let answer = send(&without, "mailing", mail("ANY", json!({})));
    assert_eq!(answer["code"], "E_INTERNAL_SERVER_ERROR");
    assert!(answer["message"].as_str().unwrap().contains("no mail relay"), "{answer}");
}

/// A server's side of TLS for `localhost`, and the certificate of who vouches for it.
fn identity() -> (Arc<ServerConfig>, String) {
    let ca = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&ca).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = own.signed_by(&key, &Issuer::new(params, ca)).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (Arc::new(config), root)
}

#[test]
fn a_password_goes_to_the_relay_alone() {
    let (config, root) = identity();
    let trusted = tempfile::tempdir().unwrap();
    let (roots, password) = (trusted.path().join("ca.pem"), trusted.path().join("password"));
    std::fs::write(&roots, root).unwrap();
    std::fs::write(&password, "from-a-file\n").unwrap();
    let node = |url: &str, trusts: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
        if trusts {
            command.env("SSL_CERT_FILE", &roots);
        }
        let args = ["--mail-relay", url, "--mail-relay-password-file", password.to_str().unwrap()];
        let serve = serve_by(command, tempfile::tempdir().unwrap(), &args);
        let metadata = json!({
            "main_module": "index.js", "compatibility_date": "2026-07-01", "bindings": [{ "type": "send_email", "name": "ANY" }],
        });
        assert_eq!(serve.upload("mailing", &metadata, CODE).status, 200);
        let answer = send(&serve, "mailing", mail("ANY", json!({})));
        assert!(!serve.output().contains("from-a-file"), "{}", serve.output());
        (answer["code"].clone(), serve)
    };
    for (tls, scheme, query) in
        [(Tls::Always(config.clone()), "smtps", ""), (Tls::Start(config.clone()), "smtp", "?tls=required")]
    {
        let relay = Smtp::start(0, tls);
        let url = format!("{scheme}://postman@localhost:{}{query}", relay.port);
        assert_eq!(node(&url, true).0, Value::Null, "{url}");
        let [arrived] = &relay.take()[..] else { panic!("{url}") };
        assert_eq!((&*arrived.login, arrived.encrypted), ("postman from-a-file", true));
        relay.said();
        // Somebody in between has no certificate.
        let (code, serve) = node(&url, false);
        assert_eq!(code, "E_INTERNAL_SERVER_ERROR", "{url}");
        let takes_none = || serve.output().contains("the mail relay takes no mail").then_some(());
        eventually("the log", takes_none);
        assert!(!relay.said().iter().any(|line| line.starts_with("AUTH")), "{url}");
    }
    // Nor is it given to one that takes away the offer of TLS.
    let relay = Smtp::start(0, Tls::None);
    let url = format!("smtp://postman@localhost:{}?tls=required", relay.port);
    assert_eq!(node(&url, true).0, "E_INTERNAL_SERVER_ERROR");
    assert!(!relay.said().iter().any(|line| line.starts_with("AUTH")));
}
