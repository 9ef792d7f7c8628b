//! Engines that are started ahead: scripts start in them, with all that holds any cell.

use serde_json::json;

use crate::harness::serve::{Serve, serve_in};
use crate::harness::{eventually, is_alive, signal};

const HELLO: &str = "export default { fetch() { return new Response('hello') } }";

fn node(waiting: usize, more: &[&str]) -> (Serve, Vec<u32>) {
    let number = waiting.to_string();
    let serve = serve_in(tempfile::tempdir().unwrap(), &[&["--waiting-cells", &number], more].concat());
    let pids = full(&serve, waiting);
    (serve, pids)
}

/// Those that wait, once there are so many.
fn full(serve: &Serve, count: usize) -> Vec<u32> {
    let mut pids = eventually("engines that wait", || Some(serve.waiting()).filter(|all| all.len() == count));
    pids.sort_unstable();
    pids
}

fn deploy(serve: &Serve, name: &str, code: &str) {
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    let answer = serve.upload(name, &metadata, code);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_script_starts_in_an_engine_that_waited_and_another_one_waits_then() {
    let (serve, before) = node(3, &[]);
    deploy(&serve, "hello", HELLO);
    assert_eq!(serve.get("hello.main.localhost", "/").text(), "hello");
    let cells = serve.cells();
    // The code was tried in one, and runs in another one.
    assert!(cells.len() == 1 && before.contains(&cells[0]), "{cells:?} {before:?}");
    let after = full(&serve, 3);
    assert!(!after.contains(&cells[0]));
    assert_eq!(after.iter().filter(|pid| before.contains(pid)).count(), 1);

    // What a script gets is its own: its name, its bindings, its limits.
    deploy(&serve, "other", &HELLO.replace("hello", "another"));
    assert_eq!(serve.get("other.main.localhost", "/").text(), "another");
    assert_eq!(serve.get("hello.main.localhost", "/").text(), "hello");

    let all = [serve.cells(), full(&serve, 3)].concat();
    assert_eq!(all.len(), 5);
    drop(serve.stop("KILL"));
    eventually("the end of all engines", || all.iter().all(|pid| !is_alive(*pid)).then_some(()));
}

#[test]
fn an_engine_that_ended_while_it_waited_is_nobodys_trouble() {
    let (serve, waiting) = node(2, &[]);
    waiting.iter().for_each(|pid| signal(*pid, "KILL"));
    deploy(&serve, "hello", HELLO);
    assert_eq!(serve.get("hello.main.localhost", "/").text(), "hello");
    let now = full(&serve, 2);
    assert!(now.iter().all(|pid| !waiting.contains(pid)));
}

#[test]
fn more_start_at_once_than_wait() {
    let (serve, _) = node(2, &["--idle-timeout", "300ms"]);
    for n in 0..6 {
        deploy(&serve, &format!("w{n}"), &HELLO.replace("hello", &format!("I am w{n}")));
    }
    eventually("the end of idle processes", || serve.cells().is_empty().then_some(()));
    full(&serve, 2);
    std::thread::scope(|scope| {
        for n in 0..6 {
            let serve = &serve;
            scope.spawn(move || {
                assert_eq!(serve.get(&format!("w{n}.main.localhost"), "/").text(), format!("I am w{n}"));
            });
        }
    });
    full(&serve, 2);
}

#[test]
fn the_limits_of_a_script_hold_in_an_engine_that_waited() {
    let (serve, waiting) = node(2, &["--cell-memory", "32"]);
    let bomb = "export default { fetch(request) {
      if (new URL(request.url).pathname !== '/bomb') return new Response('fine');
      const all = [];
      for (;;) all.push(new Uint8Array(4 << 20).fill(1));
    } }";
    deploy(&serve, "bomb", bomb);
    let host = "bomb.main.localhost";
    assert_eq!(serve.get(host, "/").text(), "fine");
    let cell = serve.cells()[0];
    assert!(waiting.contains(&cell));
    // The group that it entered without limits has got what the kernel ends the script at: 32 MiB, 32 for the engine, 64 for
    // garbage that cannot be told from the rest, 32 because looking takes time.
    let groups = std::fs::read_to_string(format!("/proc/{cell}/cgroup")).unwrap();
    let memory = groups.lines().find_map(|line| line.split_once(":memory:")).map(|(_, path)| path);
    match memory.map(|path| format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes")) {
        Some(file) if std::path::Path::new(&file).exists() => {
            assert_eq!(std::fs::read_to_string(file).unwrap().trim(), (160_u64 << 20).to_string());
        }
        _ => eprintln!("this machine has no version 1 of control groups for memory: not looked at"),
    }
    let answer = serve.get(host, "/bomb");
    assert!(answer.status == 503 && answer.text().contains("1102"), "{} {}", answer.status, answer.text());
    assert_eq!(serve.get(host, "/").text(), "fine");
}

/// A process that is killed closes its connections in no order, so that it may still listen when the first ones are gone.
#[test]
fn whoever_is_in_a_process_that_is_killed_hears_that_it_ended() {
    let (serve, _) = node(1, &[]);
    let code = "let inside = 0; export default { async fetch(request) {
      if (new URL(request.url).pathname === '/count') return new Response(String(inside));
      inside++;
      await scheduler.wait(60000);
    } }";
    deploy(&serve, "slow", code);
    let host = "slow.main.localhost";
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..100).map(|_| scope.spawn(|| serve.get(host, "/"))).collect();
        eventually("all requests in the process", || {
            (serve.get(host, "/count").text() == "100").then_some(())
        });
        serve.cells().iter().for_each(|pid| signal(*pid, "KILL"));
        for answer in all.into_iter().map(|request| request.join().unwrap()) {
            assert!(
                answer.status == 503 && answer.text().contains("1102"),
                "{} {}",
                answer.status,
                answer.text()
            );
        }
    });
}

#[test]
fn none_wait_where_none_are_wanted() {
    let (serve, _) = node(0, &[]);
    deploy(&serve, "hello", HELLO);
    assert_eq!(serve.get("hello.main.localhost", "/").text(), "hello");
    assert!(serve.waiting().is_empty());
}
