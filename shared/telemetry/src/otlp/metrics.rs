//! The registry as instruments of the SDK, read when a flush asks for it.

use crate::meter::{BOUNDS, Series};
use crate::registry::{Definition, Function, Kind, METRICS, SERIES_MAX};
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, MeterProvider as _};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Stream, Temporality,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The reader's two owners: the provider, and whoever collects.
#[derive(Debug, Clone)]
struct Reader(Arc<ManualReader>);

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, into: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(into)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

#[derive(Debug)]
enum Instrument {
    Counter(Counter<f64>),
    Gauge(Gauge<f64>),
    Histogram(Histogram<f64>),
}

/// A metric's instrument, and the attributes of each combination of its labels.
#[derive(Debug)]
struct Entry {
    instrument: Instrument,
    attributes: Vec<Vec<KeyValue>>,
}

/// One instrument for each metric of the registry.
#[derive(Debug)]
pub(crate) struct Instruments {
    /// The reader sees its instruments through it.
    _provider: SdkMeterProvider,
    reader: Reader,
    /// In the registry's order.
    entries: Vec<Entry>,
    /// Whether anything was recorded since the last collection.
    changed: AtomicBool,
}

impl Instruments {
    pub(crate) fn new(
        temporality: Temporality,
        resource: Resource,
        scope: InstrumentationScope,
        function: Function,
    ) -> Self {
        let reader = Reader(Arc::new(ManualReader::builder().with_temporality(temporality).build()));
        let provider = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_reader(reader.clone())
            // The registry bounds the series; the SDK's own bound has it reserve room for 2,000 an instrument.
            .with_view(|_| Stream::builder().with_cardinality_limit(SERIES_MAX).build().ok())
            .build();
        let meter = provider.meter_with_scope(scope);
        let entries = METRICS.iter().map(|definition| entry(&meter, definition, function)).collect();
        Self { _provider: provider, reader, entries, changed: AtomicBool::new(false) }
    }

    /// `value` is finite.
    pub(crate) fn record(&self, series: Series, value: f64) {
        let Some(Entry { instrument, attributes }) = self.entries.get(usize::from(series.metric)) else {
            return;
        };
        let Some(attributes) = attributes.get(usize::from(series.labels)) else { return };
        match instrument {
            Instrument::Counter(counter) => counter.add(value, attributes),
            Instrument::Gauge(gauge) => gauge.record(value, attributes),
            Instrument::Histogram(histogram) => histogram.record(value, attributes),
        }
        self.changed.store(true, Ordering::Relaxed);
    }

    /// What is to be exported, and of how many points; `None` if nothing was recorded.
    pub(crate) fn collect(&self) -> Option<(ResourceMetrics, u64)> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return None;
        }
        let mut collected = ResourceMetrics::default();
        self.reader.collect(&mut collected).ok()?;
        let metrics = collected.scope_metrics().flat_map(|scope| scope.metrics());
        let points = metrics.map(|metric| points(metric.data())).sum::<usize>();
        let points = u64::try_from(points).unwrap_or(u64::MAX);
        (points > 0).then_some((collected, points))
    }
}

fn entry(meter: &Meter, definition: &'static Definition, function: Function) -> Entry {
    let (name, unit, description) = (definition.name, definition.unit.ucum(), definition.description);
    let instrument = match definition.kind {
        Kind::Counter => {
            Instrument::Counter(meter.f64_counter(name).with_unit(unit).with_description(description).build())
        }
        Kind::Gauge => {
            Instrument::Gauge(meter.f64_gauge(name).with_unit(unit).with_description(description).build())
        }
        Kind::Histogram => Instrument::Histogram(
            meter
                .f64_histogram(name)
                .with_unit(unit)
                .with_description(description)
                .with_boundaries(BOUNDS.to_vec())
                .build(),
        ),
    };
    let attributes = (0..definition.combinations())
        .map(|labels| {
            let pairs = definition.pairs(labels).into_iter().map(|(key, value)| KeyValue::new(key, value));
            let function = definition.per_function.then(|| KeyValue::new("function", function.as_str()));
            pairs.chain(function).collect()
        })
        .collect();
    Entry { instrument, attributes }
}

