//! Which traces are recorded (OpenTelemetry specification, "Sampling").

use super::read::Reader;

/// What is decided where a trace begins; `parent_based` says whether a caller's decision is followed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sampler {
    /// The share of traces, 0 to 1.
    ratio: f64,
    parent_based: bool,
}

impl Default for Sampler {
    /// `parentbased_always_on`.
    fn default() -> Self {
        Self { ratio: 1.0, parent_based: true }
    }
}

impl Sampler {
    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let known = [
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ];
        let Some(word) = reader.word("OTEL_TRACES_SAMPLER", &known) else {
            return Self::default();
        };
        let rule = word.strip_prefix("parentbased_");
        let ratio = match rule.unwrap_or(&word) {
            "always_on" => 1.0,
            "always_off" => 0.0,
            _ => {
                let ratio: Option<f64> = reader.number("OTEL_TRACES_SAMPLER_ARG");
                let is_share = |ratio: &f64| (0.0..=1.0).contains(ratio);
                if ratio.is_some_and(|ratio| !is_share(&ratio)) {
                    reader
                        .warn("OTEL_TRACES_SAMPLER_ARG is not used: a share from 0 to 1 is expected".into());
                }
                ratio.filter(is_share).unwrap_or(1.0)
            }
        };
        Self { ratio, parent_based: rule.is_some() }
    }

    /// Whether a trace is recorded. `parent`: the caller's decision, `None` where the trace begins here.
    #[must_use]
    pub(crate) fn samples(&self, trace_id: u128, parent: Option<bool>) -> bool {
        match parent {
            Some(is_sampled) if self.parent_based => is_sampled,
            _ if self.ratio >= 1.0 => true,
            _ => {
                // The low 63 bits, as the SDKs compare them: one trace is judged alike by all of its services.
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "a share of the range"
                )]
                let bound = (self.ratio * (1_u64 << 63) as f64) as u64;
                #[allow(clippy::cast_possible_truncation, reason = "the low half is wanted")]
                let low = (trace_id as u64) >> 1;
                low < bound
            }
        }
    }
}
