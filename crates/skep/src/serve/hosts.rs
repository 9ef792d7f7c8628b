//! Which script or public bucket a host and path lead to.
//! <https://developers.cloudflare.com/workers/configuration/routing/>

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use http::request::Parts;
use http::uri::Scheme;
use http::{StatusCode, Uri, header};
use skep_acme::{Challenges, HostName, Names, WELL_KNOWN};
use skep_edge::{LocalHandler, Router, Site};
use skep_wire::{Body, BoxFuture, Response, full, reply};

use super::patterns::{Pattern, Patterns, Target};
use super::public_buckets::PublicBuckets;
use super::runner::{Live, Runner, Share};
use super::s3::{S3, S3Hosts};

/// The affinity of a visitor to a version, and the version asked for.
/// <https://developers.cloudflare.com/workers/configuration/versions-and-deployments/gradual-deployments/>
const VERSION_KEY: &str = "cloudflare-workers-version-key";
const VERSION_OVERRIDES: &str = "cloudflare-workers-version-overrides";

#[derive(Default)]
struct Table {
    /// By subdomain.
    accounts: HashMap<String, Arc<Runner>>,
    domains: HashMap<String, Target>,
    patterns: Patterns,
    buckets: PublicBuckets,
    s3: S3Hosts,
    /// The accounts that have a name of a custom domain or of a route.
    claims: HashMap<String, String>,
}

impl Table {
    /// The account that a host is of: its visitors are for none of another's. A name is its own before it is below that of
    /// another, and below a longer one before a shorter.
    fn holder(&self, host: &str, domains: &[String]) -> Option<&str> {
        let own = self.claims.get(host).map(String::as_str);
        own.or_else(|| self.beneath(host, domains)).or_else(|| {
            let pattern = self.patterns.of(host).next()?;
            Some(&pattern.target.runner.tenant.id)
        })
    }

    /// The account below whose own address a host is.
    fn beneath(&self, host: &str, domains: &[String]) -> Option<&str> {
        if let Some((account, _)) = self.buckets.managed(host, domains) {
            return Some(account);
        }
        if let Some(account) = self.s3.account(host, domains) {
            return Some(account);
        }
        let (_, subdomain) = labels(host, domains)?.split_once('.')?;
        self.accounts.get(subdomain).map(|runner| runner.tenant.id.as_str())
    }
}

/// What a host name below one of `domains` begins with.
fn labels<'a>(host: &'a str, domains: &[String]) -> Option<&'a str> {
    domains.iter().find_map(|domain| host.strip_suffix(domain)?.strip_suffix('.'))
}

/// All addresses of all accounts.
pub struct Hosts {
    /// What comes after `<script>.<account>`.
    domains: Vec<String>,
    table: RwLock<Arc<Table>>,
    /// Grows with every change.
    version: AtomicU64,
    challenges: OnceLock<Arc<dyn LocalHandler>>,
}

impl Hosts {
    /// No addresses yet.
    pub fn new(domains: Vec<String>) -> Self {
        Self { domains, table: RwLock::default(), version: AtomicU64::new(0), challenges: OnceLock::new() }
    }

