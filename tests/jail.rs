//! What holds a cell: shown on a shell in the same jail, and on a cell of a running node.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::serve::{Serve, serve_in};

const HELLO: &str = "export default { fetch() { return new Response('hello') } }";

/// What a shell says that was started in a jail of these layers. It has no commands but its own.
fn in_jail(layers: &[&str], folder: &Path, more: &[&Path], script: &str) -> String {
    in_jail_that_may(false, layers, folder, more, script)
}

/// The same in one that may `listen` on a port.
fn in_jail_that_may(listen: bool, layers: &[&str], folder: &Path, more: &[&Path], script: &str) -> String {
    let libraries = Command::new("/bin/sh").env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    let path = |line: &str| Some(line.split_whitespace().find(|word| word.starts_with('/'))?.to_owned());
    let mut read: Vec<String> = libraries.lines().filter_map(path).collect();
    read.push("/bin/sh".into());
    read.extend(more.iter().map(|path| path.display().to_string()));
    let jail = json!({
        "layers": layers, "program": "/bin/sh", "read": read, "list": [], "write": [folder],
        "network": false, "listen": listen,
    });
    let output = Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(["__cell", &std::process::id().to_string(), &jail.to_string(), "/bin/sh", "-c", script])
        .env_clear()
        .output()
        .unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Skips what this machine does not have, as the node itself would say.
fn has(layer: &str) -> bool {
    let probed =
        Command::new(env!("CARGO_BIN_EXE_skep")).args(["__cell", "probe", "with-users"]).output().unwrap();
    let layers: Value = serde_json::from_slice(&probed.stdout).unwrap();
    let has = layers.as_array().is_some_and(|layers| layers.iter().any(|has| has == layer));
    if !has {
        eprintln!("this machine has no {layer}: not tested");
    }
    has
}

/// Reads outside, writes outside, writes inside.
const FILES: &str = r#"
    read secret < "$OUTSIDE/secret" && echo "read $secret"
    echo x > "$OUTSIDE/written" && echo "wrote outside"
    echo x > "$INSIDE/written" && echo "wrote inside"
    for file in /etc/* /proc/[0-9]*; do [ -e "$file" ] && echo "sees $file"; done
    exit 0
"#;

fn files_in_jail(layers: &[&str]) -> String {
    let outside = tempfile::tempdir().unwrap();
    let inside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "of another\n").unwrap();
    let script = FILES
        .replace("$OUTSIDE", outside.path().to_str().unwrap())
        .replace("$INSIDE", inside.path().to_str().unwrap());
    let said = in_jail(layers, inside.path(), &[], &script);
    assert!(said.contains("wrote inside"), "{said}");
    assert_eq!(outside.path().join("written").exists(), said.contains("wrote outside"));
    said
}

#[test]
fn without_layers_everything_is_open() {
    let said = files_in_jail(&[]);
    assert!(said.contains("read of another") && said.contains("wrote outside"), "{said}");
}

#[test]
fn a_file_does_not_grow_beyond_what_an_object_may_hold() {
    let inside = tempfile::tempdir().unwrap();
    let file = inside.path().join("object.sqlite");
    // It takes no room: nothing was written.
    std::fs::File::create(&file).unwrap().set_len(9_999_999_999).unwrap();
    let more = format!("echo more >> {} && echo wrote; echo goes on", file.display());
    let said = in_jail(&["privileges"], inside.path(), &[], &more);
    assert!(!said.contains("wrote") && said.contains("goes on"), "{said}");
    assert!(std::fs::metadata(&file).unwrap().len() <= 10_000_000_000);
}

#[test]
fn landlock_alone_keeps_other_files_shut() {
    if has("landlock") {
        let said = files_in_jail(&["privileges", "landlock"]);
        assert!(!said.contains("read of another") && !said.contains("wrote outside"), "{said}");
    }
}

#[test]
fn a_mount_namespace_alone_hides_other_files() {
    if has("mount-namespace") {
        let said = files_in_jail(&["privileges", "user-namespace", "mount-namespace"]);
        assert!(!said.contains("read of another") && !said.contains("wrote outside"), "{said}");
        assert!(!said.contains("sees"), "{said}");
    }
}

#[test]
fn a_file_may_be_given_beside_its_folder() {
    if has("mount-namespace") && has("landlock") {
        let (given, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = given.path().join("a");
        std::fs::write(&file, "text\n").unwrap();
        let script = format!("read text < {0} && echo got $text; echo x > {0} && echo wrote", file.display());
        let layers = ["privileges", "user-namespace", "mount-namespace", "landlock", "seccomp"];
        let said = in_jail(&layers, folder.path(), &[given.path(), &file], &script);
        assert!(said.contains("got text") && !said.contains("wrote"), "{said}");
    }
}

#[test]
fn the_filter_lets_no_process_start_and_no_signal_out() {
    if has("seccomp") {
        let folder = tempfile::tempdir().unwrap();
        let said =
            in_jail(&["privileges", "seccomp"], folder.path(), &[], "echo begins; (echo forked); echo x");
        assert!(said.contains("begins") && !said.contains("forked"), "{said}");
        let script = format!("kill -0 {} && echo signalled; kill -0 $$ && echo itself", std::process::id());
        let said = in_jail(&["privileges", "seccomp"], folder.path(), &[], &script);
        assert!(said.contains("itself") && !said.contains("signalled"), "{said}");
    }
}

#[test]
fn a_port_may_be_listened_on_only_if_the_kernel_chooses_it() {
    let busybox = Path::new("/bin/busybox");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let version: Vec<u32> =
        release.split(['.', '-']).take(2).map_while(|part| part.trim().parse().ok()).collect();
    if !has("landlock") || !busybox.exists() || version < vec![6, 7] {
        eprintln!("skipped: it takes Landlock of Linux 6.7 and /bin/busybox; this is {release}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = |may: bool, port: &str| {
        let script = format!("/bin/busybox timeout 1 /bin/busybox nc -l {port}; echo \"ended by $?\"");
        in_jail_that_may(may, &["landlock"], folder.path(), &[busybox], &script)
    };
    let (chosen, said) = (listen(true, ""), listen(true, &format!("-p {port}")));
    assert!(chosen.contains("ended by 143"), "it listens until its time is over: {chosen}");
    assert!(said.contains("ermission denied"), "{said}");
    assert!(listen(false, "").contains("ermission denied"));
}

#[test]
fn a_jailed_process_ends_with_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let jail = json!({
        "layers": [], "program": "/bin/sh", "read": [], "list": [], "write": [folder.path()],
        "network": false, "listen": false,
    });
    let output = Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(["__cell", "1", &jail.to_string(), "/bin/sh", "-c", "echo ran"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("the parent is gone"));
    assert!(output.stdout.is_empty());
}

fn node() -> Serve {
    let serve = serve_in(tempfile::tempdir().unwrap(), &[]);
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    assert_eq!(serve.upload("hello", &metadata, HELLO).status, 200);
    assert_eq!(serve.get("hello.main.localhost", "/").text(), "hello");
    serve
}

#[test]
fn a_cell_has_no_rights_and_sees_only_its_own_files() {
    let serve = node();
    let cell = *serve.cells().last().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{cell}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    if serve.output().contains("held by less") {
        eprintln!("this machine lacks layers: {}", serve.output());
        return;
    }
    assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1".into(), "2".into()));
    // The list of system calls, and the one that hands `connect` to Skep.
    assert_eq!(field("Seccomp_filters"), "2");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    for namespace in ["user", "mnt", "ipc", "uts"] {
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(of(&cell.to_string()), of("self"), "{namespace}");
    }
    // Root can have it the first process of a namespace of its own; it is nobody else's then that it could name.
    if rustix::process::getuid().is_root() {
        assert_eq!(field("NSpid").split_whitespace().last(), Some("1"));
    }
    let root = format!("/proc/{cell}/root");
    let data = serve.dir.path().join("data");
    for hidden in [data.to_str().unwrap(), "/etc/passwd", "/var", "/home", "/sys", "/proc/1", "/bin/sh"] {
        assert!(!Path::new(&format!("{root}{hidden}")).exists(), "{hidden}");
    }
    let limits = std::fs::read_to_string(format!("/proc/{cell}/limits")).unwrap();
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(cores.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"]);
}
