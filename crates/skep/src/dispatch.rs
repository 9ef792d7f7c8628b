//! Dispatch namespaces at work: from a dispatcher to the scripts of its namespace, and from those to the outside.
//! <https://developers.cloudflare.com/cloudflare-for-platforms/workers-for-platforms/>

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use skep_catalog::{Sealer, name_within};
use skep_edge::{CallError, CpuCap, Door, Site};
use skep_fleet::{CF_HEADER, CallerFolder, Worker};
use skep_wire::{BINDING_HEADER, BoxFuture, Request, Response, Service, full, reply};

/// To a script of a namespace: how many requests to others the call may make.
const SUBREQUESTS: HeaderName = HeaderName::from_static("x-skep-subrequests");
/// Which script is meant, from the dispatcher's binding; percent-encoded JSON.
const WANTED: HeaderName = HeaderName::from_static("x-skep-dispatch");
/// What was thrown, to the dispatcher's binding; percent-encoded JSON.
const THROWN: HeaderName = HeaderName::from_static("x-skep-thrown");
/// To a script of a namespace, and back with its requests to the outside: a sealed [`Said`]. To the outbound worker:
/// the parameters, as percent-encoded JSON.
const OUTBOUND: HeaderName = HeaderName::from_static("x-skep-outbound");

/// What is in dispatch namespaces, and what has to do with it.
pub trait Scripts: Send + Sync {
    /// The script of this name within its namespace.
    fn find(&self, script: &str) -> Option<Found>;
    /// The outbound worker of a script's namespace, if any dispatcher names one.
    fn outbound_of(&self, script: &str) -> Option<String>;
    /// A worker outside of namespaces; `None` if nobody knows it.
    fn worker(&self, name: &str) -> Option<Arc<Worker>>;
    /// What seals what a script passes on and must not read.
    fn sealer(&self) -> &Sealer;
    /// Whose scripts these are.
    fn account(&self) -> &str;
}

/// A script of a dispatch namespace.
pub struct Found {
    /// What answers for it.
    pub site: Site,
    /// Whether its namespace lets it see `request.cf`.
    pub trusted: bool,
}

/// The `outbound` of a dispatch namespace binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// The outbound worker.
    pub worker: String,
    /// The parameters that a dispatcher may give it.
    pub params: Vec<String>,
}

impl Outbound {
    /// Reads it from a binding as the API keeps it.
    pub fn of(binding: &Json) -> Option<Self> {
        let outbound = &binding["outbound"];
        let worker = outbound["worker"]["service"].as_str().or_else(|| outbound["worker"].as_str())?;
        let names = outbound["params"].as_array().into_iter().flatten();
        let params = names.filter_map(|param| param["name"].as_str().or_else(|| param.as_str()));
        Some(Self { worker: worker.to_owned(), params: params.map(str::to_owned).collect() })
    }
}

/// What a dispatcher said of the outside, on its way through a script that cannot read it.
#[derive(Serialize, Deserialize)]
struct Said {
    worker: String,
    params: BTreeMap<String, Json>,
}

#[derive(Deserialize)]
struct Wanted {
    name: String,
    outbound: Option<BTreeMap<String, Json>>,
    limits: Option<CallLimits>,
    /// Asks for a way to call methods instead of an answer to the request.
    #[serde(default)]
    rpc: bool,
}

/// The `limits` of `get`.
#[derive(Deserialize)]
struct CallLimits {
    /// Milliseconds.
    #[serde(rename = "cpuMs")]
    cpu_ms: Option<f64>,
    /// Requests to others.
    #[serde(rename = "subRequests")]
    subrequests: Option<f64>,
}

impl CallLimits {
    fn cpu(&self) -> Option<CpuCap> {
        // 0 and what is no number mean no limit of this call's own.
        let cpu = self.cpu_ms.filter(|ms| *ms > 0.0 && *ms < 1e9)?;
        Some(CpuCap(Duration::from_secs_f64(cpu / 1000.0)))
    }

    fn subrequests(&self) -> Option<u32> {
        let most = self.subrequests.filter(|most| (0.0..=f64::from(u32::MAX)).contains(most))?;
        // Within bounds, and what is behind the point does not matter.
        Some(most as u32)
    }
}

/// A dispatch namespace binding.
pub struct Dispatch {
    pub scripts: Weak<dyn Scripts>,
    /// The namespace's id.
    pub namespace: String,
    pub outbound: Option<Outbound>,
}