    /// Reads all addresses anew: the accounts with their subdomains, and whose the names of custom domains and routes are.
    pub fn set(
        &self,
        accounts: Vec<(Option<String>, Arc<Runner>)>,
        claims: HashMap<String, String>,
        s3: impl Fn(&Arc<Runner>) -> S3,
    ) -> Result<(), String> {
        let mut table = Table { claims, ..Table::default() };
        let mut patterns = Vec::new();
        for (subdomain, runner) in accounts {
            table.s3.add(s3(&runner));
            let catalog = &runner.tenant.stores.catalog;
            let is_own = |name: &str| table.claims.get(name) == Some(&runner.tenant.id);
            for domain in catalog.domains().map_err(|e| e.to_string())? {
                if domain.enabled && is_own(&domain.hostname) {
                    let target = Target { runner: runner.clone(), script: Some(domain.script) };
                    table.domains.insert(domain.hostname, target);
                }
            }
            for route in catalog.routes().map_err(|e| e.to_string())? {
                if is_own(route.host()) {
                    let target = Target { runner: runner.clone(), script: route.script };
                    patterns.push(Pattern::new(&route.pattern, target));
                }
            }
            table.buckets.add(&runner.tenant, is_own)?;
            table.accounts.extend(subdomain.map(|subdomain| (subdomain, runner)));
        }
        table.patterns = Patterns::new(patterns);
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        self.version.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Another number after every change.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// The names of custom domains and routes; those with a `*` are none.
    pub fn named(&self) -> Vec<HostName> {
        let table = self.table();
        let domains = table.domains.keys().filter_map(|host| HostName::parse(host));
        let buckets = table.buckets.names().filter_map(HostName::parse);
        domains.chain(buckets).chain(table.patterns.iter().filter_map(Pattern::named)).collect()
    }

    /// Whether a host name is below the address of another account than this one.
    pub fn is_beneath_another(&self, name: &str, account: &str) -> bool {
        self.table().beneath(name, &self.domains).is_some_and(|holder| holder != account)
    }

    /// Answers an ACME authority, at every host.
    pub fn answer_challenges(&self, challenges: Challenges) {
        let _ = self.challenges.set(Arc::new(Answers(challenges)));
    }

    fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn find(&self, head: &Parts) -> Option<Site> {
        let path = head.uri.path();
        if path.starts_with(WELL_KNOWN)
            && let Some(answers) = self.challenges.get().filter(|answers| answers.handles(path))
        {
            return Some(Site { local: Some(answers.clone()), ..Site::default() });
        }
        let host = host_of(head)?;
        let table = self.table();
        let scheme = head.extensions.get::<Scheme>().map_or("http", Scheme::as_str);
        // Who has no routes is not asked whose the host is.
        let holder = (!table.patterns.is_empty()).then(|| table.holder(&host, &self.domains)).flatten();
        let target = table
            .patterns
            .of(&host)
            .find(|pattern| holder == Some(&pattern.target.runner.tenant.id) && pattern.matches(scheme, path))
            .map(|pattern| &pattern.target)
            .or_else(|| table.domains.get(&host));
        // Routes go before what is behind them; a pattern that turns scripts off leads to it.
        if target.is_none_or(|target| target.script.is_none())
            && let Some(bucket) = self.bucket(&table, &host)
        {
            return Some(Site { local: Some(bucket), ..Site::default() });
        }
        if let Some(target) = target {
            let live = target.runner.live(target.script.as_deref()?)?;
            return Some(target.runner.site(choose(&live, target.script.as_deref()?, head)?));
        }
        self.below_account(&table, &host, head)
    }

    /// A public bucket, or the S3 API of an account.
    fn bucket(&self, table: &Table, host: &str) -> Option<Arc<dyn LocalHandler>> {
        let public = table.buckets.at(host).or_else(|| Some(&table.buckets.managed(host, &self.domains)?.1));
        public.cloned().or_else(|| table.s3.at(host, &self.domains))
    }

    /// `<script>.<account>.<domain>`, or `<version>-<script>.<account>.<domain>`.
    fn below_account(&self, table: &Table, host: &str, head: &Parts) -> Option<Site> {
        let (label, subdomain) = labels(host, &self.domains)?.split_once('.')?;
        let runner = table.accounts.get(subdomain)?;
        if let Some(live) = runner.live(label) {
            return live.workers_dev.then(|| choose(&live, label, head).map(|share| runner.site(share)))?;
        }
        let (prefix, script) = label.split_once('-')?;
        let is_version = prefix.len() == 8 && prefix.bytes().all(|b| b.is_ascii_hexdigit());
        is_version.then(|| runner.preview(script, prefix))?
    }
}

impl Router for Hosts {
    fn route(&self, head: &Parts) -> Option<Site> {
        self.find(head)
    }
}

/// What is worth a certificate: hosts of routes and custom domains, public buckets, and scripts' own addresses. Not those of versions:
/// there are many, and each would take from what an authority gives.
impl Names for Hosts {
    fn serves(&self, name: &HostName) -> bool {
        let table = self.table();
        let by_name = || {
            table.patterns.of(name.as_str()).any(|pattern| pattern.named().is_some_and(|host| host == *name))
        };
        let by_script = || {
            let (script, subdomain) = labels(name.as_str(), &self.domains)?.split_once('.')?;
            Some(table.accounts.get(subdomain)?.live(script)?.workers_dev)
        };
        let host = name.as_str();
        let is_bucket = table.buckets.at(host).is_some()
            || table.buckets.managed(host, &self.domains).is_some()
            || table.s3.is_account(host, &self.domains);
        is_bucket || table.domains.contains_key(host) || by_name() || by_script().unwrap_or(false)
    }
}

/// Answers HTTP-01.
struct Answers(Challenges);

impl LocalHandler for Answers {
    fn handles(&self, path: &str) -> bool {
        self.0.answer(path).is_some()
    }

