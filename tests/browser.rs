//! `browser` bindings in `skep dev`: Cloudflare's own libraries drive a real Chrome.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Skep, command, dev, eventually, npm, repository, small_project, start};

/// The earlier library does not know messages that come as `Blob`s, which they do with later dates.
const CONFIG: &str = r#"{ "name": "looks", "main": "worker.js", "compatibility_date": "2026-01-01",
    "compatibility_flags": ["nodejs_compat"], "browser": { "binding": "BROWSER" } }"#;
pub const PACKAGES: [&str; 3] = [
    "@cloudflare/puppeteer@1.4.0",
    "@cloudflare/playwright@1.3.6",
    // It sends messages in chunks.
    "earlier-puppeteer@npm:@cloudflare/puppeteer@1.0.6",
];

fn looks() -> tempfile::TempDir {
    let dir = small_project(CONFIG, &[]);
    std::fs::copy(repository().join("tests/browser/worker.js"), dir.path().join("worker.js")).unwrap();
    let packages = npm::installed("browser", &PACKAGES).join("node_modules");
    std::os::unix::fs::symlink(packages, dir.path().join("node_modules")).unwrap();
    dir
}

fn ask(skep: &Skep, case: &str) -> Value {
    let answer = skep.get(&format!("/{case}"));
    assert_eq!(answer.status, 200, "{case}: {}", answer.text());
    answer.json()
}

/// A process that has not ended.
pub struct Process {
    pub id: String,
    pub parent: String,
    pub group: String,
    pub line: String,
}

pub fn processes() -> Vec<Process> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|process| {
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
        // After the name: state, parent, group. <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        (fields[0] != "Z").then(|| Process {
            id: process.file_name().into_string().unwrap(),
            parent: fields[1].to_owned(),
            group: fields[2].to_owned(),
            line: String::from_utf8_lossy(&line).into_owned(),
        })
    })
    .collect()
}

/// The group of the browser with this in its command line.
fn group(part: &str) -> String {
    let all = processes().into_iter();
    let mut first = all.filter(|own| own.line.contains(part) && own.line.contains("--user-data-dir"));
    first.next().unwrap().group
}

/// How many processes a group has.
fn members(group: &str) -> usize {
    processes().iter().filter(|own| own.group == group).count()
}

#[test]
fn the_libraries_drive_a_browser() {
    let dir = looks();
    let skep = dev(dir.path());
    let seen = json!({ "title": "Bees", "heading": "Hello, hive", "ready": "true", "long": 1_500_000, "told": 700_000 });
    let with = |more: Value| {
        let mut all = seen.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let png = "‰PNG";
    assert_eq!(
        ask(&skep, "puppeteer"),
        with(json!({
            "shot": png, "pdf": "%PDF-", "pages": ["", "Bees"], "connected": ["string", "number", "number"],
            "end": [1, "NormalClosure", true],
        }))
    );
    assert_eq!(ask(&skep, "playwright"), with(json!({ "shot": png })));
    assert_eq!(ask(&skep, "earlier"), seen);
    assert!(skep.output().contains("Browser Rendering"), "{}", skep.output());
}

#[test]
fn sessions_are_counted_told_and_ended() {
    let dir = looks();
    let skep = dev(dir.path());
    assert_eq!(ask(&skep, "idle"), json!([2, "BrowserIdle", true]));
    let said = "Unable to create new browser: code: 429: message: Too many browsers are running: 10 at a time. Close one, or wait \
                until one is idle for its keep_alive";
    assert_eq!(ask(&skep, "many"), json!({ "most": 10, "got": 10, "said": said, "allowed": 0, "after": 0 }));
    let looked = ask(&skep, "devtools");
    let id = looked["gone"][1].as_str().unwrap().trim_start_matches("Session not found: ");
    assert_eq!(id.len(), 36, "{looked}");
    assert_eq!(
        looked,
        json!({
            "chrome": true, "value": 42, "listed": ["data:text/html,<title>a&b=c</title>", "about:blank"], "shown": true,
            "closed": 200, "end": [200, r#"{"status":"closed"}"#], "gone": [404, format!("Session not found: {id}")],
        })
    );
    assert_eq!(
        ask(&skep, "refused"),
        json!([
            "400 Skep cannot restrict a browser's traffic: start it without guardrails",
            "400 Skep has no browser \"kitesurf\", only Chrome: leave `browser` out",
            "400 keep_alive is a number of milliseconds, up to 600000, not \"soon\"",
            "400 Expected a WebSocket: send the header Upgrade: websocket",
            "400 Expected a WebSocket: send the header Upgrade: websocket",
            "400 \"..%2F..%2Fjson\" is no page's id",
            "400 \"a%3Fb\" is no page's id",
            "404 Session not found: none",
            "404 Not Found",
        ])
    );
}

#[test]
fn no_browser_outlives_skep() {
    let dir = looks();
    let (state, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for signal in ["INT", "KILL"] {
        let mut command = command(dir.path(), state.path());
        command.env("TMPDIR", temporary.path());
        let mut skep = start(command).unwrap();
        ask(&skep, "left");
        let own = temporary.path().to_str().unwrap();
        let group = group(own);
        assert!(members(&group) > 2, "a browser has processes of its own");
        skep.signal(signal);
        skep.wait();
        eventually("end of the browser", || (members(&group) == 0).then_some(()));
        if signal == "INT" {
            let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

#[test]
fn a_browser_that_is_not_there_is_said_to_the_worker() {
    let dir = looks();
    let with = |program: &Path| {
        let state = tempfile::tempdir().unwrap();
        let mut command = command(dir.path(), state.path());
        command.arg("--browser").arg(program);
        let answer = start(command).unwrap().get("/left");
        (answer.status, answer.text())
    };
    let (status, said) = with(Path::new("/nowhere/chrome"));
    assert_eq!(status, 500);
    assert!(
        said.contains(
            "code: 500: message: /nowhere/chrome, given by --browser or SKEP_BROWSER, is not a file"
        ),
        "{said}"
    );
    let (_, said) = with(Path::new("/bin/false"));
    assert!(said.contains("the browser /bin/false did not start: it ended without a word"), "{said}");
}
