//! A request as the rules see it.

use std::borrow::Cow;

use http::header;
use http::request::Parts;
use http::uri::Scheme;

use crate::path;
use crate::redirects::Origin;

pub(crate) struct View<'a> {
    /// The path as it stands on the wire.
    pub(crate) raw: &'a str,
    /// The path as a URL parser gives it.
    pub(crate) pathname: Cow<'a, str>,
    /// Without `?`.
    pub(crate) query: Option<&'a str>,
    scheme: &'a str,
    /// Host and port.
    authority: &'a str,
}

impl<'a> View<'a> {
    pub(crate) fn new(parts: &'a Parts) -> Self {
        let raw = parts.uri.path();
        let scheme = parts.uri.scheme().or_else(|| parts.extensions.get::<Scheme>());
        let host = || parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        Self {
            raw,
            pathname: path::pathname(raw),
            query: parts.uri.query(),
            scheme: if scheme == Some(&Scheme::HTTPS) { "https" } else { "http" },
            authority: parts.uri.authority().map(|a| a.as_str()).or_else(host).unwrap_or("localhost"),
        }
    }

    /// The host without its port, in lower case.
    pub(crate) fn hostname(&self) -> String {
        let host = self.authority.rsplit_once('@').map_or(self.authority, |(_, host)| host);
        let bare = match host.rsplit_once(':') {
            Some((bare, port)) if !port.contains(']') => bare,
            _ => host,
        };
        bare.to_ascii_lowercase()
    }

    pub(crate) fn origin(&self) -> Origin<'_> {
        Origin { scheme: self.scheme, authority: self.authority }
    }
}
