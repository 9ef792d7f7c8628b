//! All certificates of a node, and the orders under way.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use instant_acme::{Account, Error};
use skep_runtime::Clock;
use tokio_rustls::rustls::sign::CertifiedKey;
use url::Url;

use crate::account::{self, Binding};
use crate::book::{Book, Pace, Setback};
use crate::certificate::Certificate;
use crate::challenges::Challenges;
use crate::client::{Http, listening};
use crate::name::HostName;
use crate::order::{Issued, OrderError, Way, order};
use crate::store::Store;

/// An order that takes longer has failed.
const LONGEST_ORDER: Duration = Duration::from_secs(6 * 60);
/// How long the first account may take while the node starts.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// Nobody waits longer than this, whatever the authority says.
const LONGEST_WAIT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Which authority, and how it may be asked.
#[derive(Clone, Debug)]
pub struct Options {
    /// The authority's directory.
    pub directory: Url,
    /// Whom it may write to: `mailto:` URLs.
    pub contact: Vec<String>,
    /// Who pays.
    pub binding: Option<Binding>,
    /// First certificates per hour; renewals are not limited.
    pub per_hour: u32,
    /// The delay after a failed order; it doubles with each.
    pub retry: Duration,
}

/// Says which names are served. Called now and then: it may read from a disk.
pub trait Names: Send + Sync {
    /// Whether a certificate for the name is still of use.
    fn serves(&self, name: &HostName) -> bool;
}

/// How it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Certificates that are there.
    pub certificates: usize,
    /// Names whose last order failed.
    pub failing: usize,
    /// When the first certificate expires, in milliseconds since the Unix epoch.
    pub first_to_expire: Option<u64>,
    /// Orders that came to a certificate, since the start.
    pub issued: u64,
    /// Orders that did not.
    pub failed: u64,
}

/// Certificates by name, from one authority.
pub struct Acme {
    options: Options,
    http: Arc<dyn Http>,
    clock: Clock,
    store: Store,
    challenges: Challenges,
    certificates: RwLock<HashMap<HostName, Certificate>>,
    book: Mutex<Book>,
    account: tokio::sync::Mutex<Option<Account>>,
    /// The way that worked last.
    way: Mutex<Way>,
    issued: AtomicU64,
    failed: AtomicU64,
}

impl std::fmt::Debug for Acme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acme").field("directory", &self.options.directory.as_str()).finish_non_exhaustive()
    }
}

