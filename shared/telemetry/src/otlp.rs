//! OTLP over HTTP/protobuf by `opentelemetry-otlp`, driven by the function itself: no thread, no timer, no retry inside.
//!
//! Items wait in bounded queues. [`Pipeline::flush`] sends them before an answer is given, within a budget that it cannot
//! exceed. A batch that failed is kept as it is and goes first the next time; what finds its queue full is dropped and
//! counted. So of everything that was made, each item is sent, dropped, or still waiting.
//!
//! The SDK makes records and aggregates metrics, its exporters encode; the transport, the queues and the time are ours, because
//! the SDK's processors have threads and time-outs of their own and do not tell what became of an item (decision 0007).

mod client;
mod exporters;
mod lane;
mod logs;
mod metrics;
mod outlet;

pub(crate) use metrics::Instruments;

use crate::env::{Limits, Queue, Settings, Target};
use crate::label::{ExportOutcome, Fate, Signal};
use crate::meter::Meter;
use crate::registry::{Function, metric};
use client::Client;
use lane::{Export, Lane};
use logs::{Records, shortened};
use opentelemetry::{InstrumentationScope, Value};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::logs::SdkLogRecord;
use opentelemetry_sdk::trace::SpanData;
use outlet::Outlet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A collector that is gone is told of once in this time.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// What a flush is to send.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    /// The signals whose time has come.
    Due {
        /// Whether calls come close together.
        is_busy: bool,
    },
    /// All of them.
    All,
}

/// What became of a signal's items so far. `made` = `sent` + `dropped` + what waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) made: u64,
    pub(crate) sent: u64,
    pub(crate) dropped: u64,
}

/// How a flush of one signal went.
#[derive(Debug, Default, PartialEq, Eq)]
struct Drained {
    /// Requests that the collector answered.
    requests: u64,
    sent: u64,
    dropped: u64,
    /// Why it ended before everything was sent.
    failure: Option<String>,
}

/// The way out of one process.
#[derive(Debug)]
pub(crate) struct Pipeline {
    scope: InstrumentationScope,
    span_limits: Limits,
    traces: Option<Lane<SpanData, exporters::Spans>>,
    logs: Option<Arc<Lane<SdkLogRecord, exporters::Logs>>>,
    records: Option<Records>,
    /// Its queue is the instruments.
    metrics: Option<Lane<(), exporters::Metrics>>,
    flushing: tokio::sync::Mutex<()>,
    warned_at: Mutex<Option<Instant>>,
}

/// What [`Settings`] ask for: the way out, and the instruments that metrics are recorded by. Opens nothing, and builds nothing
/// for a signal without a target.
pub(crate) fn build(
    settings: &Settings,
    function: Function,
    version: &'static str,
) -> (Option<Pipeline>, Option<Instruments>) {
    if !settings.exports() {
        return (None, None);
    }
    let resource = exporters::resource(settings, function, version, &|name| std::env::var(name).ok());
    let scope = InstrumentationScope::builder(crate::SERVICE).with_version(version).build();
    let traces = lane(settings, Signal::Traces, version, settings.span_queue, |target, outlet| {
        exporters::spans(target, outlet, &resource)
    });
    let logs = lane(settings, Signal::Logs, version, settings.log_queue, |target, outlet| {
        exporters::logs(target, outlet, &resource, scope.clone())
    })
    .map(Arc::new);
    let records =
        logs.clone().map(|lane| Records::new(lane, resource.clone(), scope.clone(), settings.log_limits));
    let queue =
        Queue { every: settings.metrics_every, timeout: settings.metrics_timeout, ..settings.span_queue };
    let metrics = lane(settings, Signal::Metrics, version, queue, |target, outlet| {
        exporters::metrics(target, outlet, settings.temporality)
    });
    let instruments =
        metrics.as_ref().map(|_| Instruments::new(settings.temporality, resource, scope.clone(), function));
    let pipeline = Pipeline {
        scope,
        span_limits: settings.span_limits,
        traces,
        logs,
        records,
        metrics,
        flushing: tokio::sync::Mutex::default(),
        warned_at: Mutex::default(),
    };
    (Some(pipeline), instruments)
}

fn lane<T, E: Export>(
    settings: &Settings,
    signal: Signal,
    version: &str,
    queue: Queue,
    exporter: impl FnOnce(&Target, Arc<Outlet>) -> Result<E, ExporterBuildError>,
) -> Option<Lane<T, E>> {
    let target = settings.target(signal)?;
    let outlet = Arc::new(Outlet::new(Client::new(target.clone(), version)));
    // All that a builder refuses is a URL, and `env` lets none through that is no `Uri`.
    let exporter = exporter(target, Arc::clone(&outlet)).ok()?;
    Some(Lane::new(outlet, exporter, queue))
}

impl Pipeline {
    /// A span that ended. What is over a limit is left out and counted.
    pub(crate) fn push_span(&self, mut span: SpanData) {
        let Some(lane) = &self.traces else { return };
        span.instrumentation_scope = self.scope.clone();
        span.dropped_attributes_count = cut(&mut span.attributes, self.span_limits.attributes);
        span.links.dropped_count = cut(&mut span.links.links, self.span_limits.links);
        for attribute in &mut span.attributes {
            if let Value::String(text) = &attribute.value
                && text.as_str().len() > self.span_limits.value_chars
            {
                attribute.value = Value::from(shortened(text.as_str(), self.span_limits.value_chars));
            }
        }
        lane.push(span);
    }

