//! What a script can connect to: the internet, and nothing of this machine or its networks.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::harness::scene::{door, scene, scene_on};
use crate::harness::serve::serve_by;

const OUTSIDE: &str = r#"
import { connect } from "cloudflare:sockets";
export default {
  async fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    const to = searchParams.get("to");
    try {
      if (pathname === "/fetch") {
        const response = await fetch(to);
        return new Response(`reached: ${response.status} ${await response.text()}`);
      }
      if (pathname === "/connect") {
        const socket = connect(to.startsWith("{") ? JSON.parse(to) : to);
        const writer = socket.writable.getWriter();
        await writer.write(new TextEncoder().encode("GET / HTTP/1.0\r\n\r\n"));
        const { value } = await socket.readable.getReader().read();
        return new Response(`reached: ${new TextDecoder().decode(value)}`);
      }
    } catch (error) {
      return new Response(`refused: ${error.message}`);
    }
    return new Response("fine");
  },
};
"#;

#[test]
fn private_addresses_cannot_be_reached_in_any_spelling() {
    let scene = scene(&json!({}), OUTSIDE, &[]);
    let (port, came) = door(TcpListener::bind("0.0.0.0:0").unwrap(), "HTTP/1.0 200 OK\r\n\r\ninside".into());
    let six =
        TcpListener::bind("[::1]:0").ok().map(|listener| door(listener, "HTTP/1.0 200 OK\r\n\r\n6".into()));
    let api = scene.serve.api.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    let mut targets: Vec<String> = [
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "127.0.0.1.",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::]",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "[fd00::1]",
        "[fe80::1]",
    ]
    .iter()
    .map(|host| format!("{host}:{port}"))
    .collect();
    targets.extend(six.iter().map(|(port, _)| format!("[::1]:{port}")));
    targets.extend(own_address().map(|address| format!("{address}:{port}")));
    targets.push(api);
    scene.meanwhile(|| {
        for target in &targets {
            for path in [format!("/fetch?to=http://{target}/"), format!("/connect?to={target}")] {
                let (status, text) = scene.bad(&path.replace("[", "%5B").replace("]", "%5D"));
                assert!(status == 200 && text.starts_with("refused: "), "{path}: {status} {text}");
            }
        }
    });
    assert_eq!(came.load(Ordering::SeqCst), 0);
    assert_eq!(six.map_or(0, |(_, came)| came.load(Ordering::SeqCst)), 0);
}

/// The machine's own address in a private network, if it has one. Nothing is sent.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    let private = match address {
        std::net::IpAddr::V4(address) => address.is_private() && !address.is_loopback(),
        std::net::IpAddr::V6(_) => false,
    };
    private.then_some(address)
}

#[test]
fn a_redirect_leads_no_further_than_a_request() {
    let Some(address) = own_address() else {
        eprintln!("this machine has no private address beside loopback: not tested");
        return;
    };
    let scene = scene(&json!({}), OUTSIDE, &["--egress-allow", &format!("{address}/32")]);
    let (inside, came) =
        door(TcpListener::bind("127.0.0.1:0").unwrap(), "HTTP/1.0 200 OK\r\n\r\ninside".into());
    let redirect =
        format!("HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:{inside}/\r\nContent-Length: 0\r\n\r\n");
    let (outside, redirected) = door(TcpListener::bind((address, 0)).unwrap(), redirect);
    let (_, text) = scene.bad(&format!("/fetch?to=http://{address}:{outside}/"));
    assert!(text.starts_with("refused: "), "{text}");
    assert_eq!((redirected.load(Ordering::SeqCst), came.load(Ordering::SeqCst)), (1, 0));
}

#[test]
fn sockets_of_other_cells_cannot_be_reached() {
    let scene = scene(&json!({}), OUTSIDE, &[]);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sock:80");
    let listener = UnixListener::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let path = dir.path().join("sock").display().to_string();
    for to in [
        format!("/fetch?to=unix:{path}"),
        format!("/fetch?to=http://unix:{path}/"),
        format!("/connect?to=unix:{path}:80"),
        format!("/connect?to=%7B%22hostname%22:%22unix:{path}%22,%22port%22:80%7D"),
    ] {
        let (status, text) = scene.bad(&to);
        assert!(status == 200 && text.starts_with("refused: "), "{to}: {status} {text}");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// Answers questions for addresses by the first label of the name: a name server.
fn names(socket: UdpSocket) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            count.fetch_add(1, Ordering::SeqCst);
            let text = String::from_utf8_lossy(&question[12..length]).into_owned();
            let end = 12 + question[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
            let six = question[end - 3] == 28;
            let loopback6 = [&[0; 15][..], &[1]].concat();
            let mapped = [&[0; 10][..], &[255, 255, 127, 0, 0, 1]].concat();
            let addresses: Vec<Vec<u8>> = match six {
                true if text.contains("six") => vec![loopback6],
                true if text.contains("mapped") => vec![mapped],
                false if text.contains("loop") => vec![vec![127, 0, 0, 1]],
                false if text.contains("any") => vec![vec![0, 0, 0, 0]],
                false if text.contains("meta") => vec![vec![169, 254, 169, 254]],
                false if text.contains("home") => vec![vec![192, 168, 0, 1], vec![10, 0, 0, 1]],
                // Nobody is there, and then somebody inside.
                false if text.contains("both") => vec![vec![192, 0, 2, 1], vec![127, 0, 0, 1]],
                _ => vec![],
            };
            let mut answer = question[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
            for address in addresses {
                answer.extend([
                    0xc0,
                    12,
                    0,
                    if six { 28 } else { 1 },
                    0,
                    1,
                    0,
                    0,
                    0,
                    0,
                    0,
                    address.len() as u8,
                ]);
                answer.extend(address);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    asked
}

#[test]
fn names_that_resolve_to_private_addresses_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("resolv.conf");
    std::fs::write(&settings, "nameserver 127.7.7.7\noptions timeout:1 attempts:1\n").unwrap();
    // A view of the file system in which that is the machine's resolver.
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""])
        .arg(&settings);
    let try_out = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf"])
        .arg(&settings)
        .status();
    let (Ok(server), Ok(true)) = (UdpSocket::bind("127.7.7.7:53"), try_out.map(|status| status.success()))
    else {
        eprintln!("no name server can be put in the place of this machine's: not tested");
        return;
    };
    let asked = names(server);
    command.arg(env!("CARGO_BIN_EXE_skep"));
    let scene = scene_on(serve_by(command, dir, &[]), &json!({}), OUTSIDE);
    let inside = "HTTP/1.0 200 OK\r\n\r\ninside";
    let (port, came) = door(TcpListener::bind("0.0.0.0:0").unwrap(), inside.into());
    let six = TcpListener::bind(("::1", port)).ok().map(|listener| door(listener, inside.into()));
    scene.meanwhile(|| {
        for name in ["loop", "any", "meta", "home", "six", "mapped", "both"] {
            for path in [
                format!("/fetch?to=http://{name}.example:{port}/"),
                format!("/connect?to={name}.example:{port}"),
            ] {
                let before = asked.load(Ordering::SeqCst);
                let (status, text) = scene.bad(&path);
                assert!(status == 200 && text.starts_with("refused: "), "{path}: {status} {text}");
                assert!(asked.load(Ordering::SeqCst) > before, "{path}: the name was not looked up");
            }
        }
    });
    assert_eq!(came.load(Ordering::SeqCst), 0);
    assert_eq!(six.map_or(0, |(_, came)| came.load(Ordering::SeqCst)), 0);
}
