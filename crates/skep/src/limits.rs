//! The flags that say what visitors may ask for.

use std::time::Duration;

use clap::Args;
use skep_api::ScriptLimits;
use skep_edge::EdgeLimits;

/// Limits of visitors' requests. Defaults are Cloudflare's where it has one.
#[derive(Clone, Debug, Args)]
pub struct VisitorArgs {
    /// Bytes of a URL's path and query; beyond: 414
    #[arg(long, value_name = "BYTES", default_value_t = EdgeLimits::default().url)]
    pub max_url: usize,
    /// Bytes of a request's headers; beyond: 431
    #[arg(long, value_name = "BYTES", default_value_t = EdgeLimits::default().headers)]
    pub max_header_bytes: usize,
    /// Headers of a request; beyond: 431
    #[arg(long, value_name = "N", default_value_t = EdgeLimits::default().header_count)]
    pub max_headers: usize,
    /// Bytes of a request's body; beyond: 413
    #[arg(long, value_name = "BYTES", default_value_t = EdgeLimits::default().body)]
    pub max_body: u64,
    /// The head of a request has to be there after so long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub header_timeout: Duration,
    /// A visitor may send nothing of a body for so long; then: 408
    #[arg(long, value_name = "TIME", default_value = "100s", value_parser = humantime::parse_duration)]
    pub body_timeout: Duration,
    /// A connection without a request is closed after so long
    #[arg(long, value_name = "TIME", default_value = "400s", value_parser = humantime::parse_duration)]
    pub connection_timeout: Duration,
    /// Connections of visitors at once, per node; more are closed
    #[arg(long, value_name = "N", default_value_t = EdgeLimits::default().connections)]
    pub max_connections: u64,
    /// Connections at once from one address (of IPv6: one /64 network), but this machine's own; 0: any number
    #[arg(long, value_name = "N", default_value_t = EdgeLimits::default().connections_per_address)]
    pub max_connections_per_address: u64,
    /// Requests at once on an HTTP/2 connection
    #[arg(long, value_name = "N", default_value_t = EdgeLimits::default().streams)]
    pub max_streams: u32,
}

impl VisitorArgs {
    /// The limits that they set.
    pub fn limits(&self) -> EdgeLimits {
        EdgeLimits {
            url: self.max_url,
            headers: self.max_header_bytes,
            header_count: self.max_headers,
            body: self.max_body,
            head_time: self.header_timeout,
            body_time: self.body_timeout,
            idle_time: self.connection_timeout,
            connections: self.max_connections,
            connections_per_address: self.max_connections_per_address,
            streams: self.max_streams,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        visitors: VisitorArgs,
        #[command(flatten)]
        scripts: ScriptArgs,
    }

    #[test]
    fn without_flags_the_defaults_hold() {
        let line = Line::try_parse_from(["skep"]).unwrap();
        assert_eq!(line.visitors.limits(), EdgeLimits::default());
        assert_eq!(line.scripts.limits(), ScriptLimits::default());
    }
}

/// How large a script may be. Defaults are Cloudflare's of the paid plan.
#[derive(Clone, Debug, Args)]
pub struct ScriptArgs {
    /// What the modules of a script may take compressed, in MiB; beyond: code 10027
    #[arg(long, value_name = "MIB", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub max_script: u64,
    /// What they may take as they are, in MiB; beyond: the same
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub max_script_uncompressed: u64,
    /// Variables and secrets that a script may have together; beyond: code 10055
    #[arg(long, value_name = "N", default_value_t = ScriptLimits::default().variables)]
    pub max_variables: usize,
}

impl ScriptArgs {
    /// The limits that they set.
    pub fn limits(&self) -> ScriptLimits {
        ScriptLimits {
            compressed: self.max_script << 20,
            uncompressed: self.max_script_uncompressed << 20,
            variables: self.max_variables,
        }
    }
}

/// How much is kept of what D1 databases were.
#[derive(Clone, Debug, Args)]
pub struct D1Args {
    /// How far back a D1 database can be restored; 0s: what it was is not kept
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = humantime::parse_duration)]
    pub d1_history: Duration,
    /// Disk that the history of one D1 database may take, in MiB; then it reaches less far back
    #[arg(long, value_name = "MIB", default_value = "1024", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pub d1_history_size: u64,
}

impl D1Args {
    /// What they say.
    pub fn retention(&self) -> Option<skep_d1::Retention> {
        let age_ms = u64::try_from(self.d1_history.as_millis()).unwrap_or(u64::MAX);
        let kept = skep_d1::Retention { age_ms, bytes: self.d1_history_size << 20, ..Default::default() };
        (age_ms > 0).then_some(kept)
    }
}
