//! `skep serve --acme-directory`: certificates from an authority that really looks.

mod authority;
mod der;
mod http;
mod jws;
mod protocol;
mod tls;
mod validate;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::eventually;
use crate::harness::serve::{Serve, serve_in};
use authority::{Authority, Rules};
use tls::{Tls, connect, get, shown};
use validate::Ports;

const CODE: &str = r#"export default { fetch() { return new Response("hello"); } };"#;
const NAME: &str = "hello.main.example.test";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn rules() -> Rules {
    let offered = vec!["http-01", "tls-alpn-01", "dns-01"];
    Rules {
        life: 90 * DAY,
        age: Duration::ZERO,
        offered,
        hasty: false,
        bad_nonces: 0,
        limited: None,
        binding: None,
    }
}

/// A node below `example.test` whose visitors may speak TLS.
struct Node {
    serve: Serve,
    https: u16,
    ports: Ports,
}

fn node_in(dir: tempfile::TempDir, authority: &Authority, more: &[&str]) -> Node {
    let mut args = vec!["--https", "127.0.0.1:0", "--base-domain", "example.test", "--acme-accept-terms"];
    let of_authority = authority.args();
    args.extend(of_authority.iter().map(String::as_str));
    args.extend(["--metrics", "127.0.0.1:0"]);
    if !more.contains(&"--acme-retry") {
        args.extend(["--acme-retry", "1s"]);
    }
    args.extend(more);
    let serve = serve_in(dir, &args);
    let port = |scheme: &str| {
        let output = serve.output();
        let rest = output.split(&format!("Ready on {scheme}://*.localhost:")).nth(1)?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let (http, https) = (port("http").unwrap(), eventually("the port", || port("https")));
    let ports = Ports { http, https };
    authority.look_at(ports);
    Node { serve, https, ports }
}

fn node(authority: &Authority, more: &[&str]) -> Node {
    let node = node_in(tempfile::tempdir().unwrap(), authority, more);
    node.upload("hello");
    node
}

impl Node {
    fn upload(&self, script: &str) {
        let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
        let answer = self.serve.upload(script, &metadata, CODE);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Waits until a visitor of `name` trusts the node by the authority's root.
    fn trusted(&self, name: &str, authority: &Authority) -> Tls {
        eventually(&format!("certificate of {name}"), || {
            connect(self.https, name, b"http/1.1", Some(&authority.root)).ok()
        })
    }

    fn metric(&self, name: &str) -> f64 {
        let output = self.serve.output();
        let url = output.split("Metrics at ").nth(1).unwrap().split_whitespace().next().unwrap();
        let page = crate::harness::request(url, "GET", &[], None).unwrap().text();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {page}"))
    }

    fn log_has(&self, text: &str) {
        eventually(&format!("{text:?} in the log"), || self.serve.output().contains(text).then_some(()));
    }
}

/// All files below a folder.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_scripts_address_gets_its_certificate_when_it_is_visited_and_keeps_it() {
    let authority = Authority::start(rules());
    let node = node(&authority, &["--acme-contact", "me@example.com"]);
    assert_eq!(authority.log().orders, [""; 0], "nobody has visited it");
    // Until it is there, the local authority stands in.
    let first = connect(node.https, NAME, b"http/1.1", None).unwrap();
    assert!(connect(node.https, NAME, b"http/1.1", Some(&authority.root)).is_err());
    let mut visitor = node.trusted(NAME, &authority);
    assert!(get(&mut visitor, NAME, "/").unwrap().ends_with("hello"));
    assert_ne!(shown(&first), shown(&visitor));

    // Strangers' names make no orders: no script, no such account, another domain, another kind of name.
    for name in [
        "nobody.main.example.test",
        "hello.other.example.test",
        "example.test",
        "hello.main.localhost",
        "x.org",
    ] {
        connect(node.https, name, b"http/1.1", None).unwrap();
    }
    // A handshake for a challenge that is not open fails.
    assert!(connect(node.https, NAME, b"acme-tls/1", None).is_err());
    std::thread::sleep(Duration::from_millis(2500));
    let log = authority.log();
    assert_eq!(log.validations, [(NAME.to_owned(), "tls-alpn-01".to_owned(), Ok(()))]);
    assert_eq!(log.orders, [NAME]);
    assert_eq!(log.accounts, [["mailto:me@example.com"]]);
    assert_eq!(node.metric("skep_acme_certificates"), 1.0);
    assert_eq!(node.metric("skep_acme_orders_total{result=\"issued\"}"), 1.0);

    let data = node.serve.dir.path().join("data/acme");
    let kept = files(&data);
    assert_eq!(kept.len(), 2, "{kept:?}");
    for file in &kept {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    assert!(!node.serve.output().contains("PRIVATE KEY"));

    // What is kept is used again, even if the authority does not answer.
    let leaf = shown(&visitor);
    let mut authority = authority;
    authority.go_down();
    let node = node_in(node.serve.stop("TERM"), &authority, &["--acme-contact", "you@example.com"]);
    let again = connect(node.https, NAME, b"http/1.1", Some(&authority.root)).unwrap();
    assert_eq!(shown(&again), leaf);
    assert_eq!((authority.log().orders.len(), authority.log().accounts.len()), (1, 1));

    // The account goes on as well, under its new contact.
    authority.come_back();
    node.upload("second");
    connect(node.https, "second.main.example.test", b"http/1.1", None).unwrap();
    node.trusted("second.main.example.test", &authority);
    let log = authority.log();
    assert_eq!((log.accounts.len(), log.contacts), (1, vec![vec!["mailto:you@example.com".to_owned()]]));
}

#[test]
fn custom_domains_and_routes_get_certificates_before_anybody_visits_them() {
    let authority = Authority::start(Rules { offered: vec!["http-01"], ..rules() });
    let node = node(&authority, &[]);
    let zone = "023e105f4ecef8ad9ca31a8372d0c353";
    let domain = json!({ "hostname": "Shop.Example.ORG", "service": "hello", "zone_id": zone });
    let answer = node.serve.call("PUT", "/workers/domains", Some(&domain));
    assert_eq!(answer.status, 200, "{}", answer.text());
    node.trusted("shop.example.org", &authority);
    let routes = json!([
        { "pattern": "www.example.org/api/*", "script": "hello" },
        { "pattern": "*.wild.example.org/*", "script": "hello" },
        { "pattern": "http://plain.example.org/*", "script": "hello" },
        { "pattern": "10.1.2.3/*", "script": "hello" },
    ]);
    for route in routes.as_array().unwrap() {
        let body = route.to_string();
        let path = format!("/zones/{zone}/workers/routes");
        let headers = [("content-type", "application/json")];
        let answer = node.serve.token_call("POST", &path, &headers, Some(body.as_bytes()));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    node.trusted("www.example.org", &authority);
    connect(node.https, "a.wild.example.org", b"http/1.1", None).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    // The first way that was tried is not offered here: the second order is by the other one, and so are later ones.
    assert_eq!(authority.log().orders, ["shop.example.org", "shop.example.org", "www.example.org"]);
    assert!(authority.log().validations.iter().all(|(_, way, result)| way == "http-01" && result.is_ok()));
    // Paths that are no open challenge are the script's.
    assert!(node.serve.get("shop.example.org", "/.well-known/acme-challenge/x").text().ends_with("hello"));
}

#[test]
fn a_certificate_is_renewed_in_time_and_a_failing_renewal_keeps_the_old_one() {
    let authority = Authority::start(Rules { life: Duration::from_secs(8), ..rules() });
    let node = node(&authority, &[]);
    connect(node.https, NAME, b"http/1.1", None).unwrap();
    let mut early = node.trusted(NAME, &authority);
    let first = shown(&early);
    let renewed = eventually("another certificate", || {
        let now = connect(node.https, NAME, b"http/1.1", Some(&authority.root)).ok()?;
        (shown(&now) != first).then_some(now)
    });
    assert!(get(&mut early, NAME, "/").unwrap().ends_with("hello"), "the connection of before goes on");

    let mut authority = authority;
    authority.go_down();
    node.log_has("a certificate could not be renewed; the earlier one stays");
    assert_eq!(node.metric("skep_acme_failing_names"), 1.0);
    assert_eq!(node.metric("skep_acme_certificates"), 1.0);
    let still = connect(node.https, NAME, b"http/1.1", None).unwrap();
    assert_eq!(shown(&still), shown(&renewed));
    authority.come_back();
    eventually("a third certificate", || {
        let now = connect(node.https, NAME, b"http/1.1", None).unwrap();
        (shown(&now) != shown(&renewed)).then_some(())
    });
    assert_eq!(node.metric("skep_acme_failing_names"), 0.0);
}

#[test]
fn an_authority_that_is_away_forgetful_or_slow_is_asked_again_when_it_wants() {
    let mut authority = Authority::start(Rules { bad_nonces: 2, limited: Some(4), ..rules() });
    authority.go_down();
    let node = node(&authority, &[]);
    node.log_has("the ACME authority gives no account now; it is asked again");
    connect(node.https, NAME, b"http/1.1", None).unwrap();
    node.log_has("no certificate yet");
    authority.come_back();
    eventually("a refusal", || (!authority.log().limited.is_empty()).then_some(()));
    let refused = Instant::now();
    authority.change(|rules| rules.limited = None);
    node.trusted(NAME, &authority);
    assert!(refused.elapsed() > Duration::from_secs(3), "{:?}", refused.elapsed());
    assert_eq!(authority.log().limited.len(), 1);
    assert_eq!(node.metric("skep_acme_failing_names"), 0.0);

    // An account that is gone there is made anew.
    authority.forget_accounts();
    let dir = node.serve.stop("TERM");
    let node = node_in(dir, &authority, &["--acme-contact", "me@example.com"]);
    node.upload("second");
    connect(node.https, "second.main.example.test", b"http/1.1", None).unwrap();
    node.trusted("second.main.example.test", &authority);
    assert_eq!(authority.log().accounts, [vec![], vec!["mailto:me@example.com".to_owned()]]);
}

#[test]
fn a_name_that_does_not_lead_here_fails_by_both_ways_and_waits() {
    let authority = Authority::start(rules());
    let node = node(&authority, &["--acme-retry", "1h"]);
    authority.look_at(Ports { http: 9, https: 9 });
    let ways = || authority.log().validations.into_iter().map(|(_, way, _)| way).collect::<Vec<_>>();
    connect(node.https, NAME, b"http/1.1", None).unwrap();
    node.log_has("no certificate yet");
    assert_eq!(ways(), ["tls-alpn-01", "http-01"]);
    assert!(node.serve.output().contains("refused"), "what the authority saw is in the log");
    authority.change(|rules| rules.hasty = true);
    node.upload("hasty");
    connect(node.https, "hasty.main.example.test", b"http/1.1", None).unwrap();
    node.log_has("no certificate yet name=hasty");
    connect(node.https, NAME, b"http/1.1", None).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(ways(), ["tls-alpn-01", "http-01", "tls-alpn-01", "http-01"]);

    // Nor is a certificate ordered again and again that is of no use when it comes.
    authority.look_at(node.ports);
    authority.change(|rules| (rules.life, rules.age) = (DAY, 2 * DAY));
    node.upload("late");
    connect(node.https, "late.main.example.test", b"http/1.1", None).unwrap();
    node.log_has("is this machine's clock right?");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(authority.log().issued, 1);
    assert!(connect(node.https, "late.main.example.test", b"http/1.1", Some(&authority.root)).is_err());
}

#[test]
fn an_operators_own_certificate_goes_first_for_its_names() {
    let authority = Authority::start(rules());
    let own = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let (cert, key) = (own.path().join("cert.pem"), own.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let node = node(&authority, &["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]);
    node.upload("other");
    let visit = |name: &str| shown(&connect(node.https, name, b"http/1.1", None).unwrap());
    assert_eq!(visit(NAME), made.cert.der().to_vec());
    assert_eq!(visit("other.main.example.test"), made.cert.der().to_vec());
    node.trusted("other.main.example.test", &authority);
    assert_eq!(authority.log().orders, ["other.main.example.test"]);
    assert_eq!(visit(NAME), made.cert.der().to_vec());
}

/// `skep serve` with `args`, which must end by itself; what it says.
fn refused(args: &[&str]) -> String {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command
        .args(["serve", "--api", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"])
        .arg(data.path().join("data"));
    let output = command.args(args).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_the_authority_does_not_accept_is_said_at_the_start() {
    let authority = Authority::start(Rules { binding: Some(("kid-1", b"0123456789")), ..rules() });
    let of_authority = authority.args();
    let with = |more: &[&str]| {
        let mut args = vec!["--https", "127.0.0.1:0"];
        args.extend(of_authority.iter().map(String::as_str));
        args.extend(more);
        refused(&args)
    };
    let said = with(&[]);
    assert!(said.contains("--acme-accept-terms") && said.contains("/terms"), "{said}");
    let said = with(&["--acme-accept-terms"]);
    assert!(said.contains("gives no account: only for customers"), "{said}");
    let file = authority.dir.path().join("eab");
    let key = |text: &str| {
        std::fs::write(&file, text).unwrap();
        ["--acme-accept-terms", "--acme-eab-id", "kid-1", "--acme-eab-key-file", file.to_str().unwrap()]
            .map(str::to_owned)
    };
    let wrong = key("d3Jvbmcga2V5");
    let said = with(&wrong.each_ref().map(String::as_str));
    assert!(said.contains("the binding is wrong") && !said.contains("d3Jvbmcga2V5"), "{said}");
    let broken = key("not base64url!");
    assert!(with(&broken.each_ref().map(String::as_str)).contains("it is not base64url"));
    let right = key("MDEyMzQ1Njc4OQ");
    let more = right.each_ref().map(String::as_str);
    let node = node(&authority, &more[1..]);
    connect(node.https, NAME, b"http/1.1", None).unwrap();
    node.trusted(NAME, &authority);

    // Without the file that vouches for it, the authority is a stranger; without TLS, nobody listens to it.
    let ca = authority.dir.path().join("eab");
    let said = refused(&[
        "--https",
        "127.0.0.1:0",
        "--acme-accept-terms",
        "--acme-directory",
        &of_authority[1],
        "--acme-ca",
        ca.to_str().unwrap(),
    ]);
    assert!(said.contains("it has no certificate"), "{said}");
    let said = refused(&["--acme-directory", &of_authority[1], "--acme-accept-terms"]);
    assert!(said.contains("--https"), "{said}");
    let said = refused(&["--https", "127.0.0.1:0", "--acme-directory", "http://acme.example/directory"]);
    assert!(said.contains("expected an https:// URL"), "{said}");
}
