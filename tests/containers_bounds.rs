//! What containers of a node can reach and take, tried from inside.

pub mod machine;
pub mod node;

use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::harness::serve::serve_in;
use crate::harness::{accounts, eventually};
use crate::image_registry::docker::Docker;
use machine::{ELSEWHERE, METADATA, NEIGHBOUR, NEIGHBOUR_SIX, PRIVATE, PUBLIC, SIX};
use node::{Account, Boxed};

fn opens(host: &str, port: u16) -> bool {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let address = format!("{host}:{port}").parse().unwrap();
    TcpStream::connect_timeout(&address, Duration::from_secs(10)).is_ok()
}

#[test]
fn containers_reach_the_internet_and_nothing_else() {
    let Some(machine) = machine::enter() else { return };
    // Without rules of Docker's own, what holds is ours.
    let Some(docker) = Docker::start_with(&["--iptables=false", "--ip-masq=false"]) else { return };
    let flag = node::flag(&docker.socket());
    let first = serve_in(tempfile::tempdir().unwrap(), &[&flag]);
    let own = Account { id: first.account.clone(), token: first.token.clone() };
    let dir = first.stop("TERM");
    let (id, token) = accounts::add(&node::registry(dir.path()));
    let other = Account { id, token };
    let serve = serve_in(dir, &[&flag]);
    let layer = node::layer("word");
    let size = json!({ "instance_type": "basic" });
    for (account, scripts) in [(&own, &["one", "two"][..]), (&other, &["three"][..])] {
        let image = account.push(&serve, "box:1", &layer);
        scripts.iter().for_each(|script| account.deploy(&serve, script, &image, &size));
    }
    let boxed = |script: &str, name: &'static str| {
        let account = if script == "three" { "other" } else { "main" };
        Boxed { serve: &serve, site: format!("{script}.{account}.localhost"), name }
    };
    let open = [boxed("one", "a"), boxed("one", "b"), boxed("two", "a"), boxed("three", "a")];
    let closed = [boxed("one", "shut"), boxed("two", "shut"), boxed("three", "shut")];
    open.iter().for_each(|own| own.start(true));
    closed.iter().for_each(|own| own.start(false));
    let all: Vec<&Boxed<'_>> = open.iter().chain(&closed).collect();
    let addresses: Vec<String> = all.iter().map(|own| own.address()).collect();

    // What is to be out of reach is there: this machine reaches it.
    for address in &addresses {
        assert!(opens(address, 8080), "{address}");
    }
    for host in [ELSEWHERE, NEIGHBOUR, NEIGHBOUR_SIX] {
        assert!(opens(host, machine.outside.port), "{host}");
    }
    for host in [PUBLIC, PRIVATE, SIX] {
        assert!(opens(host, machine.inside.port), "{host}");
    }
    let gateways = docker.must(&[
        "network",
        "inspect",
        "--format",
        "{{range .IPAM.Config}}{{.Gateway}} {{end}}",
        docker.must(&["network", "ls", "-q", "--filter", "label=dev.skep.owner"]).lines().next().unwrap(),
    ]);
    let port_of = |url: &str| {
        url.trim_start_matches("http://127.0.0.1:").split('/').next().unwrap().parse::<u16>().unwrap()
    };
    let (before_inside, before_outside) = (machine.inside.came(), machine.outside.came());
    let mut targets: Vec<(String, u16)> = addresses.iter().map(|own| (own.clone(), 8080)).collect();
    for gateway in
        gateways.split_whitespace().map(str::to_owned).chain([PUBLIC, PRIVATE, SIX].map(str::to_owned))
    {
        targets.push((gateway.clone(), machine.inside.port));
        targets.push((gateway.clone(), port_of(&serve.api)));
        targets.push((gateway, 2375));
    }
    for host in [NEIGHBOUR, METADATA, NEIGHBOUR_SIX] {
        targets.push((host.to_owned(), machine.outside.port));
        targets.push((host.to_owned(), 80));
    }
    targets.push((ELSEWHERE.to_owned(), machine.outside.port));
    let elsewhere = format!("{ELSEWHERE}:{}", machine.outside.port);
    for (at, own) in all.iter().enumerate() {
        let mut expected = vec![format!("{}:8080", addresses[at])];
        if at < open.len() {
            expected.push(elsewhere.clone());
        }
        expected.sort();
        assert_eq!(own.reached(&targets), expected, "from {} of {}", own.name, own.site);
        // Names of the machine's own servers are another matter.
        for server in [PRIVATE, NEIGHBOUR, METADATA] {
            own.run(&format!("timeout 2 nslookup example.com {server} >/dev/null 2>&1; true"));
        }
    }
    assert_eq!(machine.inside.came(), before_inside, "nothing has come to the machine");
    assert_eq!(machine.outside.came(), before_outside + open.len(), "and nothing else elsewhere");

    // With a way out, names are asked for by Docker; without, nobody is asked. (Nothing answers here.)
    for (at, own) in all.iter().enumerate() {
        let before = machine.names.load(Ordering::SeqCst);
        own.run(&format!("timeout 5 nslookup leak{at}.example.com >/dev/null 2>&1; true"));
        let asked = machine.names.load(Ordering::SeqCst) - before;
        assert_eq!(asked > 0, at < open.len(), "{asked} asked for {} of {}", own.name, own.site);
    }
    for own in &all {
        // Sockets of Docker and of cells are files of the machine, or names in its own network.
        assert_eq!(own.run("find / -xdev -type s 2>/dev/null"), "");
        assert_eq!(own.run("grep -c : /proc/net/unix || true").trim(), "0");
        let six = own.run("cat /proc/net/if_inet6 2>/dev/null | grep -v ' lo$' || true");
        assert_eq!(six, "", "an address of IPv6");
        assert_eq!(
            own.run("echo 0 2>/dev/null >/proc/sys/net/ipv6/conf/eth0/disable_ipv6 && echo on || echo off")
                .trim(),
            "off"
        );
    }
    let rules =
        std::process::Command::new("ip6tables").args(["-t", "mangle", "-S", "PREROUTING"]).output().unwrap();
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    let bridges = docker.must(&["network", "ls", "-q", "--filter", "label=dev.skep.owner"]).lines().count();
    assert_eq!(bridges, 4, "one with a way out and one without, for each account");
    assert!(rules.matches("-j DROP").count() >= bridges, "{rules}");
    drop(serve);
}

