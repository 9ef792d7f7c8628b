//! Where a mail relay is, and how one talks to it.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// How a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    /// From the first byte on (RFC 8314).
    Tls,
    /// After STARTTLS, without which nothing is sent (RFC 3207).
    StartTls,
    /// Not at all.
    None,
}

/// A mail relay. It is not printed: it may have a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub host: String,
    pub port: u16,
    pub security: Security,
    /// The user and the password.
    pub login: Option<(String, String)>,
}

impl Server {
    /// Reads `smtp[s]://[user[:password]@]host[:port][?tls=none|required]`. No text of an error has anything of it, as there may be a
    /// password in it.
    pub fn parse(text: &str, password: Option<&str>) -> Result<Self, String> {
        let url = Url::parse(text.trim()).map_err(|_| wrong())?;
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err(wrong()),
        };
        // Of a scheme that it does not know, the parser leaves an address as it is.
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        let is_here =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let (security, port) = match (url.scheme(), url.query()) {
            ("smtps", None) => (Security::Tls, 465),
            ("smtp", Some("tls=required")) => (Security::StartTls, 587),
            ("smtp", None) if !is_here => (Security::StartTls, 587),
            ("smtp", None | Some("tls=none")) => (Security::None, if is_here { 25 } else { 587 }),
            _ => return Err(wrong()),
        };
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(wrong());
        }
        let decoded = |text: &str| {
            percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(|_| wrong())
        };
        let login = match (url.username(), url.password(), password) {
            ("", None, None) => None,
            ("", ..) => {
                return Err("--mail-relay needs a user for its password: smtps://user@host".to_owned());
            }
            (user, None, None) => {
                return Err(format!(
                    "--mail-relay has the user {user} and no password: give it in SKEP_MAIL_RELAY, or with --mail-relay-password-file"
                ));
            }
            (_, Some(_), Some(_)) => {
                return Err("--mail-relay has a password, and --mail-relay-password-file another".to_owned());
            }
            (user, None, Some(password)) => Some((decoded(user)?, password.to_owned())),
            (user, Some(password), None) => Some((decoded(user)?, decoded(password)?)),
        };
        if login.is_some() && security == Security::None && !is_here {
            return Err("--mail-relay would give its password away: with one there is TLS".to_owned());
        }
        Ok(Self { host, port: url.port().unwrap_or(port), security, login })
    }
}

fn wrong() -> String {
    "--mail-relay is no mail server: give one as smtps://user@host, or smtp://user@host with STARTTLS; \
     smtp://host?tls=none goes without"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Host, port, security and login.
    type Parts = (String, u16, Security, Option<(String, String)>);

    fn parse(text: &str, password: Option<&str>) -> Option<Parts> {
        let server = Server::parse(text, password).ok()?;
        Some((server.host, server.port, server.security, server.login))
    }

    #[test]
    fn a_relay_is_a_url() {
        let login = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        let own = |host: &str, port, security, login| Some((host.to_owned(), port, security, login));
        for (text, password, expected) in [
            ("smtps://u:p@x.org", None, own("x.org", 465, Security::Tls, login("u", "p"))),
            ("smtps://x.org:1465/", None, own("x.org", 1465, Security::Tls, None)),
            (
                "smtp://u%40x.org:p%3A%2F@x.org",
                None,
                own("x.org", 587, Security::StartTls, login("u@x.org", "p:/")),
            ),
            ("smtp://u@x.org:25", Some("secret"), own("x.org", 25, Security::StartTls, login("u", "secret"))),
            ("smtp://x.org?tls=none", None, own("x.org", 587, Security::None, None)),
            ("smtp://localhost?tls=required", None, own("localhost", 587, Security::StartTls, None)),
            ("smtp://localhost", None, own("localhost", 25, Security::None, None)),
            ("smtp://u:p@127.0.0.1:2525", None, own("127.0.0.1", 2525, Security::None, login("u", "p"))),
            ("smtp://[::1]:2525", None, own("::1", 2525, Security::None, None)),
        ] {
            assert_eq!(parse(text, password), expected, "{text}");
        }
    }

    #[test]
    fn what_is_none_or_would_give_a_password_away_is_refused_without_it() {
        for text in [
            "x.org",
            "http://u:hunter2@x.org",
            "smtps://u:hunter2@x.org/path",
            "smtp://u:hunter2@x.org?tls=none",
            "smtp://",
            "smtps://:hunter2@x.org",
            "smtps://u:hunter2@x.org?tls=maybe",
            "smtps://u:hunter2@x.org:99999",
            "smtps://u@x.org",
        ] {
            let error = Server::parse(text, None).err().unwrap_or_else(|| panic!("{text}"));
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(
            Server::parse("smtps://u:hunter2@x.org", Some("hunter2")).is_err_and(|e| !e.contains("hunter2"))
        );
    }
}
