//! One JSON line an event.

use serde_json::{Map, Value};
use std::fmt;
use std::io::Write;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Writes each event as one JSON object and a newline, in one write, so that lines of several tasks do not mix.
#[derive(Debug)]
pub(crate) struct JsonLayer<W> {
    function: &'static str,
    version: &'static str,
    writer: W,
}

impl<W> JsonLayer<W> {
    /// `writer` makes the writer of each line, such as [`std::io::stdout`].
    #[must_use]
    pub(crate) fn new(function: &'static str, version: &'static str, writer: W) -> Self {
        Self { function, version, writer }
    }
}

/// The fields of one span, kept with it.
struct Fields(Map<String, Value>);

impl<S, W> Layer<S> for JsonLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Map::new();
        attributes.record(&mut Collect(&mut fields));
        span.extensions_mut().insert(Fields(fields));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(Fields(fields)) = span.extensions_mut().get_mut() {
            values.record(&mut Collect(fields));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Map::new();
        line.insert("timestamp".into(), format!("{:.6}", jiff::Timestamp::now()).into());
        line.insert("level".into(), metadata.level().as_str().into());
        // Its place before the fields; the event's own message fills it.
        line.insert("message".into(), Value::Null);
        line.insert("service".into(), crate::SERVICE.into());
        line.insert("function".into(), self.function.into());
        line.insert("version".into(), self.version.into());
        line.insert("target".into(), metadata.target().into());
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(Fields(fields)) = span.extensions().get() {
                line.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
        }
        event.record(&mut Collect(&mut line));
        crate::global::logged(&line, metadata);
        if let Ok(mut bytes) = serde_json::to_vec(&line) {
            bytes.push(b'\n');
            // A closed standard output is no reason to fail a request.
            let _ = self.writer.make_writer_for(metadata).write_all(&bytes);
        }
    }
}

struct Collect<'a>(&'a mut Map<String, Value>);

impl Visit for Collect<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }

    /// JSON has no NaN and no infinities: they are written as text.
    fn record_f64(&mut self, field: &Field, value: f64) {
        let number =
            serde_json::Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number);
        self.0.insert(field.name().into(), number);
    }

    /// The chain of causes, outermost first: `Display` of an error does not repeat its cause.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        self.0.insert(field.name().into(), text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines(log: impl FnOnce()) -> Vec<Value> {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let layer = JsonLayer::new("api", "1.2.3", move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_names_the_function_and_carries_the_fields_of_its_spans() {
        let lines = lines(|| {
            let outer = tracing::info_span!("outer", request_id = "r1", trace_id = "t1");
            let _outer = outer.enter();
            let inner = tracing::info_span!("inner", trace_id = "t2");
            let _inner = inner.enter();
            tracing::info!(job_id = "j1", count = 3, "job settled");
        });
        let line = &lines[0];
        assert_eq!(line["message"], "job settled");
        assert_eq!(line["service"], "callboard");
        assert_eq!(line["function"], "api");
        assert_eq!(line["version"], "1.2.3");
        assert_eq!(line["request_id"], "r1");
        assert_eq!(line["trace_id"], "t2", "the inner span's value wins");
        assert_eq!(line["count"], 3);
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn text_with_newlines_stays_on_one_line_and_nan_is_valid_json() {
        let lines = lines(|| tracing::warn!(value = f64::NAN, text = "a\nb", "two\nlines"));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["text"], "a\nb");
        assert_eq!(lines[0]["value"], "NaN");
    }

    #[test]
    fn an_error_is_logged_with_its_causes() {
        let error = std::io::Error::other(std::fmt::Error);
        let lines = lines(|| tracing::error!(error = &error as &dyn std::error::Error, "failed"));
        assert!(lines[0]["error"].as_str().unwrap().contains("error"));
    }
}
