//! Spans: a tracing span that knows its place in a trace, and, where spans are exported, what is to be said about it.
//!
//! A [`SpanBuilder`] makes a span; `instrument` it round a future as any other. Children that are built inside find it as
//! their parent. Without an exporter a span is only its trace context, and builders of inner spans (a statement, a fetch)
//! make none at all.

use crate::trace::TraceContext;
use opentelemetry::trace::{Link, SpanId, Status};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use std::borrow::Cow;
use std::cell::RefCell;
use std::time::SystemTime;
use tracing::span::{Attributes, Id};
use tracing::{Span, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, Registry};

pub use opentelemetry::Value as AttributeValue;
pub use opentelemetry::trace::SpanKind;

/// The target of the spans made here; the subscriber's layer knows them by it.
pub(crate) const TARGET: &str = "callboard::trace";

/// A number of things, as an attribute's value.
#[must_use]
pub fn count(things: usize) -> AttributeValue {
    AttributeValue::I64(i64::try_from(things).unwrap_or(i64::MAX))
}

/// Where a span stands in a trace.
#[derive(Debug, Clone)]
enum Parent {
    /// Under the current span, or at the root of a new trace.
    Current,
    /// Under that one.
    Of(TraceContext),
    /// At the root of a new trace.
    Root,
}

/// Makes a span.
#[derive(Debug, Clone)]
pub struct SpanBuilder {
    name: Cow<'static, str>,
    kind: SpanKind,
    parent: Parent,
    span_id: Option<u64>,
    attributes: Vec<KeyValue>,
    links: Vec<TraceContext>,
}

/// What the layer finds when tracing tells it of the span that a builder is making: same thread, same call.
struct Pending {
    context: TraceContext,
    recording: Option<Box<SpanData>>,
}

thread_local! {
    static PENDING: RefCell<Option<Pending>> = const { RefCell::new(None) };
}

impl SpanBuilder {
    /// A span under the current one, or at the root of a new trace.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, kind: SpanKind) -> Self {
        Self {
            name: name.into(),
            kind,
            parent: Parent::Current,
            span_id: None,
            attributes: Vec::new(),
            links: Vec::new(),
        }
    }

    /// Under that one, which may be elsewhere; without one at the root of a new trace.
    #[must_use]
    pub fn parent(self, parent: Option<TraceContext>) -> Self {
        Self { parent: parent.map_or(Parent::Root, Parent::Of), ..self }
    }

    /// With an id that others can know before the span begins.
    #[must_use]
    pub fn span_id(self, span_id: u64) -> Self {
        Self { span_id: Some(span_id), ..self }
    }

    /// With a link to another place.
    #[must_use]
    pub fn link(mut self, link: TraceContext) -> Self {
        self.links.push(link);
        self
    }

    /// With an attribute.
    #[must_use]
    pub fn attribute(mut self, key: &'static str, value: impl Into<AttributeValue>) -> Self {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    /// Begins the span, and tells its place.
    ///
    /// `make` makes the tracing span with whatever fields log lines are to carry; [`trace_span!`](crate::trace_span) does.
    pub fn begin(self, make: impl FnOnce(&TraceContext) -> Span) -> (Span, TraceContext) {
        let parent = match self.parent {
            Parent::Current => current(),
            Parent::Of(context) => Some(context),
            Parent::Root => None,
        };
        let place = match (&parent, self.span_id) {
            (Some(parent), Some(id)) => parent.with_span_id(id),
            (Some(parent), None) => parent.child(),
            (None, _) => TraceContext::new_root(),
        };
        let decision = parent.as_ref().map(TraceContext::is_sampled);
        let is_sampled = crate::global::samples(&place, decision);
        let context = place.sampled(is_sampled);
        let recording = (is_sampled && crate::global::exports_traces()).then(|| {
            let now = SystemTime::now();
            let mut links = SpanLinks::default();
            links.links = self.links.iter().map(link_to).collect();
            Box::new(SpanData {
                span_context: context.without_state(),
                parent_span_id: parent.as_ref().map_or(SpanId::INVALID, TraceContext::span_id),
                parent_span_is_remote: parent.as_ref().is_some_and(TraceContext::is_remote),
                span_kind: self.kind,
                name: self.name,
                start_time: now,
                end_time: now,
                attributes: self.attributes,
                dropped_attributes_count: 0,
                events: SpanEvents::default(),
                links,
                status: Status::Unset,
                // The exporter's own, known when it ends.
                instrumentation_scope: InstrumentationScope::default(),
            })
        });
        PENDING.set(Some(Pending { context: context.clone(), recording }));
        let span = make(&context);
        // Nobody took it if no subscriber is installed.
        PENDING.take();
        (span, context)
    }

    /// Begins a span that log lines do not show, where spans are exported; otherwise none.
    #[must_use]
    pub fn inner(self) -> Span {
        if !crate::global::exports_traces() {
            return Span::none();
        }
        self.begin(|_| tracing::error_span!(target: TARGET, "inner")).0
    }
}

