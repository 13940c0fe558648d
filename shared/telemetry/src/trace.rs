//! W3C Trace Context (Recommendation of 23 November 2021), `traceparent` only.

use rand::Rng;
use std::fmt;

/// A place in a trace: 16 bytes of trace id, 8 of span id, and whether the trace is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    is_sampled: bool,
}

/// Lower-case hex of a fixed width.
struct Hex<const WIDTH: usize>(u128);

impl<const WIDTH: usize> fmt::Display for Hex<WIDTH> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0WIDTH$x}", self.0)
    }
}

impl TraceContext {
    /// Begins a trace, sampled.
    #[must_use]
    pub fn new_root() -> Self {
        Self { trace_id: non_zero_u128(), span_id: non_zero_u64(), is_sampled: true }
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: non_zero_u64(), ..*self }
    }

    /// Reads a `traceparent`. A higher version is read as far as version 00 goes (§3.2.4 of the Recommendation).
    /// Anything malformed, and ids of zeros, are `None`: the receiver then begins a trace of its own.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let text = traceparent.trim_matches([' ', '\t']);
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32)?;
        let span_id = u64::try_from(hex(parts.next()?, 16)?).ok()?;
        let flags = hex(parts.next()?, 2)?;
        let has_more = parts.next().is_some();
        if version == 0xff || (version == 0 && has_more) || trace_id == 0 || span_id == 0 {
            return None;
        }
        Some(Self { trace_id, span_id, is_sampled: flags & 1 == 1 })
    }

    /// The header's value, version 00.
    #[must_use]
    pub fn to_traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id(), self.span_id(), u8::from(self.is_sampled))
    }

    /// 32 lower-case hex digits.
    pub fn trace_id(&self) -> impl fmt::Display + use<> {
        Hex::<32>(self.trace_id)
    }

    /// 16 lower-case hex digits.
    pub fn span_id(&self) -> impl fmt::Display + use<> {
        Hex::<16>(u128::from(self.span_id))
    }
}

/// Exactly `digits` lower-case hex digits: the Recommendation forbids upper case.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (text.len() == digits && text.bytes().all(is_lower_hex))
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

fn non_zero_u64() -> u64 {
    rand::rng().next_u64().max(1)
}

fn non_zero_u128() -> u128 {
    (u128::from(rand::rng().next_u64()) << 64) | u128::from(non_zero_u64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_recommendations_own_example_survives_a_round_trip() {
        let context = TraceContext::parse(EXAMPLE).unwrap();
        assert_eq!(context.to_traceparent(), EXAMPLE);
        assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span_id().to_string(), "b7ad6b7169203331");
    }

    #[test]
    fn what_the_recommendation_calls_invalid_is_refused() {
        let zeros = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let cases = [
            "",
            "00",
            zeros,
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ];
        for case in cases {
            assert_eq!(TraceContext::parse(case), None, "{case:?}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        assert!(
            TraceContext::parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-future").is_some()
        );
    }

    #[test]
    fn a_child_stays_in_its_trace_with_a_span_of_its_own() {
        let parent = TraceContext::new_root();
        let child = parent.child();
        assert_eq!(parent.trace_id, child.trace_id);
        assert_ne!(parent.span_id, child.span_id);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = TraceContext::parse(&text);
        }
    }
}
