//! Vectorize through real workers: under `skep dev`, and on a node with stock wrangler's commands.

use std::process::Command;

use serde_json::{Value, json};

use crate::deploy::try_deploy;
use crate::harness::serve::{Serve, run, serve, serve_in};
use crate::harness::{Answer, Skep, dev_with, small_project};

/// What a worker is asked to do with its index: a method and its arguments.
const CODE: &str = r#"
export default {
  async fetch(request, env) {
    if (request.method === "GET") return new Response("here");
    const { call, args } = await request.json();
    const typed = args.map((arg) => arg?.float32 ? new Float32Array(arg.float32) : arg);
    try {
      return Response.json(await env.INDEX[call](...typed));
    } catch (error) {
      return Response.json({ message: error.message });
    }
  },
};
"#;

fn config(more: &Value) -> String {
    let mut index = json!({ "binding": "INDEX", "index_name": "texts" });
    if let (Some(index), Some(more)) = (index.as_object_mut(), more.as_object()) {
        index.extend(more.clone());
    }
    let config = json!({
        "name": "searcher", "main": "index.js", "compatibility_date": "2026-07-01", "vectorize": [index],
    });
    config.to_string()
}

fn body(call: &str, args: &Value) -> Vec<u8> {
    json!({ "call": call, "args": args }).to_string().into_bytes()
}

fn ask(skep: &Skep, call: &str, args: Value) -> Value {
    let answer: Answer = skep.send("POST", "/", &[], Some(&body(call, &args)));
    answer.json()
}

/// Thirty-two numbers, the first of which are given.
fn values(first: &[f64]) -> Vec<f64> {
    let mut values = first.to_vec();
    values.resize(32, 0.0);
    values
}

/// As JavaScript writes it: whole numbers without a point.
fn plain(value: Value) -> Value {
    match value {
        Value::Number(n) => {
            n.as_f64().filter(|n| n.fract() == 0.0).map_or(Value::Number(n.clone()), |n| json!(n as i64))
        }
        Value::Array(list) => list.into_iter().map(plain).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, plain(value))).collect(),
        other => other,
    }
}

fn ids(found: &Value) -> Vec<&str> {
    found["matches"]
        .as_array()
        .unwrap_or_else(|| panic!("{found}"))
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect()
}

