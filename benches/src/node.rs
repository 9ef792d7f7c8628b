//! `skep serve` as it is measured: started, deployed to, filled.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::load;
use crate::process::{Peer, free_port};
use crate::tools::Tools;

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// The process; its address is where visitors are served.
    pub peer: Peer,
    data: PathBuf,
    api: SocketAddr,
    account: String,
    token: String,
}

impl Node {
    /// Starts a node on the folder `data`.
    pub async fn start(tools: &Tools, data: &Path, options: &[&str]) -> Result<Self, String> {
        let port = || free_port().map_err(|e| e.to_string());
        let (api, http) = (port()?, port()?);
        let mut command = Command::new(&tools.skep);
        command.arg("serve").arg("--data").arg(data).arg("--workerd").arg(&tools.workerd).args(options);
        command.args(["--api", &format!("127.0.0.1:{api}"), "--http", &format!("127.0.0.1:{http}")]);
        let peer = Peer::start_until(command, http, "/", 404).await?;
        let file = std::fs::read(data.join("credentials.json")).map_err(|e| e.to_string())?;
        let file: Value = serde_json::from_slice(&file).map_err(|e| e.to_string())?;
        let text = |key: &str| file.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Self {
            peer,
            data: data.to_owned(),
            api: SocketAddr::from(([127, 0, 0, 1], api)),
            account: text("account_id"),
            token: text("api_token"),
        })
    }

    /// Calls the API below the account; returns when the last byte had been sent.
    pub async fn call(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Instant, String> {
        let head = format!(
            "{method} /client/v4/accounts/{}{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            self.account,
            self.api,
            self.token,
            body.len(),
        );
        match load::send(self.api, &[head.as_bytes(), body].concat()).await {
            Some((200 | 201, sent)) => Ok(sent),
            Some((status, _)) => Err(format!("{method} {path}: status {status}")),
            None => Err(format!("{method} {path}: no answer")),
        }
    }

    /// Deploys a script of one module; returns when the last byte had been sent. `within` is a dispatch namespace.
    pub async fn deploy(
        &self,
        within: Option<&str>,
        name: &str,
        bindings: &Value,
        code: &str,
    ) -> Result<Instant, String> {
        self.deploy_with(within, name, &json!({ "bindings": bindings }), code).await
    }

    /// The same with these metadata beside the usual ones.
    pub async fn deploy_with(
        &self,
        within: Option<&str>,
        name: &str,
        metadata: &Value,
        code: &str,
    ) -> Result<Instant, String> {
        let mut all = json!({ "main_module": "worker.js", "compatibility_date": "2026-07-01" });
        for (key, value) in metadata.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        let metadata = all;
        let form = format!(
            "--x\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{metadata}\r\n--x\r\n\
             Content-Disposition: form-data; name=\"worker.js\"; filename=\"worker.js\"\r\n\
             Content-Type: application/javascript+module\r\n\r\n{code}\r\n--x--\r\n"
        );
        let path = match within {
            Some(namespace) => format!("/workers/dispatch/namespaces/{namespace}/scripts/{name}"),
            None => format!("/workers/scripts/{name}"),
        };
        let sent = self.call("PUT", &path, "multipart/form-data; boundary=x", form.as_bytes()).await?;
        if within.is_none() {
            let path = format!("/workers/scripts/{name}/subdomain");
            self.call("POST", &path, "application/json", br#"{"enabled":true}"#).await?;
        }
        Ok(sent)
    }

    /// The host name of a script.
    pub fn host(name: &str) -> String {
        format!("{name}.main.localhost")
    }

    /// The status of one visit.
    pub async fn visit(&self, name: &str) -> Option<u16> {
        load::status_from(self.peer.address, &Self::host(name), "/").await
    }

    /// Ends the node and copies the script `name` (and, within a namespace, its siblings' place) `count` times, as
    /// `<name>-0` and so on. Its rows are as Skep wrote them.
    pub fn multiply(self, name: &str, count: u32) -> Result<(), String> {
        let catalog = self.data.join("accounts").join(&self.account).join("catalog.sqlite");
        drop(self.peer);
        copy_rows(&catalog, name, count).map_err(|e| format!("cannot fill {}: {e}", catalog.display()))
    }
}

fn copy_rows(catalog: &Path, name: &str, count: u32) -> rusqlite::Result<()> {
    let db = Connection::open(catalog)?;
    let (tag, stored): (String, String) = db.query_row(
        "SELECT tag, name FROM script WHERE name = ?1 OR name LIKE '%:' || ?1",
        [name],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let numbers =
        format!("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})");
    let id = "printf('%08x-0000-4000-8000-%012x', 268435456 + i, i)";
    let tag_of = format!("'{tag}' || i");
    db.execute_batch(&format!(
        "PRAGMA synchronous = OFF; BEGIN;
         CREATE TEMP TABLE latest AS SELECT * FROM deployment WHERE script = '{tag}' OR script = '{stored}'
           ORDER BY sequence DESC LIMIT 1;
         CREATE TEMP TABLE live AS SELECT * FROM version WHERE instr((SELECT versions FROM latest), id) > 0;
         {numbers} INSERT INTO script SELECT {tag_of}, '{stored}-' || i, created, modified, settings, workers_dev, previews
           FROM n, (SELECT * FROM script WHERE tag = '{tag}');
         {numbers} INSERT INTO version SELECT {id}, CASE WHEN script = '{tag}' THEN {tag_of} ELSE '{stored}-' || i END,
           number, created, origin, annotations, content FROM n, live;
         {numbers} INSERT INTO deployment(id, script, created, origin, annotations, versions)
           SELECT {id}, CASE WHEN script = '{tag}' THEN {tag_of} ELSE '{stored}-' || i END, created, origin, annotations,
           replace(versions, (SELECT id FROM live), {id}) FROM n, latest;
         {numbers} INSERT INTO content_use SELECT {id}, key FROM n, content_use WHERE version = (SELECT id FROM live);
         COMMIT; PRAGMA wal_checkpoint(TRUNCATE);"
    ))
}
