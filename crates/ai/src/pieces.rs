//! Answers that are passed on while they come.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::BodyExt;
use skep_wire::{Body, stream};

use crate::openai::Translator;
use crate::room::Place;

/// What is left of a stream.
struct Pieces {
    body: Body,
    translator: Option<Translator>,
    timeout: Duration,
    over: bool,
    _entered: Place,
}

/// The pieces of an answer as they arrive. What fails on the way cuts the answer off, so that its reader notices.
pub(crate) fn pieces(body: Body, timeout: Duration, translator: Option<Translator>, entered: Place) -> Body {
    let state = Pieces { body, translator, timeout, over: false, _entered: entered };
    stream(unfold(state, |mut state| async move {
        while !state.over {
            match state.next().await {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Some((Ok(piece), state)),
                Err(error) => {
                    tracing::warn!("Workers AI: {error}");
                    state.over = true;
                    return Some((Err(error), state));
                }
            }
        }
        None
    }))
}

impl Pieces {
    async fn next(&mut self) -> Result<Bytes, String> {
        let frame = match tokio::time::timeout(self.timeout, self.body.frame()).await {
            Err(_) => return Err(format!("the models' server has sent nothing for {:?}", self.timeout)),
            Ok(Some(Err(error))) => return Err(format!("the models' server broke off its answer: {error}")),
            Ok(Some(Ok(frame))) => frame.into_data().ok(),
            Ok(None) => {
                self.over = true;
                let last = self.translator.as_mut().map_or(Ok(Vec::new()), Translator::finish);
                return last.map(Bytes::from);
            }
        };
        let piece = frame.unwrap_or_default();
        let Some(translator) = &mut self.translator else { return Ok(piece) };
        let out = translator.feed(&piece)?;
        self.over = translator.is_done();
        Ok(out.into())
    }
}
