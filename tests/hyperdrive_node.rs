//! Hyperdrive on a node: a real PostgreSQL, stock wrangler, and the drivers that people use.

use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::harness::accounts::add;
use crate::harness::postgres::{PASSWORD, Postgres, Setup, start};
use crate::harness::serve::{FORM, Serve, form, run, serve_by, serve_in};
use crate::harness::{npm, repository};

const WORKER: &str = r#"
import { Client } from "pg";
import postgres from "postgres";
import { connect } from "cloudflare:sockets";

async function withPg(env, work) {
  const client = new Client({ connectionString: env.DB.connectionString });
  await client.connect();
  try { return await work(client); } finally { await client.end(); }
}

async function withPostgres(env, work) {
  const sql = postgres(env.DB.connectionString, { max: 5, fetch_types: false });
  try { return await work(sql); } finally { await sql.end(); }
}

const routes = {
  "/env": (env) => {
    const { user, database, password, host, port, connectionString } = env.DB;
    return { user, database, password, host, port, connectionString };
  },
  "/pg": (env) => withPg(env, async (client) => {
    await client.query("CREATE TABLE IF NOT EXISTS bees(id serial PRIMARY KEY, name text)");
    await client.query("INSERT INTO bees(name) VALUES ($1), ($2)", ["Maja", "Willi"]);
    const { rows } = await client.query("SELECT name FROM bees ORDER BY id");
    return rows.map((row) => row.name);
  }),
  "/postgres": (env) => withPostgres(env, async (sql) => {
    const counts = await Promise.all([1, 2, 3, 4, 5].map((n) => sql`SELECT ${n}::int * count(*)::int AS n FROM bees`));
    const undone = await sql.begin(async (sql) => {
      await sql`INSERT INTO bees(name) VALUES ('Thekla')`;
      throw new Error("undo");
    }).catch((error) => error.message);
    const [{ length }] = await sql`SELECT length(repeat('x', 3000000)) AS length, repeat('x', 3000000) AS text`;
    return { counts: counts.map(([row]) => row.n), undone, length };
  }),
  "/cancel": (env) => withPg(env, async (client) => {
    const ended = client.query("SELECT pg_sleep(600)").then(() => "slept", (error) => error.code);
    await withPg(env, (other) => other.query("SELECT 1"));
    // CancelRequest, on a connection of its own.
    const request = new DataView(new ArrayBuffer(16));
    [16, 80877102, client.processID, client.secretKey].forEach((number, at) => request.setInt32(at * 4, number));
    const writer = connect({ hostname: env.DB.host, port: env.DB.port }).writable.getWriter();
    await writer.write(new Uint8Array(request.buffer));
    return ended;
  }),
  "/who": (env) => withPg(env, async (client) => {
    const sql = "SELECT current_user AS user, current_database() AS database, current_setting('application_name') AS app, \
      (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()) AS ssl";
    return (await client.query(sql)).rows[0];
  }),
  "/wrong": (env) => withPg(env, (client) => client.query("SELECT * FROM nothing")),
  // As many as there are at once, held until all are there.
  "/crowd": async (env) => {
    const clients = Array.from({ length: 5 }, () => new Client({ connectionString: env.DB.connectionString }));
    await Promise.all(clients.map((client) => client.connect()));
    const late = new Client({ connectionString: env.DB.connectionString });
    const refused = await late.connect().then(() => "connected", (error) => [error.code, error.message]);
    await Promise.all(clients.map((client) => client.end()));
    return refused;
  },
};

export default {
  async fetch(request, env) {
    try {
      return Response.json(await routes[new URL(request.url).pathname](env));
    } catch (error) {
      return Response.json({ code: error.code, message: error.message }, { status: 500 });
    }
  },
};
"#;

