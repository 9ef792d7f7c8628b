//! What containers of a node send out when their worker wants to see it: it goes there, and nowhere else than it could go without.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::containers_bounds::machine::{self, ELSEWHERE, METADATA, NEIGHBOUR, PRIVATE, PUBLIC};
use crate::containers_bounds::node::{self, Account, Boxed};
use crate::harness::eventually;
use crate::harness::serve::{Serve, serve_in};
use crate::image_registry::docker::Docker;

/// A question for the address of `leak.example.com` as it is sent over TCP, RFC 1035, for `printf`.
const QUESTION: &str = "\\000\\042\\000\\001\\001\\000\\000\\001\\000\\000\\000\\000\\000\\000\\004leak\\007example\\003com\\000\\000\\001\\000\\001";

impl Boxed<'_> {
    /// Has HTTP to these hosts, or to all, sent to the worker.
    fn intercept(&self, hosts: &[&str]) {
        let asked = match hosts {
            ["*"] => vec![self.ask("/intercept-all", &[])],
            hosts => hosts.iter().map(|host| self.ask("/intercept", &[("host", host)])).collect(),
        };
        for answer in asked {
            assert_eq!(answer.text(), "intercepted", "{}", self.serve.output());
        }
    }

    /// What it gets from an address under the name of a host; nothing is nothing.
    fn fetch(&self, address: &str, host: &str) -> String {
        let (address, port) = address.split_once(':').unwrap_or((address, "80"));
        let request = format!("GET /x HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n");
        let said =
            self.run(&format!("printf '{request}' | timeout 10 nc -w 10 {address} {port} 2>/dev/null; true"));
        said.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or(said)
    }

    /// The address of a name, as it is told.
    fn named(&self, host: &str) -> String {
        let said = self.run(&format!("timeout 5 nslookup -type=a {host} 2>&1; true"));
        let last = said.lines().rev().find_map(|line| line.strip_prefix("Address: "));
        last.map_or(said.clone(), |address| address.trim().to_owned())
    }
}

fn deployed(serve: &Serve) {
    deployed_with(serve, &json!({}));
}

fn deployed_with(serve: &Serve, more: &serde_json::Value) {
    let own = Account { id: serve.account.clone(), token: serve.token.clone() };
    let image = own.push(serve, "box:1", &node::layer("word"));
    own.deploy_with(serve, "app", &image, &json!({ "instance_type": "lite" }), more);
}

/// Containers that are there, running or not, with those that hold a network.
fn made(docker: &Docker) -> usize {
    docker.must(&["ps", "-aq", "--filter", "label=dev.skep.owner"]).lines().count()
}

