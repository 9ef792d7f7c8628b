//! Hyperdrive in `skep dev`: the local database that a connection string names.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::json;

use crate::harness::{command, dev, small_project, start, try_dev};

const CODE: &str = r#"
import { connect } from "cloudflare:sockets";
export default {
  async fetch(request, { DB }) {
    const socket = connect({ hostname: DB.host, port: DB.port });
    const writer = socket.writable.getWriter();
    await writer.write(new TextEncoder().encode(DB.user + "/" + DB.password + "/" + DB.database));
    const { value } = await socket.readable.getReader().read();
    const url = new URL(DB.connectionString);
    return Response.json([new TextDecoder().decode(value), url.protocol, decodeURIComponent(url.password), url.pathname]);
  },
};
"#;

/// A server that says in capital letters what it was told.
fn database() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut buffer) = (stream.unwrap(), [0; 256]);
            let read = stream.read(&mut buffer).unwrap();
            stream.write_all(&buffer[..read].to_ascii_uppercase()).unwrap();
        }
    });
    port
}

fn config(more: &str) -> String {
    format!(
        r#"{{ "name": "hyper", "main": "index.js", "compatibility_date": "2026-01-01",
            "hyperdrive": [{{ "binding": "DB", "id": "0123456789abcdef0123456789abcdef"{more} }}] }}"#
    )
}

#[test]
fn a_worker_talks_to_the_database_of_the_connection_string() {
    let (port, other) = (database(), database());
    let url = |port: u16| format!("postgresql://me:s%40crt@localhost:{port}/shop");
    let own = config(&format!(r#", "localConnectionString": "{}""#, url(port)));
    let expected = json!(["ME/S@CRT/SHOP", "postgresql:", "s@crt", "/shop"]);
    let project = small_project(&own, &[("index.js", CODE)]);
    let skep = dev(project.path());
    assert_eq!(skep.get("/").json(), expected);
    assert!(skep.output().contains(&format!("postgresql at localhost:{port}")), "{}", skep.output());
    assert!(!skep.output().contains("s%40crt") && !skep.output().contains("s@crt"), "{}", skep.output());
    drop(skep);

    // The environment's word goes before the file's, and stands where that has none.
    let state = tempfile::tempdir().unwrap();
    let project = small_project(&config(""), &[("index.js", CODE)]);
    let mut started = command(project.path(), state.path());
    started.env("CLOUDFLARE_HYPERDRIVE_LOCAL_CONNECTION_STRING_DB", url(other));
    let skep = start(started).unwrap();
    assert_eq!(skep.get("/").json(), expected);
}

#[test]
fn a_connection_string_that_cannot_be_used_is_refused_with_its_place() {
    for (more, says) in [
        ("", "set CLOUDFLARE_HYPERDRIVE_LOCAL_CONNECTION_STRING_DB"),
        (
            r#", "localConnectionString": "postgres://a:b@h/d?sslmode=require""#,
            "does not speak TLS to a local database",
        ),
        (r#", "localConnectionString": "redis://a:b@h/d""#, "Only PostgreSQL-compatible or MySQL-compatible"),
    ] {
        let project = small_project(&config(more), &[("index.js", CODE)]);
        let state = tempfile::tempdir().unwrap();
        let Err(said) = try_dev(project.path(), state.path(), &[]) else { panic!("it came up") };
        assert!(said.contains(says) && said.contains("wrangler.jsonc:2:"), "{said}");
    }
}
