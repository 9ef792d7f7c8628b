//! Scripts under load have several processes, and one again afterwards.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::serve::serve_in;
use crate::harness::{Ended, eventually};

const HOST: &str = "busy.main.localhost";

fn code(version: &str) -> String {
    // Some tens of milliseconds of CPU for each request.
    format!(
        "export default {{ fetch() {{
           let n = 1;
           for (let i = 0; i < 3e6; i++) n = (n * 1103515245 + 12345) & 0x7fffffff;
           return new Response(`{version} ${{n}}`);
         }} }};"
    )
}

#[test]
fn a_script_that_keeps_a_core_busy_gets_another_process_and_has_one_again_afterwards() {
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--cells-per-script", "2"]);
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    assert_eq!(serve.upload("busy", &metadata, &code("one")).status, 200);
    assert!(serve.get(HOST, "/").text().starts_with("one "));
    assert_eq!(serve.cells().len(), 1);

    let (stop, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _ended = Ended(&stop);
        for _ in 0..6 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let answer = serve.get(HOST, "/");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        eventually("a second process", || (serve.cells().len() == 2).then_some(()));
        let first = serve.cells();

        // A deploy replaces both, and comes back to two, while requests go on.
        assert_eq!(serve.upload("busy", &metadata, &code("two")).status, 200);
        eventually("the new code", || serve.get(HOST, "/").text().starts_with("two ").then_some(()));
        eventually("two new processes", || {
            (serve.cells().iter().filter(|pid| !first.contains(pid)).count() == 2).then_some(())
        });
        for _ in 0..10 {
            let text = serve.get(HOST, "/").text();
            assert!(text.starts_with("two "), "{text}");
        }
    });
    assert!(answers.load(Ordering::Relaxed) > 20);

    // What is not needed finishes what it has, and goes: thirty seconds and thirty.
    let quiet = Instant::now();
    while serve.cells().len() > 1 {
        assert!(quiet.elapsed() < Duration::from_secs(180), "{:?} still run", serve.cells());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(serve.get(HOST, "/").text().starts_with("two "));
}

#[test]
fn a_script_with_durable_objects_has_one_process_under_any_load() {
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--cells-per-script", "4"]);
    let code = format!(
        "import {{ DurableObject }} from 'cloudflare:workers';\nexport class Thing extends DurableObject {{}}\n{}",
        code("one")
    );
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "type": "durable_object_namespace", "name": "THING", "class_name": "Thing" }],
        "migrations": { "new_tag": "v1", "new_sqlite_classes": ["Thing"] },
    });
    let answer = serve.upload("busy", &metadata, &code);
    assert_eq!(answer.status, 200, "{}", answer.text());
    serve.get(HOST, "/");
    let cell = serve.cells();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let start = Instant::now();
                while start.elapsed() < Duration::from_secs(4) {
                    assert_eq!(serve.get(HOST, "/").status, 200);
                    assert_eq!(serve.cells(), cell);
                }
            });
        }
    });
}
