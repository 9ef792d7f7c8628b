//! The context of a trace as it travels from service to service. Pure.
//! <https://www.w3.org/TR/trace-context/>

use std::fmt;

/// Names a trace; never all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// Names a span of a trace; never all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

/// Where in which trace something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span that it happens in.
    pub span: SpanId,
    /// Whether the caller records it.
    pub sampled: bool,
    /// The flags as they came, with those that are not known here.
    flags: u8,
}

const SAMPLED: u8 = 1;
/// Flags that are known; a later version may have more, which are not passed on (§3.2.2.5).
const KNOWN: u8 = 0b11;

impl TraceId {
    /// From 32 lower case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(hex(text.as_bytes())?)).filter(|id| id.0 != [0; 16])
    }
}

impl SpanId {
    /// From 16 lower case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(hex(text.as_bytes())?)).filter(|id| id.0 != [0; 8])
    }
}

impl TraceContext {
    /// A span that is recorded, whose ids another gave.
    pub fn recorded(trace: TraceId, span: SpanId) -> Self {
        Self { trace, span, sampled: true, flags: SAMPLED }
    }

    /// What a `traceparent` says; `None` where it is not valid: the trace begins anew then.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let bytes = traceparent.as_bytes();
        // A later version may be longer, behind another hyphen.
        if bytes.len() < 55 || [2, 35, 52].iter().any(|at| bytes[*at] != b'-') {
            return None;
        }
        let version = hex::<1>(&bytes[..2])?[0];
        match (version, bytes.len()) {
            (0xff, _) => return None,
            (0, 55) => {}
            (0, _) => return None,
            (_, 55) => {}
            _ if bytes[55] == b'-' => {}
            _ => return None,
        }
        let (trace, span, flags) = (hex(&bytes[3..35])?, hex(&bytes[36..52])?, hex::<1>(&bytes[53..55])?[0]);
        if trace == [0; 16] || span == [0; 8] {
            return None;
        }
        let flags = flags & KNOWN;
        Some(Self { trace: TraceId(trace), span: SpanId(span), sampled: flags & SAMPLED != 0, flags })
    }

    /// A span below `parent`, or the first one of a trace.
    pub fn below(parent: Option<&Self>, sampled: bool) -> Self {
        let own = random().to_be_bytes();
        let new = || {
            let (high, low) = (random().to_be_bytes(), random().to_be_bytes());
            TraceId(std::array::from_fn(|n| if n < 8 { high[n] } else { low[n - 8] }))
        };
        let trace = parent.map_or_else(new, |parent| parent.trace);
        let kept = parent.map_or(0, |parent| parent.flags & !SAMPLED);
        let flags = kept | if sampled { SAMPLED } else { 0 };
        Self { trace, span: SpanId(own), sampled, flags }
    }
}

/// Any number but 0. All bits of it are random, which those of a UUID are not: samplers look at them.
fn random() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    // splitmix64
    let mut z = high ^ low.rotate_left(17);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).max(1)
}

/// Lower case only (§3.2.2).
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = digit(*text.get(2 * n)?)? << 4 | digit(*text.get(2 * n + 1)?)?;
    }
    Some(bytes)
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// As a `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_read_and_written() {
        let context = TraceContext::parse(GOOD).unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_string(), GOOD);
        assert!(!TraceContext::parse(&GOOD.replace("-01", "-00")).unwrap().sampled);
        let own = TraceContext::below(Some(&context), false);
        assert_eq!((own.trace, own.sampled), (context.trace, false));
        assert_ne!(own.span, context.span);
        assert_ne!(TraceContext::below(None, true).trace, TraceContext::below(None, true).trace);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = GOOD.replace("00-0af", "01-0af");
        assert_eq!(TraceContext::parse(&later).unwrap().to_string(), GOOD);
        assert!(TraceContext::parse(&format!("{later}-more")).is_some());
        assert!(TraceContext::parse(&format!("{later}.more")).is_none());
    }

    #[test]
    fn what_is_not_valid_is_no_context() {
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_context_or_not(text in "[0-9a-f-]{50,60}|.{0,60}") {
            if let Some(context) = TraceContext::parse(&text) {
                proptest::prop_assert_eq!(TraceContext::parse(&context.to_string()), Some(context));
            }
        }
    }
}