impl Acme {
    /// Reads what is kept in `folder`. Without an account it makes one; what the authority refuses is an error, an
    /// authority that does not answer is not: it is asked again.
    pub async fn open(
        options: Options,
        folder: &Path,
        http: Arc<dyn Http>,
        clock: Clock,
    ) -> Result<Arc<Self>, String> {
        let store = Store::open(folder, &options.directory)?;
        let pace = Pace { per_hour: options.per_hour, retry: options.retry };
        let mut book = Book::new(pace, clock.now_ms());
        let mut certificates = HashMap::new();
        for (name, certificate) in store.certificates()? {
            book.hold(name.clone(), certificate.times);
            certificates.insert(name, certificate);
        }
        let is_new = store.account()?.is_none();
        let this = Arc::new(Self {
            options,
            http,
            clock,
            store,
            challenges: Challenges::default(),
            certificates: RwLock::new(certificates),
            book: Mutex::new(book),
            account: tokio::sync::Mutex::default(),
            way: Mutex::new(Way::TlsAlpn),
            issued: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        if is_new {
            this.first_account().await?;
        }
        Ok(this)
    }

    async fn first_account(&self) -> Result<(), String> {
        let directory = self.options.directory.as_str();
        match tokio::time::timeout(START_PATIENCE, self.account()).await {
            Ok(Ok(_)) => {}
            Ok(Err(Error::Api(problem)))
                if problem.status.is_none_or(|s| (400..500).contains(&s) && s != 429) =>
            {
                let text = problem.to_string().replacen("API error: ", "", 1);
                return Err(format!("the ACME authority {directory} gives no account: {text}"));
            }
            Ok(Err(error)) => {
                tracing::warn!(directory, %error, "the ACME authority gives no account now; it is asked again");
            }
            Err(_) => tracing::warn!(directory, "the ACME authority does not answer; it is asked again"),
        }
        Ok(())
    }

    /// The certificate of a name, if there is one.
    pub fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let all = self.certificates.read().unwrap_or_else(PoisonError::into_inner);
        Some(all.get(name)?.pair.clone())
    }

    /// What to answer the authority with.
    pub fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// A certificate is wanted for a name that is served. Asking again costs nothing.
    pub fn ask(&self, name: &HostName) {
        if !self.book().ask(name) {
            tracing::debug!(%name, "too many names wait for certificates");
        }
    }

    /// Begins the orders that are due.
    pub fn sweep(self: &Arc<Self>, names: &dyn Names) {
        let now = self.clock.now_ms();
        loop {
            let Some(name) = self.book().next(now) else { return };
            if names.serves(&name) {
                tokio::spawn(self.clone().attempt(name));
            } else if self.book().not_served(&name, now) {
                self.certificates.write().unwrap_or_else(PoisonError::into_inner).remove(&name);
                if let Err(error) = self.store.forget(&name) {
                    tracing::warn!(error, "an expired certificate stays on the disk");
                }
            }
        }
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let counts = self.book().counts();
        Status {
            certificates: counts.held,
            failing: counts.failing,
            first_to_expire: counts.first_to_expire,
            issued: self.issued.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn attempt(self: Arc<Self>, name: HostName) {
        let (result, asked) = listening(tokio::time::timeout(LONGEST_ORDER, self.obtain(&name))).await;
        let late = || OrderError::Own(format!("the authority took longer than {LONGEST_ORDER:?}"));
        match result.unwrap_or_else(|_| Err(late())) {
            Ok(certificate) => {
                let until = date(certificate.times.until);
                self.book().issued(&name, self.clock.now_ms(), certificate.times);
                let mut all = self.certificates.write().unwrap_or_else(PoisonError::into_inner);
                all.insert(name.clone(), certificate);
                self.issued.fetch_add(1, Ordering::Relaxed);
                tracing::info!(%name, until, "there is a new certificate");
            }
            Err(error) => self.note(&name, &error, asked.map(|asked| asked.min(LONGEST_WAIT))).await,
        }
    }

    async fn note(&self, name: &HostName, error: &OrderError, retry_after: Option<Duration>) {
        let kind = error.kind().unwrap_or_default();
        if kind == "accountDoesNotExist" {
            // The next attempt makes another one.
            *self.account.lock().await = None;
            if let Err(error) = self.store.forget_account() {
                tracing::warn!(error, "an account that the authority has forgotten stays on the disk");
            }
        }
        self.failed.fetch_add(1, Ordering::Relaxed);
        let setback = Setback { retry_after, for_all: retry_after.is_some() };
        let error = error.to_string().replacen("API error: ", "", 1);
        let (next, expiry) = {
            let mut book = self.book();
            (book.failed(name, self.clock.now_ms(), setback), book.expiry(name))
        };
        let next = date(next);
        match expiry {
            None => tracing::warn!(%name, error, next, "no certificate yet"),
            Some(expiry) => {
                let until = date(expiry);
                tracing::warn!(%name, error, next, until, "a certificate could not be renewed; the earlier one stays");
            }
        }
    }

    /// Orders a certificate by the way that worked last, then by the other one.
    async fn obtain(&self, name: &HostName) -> Result<Certificate, OrderError> {
        let account = self.account().await?;
        let way = *self.way.lock().unwrap_or_else(PoisonError::into_inner);
        let first = order(&account, name, way, &self.challenges).await;
        let (issued, way) = match first {
            Err(first @ (OrderError::Unproven(_) | OrderError::NotOffered(_))) => {
                tracing::info!(%name, way = way.name(), error = %first, "the other challenge is tried");
                let second = order(&account, name, way.other(), &self.challenges).await;
                let second = second.map_err(|second| match second {
                    OrderError::Unproven(_) | OrderError::NotOffered(_) => OrderError::Unproven(format!(
                        "{}: {first}; {}: {second}",
                        way.name(),
                        way.other().name()
                    )),
                    other => other,
                });
                (second?, way.other())
            }
            issued => (issued?, way),
        };
        *self.way.lock().unwrap_or_else(PoisonError::into_inner) = way;
        self.keep(name, issued).await.map_err(OrderError::Own)
    }

    async fn keep(&self, name: &HostName, issued: Issued) -> Result<Certificate, String> {
        let certificate = Certificate::read(name, &issued.chain, &issued.key)
            .map_err(|e| format!("the authority sent a certificate that cannot be used: {e}"))?;
        if certificate.times.renew_at() <= self.clock.now_ms() {
            let until = date(certificate.times.until);
            return Err(format!(
                "the authority sent a certificate that is valid until {until}, which is no use now: is this machine's \
                 clock right?"
            ));
        }
        let (store, name) = (self.store.clone(), name.clone());
        let kept = tokio::task::spawn_blocking(move || store.keep(&name, issued.chain, issued.key)).await;
        // It can be used all the same; the next start orders it again.
        if let Err(error) = kept.unwrap_or_else(|e| Err(e.to_string())) {
            tracing::error!(error, "a new certificate cannot be kept");
        }
        Ok(certificate)
    }

    async fn account(&self) -> Result<Account, Error> {
        let mut account = self.account.lock().await;
        if let Some(account) = &*account {
            return Ok(account.clone());
        }
        let Options { directory, contact, binding, .. } = &self.options;
        let opened = account::open(&self.http, directory, contact, binding.as_ref(), &self.store).await?;
        Ok(account.insert(opened).clone())
    }
}

fn date(ms: u64) -> String {
    let time = std::time::UNIX_EPOCH + Duration::from_millis(ms.min(MAX_DATE));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The end of the year 9999, which is the last that can be written.
const MAX_DATE: u64 = 253_402_300_799_000;
