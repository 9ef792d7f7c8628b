//! What each operation takes and gives, for its description and for a check of what comes.
//!
//! `=> kv::put` in the router needs a function `put` in `description::kv`: an operation without one does not compile,
//! nor one that nothing serves. The types of a JSON body are checked against the same schema before its handler sees it.

pub(crate) mod schema;
pub(crate) mod shapes;

pub(crate) mod account;
pub(crate) mod ai;
pub(crate) mod analytics;
pub(crate) mod assets;
pub(crate) mod consumers;
pub(crate) mod container_images;
pub(crate) mod container_instances;
pub(crate) mod container_rollouts;
pub(crate) mod containers;
pub(crate) mod d1;
pub(crate) mod d1_time_travel;
pub(crate) mod deployments;
pub(crate) mod dispatch;
pub(crate) mod hyperdrive;
pub(crate) mod identity;
pub(crate) mod instances;
pub(crate) mod kv;
pub(crate) mod messages;
pub(crate) mod notifications;
pub(crate) mod objects;
pub(crate) mod observability;
pub(crate) mod queues;
pub(crate) mod r2;
pub(crate) mod r2_absent;
pub(crate) mod r2_bulk;
pub(crate) mod r2_domains;
pub(crate) mod r2_rules;
pub(crate) mod routes;
pub(crate) mod scripts;
pub(crate) mod secrets;
pub(crate) mod secrets_store;
pub(crate) mod services;
pub(crate) mod settings;
pub(crate) mod subdomain;
pub(crate) mod tails;
pub(crate) mod tokens;
pub(crate) mod vectorize;
pub(crate) mod versions;
pub(crate) mod worker_objects;
pub(crate) mod worker_versions;
pub(crate) mod workers;
pub(crate) mod workflows;

pub(crate) mod openapi {
    use super::schema::fields;
    use super::{About, JSON, StatusCode, about};

    pub fn get() -> About {
        about("Describe this API").answers(StatusCode::OK, Some((JSON, fields()))).open()
    }
}

use http::StatusCode;
use serde_json::{Value as Json, json};

use crate::call::MAX_PAGE;
use schema::{Field, list, may, must, named, object, whole};

pub(crate) const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
const FORM: &str = "multipart/form-data";

/// Who may ask.
#[derive(Clone, Copy)]
pub(crate) enum Security {
    Token,
    /// The token of an upload of assets.
    Session,
    /// Anybody, or whoever has the address.
    None,
}

/// What an operation takes and gives.
pub(crate) struct About {
    pub summary: &'static str,
    /// Of the query and the headers.
    pub parameters: Vec<Json>,
    /// Schemas by media type.
    pub bodies: Vec<(&'static str, Json)>,
    pub needs_body: bool,
    /// Good answers, each with its media type and schema.
    pub answers: Vec<(StatusCode, Option<(&'static str, Json)>)>,
    pub security: Security,
    /// Whether all that it says is that Skep does not have this.
    pub refused: bool,
}

pub(crate) fn about(summary: &'static str) -> About {
    About {
        summary,
        parameters: Vec::new(),
        bodies: Vec::new(),
        needs_body: true,
        answers: Vec::new(),
        security: Security::Token,
        refused: false,
    }
}

impl About {
    fn parameters(mut self, place: &str, fields: impl IntoIterator<Item = Field>) -> Self {
        self.parameters.extend(fields.into_iter().map(|field| {
            json!({ "name": field.name, "in": place, "required": field.required, "schema": field.schema })
        }));
        self
    }

    fn query(self, fields: impl IntoIterator<Item = Field>) -> Self {
        self.parameters("query", fields)
    }

    fn headers(self, fields: impl IntoIterator<Item = Field>) -> Self {
        self.parameters("header", fields)
    }

    fn takes(mut self, kind: &'static str, schema: Json) -> Self {
        self.bodies.push((kind, schema));
        self
    }

    fn takes_json(self, schema: Json) -> Self {
        self.takes(JSON, schema)
    }

    /// A body that may be left out.
    fn may_take(self, kind: &'static str, schema: Json) -> Self {
        Self { needs_body: false, ..self.takes(kind, schema) }
    }

    fn answers(mut self, status: StatusCode, content: Option<(&'static str, Json)>) -> Self {
        self.answers.push((status, content));
        self
    }

    /// A result in the envelope.
    fn gives(self, result: Json) -> Self {
        self.answers(StatusCode::OK, Some((JSON, envelope(result, None))))
    }

    /// A result in the envelope, with what of a list it is.
    fn gives_part(self, result: Json, info: Json) -> Self {
        self.answers(StatusCode::OK, Some((JSON, envelope(result, Some(info)))))
    }

    /// A page of a list.
    fn gives_pages_of(self, items: Json) -> Self {
        self.paged().gives_part(list(items), named("PageInfo"))
    }

    fn paged(self) -> Self {
        self.query([may("page", whole(1, u64::from(u32::MAX))), may("per_page", whole(1, MAX_PAGE))])
    }

    /// Something without an envelope.
    fn gives_raw(self, kind: &'static str) -> Self {
        self.answers(StatusCode::OK, Some((kind, schema::any())))
    }

    fn refused(self) -> Self {
        Self { refused: true, ..self }
    }

    fn open(self) -> Self {
        Self { security: Security::None, ..self }
    }

    fn session(self) -> Self {
        Self { security: Security::Session, ..self }
    }

    /// The schema of the JSON body.
    pub fn json_body(&self) -> Option<&Json> {
        self.bodies.iter().find(|(kind, _)| *kind == JSON).map(|(_, schema)| schema)
    }
}

fn envelope(result: Json, info: Option<Json>) -> Json {
    let mut all = vec![
        must("success", json!({ "const": true })),
        must("errors", list(named("Message"))),
        must("messages", list(named("Message"))),
        must("result", result),
    ];
    all.extend(info.map(|info| must("result_info", info)));
    object(all)
}
