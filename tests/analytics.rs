//! What scripts write to Analytics Engine is asked for in SQL over the API, as at Cloudflare.

use serde_json::{Value, json};

use crate::harness::accounts::add;
use crate::harness::serve::{Serve, serve, serve_in};
use crate::harness::{Answer, eventually};

const WORKER: &str = r#"export default { async fetch(request, env) {
  const { searchParams } = new URL(request.url);
  for (const [city, temperature] of searchParams)
    env.WEATHER.writeDataPoint({ indexes: [city], blobs: [city, "c"], doubles: [Number(temperature), 1] });
  return new Response("written");
} }"#;
const CONFIG: &str = r#"{ "name": "station", "main": "index.js", "compatibility_date": "2026-07-01",
  "analytics_engine_datasets": [{ "binding": "WEATHER", "dataset": "weather" }] }"#;
const PATH: &str = "/analytics_engine/sql";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Asks as curl's `--data` does.
fn ask(serve: &Serve, account: &str, token: &str, query: &str) -> Answer {
    let (path, authorization) = (format!("/accounts/{account}{PATH}"), format!("Bearer {token}"));
    serve.raw_call("POST", &path, &[FORM, ("authorization", &authorization)], Some(query.as_bytes()))
}

#[test]
fn points_are_asked_for_in_sql() {
    let first = serve();
    let (account, token) = (first.account.clone(), first.token.clone());
    let dir = first.stop("TERM");
    let (other, other_token) = add(&dir.path().join("data/registry.sqlite"));
    let serve = serve_in(dir, &[]);
    let project = serve.project("station", &[("index.js", WORKER), ("wrangler.jsonc", CONFIG)]);
    serve.wrangler(&project, &["deploy"]);
    let host = "station.main.localhost";
    assert_eq!(serve.get(host, "/?Oslo=4.5&Rome=21&Oslo=6.5").text(), "written");

    let asked = |query: &str| ask(&serve, &account, &token, query);
    eventually("the points", || {
        (asked("SELECT count() AS n FROM weather").json()["data"][0]["n"] == "3").then_some(())
    });
    let average = "SELECT blob1 AS city, SUM(_sample_interval * double1) / SUM(_sample_interval) AS average, count() AS n
        FROM weather WHERE timestamp > NOW() - INTERVAL '1' DAY GROUP BY city ORDER BY city";
    let answer = asked(average);
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(
        answer.json(),
        json!({
            "meta": [{ "name": "city", "type": "String" }, { "name": "average", "type": "Float64" }, { "name": "n", "type": "UInt64" }],
            "data": [{ "city": "Oslo", "average": 5.5, "n": "2" }, { "city": "Rome", "average": 21, "n": "1" }],
            "rows": 2,
        })
    );
    assert_eq!(asked("SHOW TABLES FORMAT JSONEachRow").text(), "{\"dataset\":\"weather\"}\n");
    // As ClickHouse's clients ask.
    let in_url = "query=SELECT%20max(double1)%20FROM%20weather%20FORMAT%20TabSeparated";
    let in_url = serve.call("GET", &format!("{PATH}?{in_url}"), None);
    assert_eq!((in_url.status, in_url.text()), (200, "21\n".to_owned()));
    let wrong = asked("SELECT CASE WHEN 1 = 1 THEN 1 END FROM weather");
    assert_eq!(wrong.status, 422);
    assert!(
        wrong.text().starts_with("Input was invalid: unsupported expression type: CASE WHEN"),
        "{}",
        wrong.text()
    );

    // One account's points are nobody else's, by whatever token.
    assert_eq!(ask(&serve, &other, &other_token, "SELECT * FROM weather").json()["data"], json!([]));
    assert_eq!(ask(&serve, &account, &other_token, "SHOW TABLES").status, 403);
    let group = |name: &str| -> Value {
        let groups = serve.call("GET", "/tokens/permission_groups", None).json();
        groups["result"].as_array().unwrap().iter().find(|group| group["name"] == name).unwrap().clone()
    };
    for (name, status) in [("Account Analytics Read", 200), ("Workers Scripts Write", 403)] {
        let resources = json!({ format!("com.cloudflare.api.account.{account}"): "*" });
        let policy = json!({ "effect": "allow", "permission_groups": [{ "id": group(name)["id"] }], "resources": resources });
        let made = serve.call("POST", "/tokens", Some(&json!({ "name": name, "policies": [policy] })));
        let token = made.json()["result"]["value"].as_str().unwrap().to_owned();
        assert_eq!(ask(&serve, &account, &token, "SHOW TABLES").status, status, "{name}");
    }
}
