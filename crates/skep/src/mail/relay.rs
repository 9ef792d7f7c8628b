//! The mail relay of a node: the server that its operator names, which takes what workers send (RFC 5321).

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{Error as SmtpError, client};
use skep_runtime::Clock;
use tokio::sync::Semaphore;

use super::allowance::{Allowance, Allowed};
use super::letter::{Letter, Rules};
use super::refused::{Code, Refused};
use super::server::{Security, Server};

/// How long the relay may take until it lets mail in.
const GREETING: Duration = Duration::from_secs(30);
/// How long it may take for a message.
const MESSAGE: Duration = Duration::from_secs(120);
/// Connections to it at once, and those of one account; other mail waits.
const CONNECTIONS: usize = 16;
const CONNECTIONS_OF_ACCOUNT: usize = 4;

/// The mail that workers send.
#[derive(Clone, Debug, Args)]
pub struct RelayArgs {
    /// The mail server that takes what workers send: smtps://user@mail.example.com, or smtp:// with STARTTLS. A password in
    /// it belongs into the variable: others on this machine see command lines
    #[arg(long, value_name = "URL", env = "SKEP_MAIL_RELAY", hide_env_values = true)]
    pub mail_relay: Option<Hidden>,
    /// The file with the mail server's password
    #[arg(long, value_name = "FILE", requires = "mail_relay")]
    pub mail_relay_password_file: Option<PathBuf>,
    /// Mail may come from this domain only; several times for several
    #[arg(long, value_name = "DOMAIN", requires = "mail_relay")]
    pub mail_from: Vec<String>,
    /// Recipients that an account may write to within 24 hours
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub mail_per_day: u32,
    /// Recipients that an account may write to within a minute
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub mail_per_minute: u32,
    /// What a message may be, attachments and all, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub max_mail: u32,
}