/// The place of the current span, if it or one around it has one.
#[must_use]
pub fn current() -> Option<TraceContext> {
    place_of(&Span::current())
}

/// The place of a span, or of the nearest one around it.
#[must_use]
pub fn place_of(span: &Span) -> Option<TraceContext> {
    span.with_subscriber(|(id, dispatch)| {
        let registry = dispatch.downcast_ref::<Registry>()?;
        let scope = registry.span(id)?.scope();
        scope.into_iter().find_map(|span| span.extensions().get::<TraceContext>().cloned())
    })
    .flatten()
}

fn link_to(place: &TraceContext) -> Link {
    Link::with_context(place.without_state())
}

fn with_recording(span: &Span, change: impl FnOnce(&mut SpanData)) {
    span.with_subscriber(|(id, dispatch)| {
        let span = dispatch.downcast_ref::<Registry>().and_then(|registry| registry.span(id));
        if let Some(span) = span
            && let Some(recording) = span.extensions_mut().get_mut::<Box<SpanData>>()
        {
            change(recording);
        }
    });
}

/// What can be said about a span after it began. Nothing happens to one that is not exported.
pub trait SpanExt {
    /// Adds an attribute.
    fn attribute(&self, key: &'static str, value: impl Into<AttributeValue>);
    /// Marks the work as failed, by a word of few: `error.type`.
    fn fail(&self, error_type: impl Into<Cow<'static, str>>);
    /// Ends the span now, though somebody may still hold it.
    fn end(&self);
}

impl SpanExt for Span {
    fn attribute(&self, key: &'static str, value: impl Into<AttributeValue>) {
        with_recording(self, |recording| recording.attributes.push(KeyValue::new(key, value)));
    }

    fn fail(&self, error_type: impl Into<Cow<'static, str>>) {
        with_recording(self, |recording| {
            recording.status = Status::error("");
            recording.attributes.push(KeyValue::new("error.type", error_type.into()));
        });
    }

    fn end(&self) {
        self.with_subscriber(|(id, dispatch)| {
            let span = dispatch.downcast_ref::<Registry>().and_then(|registry| registry.span(id));
            let recording = span.and_then(|span| span.extensions_mut().remove::<Box<SpanData>>());
            if let Some(recording) = recording {
                finish(*recording);
            }
        });
    }
}

fn finish(recording: SpanData) {
    // A clock that was set back makes a span of no length.
    let end_time = SystemTime::now().max(recording.start_time);
    crate::global::span_ended(SpanData { end_time, ..recording });
}

/// Keeps the places of spans, and hands those that ended to the exporter.
#[derive(Debug)]
pub(crate) struct SpanLayer;

impl<S> Layer<S> for SpanLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let (Some(pending), Some(span)) = (PENDING.take(), context.span(id)) else { return };
        let mut extensions = span.extensions_mut();
        extensions.insert(pending.context);
        if let Some(recording) = pending.recording {
            extensions.insert(recording);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let recording = span.extensions_mut().remove::<Box<SpanData>>();
        if let Some(recording) = recording {
            finish(*recording);
        }
    }
}
