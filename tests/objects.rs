//! Durable Objects over restarts and migrations; queues over restarts.

use std::path::Path;

use serde_json::json;

use crate::harness::{Skep, dev_with, eventually, small_project};

const CODE: &str = r#"
import { DurableObject } from "cloudflare:workers";
class Counter extends DurableObject {
    async add() {
        const n = ((await this.ctx.storage.get("n")) ?? 0) + 1;
        await this.ctx.storage.put("n", n);
        return [n, this.ctx.id.name];
    }
    later(ms) { return this.ctx.storage.setAlarm(Date.now() + ms); }
    async alarm() { await this.ctx.storage.put("rang", true); }
    async rang() { return (await this.ctx.storage.get("rang")) ?? false; }
}
export class A extends Counter {}
export class B extends Counter {}
export default {
    async fetch(request, env) {
        const [, binding, method, argument] = new URL(request.url).pathname.split("/");
        return Response.json(await env[binding].getByName("joe")[method](Number(argument)));
    },
};
"#;

fn config(bindings: &str, migrations: &str) -> String {
    format!(
        r#"{{ "name": "objects", "main": "index.js", "compatibility_date": "2026-07-01",
        "durable_objects": {{ "bindings": [{bindings}] }}, "migrations": [{migrations}] }}"#
    )
}

fn call(skep: &Skep, path: &str) -> serde_json::Value {
    skep.get(path).json()
}

fn write_config(project: &Path, text: &str) {
    std::fs::write(project.join("wrangler.jsonc"), text).unwrap();
}

#[test]
fn an_alarm_rings_after_skep_was_killed_and_started_again() {
    let config =
        config(r#"{ "name": "A", "class_name": "A" }"#, r#"{ "tag": "v1", "new_sqlite_classes": ["A"] }"#);
    let project = small_project(&config, &[("index.js", CODE)]);
    let state = tempfile::tempdir().unwrap();
    {
        let mut skep = dev_with(project.path(), state.path(), &[]);
        assert_eq!(call(&skep, "/A/add"), json!([1, "joe"]));
        call_unit(&skep, "/A/later/500");
        skep.signal("KILL");
        skep.wait();
    }
    let skep = dev_with(project.path(), state.path(), &[]);
    eventually("alarm", || (call(&skep, "/A/rang") == json!(true)).then_some(()));
    assert_eq!(call(&skep, "/A/add"), json!([2, "joe"]));
}

/// Calls a method that returns nothing.
fn call_unit(skep: &Skep, path: &str) {
    let answer = skep.get(path);
    assert!(answer.status == 200 || answer.text().contains("1101"), "{}", answer.text());
}

#[test]
fn migrations_rename_delete_and_make_classes_while_running() {
    let v1 = r#"{ "tag": "v1", "new_sqlite_classes": ["A"] }"#;
    let project = small_project(&config(r#"{ "name": "X", "class_name": "A" }"#, v1), &[("index.js", CODE)]);
    let state = tempfile::tempdir().unwrap();
    let skep = dev_with(project.path(), state.path(), &[]);
    assert_eq!(call(&skep, "/X/add")[0], 1);

    // Renamed: the objects stay. A new class of the old name: other objects.
    let v2 = r#"{ "tag": "v2", "renamed_classes": [{ "from": "A", "to": "B" }], "new_classes": ["A"] }"#;
    let both = r#"{ "name": "X", "class_name": "B" }, { "name": "Y", "class_name": "A" }"#;
    write_config(project.path(), &config(both, &format!("{v1}, {v2}")));
    eventually("the new binding", || (skep.get("/Y/rang").status == 200).then_some(()));
    assert_eq!(call(&skep, "/X/add")[0], 2);
    assert_eq!(call(&skep, "/Y/add")[0], 1);

    // Deleted, and made again: empty, and no file is left of the old one.
    let files = |key: &str| state.path().join("do").join(key).exists();
    assert!(files("objects-A"));
    let v3 = r#"{ "tag": "v3", "deleted_classes": ["B"] }"#;
    let one = r#"{ "name": "Z", "class_name": "A" }"#;
    write_config(project.path(), &config(one, &format!("{v1}, {v2}, {v3}")));
    eventually("the other binding", || (skep.get("/Z/rang").status == 200).then_some(()));
    assert_eq!(call(&skep, "/Z/add")[0], 2);
    eventually("removal", || (!files("objects-A")).then_some(()));
}

#[test]
fn a_delayed_message_outlives_a_kill() {
    let config = r#"{ "name": "queues", "main": "index.js", "compatibility_date": "2026-07-01",
        "kv_namespaces": [{ "binding": "KV" }],
        "queues": { "producers": [{ "binding": "Q", "queue": "q" }],
                    "consumers": [{ "queue": "q", "max_batch_timeout": 0 }] } }"#;
    let code = r#"export default {
        async fetch(request, env) {
            if (request.method === "POST") { await env.Q.send({ deep: ["é"] }, { delaySeconds: 2 }); return new Response("sent"); }
            return new Response(await env.KV.get("got"));
        },
        async queue(batch, env) {
            for (const m of batch.messages) await env.KV.put("got", JSON.stringify([m.body, m.attempts, batch.queue]));
        },
    };"#;
    let project = small_project(config, &[("index.js", code)]);
    let state = tempfile::tempdir().unwrap();
    {
        let mut skep = dev_with(project.path(), state.path(), &[]);
        assert_eq!(skep.post("/", "").text(), "sent");
        skep.signal("KILL");
        skep.wait();
    }
    let skep = dev_with(project.path(), state.path(), &[]);
    let got = eventually("message", || Some(skep.get("/").text()).filter(|text| !text.is_empty()));
    assert_eq!(got, r#"[{"deep":["é"]},1,"q"]"#);
}