impl Service for Dispatch {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(
            async move { self.dispatch(request).await.unwrap_or_else(|(name, text)| thrown(name, &text)) },
        )
    }
}

type Thrown = (&'static str, String);

impl Dispatch {
    async fn dispatch(&self, mut request: Request) -> Result<Response, Thrown> {
        let scripts = self.scripts.upgrade().ok_or_else(|| ("Error", "Skep is stopping.".to_owned()))?;
        let wanted: Wanted =
            request.headers_mut().remove(&WANTED).and_then(|value| decoded(&value)).ok_or_else(|| {
                ("TypeError", "The arguments of `get` cannot be written as JSON.".to_owned())
            })?;
        let script = name_within(&self.namespace, &wanted.name);
        let not_found = || ("Error", "Worker not found.".to_owned());
        let Found { site, trusted } = scripts.find(&script).ok_or_else(not_found)?;
        let token = self.token(&*scripts, &script, wanted.outbound.unwrap_or_default())?;
        let cap = wanted.limits.as_ref().and_then(CallLimits::cpu);
        let subrequests = wanted.limits.as_ref().and_then(CallLimits::subrequests);
        if wanted.rpc {
            let worker = site.worker.ok_or_else(not_found)?;
            let caller = request.extensions_mut().remove::<CallerFolder>();
            let said = Props { outbound: token, subrequests };
            return way(&worker, caller, cap, said).await.map_err(|text| ("Error", text));
        }
        let headers = request.headers_mut();
        headers.remove(BINDING_HEADER);
        if !trusted {
            headers.remove(CF_HEADER);
        }
        headers.remove(&OUTBOUND);
        headers.extend(token.map(|token| (OUTBOUND, token)));
        headers.remove(&SUBREQUESTS);
        headers.extend(subrequests.map(|most| (SUBREQUESTS, most.into())));
        if let Some(cap) = cap {
            request.extensions_mut().insert(cap);
        }
        let answer = skep_edge::call(&site, request).await;
        answer.map_err(|error| match error {
            CallError::NotThere => not_found(),
            CallError::Lost => ("Error", "Worker exceeded resource limits.".into()),
            other => ("Error", other.to_string()),
        })
    }

    /// What goes with a call where there is an outbound worker.
    fn token(
        &self,
        scripts: &dyn Scripts,
        script: &str,
        params: BTreeMap<String, Json>,
    ) -> Result<Option<HeaderValue>, Thrown> {
        let Some(outbound) = &self.outbound else { return Ok(None) };
        if let Some(unknown) = params.keys().find(|name| !outbound.params.contains(name)) {
            let text = format!(
                "The outbound parameter \"{unknown}\" is not declared in the dispatch namespace binding."
            );
            return Err(("Error", text));
        }
        let said = Said { worker: outbound.worker.clone(), params };
        seal(scripts, &said, script).map(Some).map_err(|text| ("Error", text))
    }
}

/// What a called method's requests to the outside carry, and how many it may make.
struct Props {
    outbound: Option<HeaderValue>,
    subrequests: Option<u32>,
}

/// A way for the dispatcher's cell to call methods of a script: a socket, and what of the script to call.
async fn way(
    worker: &Worker,
    caller: Option<CallerFolder>,
    cap: Option<CpuCap>,
    said: Props,
) -> Result<Response, String> {
    let caller = caller.ok_or("the caller is not known")?;
    let socket = worker.passage(&caller, cap.map(|CpuCap(cpu)| cpu)).await.map_err(|e| e.to_string())?;
    let mut way = json!({ "address": format!("unix:{}", socket.display()) });
    if said.outbound.is_some() || said.subrequests.is_some() {
        way["entrypoint"] = "skepCalled".into();
        way["props"] = json!({});
        if let Some(token) = said.outbound {
            way["props"]["outbound"] = token.to_str().map_err(|e| e.to_string())?.into();
        }
        if let Some(most) = said.subrequests {
            way["props"]["subrequests"] = most.into();
        }
    }
    Ok(reply(StatusCode::OK, full(way.to_string())))
}

/// The outside of a script whose namespace has an outbound worker: that worker.
pub struct Gate {
    pub scripts: Weak<dyn Scripts>,
    /// The script's name.
    pub script: String,
}

impl Service for Gate {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move { self.pass(request).await.unwrap_or_else(failed) })
    }
}