#[test]
fn workers_get_what_their_containers_send_out_and_nothing_else_gets_further() {
    let Some(machine) = machine::enter() else { return };
    // Without rules of Docker's own, what holds is ours.
    let Some(docker) = Docker::start_with(&["--iptables=false", "--ip-masq=false"]) else { return };
    let flag = node::flag(&docker.socket());
    let serve = serve_in(tempfile::tempdir().unwrap(), &[&flag]);
    deployed(&serve);
    let boxed = |name| Boxed { serve: &serve, site: "app.main.localhost".to_owned(), name };
    let [open, all, shut, late] = [boxed("open"), boxed("all"), boxed("shut"), boxed("late")];
    open.intercept(&["one.example", "*.two.example"]);
    all.intercept(&["*"]);
    shut.intercept(&["one.example"]);
    open.start(true);
    all.start(true);
    shut.start(false);
    late.start(false);
    late.intercept(&["one.example"]);
    // The image has no such folder.
    assert_eq!(
        late.ask("/intercept-tls", &[("host", "tls.example")]).text(),
        "intercepted",
        "{}",
        serve.output()
    );
    let certificate = late.run("cat /etc/cloudflare/certs/cloudflare-containers-ca.crt");
    assert!(certificate.starts_with("-----BEGIN CERTIFICATE-----"), "{certificate}");
    assert_eq!(made(&docker), 4 + 3, "three have a network that is held for them");

    // To the worker: by its name, whatever address it has, and where nothing goes out otherwise.
    for own in [&open, &all] {
        assert_eq!(own.fetch(ELSEWHERE, "one.example"), format!("{}: GET http://one.example/x", own.name));
        let private = own.fetch(NEIGHBOUR, "b.two.example");
        assert_eq!(private, format!("{}: GET http://b.two.example/x", own.name));
        let machine = own.fetch(PUBLIC, "b.two.example");
        assert_eq!(machine, format!("{}: GET http://b.two.example/x", own.name));
    }
    let before = machine.names.load(Ordering::SeqCst);
    for own in [&shut, &late] {
        let address = own.named("one.example");
        let said = own.fetch(&address, "one.example");
        assert_eq!(said, format!("{}: GET http://one.example/x", own.name), "{address}: {}", serve.output());
        assert_eq!(own.fetch(ELSEWHERE, "three.example"), "");
        own.run("timeout 3 nslookup leak.example.com >/dev/null 2>&1; true");
        own.run(&format!("printf '{QUESTION}' | timeout 3 nc 127.0.0.11 53 >/dev/null 2>&1; true"));
    }
    assert_eq!(machine.names.load(Ordering::SeqCst), before, "without the internet no name server is asked");

    // Past the worker: what is on the internet, and nothing of the machine, of others or around it.
    let (inside, outside) = (machine.inside.came(), machine.outside.came());
    let elsewhere = format!("{ELSEWHERE}:{}", machine.outside.port);
    for own in [&open, &all] {
        assert_eq!(own.fetch(&elsewhere, "three.example"), "here", "{}", serve.output());
    }
    for own in [&shut, &late] {
        assert_eq!(own.fetch(&elsewhere, "three.example"), "");
    }
    assert_eq!(machine.outside.came(), outside + 2);
    let gateway = open.run("ip route | grep default | cut -d ' ' -f 3");
    let api = serve.api.trim_start_matches("http://127.0.0.1:").split('/').next().unwrap();
    let (doors, out) = (machine.inside.port, machine.outside.port);
    let neighbours = [&all, &shut].map(|own| format!("{}:8080", own.address()));
    let mut targets: Vec<String> = [NEIGHBOUR, METADATA].map(|host| format!("{host}:{out}")).into();
    targets.extend([PUBLIC, PRIVATE, gateway.trim()].map(|host| format!("{host}:{doors}")));
    targets.extend([PUBLIC, gateway.trim()].map(|host| format!("{host}:{api}")));
    targets.extend(neighbours);
    for target in &targets {
        for host in ["three.example", "one.example"] {
            assert_eq!(open.fetch(target, host), "", "{target} {host}");
        }
        assert_eq!(late.fetch(target, "three.example"), "", "{target}");
    }
    for target in targets.iter().filter(|target| !target.ends_with(":8080")) {
        assert_eq!(all.fetch(target, "three.example"), "", "{target}");
    }
    assert_eq!(machine.inside.came(), inside, "nothing has come to the machine");
    assert_eq!(machine.outside.came(), outside + 2, "and nothing else elsewhere");

    // The engine listens on the loopback address alone, of the machine.
    let listening = |table: &str| -> Vec<String> {
        let lines = table.lines().filter(|line| line.split_whitespace().nth(3) == Some("0A"));
        lines.map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
    };
    let cells: Vec<String> = serve.cells().iter().flat_map(|cell| sockets(*cell)).collect();
    let table = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let own: String = table
        .lines()
        .filter(|line| {
            line.split_whitespace().nth(9).is_some_and(|inode| cells.iter().any(|own| own == inode))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let own = listening(&own);
    assert!(own.len() >= 4 && own.iter().all(|address| address.starts_with("0100007F:")), "{own:?}");

    // One whose engine has ended sends nothing past it, and goes on when the object says so again.
    let cell = *serve.cells().last().unwrap();
    let before = machine.outside.came();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(cell.try_into().unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    eventually("another process", || (open.ask("/state", &[]).status == 200).then_some(()));
    assert_eq!(open.fetch(ELSEWHERE, "one.example"), "");
    assert_eq!(open.fetch(&elsewhere, "three.example"), "");
    assert_eq!(machine.outside.came(), before);
    open.intercept(&["one.example"]);
    assert_eq!(open.fetch(ELSEWHERE, "one.example"), "open: GET http://one.example/x", "{}", serve.output());
    drop(serve);
    assert_eq!(made(&docker), 0);
}

/// The numbers of the sockets of a process.
fn sockets(pid: u32) -> Vec<String> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = files.filter_map(|file| std::fs::read_link(file.path()).ok()?.to_str().map(str::to_owned));
    links.filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix("]")?.to_owned())).collect()
}

