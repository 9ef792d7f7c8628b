//! The server behind the binding: what the engine's code asks, one call of the upstream each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use skep_wire::{Body, BoxFuture, ReadError, Request, Response, Service, full, read_all, reply};

use crate::error::AiError;
use crate::fields::Fields;
use crate::listed::listed;
use crate::models::Target;
use crate::names;
use crate::openai::{self, Reply, Translator};
use crate::pieces::pieces;
use crate::room::{MOST_BODY, Place, Room, Rooms};
use crate::upstream::{Http, Upstream};
use crate::{cloudflare, markdown};

/// Bytes of an answer that is read whole.
pub(crate) const MOST_ANSWER: usize = 64 << 20;
/// Bytes of the options, a URL's inputs and an upstream's error that are looked at.
const MOST_TEXT: usize = 64 << 10;

/// What runs models, for everyone.
pub struct Ai {
    upstream: Option<(Upstream, Arc<dyn Http>)>,
    /// Until the upstream begins to answer, and between two pieces of an answer.
    timeout: Duration,
    /// Calls that a script may have under way.
    at_once: usize,
    rooms: Rooms,
}

impl Ai {
    /// Asks `upstream` by `http`. It has `timeout` to begin with an answer and to go on with it; an owner has `at_once` calls
    /// under way.
    pub fn new(upstream: Upstream, http: Arc<dyn Http>, timeout: Duration, at_once: usize) -> Arc<Self> {
        Arc::new(Self { upstream: Some((upstream, http)), timeout, at_once, rooms: Rooms::default() })
    }

    /// Nobody has said where models run: calls fail, and say what to do.
    pub fn nowhere() -> Arc<Self> {
        Arc::new(Self { upstream: None, timeout: Duration::ZERO, at_once: 0, rooms: Rooms::default() })
    }

    /// Whether somebody has said where models run.
    pub fn is_there(&self) -> bool {
        self.upstream.is_some()
    }

    /// The server behind the binding of a script; what `owner` has under way is bounded.
    pub fn binding(self: &Arc<Self>, owner: &str) -> AiBinding {
        AiBinding { room: self.rooms.of(owner, self.at_once), ai: self.clone() }
    }

    pub(crate) fn upstream(&self) -> Result<(&Upstream, &dyn Http), AiError> {
        let (upstream, http) = self.upstream.as_ref().ok_or_else(AiError::no_upstream)?;
        Ok((upstream, &**http))
    }

    /// Asks the upstream; the answer when it begins.
    async fn ask(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, AiError> {
        let (_, http) = self.upstream()?;
        let path = request.uri().path().to_owned();
        match tokio::time::timeout(self.timeout, http.send(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                tracing::warn!("Workers AI: {path}: {error}");
                Err(AiError::failed("the models' server cannot be reached"))
            }
            Err(_) => {
                tracing::warn!("Workers AI: {path}: no answer after {:?}", self.timeout);
                Err(AiError::timed_out())
            }
        }
    }

    /// The whole body of an answer.
    async fn whole(&self, body: Body) -> Result<Bytes, AiError> {
        match tokio::time::timeout(self.timeout, read_all(body, MOST_ANSWER)).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error)) => {
                tracing::warn!("Workers AI: {error}");
                Err(AiError::failed("the models' server broke off its answer"))
            }
            Err(_) => Err(AiError::timed_out()),
        }
    }
}

/// The server behind one script's binding.
pub struct AiBinding {
    pub(crate) ai: Arc<Ai>,
    pub(crate) room: Arc<Room>,
}

impl Service for AiBinding {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(self.answer(request))
    }
}

/// The body of a call of `run`.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    inputs: Option<&'a RawValue>,
    #[serde(borrow)]
    options: Option<&'a RawValue>,
}