fn project(serve: &Serve, name: &str, id: &str) -> PathBuf {
    let config = json!({
        "name": name, "main": "index.js", "compatibility_date": "2026-07-01", "compatibility_flags": ["nodejs_compat"],
        "hyperdrive": [{ "binding": "DB", "id": id }],
    });
    let dir = serve.project(name, &[("index.js", WORKER), ("wrangler.jsonc", &config.to_string())]);
    let modules = npm::installed("postgres-drivers-1", &["pg@8.23.1", "postgres@3.4.9"]).join("node_modules");
    std::os::unix::fs::symlink(modules, dir.join("node_modules")).unwrap();
    dir
}

fn origin(postgres: &Postgres, more: &Value) -> Value {
    let mut origin = json!({
        "scheme": "postgres", "host": "127.0.0.1", "port": postgres.port,
        "user": "owner", "password": PASSWORD, "database": "shop",
    });
    for (key, value) in more.as_object().unwrap() {
        origin[key] = value.clone();
    }
    origin
}

fn id_in(text: &str) -> String {
    let id = text.split("config: ").nth(1).unwrap_or_else(|| panic!("{text}")).split_whitespace().next();
    id.unwrap().to_owned()
}

/// Whether the password, or what it looks like in a URL, is anywhere in a folder.
fn holds_password(folder: &Path) -> bool {
    let found = run(Command::new("grep").args(["-rlaF", "-e", PASSWORD, "-e", "p%40ss"]).arg(folder));
    assert!(found.success || found.text.is_empty(), "{}", found.text);
    found.success
}

#[test]
fn what_wrangler_makes_drivers_query_and_nobody_learns_the_password() {
    let Some(postgres) = start(&Setup::default()) else { return };
    postgres.sql("CREATE DATABASE shop");
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--hyperdrive-allow", &postgres.place()]);
    let empty = serve.project("empty", &[("README", "")]);
    let string = format!("postgres://owner:s3cr3t%20p%40ss%2Fw%C3%B6rd@127.0.0.1:{}/shop", postgres.port);
    let own = ["--connection-string", &string, "--max-age", "7", "--origin-connection-limit", "5"];
    let made = serve.wrangler(&empty, &[&["hyperdrive", "create", "bees"], &own[..]].concat());
    let id = id_in(&made);
    let list = serve.wrangler(&empty, &["hyperdrive", "list"]);
    assert!(list.contains(&id) && list.contains("bees") && list.contains("max_age: 7"), "{list}");
    let shown = serve.wrangler(&empty, &["hyperdrive", "get", &id]);
    assert!(shown.contains("\"database\": \"shop\"") && shown.contains("\"user\": \"owner\""), "{shown}");
    assert!(!shown.contains("password") && !shown.contains("sealed"), "{shown}");

    let dir = project(&serve, "bees", &id);
    serve.wrangler(&dir, &["deploy"]);
    let get = |path: &str| serve.get("bees.main.localhost", path).json();
    let env = get("/env");
    assert_eq!(
        (&env["user"], &env["database"], &env["port"]),
        (&json!("owner"), &json!("shop"), &json!(5432))
    );
    assert!(env["host"].as_str().unwrap().ends_with(".hyperdrive.local"), "{env}");
    assert_ne!(env["password"], PASSWORD);
    assert_eq!(get("/pg"), json!(["Maja", "Willi"]));
    assert_eq!(get("/pg"), json!(["Maja", "Willi", "Maja", "Willi"]));
    let seen = get("/postgres");
    assert_eq!(seen, json!({ "counts": [4, 8, 12, 16, 20], "undone": "undo", "length": 3_000_000 }));
    assert_eq!(get("/pg").as_array().unwrap().len(), 6);
    assert_eq!(get("/cancel"), "57014", "query_canceled");
    let wrong = get("/wrong");
    assert_eq!(wrong, json!({ "code": "42P01", "message": "relation \"nothing\" does not exist" }));
    assert_eq!(get("/crowd"), json!(["53300", "Failed to acquire a connection from the pool."]));

    // Another key for all secrets, the worker still runs, and so does one that starts.
    let data = serve.dir.path().join("data");
    let rotated =
        run(Command::new(env!("CARGO_BIN_EXE_skep")).args(["secrets", "rotate", "--data"]).arg(&data));
    assert!(rotated.success && rotated.text.contains("encrypted anew: 1"), "{}", rotated.text);
    assert_eq!(get("/who"), json!({ "user": "owner", "database": "shop", "app": "", "ssl": false }));

    // A change is for the next connection.
    postgres.sql("CREATE ROLE guest LOGIN PASSWORD 'guest'");
    let change = ["--origin-user", "guest", "--origin-password", "guest", "--name", "visitors"];
    serve.wrangler(&dir, &[&["hyperdrive", "update", &id], &change[..]].concat());
    assert_eq!((&get("/who")["user"], &get("/env")["user"]), (&json!("guest"), &json!("guest")));

    let deployed = run(Command::new(env!("CARGO_BIN_EXE_skep"))
        .arg("deploy")
        .arg(project(&serve, "again", &id))
        .args(["--yes", "--no-smoke", "--target", "skep", "--data"])
        .arg(&data));
    assert!(deployed.success, "{}\n{}", deployed.text, serve.output());
    assert_eq!(serve.get("again.main.localhost", "/who").json()["user"], "guest");

    serve.wrangler(&dir, &["hyperdrive", "delete", &id]);
    let gone = get("/who");
    assert_eq!(gone["message"], format!("Hyperdrive config '{id}' not found."));
    let refused = serve.try_wrangler(&dir, &["deploy"], "");
    assert!(refused.text.contains(&format!("Hyperdrive config '{id}' not found.")), "{}", refused.text);

    assert!(!serve.output().contains(PASSWORD) && !serve.output().contains("p%40ss"), "{}", serve.output());
    let data = serve.stop("TERM");
    assert!(!holds_password(&data.path().join("data")));
}

