//! What has been recorded since it was last written out, for each reader on its own.
//!
//! There are two readers: the embedded metrics of standard output, and OTLP where it is configured. Every value goes to
//! both in one place, so that they count the same. A value that is not finite is refused: one NaN would spoil a sum for good.

use crate::env::Temporality;
use crate::label::Labels;
use crate::registry::{Definition, Kind, METRICS};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

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

/// One series between two collections.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) count: u64,
    /// The sum; of a gauge, the last value.
    pub(crate) sum: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Values up to each of [`BOUNDS`], and those beyond; of a histogram.
    pub(crate) buckets: [u64; BOUNDS.len() + 1],
}

impl Default for Point {
    fn default() -> Self {
        Self {
            count: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            buckets: [0; BOUNDS.len() + 1],
        }
    }
}

impl Point {
    fn record(&mut self, kind: Kind, value: f64) {
        self.count += 1;
        self.sum = if kind == Kind::Gauge { value } else { self.sum + value };
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if kind == Kind::Histogram {
            self.buckets[BOUNDS.partition_point(|bound| *bound < value)] += 1;
        }
    }
}

/// What OTLP's reader collects.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) since: SystemTime,
    pub(crate) until: SystemTime,
    pub(crate) points: Vec<(Series, Point)>,
}

/// The points of OTLP's reader.
#[derive(Debug)]
struct Exported {
    temporality: Temporality,
    since: SystemTime,
    points: BTreeMap<Series, Point>,
    /// Whether anything was recorded since the last collection.
    changed: bool,
}

/// Everything recorded by a process.
#[derive(Debug)]
pub struct Meter {
    /// The values of each series, as the embedded format takes them.
    embedded: Mutex<BTreeMap<Series, Vec<f64>>>,
    exported: Option<Mutex<Exported>>,
}

impl Meter {
    /// `exported`: the temporality of OTLP's reader, if there is one.
    #[must_use]
    pub fn new(exported: Option<Temporality>) -> Self {
        let exported = exported.map(|temporality| {
            Mutex::new(Exported {
                temporality,
                since: SystemTime::now(),
                points: BTreeMap::new(),
                changed: false,
            })
        });
        Self { embedded: Mutex::default(), exported }
    }

    /// Answers values that have to be written now, because there is no room for more in one object.
    pub(crate) fn record(&self, series: Series, value: f64) -> Option<Vec<f64>> {
        if !value.is_finite() {
            return None;
        }
        let kind = series.definition().kind;
        if let Some(exported) = &self.exported {
            let mut exported = lock(exported);
            exported.points.entry(series).or_default().record(kind, value);
            exported.changed = true;
        }
        let mut embedded = lock(&self.embedded);
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
        std::mem::take(&mut *lock(&self.embedded)).into_iter().collect()
    }

    /// What is to be exported; `None` if nothing was recorded. With delta temporality the points start over.
    pub(crate) fn collect(&self) -> Option<Collected> {
        let mut exported = lock(self.exported.as_ref()?);
        if !std::mem::take(&mut exported.changed) {
            return None;
        }
        let until = SystemTime::now();
        let since = exported.since;
        let points = match exported.temporality {
            Temporality::Delta => {
                exported.since = until;
                std::mem::take(&mut exported.points).into_iter().collect()
            }
            Temporality::Cumulative => {
                exported.points.iter().map(|(series, point)| (*series, point.clone())).collect()
            }
        };
        Some(Collected { since, until, points })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn delta_points_start_over_and_cumulative_ones_go_on() {
        for (temporality, second) in [(Temporality::Delta, 5.0), (Temporality::Cumulative, 8.0)] {
            let meter = Meter::new(Some(temporality));
            let series = metric::DEAD_LETTERS.series(());
            assert!(meter.collect().is_none());
            let _ = meter.record(series, 3.0);
            assert_eq!(meter.collect().unwrap().points[0].1.sum, 3.0);
            assert!(meter.collect().is_none(), "nothing new");
            let _ = meter.record(series, 5.0);
            assert_eq!(meter.collect().unwrap().points[0].1.sum, second);
        }
    }

    #[test]
    fn a_value_that_is_no_number_spoils_nothing() {
        let meter = Meter::new(Some(Temporality::Delta));
        let series = metric::TELEMETRY_FLUSH_DURATION.series(());
        for value in [f64::NAN, f64::INFINITY, 0.5, f64::NEG_INFINITY] {
            let _ = meter.record(series, value);
        }
        let point = &meter.collect().unwrap().points[0].1;
        assert_eq!((point.count, point.sum), (1, 0.5));
        assert_eq!(meter.take_embedded()[0].1, [0.5]);
    }

    #[test]
    fn a_gauge_keeps_the_last_value_and_a_counter_the_sum() {
        let meter = Meter::new(Some(Temporality::Delta));
        for value in [4.0, 2.0] {
            let _ = meter.record(metric::LEDGER_JOBS.series(JobState::Queued), value);
            let _ = meter.record(metric::MESSAGES_RETURNED.series(Queue::Jobs), value);
        }
        let values: Vec<_> = meter.take_embedded().into_iter().map(|(_, values)| values).collect();
        assert_eq!(values, [[6.0], [2.0]]);
        let sums: Vec<_> = meter.collect().unwrap().points.iter().map(|(_, point)| point.sum).collect();
        assert_eq!(sums, [6.0, 2.0]);
    }

    #[test]
    fn a_value_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let mut point = Point::default();
        for value in [0.001, 0.0011, 60.0, 61.0] {
            point.record(Kind::Histogram, value);
        }
        let filled: Vec<_> =
            point.buckets.iter().enumerate().filter(|(_, n)| **n > 0).map(|(at, _)| at).collect();
        assert_eq!(filled, [0, 1, 15, 16]);
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