/// What a model is given.
pub(crate) enum Given<'a> {
    /// Inputs, and the options of the call.
    Inputs { inputs: &'a RawValue, options: Json },
    /// A file, and the other inputs.
    File { content_type: &'a str, others: Json },
}

/// A request to the upstream.
pub(crate) enum Planned {
    /// In OpenAI's words, and the answer has to be translated.
    Translated { request: http::Request<Bytes>, target: Target, answer: openai::Answer },
    /// As it came.
    Passed(http::Request<Bytes>),
}

impl AiBinding {
    async fn answer(&self, request: Request) -> Response {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let mut response = match (method, path.as_str()) {
            (_, "/run" | "/ai-gateway/run") => self.run(request).await.unwrap_or_else(|e| e.of_run()),
            (Method::GET, "/ai-api/models/search") => {
                self.models(request.uri().query()).await.unwrap_or_else(|e| e.in_envelope())
            }
            (Method::GET, "/to-everything/markdown/supported") => self.markdown_formats().await,
            (Method::POST, "/to-everything/markdown/transformer") => {
                self.to_markdown(request).await.unwrap_or_else(|e| e.in_envelope())
            }
            (_, path) => {
                let what = match path.split('/').nth(1) {
                    Some("ai-gateway") => "AI Gateway: env.AI.gateway()",
                    Some("autorag") => "AI Search: env.AI.autorag()",
                    _ => "this method of env.AI",
                };
                // The engine does not read what it has not sent before it reads the answer.
                let _ = read_all(request.into_body(), MOST_BODY).await;
                AiError::absent(what).in_envelope()
            }
        };
        name(&mut response);
        response
    }

    /// A request's body, and the place that it takes in memory.
    pub(crate) async fn body(&self, request: Request) -> Result<(Bytes, Place), AiError> {
        let length =
            request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let place = self.room.hold(length.unwrap_or(MOST_BODY)).await?;
        match read_all(request.into_body(), MOST_BODY).await {
            Ok(body) => Ok((body, place)),
            Err(ReadError::TooLarge(_)) => Err(AiError::too_large()),
            Err(ReadError::Broken(_)) => Err(AiError::incomplete("the body")),
        }
    }

    async fn run(&self, request: Request) -> Result<Response, AiError> {
        let head = request.headers();
        if head.contains_key(UPGRADE) {
            return Err(AiError::absent(
                "models that are called over a WebSocket: env.AI.run() with `websocket`",
            ));
        }
        let text = |name: &str| head.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let model = text("cf-consn-model-id").unwrap_or_default();
        let content_type = text("content-type").unwrap_or_default();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let entered = self.room.enter();
        let (body, held) = self.body(request).await?;
        let entered = match self.ai.is_there() {
            true => entered?,
            false => return Err(AiError::no_upstream()),
        };
        names::check(&model)?;
        let asked: Asked<'_>;
        let given = if content_type == "application/json" {
            asked = serde_json::from_slice(&body).map_err(AiError::bad_input)?;
            let inputs = asked.inputs.ok_or_else(|| AiError::incomplete("inputs"))?;
            Given::Inputs { inputs, options: small_json(asked.options.map(RawValue::get))? }
        } else {
            let others = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "userInputs");
            Given::File {
                content_type: &content_type,
                others: small_json(others.as_ref().map(|(_, text)| &**text))?,
            }
        };
        let planned = self.plan(&model, &given, &body)?;
        drop(body);
        self.carry_out(planned, (entered, held)).await
    }

    /// What the upstream is asked, and what becomes of its answer.
    pub(crate) fn plan(&self, model: &str, given: &Given<'_>, body: &Bytes) -> Result<Planned, AiError> {
        let (upstream, _) = self.ai.upstream()?;
        match upstream {
            Upstream::OpenAi { models, .. } => {
                let target = models.find(model)?;
                let call = planned(&target, given, body)?;
                let request = upstream.request(Method::POST, call.path, &call.content_type, call.body)?;
                Ok(Planned::Translated { request, target, answer: call.answer })
            }
            Upstream::Cloudflare { .. } => Ok(Planned::Passed(passed(upstream, model, given, body)?)),
        }
    }

    /// Asks the upstream; the answer as the engine's code reads it.
    pub(crate) async fn carry_out(
        &self,
        planned: Planned,
        places: (Place, Place),
    ) -> Result<Response, AiError> {
        match planned {
            Planned::Translated { request, target, answer } => {
                self.translated(request, target, &answer, places).await
            }
            Planned::Passed(request) => self.passed_on(request, places).await,
        }
    }

    async fn translated(
        &self,
        request: http::Request<Bytes>,
        target: Target,
        answer: &openai::Answer,
        (entered, held): (Place, Place),
    ) -> Result<Response, AiError> {
        let response = self.ai.ask(request).await?;
        drop(held);
        let status = response.status();
        if !status.is_success() {
            let body = self.ai.whole(response.into_body()).await.unwrap_or_default();
            let (error, known) = openai::failure(&target, status, &body[..body.len().min(MOST_TEXT)]);
            tracing::warn!("Workers AI: {known}");
            return Err(error);
        }
        if answer.is_stream() {
            let translator = Translator::new(target, answer);
            let body = pieces(response.into_body(), self.ai.timeout, Some(translator), entered);
            return Ok(with_type(body, "text/event-stream"));
        }
        let body = self.ai.whole(response.into_body()).await?;
        Ok(match answer.whole(&target, &body)? {
            Reply::Json(json) => skep_wire::json(StatusCode::OK, &json),
            Reply::File { content, content_type } => with_type(full(content), content_type),
        })
    }

    /// Cloudflare's answer, without its envelope.
    async fn passed_on(
        &self,
        request: http::Request<Bytes>,
        (entered, held): (Place, Place),
    ) -> Result<Response, AiError> {
        let response = self.ai.ask(request).await?;
        drop(held);
        let (head, body) = response.into_parts();
        let kind =
            head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
        let mut answer = if !head.status.is_success() {
            let body = self.ai.whole(body).await.unwrap_or_default();
            let (error, known) = cloudflare::failure(head.status, &body[..body.len().min(MOST_TEXT)]);
            tracing::warn!("Workers AI: {known}");
            error.of_run()
        } else if kind.starts_with("application/json") {
            let body = self.ai.whole(body).await?;
            let text =
                std::str::from_utf8(&body).map_err(|_| AiError::failed("Cloudflare's answer is no text"))?;
            let result = body.slice_ref(cloudflare::result_of(text).as_bytes());
            with_type(full(result), "application/json")
        } else {
            with_type(pieces(body, self.ai.timeout, None, entered), &kind)
        };
        for name in ["cf-ai-req-id", "cf-aig-log-id", "cf-aig-cache-status"] {
            if let Some(value) = head.headers.get(name) {
                answer.headers_mut().insert(name, value.clone());
            }
        }
        Ok(answer)
    }

    pub(crate) async fn models(&self, query: Option<&str>) -> Result<Response, AiError> {
        let _entered = self.room.enter();
        let (upstream, _) = self.ai.upstream()?;
        let path = match upstream {
            Upstream::OpenAi { .. } => "/models".to_owned(),
            Upstream::Cloudflare { .. } => {
                let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
                let query: String =
                    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
                format!("/ai/models/search?{query}")
            }
        };
        let response = self.ai.ask(upstream.request(Method::GET, &path, "", Bytes::new())?).await?;
        let status = response.status();
        let body = self.ai.whole(response.into_body()).await?;
        match upstream {
            Upstream::Cloudflare { .. } if status.is_success() => {
                Ok(with_type(full(body), "application/json"))
            }
            Upstream::Cloudflare { .. } => Err(cloudflare::failure(status, &body).0),
            Upstream::OpenAi { .. } if !status.is_success() => {
                tracing::warn!("Workers AI: the models' server answers {status} for its models");
                Err(AiError::failed("the models' server does not say which models it has"))
            }
            Upstream::OpenAi { models, .. } => {
                let result = listed(models, &body, query.unwrap_or_default());
                let body = json!({ "success": true, "errors": [], "messages": [], "result": result });
                Ok(skep_wire::json(StatusCode::OK, &body))
            }
        }
    }

    async fn to_markdown(&self, request: Request) -> Result<Response, AiError> {
        let entered = self.room.enter();
        let (body, _held) = self.body(request).await?;
        let (upstream, _) = self.ai.upstream()?;
        if matches!(upstream, Upstream::OpenAi { .. }) {
            return Err(AiError::absent(
                "conversion to Markdown, env.AI.toMarkdown(), over a server with OpenAI's API: `--ai cloudflare` has it",
            ));
        }
        let _entered = entered?;
        let (form, kind) = markdown::form(&body)?;
        let request = upstream.request(Method::POST, "/ai/tomarkdown", &kind, form.into())?;
        let response = self.ai.ask(request).await?;
        let status = response.status();
        let body = self.ai.whole(response.into_body()).await?;
        match status.is_success() {
            true => Ok(with_type(full(body), "application/json")),
            false => Err(cloudflare::failure(status, &body).0),
        }
    }

    /// The engine takes any answer for a success: where there is no conversion, no format is supported.
    async fn markdown_formats(&self) -> Response {
        let asked = async {
            let (upstream, _) = self.ai.upstream().ok()?;
            let Upstream::Cloudflare { .. } = upstream else { return None };
            let request = upstream.request(Method::GET, "/ai/tomarkdown/supported", "", Bytes::new()).ok()?;
            let response = self.ai.ask(request).await.ok()?;
            let is_success = response.status().is_success();
            self.ai.whole(response.into_body()).await.ok().filter(|_| is_success)
        };
        let formats = asked.await.unwrap_or_else(|| Bytes::from_static(b"{\"result\":[]}"));
        with_type(full(formats), "application/json")
    }
}