#[test]
fn a_database_that_cannot_be_used_is_refused_with_cloudflares_code() {
    let Some(postgres) = start(&Setup::default()) else { return };
    postgres.sql("CREATE DATABASE shop");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    // It says something else than a database.
    std::thread::spawn(move || {
        for stream in other.incoming() {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"HTTP/1.1 400 secret words\r\n\r\n");
        }
    });
    let allowed = [free.to_string(), format!("127.0.0.1:{port}"), postgres.place()];
    let args: Vec<&str> = allowed.iter().flat_map(|place| ["--hyperdrive-allow", place]).collect();
    let serve = serve_in(tempfile::tempdir().unwrap(), &args);
    let create = |config: &Value| serve.call("POST", "/hyperdrive/configs", Some(config));
    let named = |origin: Value| json!({ "name": "db", "origin": origin });
    let origin = |more: Value| origin(&postgres, &more);
    for (config, code, says) in [
        (named(origin(json!({ "host": "nowhere.invalid" }))), 2008, "nowhere.invalid cannot be resolved"),
        (named(origin(json!({ "port": 1 }))), 2009, "--hyperdrive-allow"),
        (named(origin(json!({ "host": "localhost", "port": 1 }))), 2009, "localhost is "),
        (named(origin(json!({ "host": "169.254.169.254" }))), 2009, "169.254.169.254"),
        (named(origin(json!({ "port": free.port() }))), 2011, "connection_refused"),
        (json!({ "name": "db", "origin": origin(json!({})), "mtls": { "sslmode": "require" } }), 2012, "TLS"),
        (
            named(origin(json!({ "password": "wrong" }))),
            2013,
            "password authentication failed for user \"owner\"",
        ),
        (named(origin(json!({ "database": "none" }))), 2014, "database \"none\" does not exist"),
        (named(origin(json!({ "port": port }))), 2015, "does not speak PostgreSQL's protocol"),
        (named(origin(json!({ "scheme": "mysql" }))), 10026, "mysql is not there yet"),
    ] {
        let refused = create(&config);
        let said = &refused.json()["errors"][0];
        assert_eq!((refused.status, &said["code"]), (400, &json!(code)), "{config}: {said}");
        let text = said["message"].as_str().unwrap();
        assert!(text.contains(says), "{config}: {text}");
        assert_eq!(text.starts_with("Failed to connect to the provided database: "), code < 10000, "{text}");
        assert!(!text.contains("secret") && !text.contains(PASSWORD), "{text}");
    }
    assert_eq!(serve.call("GET", "/hyperdrive/configs", None).json()["result"], json!([]));

    let made = create(&named(origin(json!({})))).json()["result"].clone();
    let path = format!("/hyperdrive/configs/{}", made["id"].as_str().unwrap());
    let twice = create(&named(origin(json!({})))).json();
    assert!(twice["errors"][0]["message"].as_str().unwrap().contains("already exists"), "{twice}");
    // Where it listens, a server that is another's would be told the password.
    let moved = serve.call("PATCH", &path, Some(&json!({ "origin": { "host": "localhost", "port": port } })));
    assert!(moved.text().contains("origin.password is needed"), "{}", moved.text());
    let wrong = serve.call("PATCH", &path, Some(&json!({ "origin": { "database": "none" } })));
    assert_eq!(wrong.json()["errors"][0]["code"], 2014);
    assert_eq!(serve.call("GET", &path, None).json()["result"], made, "nothing was changed");

    // The database goes: who asks is told.
    let dir = project(&serve, "bees", made["id"].as_str().unwrap());
    serve.wrangler(&dir, &["deploy"]);
    assert_eq!(serve.get("bees.main.localhost", "/who").status, 200);
    drop(postgres);
    let gone = serve.get("bees.main.localhost", "/who").json();
    assert_eq!(
        gone,
        json!({ "code": "08001", "message": "Server connection attempt failed: connection_refused" })
    );
}

