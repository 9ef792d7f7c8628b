//! What a node says of itself to Prometheus.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::harness::eventually;
use crate::harness::serve::{Serve, serve_in};

const CODE: &str = r#"export default {
  async fetch(request) {
    switch (new URL(request.url).pathname) {
      case "/throw": throw new Error("no");
      case "/missing": return new Response("no", { status: 404 });
      case "/work": { const end = Date.now(); let n = 0; for (let i = 0; i < 3e8; i++) n += i; return new Response(`${n}`); }
      case "/wait": await new Promise((done) => setTimeout(done, 300));
    }
    return new Response("ok");
  },
};"#;

fn node(args: &[&str]) -> Serve {
    serve_in(tempfile::tempdir().unwrap(), &[&["--metrics", "127.0.0.1:0"], args].concat())
}

fn upload(node: &Serve, script: &str) {
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    let answer = node.upload(script, &metadata, CODE);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Series with their values; the page was found to be well formed.
struct Page(BTreeMap<String, f64>);

impl Page {
    /// The value of the one series of this family whose labels hold all of `labels`; 0 if there is none.
    fn value(&self, family: &str, labels: &[&str]) -> f64 {
        let fits = |series: &&String| {
            series.split('{').next() == Some(family) && labels.iter().all(|label| series.contains(label))
        };
        let found: Vec<_> = self.0.keys().filter(fits).collect();
        assert!(found.len() <= 1, "{found:?}");
        found.first().map_or(0.0, |series| self.0[*series])
    }
}

fn scrape(node: &Serve) -> Page {
    let output = node.output();
    let url = output.split("Metrics at ").nth(1).unwrap().split_whitespace().next().unwrap();
    let answer = crate::harness::request(url, "GET", &[], None).unwrap();
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "text/plain; version=0.0.4; charset=utf-8")
    );
    check(&answer.text())
}

