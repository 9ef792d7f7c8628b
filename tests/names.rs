//! A host name is one account's, whatever it is for and however many want it at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use skep_catalog::Registry;

use crate::harness::accounts::{Account, add};
use crate::harness::random::Random;
use crate::harness::serve::{FORM, Serve, form, serve, serve_in};
use crate::harness::{Answer, request, signal};

/// A node with two accounts, each with the script `s`, which says whose it is, and the bucket `files`.
fn node() -> (Serve, [Account; 2]) {
    let first = serve();
    let own = (first.account.clone(), first.token.clone());
    let dir = first.stop("TERM");
    let other = add(&dir.path().join("data/registry.sqlite"));
    let serve = serve_in(dir, &[]);
    let accounts = [("main", own), ("other", other)].map(|(name, (id, token))| {
        let account = Account { id, token, ids: BTreeMap::new() };
        let metadata = json!({ "main_module": "a.js", "compatibility_date": "2026-07-01" });
        let code = format!("export default {{ fetch: () => new Response('{name}') }};");
        let form = form(&metadata, &[("a.js", &code)]);
        let made = account.send(&serve, "PUT", "/workers/scripts/s", FORM, Some(&form));
        assert_eq!(made.status, 200, "{}", made.text());
        account
    });
    for account in &accounts {
        let on = json!({ "enabled": true });
        assert_eq!(call(&serve, account, "POST", "/workers/scripts/s/subdomain", on).status, 200);
        bucket(&serve, account);
    }
    (serve, accounts)
}

fn bucket(serve: &Serve, account: &Account) {
    assert_eq!(call(serve, account, "POST", "/r2/buckets", json!({ "name": "files" })).status, 200);
}

fn call(serve: &Serve, account: &Account, method: &str, path: &str, body: Value) -> Answer {
    account.send(serve, method, path, "application/json", Some(body.to_string().as_bytes()))
}

/// The status, and the code of a refusal.
fn outcome(answer: &Answer) -> (u16, Option<u64>) {
    (answer.status, answer.json()["errors"][0]["code"].as_u64())
}

fn want_domain(serve: &Serve, account: &Account, host: &str) -> Answer {
    call(serve, account, "PUT", "/workers/domains", json!({ "service": "s", "hostname": host }))
}

fn want_bucket(serve: &Serve, account: &Account, host: &str) -> Answer {
    call(serve, account, "POST", "/r2/buckets/files/domains/custom", json!({ "domain": host, "zoneId": "z" }))
}

fn want_routes(serve: &Serve, account: &Account, patterns: &[&str]) -> Answer {
    let routes: Vec<Value> = patterns.iter().map(|pattern| json!({ "pattern": pattern })).collect();
    call(serve, account, "PUT", "/workers/scripts/s/routes", routes.into())
}

fn want_zone_route(serve: &Serve, account: &Account, pattern: &str) -> Answer {
    let body = json!({ "pattern": pattern, "script": "s" }).to_string();
    account.raw(serve, "POST", "/zones/z/workers/routes", "application/json", Some(body.as_bytes()))
}

