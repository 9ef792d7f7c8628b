//! `examples/platform`, as its README says.

use serde_json::json;

use crate::harness::serve::serve;
use crate::harness::{eventually, repository};

#[test]
fn a_platform_with_a_hundred_tenants() {
    let serve = serve();
    let dir = serve.copy(&repository().join("examples/platform"));
    serve.wrangler(&dir, &["d1", "create", "platform"]);
    serve.wrangler(&dir, &["dispatch-namespace", "create", "tenants"]);
    serve.wrangler(&dir.join("outbound"), &["deploy"]);
    let dispatcher = dir.join("dispatcher");
    serve.wrangler(&dispatcher, &["d1", "migrations", "apply", "platform", "--remote"]);
    serve.wrangler(&dispatcher, &["deploy"]);
    let said = serve.node(&dir, &["deploy-tenants.mjs", "100"]);
    assert!(said.starts_with("100 tenants in "), "{said}");

    let ask = |host: &str, path: &str| {
        let answer = serve.get(host, path);
        (answer.status, answer.text())
    };
    for number in [1, 37, 100] {
        let answer = ask(&format!("tenant-{number}.tenants.localhost"), "/");
        assert_eq!(answer, (200, format!("tenant-{number} says hello\n")));
    }
    assert_eq!(ask("nobody.tenants.localhost", "/"), (404, "There is no tenant \"nobody\".\n".into()));

    // The plan decides about the outside; a change of plan counts at once.
    let outside = "/outside?url=http://outside.invalid/";
    let refused = ask("tenant-1.tenants.localhost", outside);
    assert_eq!(refused, (403, "Your plan does not reach the internet.\n".into()));
    let change = |plan: &str| {
        let body = json!({ "plan": plan }).to_string();
        serve.send("PUT", "platform.main.localhost", "/tenants/tenant-1", &[], Some(body.as_bytes())).status
    };
    assert_eq!((change("gold"), change("pro")), (400, 200));
    assert_ne!(ask("tenant-1.tenants.localhost", outside).0, 403, "let through, and not found");

    let url = "http://outside.invalid/";
    let expected = json!([
        { "tenant": "tenant-1", "url": url, "allowed": 1 },
        { "tenant": "tenant-1", "url": url, "allowed": 0 },
    ]);
    // The outbound worker writes them down after its answer (`waitUntil`).
    let said = eventually("both requests to be written down", || {
        let said = serve.get("platform.main.localhost", "/").json();
        (said["outside"].as_array().map(Vec::len) == Some(2)).then_some(said)
    });
    assert_eq!(said["outside"], expected);
    assert_eq!(said["tenants"].as_array().unwrap().len(), 100);

    // A script of the namespace is found by its tag.
    let tagged = serve.call("GET", "/workers/dispatch/namespaces/tenants/scripts?tags=pro:yes", None);
    assert_eq!(tagged.json()["result"].as_array().map(Vec::len), Some(10));
}
