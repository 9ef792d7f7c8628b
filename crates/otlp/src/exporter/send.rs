//! Requests: made, sent, tried again, counted.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use prost::Message;

use super::{Exporter, Signal};
use crate::proto;
use crate::retry::{Outcome, outcome, retry_after};
use crate::settings::{Target, shown};

impl Exporter {
    /// Sends a request until it is taken, or will never be.
    pub(super) async fn send(&self, signal: Signal, body: &[u8], count: u64) {
        let Some(target) = &self.0.settings.targets[signal as usize] else { return };
        let body = match target.gzip {
            true => zipped(body),
            false => Ok(Bytes::copy_from_slice(body)),
        };
        let Ok(body) = body else { return self.lost(signal, count) };
        let mut tries = 0;
        loop {
            let finishing = self.0.finishing.load(Ordering::Acquire);
            let answer = self.0.http.post(&target.url, request(target, body.clone()), target.timeout).await;
            tries += 1;
            let (status, after) = match &answer {
                Ok(answer) => {
                    let after =
                        answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
                    (
                        Some(answer.status().as_u16()),
                        after.and_then(|text| retry_after(text, SystemTime::now())),
                    )
                }
                Err(_) => (None, None),
            };
            let chance = f64::from(u8::from_le_bytes([uuid::Uuid::new_v4().as_bytes()[0]])) / 255.0;
            match outcome(status, after, tries, chance) {
                Outcome::Taken => {
                    return self.taken(signal, count, answer.map(Response::into_body).unwrap_or_default());
                }
                // There is no time for another try.
                Outcome::Again(_) if finishing => {}
                Outcome::Again(wait) => {
                    self.complain(signal, target, &said(&answer));
                    self.wait(wait).await;
                    continue;
                }
                Outcome::Lost => {}
            }
            self.complain(signal, target, &said(&answer));
            return self.lost(signal, count);
        }
    }

    fn taken(&self, signal: Signal, count: u64, body: Bytes) {
        let counts = &self.0.counts[signal as usize];
        // An answer that cannot be read says nothing against what was sent.
        let partial = proto::Answer::decode(body).ok().and_then(|answer| answer.partial_success);
        let rejected =
            partial.as_ref().map_or(0, |partial| partial.rejected.max(0).unsigned_abs()).min(count);
        counts.sent.fetch_add(count - rejected, Ordering::Relaxed);
        if let Some(partial) = partial.filter(|_| rejected > 0) {
            self.lost(signal, rejected);
            tracing::warn!(
                signal = signal.name(),
                rejected,
                why = partial.error_message,
                "a collector took a part only"
            );
        }
        if counts.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(signal = signal.name(), "a collector takes what it is sent again");
        }
    }

    pub(super) fn lost(&self, signal: Signal, count: u64) {
        self.0.counts[signal as usize].dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Says once that a collector does not take what it is sent. Neither headers nor queries are said.
    fn complain(&self, signal: Signal, target: &Target, why: &str) {
        if !self.0.counts[signal as usize].failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                signal = signal.name(),
                to = shown(&target.url),
                why,
                "a collector does not take what it is sent"
            );
        }
    }
}

fn said(answer: &Result<Response<Bytes>, String>) -> String {
    match answer {
        Ok(answer) => answer.status().to_string(),
        Err(why) => why.clone(),
    }
}

fn request(target: &Target, body: Bytes) -> Request<Bytes> {
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("skep/", env!("CARGO_PKG_VERSION"))));
    if target.gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    for (name, value) in &target.headers {
        headers.insert(name.clone(), value.clone());
    }
    request
}

fn zipped(body: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body)?;
    encoder.finish().map(Bytes::from)
}
