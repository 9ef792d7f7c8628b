//! Which traces are recorded. Pure.
//! <https://opentelemetry.io/docs/specs/otel/trace/sdk/#sampling>

use crate::context::{TraceContext, TraceId};

/// Decides where a trace begins, and perhaps what callers decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// The share of traces, from 0 to 1.
    pub ratio: f64,
    /// Whether a caller's decision goes before it.
    pub parent_based: bool,
}

/// `parentbased_always_on`
impl Default for Sampler {
    fn default() -> Self {
        Self { ratio: 1.0, parent_based: true }
    }
}

impl Sampler {
    /// What `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` say.
    pub fn named(name: &str, argument: Option<&str>) -> Result<Self, String> {
        let (parent_based, kind) = match name.strip_prefix("parentbased_") {
            Some(kind) => (true, kind),
            None => (false, name),
        };
        let ratio = match kind {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => match argument.filter(|text| !text.is_empty()).map(str::parse::<f64>) {
                None => 1.0,
                Some(Ok(ratio)) if (0.0..=1.0).contains(&ratio) => ratio,
                Some(_) => return Err("OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1".into()),
            },
            _ => return Err(format!("OTEL_TRACES_SAMPLER: there is no sampler {name:?}")),
        };
        Ok(Self { ratio, parent_based })
    }

    /// With another share of the traces that begin here.
    pub fn with_ratio(self, ratio: f64) -> Self {
        Self { ratio, ..self }
    }

    /// The context of a span below `parent`; `None` if it is not recorded.
    pub fn decide(&self, parent: Option<&TraceContext>) -> Option<TraceContext> {
        if self.parent_based
            && let Some(parent) = parent
        {
            return parent.sampled.then(|| TraceContext::below(Some(parent), true));
        }
        if self.ratio <= 0.0 {
            return None;
        }
        let context = TraceContext::below(parent, true);
        self.takes(context.trace).then_some(context)
    }

    /// By the trace's id, so that all who are asked say the same.
    fn takes(&self, trace: TraceId) -> bool {
        let mut low = [0; 8];
        low.copy_from_slice(&trace.0[8..]);
        // 63 bits, as the SDKs have it.
        let number = u64::from_be_bytes(low) >> 1;
        self.ratio >= 1.0 || (number as f64) < self.ratio * (1u64 << 63) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_decides_where_it_may() {
        let parent = |sampled| TraceContext::below(None, sampled);
        let all = Sampler::default();
        assert!(all.decide(None).is_some() && all.decide(Some(&parent(true))).is_some());
        assert_eq!(all.decide(Some(&parent(false))), None);
        let none = Sampler::named("parentbased_always_off", None).unwrap();
        assert!(none.decide(None).is_none() && none.decide(Some(&parent(true))).is_some());
        let own = Sampler::named("always_on", None).unwrap();
        assert!(own.decide(Some(&parent(false))).unwrap().sampled);
        assert_eq!(Sampler::named("always_off", None).unwrap().decide(Some(&parent(true))), None);
    }

    #[test]
    fn a_ratio_takes_its_share_by_the_trace() {
        let third = Sampler::named("traceidratio", Some("0.3")).unwrap();
        let taken = (0..2000).filter(|_| third.decide(None).is_some()).count();
        assert!((450..750).contains(&taken), "{taken}");
        let parent = TraceContext::below(None, false);
        let first = third.decide(Some(&parent)).is_some();
        assert!((0..10).all(|_| third.decide(Some(&parent)).is_some() == first));
        assert_eq!(third.with_ratio(0.0).decide(None), None);
        assert_eq!(Sampler::named("traceidratio", None).unwrap().ratio, 1.0);
        assert!(
            Sampler::named("traceidratio", Some("2")).is_err()
                && Sampler::named("jaeger_remote", None).is_err()
        );
    }
}
