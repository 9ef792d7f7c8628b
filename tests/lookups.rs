//! What wrangler and the SDKs ask for now and then: searches, settings, older and newer views of a script, what there is
//! none of.

use serde_json::{Value, json};

use crate::harness::serve::{Serve, serve};

const CODE: &str = "export default { fetch() { return new Response(\"hello\"); } };";

fn upload(serve: &Serve, name: &str) {
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01", "limits": { "cpu_ms": 50 },
        "bindings": [{ "type": "plain_text", "name": "A", "text": "b" }],
    });
    assert_eq!(serve.upload(name, &metadata, CODE).status, 200);
}

fn get(serve: &Serve, path: &str) -> Value {
    let answer = serve.call("GET", path, None);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()["result"].clone()
}

fn refused(serve: &Serve, method: &str, path: &str, body: Option<&Value>) -> u64 {
    let answer = serve.call(method, path, body).json();
    assert_eq!(answer["success"], false, "{method} {path}: {answer}");
    answer["errors"][0]["code"].as_u64().unwrap()
}

#[test]
fn scripts_are_found_and_seen_in_their_older_and_newer_views() {
    let serve = serve();
    ["shop", "shop-api", "blog"].iter().for_each(|name| upload(&serve, name));
    let names = |list: Value, key: &str| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one[key].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(get(&serve, "/workers/scripts-search?name=shop"), "script_name"), ["shop", "shop-api"]);
    let id = get(&serve, "/workers/scripts-search?name=blog")[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(names(get(&serve, &format!("/workers/scripts-search?id={id}")), "script_name"), ["blog"]);
    assert_eq!(refused(&serve, "GET", "/workers/scripts-search?order_by=size", None), 10001);

    assert_eq!(
        names(get(&serve, "/workers/workers?order_by=name&order=asc&per_page=2"), "name"),
        ["blog", "shop"]
    );
    assert_eq!(names(get(&serve, "/workers/workers?order_by=created_on&per_page=1"), "name"), ["blog"]);
    assert_eq!(serve.call("DELETE", &format!("/workers/workers/{id}"), None).status, 200);
    assert_eq!(refused(&serve, "GET", "/workers/workers/blog", None), 10007);

    let environment = "/workers/services/shop/environments/production";
    assert_eq!(get(&serve, &format!("{environment}/settings"))["bindings"][0]["name"], "A");
    let tags = json!({ "tags": ["new"] });
    assert_eq!(
        serve.call("PATCH", &format!("{environment}/settings"), Some(&tags)).json()["result"]["tags"],
        json!(["new"])
    );
    assert!(serve.call("GET", &format!("{environment}/content"), None).text().contains(CODE));
    assert_eq!(refused(&serve, "GET", "/workers/services/shop/environments/staging/settings", None), 10090);
    assert_eq!(get(&serve, "/workers/scripts/shop/usage-model")["user_limits"]["cpu_ms"], 50);
    assert_eq!(get(&serve, "/workers/account-settings")["default_usage_model"], "standard");
    let bundled = json!({ "default_usage_model": "bundled" });
    assert_eq!(refused(&serve, "PUT", "/workers/account-settings", Some(&bundled)), 10026);
    assert_eq!(get(&serve, "/workers/placement/regions"), json!({ "providers": [] }));
}