/// `skep import` from one node into another.
fn import(from: &Serve, to: &Serve, password: Option<&str>) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.args(["import", "--from", "cloudflare", "--data"]).arg(to.dir.path().join("data"));
    command.arg("--state").arg(to.dir.path().join("state.json"));
    command.env("CLOUDFLARE_API_BASE_URL", &from.api).env("CLOUDFLARE_ACCOUNT_ID", &from.account);
    command.env("CLOUDFLARE_API_TOKEN", &from.token);
    if let Some(password) = password {
        command.env("SKEP_HYPERDRIVE_PASSWORD_SHOP_DB", password);
    }
    let ran = run(&mut command);
    (ran.success, ran.text)
}

#[test]
fn a_configuration_is_imported_under_its_id_with_a_password_that_is_given() {
    let Some(postgres) = start(&Setup::default()) else { return };
    postgres.sql("CREATE DATABASE shop");
    let allowed = ["--hyperdrive-allow".to_owned(), postgres.place()];
    let allowed = allowed.each_ref().map(String::as_str);
    let (from, to) =
        (serve_in(tempfile::tempdir().unwrap(), &allowed), serve_in(tempfile::tempdir().unwrap(), &allowed));
    let config = json!({
        "name": "shop-db", "origin": origin(&postgres, &json!({})), "caching": { "max_age": 9 }, "origin_connection_limit": 7,
    });
    let made = from.call("POST", "/hyperdrive/configs", Some(&config)).json()["result"].clone();
    let id = made["id"].as_str().unwrap();
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "name": "DB", "type": "hyperdrive", "id": id }],
    });
    let code = "export default { fetch(request, env) { return Response.json(env.DB.database); } };";
    assert_eq!(from.upload("shop", &metadata, code).status, 200);

    let (success, said) = import(&from, &to, None);
    assert!(!success && said.contains("set SKEP_HYPERDRIVE_PASSWORD_SHOP_DB"), "{said}");
    assert!(said.contains(&format!("Hyperdrive config '{id}' not found")), "{said}");
    let (success, said) = import(&from, &to, Some("wrong"));
    assert!(!success && said.contains("Invalid database credentials"), "{said}");
    let (success, said) = import(&from, &to, Some(PASSWORD));
    assert!(success && said.contains("hyperdrive/shop-db: is there") && !said.contains(PASSWORD), "{said}");
    let there = to.call("GET", &format!("/hyperdrive/configs/{id}"), None).json()["result"].clone();
    for key in ["name", "origin", "caching", "origin_connection_limit"] {
        assert_eq!(there[key], made[key], "{key}");
    }
    assert_eq!(to.get("shop.main.localhost", "/").json(), "shop");
    assert!(import(&from, &to, None).1.contains("is there already"));
}

