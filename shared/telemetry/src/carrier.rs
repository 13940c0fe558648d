//! Where trace context comes in and goes out, as `OTEL_PROPAGATORS` allows. No input is an error: what cannot be read is
//! no context.

use crate::env::Propagators;
use crate::trace::TraceContext;
use http::HeaderMap;

/// The header and message attribute of W3C's context.
pub const TRACEPARENT: &str = "traceparent";
/// The header and message attribute of other vendors' part of it.
pub const TRACESTATE: &str = "tracestate";
/// SQS's own attribute for X-Ray (AWS, "Message system attributes").
pub(crate) const AWS_TRACE_HEADER: &str = "AWSTraceHeader";
/// X-Ray's HTTP header.
const XRAY_HEADER: &str = "x-amzn-trace-id";

fn propagators() -> Propagators {
    crate::global::get().map_or_else(Propagators::default, |global| global.settings.propagators)
}

/// The caller's context of an HTTP request. Two `traceparent` fields are none (§3.2 of the Recommendation: one is expected).
#[must_use]
pub fn incoming_http(headers: &HeaderMap) -> Option<TraceContext> {
    read_http(propagators(), headers)
}

fn read_http(propagators: Propagators, headers: &HeaderMap) -> Option<TraceContext> {
    let single = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let first = values.next()?;
        values.next().is_none().then(|| first.to_str().ok()).flatten()
    };
    if propagators.w3c
        && let Some(context) = single(TRACEPARENT).and_then(TraceContext::parse)
    {
        // Several fields of a tracestate are one list (§3.3.1).
        let states: Vec<&str> =
            headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok()).collect();
        return Some(context.with_state(Some(&states.join(","))));
    }
    if propagators.xray_http { single(XRAY_HEADER).and_then(TraceContext::from_xray) } else { None }
}

/// The context that came with a message: W3C's, or X-Ray's where there is none.
#[must_use]
pub(crate) fn incoming_message(
    traceparent: Option<&str>,
    tracestate: Option<&str>,
    xray: Option<&str>,
) -> Option<TraceContext> {
    read_message(propagators(), traceparent, tracestate, xray)
}

fn read_message(
    propagators: Propagators,
    traceparent: Option<&str>,
    tracestate: Option<&str>,
    xray: Option<&str>,
) -> Option<TraceContext> {
    let w3c = || traceparent.and_then(TraceContext::parse).map(|context| context.with_state(tracestate));
    let w3c = propagators.w3c.then(w3c).flatten();
    w3c.or_else(|| propagators.xray.then(|| xray.and_then(TraceContext::from_xray)).flatten())
}

/// The context to hand on from here; `None` outside a span, and where nothing is to be handed on.
#[must_use]
pub fn outgoing() -> Option<TraceContext> {
    propagators().w3c.then(crate::span::current).flatten()
}

/// Whether anything is handed on at all.
#[must_use]
pub fn propagates() -> bool {
    propagators().w3c
}