    fn handle<'a>(&'a self, head: &'a Parts, _: Body) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            match self.0.answer(head.uri.path()) {
                Some(text) => reply(StatusCode::OK, full(text)),
                None => reply(StatusCode::NOT_FOUND, full("")),
            }
        })
    }
}

/// The host without its port, in lower case.
fn host_of(head: &Parts) -> Option<String> {
    let named = head.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let authority = head.uri.authority().map(|authority| authority.as_str()).or(named)?;
    let parsed: Uri = authority.parse().ok()?;
    Some(parsed.host()?.trim_end_matches('.').to_ascii_lowercase())
}

/// The version that a request goes to: the one that it asks for, the one that its key leads to, or any by its share.
fn choose<'a>(live: &'a Live, script: &str, head: &Parts) -> Option<&'a Share> {
    if live.shares.len() == 1 {
        return live.shares.first();
    }
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(asked) = header(VERSION_OVERRIDES).and_then(|text| overridden(text, script))
        && let Some(share) = live.shares.iter().find(|share| share.version == asked)
    {
        return Some(share);
    }
    let point = match header(VERSION_KEY) {
        Some(key) => fraction(key.bytes().chain(script.bytes())),
        None => random(),
    };
    by_share(&live.shares, point * 100.0)
}

fn by_share(shares: &[Share], mut point: f64) -> Option<&Share> {
    for share in shares {
        point -= share.percentage;
        if point < 0.0 {
            return Some(share);
        }
    }
    shares.last()
}

/// The version that `script="id", other="id"` names for a script.
fn overridden<'a>(text: &'a str, script: &str) -> Option<&'a str> {
    text.split(',').find_map(|item| {
        let (name, id) = item.trim().split_once('=')?;
        (name.trim() == script).then(|| id.trim().trim_matches('"'))
    })
}

/// A number from 0 to 1 that the bytes always lead to (FNV-1a, then mixed).
fn fraction(bytes: impl Iterator<Item = u8>) -> f64 {
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    ((mixed ^ (mixed >> 32)) >> 11) as f64 / (1u64 << 53) as f64
}

fn random() -> f64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static STATE: AtomicU64 = AtomicU64::new(0);
    fraction(STATE.fetch_add(1, Ordering::Relaxed).to_le_bytes().into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(version: &str, percentage: f64) -> Share {
        Share {
            version: version.into(),
            percentage,
            worker: None,
            assets: None,
            meter: Arc::default(),
            traced: None,
        }
    }

    #[test]
    fn requests_are_shared_out_by_percentage_and_a_key_always_leads_to_the_same() {
        let shares = [share("a", 90.0), share("b", 10.0)];
        let count =
            (0..10_000).filter(|_| by_share(&shares, random() * 100.0).unwrap().version == "b").count();
        assert!((800..1200).contains(&count), "{count}");
        let keyed = (0..10_000).filter(|n| {
            let point = fraction(format!("key {n}").bytes());
            by_share(&shares, point * 100.0).unwrap().version == "b"
        });
        let count = keyed.count();
        assert!((800..1200).contains(&count), "{count}");
        assert_eq!(by_share(&[share("a", 100.0), share("b", 0.0)], 99.999).unwrap().version, "a");
    }

    #[test]
    fn an_override_names_its_script() {
        let text = "api=\"11\", web=\"22\"";
        assert_eq!((overridden(text, "web"), overridden(text, "x")), (Some("22"), None));
    }

    #[test]
    fn a_host_is_read_from_the_authority_or_the_header() {
        let head = |uri: &str, host: &str| {
            http::Request::get(uri).header("host", host).body(()).unwrap().into_parts().0
        };
        assert_eq!(host_of(&head("/x", "A.Localhost:80")).as_deref(), Some("a.localhost"));
        assert_eq!(host_of(&head("http://b.c:1/x", "a")).as_deref(), Some("b.c"));
    }
}