/// A text that is not printed.
#[derive(Clone)]
pub struct Hidden(String);

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl RelayArgs {
    /// The relay that they name, if they do.
    pub fn relay(&self, clock: &Clock) -> Result<Option<Arc<Relay>>, String> {
        let Some(Hidden(url)) = &self.mail_relay else { return Ok(None) };
        let password = match &self.mail_relay_password_file {
            None => None,
            Some(file) => {
                let read = std::fs::read_to_string(file);
                let text = read.map_err(|e| format!("cannot read {}: {e}", file.display()))?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
        };
        let server = Server::parse(url, password.as_deref())?;
        let tls = match server.security {
            Security::None => None,
            Security::Tls | Security::StartTls => {
                let made = TlsParameters::builder(server.host.clone())
                    .certificate_store(client::CertificateStore::Default)
                    .build_rustls();
                Some(made.map_err(|e| format!("cannot use TLS with the mail relay: {e}"))?)
            }
        };
        let domains = self.mail_from.clone();
        Ok(Some(Arc::new(Relay {
            server,
            tls,
            hello: hello(),
            turns: Semaphore::new(CONNECTIONS),
            turns_of_accounts: Mutex::default(),
            rules: Rules { bytes: (self.max_mail as usize) << 20, domains },
            allowance: Allowance::new(Allowed {
                per_day: self.mail_per_day,
                per_minute: self.mail_per_minute,
            }),
            clock: clock.clone(),
        })))
    }
}

/// Who we say that we are: this machine's name, if it is one that a server may look up.
fn hello() -> ClientId {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    match name.contains('.') && name.bytes().all(valid) {
        true => ClientId::Domain(name),
        false => ClientId::default(),
    }
}

/// What takes mail.
pub struct Relay {
    server: Server,
    tls: Option<TlsParameters>,
    hello: ClientId,
    turns: Semaphore,
    turns_of_accounts: Mutex<HashMap<String, Arc<Semaphore>>>,
    pub(super) rules: Rules,
    pub(super) allowance: Allowance,
    pub(super) clock: Clock,
}

/// Why it did not take a message.
enum Failure {
    /// It did not come to that.
    Unreachable(String),
    /// It said so.
    Refused(String),
    /// It did not answer any more.
    Unknown(String),
}

impl Relay {
    /// For people: where it is.
    pub fn shown(&self) -> String {
        format!("{}:{}", self.server.host, self.server.port)
    }

    /// Says why no mail can be given to it, if none can: before the first worker finds out.
    pub async fn check(&self) {
        match self.in_time().await {
            Ok(mut connection) => {
                let _ = tokio::time::timeout(GREETING, connection.quit()).await;
            }
            Err(error) => tracing::warn!(relay = self.shown(), error, "the mail relay takes no mail"),
        }
    }

    async fn in_time(&self) -> Result<AsyncSmtpConnection, String> {
        match tokio::time::timeout(GREETING, self.connect()).await {
            Ok(connected) => connected.map_err(|e| e.to_string()),
            Err(_) => Err(format!("it did not let us in within {} s", GREETING.as_secs())),
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SmtpError> {
        let Server { host, port, security, login } = &self.server;
        let (wrapped, later) = match security {
            Security::StartTls => (None, self.tls.clone()),
            Security::Tls | Security::None => (self.tls.clone(), None),
        };
        let address = (host.as_str(), *port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, Some(GREETING), &self.hello, wrapped, None).await?;
        if let Some(tls) = later {
            connection.starttls(tls, &self.hello).await?;
        }
        if let Some((user, password)) = login {
            let credentials = Credentials::new(user.clone(), password.clone());
            connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
        }
        Ok(connection)
    }

    /// Gives it a message, on a connection of its own: one that is left in the middle of a message, as the caller has gone, is of no
    /// use to another. All recipients get it or none.
    pub(super) async fn deliver(&self, letter: &Letter, account: &str, script: &str) -> Result<(), Refused> {
        let failure = match self.give(letter, account).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        // What the operator has to see: who could not send. What a worker gets does not say where the relay is.
        let (error, refused) = match failure {
            Failure::Unreachable(error) => (
                error,
                Refused::new(
                    Code::Internal,
                    "Email Service temporarily unavailable: the mail relay cannot be reached",
                ),
            ),
            Failure::Unknown(error) => {
                let text = "The mail relay did not answer: it is not known whether it took the email";
                (error, Refused::new(Code::Internal, text))
            }
            Failure::Refused(error) => {
                let text = format!("Could not deliver the email: {error}");
                (error, Refused::new(Code::Delivery, text))
            }
        };
        tracing::warn!(account, script, relay = self.shown(), error, "a mail was not sent");
        Err(refused)
    }

    fn turns_of(&self, account: &str) -> Arc<Semaphore> {
        let mut accounts = self.turns_of_accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = accounts.entry(account.to_owned());
        turns.or_insert_with(|| Arc::new(Semaphore::new(CONNECTIONS_OF_ACCOUNT))).clone()
    }

    async fn give(&self, letter: &Letter, account: &str) -> Result<(), Failure> {
        let own = self.turns_of(account);
        let closed = |e: tokio::sync::AcquireError| Failure::Unreachable(e.to_string());
        let _own_turn = own.acquire().await.map_err(closed)?;
        let _turn = self.turns.acquire().await.map_err(closed)?;
        let mut connection = self.in_time().await.map_err(Failure::Unreachable)?;
        let envelope = Envelope::new(Some(letter.from.clone()), letter.to.clone());
        let envelope = envelope.map_err(|e| Failure::Refused(e.to_string()))?;
        // It ends with a line's end of its own.
        let raw = letter.raw.strip_suffix(b"\r\n").unwrap_or(&letter.raw);
        match tokio::time::timeout(MESSAGE, connection.send(&envelope, raw)).await {
            Ok(Ok(_)) => {
                // It has the message: how it says goodbye is nobody's concern.
                tokio::spawn(async move { tokio::time::timeout(GREETING, connection.quit()).await.is_ok() });
                Ok(())
            }
            Ok(Err(error)) if error.is_permanent() || error.is_transient() || error.is_client() => {
                Err(Failure::Refused(said(&error)))
            }
            Ok(Err(error)) => Err(Failure::Unknown(error.to_string())),
            Err(_) => Err(Failure::Unknown(format!("no answer within {} s", MESSAGE.as_secs()))),
        }
    }
}

/// What the relay said, with its status.
fn said(error: &SmtpError) -> String {
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    match error.status() {
        Some(status) => format!("{status} {text}"),
        None => text,
    }
}