/// An authority, and a certificate of its for `localhost`: PEM.
fn certificates() -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&own, &issuer).unwrap();
    (authority, certificate.pem(), own.serialize_pem())
}

#[test]
fn the_way_to_a_database_is_as_secret_as_sslmode_says() {
    let (authority, certificate, key) = certificates();
    // Every kind of proof, over TLS alone.
    let hba = "hostssl all owner all scram-sha-256\nhostssl all old all md5\nhostssl all plain all password\n\
               hostssl all guest all trust\nhost all owner 127.0.0.1/32 scram-sha-256\n";
    let Some(postgres) = start(&Setup { hba, tls: Some((&certificate, &key)) }) else { return };
    postgres.sql("CREATE DATABASE shop");
    postgres.sql("SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'old'");
    postgres.sql("CREATE ROLE plain LOGIN PASSWORD 'plain'");
    postgres.sql("CREATE ROLE guest LOGIN");
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--hyperdrive-allow", "127.0.0.0/8"]);
    let create = |serve: &Serve, name: &str, mode: Option<&str>, more: &Value| {
        let mut config = json!({ "name": name, "origin": origin(&postgres, more) });
        if let Some(mode) = mode {
            config["mtls"] = json!({ "sslmode": mode });
        }
        serve.call("POST", "/hyperdrive/configs", Some(&config)).json()
    };
    for (n, (user, password)) in
        [("owner", PASSWORD), ("old", "old"), ("plain", "plain"), ("guest", "any")].into_iter().enumerate()
    {
        let name = format!("db{n}");
        let made = create(&serve, &name, None, &json!({ "user": user, "password": password }));
        let id = made["result"]["id"].as_str().unwrap_or_else(|| panic!("{user}: {made}"));
        serve.wrangler(&project(&serve, &name, id), &["deploy"]);
        let who = serve.get(&format!("{name}.main.localhost"), "/who").json();
        assert_eq!((&who["user"], &who["ssl"]), (&json!(user), &json!(true)), "{who}");
    }
    for (user, password) in [("old", "no"), ("plain", "no")] {
        let refused = create(&serve, "no", None, &json!({ "user": user, "password": password }));
        assert_eq!(refused["errors"][0]["code"], 2013, "{refused}");
    }
    let stranger = create(&serve, "strict", Some("require"), &json!({}));
    assert!(stranger["errors"][0]["message"].as_str().unwrap().contains("UnknownIssuer"), "{stranger}");

    let dir = serve.stop("TERM");
    let file = dir.path().join("authority.pem");
    std::fs::write(&file, authority).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.env("SSL_CERT_FILE", &file);
    let serve = serve_by(command, dir, &["--hyperdrive-allow", "127.0.0.0/8"]);
    for (n, mode) in ["require", "verify-ca", "verify-full"].into_iter().enumerate() {
        // The certificate is for the name.
        let made = create(&serve, &format!("name{n}"), Some(mode), &json!({ "host": "localhost" }));
        assert_eq!(
            (&made["success"], &made["result"]["mtls"]),
            (&json!(true), &json!({ "sslmode": mode })),
            "{made}"
        );
        let by_address = create(&serve, &format!("address{n}"), Some(mode), &json!({}));
        assert_eq!(by_address["success"], mode != "verify-full", "{by_address}");
    }
}

