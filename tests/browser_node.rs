//! `browser` bindings on a node: strangers drive a browser that is held.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::browser::{PACKAGES, processes};
use crate::harness::scene::door;
use crate::harness::serve::{Serve, serve, serve_in};
use crate::harness::{eventually, npm, repository};

const CONFIG: &str = r#"{ "name": "looks", "main": "node.js", "compatibility_date": "2026-01-01",
    "compatibility_flags": ["nodejs_compat"], "browser": { "binding": "BROWSER" } }"#;
const HOST: &str = "looks.main.localhost";
/// The network that the node lets scripts reach, where a site is.
const ALLOWED: &str = "127.0.0.9";

fn node(args: &[&str]) -> Serve {
    let all = [&["--browsers", "2", "--egress-allow", "127.0.0.9/32"], args].concat();
    let serve = serve_in(tempfile::tempdir().unwrap(), &all);
    deploy(&serve);
    serve
}

fn looks(serve: &Serve) -> std::path::PathBuf {
    let code = std::fs::read_to_string(repository().join("tests/browser/node.js")).unwrap();
    let dir = serve.project("looks", &[("wrangler.jsonc", CONFIG), ("node.js", &code)]);
    let packages = npm::installed("browser", &PACKAGES).join("node_modules");
    std::os::unix::fs::symlink(packages, dir.join("node_modules")).unwrap();
    dir
}

fn deploy(serve: &Serve) {
    serve.wrangler(&looks(serve), &["deploy"]);
}

fn ask(serve: &Serve, case: &str, to: &str) -> Value {
    let to: String = url::form_urlencoded::byte_serialize(to.as_bytes()).collect();
    let answer = serve.get(HOST, &format!("/{case}?to={to}"));
    assert_eq!(answer.status, 200, "{case}: {}\n{}", answer.text(), serve.output());
    answer.json()
}

/// A site that says the same to everybody.
fn site(address: &str, text: &str) -> (String, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let page = format!("<title>{text}</title><h1>{text}</h1>");
    let head = "HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nAccess-Control-Allow-Origin: *\r\n";
    let answer = format!("{head}Content-Length: {}\r\n\r\n{page}", page.len());
    let (port, came) = door(TcpListener::bind((address, 0)).unwrap(), answer);
    (format!("http://{address}:{port}/"), came)
}

#[test]
fn a_node_without_browsers_says_so_at_the_deploy() {
    let serve = serve();
    let ran = serve.try_wrangler(&looks(&serve), &["deploy"], "");
    assert!(!ran.success);
    let said = "binding BROWSER of type browser needs a node that runs browsers, which this one does not: its operator starts it \
                with `skep serve --browsers N`";
    assert!(ran.text.replace('\n', " ").contains(said), "{}", ran.text);
}

#[test]
fn the_libraries_drive_a_browser_of_a_node() {
    let serve = node(&[]);
    let (url, _) = site(ALLOWED, "Bees");
    let seen = json!(["Bees", "‰PNG", 1_500_000]);
    assert_eq!(ask(&serve, "libraries", &url), json!([seen, seen, seen]));
    // An account has half of them.
    let many = ask(&serve, "many", "");
    assert_eq!((many["most"].as_u64(), many["ids"].as_array().unwrap().len()), (Some(1), 1), "{many}");
    let refused = many["refused"].as_str().unwrap();
    assert!(refused.contains("code: 429: message: Too many browsers are running: 1 at a time."), "{refused}");
    assert_eq!(ask(&serve, "close", ""), 0);
    assert_eq!(ask(&serve, "libraries", &url).as_array().unwrap().len(), 3);
    serve.stop("TERM");
}

