//! Workers AI.

use super::schema::{any, fields, list, may, must, object, opt, text};
use super::{About, BYTES, JSON, about};

pub fn run() -> About {
    about("Run a model; a stream, a picture or a sound comes as it is")
        .may_take(JSON, fields())
        .takes(BYTES, any())
        .gives(any())
}

pub fn search() -> About {
    let task = object([must("id", text()), must("name", text()), must("description", text())]);
    let model =
        object([must("id", text()), must("name", text()), must("description", text()), opt("task", task)]);
    about("List models")
        .query(["search", "task", "author"].map(|name| may(name, text())))
        .paged()
        .gives(list(model))
}

pub fn chat_completions() -> About {
    about("Ask a model for the next message, in OpenAI's words").takes(JSON, fields()).gives_raw(JSON)
}

pub fn embeddings() -> About {
    about("Turn texts into vectors, in OpenAI's words").takes(JSON, fields()).gives_raw(JSON)
}

pub fn responses() -> About {
    about("Ask a model by OpenAI's Responses API").takes(JSON, fields()).gives_raw(JSON)
}
