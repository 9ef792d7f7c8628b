//! Which database, and how to it.

/// A database, by what an account said of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Origin {
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// What proves it.
    pub password: String,
    /// Which database of the server.
    pub database: String,
    /// Whether and how the way there is encrypted.
    pub tls: Tls,
    /// Connections to it at once.
    pub connections: usize,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }
}

/// `sslmode`.
/// <https://developers.cloudflare.com/hyperdrive/configuration/tls-ssl-certificates-for-hyperdrive/>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Nothing was said: encrypted, whoever the server is; also in the clear where a server at a private address has no TLS.
    #[default]
    Unsaid,
    /// `require`: by a certificate that the machine trusts, whatever name is in it. So Cloudflare documents it; `libpq` takes
    /// any certificate.
    Require,
    /// `verify-ca`: the same, where no authority is named.
    VerifyCa,
    /// `verify-full`: a certificate that the machine trusts, for the name of the host.
    VerifyFull,
}

impl Tls {
    /// Reads `sslmode`.
    pub fn parse(mode: &str) -> Option<Self> {
        match mode {
            "require" => Some(Self::Require),
            "verify-ca" => Some(Self::VerifyCa),
            "verify-full" => Some(Self::VerifyFull),
            _ => None,
        }
    }
}
