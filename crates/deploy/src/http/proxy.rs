//! Which proxy a request goes through, by the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// The proxies of the environment. A loopback address never goes through one: the proxy would reach its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    none: Vec<String>,
}

/// A proxy and how to log in there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Proxy {
    pub host: String,
    pub port: u16,
    /// `Proxy-Authorization`.
    pub authorization: Option<String>,
}

impl Proxies {
    /// The proxies that the variables say; lower case goes before upper case, as in curl.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let value = |name: &str| {
            let set = variable(&name.to_lowercase()).or_else(|| variable(name));
            set.filter(|value| !value.trim().is_empty())
        };
        let proxy = |name: &str| {
            let text = value(name).or_else(|| value("ALL_PROXY"));
            text.map(|text| Proxy::parse(&text).map_err(|e| format!("{name}: {e}"))).transpose()
        };
        let none = value("NO_PROXY").unwrap_or_default();
        let none = none.split(',').map(|entry| entry.trim().to_lowercase());
        Ok(Self {
            http: proxy("HTTP_PROXY")?,
            https: proxy("HTTPS_PROXY")?,
            none: none.filter(|entry| !entry.is_empty()).collect(),
        })
    }

    /// The proxy for `url`.
    pub(crate) fn of(&self, url: &Url) -> Option<&Proxy> {
        let host = url.host()?;
        let proxy = if url.scheme() == "https" { self.https.as_ref() } else { self.http.as_ref() };
        let direct = is_loopback(&host) || self.none.iter().any(|entry| covers(entry, &host, url));
        proxy.filter(|_| !direct)
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// `*`, `example.com` (with what is below it), `.example.com`, `10.0.0.1`, each with or without a port.
fn covers(entry: &str, host: &Host<&str>, url: &Url) -> bool {
    if entry == "*" {
        return true;
    }
    if let Ok(address) = entry.trim_matches(['[', ']']).parse::<IpAddr>() {
        return match host {
            Host::Ipv4(own) => address == *own,
            Host::Ipv6(own) => address == *own,
            Host::Domain(_) => false,
        };
    }
    let (name, port) = match entry.rsplit_once(':') {
        Some((name, port)) => (name, port.parse::<u16>().ok()),
        None => (entry, None),
    };
    if port.is_some() && port != url.port_or_known_default() {
        return false;
    }
    let name = name.trim_start_matches("*.").trim_start_matches('.');
    let host = host.to_string();
    !name.is_empty() && (host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')))
}

impl Proxy {
    fn parse(text: &str) -> Result<Self, String> {
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&url).map_err(|e| format!("it is no URL: {e}"))?;
        if url.scheme() != "http" {
            return Err(format!("a proxy of the kind {} is not supported, only http", url.scheme()));
        }
        let host = url.host_str().ok_or("it has no host")?.trim_matches(['[', ']']).to_owned();
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let login = (!url.username().is_empty()).then(|| {
            let pair = format!("{}:{}", decoded(url.username()), decoded(url.password().unwrap_or_default()));
            format!("Basic {}", STANDARD.encode(pair))
        });
        Ok(Self { host, port: url.port_or_known_default().unwrap_or(80), authorization: login })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, String> {
        Proxies::from_env(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn host_for(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.of(&Url::parse(url).unwrap()).map(|proxy| format!("{}:{}", proxy.host, proxy.port))
    }

    #[test]
    fn each_scheme_has_its_proxy_and_lower_case_goes_first() {
        let set = [("HTTPS_PROXY", "http://a:1"), ("https_proxy", "b:2"), ("HTTP_PROXY", "http://c")];
        let proxies = proxies(&set).unwrap();
        assert_eq!(host_for(&proxies, "https://example.com/").as_deref(), Some("b:2"));
        assert_eq!(host_for(&proxies, "http://example.com/").as_deref(), Some("c:80"));
    }

    #[test]
    fn no_proxy_takes_out_names_domains_ports_and_addresses() {
        let none = "internal.test, .corp.test,*.wild.test,10.0.0.7,[fd00::1],port.test:8443";
        let proxies = proxies(&[("ALL_PROXY", "http://p:1"), ("NO_PROXY", none)]).unwrap();
        for direct in [
            "https://internal.test/",
            "https://a.internal.test/",
            "https://x.corp.test/",
            "https://y.wild.test/",
            "http://10.0.0.7/",
            "http://[fd00::1]/",
            "https://port.test:8443/",
            "http://127.0.0.1:8788/",
            "http://[::1]/",
            "http://localhost/",
            "http://a.localhost/",
        ] {
            assert_eq!(host_for(&proxies, direct), None, "{direct}");
        }
        for through in ["https://notinternal.test/", "https://port.test/", "http://10.0.0.8/"] {
            assert!(host_for(&proxies, through).is_some(), "{through}");
        }
        let all = super::tests::proxies(&[("HTTP_PROXY", "p"), ("NO_PROXY", "*")]).unwrap();
        assert_eq!(host_for(&all, "http://example.com"), None);
    }

    #[test]
    fn a_proxy_may_ask_for_a_login_and_has_to_speak_http() {
        let proxies = proxies(&[("HTTP_PROXY", "http://me:p%40ss@p:3128")]).unwrap();
        let proxy = proxies.of(&Url::parse("http://example.com").unwrap()).unwrap().clone();
        assert_eq!(proxy.authorization.as_deref(), Some("Basic bWU6cEBzcw=="));
        assert!(super::tests::proxies(&[("HTTP_PROXY", "socks5://p:1")]).unwrap_err().contains("socks5"));
        assert!(super::tests::proxies(&[("HTTPS_PROXY", "http://")]).unwrap_err().starts_with("HTTPS_PROXY"));
    }
}