#[test]
fn a_worker_in_development_keeps_and_finds_vectors() {
    let project = small_project(&config(&json!({})), &[("index.js", CODE)]);
    let state = tempfile::tempdir().unwrap();
    let skep = dev_with(project.path(), state.path(), &[]);
    let said = skep.output();
    assert!(said.contains("Vectorize index") && said.contains("vectorize/ \"texts\""), "{said}");
    assert_eq!(
        ask(&skep, "query", json!([values(&[1.0])]))["count"],
        0,
        "the index comes with its first vectors"
    );
    let netflix = json!({ "platform": "netflix", "year": 2020, "deep": { "ok": true } });
    let all = json!([[
        { "id": "1", "values": values(&[1.0, 0.0]), "metadata": netflix },
        { "id": "2", "values": values(&[1.0, 1.0]), "metadata": { "platform": "hbo", "year": 2010 } },
        { "id": "3", "values": { "0": 1 }, "namespace": "other" },
    ]]);
    let refused = ask(&skep, "insert", all);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .starts_with("VECTOR_INSERT_ERROR (code = 40012): invalid vector for id=\"3\""),
        "{refused}"
    );
    assert_eq!(ask(&skep, "describe", json!([]))["vectorCount"], 0, "nothing of it is kept");
    let all = json!([[
        { "id": "1", "values": values(&[1.0, 0.0]), "metadata": netflix },
        { "id": "2", "values": values(&[1.0, 1.0]), "metadata": { "platform": "hbo", "year": 2010 } },
        { "id": "3", "values": values(&[-1.0]), "namespace": "other" },
    ]]);
    let inserted = ask(&skep, "insert", all);
    let info = ask(&skep, "describe", json!([]));
    assert_eq!((&info["vectorCount"], &info["dimensions"]), (&json!(3), &json!(32)), "{inserted}");
    assert_eq!(info["processedUpToMutation"], inserted["mutationId"]);

    let found = ask(&skep, "query", json!([values(&[2.0]), { "topK": 3 }]));
    assert_eq!(ids(&found), ["1", "2", "3"]);
    let scores: Vec<f64> =
        found["matches"].as_array().unwrap().iter().map(|m| m["score"].as_f64().unwrap()).collect();
    assert!((scores[1] - 0.5f64.sqrt()).abs() < 1e-6 && scores[0] == 1.0 && scores[2] == -1.0, "{scores:?}");
    assert_eq!(found["matches"][2], json!({ "id": "3", "namespace": "other", "score": -1 }));
    let typed = ask(
        &skep,
        "query",
        json!([{ "float32": values(&[2.0]) }, { "topK": 1, "returnValues": true, "returnMetadata": true }]),
    );
    assert_eq!(
        typed["matches"][0],
        plain(json!({ "id": "1", "score": 1, "values": values(&[1.0]), "metadata": netflix }))
    );
    let filtered =
        |filter: Value| ask(&skep, "queryById", json!(["1", { "filter": filter, "returnMetadata": "none" }]));
    assert_eq!(ids(&filtered(json!({ "platform": { "$ne": "netflix" } }))), ["2", "3"]);
    assert_eq!(ids(&filtered(json!({ "year": { "$gte": 2015 }, "deep.ok": true }))), ["1"]);
    assert_eq!(ids(&ask(&skep, "query", json!([values(&[1.0]), { "namespace": "other" }]))), ["3"]);

    ask(&skep, "upsert", json!([[{ "id": "2", "values": values(&[0.0, 3.0]) }]]));
    assert_eq!(
        ask(&skep, "getByIds", json!([["2", "none"]])),
        plain(json!([{ "id": "2", "values": values(&[0.0, 3.0]) }]))
    );
    ask(&skep, "deleteByIds", json!([["1"]]));
    assert_eq!(ids(&ask(&skep, "query", json!([values(&[1.0])]))), ["2", "3"]);

    let many = ask(&skep, "query", json!([values(&[1.0]), { "topK": 51, "returnMetadata": "all" }]));
    assert_eq!(
        many["message"],
        "VECTOR_QUERY_ERROR (code = 40025): with returnValues=true or returnMetadata=all, max top K is 50, but got 51; for a \
         top K up to 100, retry with returnValues=false and returnMetadata=indexed"
    );
    let wrong = ask(&skep, "query", json!([[1, 2, 3]]));
    assert_eq!(
        wrong["message"],
        "VECTOR_QUERY_ERROR (code = 40006): invalid query vector, expected 32 dimensions, and got 3 dimensions"
    );
    drop(skep);
    let skep = dev_with(project.path(), state.path(), &[]);
    assert_eq!(ask(&skep, "describe", json!([]))["vectorCount"], 2, "it is there after a restart");
}

#[test]
fn the_configuration_can_say_what_an_index_is() {
    let more = json!({ "dimensions": 40, "metric": "euclidean" });
    let project = small_project(&config(&more), &[("index.js", CODE)]);
    let state = tempfile::tempdir().unwrap();
    let skep = dev_with(project.path(), state.path(), &[]);
    assert_eq!(ask(&skep, "describe", json!([]))["dimensions"], 40);
    let vector = vec![3.0; 40];
    ask(&skep, "insert", json!([[{ "id": "a", "values": vector }]]));
    let found = ask(&skep, "query", json!([vec![2.0; 40]]));
    assert!((found["matches"][0]["score"].as_f64().unwrap() - 40f64.sqrt()).abs() < 1e-5, "{found}");
}

/// A worker on the node that is bound to `index`, with [`CODE`].
fn bound(serve: &Serve, name: &str, index: &str) -> std::path::PathBuf {
    let config = json!({
        "name": name, "main": "index.js", "compatibility_date": "2026-07-01",
        "vectorize": [{ "binding": "INDEX", "index_name": index }],
    });
    serve.project(name, &[("index.js", CODE), ("wrangler.json", &config.to_string())])
}

fn ask_node(serve: &Serve, host: &str, call: &str, args: Value) -> Value {
    serve.send("POST", host, "/", &[], Some(&body(call, &args))).json()
}

