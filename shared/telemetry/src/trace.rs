//! Trace context: W3C (Recommendation of 23 November 2021), and X-Ray's header where there is nothing better.
//!
//! In a row or a message's text, a context is its *carrier*: the `traceparent`, and after a blank the `tracestate` if there is
//! one. What cannot be read is nobody's fault here: it is no context, never an error.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use rand::Rng;

/// Characters of a `tracestate` that are carried on (§3.3.1.5 of the Recommendation: at least 512).
const STATE_CHARS_MAX: usize = 512;

/// A place in a trace: its id, a span's, whether the trace is sampled, what other vendors keep there, and whether it came
/// from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext(SpanContext);

impl TraceContext {
    fn place(trace_id: u128, span_id: u64, is_sampled: bool, is_remote: bool, state: TraceState) -> Self {
        let flags = TraceFlags::default().with_sampled(is_sampled);
        Self(SpanContext::new(TraceId::from(trace_id), SpanId::from(span_id), flags, is_remote, state))
    }

    /// Begins a trace, sampled.
    #[must_use]
    pub fn new_root() -> Self {
        Self::place(non_zero_u128(), non_zero_u64(), true, false, TraceState::NONE)
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        self.with_span_id(non_zero_u64())
    }

    /// The span of the same trace whose id is known otherwise; zero, which is no id, becomes one.
    #[must_use]
    pub fn with_span_id(&self, span_id: u64) -> Self {
        let Self(here) = self;
        let span_id = SpanId::from(span_id.max(1));
        Self(SpanContext::new(
            here.trace_id(),
            span_id,
            here.trace_flags(),
            false,
            here.trace_state().clone(),
        ))
    }

    /// The same place, with another decision about sampling.
    #[must_use]
    pub fn sampled(self, is_sampled: bool) -> Self {
        let Self(here) = self;
        let flags = here.trace_flags().with_sampled(is_sampled);
        let state = here.trace_state().clone();
        Self(SpanContext::new(here.trace_id(), here.span_id(), flags, here.is_remote(), state))
    }

    /// With the caller's `tracestate`; one that is too long, not printable ASCII or no list of keys and values is left out.
    #[must_use]
    pub fn with_state(self, tracestate: Option<&str>) -> Self {
        let is_fit = |text: &&str| {
            text.len() <= STATE_CHARS_MAX && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        };
        let state = tracestate.filter(is_fit).and_then(|text| text.parse().ok()).unwrap_or_default();
        let Self(here) = self;
        Self(SpanContext::new(here.trace_id(), here.span_id(), here.trace_flags(), here.is_remote(), state))
    }

    /// Reads a carrier: `traceparent`, and after a blank `tracestate`.
    #[must_use]
    pub fn from_carrier(carrier: &str) -> Option<Self> {
        let (parent, state) = match carrier.split_once(' ') {
            Some((parent, state)) => (parent, Some(state)),
            None => (carrier, None),
        };
        Some(Self::parse(parent)?.with_state(state))
    }

    /// For a row or a message's text: see [`Self::from_carrier`].
    #[must_use]
    pub fn to_carrier(&self) -> String {
        match self.state() {
            Some(state) => format!("{} {state}", self.to_traceparent()),
            None => self.to_traceparent(),
        }
    }

    /// Reads X-Ray's header, `Root=1-…;Parent=…;Sampled=…` in any order (AWS X-Ray, "Tracing header"). Without a parent it
    /// names no place. Where the decision is open (`?`, or none), the trace is sampled.
    #[must_use]
    pub fn from_xray(header: &str) -> Option<Self> {
        let (mut trace_id, mut span_id, mut is_sampled) = (None, None, true);
        for part in header.split(';') {
            let Some((name, value)) = part.split_once('=') else { continue };
            match name.trim() {
                "Root" => {
                    let mut fields = value.trim().split('-');
                    let (version, epoch, unique) = (fields.next()?, fields.next()?, fields.next()?);
                    if version != "1" || fields.next().is_some() {
                        return None;
                    }
                    trace_id = Some((hex(epoch, 8)? << 96) | hex(unique, 24)?);
                }
                "Parent" => span_id = u64::try_from(hex(value.trim(), 16)?).ok(),
                "Sampled" => is_sampled = value.trim() != "0",
                _ => {}
            }
        }
        let (trace_id, span_id) = (trace_id?, span_id?);
        (trace_id != 0 && span_id != 0)
            .then(|| Self::place(trace_id, span_id, is_sampled, true, TraceState::NONE))
    }

