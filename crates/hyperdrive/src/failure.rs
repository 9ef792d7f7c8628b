//! Why there is no connection. Codes and what they mean are Cloudflare's.
//! <https://developers.cloudflare.com/hyperdrive/observability/troubleshooting/>

/// Why a database cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The name leads nowhere.
    #[error("Bad hostname: {0} cannot be resolved")]
    Hostname(String),
    /// It is where nobody may go.
    #[error(
        "The hostname does not resolve to a public IP address, or the IP address is not a public address: {0}"
    )]
    Forbidden(String),
    /// No way there, or no answer.
    #[error("Server connection attempt failed: {0}")]
    Unreachable(String),
    /// Nobody listens.
    #[error("Server connection attempt failed: connection_refused")]
    Refused,
    /// TLS is asked for, and the server has none.
    #[error("TLS (SSL) not supported by the database")]
    NoTls,
    /// TLS was tried.
    #[error("TLS (SSL) with the database failed: {0}")]
    Tls(String),
    /// The database does not let the user in; its own words.
    #[error("Invalid database credentials: {0}")]
    Credentials(String),
    /// The server has no such database; its own words.
    #[error("The specified database name does not exist: {0}")]
    Database(String),
    /// Anything else that the server says, or does not do.
    #[error("{0}")]
    Other(String),
    /// It lets the user in, and answers no query.
    #[error("Test query failed: {0}")]
    Query(String),
    /// All connections that it may have are in use.
    #[error("Failed to acquire a connection from the pool.")]
    Busy,
}

impl Failure {
    /// Cloudflare's code.
    pub fn code(&self) -> u32 {
        match self {
            Self::Hostname(_) => 2008,
            Self::Forbidden(_) => 2009,
            Self::Unreachable(_) => 2010,
            Self::Refused => 2011,
            Self::NoTls => 2012,
            Self::Credentials(_) => 2013,
            Self::Database(_) => 2014,
            Self::Tls(_) | Self::Other(_) | Self::Busy => 2015,
            Self::Query(_) => 2016,
        }
    }

    /// What a driver gets to see beside the text, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
    pub(crate) fn sqlstate(&self) -> &'static str {
        match self {
            Self::Credentials(_) => "28P01",
            Self::Database(_) => "3D000",
            Self::Busy => "53300",
            // sqlclient_unable_to_establish_sqlconnection
            _ => "08001",
        }
    }

    /// What the server's own refusal comes to, by its code.
    pub(crate) fn of(sqlstate: &str, message: &str) -> Self {
        match sqlstate {
            "28P01" | "28000" => Self::Credentials(message.to_owned()),
            "3D000" => Self::Database(message.to_owned()),
            _ => Self::Other(message.to_owned()),
        }
    }
}