#[test]
fn the_sdk_makes_changes_and_removes_and_another_account_sees_nothing() {
    let Some(postgres) = start(&Setup::default()) else { return };
    postgres.sql("CREATE DATABASE shop");
    let first = serve_in(tempfile::tempdir().unwrap(), &[]);
    let dir = first.stop("TERM");
    let (account, token) = add(&dir.path().join("data/registry.sqlite"));
    let serve = serve_in(dir, &["--hyperdrive-allow", &postgres.place()]);
    let folder = npm::installed("cloudflare-sdk-7.3.0", &["cloudflare@7.3.0"]);
    let script = serve.dir.path().join("hyperdrive.mjs");
    std::fs::copy(repository().join("tests/sdk/hyperdrive.mjs"), &script).unwrap();
    std::os::unix::fs::symlink(folder.join("node_modules"), serve.dir.path().join("node_modules")).unwrap();
    let origin = origin(&postgres, &json!({}));
    let said = serve.node(serve.dir.path(), &["hyperdrive.mjs", &origin.to_string()]);
    let seen: Value =
        serde_json::from_str(said.lines().last().unwrap()).unwrap_or_else(|e| panic!("{e}: {said}"));
    let id = seen["id"].as_str().unwrap();
    let shown = json!({ "scheme": "postgres", "host": "127.0.0.1", "port": postgres.port, "user": "owner", "database": "shop" });
    let defaults = json!({ "disabled": false, "max_age": 60, "stale_while_revalidate": 15 });
    assert_eq!(
        seen,
        json!({
            "id": id, "made": [shown, defaults, 60], "listed": ["sdk"], "got": "sdk",
            "edited": ["renamed", { "disabled": true }, shown], "replaced": ["replaced", defaults, 9],
            "kept": id, "missing": "404 2001",
        })
    );

    let other = |method: &str, path: &str, kind: &str, body: Option<&[u8]>| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
        serve.raw_call(method, &format!("/accounts/{account}{path}"), &headers, body)
    };
    let path = format!("/hyperdrive/configs/{id}");
    assert_eq!(other("GET", "/hyperdrive/configs", "", None).json()["result"], json!([]));
    for method in ["GET", "DELETE"] {
        assert_eq!(other(method, &path, "", None).status, 404, "{method}");
    }
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "name": "DB", "type": "hyperdrive", "id": id }],
    });
    let code = "export default { fetch(request, env) { return Response.json(env.DB.user); } };";
    let upload = form(&metadata, &[("index.js", code)]);
    let refused = other("PUT", "/workers/scripts/thief", FORM, Some(&upload));
    assert!(refused.status == 400 && refused.text().contains("not found"), "{}", refused.text());
    assert_eq!(serve.upload("own", &metadata, code).status, 200);
    assert_eq!(serve.get("own.main.localhost", "/").json(), "owner");

    // A token without the permission for it does not bend it to a server of his own.
    let scripts = json!({
        "name": "scripts", "policies": [{ "effect": "allow", "permission_groups": [{ "id": "e086da7e2179491d91ee5f35b3ca210a" }],
        "resources": { format!("com.cloudflare.api.account.{}", serve.account): "*" } }],
    });
    let made = serve.token_call("POST", "/user/tokens", &[], Some(scripts.to_string().as_bytes())).json();
    let bearer = format!("Bearer {}", made["result"]["value"].as_str().unwrap());
    let own = format!("/accounts/{}{path}", serve.account);
    assert_eq!(serve.raw_call("GET", &own, &[("authorization", &bearer)], None).status, 403);
    assert_eq!(serve.call("DELETE", &path, None).status, 200);
}
