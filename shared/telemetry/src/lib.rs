//! What every function does about telemetry: one call to [`init`] in `main`, one [`Invocation`] an event.
//!
//! Logs are JSON, a line an event, on standard output: `timestamp`, `level`, `message`, `service`, `function`, `version`,
//! then what the enclosing spans and the event itself carry (`request_id`, `trace_id`, `span_id`, `cold_start`, the
//! domain's ids). The inner value wins where two have the same name.
//!
//! Nothing here opens a socket or starts a thread. The trace context travels as W3C `traceparent` ([`TraceContext`]):
//! HTTP header, ledger row, SQS message attribute.

mod log;
mod trace;

pub use log::JsonLayer;
pub use trace::TraceContext;

use std::sync::atomic::{AtomicBool, Ordering};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The name that all functions share in `service`.
pub const SERVICE: &str = "callboard";

/// What is logged where `RUST_LOG` says nothing: our own progress, the libraries' warnings.
const DEFAULT_FILTER: &str =
    "info,hyper=warn,rustls=warn,aws_config=warn,aws_smithy_runtime=warn,lambda_runtime=warn";

/// Installs the JSON logs for the process. Later calls change nothing.
///
/// `function` is the function's short name (`api`), `version` the package's. A `RUST_LOG` that cannot be read counts as
/// absent, and is told in a warning: a typo in a variable never stops a function from starting.
pub fn init(function: &'static str, version: &'static str) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let parsed = EnvFilter::try_new(if wanted.is_empty() { DEFAULT_FILTER } else { &wanted });
    let refused = parsed.as_ref().err().map(ToString::to_string);
    let filter = parsed.unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let layer = JsonLayer::new(function, version, std::io::stdout);
    // An error means that a subscriber is installed already: a test's, or an earlier call's.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    if let Some(error) = refused {
        tracing::warn!(error, "RUST_LOG cannot be read, so the default filter is in force");
    }
}

static IS_WARM: AtomicBool = AtomicBool::new(false);

/// One event handled by a function: its span, and its place in a trace.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The context that work of this invocation hands on.
    pub trace: TraceContext,
    /// Enter it (`instrument`) around the handler: its fields reach every log line within.
    pub span: tracing::Span,
}

impl Invocation {
    /// Begins an invocation. `parent` is the caller's context; without one a new trace begins.
    /// The first invocation of a process carries `cold_start=true`.
    #[must_use]
    pub fn begin(request_id: &str, parent: Option<&TraceContext>) -> Self {
        let trace = parent.map_or_else(TraceContext::new_root, TraceContext::child);
        let cold_start = !IS_WARM.swap(true, Ordering::Relaxed);
        let span = tracing::info_span!("invocation", request_id, trace_id = %trace.trace_id(), span_id = %trace.span_id(), cold_start);
        Self { trace, span }
    }
}

/// A span for one job or message within an invocation that belongs to a trace of its own.
///
/// Its `trace_id` and `span_id` win over the invocation's in the log lines within. Returns the span with the context to
/// hand on.
#[must_use]
pub fn processing_span(name: &'static str, parent: Option<&str>) -> (tracing::Span, TraceContext) {
    let trace =
        parent.and_then(TraceContext::parse).map_or_else(TraceContext::new_root, |parent| parent.child());
    let span = tracing::info_span!("processing", operation = name, trace_id = %trace.trace_id(), span_id = %trace.span_id());
    (span, trace)
}
