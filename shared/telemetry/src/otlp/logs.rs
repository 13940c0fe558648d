//! From a line of the log to a record, through a logger of the SDK whose processor puts it in the lane.

use super::exporters::Logs;
use super::lane::Lane;
use crate::env::Limits;
use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry::{InstrumentationScope, Key};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord, SdkLogger, SdkLoggerProvider};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Fields of a line that a record has a place of its own for, or its resource.
const OWN_FIELDS: [&str; 7] = ["timestamp", "level", "message", "trace_id", "span_id", "service", "version"];

/// Puts records in the lane; the lane's flush exports them.
#[derive(Debug)]
struct ToLane(Arc<Lane<SdkLogRecord, Logs>>);

impl LogProcessor for ToLane {
    fn emit(&self, record: &mut SdkLogRecord, _: &InstrumentationScope) {
        self.0.push(record.clone());
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Records {
    logger: SdkLogger,
    limits: Limits,
}

impl Records {
    pub(super) fn new(
        lane: Arc<Lane<SdkLogRecord, Logs>>,
        resource: Resource,
        scope: InstrumentationScope,
        limits: Limits,
    ) -> Self {
        let provider =
            SdkLoggerProvider::builder().with_resource(resource).with_log_processor(ToLane(lane)).build();
        Self { logger: provider.logger_with_scope(scope), limits }
    }

    /// A log line: its message is the body, everything but the ids, the time and the level are attributes.
    pub(super) fn push(&self, line: &Map<String, Value>, level: tracing::Level) {
        let mut record = self.logger.create_log_record();
        record.set_timestamp(SystemTime::now());
        record.set_severity_number(match level {
            tracing::Level::TRACE => Severity::Trace,
            tracing::Level::DEBUG => Severity::Debug,
            tracing::Level::INFO => Severity::Info,
            tracing::Level::WARN => Severity::Warn,
            tracing::Level::ERROR => Severity::Error,
        });
        record.set_severity_text(level.as_str());
        let text = |name: &str| line.get(name).and_then(Value::as_str);
        if let Some(message) = text("message") {
            record.set_body(AnyValue::String(shortened(message, self.limits.value_chars).into()));
        }
        let id = |name: &str, digits: usize| text(name).filter(|id| id.len() == digits);
        let trace_id = id("trace_id", 32).and_then(|id| TraceId::from_hex(id).ok());
        let span_id = id("span_id", 16).and_then(|id| SpanId::from_hex(id).ok());
        if let (Some(trace_id), Some(span_id)) = (trace_id, span_id) {
            record.set_trace_context(trace_id, span_id, None);
        }
        let attributes = line
            .iter()
            .filter(|(name, _)| !OWN_FIELDS.contains(&name.as_str()))
            .filter_map(|(name, value)| Some((Key::from(name.clone()), self.value(value)?)));
        // The SDK's record has no count of what was left out.
        record.add_attributes(attributes.take(self.limits.attributes));
        self.logger.emit(record);
    }

    fn value(&self, value: &Value) -> Option<AnyValue> {
        let text = |text: &str| AnyValue::String(shortened(text, self.limits.value_chars).into());
        Some(match value {
            Value::Null => return None,
            Value::Bool(truth) => AnyValue::Boolean(*truth),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => AnyValue::Int(number),
                (None, Some(number)) => AnyValue::Double(number),
                (None, None) => return None,
            },
            Value::String(string) => text(string),
            other => text(&other.to_string()),
        })
    }
}

pub(super) fn shortened(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => text[..end].to_owned(),
        None => text.to_owned(),
    }
}