/// The span id of an attempt, known to whoever knows the job: a retry links to the first attempt by it. Within a trace no
/// other span has it but by a chance of 2⁻⁶⁴ (the finaliser of SplitMix64 over the job's random bits).
#[must_use]
pub fn attempt_span_id(job_id: u128, attempt: i32) -> u64 {
    #[allow(clippy::cast_possible_truncation, reason = "both halves are mixed in")]
    let halves = (job_id >> 64) as u64 ^ (job_id as u64).rotate_left(32);
    let mut mixed = halves ^ u64::from(attempt.unsigned_abs()).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ (mixed >> 31)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const XRAY: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
    const ALL: Propagators = Propagators { w3c: true, xray: true, xray_http: true };
    /// Inputs of the fuzz; `CALLBOARD_FUZZ` sets another number.
    const FUZZ_INPUTS: u64 = 100_000;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn http_context_is_w3cs_and_doubled_or_malformed_ones_are_none() {
        let read = |fields: &[(&'static str, &str)]| {
            let propagators = Propagators::default();
            read_http(propagators, &headers(fields)).map(|context| context.to_carrier())
        };
        assert_eq!(read(&[("traceparent", PARENT)]), Some(PARENT.into()));
        assert_eq!(
            read(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]),
            Some(format!("{PARENT} a=1,b=2"))
        );
        assert_eq!(read(&[("traceparent", PARENT), ("traceparent", PARENT)]), None);
        assert_eq!(read(&[("traceparent", "nonsense"), ("tracestate", "a=1")]), None);
        assert_eq!(read(&[("x-amzn-trace-id", XRAY)]), None, "not asked for by name");
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn a_message_has_w3cs_context_or_x_rays() {
        let read = |propagators, parent, xray| {
            read_message(propagators, parent, None, xray).map(|context| context.trace_id().to_string())
        };
        let (w3c, xray) = (
            Some("0af7651916cd43dd8448eb211c80319c".into()),
            Some("5759e988bd862e3fe1be46a994272793".into()),
        );
        assert_eq!(read(ALL, Some(PARENT), Some(XRAY)), w3c);
        assert_eq!(read(ALL, Some("nonsense"), Some(XRAY)), xray);
        assert_eq!(read(ALL, None, Some(XRAY)), xray);
        assert_eq!(read(ALL, None, Some("nonsense")), None);
        let only_w3c = Propagators { w3c: true, xray: false, xray_http: false };
        assert_eq!(read(only_w3c, None, Some(XRAY)), None);
        let none = Propagators { w3c: false, xray: false, xray_http: false };
        assert_eq!(read(none, Some(PARENT), Some(XRAY)), None);
    }

    #[test]
    fn attempts_of_jobs_have_ids_of_their_own() {
        let ids: std::collections::BTreeSet<u64> = (0..1_000_u128)
            .flat_map(|job| (1..=20).map(move |attempt| attempt_span_id(job << 32 | 7, attempt)))
            .collect();
        assert_eq!(ids.len(), 20_000);
        assert_eq!(attempt_span_id(5, 1), attempt_span_id(5, 1));
    }

    /// Texts near the formats: each begins as a good one, and bytes are changed, cut, doubled or put in.
    #[test]
    fn no_carrier_panics() {
        use rand::{Rng, RngExt as _, SeedableRng};
        let count = std::env::var("CALLBOARD_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(FUZZ_INPUTS);
        let mut random = rand::rngs::SmallRng::seed_from_u64(7);
        let seeds: [&str; 4] = [PARENT, XRAY, "a=1,b=2", ""];
        for _ in 0..count {
            let mut bytes = seeds[random.random_range(0..4)].as_bytes().to_vec();
            for _ in 0..random.random_range(0..6) {
                let at = random.random_range(0..=bytes.len());
                match random.random_range(0..4) {
                    0 if at < bytes.len() => bytes[at] = random.random(),
                    1 => bytes.truncate(at),
                    2 => bytes.extend_from_within(..at),
                    _ => bytes.insert(at, b"-;= ,\tRS0f\xff"[random.next_u32() as usize % 11]),
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            let _ = read_message(ALL, Some(&text), Some(&text), Some(&text));
            let _ = TraceContext::from_carrier(&text).map(|context| context.child().to_carrier());
            if let Ok(value) = http::HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                for name in [TRACEPARENT, TRACESTATE, XRAY_HEADER] {
                    headers.insert(name, value.clone());
                }
                let _ = read_http(ALL, &headers);
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(span in 1_u64.., sampled: bool) {
            let context = TraceContext::new_root().sampled(sampled).with_span_id(span);
            let text = context.to_traceparent();
            let read = TraceContext::parse(&text).unwrap();
            prop_assert!(read.is_remote() && !context.is_remote());
            prop_assert_eq!(read.to_traceparent(), text);
        }
    }
}
