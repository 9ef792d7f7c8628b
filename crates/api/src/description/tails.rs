//! Tails.

use http::StatusCode;

use super::schema::{self, fields, must, null, object, opt, text, time};
use super::{About, JSON, about};

pub fn list() -> About {
    about("List the tails of a Worker")
        .gives(schema::list(object([must("id", text()), must("expires_at", time())])))
}

pub fn create() -> About {
    about("Start a tail").may_take(JSON, object([opt("filters", schema::list(fields()))])).gives(object([
        must("id", text()),
        must("url", text()),
        must("expires_at", time()),
    ]))
}

pub fn delete() -> About {
    about("End a tail").gives(null())
}

pub fn connect() -> About {
    about("Read a tail over a WebSocket").answers(StatusCode::SWITCHING_PROTOCOLS, None).open()
}