#[test]
fn a_route_of_a_zone_is_read_by_its_id() {
    let serve = serve();
    upload(&serve, "shop");
    let call =
        |method: &str, path: &str, body: Option<&[u8]>| serve.token_call(method, path, &[], body).json();
    let zones = call("GET", "/zones?name=example.com", None);
    let routes = format!("/zones/{}/workers/routes", zones["result"][0]["id"].as_str().unwrap());
    let made = call("POST", &routes, Some(br#"{ "pattern": "example.com/shop/*", "script": "shop" }"#));
    let id = made["result"]["id"].as_str().unwrap();
    assert_eq!(call("GET", &format!("{routes}/{id}"), None)["result"], made["result"]);
    assert_eq!(call("GET", &format!("{routes}/none"), None)["errors"][0]["code"], 10009);
}

#[test]
fn a_deployment_is_forgotten_unless_it_takes_requests() {
    let serve = serve();
    upload(&serve, "shop");
    upload(&serve, "shop");
    let path = "/workers/scripts/shop/deployments";
    let all = get(&serve, path)["deployments"].clone();
    let id = |n: usize| all[n]["id"].as_str().unwrap().to_owned();
    assert_eq!(refused(&serve, "DELETE", &format!("{path}/{}", id(0)), None), 10337);
    assert_eq!(serve.call("DELETE", &format!("{path}/{}", id(1)), None).status, 200);
    assert_eq!(refused(&serve, "DELETE", &format!("{path}/{}", id(1)), None), 10336);
    assert_eq!(get(&serve, path)["deployments"].as_array().unwrap().len(), 1);
    assert_eq!(serve.get("shop.main.localhost", "/").text(), "hello");
}

#[test]
fn many_objects_are_deleted_at_once_and_counted() {
    let serve = serve();
    assert_eq!(serve.call("POST", "/r2/buckets", Some(&json!({ "name": "things" }))).status, 200);
    let objects = "/r2/buckets/things/objects";
    for key in ["a/1", "a/2", "b/1", "b/2", "c"] {
        let class = if key == "c" { "InfrequentAccess" } else { "Standard" };
        let headers = [("cf-r2-storage-class", class)];
        let put = serve.own_call("PUT", &format!("{objects}/{key}"), &headers, Some(b"12345"));
        assert_eq!(put.status, 200);
    }
    let counted = get(&serve, "/r2/metrics");
    let published = |class: &str| counted[class]["published"].clone();
    assert_eq!(
        (&published("standard")["objects"], &published("standard")["payloadSize"]),
        (&json!(4), &json!(20))
    );
    assert_eq!(published("infrequentAccess")["objects"], 1);

    let keys = || -> Vec<String> {
        let all = get(&serve, objects);
        all.as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap().to_owned()).collect()
    };
    let gone = serve.call("DELETE", objects, Some(&json!(["a/1", "none"]))).json();
    assert_eq!(gone["result"], json!([{ "key": "a/1" }, { "key": "none" }]));
    for wrong in [json!([1]), json!({}), json!("a/2")] {
        assert_eq!(refused(&serve, "DELETE", objects, Some(&wrong)), 10040, "{wrong}");
    }
    assert_eq!(refused(&serve, "DELETE", objects, None), 10040, "nothing named is not everything");
    assert_eq!(refused(&serve, "DELETE", &format!("{objects}?prefix=b"), Some(&json!(["c"]))), 10040);
    assert_eq!(keys(), ["a/2", "b/1", "b/2", "c"]);
    let job = serve.call("DELETE", &format!("{objects}?prefix=b/"), None).json()["result"].clone();
    let expected = json!({ "prefix": "b/", "deletedObjects": 2, "isBucketClear": false });
    assert_eq!((&job["status"], &job["prefixDelete"]), (&json!("COMPLETED"), &expected));
    assert_eq!(keys(), ["a/2", "c"]);
    assert_eq!(serve.call("DELETE", &format!("{objects}?prefix="), None).status, 200);
    assert_eq!(keys(), [""; 0]);
    nothing_is_pretended(&serve);
}

/// What a bucket has none of is said to be off; switching it on is refused.
fn nothing_is_pretended(serve: &Serve) {
    let bucket = "/r2/buckets/things";
    assert_eq!(get(serve, &format!("{bucket}/domains/managed"))["enabled"], false);
    assert_eq!(get(serve, &format!("{bucket}/sippy")), json!({ "enabled": false }));
    assert_eq!(serve.call("DELETE", &format!("{bucket}/cors"), None).status, 200);
    let notifications = "/event_notifications/r2/things/configuration";
    assert_eq!(get(serve, notifications), json!({ "bucketName": "things", "queues": [] }));
    let on = json!({ "enabled": true });
    assert_eq!(refused(serve, "PUT", &format!("{bucket}/local-uploads"), Some(&on)), 10058);
    assert_eq!(
        refused(serve, "PUT", &format!("{notifications}/queues/q"), Some(&json!({ "rules": [] }))),
        11000
    );
    assert_eq!(refused(serve, "GET", "/r2/buckets/none/sippy", None), 10006);
    let dir = serve.project("bucket", &[("wrangler.jsonc", "{}")]);
    assert!(serve.wrangler(&dir, &["r2", "bucket", "dev-url", "get", "things"]).contains("disabled"));
    serve.wrangler(&dir, &["r2", "bucket", "notification", "list", "things"]);
}

#[test]
fn an_account_without_a_subdomain_has_no_addresses_until_it_has_one() {
    let serve = serve();
    upload(&serve, "shop");
    assert_eq!(serve.get("shop.main.localhost", "/").text(), "hello");
    let subdomain = "/workers/subdomain";
    assert_eq!(get(&serve, subdomain), json!({ "subdomain": "main" }));
    assert_eq!(serve.call("DELETE", subdomain, None).status, 204);
    assert_eq!(serve.get("shop.main.localhost", "/").status, 404);
    assert_eq!(refused(&serve, "GET", subdomain, None), 10007);
    assert_eq!(refused(&serve, "DELETE", subdomain, None), 10007);
    let worker = get(&serve, "/workers/workers/shop");
    assert_eq!((&worker["subdomain"]["enabled"], &worker["subdomain"]["url"]), (&json!(true), &Value::Null));
    // Wrangler says what is missing.
    let dir = serve.project(
        "shop",
        &[
            ("index.js", CODE),
            (
                "wrangler.jsonc",
                r#"{ "name": "shop", "main": "index.js", "compatibility_date": "2026-07-01" }"#,
            ),
        ],
    );
    let ran = serve.try_wrangler(&dir, &["deploy"], "");
    assert!(!ran.success && ran.text.contains("workers.dev subdomain"), "{}", ran.text);
    // Below this one buckets are public.
    assert_eq!(refused(&serve, "PUT", subdomain, Some(&json!({ "subdomain": "r2" }))), 10031);
    let named = json!({ "subdomain": "anew" });
    assert_eq!(serve.call("PUT", subdomain, Some(&named)).json()["result"], named);
    assert_eq!(serve.get("shop.anew.localhost", "/").text(), "hello");
    assert_eq!(serve.get("shop.main.localhost", "/").status, 404);
    serve.wrangler(&dir, &["deploy"]);
}