impl Gate {
    async fn pass(&self, mut request: Request) -> Result<Response, String> {
        let scripts = self.scripts.upgrade().ok_or("Skep is stopping.")?;
        let headers = request.headers_mut();
        // A script cannot make one, only leave it out: what it does outside of a dispatched request has none either.
        let said =
            headers.remove(&OUTBOUND).and_then(|value| unseal::<Said>(&*scripts, &value, &self.script));
        let (worker, params) = match said {
            Some(said) => (said.worker, said.params),
            None => {
                (scripts.outbound_of(&self.script).ok_or("the outbound worker is gone")?, BTreeMap::new())
            }
        };
        headers.remove(CF_HEADER);
        headers.remove(BINDING_HEADER);
        headers.insert(OUTBOUND, encoded(&params)?);
        let worker =
            scripts.worker(&worker).ok_or_else(|| format!("the outbound worker {worker} does not run"))?;
        skep_edge::call_worker(&worker, Door::Outbound, request).await.map_err(|error| error.to_string())
    }
}

fn failed(error: String) -> Response {
    tracing::warn!(error, "an outbound worker did not answer");
    reply(StatusCode::BAD_GATEWAY, full("error code: 1101"))
}

fn thrown(name: &str, message: &str) -> Response {
    let mut response = reply(StatusCode::INTERNAL_SERVER_ERROR, full(""));
    let value = encoded(&json!({ "name": name, "message": message }));
    if let Ok(value) = value {
        response.headers_mut().insert(THROWN, value);
    }
    response.headers_mut().remove(header::CONTENT_TYPE);
    response
}

fn encoded(value: &impl Serialize) -> Result<HeaderValue, String> {
    let text = serde_json::to_string(value).map_err(|e| e.to_string())?;
    let text = utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string();
    HeaderValue::try_from(text).map_err(|e| e.to_string())
}

fn decoded<T: for<'a> Deserialize<'a>>(value: &HeaderValue) -> Option<T> {
    let text = percent_decode_str(value.to_str().ok()?).decode_utf8().ok()?;
    serde_json::from_str(&text).ok()
}

fn seal(scripts: &dyn Scripts, said: &Said, script: &str) -> Result<HeaderValue, String> {
    let text = serde_json::to_vec(said).map_err(|e| e.to_string())?;
    let context = context(scripts.account(), script);
    let sealed = scripts.sealer().seal(&text, &context).map_err(|e| e.to_string())?;
    HeaderValue::try_from(sealed).map_err(|e| e.to_string())
}

fn unseal<T: for<'a> Deserialize<'a>>(scripts: &dyn Scripts, value: &HeaderValue, script: &str) -> Option<T> {
    let context = context(scripts.account(), script);
    let text = scripts.sealer().open_sealed(value.to_str().ok()?, &context).ok()?;
    serde_json::from_slice(&text).ok()
}

fn context(account: &str, script: &str) -> String {
    format!("outbound {account} {script}")
}

/// The bindings of dispatch namespaces among those that the API keeps: name, namespace id, outbound worker.
pub fn namespaces_of(bindings: &[Json]) -> impl Iterator<Item = (&str, &str, Option<Outbound>)> {
    bindings.iter().filter(|binding| binding["type"] == "dispatch_namespace").filter_map(|binding| {
        Some((binding["name"].as_str()?, binding["namespace_id"].as_str()?, Outbound::of(binding)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    #[test]
    fn what_is_said_in_headers_comes_back() {
        let said = json!({ "a": "ü\n\"", "b": [1, null] });
        let mut headers = HeaderMap::new();
        headers.insert(WANTED, encoded(&said).unwrap());
        assert_eq!(decoded::<Json>(&headers[&WANTED]), Some(said));
        assert_eq!(decoded::<Json>(&HeaderValue::from_static("%ff")), None);
    }

    #[test]
    fn an_outbound_worker_is_read_from_a_binding() {
        let binding =
            json!({ "outbound": { "worker": { "service": "out" }, "params": [{ "name": "customer" }] } });
        let outbound = Outbound { worker: "out".into(), params: vec!["customer".into()] };
        assert_eq!(Outbound::of(&binding), Some(outbound));
        assert_eq!(Outbound::of(&json!({ "outbound": null })), None);
    }
}