    /// Reads a `traceparent`. A higher version is read as far as version 00 goes (§3.2.4 of the Recommendation).
    /// Anything malformed, and ids of zeros, are `None`: the receiver then begins a trace of its own.
    ///
    /// The SDK's `TraceContextPropagator` (0.33) is not used since it also takes fields of other lengths, with a plus sign or
    /// white space of any kind, and a last dash, all of which the Recommendation calls invalid.
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
        Some(Self::place(trace_id, span_id, flags & 1 == 1, true, TraceState::NONE))
    }

    /// The header's value, version 00.
    #[must_use]
    pub fn to_traceparent(&self) -> String {
        let Self(here) = self;
        format!("00-{}-{}-{:02x}", here.trace_id(), here.span_id(), here.trace_flags())
    }

    /// What other vendors keep in the trace: the value of `tracestate`.
    #[must_use]
    pub fn state(&self) -> Option<String> {
        Some(self.0.trace_state().header()).filter(|state| !state.is_empty())
    }

    /// Whether spans of the trace are recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.0.is_sampled()
    }

    /// Whether it came with a request, a message or a row.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.0.is_remote()
    }

    /// It prints as 32 lower-case hex digits.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.0.trace_id()
    }

    /// It prints as 16 lower-case hex digits.
    #[must_use]
    pub fn span_id(&self) -> SpanId {
        self.0.span_id()
    }

    /// As a collector is told: other vendors' state is handed on, and told to nobody else.
    pub(crate) fn without_state(&self) -> SpanContext {
        let Self(here) = self;
        let state = TraceState::NONE;
        SpanContext::new(here.trace_id(), here.span_id(), here.trace_flags(), here.is_remote(), state)
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
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1",
            "\u{2003}00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
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
        assert_eq!(parent.trace_id(), child.trace_id());
        assert_ne!(parent.span_id(), child.span_id());
    }

    #[test]
    fn a_carrier_keeps_the_other_vendors_state_and_leaves_out_what_does_not_fit() {
        let carrier = format!("{EXAMPLE} rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
        let context = TraceContext::from_carrier(&carrier).unwrap();
        assert_eq!(context.state().as_deref(), Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"));
        assert_eq!(context.to_carrier(), carrier);
        assert_eq!(context.child().state(), context.state());
        for state in ["", "no pair", &"a=1,".repeat(200), "a=\u{e9}", "a=1\nb", "A=1", "a=1=2"] {
            let context = TraceContext::parse(EXAMPLE).unwrap().with_state(Some(state));
            assert_eq!(context.to_carrier(), EXAMPLE, "{state:?}");
        }
        assert_eq!(TraceContext::from_carrier("nonsense a=1"), None);
    }

    #[test]
    fn x_rays_header_names_a_place_if_it_has_a_root_and_a_parent() {
        let read = |header: &str| TraceContext::from_xray(header).map(|context| context.to_traceparent());
        let root = "Root=1-5759e988-bd862e3fe1be46a994272793";
        let w3c = |flags: &str| Some(format!("00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-{flags}"));
        assert_eq!(read(&format!("{root};Parent=53995c3f42cd8ad8;Sampled=1")), w3c("01"));
        assert_eq!(read(&format!("Sampled=0;Parent=53995c3f42cd8ad8; {root};Lineage=a:0")), w3c("00"));
        assert_eq!(read(&format!("{root};Parent=53995c3f42cd8ad8;Sampled=?")), w3c("01"));
        for header in [
            root,
            "Parent=53995c3f42cd8ad8",
            "Root=2-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8",
            "Root=1-5759e988-bd862e3fe1be46a99427279;Parent=53995c3f42cd8ad8",
            "Root=1-00000000-000000000000000000000000;Parent=53995c3f42cd8ad8",
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=0000000000000000",
            "Root=;Parent=;Sampled=",
        ] {
            assert_eq!(read(header), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = TraceContext::parse(&text);
            let _ = TraceContext::from_carrier(&text);
            let _ = TraceContext::from_xray(&text);
        }
    }
}