#[test]
fn a_container_takes_no_more_than_it_may() {
    let Some(_machine) = machine::enter() else { return };
    let Some(docker) = Docker::start_with(&[]) else { return };
    let serve = serve_in(tempfile::tempdir().unwrap(), &[&node::flag(&docker.socket())]);
    let account = Account { id: serve.account.clone(), token: serve.token.clone() };
    let image = account.push(&serve, "box:1", &node::layer("word"));
    let size = json!({ "vcpu": 0.25, "memory_mib": 128, "disk": { "size_mb": 64 } });
    account.deploy(&serve, "bombs", &image, &size);
    let boxed = |name| Boxed { serve: &serve, site: "bombs.main.localhost".to_owned(), name };
    let (good, bad) = (boxed("good"), boxed("bad"));
    good.start(false);
    bad.start(false);
    let fine = || assert_eq!(good.run("echo fine").trim(), "fine", "{}", serve.output());
    let inspect = |form: &str| {
        // The one that was made last.
        let id = docker.must(&["ps", "-lq", "--no-trunc"]);
        docker.must(&["inspect", "--format", form, id.trim()]).trim().to_owned()
    };

    // Memory: what takes too much is ended, and nothing else.
    assert_eq!(bad.run("head -c 500000000 /dev/zero | tail >/dev/null; echo $?").trim(), "137");
    assert_eq!(bad.ask("/state", &[]).json()["running"], true);
    fine();

    // Processors: a quarter of one, however many want it.
    let spun = bad.run("for n in 1 2 3 4; do timeout 4 sh -c 'while :; do :; done' & done; wait; times");
    let seconds = |text: &str| text.split(['m', 's']).nth(1).unwrap().parse::<f64>().unwrap();
    let own: Vec<f64> = spun.lines().last().unwrap().split_whitespace().map(seconds).collect();
    assert!(own.iter().sum::<f64>() < 2.5, "{spun}");
    fine();

    // What it says: two files of ten megabytes.
    bad.run("timeout 5 yes 'a flood of words that nobody reads' >/proc/1/fd/1; true");
    let log = inspect("{{.LogPath}}");
    let kept: u64 = std::fs::read_dir(std::path::Path::new(&log).parent().unwrap())
        .unwrap()
        .flatten()
        .filter(|file| file.path().display().to_string().starts_with(&log))
        .map(|file| file.metadata().unwrap().len())
        .sum();
    assert!(kept > 0 && kept < 24 << 20, "{kept} bytes of what it said");
    fine();

    // Processes: as many as it may have, and the others have theirs.
    let most: usize = inspect("{{.HostConfig.PidsLimit}}").parse().unwrap();
    let machine: usize = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse().unwrap();
    assert!(most <= 4096 && most * 16 <= machine.max(16 * 4096), "{most} of {machine}");
    bad.begin("(bomb() { bomb | bomb & }; bomb) >/dev/null 2>&1 & sleep 1");
    let id = inspect("{{.Id}}");
    let processes = eventually("a bomb", || {
        let listed = docker.must(&["stats", "--no-stream", "--format", "{{.PIDs}}", &id]);
        listed.trim().parse::<usize>().ok().filter(|processes| *processes > 100)
    });
    fine();
    assert!(processes <= most, "{processes} of {most}");
    assert_eq!(bad.ask("/destroy", &[]).text(), "gone");
    fine();

    // Disk: one that writes more is ended.
    bad.start(false);
    let sized = inspect("{{json .HostConfig.StorageOpt}}").contains("size");
    let wrote =
        bad.ask("/exec", &[("run", "dd if=/dev/zero of=/tmp/fill bs=1M count=200 2>/dev/null; echo $?")]);
    if sized {
        assert_eq!(wrote.text().trim(), "1", "the storage keeps it to its size");
    } else {
        let state = eventually("the end of what fills the disk", || {
            Some(bad.ask("/state", &[]).json())
                .filter(|state| state["running"] == false && state["ended"] != "")
        });
        assert!(state["ended"].as_str().unwrap().contains("exit code: 137"), "{state}");
        let reason = "has written more than the 64 MB of its disk";
        eventually("the reason in the log", || serve.output().contains(reason).then_some(()));
    }
    fine();
    // What is large and empty takes no room.
    bad.ask("/destroy", &[]);
    bad.start(false);
    bad.run("truncate -s 100G /tmp/sparse; dd if=/dev/zero of=/tmp/some bs=1M count=30 2>/dev/null");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(bad.ask("/state", &[]).json()["running"], true, "{}", serve.output());
    drop(serve);
}