    /// Whether log records are wanted.
    pub(crate) fn takes_logs(&self) -> bool {
        self.records.is_some()
    }

    pub(crate) fn push_log(&self, line: &serde_json::Map<String, serde_json::Value>, level: tracing::Level) {
        if let Some(records) = &self.records {
            records.push(line, level);
        }
    }

    /// Sends what waits, within `budget`; each signal by requests of its own, side by side. Another flush that runs already
    /// is enough.
    pub(crate) async fn flush(&self, meter: &Meter, budget: Duration, wanted: Wanted) {
        let Ok(_flushing) = self.flushing.try_lock() else { return };
        let started = Instant::now();
        let traces = async {
            let lane = self.traces.as_ref().filter(|lane| lane.is_due(wanted))?;
            Some((Signal::Traces, lane.drain(budget).await))
        };
        let logs = async {
            let lane = self.logs.as_ref().filter(|lane| lane.is_due(wanted))?;
            Some((Signal::Logs, lane.drain(budget).await))
        };
        let metrics = async {
            let lane = self.metrics.as_ref().filter(|lane| lane.is_due(wanted))?;
            // Once: what other events record meanwhile has time until the next flush.
            let mut once = Some(meter);
            let next = || once.take().and_then(Meter::collect);
            Some((Signal::Metrics, lane.drain_from(budget, next).await))
        };
        let ended = {
            let (traces, logs, metrics) = tokio::join!(traces, logs, metrics);
            [traces, logs, metrics]
        };
        let mut is_any = false;
        for (signal, drained) in ended.into_iter().flatten() {
            is_any |= drained.requests > 0 || drained.failure.is_some();
            self.count(signal, &drained);
        }
        if is_any {
            metric::TELEMETRY_FLUSH_DURATION.record(started.elapsed().as_secs_f64(), ());
        }
    }

    fn count(&self, signal: Signal, drained: &Drained) {
        metric::TELEMETRY_EXPORTS.add(drained.requests, (signal, ExportOutcome::Sent));
        metric::TELEMETRY_ITEMS.add(drained.sent, (signal, Fate::Sent));
        metric::TELEMETRY_ITEMS.add(drained.dropped, (signal, Fate::Dropped));
        let Some(failure) = &drained.failure else { return };
        metric::TELEMETRY_EXPORTS.add(1, (signal, ExportOutcome::Failed));
        let mut warned_at = self.warned_at.lock().unwrap_or_else(PoisonError::into_inner);
        if warned_at.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            *warned_at = Some(Instant::now());
            if crate::global::warns() {
                tracing::warn!(
                    signal = signal.as_str(),
                    failure,
                    "telemetry could not be exported; it is kept, and tried again with the next event"
                );
            }
        }
    }

    /// The process ends: what still waits is dropped, and every signal's totals are told.
    pub(crate) fn close(&self) -> [(Signal, Totals); 3] {
        let totals = |signal| match signal {
            Signal::Traces => self.traces.as_ref().map(Lane::close),
            Signal::Logs => self.logs.as_deref().map(Lane::close),
            Signal::Metrics => self.metrics.as_ref().map(Lane::close),
        };
        Signal::ALL.map(|signal| (signal, totals(signal).unwrap_or_default()))
    }
}

/// Leaves out what is over `limit`, and says how much that was.
fn cut<T>(items: &mut Vec<T>, limit: usize) -> u32 {
    let dropped = items.len().saturating_sub(limit);
    items.truncate(limit);
    u32::try_from(dropped).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::AttributeValue;
    use opentelemetry::KeyValue;
    use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status};
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};
    use std::time::SystemTime;

    fn span() -> SpanData {
        let mut links = SpanLinks::default();
        links.links = vec![Link::with_context(SpanContext::NONE); 3];
        SpanData {
            span_context: SpanContext::NONE,
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "test".into(),
            start_time: SystemTime::now(),
            end_time: SystemTime::now(),
            attributes: vec![KeyValue::new("a", "äöü"), KeyValue::new("b", 12_345), KeyValue::new("c", true)],
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        }
    }

    #[test]
    fn what_is_over_a_limit_is_left_out_and_counted() {
        let settings = Settings::read(&|name| match name {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" => Some("http://127.0.0.1:9/v1/traces".into()),
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT" | "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT" => Some("2".into()),
            "OTEL_SPAN_LINK_COUNT_LIMIT" => Some("1".into()),
            _ => None,
        });
        let (pipeline, instruments) = build(&settings, Function::Api, "1.2.3");
        let pipeline = pipeline.unwrap();
        assert!(instruments.is_none() && !pipeline.takes_logs(), "nothing for a signal without a target");
        pipeline.push_span(span());
        let span = pipeline.traces.as_ref().and_then(Lane::take_first).unwrap();
        assert_eq!(
            span.attributes,
            [KeyValue::new("a", "äö"), KeyValue::new("b", AttributeValue::I64(12_345))]
        );
        assert_eq!((span.dropped_attributes_count, span.links.len(), span.links.dropped_count), (1, 1, 2));
        assert_eq!(span.instrumentation_scope.version(), Some("1.2.3"));
    }

    #[test]
    fn without_a_target_nothing_is_built() {
        let (pipeline, instruments) = build(&Settings::read(&|_| None), Function::Api, "1.2.3");
        assert!(pipeline.is_none() && instruments.is_none());
    }
}
