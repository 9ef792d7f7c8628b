//! What containers of a node may reach: the public internet, and nothing of the machine or of the networks around it.
//!
//! A container sends through a bridge of the machine, where Docker's own rules let it reach the machine's ports and whatever
//! the machine reaches. Ours come before them, in the first table that every packet passes after the kernel has found out
//! whether it is an answer: nothing that Docker does later goes before them.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Command, Stdio};

use skep_containers::Way;

/// Networks that are not the public internet: <https://www.iana.org/assignments/iana-ipv4-special-registry>.
const NOT_PUBLIC: [&str; 14] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
];

/// What all bridges of all nodes on a machine are called, as `iptables` has it.
const BRIDGES: &str = "sk+";
/// Connections that a container may have to elsewhere: each takes room in a table of the kernel that the whole machine shares.
const MOST_CONNECTIONS: u32 = 4096;
/// Whether the kernel has what goes from one container to the next through the firewall, though it is not routed.
const BRIDGED: [&str; 2] =
    ["/proc/sys/net/bridge/bridge-nf-call-iptables", "/proc/sys/net/bridge/bridge-nf-call-ip6tables"];

/// The rules of a chain for what comes from a bridge. `servers` are the name servers that the machine asks; `open`: it leads
/// to the internet. Pure.
fn rules(servers: &[String], open: bool) -> Vec<Vec<String>> {
    let rule = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
    // Answers to what the machine itself asks of a container.
    let mut rules = vec![rule("-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN")];
    if !open {
        rules.push(rule("-j DROP"));
        return rules;
    }
    for server in servers {
        for protocol in ["udp", "tcp"] {
            rules.push(rule(&format!("-d {server} -p {protocol} --dport 53 -j RETURN")));
        }
    }
    rules.push(rule(&format!(
        "-m connlimit --connlimit-above {MOST_CONNECTIONS} --connlimit-saddr --connlimit-mask 32 -j DROP"
    )));
    // All addresses of this machine, the public ones among them.
    rules.push(rule("-m addrtype --dst-type LOCAL -j DROP"));
    rules.push(rule("-m addrtype --dst-type BROADCAST -j DROP"));
    rules.push(rule("-m addrtype --dst-type MULTICAST -j DROP"));
    rules.extend(NOT_PUBLIC.iter().map(|network| rule(&format!("-d {network} -j DROP"))));
    rules
}

/// The name servers of the machine that containers may ask, too. One on the machine itself is asked by Docker for them.
fn servers(resolv: &str) -> Vec<String> {
    let named = resolv.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = named.filter_map(|rest| rest.trim().parse::<Ipv4Addr>().ok());
    addresses.filter(|address| !address.is_loopback()).map(|address| address.to_string()).collect()
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).arg("-w").args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("cannot run {program}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            Err(format!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
        }
    }
}

/// Where a rule goes, and which it is.
type Rule<'a> = (&'static str, &'static str, Vec<&'a str>);

/// What a bridge needs beside its chain: the way into it, no way to other containers whatever addresses Docker gives them, and no
/// IPv6, which its network has none of. Pure.
fn around<'a>(bridge: &'a str, chain: &'a str) -> [Rule<'a>; 4] {
    [
        ("iptables", "PREROUTING", vec!["-i", bridge, "-j", chain]),
        ("iptables", "FORWARD", vec!["-i", bridge, "-o", BRIDGES, "-j", "DROP"]),
        ("ip6tables", "PREROUTING", vec!["-i", bridge, "-j", "DROP"]),
        ("ip6tables", "FORWARD", vec!["-i", bridge, "-j", "DROP"]),
    ]
}

fn has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").exists()
}

/// Has the kernel show the firewall what goes from one container to the next on a bridge. Docker does so only if its own rules are on.
fn filter_bridged() -> Result<(), String> {
    let filters = |path: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1");
    let wanted = &BRIDGED[..if has_ipv6() { 2 } else { 1 }];
    if wanted.iter().all(|path| filters(path)) {
        return Ok(());
    }
    let _ = Command::new("modprobe").arg("br_netfilter").stdin(Stdio::null()).stderr(Stdio::null()).status();
    for path in wanted.iter().filter(|path| !filters(path)) {
        std::fs::write(path, "1").map_err(|e| {
            format!(
                "{path}: {e}: the kernel module br_netfilter keeps containers of an account from each other"
            )
        })?;
    }
    Ok(())
}

/// Bounds what comes from `bridge`, which need not be there yet. Blocking.
pub fn bound(bridge: &str, open: bool) -> Result<(), String> {
    filter_bridged()?;
    let resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let chain = format!("SKEP-{bridge}");
    let mangle = |args: &[&str]| run("iptables", &[&["-t", "mangle"], args].concat());
    // One that an earlier start has made is filled anew.
    let _ = mangle(&["-N", &chain]);
    mangle(&["-F", &chain])?;
    for rule in rules(&servers(&resolv), open) {
        let mut args = vec!["-A", chain.as_str()];
        args.extend(rule.iter().map(String::as_str));
        mangle(&args)?;
    }
    for (program, at, rule) in around(bridge, &chain) {
        if program == "ip6tables" && !has_ipv6() {
            continue;
        }
        let with = |action| [&["-t", "mangle", action, at], &rule[..]].concat();
        if run(program, &with("-C")).is_err() {
            run(program, &with("-I"))?;
        }
    }
    Ok(())
}

