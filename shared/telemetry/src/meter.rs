//! What has been recorded since it was last written out.
//!
//! There are two readers: the embedded metrics of standard output, kept here, and OTLP's where it is configured, which is the
//! SDK's. Every value goes to both in one place and under one lock, so that they count the same. A value that is not finite is
//! refused: one NaN would spoil a sum for good.

use crate::label::Labels;
use crate::otlp::Instruments;
use crate::registry::{Definition, Kind, METRICS};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bounds of histograms, in seconds; the semantic conventions' for HTTP, with room for statements below and jobs above.
pub(crate) const BOUNDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Values of one metric in one embedded object (CloudWatch, Embedded metric format: arrays of at most 100).
pub(crate) const EMBEDDED_VALUES_MAX: usize = 100;

/// A metric and the combination of its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    pub(crate) metric: u8,
    pub(crate) labels: u16,
}

impl Series {
    pub(crate) fn definition(self) -> &'static Definition {
        &METRICS[usize::from(self.metric)]
    }
}

/// The values of each series, as the embedded format takes them.
type Values = BTreeMap<Series, Vec<f64>>;

/// Everything recorded by a process.
#[derive(Debug)]
pub(crate) struct Meter {
    embedded: Mutex<Values>,
    exported: Option<Instruments>,
}

impl Meter {
    /// `exported`: OTLP's reader, if there is one.
    pub(crate) fn new(exported: Option<Instruments>) -> Self {
        Self { embedded: Mutex::default(), exported }
    }

    /// Answers values that have to be written now, because there is no room for more in one object.
    pub(crate) fn record(&self, series: Series, value: f64) -> Option<Vec<f64>> {
        if !value.is_finite() {
            return None;
        }
        let kind = series.definition().kind;
        let mut embedded = self.embedded();
        if let Some(exported) = &self.exported {
            exported.record(series, value);
        }
        let values = embedded.entry(series).or_default();
        match (kind, values.first_mut()) {
            (Kind::Counter, Some(sum)) => *sum += value,
            (Kind::Gauge, Some(last)) => *last = value,
            _ => values.push(value),
        }
        (values.len() >= EMBEDDED_VALUES_MAX).then(|| embedded.remove(&series)).flatten()
    }

    /// What is to be written to standard output; then nothing is.
    pub(crate) fn take_embedded(&self) -> Vec<(Series, Vec<f64>)> {
        std::mem::take(&mut *self.embedded()).into_iter().collect()
    }

    /// What is to be exported, and of how many points; `None` if nothing was recorded. Nothing is recorded meanwhile: the SDK
    /// resets a gauge after it has read it, and would lose what comes between.
    pub(crate) fn collect(&self) -> Option<(ResourceMetrics, u64)> {
        let exported = self.exported.as_ref()?;
        let _embedded = self.embedded();
        exported.collect()
    }

    fn embedded(&self) -> MutexGuard<'_, Values> {
        self.embedded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An instrument: a place in the registry, and the type of its labels.
macro_rules! instrument {
    ($(#[$doc:meta])* $name:ident $(#[$method_doc:meta])* $method:ident($value:ident: $type:ty) = $number:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<L> {
            index: u8,
            labels: PhantomData<fn(L)>,
        }

        impl<L: Labels> $name<L> {
            pub(crate) const fn at(index: u8) -> Self {
                Self { index, labels: PhantomData }
            }

            $(#[$method_doc])*
            pub fn $method(&self, $value: $type, labels: L) {
                crate::global::record(self.series(labels), $number);
            }

            pub(crate) fn series(&self, labels: L) -> Series {
                // A metric's combinations are few; a test adds them up.
                Series { metric: self.index, labels: u16::try_from(labels.index()).unwrap_or(u16::MAX) }
            }
        }
    };
}

#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
const fn count(value: u64) -> f64 {
    value as f64
}

instrument! {
    /// Counts.
    Counter
    /// Adds; nothing to add makes no series.
    add(value: u64) = if value == 0 { f64::NAN } else { count(value) }
}
instrument! {
    /// Says how things are.
    Gauge
    /// Sets.
    set(value: f64) = value
}
instrument! {
    /// Distributes.
    Histogram
    /// Records one value, in the metric's unit.
    record(value: f64) = value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::{JobState, Queue};
    use crate::registry::metric;

    #[test]
    fn a_value_that_is_no_number_spoils_nothing() {
        let meter = Meter::new(None);
        let series = metric::TELEMETRY_FLUSH_DURATION.series(());
        for value in [f64::NAN, f64::INFINITY, 0.5, f64::NEG_INFINITY] {
            let _ = meter.record(series, value);
        }
        assert_eq!(meter.take_embedded()[0].1, [0.5]);
    }

    #[test]
    fn a_gauge_keeps_the_last_value_and_a_counter_the_sum() {
        let meter = Meter::new(None);
        for value in [4.0, 2.0] {
            let _ = meter.record(metric::LEDGER_JOBS.series(JobState::Queued), value);
            let _ = meter.record(metric::MESSAGES_RETURNED.series(Queue::Jobs), value);
        }
        let values: Vec<_> = meter.take_embedded().into_iter().map(|(_, values)| values).collect();
        assert_eq!(values, [[6.0], [2.0]]);
    }

    #[test]
    fn a_full_object_is_handed_out_at_once() {
        let meter = Meter::new(None);
        let series = metric::TELEMETRY_FLUSH_DURATION.series(());
        let full: Vec<_> = (0..250).filter_map(|_| meter.record(series, 0.1)).collect();
        assert_eq!(full.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100]);
        assert_eq!(meter.take_embedded()[0].1.len(), 50);
    }
}
