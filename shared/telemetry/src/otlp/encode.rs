//! From what was recorded to OTLP's messages.

use super::lane::Batch;
use crate::env::{Limits, Settings, Signal, Temporality};
use crate::meter::{BOUNDS, Collected, Point, Series};
use crate::registry::{Function, Kind};
use crate::span::{AttributeValue, Recording, SpanKind};
use crate::trace::TraceContext;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind as ProtoKind};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, status};
use prost::Message;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Of traces: this low byte of `flags` is W3C's, and these two say whether the parent came from elsewhere.
const FLAG_SAMPLED: u32 = 1;

#[derive(Debug)]
pub(super) struct Encoder {
    resource: Resource,
    scope: InstrumentationScope,
    function: Function,
    temporality: Temporality,
    gzip: [bool; 3],
    pub(super) span_limits: Limits,
    pub(super) log_limits: Limits,
}

impl Encoder {
    pub(super) fn new(settings: &Settings, function: Function, version: &'static str) -> Self {
        let gzip = Signal::ALL.map(|signal| settings.target(signal).is_some_and(|target| target.gzip));
        Self {
            resource: resource(settings, function, version, &|name| std::env::var(name).ok()),
            scope: InstrumentationScope {
                name: crate::SERVICE.into(),
                version: version.into(),
                ..InstrumentationScope::default()
            },
            function,
            temporality: settings.temporality,
            gzip,
            span_limits: settings.span_limits,
            log_limits: settings.log_limits,
        }
    }

    fn body(&self, signal: Signal, message: &impl Message) -> Bytes {
        let plain = message.encode_to_vec();
        if !self.gzip[signal as usize] {
            return plain.into();
        }
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        // Writing to memory does not fail.
        let _ = encoder.write_all(&plain);
        encoder.finish().unwrap_or_default().into()
    }

    pub(super) fn traces(&self, spans: Vec<Span>) -> Bytes {
        let scope_spans =
            vec![ScopeSpans { scope: Some(self.scope.clone()), spans, schema_url: String::new() }];
        let resource_spans = vec![ResourceSpans {
            resource: Some(self.resource.clone()),
            scope_spans,
            schema_url: String::new(),
        }];
        self.body(Signal::Traces, &ExportTraceServiceRequest { resource_spans })
    }

    pub(super) fn logs(&self, log_records: Vec<LogRecord>) -> Bytes {
        let scope_logs =
            vec![ScopeLogs { scope: Some(self.scope.clone()), log_records, schema_url: String::new() }];
        let resource_logs = vec![ResourceLogs {
            resource: Some(self.resource.clone()),
            scope_logs,
            schema_url: String::new(),
        }];
        self.body(Signal::Logs, &ExportLogsServiceRequest { resource_logs })
    }

    /// `None` if there is no point.
    pub(super) fn metrics(&self, collected: &Collected) -> Option<Batch> {
        let mut metrics: Vec<Metric> = Vec::new();
        let mut last = None;
        for (series, point) in &collected.points {
            let definition = series.definition();
            if last.replace(series.metric) != Some(series.metric) {
                metrics.push(Metric {
                    name: definition.name.into(),
                    description: definition.description.into(),
                    unit: definition.unit.ucum().into(),
                    metadata: Vec::new(),
                    data: Some(self.empty(definition.kind)),
                });
            }
            if let Some(data) = metrics.last_mut().and_then(|metric| metric.data.as_mut()) {
                self.add(data, *series, point, collected);
            }
        }
        let scope_metrics =
            vec![ScopeMetrics { scope: Some(self.scope.clone()), metrics, schema_url: String::new() }];
        let resource_metrics = vec![ResourceMetrics {
            resource: Some(self.resource.clone()),
            scope_metrics,
            schema_url: String::new(),
        }];
        let items = u64::try_from(collected.points.len()).unwrap_or(u64::MAX);
        (items > 0).then(|| Batch {
            items,
            body: self.body(Signal::Metrics, &ExportMetricsServiceRequest { resource_metrics }),
        })
    }

