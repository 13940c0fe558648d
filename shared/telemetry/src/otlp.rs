//! OTLP over HTTP/protobuf, driven by the function itself: no thread, no timer, no retry inside.
//!
//! Items wait in bounded queues. [`Pipeline::flush`] sends them before an answer is given, within a budget that it cannot
//! exceed. A batch that failed is kept as it is and goes first the next time; what finds its queue full is dropped and
//! counted. So of everything that was made, each item is sent, dropped, or still waiting.

mod client;
mod encode;
mod lane;

pub(crate) use encode::{log_record, span};

use crate::env::{Settings, Signal};
use crate::label::{ExportOutcome, Fate, SignalName};
use crate::meter::Meter;
use crate::registry::{Function, metric};
use client::Client;
use encode::Encoder;
use lane::{Drained, Lane};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use std::sync::{Mutex, PoisonError};
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

/// The way out of one process.
#[derive(Debug)]
pub(crate) struct Pipeline {
    encoder: Encoder,
    traces: Option<Lane<Span>>,
    logs: Option<Lane<LogRecord>>,
    metrics: Option<Lane<()>>,
    metrics_limit: Duration,
    flushing: tokio::sync::Mutex<()>,
    warned_at: Mutex<Option<Instant>>,
}

impl Pipeline {
    /// `None` if nothing is to be sent. Opens nothing.
    pub(crate) fn new(settings: &Settings, function: Function, version: &'static str) -> Option<Self> {
        if !settings.exports() {
            return None;
        }
        let client = |signal| settings.target(signal).map(|target| Client::new(target.clone(), version));
        let metrics = crate::env::Queue { every: settings.metrics_every, ..settings.span_queue };
        Some(Self {
            encoder: Encoder::new(settings, function, version),
            traces: client(Signal::Traces)
                .map(|client| Lane::new(Signal::Traces, client, settings.span_queue)),
            logs: client(Signal::Logs).map(|client| Lane::new(Signal::Logs, client, settings.log_queue)),
            metrics: client(Signal::Metrics).map(|client| Lane::new(Signal::Metrics, client, metrics)),
            metrics_limit: settings.metrics_timeout,
            flushing: tokio::sync::Mutex::default(),
            warned_at: Mutex::default(),
        })
    }

    pub(crate) fn push_span(&self, recording: crate::span::Recording) {
        if let Some(lane) = &self.traces {
            lane.push(span(recording, &self.encoder.span_limits));
        }
    }

    /// Whether log records are wanted.
    pub(crate) fn takes_logs(&self) -> bool {
        self.logs.is_some()
    }

    pub(crate) fn push_log(&self, line: &serde_json::Map<String, serde_json::Value>, level: tracing::Level) {
        if let Some(lane) = &self.logs {
            lane.push(log_record(line, level, &self.encoder.log_limits));
        }
    }

    /// Sends what waits, within `budget`; each signal by requests of its own, side by side. Another flush that runs already
    /// is enough.
    pub(crate) async fn flush(&self, meter: &Meter, budget: Duration, wanted: Wanted) {
        let Ok(_flushing) = self.flushing.try_lock() else { return };
        let started = Instant::now();
        let traces = async {
            let lane = self.traces.as_ref().filter(|lane| lane.is_due(wanted))?;
            Some((
                SignalName::Traces,
                lane.drain(budget, lane.limit(), |spans| self.encoder.traces(spans)).await,
            ))
        };
        let logs = async {
            let lane = self.logs.as_ref().filter(|lane| lane.is_due(wanted))?;
            Some((SignalName::Logs, lane.drain(budget, lane.limit(), |logs| self.encoder.logs(logs)).await))
        };
        let metrics = async {
            let lane = self.metrics.as_ref().filter(|lane| lane.is_due(wanted))?;
            let next = || meter.collect().and_then(|collected| self.encoder.metrics(&collected));
            Some((SignalName::Metrics, lane.drain_from(budget, self.metrics_limit, next).await))
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

    fn count(&self, signal: SignalName, drained: &Drained) {
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
            Signal::Logs => self.logs.as_ref().map(Lane::close),
            Signal::Metrics => self.metrics.as_ref().map(Lane::close),
        };
        Signal::ALL.map(|signal| (signal, totals(signal).unwrap_or_default()))
    }
}
