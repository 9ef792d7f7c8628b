//! The authority's side of RFC 8555.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, Issuer, KeyPair};
use serde_json::{Value, json};

use super::authority::{Log, Rules};
use super::der::SigningRequest;
use super::http::{Reply, Request};
use super::jws::{Jws, Key, decode};
use super::validate::{self, Ports};
use crate::harness::PATIENCE;

#[derive(Default)]
pub struct Order {
    account: String,
    name: String,
    status: &'static str,
    token: String,
    error: Option<String>,
    way: String,
    chain: String,
}

pub struct State {
    pub rules: Rules,
    pub log: Log,
    pub nonces: HashSet<String>,
    pub accounts: HashMap<String, Key>,
    pub orders: Vec<Order>,
    pub ports: Option<Ports>,
}

pub struct Shared {
    pub base: String,
    pub issuer: Issuer<'static, KeyPair>,
    pub state: Mutex<State>,
}

type Answer = Result<(u16, Vec<(&'static str, String)>, Value), (u16, &'static str, String)>;

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub fn answer(self: &Arc<Self>, request: &Request) -> Reply {
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        let mut headers = vec![("Replay-Nonce", nonce.clone()), ("Cache-Control", "no-store".to_owned())];
        let answered = self.dispatch(request);
        self.state().nonces.insert(nonce);
        match answered {
            Ok((status, more, Value::String(pem))) => {
                headers.extend(more);
                headers.push(("Content-Type", "application/pem-certificate-chain".into()));
                Reply { status, headers, body: pem.into_bytes() }
            }
            Ok((status, more, body)) => {
                headers.extend(more);
                headers.push(("Content-Type", "application/json".into()));
                Reply { status, headers, body: body.to_string().into_bytes() }
            }
            Err((status, kind, detail)) => {
                if let (429, Some(seconds)) = (status, self.state().rules.limited) {
                    headers.push(("Retry-After", seconds.to_string()));
                }
                headers.push(("Content-Type", "application/problem+json".into()));
                let kind = format!("urn:ietf:params:acme:error:{kind}");
                let body = json!({ "type": kind, "detail": detail, "status": status });
                Reply { status, headers, body: body.to_string().into_bytes() }
            }
        }
    }

    fn dispatch(self: &Arc<Self>, request: &Request) -> Answer {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/directory") => {
                let [nonce, account, order] = ["/nonce", "/account", "/order"].map(|path| self.url(path));
                let meta = json!({
                    "termsOfService": self.url("/terms"), "externalAccountRequired": self.state().rules.binding.is_some(),
                });
                Ok((
                    200,
                    vec![],
                    json!({ "newNonce": nonce, "newAccount": account, "newOrder": order, "meta": meta }),
                ))
            }
            ("HEAD" | "GET", "/nonce") => Ok((200, vec![], Value::Null)),
            ("POST", _) => self.signed(request),
            _ => Err((405, "malformed", "no such resource".into())),
        }
    }

    /// RFC 8555 §6.2 to §6.5
    fn signed(self: &Arc<Self>, request: &Request) -> Answer {
        let malformed = |what: &str| (400, "malformed", what.to_owned());
        if request.content_type != "application/jose+json" {
            return Err((415, "malformed", "expected application/jose+json".into()));
        }
        let body: Value = serde_json::from_slice(&request.body).map_err(|_| malformed("no JSON"))?;
        let jws = Jws::parse(&body).ok_or_else(|| malformed("no JWS"))?;
        if jws.head["url"] != self.url(&request.path).as_str() {
            return Err((403, "unauthorized", format!("signed for {}", jws.head["url"])));
        }
        let (account, key) = match (request.path.as_str(), jws.head["kid"].as_str()) {
            ("/account", None) => {
                (String::new(), Key::parse(&jws.head["jwk"]).ok_or((400, "badPublicKey", String::new()))?)
            }
            (_, Some(account)) => {
                let known = self.state().accounts.get(account).cloned();
                (account.to_owned(), known.ok_or((400, "accountDoesNotExist", account.to_owned()))?)
            }
            _ => return Err(malformed("neither kid nor jwk")),
        };
        if !jws.is_signed_by(&key) {
            return Err(malformed("the signature is wrong"));
        }
        {
            let mut state = self.state();
            let known = state.nonces.remove(jws.head["nonce"].as_str().unwrap_or_default());
            if !known || state.rules.bad_nonces > 0 {
                state.rules.bad_nonces = state.rules.bad_nonces.saturating_sub(1);
                return Err((400, "badNonce", "try again".into()));
            }
        }
        self.act(&request.path, &account, key, &jws.payload)
    }

    fn act(self: &Arc<Self>, path: &str, account: &str, key: Key, payload: &[u8]) -> Answer {
        let payload: Value = match payload {
            b"" => Value::Null,
            json => serde_json::from_slice(json).map_err(|_| (400, "malformed", "no JSON".to_owned()))?,
        };
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts.as_slice() {
            ["account"] => self.new_account(key, &payload),
            ["account", _] => {
                self.state().log.contacts.push(strings(&payload["contact"]));
                Ok((200, vec![], json!({ "status": "valid", "contact": payload["contact"] })))
            }
            ["order"] => self.new_order(account, &payload),
            [kind, id, rest @ ..] => {
                let id: usize = id.parse().map_err(|_| (404, "malformed", path.to_owned()))?;
                if self.state().orders.get(id).is_none_or(|order| order.account != account) {
                    return Err((403, "unauthorized", "another account's".into()));
                }
                match (*kind, rest) {
                    ("order", []) => Ok((200, vec![], self.shown(id))),
                    ("authorization", []) => Ok((200, vec![], self.authorization(id))),
                    ("challenge", [way]) => self.challenge(id, way, &key),
                    ("finalize", []) => self.finalize(id, &payload),
                    ("certificate", []) => Ok((200, vec![], self.state().orders[id].chain.clone().into())),
                    _ => Err((404, "malformed", path.to_owned())),
                }
            }
            _ => Err((404, "malformed", path.to_owned())),
        }
    }

    fn new_account(&self, key: Key, payload: &Value) -> Answer {
        if payload["termsOfServiceAgreed"] != true {
            return Err((403, "userActionRequired", "agree to the terms".into()));
        }
        let mut state = self.state();
        if let Some((id, secret)) = state.rules.binding {
            let bound = Jws::parse(&payload["externalAccountBinding"]);
            let Some(bound) = bound else {
                return Err((403, "externalAccountRequired", "only for customers".into()));
            };
            if bound.head["kid"] != id
                || bound.head["url"] != self.url("/account")
                || !bound.binds(&key, secret)
            {
                return Err((403, "unauthorized", "the binding is wrong".into()));
            }
        }
        state.log.accounts.push(strings(&payload["contact"]));
        let url = self.url(&format!("/account/{}", state.log.accounts.len()));
        state.accounts.insert(url.clone(), key);
        Ok((201, vec![("Location", url)], json!({ "status": "valid" })))
    }

    fn new_order(&self, account: &str, payload: &Value) -> Answer {
        let mut state = self.state();
        if state.rules.limited.is_some() {
            state.log.limited.push(Instant::now());
            return Err((429, "rateLimited", "slow down".into()));
        }
        let names = payload["identifiers"].as_array().filter(|all| all.len() == 1 && all[0]["type"] == "dns");
        let name = names.and_then(|all| all[0]["value"].as_str()).ok_or((400, "malformed", String::new()))?;
        let id = state.orders.len();
        state.log.orders.push(name.to_owned());
        let token = uuid::Uuid::new_v4().simple().to_string();
        let (account, name) = (account.to_owned(), name.to_owned());
        state.orders.push(Order { account, name, token, status: "pending", ..Order::default() });
        drop(state);
        Ok((201, vec![("Location", self.url(&format!("/order/{id}")))], self.shown(id)))
    }

    fn shown(&self, id: usize) -> Value {
        let state = self.state();
        let order = &state.orders[id];
        let mut shown = json!({
            "status": order.status, "identifiers": [{ "type": "dns", "value": order.name }],
            "authorizations": [self.url(&format!("/authorization/{id}"))], "finalize": self.url(&format!("/finalize/{id}")),
        });
        if order.status == "valid" {
            shown["certificate"] = self.url(&format!("/certificate/{id}")).into();
        }
        shown
    }

    fn authorization(&self, id: usize) -> Value {
        let state = self.state();
        let order = &state.orders[id];
        let status = match order.status {
            "pending" | "invalid" => order.status,
            _ => "valid",
        };
        let challenges: Vec<Value> =
            state.rules.offered.iter().map(|way| shown_challenge(self, id, order, way)).collect();
        json!({ "status": status, "identifier": { "type": "dns", "value": order.name }, "challenges": challenges })
    }

    /// Looks for the proof, on a thread of its own.
    fn challenge(self: &Arc<Self>, id: usize, way: &str, key: &Key) -> Answer {
        let (name, token) = {
            let mut state = self.state();
            way.clone_into(&mut state.orders[id].way);
            (state.orders[id].name.clone(), state.orders[id].token.clone())
        };
        let proof = format!("{token}.{}", key.thumbprint);
        let (shared, chosen) = (self.clone(), way.to_owned());
        let look = std::thread::spawn(move || {
            let result = shared.ports().and_then(|ports| match chosen.as_str() {
                "http-01" => validate::http(ports, &name, &token, &proof),
                _ => validate::tls_alpn(ports, &name, &proof),
            });
            let mut state = shared.state();
            state.orders[id].status = if result.is_ok() { "ready" } else { "invalid" };
            state.orders[id].error = result.clone().err();
            state.log.validations.push((name, chosen, result));
        });
        let is_hasty = self.state().rules.hasty;
        if is_hasty {
            look.join().unwrap();
        }
        let state = self.state();
        Ok((200, vec![], shown_challenge(self, id, &state.orders[id], way)))
    }

    /// Where the node listens, once the test has said so.
    fn ports(&self) -> Result<Ports, String> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(ports) = self.state().ports {
                return Ok(ports);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("the name leads nowhere".into())
    }

    fn finalize(&self, id: usize, payload: &Value) -> Answer {
        let request = decode(&payload["csr"]).and_then(|der| SigningRequest::read(&der));
        let request = request.ok_or((400, "badCSR", "it cannot be read".to_owned()))?;
        let mut state = self.state();
        if state.orders[id].status != "ready" {
            return Err((403, "orderNotReady", state.orders[id].status.into()));
        }
        if request.names != [state.orders[id].name.clone()] {
            return Err((400, "badCSR", format!("it is for {:?}", request.names)));
        }
        let mut params = CertificateParams::new(request.names.clone()).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now - state.rules.age;
        params.not_after = params.not_before + state.rules.life;
        state.orders[id].chain = params.signed_by(&request, &self.issuer).unwrap().pem();
        state.orders[id].status = "valid";
        state.log.issued += 1;
        drop(state);
        Ok((200, vec![], self.shown(id)))
    }
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

fn shown_challenge(shared: &Shared, id: usize, order: &Order, way: &str) -> Value {
    let mut shown = json!({
        "type": way, "url": shared.url(&format!("/challenge/{id}/{way}")), "token": order.token, "status": "pending",
    });
    if order.way == way {
        shown["status"] = match order.status {
            "pending" => "processing".into(),
            "invalid" => "invalid".into(),
            _ => "valid".into(),
        };
        if let Some(error) = &order.error {
            shown["error"] = json!({ "type": "urn:ietf:params:acme:error:unauthorized", "detail": error });
        }
    }
    shown
}