#[test]
fn what_holds_a_network_goes_with_its_container() {
    let Some(_machine) = machine::enter() else { return };
    let Some(docker) = Docker::start_with(&[]) else { return };
    let flag = node::flag(&docker.socket());
    let serve = serve_in(tempfile::tempdir().unwrap(), &[&flag]);
    deployed(&serve);
    let boxed = |serve| Boxed { serve, site: "app.main.localhost".to_owned(), name: "one" };
    let begin = |serve| {
        let own = boxed(serve);
        own.intercept(&["one.example"]);
        own.start(false);
        assert_eq!(made(&docker), 2);
        assert_eq!(own.fetch(ELSEWHERE, "one.example"), "one: GET http://one.example/x");
        own
    };
    let images = || docker.must(&["images", "-q", "skep-hold-*"]).lines().count();
    let rules = || {
        let output = std::process::Command::new("iptables").args(["-t", "nat", "-S"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("SKEP-OUT")
    };
    let gone = |what: &str| eventually(what, || (made(&docker) == 0).then_some(()));

    // By itself, by its object, and with its script.
    begin(&serve).begin("kill -TERM 1");
    eventually("its end", || (made(&docker) <= 1).then_some(()));
    assert_eq!(begin(&serve).ask("/destroy", &[]).text(), "gone");
    gone("the end of one that was destroyed");
    begin(&serve);
    assert_eq!(serve.call("DELETE", "/workers/scripts/app", None).status, 200);
    gone("the end of one without a script");
    assert_eq!((images(), rules()), (1, false), "rules are in the container's network");

    // Of a node that was killed.
    deployed(&serve);
    begin(&serve);
    let dir = serve.stop("KILL");
    assert_eq!(made(&docker), 2);
    let serve = serve_in(dir, &[]);
    assert_eq!((made(&docker), images(), rules()), (0, 0, false));
    drop(serve);
}

#[test]
fn a_cell_that_gets_what_its_container_sends_out_stays() {
    let Some(_machine) = machine::enter() else { return };
    let Some(docker) = Docker::start_with(&[]) else { return };
    let flag = node::flag(&docker.socket());
    let flags = [flag.as_str(), "--idle-timeout", "2s", "--object-timeout", "4s", "--waiting-cells", "0"];
    let serve = serve_in(tempfile::tempdir().unwrap(), &flags);
    deployed_with(&serve, &json!({ "limits": { "cpu_ms": 1000 } }));
    let own = Boxed { serve: &serve, site: "app.main.localhost".to_owned(), name: "one" };
    own.intercept(&["one.example"]);
    own.start(false);
    let [cell] = serve.cells()[..] else { panic!("not one process: {:?}", serve.cells()) };
    let used = || {
        let stat = std::fs::read_to_string(format!("/proc/{cell}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        fields.get(11).and_then(|ticks| ticks.parse::<u64>().ok())
    };
    // Nobody asks for anything, and the handler works: more than an object may by itself, in time and in CPU time.
    let before = used().unwrap();
    let request = "GET /work HTTP/1.1\\r\\nHost: one.example\\r\\nConnection: close\\r\\n\\r\\n";
    own.run(&format!(
        "(while [ ! -e /tmp/stop ]; do printf '{request}' | timeout 10 nc -w 10 {ELSEWHERE} 80; done) >/dev/null 2>&1 &"
    ));
    std::thread::sleep(std::time::Duration::from_secs(8));
    eventually("two seconds of CPU time", || used().is_none_or(|now| now >= before + 200).then_some(()));
    assert_eq!(serve.cells(), [cell], "{}", serve.output());
    own.run("touch /tmp/stop");
    // Nor does it rest while there may be more.
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert_eq!(serve.cells(), [cell], "{}", serve.output());
    assert_eq!(own.fetch(ELSEWHERE, "one.example"), "one: GET http://one.example/x", "{}", serve.output());
    assert_eq!(own.ask("/destroy", &[]).text(), "gone");
    eventually("the end of the idle process", || serve.cells().is_empty().then_some(()));
    drop(serve);
}
