//! `--acme-directory`: the authority is asked over our HTTP, about the names of the catalog.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use skep_acme::{Acme, HostName, Http, Names, terms_of_service};
use skep_deploy::http::{Proxies, Transport};
use skep_edge::rustls::sign::CertifiedKey;
use skep_runtime::{Clock, Jobs};
use url::Url;

use super::hosts::Hosts;
use super::tls::Own;
use crate::acme::AcmeArgs;

/// The longest answer of an authority, and how long one may take.
const MOST: usize = 1 << 20;
const TIME: Duration = Duration::from_secs(30);
/// How often names are looked at whose time may have come.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the authority has to say where its terms are, for the error that asks for them.
const TERMS: Duration = Duration::from_secs(5);

/// Where accounts and certificates are.
fn folder(data: &Path) -> PathBuf {
    data.join("acme")
}

/// Opens what is kept, and makes an account where there is none.
pub async fn open(data: &Path, args: &AcmeArgs, clock: &Clock) -> Result<Option<Arc<Acme>>, String> {
    let Some(options) = args.options()? else { return Ok(None) };
    let proxies = Proxies::from_env(|name| std::env::var(name).ok())?;
    let transport = match &args.acme_ca {
        None => Transport::new(proxies),
        Some(file) => {
            let trusted = Transport::with_authorities(proxies, file);
            trusted.map_err(|e| format!("cannot use {}: {e}", file.display()))?
        }
    };
    let http: Arc<dyn Http> = Arc::new(Outgoing(transport));
    if !args.acme_accept_terms {
        let terms = tokio::time::timeout(TERMS, terms_of_service(&*http, &options.directory)).await;
        let terms = terms.ok().flatten().map_or_else(String::new, |url| format!(", {url},"));
        return Err(format!(
            "an ACME account needs your consent: say --acme-accept-terms if you agree to the terms of service{terms} of {}",
            options.directory
        ));
    }
    Acme::open(options, &folder(data), http, clock.clone()).await.map(Some)
}

/// The names that the authority is asked about: served here, and without a certificate of the operator's.
pub struct Wanted {
    pub acme: Arc<Acme>,
    hosts: Arc<Hosts>,
    own: Option<Arc<Own>>,
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.acme.fmt(f)
    }
}

impl Wanted {
    /// Answers challenges from now on.
    pub fn new(acme: Arc<Acme>, hosts: Arc<Hosts>, own: Option<Arc<Own>>) -> Self {
        hosts.answer_challenges(acme.challenges().clone());
        Self { acme, hosts, own }
    }

    /// The certificate of a name. One that is wanted but not there is ordered; until then there is none.
    pub fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        if self.own.as_ref().is_some_and(|own| own.is_for(name)) {
            return None;
        }
        let found = self.acme.certificate(name);
        if found.is_none()
            && let Some(name) = HostName::parse(name)
            && self.hosts.serves(&name)
        {
            self.acme.ask(&name);
        }
        found
    }
}

impl Names for Wanted {
    fn serves(&self, name: &HostName) -> bool {
        self.hosts.serves(name) && !self.own.as_ref().is_some_and(|own| own.is_for(name.as_str()))
    }
}

/// Orders and renews certificates from now on.
pub fn drive(wanted: Arc<Wanted>, jobs: &Jobs) {
    let mut seen = None;
    jobs.every("certificates from the ACME authority", LOOK_EVERY, move || {
        let version = wanted.hosts.version();
        if seen != Some(version) {
            seen = Some(version);
            let named = wanted.hosts.named();
            named.iter().filter(|name| wanted.serves(name)).for_each(|name| wanted.acme.ask(name));
        }
        wanted.acme.sweep(&*wanted);
        let status = wanted.acme.status();
        async move { Ok(format!("{} there, {} failing", status.certificates, status.failing)) }
    });
}

/// Requests over the client that deploys use, proxies included.
struct Outgoing(Transport);

impl Http for Outgoing {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, String>> + Send + '_>> {
        Box::pin(async move {
            let url = Url::parse(&request.uri().to_string()).map_err(|e| e.to_string())?;
            self.0.send(&url, request, MOST, TIME).await.map_err(|e| e.to_string())
        })
    }
}