#[test]
fn a_browser_of_a_node_reaches_the_internet_alone() {
    let serve = node(&[]);
    let (forbidden, came) = site("127.0.0.1", "inside");
    let (allowed, _) = site(ALLOWED, "Bees");
    let port = forbidden.trim_end_matches('/').rsplit_once(':').unwrap().1;
    let api = serve.api.trim_end_matches("/client/v4").to_owned();
    let at = |host: &str| format!("http://{host}:{port}/");
    let mut inside: Vec<String> =
        ["127.0.0.1", "localhost", "0.0.0.0", "2130706433", "[::ffff:127.0.0.1]", "[::1]"].map(at).into();
    inside.extend([api, "http://169.254.169.254/latest/meta-data/".into(), "http://10.0.0.1/".into()]);
    let urls = [&[allowed], &inside[..]].concat();
    let reached = ask(&serve, "reach", &serde_json::to_string(&urls).unwrap());
    let visits = reached["visits"].as_array().unwrap();
    assert_eq!(visits[0], "Bees", "{reached}");
    for (url, visit) in inside.iter().zip(&visits[1..]) {
        let visit = visit.as_str().unwrap();
        assert!(visit.starts_with("net::ERR_SOCKS_CONNECTION_FAILED"), "{url}: {visit}");
    }
    for asked in reached["asked"].as_array().unwrap() {
        // A site that knows no WebSockets has been asked as well.
        assert!(asked.as_array().unwrap()[1..].iter().all(|answer| answer == "failed"), "{reached}");
    }
    assert_eq!(reached["asked"][0][0], "answered", "{reached}");
    assert_eq!(came.load(Ordering::SeqCst), 0, "somebody came");
    // Nor by datagrams, not even to an address that is allowed.
    let listener = UdpSocket::bind((ALLOWED, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let candidates = ask(&serve, "datagrams", &listener.local_addr().unwrap().to_string());
    assert_eq!(
        listener.recv(&mut [0; 64]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "{candidates}"
    );
}

#[test]
fn a_browser_of_a_node_sees_no_files_and_nobody_else() {
    let serve = node(&[]);
    let data = serve.dir.path().join("data");
    let secret = data.join("credentials.json").display().to_string();
    let paths =
        ["/etc/passwd", "/etc/hostname", "/home/", "/proc/1/environ", "/proc/1/maps", "/proc/", &secret];
    let seen = ask(&serve, "files", &serde_json::to_string(&paths).unwrap());
    for path in paths.iter().filter(|path| !path.starts_with("/proc")) {
        let said = seen[path].as_str().unwrap();
        assert!(
            said.starts_with("net::ERR_FILE_NOT_FOUND") || said.starts_with("net::ERR_ACCESS_DENIED"),
            "{path}: {said}"
        );
    }
    for path in ["/proc/1/environ", "/proc/1/maps"] {
        let said = seen[path].as_str().unwrap();
        assert!(said.starts_with("net::ERR_"), "{path}: {said}");
    }
    // Its processes have numbers from 1 on, and the machine's are not there.
    let listed = seen["/proc/"].as_str().unwrap();
    let rows = listed.split("addRow(\"").skip(1).filter_map(|row| row.split('"').next());
    let ids: Vec<u32> = rows.filter_map(|name| name.parse().ok()).collect();
    assert!(ids.contains(&1) && !listed.contains("meminfo") && ids.len() < 100, "{listed}");
}

#[test]
fn a_browser_that_wants_everything_is_ended_and_others_notice_nothing() {
    let serve = node(&["--browser-memory", "512"]);
    let plain = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    let well = "export default { fetch() { return new Response('well') } }";
    assert_eq!(serve.upload("well", &plain, well).status, 200);
    let scene = crate::harness::scene::Scene { serve };
    let said = scene.meanwhile(|| ask(&scene.serve, "bomb", ""));
    let said = said.as_str().unwrap();
    assert!(said.contains("Page crashed!") || said.contains("Target closed"), "{said}");
    assert_eq!(scene.meanwhile(|| ask(&scene.serve, "loop", "")), "looped");
    assert_eq!(ask(&scene.serve, "close", ""), 0);
    let (url, _) = site(ALLOWED, "Bees");
    assert_eq!(ask(&scene.serve, "reach", &json!([url]).to_string())["visits"][0], "Bees");
}

#[test]
fn no_browser_outlives_a_node() {
    for signal in ["TERM", "KILL"] {
        let serve = node(&[]);
        ask(&serve, "many", "");
        // Its processes, by the namespace that they are in and nobody else.
        let own = spaces(serve.pid());
        assert!(own.len() > 2, "a browser has processes of its own");
        for pid in &own {
            let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
            let variables = String::from_utf8_lossy(&variables);
            assert!(!variables.contains("PATH="), "it knows the node's: {variables}");
        }
        let _data = serve.stop(signal);
        eventually("end of the browser", || {
            own.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        });
    }
}

/// Below `pid`, all that are a browser's.
fn spaces(pid: u32) -> Vec<String> {
    let all = processes();
    let mut below = vec![pid.to_string()];
    let mut grown = true;
    while grown {
        grown = false;
        for process in &all {
            if below.contains(&process.parent) && !below.contains(&process.id) {
                below.push(process.id.clone());
                grown = true;
            }
        }
    }
    let is_browser = |id: &&String| {
        all.iter()
            .any(|p| p.id == **id && (p.line.contains("--user-data-dir") || p.line.contains("__browser")))
    };
    below.iter().filter(is_browser).cloned().collect()
}
