//! Hyperdrive configurations, under the ids that they have there. Their passwords cannot be read: they are asked for.

use http::Method;
use serde_json::{Value as Json, json};

use super::{Copy, Mark, Wanted, pages, text};

const CONFIGS: &str = "{account}/hyperdrive/configs";

/// The variable that has the password of the configuration `name`.
fn variable(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("SKEP_HYPERDRIVE_PASSWORD_{}", name.chars().map(letter).collect::<String>())
}

/// Makes those whose passwords are given. What cannot be made is noted, and keeps nothing else from coming.
pub(super) async fn copy(copy: &mut Copy<'_>, wanted: &Wanted, print: &impl Fn(&str)) -> Result<(), String> {
    let all = match pages(copy.from, CONFIGS, 20, None).await {
        Ok(all) => all,
        // A token that may not see them, or a server that has none.
        Err(error) => {
            copy.notes.push(format!("hyperdrive: cannot be read with this token: {error}"));
            return Ok(());
        }
    };
    for config in all {
        let (Some(own), Some(id)) = (config["name"].as_str(), config["id"].as_str()) else { continue };
        let name = format!("hyperdrive/{own}");
        if !wanted.has(&name) || copy.is_done(&name, print) {
            continue;
        }
        let there = copy.to.find(format!("{CONFIGS}/{id}"), &[]).await.map_err(text)?.is_some();
        if !there {
            let variable = variable(own);
            let Some(password) = (copy.variable)(&variable) else {
                copy.notes.push(format!(
                    "{name}: its password cannot be read; set {variable} and give the same command again"
                ));
                continue;
            };
            let made = copy.to.call(Method::POST, CONFIGS).json(&body(&config, &password)).send().await;
            if let Err(error) = made {
                copy.notes.push(format!("{name}: {error}"));
                continue;
            }
        }
        if ["ca_certificate_id", "mtls_certificate_id"].iter().any(|key| config["mtls"][*key].is_string()) {
            copy.notes.push(format!("{name}: its certificates stay where they are"));
        }
        copy.keep(&name, Mark { cursor: None, copied: 1, done: true })?;
        print(&format!("{name}: is there"));
    }
    Ok(())
}

fn body(config: &Json, password: &str) -> Json {
    let mut origin = config["origin"].clone();
    origin["password"] = password.into();
    let mut body = json!({ "id": config["id"], "name": config["name"], "origin": origin });
    for key in ["caching", "origin_connection_limit"] {
        if !config[key].is_null() {
            body[key] = config[key].clone();
        }
    }
    if config["mtls"]["sslmode"].is_string() {
        body["mtls"] = json!({ "sslmode": config["mtls"]["sslmode"] });
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_made_as_it_is_there_with_a_password_from_a_variable() {
        assert_eq!(variable("shop-db 2"), "SKEP_HYPERDRIVE_PASSWORD_SHOP_DB_2");
        let config = json!({
            "id": "i", "name": "n", "origin": { "host": "h" }, "caching": { "disabled": true }, "created_on": "x",
            "mtls": { "sslmode": "verify-full", "ca_certificate_id": "c" },
        });
        let expected = json!({
            "id": "i", "name": "n", "origin": { "host": "h", "password": "p" }, "caching": { "disabled": true },
            "mtls": { "sslmode": "verify-full" },
        });
        assert_eq!(body(&config, "p"), expected);
    }
}