#[test]
fn of_two_accounts_that_want_a_name_at_once_one_gets_it() {
    let (serve, [main, other]) = node();
    let set = |serve: &Serve, account: &Account, host: &str| {
        let body = json!({ "origins": [{ "hostname": host }], "override_existing_origin": true });
        call(serve, account, "PUT", "/workers/scripts/s/domains/records", body)
    };
    let route =
        |serve: &Serve, account: &Account, host: &str| want_zone_route(serve, account, &format!("{host}/*"));
    type Want<'a> = &'a (dyn Fn(&Serve, &Account, &str) -> Answer + Sync);
    let wants: [(Want<'_>, u64); 4] =
        [(&want_domain, 100_116), (&want_bucket, 10071), (&set, 100_116), (&route, 10020)];
    for round in 0..16 {
        let host = format!("at-once-{round}.test");
        let ((first, a_code), (second, b_code)) = (wants[round % 4], wants[round / 4]);
        let (a, b) = std::thread::scope(|scope| {
            let a = scope.spawn(|| first(&serve, &main, &host));
            let b = second(&serve, &other, &host);
            (a.join().unwrap(), b)
        });
        let won = [a.status == 200, b.status == 200];
        assert_ne!(won[0], won[1], "{round}: {} {}", a.text(), b.text());
        let (lost, code) = if won[0] { (b, b_code) } else { (a, a_code) };
        assert_eq!(outcome(&lost).1, Some(code), "{round}: {}", lost.text());
    }
}

#[test]
fn a_name_is_free_again_when_what_it_was_for_is_gone() {
    let (serve, [main, other]) = node();
    let is_free = |host: &str| {
        let made = want_domain(&serve, &other, host);
        assert_eq!(made.status, 200, "{host}: {}", made.text());
        assert_eq!(serve.get(host, "/").text(), "other", "{host}");
    };
    let domain = want_domain(&serve, &main, "one.test").json()["result"]["id"].as_str().unwrap().to_owned();
    assert_eq!(want_domain(&serve, &main, "script.test").status, 200);
    assert_eq!(want_bucket(&serve, &main, "removed.test").status, 200);
    assert_eq!(want_bucket(&serve, &main, "bucket.test").status, 200);
    assert_eq!(want_routes(&serve, &main, &["left.test/*", "kept.test/*"]).status, 200);
    assert_eq!(serve.get("script.test", "/").text(), "main");

    call(&serve, &main, "DELETE", &format!("/workers/domains/{domain}"), Value::Null);
    is_free("one.test");
    call(&serve, &main, "DELETE", "/r2/buckets/files/domains/custom/removed.test", Value::Null);
    is_free("removed.test");
    assert_eq!(call(&serve, &main, "DELETE", "/r2/buckets/files", Value::Null).status, 200);
    is_free("bucket.test");
    assert_eq!(want_routes(&serve, &main, &["kept.test/*"]).status, 200);
    is_free("left.test");
    assert_eq!(outcome(&want_domain(&serve, &other, "kept.test")), (409, Some(100_116)));
    // What is refused for another reason takes no name.
    let nothing = json!({ "service": "nothing", "hostname": "refused.test" });
    assert_eq!(call(&serve, &main, "PUT", "/workers/domains", nothing).status, 404);
    is_free("refused.test");
    assert_eq!(call(&serve, &main, "DELETE", "/workers/scripts/s", Value::Null).status, 200);
    is_free("script.test");
    is_free("kept.test");
}

#[test]
fn no_route_takes_the_visitors_of_another_account() {
    let (serve, [main, other]) = node();
    let refused = |answer: Answer| assert_eq!(outcome(&answer), (400, Some(10020)), "{}", answer.text());
    assert_eq!(want_domain(&serve, &main, "shop.test").status, 200);
    assert_eq!(want_routes(&serve, &main, &["way.test/a/*"]).status, 200);
    for pattern in ["shop.test/*", "https://Shop.test/deep/*", "way.test/b/*", "s.main.localhost/*"] {
        refused(want_zone_route(&serve, &other, pattern));
        refused(want_routes(&serve, &other, &["free.test/*", pattern]));
    }
    assert_eq!(outcome(&want_domain(&serve, &other, "s.main.localhost")), (409, Some(100_116)));
    // A pattern for many hosts is for those that nobody else has.
    assert_eq!(want_routes(&serve, &other, &["*/*", "*.test/*"]).status, 200);
    refused(want_routes(&serve, &main, &["*.test/*"]));
    assert_eq!(serve.get("shop.test", "/").text(), "main");
    assert_eq!(serve.get("way.test", "/a/b").text(), "main");
    assert_eq!(serve.get("way.test", "/elsewhere").status, 404);
    assert_eq!(serve.get("s.main.localhost", "/").text(), "main");
    assert_eq!(serve.get("any.test", "/").text(), "other");
    // A longer pattern goes before a shorter one, as among one account's.
    assert_eq!(want_routes(&serve, &main, &["*.deep.test/x/*"]).status, 200);
    assert_eq!(serve.get("a.deep.test", "/x/").text(), "main");
    assert_eq!(serve.get("a.deep.test", "/y/").status, 404);
}

#[test]
fn a_crash_leaves_a_name_to_its_owner_or_to_nobody_and_earlier_data_keeps_its_names() {
    let (serve, [main, other]) = node();
    assert_eq!(want_domain(&serve, &main, "had.test").status, 200);
    assert_eq!(want_bucket(&serve, &main, "files.test").status, 200);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // As what ends between the claim and the row leaves it.
    let claim = |dir: &std::path::Path, names: &[&str]| {
        let registry = Registry::open(&dir.join("data/registry.sqlite")).unwrap();
        let names = names.iter().map(|&name| name.to_owned()).collect();
        runtime.block_on(registry.claim(&main.id, names)).unwrap();
    };
    claim(serve.dir.path(), &["half.test", "half-too.test"]);
    assert_eq!(outcome(&want_domain(&serve, &other, "half.test")), (409, Some(100_116)));
    assert_eq!(want_domain(&serve, &main, "half.test").status, 200);
    assert_eq!(want_domain(&serve, &other, "half-too.test").status, 200, "the owner changed something since");
    let dir = serve.stop("KILL");
    claim(dir.path(), &["stale.test", "own.test"]);
    let serve = serve_in(dir, &[]);
    assert_eq!(want_domain(&serve, &main, "own.test").status, 200);
    assert_eq!(want_domain(&serve, &other, "stale.test").status, 200);
    assert_eq!(outcome(&want_domain(&serve, &other, "half.test")), (409, Some(100_116)));

    // As a node without claims left it.
    let dir = serve.stop("KILL");
    let registry = rusqlite::Connection::open(dir.path().join("data/registry.sqlite")).unwrap();
    registry.execute_batch("DROP TABLE claim; PRAGMA user_version = 2").unwrap();
    drop(registry);
    let serve = serve_in(dir, &[]);
    for host in ["had.test", "half.test"] {
        assert_eq!(outcome(&want_domain(&serve, &other, host)), (409, Some(100_116)));
        assert_eq!(serve.get(host, "/").text(), "main");
    }
    assert_eq!(outcome(&want_bucket(&serve, &other, "files.test")), (409, Some(10071)));
    assert_eq!(serve.get("half-too.test", "/").text(), "other");
}

/// The custom domains of an account.
fn domains(serve: &Serve, account: &Account) -> BTreeSet<String> {
    let all = account.send(serve, "GET", "/workers/domains", "application/json", None).json();
    let hosts = all["result"].as_array().unwrap().iter().map(|domain| domain["hostname"].as_str().unwrap());
    hosts.map(str::to_owned).collect()
}

#[test]
fn a_node_that_is_killed_leaves_each_name_to_one_account_or_to_nobody() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let (mut serve, [main, other]) = node();
    for round in 0..4 {
        let host = |n: usize| format!("killed-{round}-{n}.test");
        let had = [domains(&serve, &main), domains(&serve, &other)];
        // Which names an account was told that it has, until nobody answers any more.
        let want_all = |serve: &Serve, account: &Account| {
            let url = format!("{}/accounts/{}/workers/domains", serve.api, account.id);
            let token = format!("Bearer {}", account.token);
            let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
            let mut told = BTreeSet::new();
            for n in 0.. {
                let body = json!({ "service": "s", "hostname": host(n) }).to_string();
                match request(&url, "PUT", &headers, Some(body.as_bytes())) {
                    Ok(answer) if answer.status == 200 => drop(told.insert(host(n))),
                    Ok(answer) => assert_eq!(outcome(&answer), (409, Some(100_116))),
                    Err(_) => return (told, n),
                }
            }
            unreachable!()
        };
        let ((a, reached), (b, also_reached)) = std::thread::scope(|scope| {
            let a = scope.spawn(|| want_all(&serve, &main));
            let b = scope.spawn(|| want_all(&serve, &other));
            std::thread::sleep(Duration::from_millis(100 + random.below(900)));
            signal(serve.pid(), "KILL");
            (a.join().unwrap(), b.join().unwrap())
        });
        serve = serve_in(serve.stop("KILL"), &[]);
        let has = [domains(&serve, &main), domains(&serve, &other)];
        assert!(has[0].is_disjoint(&has[1]), "{has:?}");
        for (told, (had, has)) in [a, b].iter().zip(had.iter().zip(&has)) {
            assert!(has.is_superset(told) && has.is_superset(had), "what was answered is kept");
        }
        // The name that was under way when the node ended, too, has one owner or is free.
        for n in [reached, also_reached] {
            let is_others = has[1].contains(&host(n));
            assert_eq!(want_domain(&serve, &main, &host(n)).status == 200, !is_others, "{}", host(n));
            assert_eq!(want_domain(&serve, &other, &host(n)).status == 200, is_others, "{}", host(n));
        }
    }
}

#[test]
fn names_beneath_a_subdomain_are_its_account_s_alone() {
    let (serve, [main, other]) = node();
    for host in ["main.localhost", "x.main.localhost", "x.y.main.localhost"] {
        assert_eq!(outcome(&want_domain(&serve, &other, host)), (409, Some(100_116)), "{host}");
        assert_eq!(outcome(&want_routes(&serve, &other, &[&format!("{host}/*")])).1, Some(10020), "{host}");
    }
    // Nor before an account has it.
    let want = |account: &Account, name: &str| {
        call(&serve, account, "PUT", "/workers/subdomain", json!({ "subdomain": name }))
    };
    for host in ["s.shop.localhost", "localhost", "*.localhost"] {
        assert_eq!(outcome(&want_routes(&serve, &other, &[&format!("{host}/*")])).1, Some(10020), "{host}");
    }
    // What is below no account's is the operator's, and then not another's subdomain.
    let domain = want_domain(&serve, &main, "s.shop.localhost").json()["result"]["id"].clone();
    assert_eq!(outcome(&want(&other, "shop")).1, Some(10031));
    let path = format!("/workers/domains/{}", domain.as_str().unwrap());
    assert_eq!(call(&serve, &main, "DELETE", &path, Value::Null).status, 200);
    assert_eq!(want(&other, "shop").status, 200);
    assert_eq!(serve.get("s.shop.localhost", "/").text(), "other");
}
