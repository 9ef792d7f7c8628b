//! API tokens, and what was done with them.
//! <https://developers.cloudflare.com/api/resources/user/subresources/tokens/>
//!
//! A token belongs to an account; there are no users. What Cloudflare offers below `/user` and below an account is the
//! same here.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_catalog::{Terms, Token};

use crate::aside::listed;
use crate::call::Call;
use crate::permissions::{ALL, BUCKET, GROUPS, missing};
use crate::r2_buckets::{R2Access, bucket_of, is_account};
use crate::reply::{Answer, ApiError, ok, page, time};

/// The longest name of a token.
pub(crate) const MAX_NAME: usize = 120;
/// Bytes of what a token is to be: it is read again whenever tokens are listed.
const MAX_TOKEN: usize = 256 << 10;

#[derive(Deserialize)]
struct Asked {
    name: String,
    policies: Vec<Policy>,
    #[serde(default)]
    condition: Json,
    not_before: Option<String>,
    expires_on: Option<String>,
    status: Option<String>,
}

#[derive(Deserialize)]
struct Policy {
    effect: String,
    resources: serde_json::Map<String, Json>,
    permission_groups: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

fn bad(text: impl Into<String>) -> ApiError {
    ApiError::bad(1001, text)
}

impl Asked {
    /// Checks what is asked for; `by` is the token that asks.
    fn terms(self, by: &Token) -> Result<Terms, ApiError> {
        if self.name.trim().is_empty() || self.name.chars().count() > MAX_NAME {
            return Err(bad(format!("The name of a token has 1 to {MAX_NAME} characters.")));
        }
        if self.condition.as_object().is_some_and(|condition| !condition.is_empty()) {
            return Err(bad("Skep has no conditions on tokens: leave \"condition\" out."));
        }
        let mut permissions = Vec::new();
        let mut policies = Vec::new();
        for policy in self.policies {
            policies.push(policy.check(&by.account, &mut permissions)?);
        }
        permissions.sort_unstable();
        permissions.dedup();
        if permissions.is_empty() {
            return Err(bad("A token needs a permission group."));
        }
        if let Some(more) = missing(&by.terms.permissions, &permissions) {
            let name = GROUPS.iter().find(|group| group.id == *more).map_or("", |group| group.name);
            let text = format!("A token cannot give a permission that it does not have: \"{name}\".");
            return Err(ApiError::new(StatusCode::FORBIDDEN, 10000, text));
        }
        let disabled = match self.status.as_deref() {
            None | Some("active" | "expired") => false,
            Some("disabled") => true,
            Some(other) => return Err(bad(format!("A token has no status \"{other}\"."))),
        };
        let moment = |name: &str, text: Option<String>| match text {
            None => Ok(None),
            Some(text) => parse_time(&text).map(Some).ok_or_else(|| {
                bad(format!("\"{name}\" is \"{text}\", which is no time such as 2030-01-01T00:00:00Z."))
            }),
        };
        let policies = Json::Array(policies).to_string();
        let terms = Terms {
            name: self.name,
            permissions,
            policies,
            not_before_ms: moment("not_before", self.not_before)?,
            expires_ms: moment("expires_on", self.expires_on)?,
            disabled,
        };
        // The same permission is not the same for one bucket and for all.
        if !R2Access::by(&terms, &by.account).is_within(&R2Access::of(by)) {
            let text = "A token cannot give a permission on buckets that it does not have.";
            return Err(ApiError::new(StatusCode::FORBIDDEN, 10000, text));
        }
        Ok(terms)
    }
}

impl Policy {
    fn check(self, account: &str, permissions: &mut Vec<String>) -> Result<Json, ApiError> {
        if self.effect != "allow" {
            return Err(bad(format!(
                "Skep has no policies with the effect \"{}\": only \"allow\".",
                self.effect
            )));
        }
        for resource in self.resources.keys() {
            let own = format!("com.cloudflare.api.account.{account}");
            let fits = is_account(resource, account)
                || resource.starts_with("com.cloudflare.api.account.zone.")
                || bucket_of(resource, account).is_some();
            if !fits {
                return Err(bad(format!(
                    "\"{resource}\" is not of this account: the resource is \"{own}\"."
                )));
            }
        }
        if self.resources.is_empty() {
            return Err(bad("A policy needs a resource."));
        }
        // What is not about buckets would be given on all of the account, which is not what was said.
        let on_bucket = self.resources.keys().find(|resource| bucket_of(resource, account).is_some());
        let mut groups = Vec::new();
        for Named { id } in self.permission_groups {
            let group = GROUPS.iter().find(|group| group.id == id);
            let group = group.ok_or_else(|| {
                bad(format!(
                    "There is no permission group \"{id}\": see the list at tokens/permission_groups."
                ))
            })?;
            if let Some(resource) = on_bucket.filter(|_| group.scope != BUCKET) {
                return Err(bad(format!(
                    "\"{}\" is given on an account, not on a bucket: take \"{resource}\" out of its policy.",
                    group.name
                )));
            }
            groups.push(json!({ "id": group.id, "name": group.name }));
            permissions.push(id);
        }
        Ok(json!({
            "id": uuid::Uuid::new_v4().simple().to_string(),
            "effect": "allow",
            "resources": self.resources,
            "permission_groups": groups,
        }))
    }
}

fn parse_time(text: &str) -> Option<i64> {
    let at = humantime::parse_rfc3339_weak(text).ok()?;
    i64::try_from(at.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis()).ok()
}

fn shown(token: &Token, now_ms: i64) -> Json {
    let terms = &token.terms;
    let status = match () {
        () if terms.disabled => "disabled",
        () if terms.expires_ms.is_some_and(|at| at <= now_ms) => "expired",
        () => "active",
    };
    let policies = match terms.permissions.iter().any(|p| p == ALL) {
        true => json!([{
            "id": token.id,
            "effect": "allow",
            "resources": { (format!("com.cloudflare.api.account.{}", token.account)): "*" },
            "permission_groups": GROUPS.iter().map(|g| json!({ "id": g.id, "name": g.name })).collect::<Vec<_>>(),
        }]),
        false => serde_json::from_str(&terms.policies).unwrap_or_else(|_| json!([])),
    };
    let mut shown = json!({
        "id": token.id, "name": terms.name, "status": status, "policies": policies,
        "issued_on": time(token.created_ms), "modified_on": time(token.modified_ms),
    });
    for (name, at) in [("not_before", terms.not_before_ms), ("expires_on", terms.expires_ms)] {
        if let Some(at) = at {
            shown[name] = time(at).into();
        }
    }
    shown
}

fn found(call: &Call) -> Result<Token, ApiError> {
    let all = call.api.registry.tokens(&call.token.account)?;
    let found = all.into_iter().find(|token| token.id == call.param(0));
    found.ok_or_else(|| ApiError::not_found(1003, "API token not found"))
}

pub(crate) async fn groups(call: Call) -> Answer {
    let (name, scope) = (call.query("name"), call.query("scope"));
    let wanted = GROUPS.iter().filter(|group| {
        name.as_deref().is_none_or(|name| group.name == name)
            && scope.as_deref().is_none_or(|scope| group.scope == scope)
    });
    let shown: Vec<Json> =
        wanted.map(|group| json!({ "id": group.id, "name": group.name, "scopes": [group.scope] })).collect();
    ok(shown.into())
}

pub(crate) async fn list(call: Call) -> Answer {
    listed(call, list_of).await
}

fn list_of(call: &Call) -> Answer {
    let (number, per_page) = call.page(20)?;
    let mut all = call.api.registry.tokens(&call.token.account)?;
    if call.descending()? {
        all.reverse();
    }
    page(all.iter().map(|token| shown(token, call.now_ms())).collect(), number, per_page)
}

pub(crate) async fn get(call: Call) -> Answer {
    ok(shown(&found(&call)?, call.now_ms()))
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let asked: Asked = call.json_within(MAX_TOKEN, 10026).await?;
    let terms = asked.terms(&call.token)?;
    let now = call.now_ms();
    let (token, secret) = call.api.registry.add_token(&call.token.account, terms, now).await?;
    let mut made = shown(&token, now);
    made["value"] = secret.into();
    ok(made)
}

pub(crate) async fn update(mut call: Call) -> Answer {
    let mut token = found(&call)?;
    let asked: Asked = call.json_within(MAX_TOKEN, 10026).await?;
    let now = call.now_ms();
    token.terms = asked.terms(&call.token)?;
    token.modified_ms = now;
    call.api.registry.change_token(&token.account, &token.id, token.terms.clone(), now).await?;
    ok(shown(&token, now))
}

pub(crate) async fn delete(call: Call) -> Answer {
    let token = found(&call)?;
    call.api.registry.revoke_token(&token.account, &token.id, call.now_ms()).await?;
    ok(json!({ "id": token.id }))
}

/// Another secret for the same token.
pub(crate) async fn roll(call: Call) -> Answer {
    let token = found(&call)?;
    let more = missing(&call.token.terms.permissions, &token.terms.permissions).is_some();
    if more || !R2Access::of(&token).is_within(&R2Access::of(&call.token)) {
        let text = "A token cannot take the place of one with more permissions.";
        return Err(ApiError::new(StatusCode::FORBIDDEN, 10000, text));
    }
    let rolled = call.api.registry.roll_token(&token.account, &token.id, call.now_ms()).await?;
    ok(rolled.into())
}

/// Every change that was asked for, the newest first.
/// <https://developers.cloudflare.com/api/resources/audit_logs/>
pub(crate) async fn audit(call: Call) -> Answer {
    listed(call, audit_of).await
}

fn audit_of(call: &Call) -> Answer {
    let (number, per_page) = call.page(100)?;
    let all = call.api.registry.audited(&call.token.account, number.saturating_mul(per_page))?;
    let skipped = (number - 1).saturating_mul(per_page);
    let entries = all.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX)).map(|entry| {
        json!({
            "id": format!("{}-{}", entry.at_ms, entry.token),
            "when": time(entry.at_ms),
            "action": { "type": entry.action, "result": entry.outcome < 400 },
            "actor": { "type": "token", "id": entry.token },
            "owner": { "id": entry.account },
            "interface": "API",
            "metadata": { "status": entry.outcome },
        })
    });
    ok(entries.collect::<Vec<_>>().into())
}