    fn empty(&self, kind: Kind) -> metric::Data {
        let temporality = match self.temporality {
            Temporality::Delta => AggregationTemporality::Delta,
            Temporality::Cumulative => AggregationTemporality::Cumulative,
        };
        let aggregation_temporality = temporality.into();
        match kind {
            Kind::Counter => metric::Data::Sum(Sum {
                data_points: Vec::new(),
                aggregation_temporality,
                is_monotonic: true,
            }),
            Kind::Gauge => metric::Data::Gauge(Gauge { data_points: Vec::new() }),
            Kind::Histogram => {
                metric::Data::Histogram(Histogram { data_points: Vec::new(), aggregation_temporality })
            }
        }
    }

    fn add(&self, data: &mut metric::Data, series: Series, point: &Point, collected: &Collected) {
        let definition = series.definition();
        let mut attributes: Vec<KeyValue> = definition
            .pairs(usize::from(series.labels))
            .into_iter()
            .map(|(key, value)| key_value(key, text(value)))
            .collect();
        if definition.per_function {
            attributes.push(key_value("function", text(self.function.as_str())));
        }
        let (start, end) = (nanos(collected.since), nanos(collected.until));
        let number = |attributes| NumberDataPoint {
            attributes,
            start_time_unix_nano: start,
            time_unix_nano: end,
            exemplars: Vec::new(),
            flags: 0,
            value: Some(number_data_point::Value::AsDouble(point.sum)),
        };
        match data {
            metric::Data::Sum(sum) => sum.data_points.push(number(attributes)),
            metric::Data::Gauge(gauge) => gauge.data_points.push(number(attributes)),
            metric::Data::Histogram(histogram) => histogram.data_points.push(HistogramDataPoint {
                attributes,
                start_time_unix_nano: start,
                time_unix_nano: end,
                count: point.count,
                sum: Some(point.sum),
                bucket_counts: point.buckets.to_vec(),
                explicit_bounds: BOUNDS.to_vec(),
                exemplars: Vec::new(),
                flags: 0,
                min: Some(point.min),
                max: Some(point.max),
            }),
            metric::Data::ExponentialHistogram(_) | metric::Data::Summary(_) => {}
        }
    }
}

