//! The project's own domain: what it changes in the configuration. Pure, but for finding the zone.

use serde_json::{Value as Json, json};
use skep_config::edit::{self, EditError, Step};

use crate::client::Client;
use crate::error::ApiError;
use crate::settings::is_hostname;
use crate::triggers;

/// Why a configuration was not edited.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// The value is none.
    #[error("\"{0}\" is not a domain")]
    NotADomain(String),
    /// Nobody knows its zone.
    #[error("there is no zone for {0} in this account: add the domain there first")]
    NoZone(String),
    /// The zone cannot be asked for.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The text cannot be edited.
    #[error(transparent)]
    Edit(#[from] EditError),
}

/// The id of the zone that `domain` is in.
pub async fn zone(client: &Client, domain: &str) -> Result<String, DomainError> {
    if !is_hostname(domain) {
        return Err(DomainError::NotADomain(domain.to_owned()));
    }
    let found = triggers::zone_of(client, &json!({ "pattern": domain })).await?;
    found.ok_or_else(|| DomainError::NoZone(domain.to_owned()))
}

/// The configuration's text with `domain` (and its zone): as a custom domain, with all names below it if `previews`, and
/// without an address below the account's domain. Without a domain: the other way round, without the routes that this has
/// made before. Other routes stay; comments and order, too.
pub fn edited(
    text: &str,
    config: &Json,
    environment: Option<&str>,
    domain: Option<(&str, &str)>,
    previews: bool,
) -> Result<String, DomainError> {
    let path = |key: &str| -> Vec<Step> {
        let within = environment.iter().flat_map(|name| ["env".into(), (*name).into()]);
        within.chain([Step::from(key)]).collect()
    };
    let routes = config["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut wanted: Vec<Json> = Vec::new();
    if let Some((name, zone)) = domain {
        wanted.push(json!({ "pattern": name, "custom_domain": true }));
        if previews {
            wanted.push(json!({ "pattern": format!("*.{name}/*"), "zone_id": zone }));
        }
    }
    // Routes of this module's making: a custom domain, and the names below one.
    let is_domain = |route: &Json| route["custom_domain"] == true;
    let own_names: Vec<&str> =
        routes.iter().filter(|r| is_domain(r)).filter_map(|r| r["pattern"].as_str()).collect();
    let is_own = |route: &Json| {
        let below = route["pattern"].as_str().and_then(|p| p.strip_prefix("*.")?.strip_suffix("/*"));
        is_domain(route) || below.is_some_and(|name| own_names.contains(&name))
    };
    let others = routes.iter().filter(|route| !is_own(route) && !wanted.contains(route)).cloned();
    let all: Vec<Json> = wanted.iter().cloned().chain(others).collect();

    let mut text = text.to_owned();
    let on = domain.is_none();
    if config["workers_dev"] != on
        && (domain.is_some() || !routes.is_empty() || config["workers_dev"] == false)
    {
        text = edit::set(&text, &path("workers_dev"), &on.into())?;
    }
    if all != routes {
        text = match all.is_empty() {
            true => edit::remove(&text, &path("routes"))?,
            false => edit::set(&text, &path("routes"), &all.into())?,
        };
    }
    Ok(text)
}

/// The lines that differ, in the form of `diff -u`.
pub fn diff(before: &str, after: &str, name: &str) -> String {
    const CONTEXT: usize = 3;
    let (a, b): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let rest = |list: &[&str]| list.len() - head;
    let most = rest(&a).min(rest(&b));
    let tail = a.iter().rev().zip(b.iter().rev()).take(most).take_while(|(x, y)| x == y).count();
    let (old, new) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    if old.is_empty() && new.is_empty() {
        return String::new();
    }
    let from = head.saturating_sub(CONTEXT);
    let after_change = &a[a.len() - tail..(a.len() - tail + CONTEXT).min(a.len())];
    let before_change = &a[from..head];
    let around = before_change.len() + after_change.len();
    let mut text = format!(
        "--- {name}\n+++ {name}\n@@ -{},{} +{},{} @@\n",
        from + 1,
        old.len() + around,
        from + 1,
        new.len() + around
    );
    let sides = [(' ', before_change), ('-', old), ('+', new), (' ', after_change)];
    for (sign, line) in sides.iter().flat_map(|(sign, lines)| lines.iter().map(move |line| (sign, line))) {
        text.push_str(&format!("{sign}{line}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{\n  // the name\n  \"name\": \"a\",\n  \"main\": \"x.js\", // the code\n  \"vars\": { \"A\": 1 }\n}\n";

    fn apply(text: &str, domain: Option<(&str, &str)>) -> String {
        let json = skep_config::to_json("w.jsonc".as_ref(), text).unwrap();
        edited(text, &json, None, domain, true).unwrap()
    }

    #[test]
    fn a_domain_comes_and_goes_and_comments_stay() {
        let with = apply(TEXT, Some(("app.example.com", "z1")));
        let json = skep_config::to_json("w.jsonc".as_ref(), &with).unwrap();
        assert_eq!(json["workers_dev"], false);
        let routes = json!([
            { "pattern": "app.example.com", "custom_domain": true },
            { "pattern": "*.app.example.com/*", "zone_id": "z1" },
        ]);
        assert_eq!(json["routes"], routes);
        assert!(with.contains("// the name") && with.contains("// the code"));
        assert_eq!(apply(&with, Some(("app.example.com", "z1"))), with, "once is enough");

        let other =
            skep_config::to_json("w.jsonc".as_ref(), &apply(&with, Some(("b.example.com", "z1")))).unwrap();
        assert_eq!(other["routes"][0]["pattern"], "b.example.com");
        assert_eq!(other["routes"].as_array().unwrap().len(), 2, "the old ones are gone");

        let without = apply(&with, None);
        let json = skep_config::to_json("w.jsonc".as_ref(), &without).unwrap();
        assert_eq!((&json["workers_dev"], json.get("routes")), (&json!(true), None));
        assert_eq!(apply(TEXT, None), TEXT, "workers_dev is on by default");
    }

    #[test]
    fn routes_of_others_stay_and_an_environment_has_its_own() {
        let text = r#"{ "routes": [{ "pattern": "x.com/shop/*", "zone_name": "x.com" }], "env": { "p": { "routes": [] } } }"#;
        let json = skep_config::to_json("w.jsonc".as_ref(), &apply(text, Some(("a.x.com", "z")))).unwrap();
        assert_eq!(json["routes"].as_array().unwrap().len(), 3);
        let after = edited(text, &json!({ "routes": [] }), Some("p"), Some(("a.x.com", "z")), false).unwrap();
        let json = skep_config::to_json("w.jsonc".as_ref(), &after).unwrap();
        assert_eq!(json["env"]["p"]["routes"], json!([{ "pattern": "a.x.com", "custom_domain": true }]));
        assert_eq!((&json["env"]["p"]["workers_dev"], json.get("workers_dev")), (&json!(false), None));
    }

    #[test]
    fn a_diff_shows_what_differs_with_its_surroundings() {
        let after = TEXT.replace("\"x.js\"", "\"y.js\"");
        let expected = "--- f\n+++ f\n@@ -1,6 +1,6 @@\n {\n   // the name\n   \"name\": \"a\",\n-  \"main\": \"x.js\", // the code\n+  \"main\": \"y.js\", // the code\n   \"vars\": { \"A\": 1 }\n }\n";
        assert_eq!(diff(TEXT, &after, "f"), expected);
        assert_eq!(diff(TEXT, TEXT, "f"), "");
        assert!(diff("", "a\n", "f").ends_with("+a\n") && diff("a\n", "", "f").ends_with("-a\n"));
    }
}