/// Gives an answer an id, if it has none.
pub(crate) fn name(response: &mut Response) {
    if let Ok(id) = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()) {
        response.headers_mut().entry("cf-ai-req-id").or_insert(id);
    }
}

/// A short JSON text; nothing where there is none.
fn small_json(text: Option<&str>) -> Result<Json, AiError> {
    match text {
        None => Ok(Json::Null),
        Some(text) if text.len() > MOST_TEXT => Err(AiError::too_large()),
        Some(text) => serde_json::from_str(text).map_err(AiError::bad_input),
    }
}

fn planned(target: &Target, given: &Given<'_>, body: &[u8]) -> Result<openai::Call, AiError> {
    match given {
        Given::Inputs { inputs, options } => {
            if options["queueRequest"] == true {
                return Err(AiError::absent("requests that are answered later: `queueRequest`"));
            }
            openai::plan(target, &Fields::read(inputs)?)
        }
        Given::File { content_type, others } => {
            let text = if others.is_object() { others.to_string() } else { "{}".to_owned() };
            let others: Box<RawValue> = serde_json::from_str(&text).map_err(AiError::bad_input)?;
            openai::plan_file(target, &Fields::read(&others)?, body, content_type)
        }
    }
}

/// The call as Cloudflare's REST API takes it.
fn passed(
    upstream: &Upstream,
    model: &str,
    given: &Given<'_>,
    body: &Bytes,
) -> Result<http::Request<Bytes>, AiError> {
    match given {
        Given::Inputs { inputs, options } => {
            let path = cloudflare::run_path(model, &cloudflare::query_of(options));
            let inputs = body.slice_ref(inputs.get().as_bytes());
            let mut request = upstream.request(Method::POST, &path, "application/json", inputs)?;
            request.headers_mut().extend(cloudflare::gateway_headers(&options["gateway"]));
            Ok(request)
        }
        Given::File { content_type, others } => {
            let path = cloudflare::run_path(model, &cloudflare::inputs_as_query(others));
            upstream.request(Method::POST, &path, content_type, body.clone())
        }
    }
}

fn with_type(body: Body, content_type: &str) -> Response {
    let mut response = reply(StatusCode::OK, body);
    if let Ok(kind) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}