fn points(data: &AggregatedMetrics) -> usize {
    fn of<T>(data: &MetricData<T>) -> usize {
        match data {
            MetricData::Gauge(gauge) => gauge.data_points().count(),
            MetricData::Sum(sum) => sum.data_points().count(),
            MetricData::Histogram(histogram) => histogram.data_points().count(),
            MetricData::ExponentialHistogram(histogram) => histogram.data_points().count(),
        }
    }
    match data {
        AggregatedMetrics::F64(data) => of(data),
        AggregatedMetrics::U64(data) => of(data),
        AggregatedMetrics::I64(data) => of(data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::Meter as Recorder;
    use crate::registry::metric;
    use std::collections::BTreeMap;

    fn recorder(temporality: Temporality) -> Recorder {
        let resource = Resource::builder_empty().build();
        let scope = InstrumentationScope::builder("test").build();
        Recorder::new(Some(Instruments::new(temporality, resource, scope, Function::Worker)))
    }

    /// Name, attributes and what came of one point: the sum, the last value, or the count with the filled buckets.
    type Seen = BTreeMap<(String, Vec<(String, String)>), (f64, Vec<u64>)>;

    fn seen(collected: &ResourceMetrics) -> Seen {
        let mut seen = Seen::new();
        for found in collected.scope_metrics().flat_map(|scope| scope.metrics()) {
            let mut add = |attributes: Vec<&KeyValue>, value, buckets| {
                let mut pairs: Vec<_> =
                    attributes.iter().map(|pair| (pair.key.to_string(), pair.value.to_string())).collect();
                pairs.sort();
                assert_eq!(seen.insert((found.name().to_owned(), pairs), (value, buckets)), None);
            };
            match found.data() {
                AggregatedMetrics::F64(MetricData::Sum(sum)) => {
                    assert!(sum.is_monotonic());
                    sum.data_points().for_each(|p| add(p.attributes().collect(), p.value(), Vec::new()));
                }
                AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
                    gauge.data_points().for_each(|p| add(p.attributes().collect(), p.value(), Vec::new()));
                }
                AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
                    for point in histogram.data_points() {
                        assert_eq!(point.bounds().collect::<Vec<_>>(), BOUNDS);
                        let sum = point.sum();
                        add(point.attributes().collect(), sum, point.bucket_counts().collect());
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        seen
    }

    #[test]
    fn every_series_of_the_registry_is_read_with_its_labels_unit_and_description() {
        let recorder = recorder(Temporality::Delta);
        let mut expected = BTreeMap::new();
        for (index, definition) in METRICS.iter().enumerate() {
            for labels in 0..definition.combinations() {
                let series =
                    Series { metric: u8::try_from(index).unwrap(), labels: u16::try_from(labels).unwrap() };
                // The bounds of all buckets are below it.
                let value = 100.0 + f64::from(series.labels);
                assert_eq!(recorder.record(series, value), None);
                let mut pairs: Vec<_> =
                    definition.pairs(labels).into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
                if definition.per_function {
                    pairs.push(("function".to_owned(), "worker".to_owned()));
                }
                pairs.sort();
                expected.insert((definition.name.to_owned(), pairs), value);
            }
        }
        let (collected, points) = recorder.collect().unwrap();
        let seen = seen(&collected);
        assert_eq!(u64::try_from(expected.len()).unwrap(), points);
        let values: BTreeMap<_, _> = seen.into_iter().map(|(key, (value, _))| (key, value)).collect();
        assert_eq!(values, expected);
        for found in collected.scope_metrics().flat_map(|scope| scope.metrics()) {
            let definition = METRICS.iter().find(|definition| definition.name == found.name()).unwrap();
            assert_eq!((found.unit(), found.description()), (definition.unit.ucum(), definition.description));
        }
    }

    #[test]
    fn delta_points_start_over_and_cumulative_ones_go_on() {
        for (temporality, second) in [(Temporality::Delta, 5.0), (Temporality::Cumulative, 8.0)] {
            let recorder = recorder(temporality);
            let sum = |recorder: &Recorder| {
                recorder.collect().map(|(collected, points)| {
                    assert_eq!(points, 1);
                    seen(&collected).into_values().next().unwrap().0
                })
            };
            let series = metric::DEAD_LETTERS.series(());
            assert_eq!(sum(&recorder), None);
            let _ = recorder.record(series, 3.0);
            assert_eq!(sum(&recorder), Some(3.0));
            assert_eq!(sum(&recorder), None, "nothing new");
            let _ = recorder.record(series, 5.0);
            assert_eq!(sum(&recorder), Some(second));
        }
    }

    #[test]
    fn a_value_falls_into_the_bucket_whose_bound_it_does_not_exceed_and_no_number_into_none() {
        let recorder = recorder(Temporality::Delta);
        for value in [0.001, 0.0011, f64::NAN, 60.0, f64::INFINITY, 61.0] {
            let _ = recorder.record(metric::TELEMETRY_FLUSH_DURATION.series(()), value);
        }
        let (sum, buckets) = seen(&recorder.collect().unwrap().0).into_values().next().unwrap();
        assert!((sum - 121.0021).abs() < 1e-9, "{sum}");
        let filled: Vec<_> = buckets.iter().enumerate().filter(|(_, n)| **n > 0).map(|(at, _)| at).collect();
        assert_eq!(filled, [0, 1, 15, 16]);
    }
}
