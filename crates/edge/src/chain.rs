//! Requests of scripts that come back to the edge: who calls himself in circles comes to an end.
//! <https://developers.cloudflare.com/workers/observability/errors/#loop-limit>
//!
//! A worker's request carries `CF-EW-Via`: how many calls may follow on it; without it, [`MOST`]. What the worker passes on to the
//! outside (`fetch(request)`) has that header, and the ray that it got from an edge; and any `fetch()` of a node's worker has
//! `CDN-Loop` (`shims/chain.js`). Who forges them shortens his own chain.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::headers::{RAY, is_an_edges};

/// How many calls may follow on a visitor's request.
pub(crate) const MOST: u8 = 16;
/// How many calls may follow on one that a script has made.
const VIA: HeaderName = HeaderName::from_static("cf-ew-via");
/// Who has passed a request on (RFC 8586).
const LOOP: HeaderName = HeaderName::from_static("cdn-loop");
/// What Skep is called there.
const NAME: &str = "skep";

/// A script's request: how many calls may follow on what the script was called with. An extension of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent(u8);

/// How many calls may follow on a request that a script has sent is one less than on its sender's; there may be no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooDeep;

/// Notes at the head of a request whether a script has sent it, before the headers by which that is known are gone.
pub(crate) fn note(parts: &mut Parts) {
    if let Some(sent) = sent(&parts.headers) {
        parts.extensions.insert(sent);
    }
}

/// Whether a script has sent a request.
pub(crate) fn is_sent(parts: &Parts) -> bool {
    !parts.extensions.is_empty() && parts.extensions.get::<Sent>().is_some()
}

/// What tells a worker how many calls may follow; `None` for a visitor's request.
pub(crate) fn following(parts: &Parts) -> Result<Option<(HeaderName, HeaderValue)>, TooDeep> {
    match parts.extensions.get::<Sent>() {
        None => Ok(None),
        Some(Sent(left)) => {
            let left = left.checked_sub(1).ok_or(TooDeep)?;
            Ok(Some((VIA, HeaderValue::from(u16::from(left)))))
        }
    }
}

fn sent(headers: &HeaderMap) -> Option<Sent> {
    // Most visitors have neither.
    let passed = headers.get(RAY).filter(|ray| is_an_edges(ray)).map(|_| left(headers.get(VIA)));
    let announced = headers.get_all(LOOP).iter().filter_map(in_loop).min();
    passed.into_iter().chain(announced).min().map(Sent)
}

/// What a header says; who says what is no number has none left.
fn left(said: Option<&HeaderValue>) -> u8 {
    let Some(said) = said else { return MOST };
    said.to_str().ok().and_then(|said| said.parse().ok()).filter(|left| *left < MOST).unwrap_or(0)
}

/// The least that `skep; left=N` says in a list of those who have passed a request on.
fn in_loop(said: &HeaderValue) -> Option<u8> {
    let entries = said.to_str().ok()?.split(',');
    let ours = entries.filter_map(|entry| {
        let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
        let mut parameters = parameters.split(';').filter_map(|parameter| parameter.trim().split_once('='));
        let left = parameters.find(|(key, _)| key.eq_ignore_ascii_case("left")).map(|(_, value)| value);
        name.trim().eq_ignore_ascii_case(NAME).then(|| left.and_then(|left| left.parse().ok()).unwrap_or(0))
    });
    ours.min().map(|left: u8| left.min(MOST))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::headers::new_ray;
    use proptest::prelude::*;

    fn asked(headers: &[(&str, &str)]) -> Parts {
        let request = headers
            .iter()
            .fold(http::Request::get("/"), |request, (name, value)| request.header(*name, *value));
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        note(&mut parts);
        parts
    }

    fn told(headers: &[(&str, &str)]) -> Option<String> {
        following(&asked(headers)).unwrap().map(|(_, value)| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn what_a_script_sends_has_one_call_less_left_than_its_own() {
        let ray = new_ray();
        let ray = ray.to_str().unwrap();
        for (headers, left) in [
            (&[][..], None),
            // Another edge is before us; or a visitor plays.
            (&[("cf-ray", "8f0000000000beef-FRA"), ("cf-ew-via", "3")], None),
            (&[("cf-ew-via", "3")], None),
            (&[("cdn-loop", "cloudflare; loops=1; subreqs=1")], None),
            (&[("cf-ray", ray)], Some("15")),
            (&[("cf-ray", ray), ("cf-ew-via", "3")], Some("2")),
            (&[("cdn-loop", "skep; left=16")], Some("15")),
            (&[("cdn-loop", "other;a=b, Skep ; x=y; LEFT=7"), ("cdn-loop", "skep; left=9")], Some("6")),
            (&[("cdn-loop", "skep; left=200")], Some("15")),
            (&[("cf-ray", ray), ("cf-ew-via", "9"), ("cdn-loop", "skep; left=4")], Some("3")),
        ] {
            assert_eq!(told(headers).as_deref(), left, "{headers:?}");
        }
        for headers in [
            &[("cf-ray", ray), ("cf-ew-via", "0")][..],
            &[("cf-ray", ray), ("cf-ew-via", "16, 16")],
            &[("cdn-loop", "skep")],
            &[("cdn-loop", "skep; left=0, skep; left=16")],
        ] {
            assert_eq!(following(&asked(headers)), Err(TooDeep), "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn whoever_passes_on_what_he_got_comes_to_an_end(said in "[ -~]{0,40}", via in "[ -~]{0,8}", announces: bool) {
            let ray = new_ray();
            let mut calls = 0;
            let (mut via, mut list) = (via, said);
            loop {
                let headers = match announces {
                    true => vec![("cdn-loop", list.as_str())],
                    false => vec![("cf-ray", ray.to_str().unwrap()), ("cf-ew-via", via.as_str())],
                };
                match following(&asked(&headers)) {
                    Err(TooDeep) => break,
                    Ok(next) => {
                        calls += 1;
                        let left = next.map_or(MOST.to_string(), |(_, value)| value.to_str().unwrap().to_owned());
                        list = format!("{list}, skep; left={left}");
                        via = left;
                    }
                }
                prop_assert!(calls <= usize::from(MOST) + 1);
            }
        }
    }
}
