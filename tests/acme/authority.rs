//! A small ACME authority (RFC 8555): it checks signatures, nonces and URLs, looks for challenges where the node listens,
//! and issues. It holds everything in memory.

use std::collections::{HashMap, HashSet};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::http::{self, Server};
use super::protocol::{Shared, State};
use super::validate::Ports;

/// How it behaves.
#[derive(Clone)]
pub struct Rules {
    /// How long a certificate is valid.
    pub life: Duration,
    /// How long it has been valid when it is issued.
    pub age: Duration,
    /// The challenges that it offers.
    pub offered: Vec<&'static str>,
    /// It looks for a challenge before it takes note of it, and not afterwards.
    pub hasty: bool,
    /// So many signed requests are answered with `badNonce`.
    pub bad_nonces: usize,
    /// New orders are refused with `rateLimited` and this Retry-After.
    pub limited: Option<u64>,
    /// The identifier and the secret that a new account has to be bound to.
    pub binding: Option<(&'static str, &'static [u8])>,
}

/// What has happened.
#[derive(Clone, Default, Debug)]
pub struct Log {
    pub accounts: Vec<Vec<String>>,
    /// Contacts of an account that were changed.
    pub contacts: Vec<Vec<String>>,
    /// Names, in order.
    pub orders: Vec<String>,
    /// Name, way, and what came of it.
    pub validations: Vec<(String, String, Result<(), String>)>,
    pub limited: Vec<Instant>,
    pub issued: usize,
}

/// A running authority.
pub struct Authority {
    shared: Arc<Shared>,
    /// What its certificates are checked by (PEM).
    pub root: String,
    pub dir: tempfile::TempDir,
    config: Arc<skep_edge::rustls::ServerConfig>,
    server: Option<Server>,
    port: u16,
}

impl Authority {
    pub fn start(rules: Rules) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = http::identity(&dir.path().join("ca.pem"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().pem();
        let state = State {
            rules,
            log: Log::default(),
            nonces: HashSet::new(),
            accounts: HashMap::new(),
            orders: Vec::new(),
            ports: None,
        };
        let shared = Arc::new(Shared {
            base: format!("https://127.0.0.1:{port}"),
            issuer: Issuer::new(params, key),
            state: Mutex::new(state),
        });
        let mut this = Self { shared, root, dir, config, server: None, port };
        this.serve(listener);
        this
    }

    fn serve(&mut self, listener: TcpListener) {
        let shared = self.shared.clone();
        self.server =
            Some(Server::start(listener, self.config.clone(), move |request| shared.answer(&request)));
    }

    /// Ends to listen.
    pub fn go_down(&mut self) {
        self.server = None;
    }

    /// Listens again, where it did.
    pub fn come_back(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        self.serve(listener);
    }

    /// The flags that make a node ask it.
    pub fn args(&self) -> Vec<String> {
        let ca = self.dir.path().join("ca.pem").display().to_string();
        let directory = format!("{}/directory", self.shared.base);
        ["--acme-directory", &directory, "--acme-ca", &ca].map(str::to_owned).to_vec()
    }

    /// All names lead there.
    pub fn look_at(&self, ports: Ports) {
        self.shared.state().ports = Some(ports);
    }

    pub fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.shared.state().rules);
    }

    pub fn log(&self) -> Log {
        self.shared.state().log.clone()
    }

    /// As an authority that has lost its accounts.
    pub fn forget_accounts(&self) {
        self.shared.state().accounts.clear();
    }
}
