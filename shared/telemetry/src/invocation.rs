//! One event handled by a function: its span, its numbers, and what must be out before the environment is frozen.

use crate::flush::LAST_CHANCE;
use crate::global;
use crate::registry::metric;
use crate::span::{SpanBuilder, SpanExt as _, SpanKind};
use crate::trace::TraceContext;
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tracing::Instrument as _;

/// Makes the tracing span of a builder: one whose fields reach every log line within.
#[macro_export]
macro_rules! trace_span {
    ($builder:expr $(, $($field:tt)*)?) => {
        $builder.begin(|context| $crate::tracing::error_span!(
            target: "callboard::trace",
            "span",
            trace_id = %context.trace_id(),
            span_id = %context.span_id()
            $(, $($field)*)?
        ))
    };
}

/// What starts a function (semantic conventions, `faas.trigger`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A message of a queue.
    PubSub,
    /// The schedule.
    Timer,
    /// Neither: a person, a deployment.
    Other,
}

impl Trigger {
    /// By the shape of the event: those of SQS have records, the schedule's says so itself.
    #[must_use]
    pub fn of(event: &serde_json::Value) -> Self {
        if event.get("Records").is_some() {
            Self::PubSub
        } else if event.get("sweep").is_some() {
            Self::Timer
        } else {
            Self::Other
        }
    }

    /// The word of the conventions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PubSub => "pubsub",
            Self::Timer => "timer",
            Self::Other => "other",
        }
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
    /// Begins an invocation. `parent` is the caller's context; without one a new trace begins. The first invocation of a
    /// process carries `cold_start=true`.
    #[must_use]
    pub fn begin(
        name: impl Into<Cow<'static, str>>,
        request_id: &str,
        parent: Option<TraceContext>,
        trigger: &'static str,
    ) -> Self {
        let cold_start = !IS_WARM.swap(true, Ordering::Relaxed);
        metric::FAAS_COLDSTARTS.add(u64::from(cold_start), ());
        let builder = SpanBuilder::new(name, SpanKind::Server)
            .parent(parent)
            .attribute("faas.trigger", trigger)
            .attribute("faas.coldstart", cold_start);
        let (span, trace) = trace_span!(builder, request_id, cold_start);
        Self { trace, span }
    }
}

/// Handles one event of a function that is started by a queue or the schedule: under a span of its own, as [`around`].
///
/// # Errors
/// The handler's own.
pub async fn handle<T, E>(
    request_id: &str,
    trigger: Trigger,
    deadline: Instant,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let name = global::get().map_or("function", |global| global.function.as_str());
    let invocation = Invocation::begin(name, request_id, None, trigger.as_str());
    invocation.span.attribute("faas.invocation_id", request_id.to_owned());
    around(deadline, async {
        let result = work.instrument(invocation.span.clone()).await;
        if result.is_err() {
            invocation.span.fail("handler");
        }
        invocation.span.end();
        result
    })
    .await
}

/// Runs a handler, counts it, and writes out what it recorded before its answer is given.
///
/// # Errors
/// The handler's own.
pub async fn around<T, E>(deadline: Instant, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let started = Instant::now();
    let result = match global::get().filter(|global| global.pipeline.is_some()) {
        Some(global) => {
            let mut work = std::pin::pin!(work);
            let last = deadline.checked_sub(LAST_CHANCE).unwrap_or(started);
            tokio::select! {
                result = &mut work => result,
                never = async {
                    tokio::time::sleep_until(last.into()).await;
                    global.last_chance().await;
                    std::future::pending::<std::convert::Infallible>().await
                } => match never {},
            }
        }
        None => work.await,
    };
    metric::FAAS_INVOKE_DURATION.record(started.elapsed().as_secs_f64(), ());
    if result.is_err() {
        metric::FAAS_ERRORS.add(1, ());
    }
    if let Some(global) = global::get() {
        global.event_ended(deadline.saturating_duration_since(Instant::now())).await;
    }
    result
}
