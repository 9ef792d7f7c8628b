//! Workers AI: what `env.AI` asks, answered by models that run elsewhere.
//!
//! The engine's own code for the binding speaks HTTP to [`AiBinding`]. The models are where the operator says
//! ([`Upstream`]; the same over the REST API: [`AiBinding::rest_run`]): behind a server with OpenAI's API, whose requests and answers are translated, or at Cloudflare, to
//! whom calls are passed as they are. Knows no scripts, no accounts of Skep's and no command line; what sends the
//! requests is an [`Http`].
//!
//! Entry points: [`Ai`], [`AiBinding`], [`Models`].

mod cloudflare;
mod error;
mod fields;
mod listed;
mod markdown;
mod models;
mod names;
mod openai;
mod pieces;
mod rest;
mod room;
mod server;
mod sse;
mod upstream;

pub use error::AiError;
pub use models::{Entry, Models};
pub use names::{Shape, Task};
pub use openai::Endpoint;
pub use server::{Ai, AiBinding};
pub use upstream::{Http, Upstream};