/// Reads the text format and refuses what `promtool check metrics` would: samples without help and type or apart from
/// their family, series that are there twice, names that are not, counters without `_total`, broken histograms.
fn check(text: &str) -> Page {
    assert!(text.ends_with('\n'));
    let mut families = BTreeSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut series = BTreeMap::new();
    let mut buckets: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned()), "{name} is there twice");
            assert!(text.ends_with('.') && is_name(name), "{line}");
            family = name.to_owned();
            kind.clear();
            continue;
        }
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, of) = typed.split_once(' ').unwrap();
            assert!(name == family && kind.is_empty(), "{line}");
            assert_eq!(of == "counter", name.ends_with("_total"), "{line}");
            kind = of.to_owned();
            continue;
        }
        let (id, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let (name, labels) = id.split_once('{').unwrap_or((id, "}"));
        let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} is not of {family}"));
        let allowed: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(allowed.contains(&suffix) && value.is_finite() && value >= 0.0, "{line}");
        for label in labels.strip_suffix('}').unwrap().split(',').filter(|label| !label.is_empty()) {
            let (name, value) = label.split_once('=').unwrap();
            assert!(is_name(name) && value.starts_with('"') && value.ends_with('"'), "{line}");
        }
        if suffix == "_bucket" {
            let others = id.split("le=").next().unwrap().trim_end_matches([',', '{']);
            buckets.entry(others.replace("_bucket", "_count")).or_default().push(value);
        }
        assert!(series.insert(id.to_owned(), value).is_none(), "{id} is there twice");
    }
    for (count, buckets) in buckets {
        assert!(buckets.is_sorted(), "{count}: {buckets:?}");
        assert_eq!(buckets.last(), Some(&series[&format!("{count}}}")]), "{count}");
    }
    Page(series)
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[test]
fn requests_processes_queues_storage_and_jobs_are_counted() {
    let node = node(&[]);
    assert_eq!(scrape(&node).value("skep_cells", &[]), 0.0);
    upload(&node, "busy");
    let queue = node.call("POST", "/queues", Some(&json!({ "queue_name": "letters" }))).json();
    let send = format!("/queues/{}/messages", queue["result"]["queue_id"].as_str().unwrap());
    assert_eq!(node.call("POST", &send, Some(&json!({ "body": "one", "content_type": "text" }))).status, 200);
    let before = scrape(&node);
    let host = "busy.main.localhost";
    for (path, status) in [("/", 200), ("/missing", 404), ("/throw", 500), ("/wait", 200), ("/work", 200)] {
        assert_eq!(node.get(host, path).status, status, "{path}");
    }
    assert_eq!(node.get("nobody.main.localhost", "/").status, 404);
    let page = scrape(&node);
    let requests = |status: &str, outcome: &str| {
        let labels =
            [r#"script="busy""#, &format!(r#"status="{status}""#), &format!(r#"outcome="{outcome}""#)];
        page.value("skep_requests_total", &labels)
    };
    assert_eq!(requests("2xx", "success"), 3.0);
    assert_eq!(requests("4xx", "success"), 1.0);
    assert_eq!(requests("5xx", "scriptThrewException"), 1.0);
    let latency = |part: &str, labels: &[&str]| {
        page.value(
            &format!("skep_request_duration_seconds_{part}"),
            &[&[r#"script="busy""#], labels].concat(),
        )
    };
    assert_eq!(latency("count", &[]), 5.0);
    assert!(latency("sum", &[]) >= 0.3 && latency("bucket", &[r#"le="0.25""#]) <= 4.0);
    assert_eq!(page.value("skep_unrouted_requests_total", &[]), 1.0);
    assert!(page.value("skep_connections_total", &[]) >= 1.0);

    let script = [r#"script="busy""#];
    // One that was replaced finishes what it has.
    assert_eq!(page.value("skep_script_cells", &script), node.cells().len() as f64);
    assert_eq!(page.value("skep_script_cold_starts_total", &script), 1.0);
    assert!(page.value("skep_script_memory_bytes", &script) > 1e6);
    let cpu = |page: &Page| page.value("skep_script_cpu_seconds_total", &script);
    assert!(cpu(&page) > cpu(&before) && cpu(&page) < 60.0, "{} {}", cpu(&before), cpu(&page));
    assert_eq!(page.value("skep_queue_messages", &[r#"queue="letters""#]), 1.0);
    assert_eq!(page.value("skep_queue_bytes", &[r#"queue="letters""#]), 3.0);
    eventually("size of the code", || {
        let bytes = scrape(&node).value("skep_storage_bytes", &[r#"store="code_and_assets""#]);
        (bytes >= CODE.len() as f64).then_some(())
    });
    assert_eq!(page.value("skep_job_failed", &[r#"job="queues retention""#]), 0.0);

    let cells: Vec<String> = node.cells().iter().map(u32::to_string).collect();
    std::process::Command::new("kill").arg("-9").args(cells).status().unwrap();
    eventually("cell in place of the killed one", || {
        (scrape(&node).value("skep_script_restarts_total", &script) == 1.0).then_some(())
    });
    assert_eq!(node.get(host, "/").status, 200);
    let after = scrape(&node);
    assert!(cpu(&after) >= cpu(&page), "what the killed process used stays counted");
    assert_eq!(after.value("skep_script_cold_starts_total", &script), 1.0, "a restart is not a cold start");
}

#[test]
fn batches_are_counted_by_what_came_of_them() {
    let node = node(&[]);
    let code = "export default {
      queue(batch) { if (batch.messages[0].body === 'bad') throw new Error('no'); batch.ackAll(); },
    };";
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    assert_eq!(node.upload("reader", &metadata, code).status, 200);
    let queue = node.call("POST", "/queues", Some(&json!({ "queue_name": "letters" }))).json();
    let path = format!("/queues/{}", queue["result"]["queue_id"].as_str().unwrap());
    let consumer = json!({
        "type": "worker", "script_name": "reader", "settings": { "batch_size": 1, "max_retries": 0, "max_wait_time_ms": 0 },
    });
    assert_eq!(node.call("POST", &format!("{path}/consumers"), Some(&consumer)).status, 200);
    for body in ["good", "bad", "good"] {
        let message = json!({ "body": body, "content_type": "text" });
        assert_eq!(node.call("POST", &format!("{path}/messages"), Some(&message)).status, 200);
    }
    let count = |page: &Page, outcome: &str| {
        let outcome = format!(r#"outcome="{outcome}""#);
        page.value("skep_events_total", &[r#"script="reader""#, r#"event="queue""#, &outcome])
    };
    eventually("three batches", || {
        let page = scrape(&node);
        (count(&page, "ok") == 2.0 && count(&page, "exception") == 1.0).then_some(())
    });
    assert_eq!(scrape(&node).value("skep_requests_total", &[r#"script="reader""#]), 0.0);
}

#[test]
fn a_body_that_is_too_large_is_a_refused_request_whether_its_length_was_announced_or_not() {
    let node = node(&["--max-body", "1000"]);
    let code = "export default { async fetch(request) { return new Response(await request.text()); } };";
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    assert_eq!(node.upload("echo", &metadata, code).status, 200);
    let host = "echo.main.localhost";
    assert_eq!(node.send("POST", host, "/", &[], Some(&[b'x'; 1000])).status, 200);
    assert_eq!(node.send("POST", host, "/", &[], Some(&[b'x'; 1001])).status, 413);
    let chunked = [("transfer-encoding", "chunked")];
    assert_eq!(node.send("POST", host, "/", &chunked, Some(&[b'x'; 1001])).status, 413);
    let page = scrape(&node);
    assert_eq!(page.value("skep_requests_refused_total", &[]), 2.0);
    assert_eq!(page.value("skep_requests_total", &[r#"script="echo""#]), 1.0);
}

#[test]
fn scripts_beyond_the_bound_are_counted_together_and_a_deleted_one_is_gone() {
    let node = node(&["--metrics-scripts", "1"]);
    for script in ["first", "second", "third"] {
        upload(&node, script);
        assert_eq!(node.get(&format!("{script}.main.localhost"), "/").status, 200);
    }
    let page = scrape(&node);
    assert_eq!(page.value("skep_requests_total", &[r#"script="first""#]), 1.0);
    assert_eq!(page.value("skep_requests_total", &[r#"script="*""#]), 2.0);
    assert!(page.value("skep_script_cells", &[r#"script="*""#]) >= 2.0);
    assert_eq!(node.call("DELETE", "/workers/scripts/first", None).status, 200);
    let page = scrape(&node);
    assert_eq!(page.value("skep_requests_total", &[r#"script="first""#]), 0.0);
}
