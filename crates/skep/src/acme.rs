//! The flags that say which ACME authority gives certificates.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use skep_acme::{Binding, Options};
use url::Url;

/// Certificates from an ACME authority.
#[derive(Clone, Debug, Args)]
pub struct AcmeArgs {
    /// Certificates for --https come from this ACME authority. Let's Encrypt's directory:
    /// https://acme-v02.api.letsencrypt.org/directory
    #[arg(long, value_name = "URL", requires = "https", value_parser = parse_directory)]
    pub acme_directory: Option<Url>,
    /// You agree to the authority's terms of service
    #[arg(long, requires = "acme_directory")]
    pub acme_accept_terms: bool,
    /// An e-mail address that the authority may write to; several times for several
    #[arg(long, value_name = "MAIL", requires = "acme_directory", value_parser = parse_contact)]
    pub acme_contact: Vec<String>,
    /// The certificates (PEM) that the authority's own one is checked by, instead of this machine's
    #[arg(long, value_name = "FILE", requires = "acme_directory")]
    pub acme_ca: Option<PathBuf>,
    /// External account binding: the identifier that the authority gave you
    #[arg(long, value_name = "ID", requires = "acme_eab_key_file")]
    pub acme_eab_id: Option<String>,
    /// External account binding: a file with the key (base64url) that the authority gave you
    #[arg(long, value_name = "FILE", requires_all = ["acme_eab_id", "acme_directory"])]
    pub acme_eab_key_file: Option<PathBuf>,
    /// So many names may get their first certificate per hour; renewals are not counted
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub acme_orders_per_hour: u32,
    /// After an order that failed the name waits so long, then twice as long, and so on, up to 360 times
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_retry)]
    pub acme_retry: Duration,
}

impl AcmeArgs {
    /// What they ask for; `None` without a directory.
    pub fn options(&self) -> Result<Option<Options>, String> {
        let Some(directory) = self.acme_directory.clone() else { return Ok(None) };
        let binding = match (&self.acme_eab_id, &self.acme_eab_key_file) {
            (Some(id), Some(file)) => {
                let unusable = |e: &dyn std::fmt::Display| format!("cannot use {}: {e}", file.display());
                let key = std::fs::read_to_string(file).map_err(|e| unusable(&e))?;
                Some(Binding::new(id, &key).map_err(|e| unusable(&e))?)
            }
            _ => None,
        };
        let (contact, per_hour, retry) =
            (self.acme_contact.clone(), self.acme_orders_per_hour, self.acme_retry);
        Ok(Some(Options { directory, contact, binding, per_hour, retry }))
    }
}

/// RFC 8555 §6.1: HTTPS, always; an authority on this machine may do without.
fn parse_directory(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    let here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => return Err("expected an https:// URL".into()),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if here => Ok(url),
        _ => Err("expected an https:// URL".into()),
    }
}

fn parse_contact(text: &str) -> Result<String, String> {
    let address = text.strip_prefix("mailto:").unwrap_or(text);
    let (name, domain) = address.rsplit_once('@').ok_or("expected an e-mail address")?;
    let is_address =
        !name.is_empty() && !domain.is_empty() && !address.contains(|c: char| c.is_whitespace() || c == ',');
    is_address.then(|| format!("mailto:{address}")).ok_or_else(|| "expected an e-mail address".to_owned())
}

fn parse_retry(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    (time >= Duration::from_secs(1)).then_some(time).ok_or_else(|| "expected a second or more".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_reached_over_tls_unless_it_is_here() {
        for right in [
            "https://acme.example/directory",
            "http://127.0.0.1:14000/dir",
            "http://[::1]/",
            "http://localhost/",
        ] {
            assert!(parse_directory(right).is_ok(), "{right}");
        }
        for wrong in ["http://acme.example/directory", "acme.example", "ftp://localhost/", "mailto:a@b"] {
            assert!(parse_directory(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_contact_is_an_address_with_or_without_mailto() {
        assert_eq!(parse_contact("me@example.com").as_deref(), Ok("mailto:me@example.com"));
        assert_eq!(parse_contact("mailto:me@example.com").as_deref(), Ok("mailto:me@example.com"));
        for wrong in ["me", "@example.com", "me@", "a@b, c@d"] {
            assert!(parse_contact(wrong).is_err(), "{wrong}");
        }
    }
}
