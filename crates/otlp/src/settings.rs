//! Where to and how, from flags and the standard variables. Pure.
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::exporter::Signal;
use crate::sampler::Sampler;
use crate::span::Attribute;

/// Where one signal goes.
#[derive(Clone)]
pub struct Target {
    /// The address that it is posted to.
    pub url: Url,
    /// Sent along. They may be secret: nothing shows them.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) gzip: bool,
    pub(crate) timeout: Duration,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("url", &shown(&self.url)).finish_non_exhaustive()
    }
}

/// An address without what may be secret in it.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

/// How a node exports.
#[derive(Clone, Debug)]
pub struct Settings {
    /// By [`Signal`]; `None` is not exported.
    pub(crate) targets: [Option<Target>; 3],
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// What the node is called: `service.name`.
    pub service: String,
    /// What all that it says has with it.
    pub attributes: Vec<Attribute>,
    /// How often metrics are read.
    pub(crate) interval: Duration,
    /// How long spans and log records come together before they are sent.
    pub(crate) delay: Duration,
    /// Spans, and log records, that wait at most, each.
    pub(crate) queue: usize,
    /// Spans or log records of one request.
    pub(crate) batch: usize,
}

impl Settings {
    /// What `endpoint`, a flag, and the environment ask for; `None` where nothing is to be exported.
    pub fn read(endpoint: Option<Url>, env: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        // An empty variable is as if it were not set.
        let text =
            |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        if text("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let base = match endpoint {
            Some(url) => Some(url),
            None => text("OTEL_EXPORTER_OTLP_ENDPOINT")
                .map(|url| parse(&url, "OTEL_EXPORTER_OTLP_ENDPOINT"))
                .transpose()?,
        };
        let mut targets = [None, None, None];
        for signal in Signal::ALL {
            targets[signal as usize] = target(signal, base.as_ref(), &text)?;
        }
        if targets.iter().all(Option::is_none) {
            return Ok(None);
        }
        let sampler = match text("OTEL_TRACES_SAMPLER") {
            Some(name) => Sampler::named(&name, text("OTEL_TRACES_SAMPLER_ARG").as_deref())?,
            None => Sampler::default(),
        };
        let number = |name: &str, default: u64| match text(name).map(|value| value.parse::<u64>()) {
            None => Ok(default),
            Some(Ok(value)) if value > 0 => Ok(value),
            Some(_) => Err(format!("{name} must be a whole number above 0")),
        };
        let mut service = text("OTEL_SERVICE_NAME");
        let mut attributes = Vec::new();
        for (key, value) in
            pairs(&text("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default(), "OTEL_RESOURCE_ATTRIBUTES")?
        {
            match key.as_str() {
                "service.name" => service = service.or(Some(value)),
                _ => attributes.push(Attribute::text(&key, value)),
            }
        }
        let queue = number("OTEL_BSP_MAX_QUEUE_SIZE", 8192)? as usize;
        Ok(Some(Self {
            targets,
            sampler,
            service: service.unwrap_or_else(|| "skep".into()),
            attributes,
            interval: Duration::from_millis(number("OTEL_METRIC_EXPORT_INTERVAL", 60_000)?),
            delay: Duration::from_millis(number("OTEL_BSP_SCHEDULE_DELAY", 1000)?),
            queue,
            batch: (number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)? as usize).min(queue),
        }))
    }

    /// Whether a signal is exported.
    pub fn exports(&self, signal: Signal) -> bool {
        self.targets[signal as usize].is_some()
    }

    /// Where signals go, for people: without what may be secret.
    pub fn shown(&self) -> Vec<String> {
        let mut all: Vec<String> = self.targets.iter().flatten().map(|target| shown(&target.url)).collect();
        all.dedup();
        all
    }
}

fn target(
    signal: Signal,
    base: Option<&Url>,
    text: &impl Fn(&str) -> Option<String>,
) -> Result<Option<Target>, String> {
    let of = |rest: &str| format!("OTEL_EXPORTER_OTLP_{}_{rest}", signal.name().to_uppercase());
    let either = |rest: &str| text(&of(rest)).or_else(|| text(&format!("OTEL_EXPORTER_OTLP_{rest}")));
    let exporter = format!("OTEL_{}_EXPORTER", signal.name().to_uppercase());
    match text(&exporter).as_deref() {
        None | Some("otlp") => {}
        Some("none") => return Ok(None),
        Some(other) => return Err(format!("{exporter}: {other:?} is not supported, only otlp and none")),
    }
    // An address for one signal is taken as it is; below the common one each signal has its path.
    let url = match (text(&of("ENDPOINT")), base) {
        (Some(own), _) => parse(&own, &of("ENDPOINT"))?,
        (None, Some(base)) => {
            let mut url = base.clone();
            url.set_path(&format!("{}/v1/{}", base.path().trim_end_matches('/'), signal.name()));
            url
        }
        (None, None) => return Ok(None),
    };
    if let Some(protocol) = either("PROTOCOL").filter(|protocol| protocol != "http/protobuf") {
        return Err(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL: {protocol:?} is not supported, only http/protobuf"
        ));
    }
    let gzip = match either("COMPRESSION").as_deref() {
        None | Some("none") => false,
        Some("gzip") => true,
        Some(other) => {
            return Err(format!(
                "OTEL_EXPORTER_OTLP_COMPRESSION: {other:?} is not supported, only gzip and none"
            ));
        }
    };
    let timeout = match either("TIMEOUT").map(|value| value.parse::<u64>()) {
        None => 10_000,
        Some(Ok(value)) if value > 0 => value,
        Some(_) => return Err("OTEL_EXPORTER_OTLP_TIMEOUT must be a whole number above 0".into()),
    };
    let mut headers = Vec::new();
    for (key, value) in pairs(&either("HEADERS").unwrap_or_default(), "OTEL_EXPORTER_OTLP_HEADERS")? {
        // Neither names nor values are said: they may be secret.
        let wrong = || "OTEL_EXPORTER_OTLP_HEADERS holds something that cannot be a header".to_owned();
        let name = HeaderName::try_from(&key).map_err(|_| wrong())?;
        let mut value = HeaderValue::try_from(&value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.push((name, value));
    }
    Ok(Some(Target { url, headers, gzip, timeout: Duration::from_millis(timeout) }))
}

fn parse(text: &str, name: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{name}: {error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err(format!("{name} must be an http:// or https:// URL")),
    }
}

/// `a=b,c=d`, with percent-encoded values.
fn pairs(text: &str, name: &str) -> Result<Vec<(String, String)>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pairs = parts.map(|part| {
        let (key, value) =
            part.split_once('=').ok_or_else(|| format!("{name} must be key=value,key=value"))?;
        let value =
            percent_decode_str(value.trim()).decode_utf8().map_err(|_| format!("{name} is not UTF-8"))?;
        Ok((key.trim().to_owned(), value.into_owned()))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(endpoint: Option<&str>, env: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        let get = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Settings::read(endpoint.map(|url| url.parse().unwrap()), get)
    }

    fn urls(settings: &Settings) -> Vec<Option<&str>> {
        settings.targets.iter().map(|target| target.as_ref().map(|target| target.url.as_str())).collect()
    }

    #[test]
    fn nothing_is_exported_unless_somebody_says_where() {
        assert!(read(None, &[]).unwrap().is_none());
        assert!(read(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).unwrap().is_none());
        assert!(read(Some("http://c:4318"), &[("OTEL_SDK_DISABLED", "true")]).unwrap().is_none());
        let none = ["OTEL_TRACES_EXPORTER", "OTEL_LOGS_EXPORTER", "OTEL_METRICS_EXPORTER"]
            .map(|name| (name, "none"));
        assert!(read(Some("http://c:4318"), &none).unwrap().is_none());
    }

    #[test]
    fn each_signal_has_its_path_below_the_common_address_or_its_own_address() {
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:1"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://logs.example/in?key=secret"),
            ("OTEL_METRICS_EXPORTER", "none"),
        ];
        let settings = read(Some("http://flag:4318/otlp/"), &env).unwrap().unwrap();
        let expected =
            [Some("http://flag:4318/otlp/v1/traces"), Some("https://logs.example/in?key=secret"), None];
        assert_eq!(urls(&settings), expected);
        assert!(!format!("{settings:?} {:?}", settings.shown()).contains("secret"));
        let settings = read(None, &env[..1]).unwrap().unwrap();
        assert_eq!(urls(&settings)[2], Some("http://env:1/v1/metrics"));
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let env = [("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20s3cret, x-b=c")];
        let settings = read(Some("http://u:s3cret@c"), &env).unwrap().unwrap();
        let target = settings.targets[0].as_ref().unwrap();
        assert_eq!(target.headers[0].1.to_str().unwrap(), "Bearer s3cret");
        assert_eq!(target.headers[1].0, "x-b");
        assert!(!format!("{settings:?} {:?}", settings.shown()).contains("s3cret"));
        let wrong = read(Some("http://c"), &[("OTEL_EXPORTER_OTLP_HEADERS", "a b=s3cret")]).unwrap_err();
        assert!(!wrong.contains("s3cret"), "{wrong}");
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ] {
            let error = read(Some("http://c"), &[(name, value)]).unwrap_err();
            assert!(error.starts_with(name), "{error}");
        }
        assert!(read(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://c")]).is_err());
    }

    #[test]
    fn the_node_has_the_name_and_the_attributes_that_it_is_given() {
        let env = [("OTEL_RESOURCE_ATTRIBUTES", "service.name=x,deployment.environment.name=a%2Cb")];
        let settings = read(Some("http://c"), &env).unwrap().unwrap();
        assert_eq!(settings.service, "x");
        assert_eq!(settings.attributes, [Attribute::text("deployment.environment.name", "a,b")]);
        let named = [env[0], ("OTEL_SERVICE_NAME", "y")];
        assert_eq!(read(Some("http://c"), &named).unwrap().unwrap().service, "y");
    }
}
