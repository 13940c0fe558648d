//! What one process has of telemetry. A program that never calls [`crate::init`] (a test, a tool) has none, and records
//! into nothing.

use crate::env::Settings;
use crate::flush::{self, Calls};
use crate::meter::{Meter, Series};
use crate::otlp::{Pipeline, Wanted};
use crate::registry::Function;
use crate::trace::TraceContext;
use opentelemetry_sdk::trace::SpanData;
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Everything that [`crate::init`] made.
#[derive(Debug)]
pub(crate) struct Global {
    pub(crate) function: Function,
    pub(crate) version: &'static str,
    pub(crate) settings: Settings,
    pub(crate) meter: Meter,
    pub(crate) pipeline: Option<Pipeline>,
    pub(crate) calls: Calls,
    pub(crate) started: Instant,
}

static GLOBAL: OnceLock<Global> = OnceLock::new();

/// Sets it, once.
pub(crate) fn set(global: Global) -> bool {
    GLOBAL.set(global).is_ok()
}

pub(crate) fn get() -> Option<&'static Global> {
    GLOBAL.get()
}

pub(crate) fn record(series: Series, value: f64) {
    let Some(global) = get() else { return };
    if let Some(full) = global.meter.record(series, value) {
        global.write(vec![(series, full)]);
    }
}

pub(crate) fn samples(place: &TraceContext, parent: Option<bool>) -> bool {
    match get() {
        Some(global) => {
            global.settings.sampler.samples(u128::from_be_bytes(place.trace_id().to_bytes()), parent)
        }
        None => parent.unwrap_or(true),
    }
}

pub(crate) fn exports_traces() -> bool {
    get().is_some_and(|global| global.settings.traces.is_some())
}

pub(crate) fn span_ended(span: SpanData) {
    if let Some(pipeline) = get().and_then(|global| global.pipeline.as_ref()) {
        pipeline.push_span(span);
    }
}

/// Whether this crate's own warnings are logged.
pub(crate) fn warns() -> bool {
    get().is_none_or(|global| global.settings.warns)
}

/// Libraries that an export itself goes through, and this crate: what they log while exporting would be exported, logged
/// again, and never come to rest.
const OWN_LIBRARIES: [&str; 12] = [
    "hyper",
    "hyper_util",
    "h2",
    "rustls",
    "tokio_rustls",
    "tower",
    "opentelemetry",
    "opentelemetry_sdk",
    "opentelemetry_otlp",
    "opentelemetry_http",
    "mio",
    "telemetry",
];

/// A line that was logged.
pub(crate) fn logged(line: &serde_json::Map<String, serde_json::Value>, metadata: &tracing::Metadata<'_>) {
    let Some(pipeline) = get().and_then(|global| global.pipeline.as_ref()) else { return };
    if !pipeline.takes_logs() {
        return;
    }
    let library = metadata.target().split("::").next().unwrap_or_default();
    if !OWN_LIBRARIES.contains(&library) {
        pipeline.push_log(line, *metadata.level());
    }
}

impl Global {
    /// After an event: sends what is due, then writes what was recorded. `left`: of the invocation's time.
    pub(crate) async fn event_ended(&self, left: Duration) {
        if let Some(pipeline) = &self.pipeline {
            let is_busy = self.calls.called(SystemTime::now());
            let budget = flush::budget(left);
            if !budget.is_zero() {
                pipeline.flush(&self.meter, budget, Wanted::Due { is_busy }).await;
            }
        }
        self.write_embedded();
    }

    /// While a handler still runs near its time-out: everything that is known.
    pub(crate) async fn last_chance(&self) {
        if let Some(pipeline) = &self.pipeline {
            tracing::warn!("the handler still runs near its time-out; telemetry is sent now");
            self.write_embedded();
            pipeline.flush(&self.meter, flush::BUDGET, Wanted::All).await;
        }
    }

    /// Writes what was recorded since the last time.
    pub(crate) fn write_embedded(&self) {
        self.write(self.meter.take_embedded());
    }

    fn write(&self, values: Vec<(Series, Vec<f64>)>) {
        if values.is_empty() {
            return;
        }
        let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let at_ms = i64::try_from(at_ms).unwrap_or(i64::MAX);
        let lines = crate::emf::lines(self.function, self.version, at_ms, values);
        // A closed standard output is no reason to fail a request.
        let _ = std::io::stdout().lock().write_all(&lines);
    }
}