/// The JSON that wrangler prints after what it says.
fn printed(text: &str) -> Value {
    let start = text.find("\n{").or_else(|| text.find("\n[\n")).or_else(|| text.find("\n[]"));
    let start = start.map(|at| at + 1).or_else(|| text.starts_with(['{', '[']).then_some(0));
    let json = &text[start.unwrap_or_else(|| panic!("{text}"))..];
    serde_json::Deserializer::from_str(json)
        .into_iter()
        .next()
        .unwrap()
        .unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn stock_wrangler_makes_and_fills_indexes_of_a_node_that_scripts_are_bound_to() {
    let serve = serve();
    let line = |id: &str, first: &[f64], metadata: Value| {
        json!({ "id": id, "values": values(first), "metadata": metadata }).to_string()
    };
    let lines = [
        line("a", &[1.0], json!({ "kind": "x", "deep": { "n": 1 } })),
        line("b", &[1.0, 1.0], json!({ "kind": "y", "deep": { "n": 2 } })),
        line("c", &[-1.0], json!({})),
    ];
    let replaced = line("c", &[0.0, 5.0], json!({ "kind": "x" }));
    let dir = serve.project("files", &[("new.ndjson", &lines.join("\n")), ("other.ndjson", &replaced)]);
    let vectorize = |args: &[&str]| serve.wrangler(&dir, &[&["vectorize"], args].concat());
    let refused = |args: &[&str]| {
        let ran = serve.try_wrangler(&dir, &[&["vectorize"], args].concat(), "");
        assert!(!ran.success, "{args:?}: {}", ran.text);
        ran.text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let worker = bound(&serve, "searcher", "docs");
    let early = serve.try_wrangler(&worker, &["deploy"], "");
    let said = early.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected = "Vectorize binding 'INDEX' references index 'docs' which was not found. [code: 10159]";
    assert!(!early.success && said.contains(expected), "{said}");

    let create = ["create", "docs", "--dimensions=32", "--metric=cosine", "--description=what it is for"];
    assert!(vectorize(&create).contains("Successfully created a new Vectorize index: 'docs'"));
    assert!(refused(&create).contains("vectorize.index.duplicate_name - Index name \"docs\" [code: 3002]"));
    let large = refused(&["create", "large", "--dimensions=3072", "--metric=cosine"]);
    assert!(
        large.contains("vectorize.index.invalid_config - Dimensions must be in range: [32, 1536]"),
        "{large}"
    );
    let preset = printed(&vectorize(&["create", "model", "--preset=@cf/baai/bge-base-en-v1.5", "--json"]));
    assert_eq!(preset["config"], json!({ "dimensions": 768, "metric": "cosine" }));
    let all = printed(&vectorize(&["list", "--json"]));
    let names: Vec<&str> =
        all.as_array().unwrap().iter().map(|index| index["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["docs", "model"]);
    let got = printed(&vectorize(&["get", "docs", "--json"]));
    assert_eq!((&got["description"], &got["config"]["dimensions"]), (&json!("what it is for"), &json!(32)));

    vectorize(&["create-metadata-index", "docs", "--propertyName=kind", "--type=string"]);
    vectorize(&["create-metadata-index", "docs", "--propertyName=deep.n", "--type=number"]);
    let indexes = printed(&vectorize(&["list-metadata-index", "docs", "--json"]));
    let expected = json!([{ "propertyName": "deep.n", "indexType": "number" }, { "propertyName": "kind", "indexType": "string" }]);
    assert_eq!(indexes, expected);
    assert!(vectorize(&["insert", "docs", "--file=new.ndjson"]).contains("Successfully enqueued 3 vectors"));
    assert!(
        vectorize(&["upsert", "docs", "--file=other.ndjson"]).contains("Successfully enqueued 1 vectors")
    );
    let info = printed(&vectorize(&["info", "docs", "--json"]));
    assert_eq!((&info["vectorCount"], &info["dimensions"]), (&json!(3), &json!(32)));
    let page = printed(&vectorize(&["list-vectors", "docs", "--count=2", "--json"]));
    assert_eq!((&page["vectors"], &page["totalCount"]), (&json!([{ "id": "a" }, { "id": "b" }]), &json!(3)));
    let next = page["nextCursor"].as_str().unwrap();
    let rest = printed(&vectorize(&["list-vectors", "docs", "--cursor", next, "--json"]));
    assert_eq!((&rest["vectors"], &rest["isTruncated"]), (&json!([{ "id": "c" }]), &json!(false)));
    let found = printed(&vectorize(&[
        "query",
        "docs",
        "--vector-id=a",
        "--top-k=2",
        "--return-metadata=all",
        "--filter",
        "{\"kind\":\"x\",\"deep.n\":{\"$lte\":1}}",
    ]));
    assert_eq!((ids(&found), &found["matches"][0]["metadata"]["kind"]), (vec!["a"], &json!("x")));
    let vectors = printed(&vectorize(&["get-vectors", "docs", "--ids", "c", "none"]));
    assert_eq!(
        vectors,
        plain(json!([{ "id": "c", "values": values(&[0.0, 5.0]), "metadata": { "kind": "x" } }]))
    );
    vectorize(&["delete-vectors", "docs", "--ids", "b"]);
    vectorize(&["delete-metadata-index", "docs", "--propertyName=deep.n"]);
    let gone = refused(&["delete-metadata-index", "docs", "--propertyName=deep.n"]);
    assert!(gone.contains("[code: 40005]"), "{gone}");

    serve.wrangler(&worker, &["deploy"]);
    const HOST: &str = "searcher.main.localhost";
    assert_eq!(ask_node(&serve, HOST, "describe", json!([]))["vectorCount"], 2);
    ask_node(
        &serve,
        HOST,
        "upsert",
        json!([[{ "id": "d", "values": values(&[1.0, 0.1]), "metadata": { "kind": "x" } }]]),
    );
    let filtered = |filter: Value| ask_node(&serve, HOST, "queryById", json!(["a", { "filter": filter }]));
    assert_eq!(ids(&filtered(json!({ "kind": "x" }))), ["a", "d", "c"]);
    assert_eq!(ids(&filtered(json!({ "deep.n": 1 }))), [""; 0], "what has no metadata index is not found");
    let many: Vec<Value> =
        (0..1001).map(|n| json!({ "id": n.to_string(), "values": values(&[1.0]) })).collect();
    let said = ask_node(&serve, HOST, "insert", json!([many]));
    assert_eq!(
        said["message"],
        "VECTOR_INSERT_ERROR (code = 40006): too many vectors in payload; max count is 1000, got 1001"
    );
    assert_eq!(ask_node(&serve, HOST, "describe", json!([]))["vectorCount"], 3, "nothing of it is kept");

    serve.wrangler(&dir, &["dispatch-namespace", "create", "tenants"]);
    serve.wrangler(&bound(&serve, "tenant", "docs"), &["deploy", "--dispatch-namespace", "tenants"]);
    let dispatcher = json!({
        "name": "dispatcher", "main": "index.js", "compatibility_date": "2026-07-01",
        "dispatch_namespaces": [{ "binding": "ALL", "namespace": "tenants" }],
    });
    let code = "export default { fetch(request, env) { return env.ALL.get('tenant').fetch(request); } };";
    let files = [("index.js", code), ("wrangler.json", &dispatcher.to_string())];
    serve.wrangler(&serve.project("dispatcher", &files), &["deploy"]);
    assert_eq!(
        ids(&ask_node(&serve, "dispatcher.main.localhost", "queryById", json!(["a"]))),
        ["a", "d", "c"]
    );

    vectorize(&["delete", "docs", "--force"]);
    assert!(
        refused(&["info", "docs"]).contains("vectorize.index.not_found - Index name \"docs\" [code: 3000]")
    );
    let said = ask_node(&serve, HOST, "queryById", json!(["a"]));
    assert!(said["message"].as_str().unwrap().contains("vectorize.index.not_found"), "{said}");
    vectorize(&["create", "docs", "--dimensions=40", "--metric=euclidean"]);
    assert_eq!(ask_node(&serve, HOST, "describe", json!([]))["dimensions"], 40, "a script finds the new one");
}

#[test]
fn vectors_over_http_are_kept_through_a_restart_and_what_is_too_much_is_refused() {
    let serve = serve();
    let made = serve.call(
        "POST",
        "/vectorize/v2/indexes",
        Some(&json!({ "name": "i", "config": { "dimensions": 32, "metric": "dot-product" } })),
    );
    assert_eq!(made.status, 200, "{}", made.text());
    const BASE: &str = "/vectorize/v2/indexes/i";
    let send = |path: &str, kind: &str, body: &str| {
        let answer = serve.own_call(
            "POST",
            &format!("{BASE}{path}"),
            &[("content-type", kind)],
            Some(body.as_bytes()),
        );
        (answer.status, answer.json())
    };
    let line = |id: &str| json!({ "id": id, "values": values(&[2.0]) }).to_string();
    let many: Vec<String> = (0..5001).map(|n| line(&n.to_string())).collect();
    let (status, refused) = send("/insert", "application/x-ndjson", &many.join("\n"));
    assert_eq!((status, &refused["errors"][0]["code"]), (400, &json!(40006)), "{refused}");
    let (status, refused) = send("/insert", "application/json", "{\"vectors\":[]}");
    let expected = json!([{ "code": 1005, "message": "vectorize.unknown_content_type" }]);
    assert_eq!((status, &refused["errors"]), (400, &expected));
    let (status, refused) = send("/upsert", "application/x-ndjson", &format!("{}\nnothing", line("a")));
    assert_eq!((status, &refused["errors"][0]["code"]), (400, &json!(40023)), "{refused}");
    let info = || serve.call("GET", &format!("{BASE}/info"), None).json()["result"].clone();
    assert_eq!(info()["vectorCount"], 0, "nothing of it is kept");
    let text = format!("{}\nnothing", line("a"));
    let (status, kept) = send("/upsert?unparsable-behavior=discard", "application/x-ndjson", &text);
    assert_eq!((status, &kept["result"]["mutationId"]), (200, &info()["processedUpToMutation"]), "{kept}");
    let (status, _) = send("/insert", "application/x-ndjson", &many[..5000].join("\n"));
    assert_eq!((status, &info()["vectorCount"]), (200, &json!(5001)));

    // Who may read an index does not change it.
    let group = json!({
        "name": "reads", "policies": [{ "effect": "allow", "permission_groups": [{ "id": "1799edaae5db489294430e20d9b519e0" }],
        "resources": { format!("com.cloudflare.api.account.{}", serve.account): "*" } }],
    });
    let token = serve.token_call("POST", "/user/tokens", &[], Some(group.to_string().as_bytes())).json();
    let bearer = format!("Bearer {}", token["result"]["value"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let reads = |path: &str, body: Value| {
        let path = format!("/accounts/{}{BASE}{path}", serve.account);
        serve.raw_call("POST", &path, &headers, Some(body.to_string().as_bytes()))
    };
    let found = reads("/query", json!({ "vectorId": "a", "topK": 1 }));
    assert_eq!(found.json()["result"]["matches"][0], json!({ "id": "a", "score": -4.0 }), "{}", found.text());
    assert_eq!(reads("/get_by_ids", json!({ "ids": ["a"] })).status, 200);
    assert_eq!(reads("/delete_by_ids", json!({ "ids": ["a"] })).status, 403);

    let serve = serve_in(serve.stop("TERM"), &[]);
    let info = serve.call("GET", &format!("{BASE}/info"), None).json()["result"].clone();
    assert_eq!((&info["vectorCount"], &info["dimensions"]), (&json!(5001), &json!(32)));
}

#[test]
fn skep_deploy_makes_the_index_that_the_configuration_describes() {
    let serve = serve();
    let dir = bound(&serve, "maker", "made");
    let early = try_deploy(&serve, &dir, &[]);
    assert!(!early.success && early.text.contains("wrangler vectorize create made"), "{}", early.text);
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(dir.join("wrangler.json")).unwrap()).unwrap();
    config["vectorize"][0]["dimensions"] = 48.into();
    config["vectorize"][0]["metric"] = "euclidean".into();
    std::fs::write(dir.join("wrangler.json"), config.to_string()).unwrap();
    let done = try_deploy(&serve, &dir, &[]);
    assert!(done.success, "{}", done.text);
    let index = serve.call("GET", "/vectorize/v2/indexes/made", None).json()["result"].clone();
    assert_eq!(index["config"], json!({ "dimensions": 48, "metric": "euclidean" }));
    assert_eq!(ask_node(&serve, "maker.main.localhost", "describe", json!([]))["dimensions"], 48);
    let again = try_deploy(&serve, &dir, &["--json"]);
    assert!(again.success && again.text.contains("\"done\":[]"), "{}", again.text);
    // Stock wrangler takes the file as it is.
    serve.wrangler(&dir, &["deploy"]);
    assert_eq!(ask_node(&serve, "maker.main.localhost", "describe", json!([]))["dimensions"], 48);
}

#[test]
fn indexes_move_to_another_account_and_into_files() {
    let (from, to) = (serve(), serve());
    let made = json!({ "name": "docs", "description": "why", "config": { "dimensions": 32, "metric": "euclidean" } });
    from.call("POST", "/vectorize/v2/indexes", Some(&made));
    const BASE: &str = "/vectorize/v2/indexes/docs";
    let property = json!({ "propertyName": "kind", "indexType": "string" });
    from.call("POST", &format!("{BASE}/metadata_index/create"), Some(&property));
    let line = |n: usize| {
        let metadata = json!({ "kind": if n == 7 { "seven" } else { "other" } });
        let vector = json!({ "id": format!("v{n:04}"), "values": values(&[n as f64 + 0.1]), "metadata": metadata, "namespace": "all" });
        vector.to_string()
    };
    let lines: Vec<String> = (0..1100).map(line).collect();
    let ndjson = [("content-type", "application/x-ndjson")];
    let sent = from.own_call("POST", &format!("{BASE}/insert"), &ndjson, Some(lines.join("\n").as_bytes()));
    assert_eq!(sent.status, 200, "{}", sent.text());

    let mut import = Command::new(env!("CARGO_BIN_EXE_skep"));
    import
        .args(["import", "--from", &from.api, "--only", "vectorize", "--data"])
        .arg(to.dir.path().join("data"));
    import.arg("--state").arg(to.dir.path().join("state.json"));
    import.env("CLOUDFLARE_ACCOUNT_ID", &from.account).env("CLOUDFLARE_API_TOKEN", &from.token);
    let ran = run(&mut import);
    assert!(ran.success && ran.text.contains("vectorize/docs: 1100 vectors"), "{}", ran.text);
    let same = |path: &str| {
        let [there, here] = [&from, &to]
            .map(|serve| serve.call("GET", &format!("{BASE}{path}"), None).json()["result"].clone());
        (there, here)
    };
    let (there, here) = same("");
    assert_eq!((&there["config"], &there["description"]), (&here["config"], &here["description"]));
    let (there, here) = same("/metadata_index/list");
    assert_eq!(there, here);
    let ask = json!({ "vector": values(&[0.0]), "filter": { "kind": "seven" }, "namespace": "all", "returnValues": true });
    let [there, here] =
        [&from, &to].map(|serve| serve.call("POST", &format!("{BASE}/query"), Some(&ask)).json());
    assert_eq!(there["result"]["matches"][0]["id"], "v0007");
    assert_eq!(there["result"], here["result"]);

    let out = to.dir.path().join("out");
    let mut export = Command::new(env!("CARGO_BIN_EXE_skep"));
    export.arg("export").arg(&out).args(["--only", "vectorize", "--data"]).arg(to.dir.path().join("data"));
    let ran = run(&mut export);
    assert!(ran.success && ran.text.contains("vectorize/docs: 1100 vectors"), "{}", ran.text);
    let about: Value =
        serde_json::from_slice(&std::fs::read(out.join("vectorize/docs.json")).unwrap()).unwrap();
    assert_eq!(
        (&about["config"]["metric"], &about["metadataIndexes"]),
        (&json!("euclidean"), &json!([property]))
    );
    // wrangler takes them up again.
    let file = out.join("vectorize/docs.ndjson");
    to.wrangler(&out, &["vectorize", "create", "again", "--dimensions=32", "--metric=cosine"]);
    let text = to.wrangler(&out, &["vectorize", "insert", "again", "--file", file.to_str().unwrap()]);
    assert!(text.contains("Successfully enqueued 1100 vectors"), "{text}");
}