/// What becomes of a connection that a container's worker could have taken, and has not: the same as by the rules.
pub fn way(to: SocketAddrV4) -> Way {
    let resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    // Where addresses that are not the machine's can be had as well, none is passed on.
    let is_own = std::net::UdpSocket::bind((*to.ip(), 0)).is_ok();
    way_to(to, &servers(&resolv), is_own)
}

/// The same, where the name servers and whether the address is the machine's are known. Pure.
fn way_to(to: SocketAddrV4, servers: &[String], is_own: bool) -> Way {
    if to.port() == 53 && servers.contains(&to.ip().to_string()) {
        return Way::Open;
    }
    if is_own {
        return Way::Own;
    }
    match NOT_PUBLIC.iter().any(|network| is_in(*to.ip(), network)) {
        true => Way::Closed,
        false => Way::Open,
    }
}

/// Whether an address is in one of our networks.
fn is_in(address: Ipv4Addr, network: &str) -> bool {
    let parts = network.split_once('/').and_then(|(start, bits)| {
        let start: Ipv4Addr = start.parse().ok()?;
        Some((start, bits.parse::<u32>().ok().filter(|bits| (1..=32).contains(bits))?))
    });
    // Closed, if the table above were wrong.
    parts.is_none_or(|(start, bits)| (address.to_bits() ^ start.to_bits()) >> (32 - bits) == 0)
}

/// Takes the rules for a bridge away again, if there are any: with it gone, they bound nothing. Blocking.
pub fn lift(bridge: &str) {
    let chain = format!("SKEP-{bridge}");
    let mut lifted = Ok(());
    for (program, at, rule) in around(bridge, &chain) {
        let with = |action| [&["-t", "mangle", action, at], &rule[..]].concat();
        if run(program, &with("-C")).is_ok() {
            lifted = lifted.and(run(program, &with("-D")));
        }
    }
    let chained = |action| run("iptables", &["-t", "mangle", action, &chain]);
    if chained("-S").is_ok() {
        lifted = lifted.and(chained("-F")).and_then(|()| chained("-X"));
    }
    if let Err(error) = lifted {
        tracing::warn!(bridge, error, "rules of the firewall stay");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_and_private_networks_are_out_of_reach() {
        let text = |rules: Vec<Vec<String>>| rules.iter().map(|rule| rule.join(" ")).collect::<Vec<_>>();
        let open = text(rules(&["10.0.0.2".to_owned()], true));
        let at =
            |part: &str| open.iter().position(|rule| rule.contains(part)).unwrap_or_else(|| panic!("{part}"));
        assert_eq!(at("ESTABLISHED"), 0);
        assert!(at("-d 10.0.0.2 -p udp --dport 53 -j RETURN") < at("-d 10.0.0.0/8 -j DROP"));
        for network in
            ["LOCAL", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"]
        {
            assert!(open[at(network)].ends_with("-j DROP"), "{network}");
        }
        assert!(at("connlimit") < at("LOCAL"));
        let closed = text(rules(&["10.0.0.2".to_owned()], false));
        assert_eq!(closed, ["-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN", "-j DROP"]);
    }

    #[test]
    fn what_is_passed_on_is_what_the_rules_let_through() {
        let to = |text: &str| text.parse().unwrap();
        let servers = ["10.1.1.1".to_owned()];
        let ways = |text: &str| way_to(to(text), &servers, false);
        for open in [
            "9.9.9.9:80",
            "11.0.0.1:80",
            "172.15.255.255:1",
            "172.32.0.0:1",
            "10.1.1.1:53",
            "223.255.255.255:9",
        ] {
            assert_eq!(ways(open), Way::Open, "{open}");
        }
        for closed in [
            "10.1.1.1:80",
            "10.1.1.2:53",
            "127.0.0.1:80",
            "169.254.169.254:80",
            "172.16.0.0:1",
            "172.31.255.255:1",
            "192.168.3.4:443",
            "100.127.255.255:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
            "0.0.0.0:80",
        ] {
            assert_eq!(ways(closed), Way::Closed, "{closed}");
        }
        assert_eq!(way_to(to("9.9.9.9:80"), &servers, true), Way::Own);
        assert_eq!(way(to("127.0.0.1:80")), Way::Own);
        assert_eq!(way(to("192.0.2.1:80")), Way::Closed);
    }

    #[test]
    fn name_servers_are_those_of_the_machine_that_are_elsewhere() {
        let resolv = "# nameserver 9.9.9.9\nnameserver 127.0.0.53\nnameserver\t10.1.1.1\nnameserver ::1\nsearch x\nnameserver 8.8.8.8 \n";
        assert_eq!(servers(resolv), ["10.1.1.1", "8.8.8.8"]);
        assert!(servers("nameserver -j ACCEPT").is_empty());
    }
}
