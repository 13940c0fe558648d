//! A small OTLP receiver for the demonstration: it keeps the spans that the functions export, and answers as a collector does.

use crate::serve::{LOOPBACK, Server};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message as _;
use std::sync::{Arc, Mutex, PoisonError};

/// Spans of one demonstration are some thousands; what comes beyond is not kept.
const SPANS_MAX: usize = 100_000;

/// A span as the demonstration shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its trace.
    pub trace_id: Vec<u8>,
    /// Its id.
    pub span_id: Vec<u8>,
    /// Its parent's id; empty at the root.
    pub parent_id: Vec<u8>,
    /// The function that it comes from: `api`.
    pub function: String,
    /// Its name.
    pub name: String,
    /// Whether it is a statement of the database.
    pub is_statement: bool,
    /// Unix time in nanoseconds.
    pub started_ns: u64,
    /// Unix time in nanoseconds.
    pub ended_ns: u64,
}

type Kept = Arc<Mutex<Vec<Span>>>;

/// A running receiver.
#[derive(Debug)]
pub struct Spans {
    server: Server,
    kept: Kept,
}

impl Spans {
    /// Listens on a free port.
    ///
    /// # Errors
    /// What the system says.
    pub async fn start() -> std::io::Result<Self> {
        let kept = Kept::default();
        let router = Router::new()
            .route("/v1/traces", post(take))
            .route("/v1/metrics", post(ignore))
            .route("/v1/logs", post(ignore))
            .with_state(Arc::clone(&kept));
        Ok(Self { server: Server::start(LOOPBACK, 0, router).await?, kept })
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is to be.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The spans of a trace so far, by the time of their start. `trace_id`: 32 hex digits.
    #[must_use]
    pub fn of_trace(&self, trace_id: &str) -> Vec<Span> {
        let Ok(wanted) = u128::from_str_radix(trace_id, 16) else { return Vec::new() };
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spans: Vec<Span> =
            kept.iter().filter(|span| span.trace_id == wanted.to_be_bytes()).cloned().collect();
        spans.sort_by_key(|span| span.started_ns);
        spans
    }
}

async fn ignore() -> StatusCode {
    StatusCode::OK
}

async fn take(State(kept): State<Kept>, body: Bytes) -> StatusCode {
    let Ok(message) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    for of_resource in message.resource_spans {
        let attributes = of_resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        let function = text_of(&attributes, "callboard.function").unwrap_or_default();
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            if kept.len() < SPANS_MAX {
                kept.push(Span {
                    function: function.clone(),
                    is_statement: text_of(&span.attributes, "db.system.name").is_some(),
                    trace_id: span.trace_id,
                    span_id: span.span_id,
                    parent_id: span.parent_span_id,
                    name: span.name,
                    started_ns: span.start_time_unix_nano,
                    ended_ns: span.end_time_unix_nano,
                });
            }
        }
    }
    StatusCode::OK
}

fn text_of(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match &found.value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => Some(text.clone()),
        _ => None,
    }
}