/// Who speaks (semantic conventions, "FaaS", "Cloud").
fn resource(
    settings: &Settings,
    function: Function,
    version: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Resource {
    let service = settings.service_name.clone().unwrap_or_else(|| crate::SERVICE.into());
    let mut attributes = vec![
        key_value("service.name", Value::StringValue(service)),
        key_value("service.version", text(version)),
        key_value("callboard.function", text(function.as_str())),
        key_value("telemetry.sdk.name", text(crate::SERVICE)),
        key_value("telemetry.sdk.language", text("rust")),
    ];
    let from_environment = [
        ("faas.name", "AWS_LAMBDA_FUNCTION_NAME"),
        ("faas.version", "AWS_LAMBDA_FUNCTION_VERSION"),
        ("faas.instance", "AWS_LAMBDA_LOG_STREAM_NAME"),
        ("cloud.region", "AWS_REGION"),
    ];
    if lookup("AWS_LAMBDA_FUNCTION_NAME").is_some() {
        attributes.push(key_value("cloud.provider", text("aws")));
        attributes.push(key_value("cloud.platform", text("aws_lambda")));
    }
    for (key, name) in from_environment {
        if let Some(value) = lookup(name) {
            attributes.push(key_value(key, Value::StringValue(value)));
        }
    }
    for (key, value) in &settings.resource {
        // What the operator says wins over what is found.
        attributes.retain(|attribute| attribute.key != *key);
        attributes.push(key_value(key, Value::StringValue(value.clone())));
    }
    Resource { attributes, ..Resource::default() }
}

/// A span that ended. What is over a limit is left out and counted.
pub(crate) fn span(recording: Recording, limits: &Limits) -> Span {
    let context = &recording.context;
    let dropped = |count: usize, limit: usize| u32::try_from(count.saturating_sub(limit)).unwrap_or(u32::MAX);
    let kind = match recording.kind {
        SpanKind::Server => ProtoKind::Server,
        SpanKind::Client => ProtoKind::Client,
        SpanKind::Producer => ProtoKind::Producer,
        SpanKind::Consumer => ProtoKind::Consumer,
        SpanKind::Internal => ProtoKind::Internal,
    };
    let link = |context: &TraceContext| Link {
        trace_id: context.trace_number().to_be_bytes().to_vec(),
        span_id: context.span_number().to_be_bytes().to_vec(),
        flags: flags(context),
        ..Link::default()
    };
    Span {
        trace_id: context.trace_number().to_be_bytes().to_vec(),
        span_id: context.span_number().to_be_bytes().to_vec(),
        // Other vendors' state is handed on, and told to nobody else.
        trace_state: String::new(),
        parent_span_id: recording.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        flags: flags(context),
        name: recording.name.into_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanos(recording.started_at),
        end_time_unix_nano: nanos(recording.ended_at).max(nanos(recording.started_at)),
        dropped_attributes_count: dropped(recording.attributes.len(), limits.attributes),
        dropped_links_count: dropped(recording.links.len(), limits.links),
        links: recording.links.iter().take(limits.links).map(link).collect(),
        attributes: recording
            .attributes
            .into_iter()
            .take(limits.attributes)
            .map(|(key, value)| {
                let value = match value {
                    AttributeValue::Text(text) => Value::StringValue(shortened(&text, limits.value_chars)),
                    AttributeValue::Int(number) => Value::IntValue(number),
                    AttributeValue::Bool(truth) => Value::BoolValue(truth),
                };
                key_value(key, value)
            })
            .collect(),
        events: Vec::new(),
        dropped_events_count: 0,
        status: recording
            .failed
            .then(|| Status { code: status::StatusCode::Error.into(), message: String::new() }),
    }
}

/// A log line: its message is the body, everything but the ids, the time and the level are attributes.
pub(crate) fn log_record(
    line: &serde_json::Map<String, serde_json::Value>,
    level: tracing::Level,
    limits: &Limits,
) -> LogRecord {
    let severity = match level {
        tracing::Level::TRACE => SeverityNumber::Trace,
        tracing::Level::DEBUG => SeverityNumber::Debug,
        tracing::Level::INFO => SeverityNumber::Info,
        tracing::Level::WARN => SeverityNumber::Warn,
        tracing::Level::ERROR => SeverityNumber::Error,
    };
    let hex = |name: &str, bytes: usize| {
        let text = line.get(name).and_then(serde_json::Value::as_str)?;
        let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == bytes * 2)?;
        Some(number.to_be_bytes()[16 - bytes..].to_vec())
    };
    let own = ["timestamp", "level", "message", "trace_id", "span_id", "service", "version"];
    let mut attributes: Vec<KeyValue> = line
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .filter_map(|(name, value)| Some(key_value(name, json_value(value, limits.value_chars)?)))
        .collect();
    let dropped = attributes.len().saturating_sub(limits.attributes);
    attributes.truncate(limits.attributes);
    let now = nanos(SystemTime::now());
    LogRecord {
        time_unix_nano: now,
        observed_time_unix_nano: now,
        severity_number: severity.into(),
        severity_text: level.as_str().into(),
        body: line.get("message").and_then(serde_json::Value::as_str).map(|message| AnyValue {
            value: Some(Value::StringValue(shortened(message, limits.value_chars))),
        }),
        attributes,
        dropped_attributes_count: u32::try_from(dropped).unwrap_or(u32::MAX),
        trace_id: hex("trace_id", 16).unwrap_or_default(),
        span_id: hex("span_id", 8).unwrap_or_default(),
        ..LogRecord::default()
    }
}

fn json_value(value: &serde_json::Value, chars: usize) -> Option<Value> {
    Some(match value {
        serde_json::Value::Null => return None,
        serde_json::Value::Bool(truth) => Value::BoolValue(*truth),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::IntValue(number),
            (None, Some(number)) => Value::DoubleValue(number),
            (None, None) => return None,
        },
        serde_json::Value::String(text) => Value::StringValue(shortened(text, chars)),
        other => Value::StringValue(shortened(&other.to_string(), chars)),
    })
}

fn flags(context: &TraceContext) -> u32 {
    if context.is_sampled() { FLAG_SAMPLED } else { 0 }
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn shortened(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => text[..end].to_owned(),
        None => text.to_owned(),
    }
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
