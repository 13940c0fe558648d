//! What every function does about telemetry: [`init`] first in `main`, [`ready`] before the first event, [`handle`] (or
//! [`around`]) round each.
//!
//! Logs are JSON, a line an event, on standard output: `timestamp`, `level`, `message`, `service`, `function`, `version`,
//! then what the enclosing spans and the event itself carry (`request_id`, `trace_id`, `span_id`, `cold_start`, the
//! domain's ids). The inner value wins where two have the same name. Metrics are lines on standard output too
//! ([`emf`]), of the list in [`registry`].
//!
//! Without an endpoint in the `OTEL_*` variables ([`env`]) that is all: nothing here opens a socket or starts a thread. The
//! trace context travels as W3C `traceparent` ([`TraceContext`]): HTTP header, ledger row, SQS message attribute.
//!
//! It depends on nothing of callboard, and everything but `domain` may use it.

mod carrier;
pub mod db;
mod emf;
mod env;
mod flush;
mod global;
mod invocation;
pub mod label;
mod lifecycle;
mod log;
pub mod messaging;
mod meter;
mod otlp;
pub mod registry;
mod span;
mod trace;

pub use carrier::{TRACEPARENT, TRACESTATE, attempt_span_id, incoming_http, outgoing, propagates};
pub use invocation::{Invocation, Trigger, around, handle};

pub use meter::{Counter, Gauge, Histogram};
pub use registry::{Function, metric};
pub use span::{AttributeValue, SpanBuilder, SpanExt, SpanKind, count, current, place_of};
pub use trace::TraceContext;
#[doc(hidden)]
pub use tracing;

use env::Settings;
use flush::Calls;
use global::Global;
use log::JsonLayer;
use meter::Meter;
use span::SpanLayer;
use std::time::Instant;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{FilterExt as _, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The name that all functions share in `service`.
pub const SERVICE: &str = "callboard";

/// Libraries of which only warnings are logged where `RUST_LOG` says nothing.
const QUIET: [&str; 4] = ["hyper", "rustls", "aws_smithy_runtime", "lambda_runtime"];

fn default_filter() -> Targets {
    let quiet = QUIET.map(|library| (library, LevelFilter::WARN));
    Targets::new().with_default(LevelFilter::INFO).with_targets(quiet)
}

/// Installs logs, metrics and spans for the process. Later calls change nothing.
///
/// `RUST_LOG` is levels by target, as [`Targets`] reads them (`info,worker=debug`). It, or an `OTEL_*` variable, counts as
/// absent if it cannot be read, and is told in a warning: a typo in a variable never stops a function from starting.
pub fn init(function: Function, version: &'static str) {
    let started = Instant::now();
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let (filter, refused) = match wanted.parse::<Targets>() {
        _ if wanted.is_empty() => (default_filter(), None),
        Ok(filter) => (filter, None),
        Err(error) => (default_filter(), Some(error.to_string())),
    };
    let logs = JsonLayer::new(function.as_str(), version, std::io::stdout)
        .with_filter(filter.and(filter_fn(|metadata| !holds_a_body(metadata))));
    // Places in traces are known whatever is logged.
    let spans = SpanLayer.with_filter(
        filter_fn(|metadata| metadata.target() == span::TARGET).with_max_level_hint(LevelFilter::ERROR),
    );
    let settings = Settings::from_env();
    let warnings = if settings.warns { settings.warnings.clone() } else { Vec::new() };
    // An error means that a subscriber is installed already: a test's, or an earlier call's.
    let _ = tracing_subscriber::registry().with(logs).with(spans).try_init();
    let (pipeline, instruments) = otlp::build(&settings, function, version);
    let meter = Meter::new(instruments);
    let calls = Calls::default();
    if !global::set(Global { function, version, settings, meter, pipeline, calls, started }) {
        return;
    }
    if let Some(error) = refused {
        tracing::warn!(error, "RUST_LOG cannot be read, so the default filter is in force");
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// At TRACE these libraries log whole events, with credentials and what persons sent, and the bodies of answers.
fn holds_a_body(metadata: &tracing::Metadata<'_>) -> bool {
    let is_of = |library| metadata.target().starts_with(library);
    *metadata.level() == tracing::Level::TRACE
        && ["lambda_runtime", "aws_smithy_runtime"].into_iter().any(is_of)
}

/// Says that the function is ready for its first event: what came before was its start. Where telemetry is exported, SIGTERM
/// sends what waits from here on.
pub async fn ready() {
    lifecycle::start().await;
    if let Some(global) = global::get() {
        metric::FAAS_INIT_DURATION.record(global.started.elapsed().as_secs_f64(), ());
    }
}
