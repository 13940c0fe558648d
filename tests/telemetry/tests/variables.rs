//! The standard variables on the shipped binaries: each unset, empty, valid, invalid, in upper case, and beside a signal's own.
//! Those that name files are in `transport.rs`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use acceptance::binary;
use opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use telemetry_proofs::{Behaviour, Collector, Runtime, request_event};

const TIME: Duration = Duration::from_secs(10);
/// More than an answer waits for a time-out of 20 ms, less than for the budget of 300 ms.
const QUICK: Duration = Duration::from_millis(200);
/// After three in a row an environment is busy, and exports only every 20 s.
const EVENTS: usize = 6;
/// Processes at once.
const SIDE_BY_SIDE: usize = 4;
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Stands for the collector's address in a value, and in one in upper case.
const URL: [&str; 2] = ["<url>", "<URL>"];
const ALL: &str = "traces metrics logs";

type Look = fn(&Seen) -> String;

/// One variable.
struct Row {
    name: &'static str,
    /// Others that it needs to be seen.
    with: Vec<(&'static str, &'static str)>,
    valid: &'static str,
    /// None where any text is valid.
    invalid: Option<&'static str>,
    look: Look,
    /// What is seen without the variable, and with it.
    seen: [&'static str; 2],
    /// What is seen if its value is in upper case; none where that is no longer the same value.
    upper: Option<&'static str>,
    /// A variable that is one signal's only, its value, and what is seen with both.
    own: Option<(&'static str, &'static str, &'static str)>,
    is_batch: bool,
    is_hung: bool,
}

fn row(
    name: &'static str,
    valid: &'static str,
    invalid: &'static str,
    look: Look,
    seen: [&'static str; 2],
) -> Row {
    let invalid = Some(invalid).filter(|invalid| !invalid.is_empty());
    let upper = Some(seen[1]);
    Row {
        name,
        with: Vec::new(),
        valid,
        invalid,
        look,
        seen,
        upper,
        own: None,
        is_batch: false,
        is_hung: false,
    }
}

impl Row {
    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.with.push((name, value));
        self
    }

    fn upper(self, upper: Option<&'static str>) -> Self {
        Self { upper, ..self }
    }

    fn own(self, name: &'static str, value: &'static str, seen: &'static str) -> Self {
        Self { own: Some((name, value, seen)), ..self }
    }

    /// A batch of messages is handled, by another function.
    fn batch(self) -> Self {
        Self { is_batch: true, ..self }
    }

    /// The collector never answers.
    fn hung(self) -> Self {
        Self { is_hung: true, ..self }
    }
}

fn rows() -> Vec<Row> {
    let without = |name, valid, seen| row(name, valid, "nonsense", signals, ["", seen]);
    let off = |name, seen| row(name, "none", "zipkin", signals, [ALL, seen]);
    // What has no effect here is still read.
    let read = |name, valid, invalid| row(name, valid, invalid, signals, [ALL, ALL]);
    vec![
        row("OTEL_SDK_DISABLED", "true", "yes", signals, [ALL, ""]),
        without(ENDPOINT, "<url>", ALL),
        without("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "<url>/v1/traces", "traces").upper(None),
        without("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "<url>/v1/metrics", "metrics").upper(None),
        without("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "<url>/v1/logs", "logs").upper(None),
        off("OTEL_TRACES_EXPORTER", "metrics logs"),
        off("OTEL_METRICS_EXPORTER", "traces logs"),
        off("OTEL_LOGS_EXPORTER", "traces metrics"),
        row("OTEL_METRICS_EXPORTER", "console", "stdout", signals, [ALL, "traces logs"]),
        row("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a", "nonsense", keys, ["none none", "a a"])
            .upper(Some("A A"))
            .own("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=b", "b a"),
        row("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "zstd", codings, ["none none", "gzip gzip"]).own(
            "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION",
            "none",
            "gzip none",
        ),
        row("OTEL_EXPORTER_OTLP_TIMEOUT", "20", "soon", patience, ["patient", "quick"])
            .with("OTEL_BSP_SCHEDULE_DELAY", "0")
            .own("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10000", "patient")
            .hung(),
        read("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "grpc").own(
            "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
            "HTTP/Protobuf",
            ALL,
        ),
        read("OTEL_EXPORTER_OTLP_INSECURE", "true", "maybe").own(
            "OTEL_EXPORTER_OTLP_TRACES_INSECURE",
            "false",
            ALL,
        ),
        row(
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "cumulative",
            "both",
            repeats,
            ["adds", "repeats"],
        )
        .with("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        read(
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "explicit_bucket_histogram",
            "exponential",
        ),
        row("OTEL_SERVICE_NAME", "jobs", "", service, ["callboard", "jobs"]).upper(Some("JOBS")),
        row("OTEL_RESOURCE_ATTRIBUTES", "team=feeds", "nonsense", team, ["", "feeds"]).upper(Some("FEEDS")),
        row("OTEL_TRACES_SAMPLER", "always_off", "xray", signals, [ALL, "metrics logs"]),
        row("OTEL_TRACES_SAMPLER_ARG", "0", "2", signals, [ALL, "metrics logs"])
            .with("OTEL_TRACES_SAMPLER", "traceidratio"),
        row("OTEL_PROPAGATORS", "none", "b3", parent, ["b7ad6b7169203331", ""]),
        row("OTEL_BSP_SCHEDULE_DELAY", "0", "1s", traces_of_each, ["some", "each"]),
        row("OTEL_BSP_MAX_QUEUE_SIZE", "1", "many", traces_of_each, ["some", "each"]),
        row("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1", "-1", traces_of_each, ["some", "each"]),
        row("OTEL_BSP_EXPORT_TIMEOUT", "20", "soon", patience, ["patient", "quick"])
            .with("OTEL_BSP_SCHEDULE_DELAY", "0")
            .hung(),
        row("OTEL_BLRP_SCHEDULE_DELAY", "0", "1s", logs_of_each, ["some", "each"]),
        row("OTEL_BLRP_MAX_QUEUE_SIZE", "1", "many", logs_of_each, ["some", "each"]),
        row("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "1", "-1", logs_of_each, ["some", "each"]),
        row("OTEL_BLRP_EXPORT_TIMEOUT", "20", "soon", patience, ["patient", "quick"])
            .with("OTEL_BLRP_SCHEDULE_DELAY", "0")
            .hung(),
        row("OTEL_METRIC_EXPORT_INTERVAL", "0", "1m", metrics_of_each, ["some", "each"]),
        row("OTEL_METRIC_EXPORT_TIMEOUT", "20", "soon", patience, ["patient", "quick"])
            .with("OTEL_METRIC_EXPORT_INTERVAL", "0")
            .hung(),
        row("OTEL_ATTRIBUTE_COUNT_LIMIT", "1", "few", attributes, ["many many", "1 1"]).own(
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
            "100",
            "many 1",
        ),
        row("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1", "few", attributes, ["many many", "1 many"]),
        row("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "1", "few", attributes, ["many many", "many 1"]),
        row("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "2", "few", texts, ["/healthz /healthz", "/h /h"]).own(
            "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            "100",
            "/h /healthz",
        ),
        row(
            "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            "2",
            "few",
            texts,
            ["/healthz /healthz", "/h /healthz"],
        ),
        row(
            "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            "2",
            "few",
            texts,
            ["/healthz /healthz", "/healthz /h"],
        ),
        row("OTEL_SPAN_LINK_COUNT_LIMIT", "1", "few", links, ["2", "1"]).batch(),
        read("OTEL_SPAN_EVENT_COUNT_LIMIT", "1", "few"),
        read("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "1", "few"),
        read("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "1", "few"),
        read("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based", "some"),
        row("OTEL_LOG_LEVEL", "none", "loud", b3, ["told", "silent"]).with("OTEL_PROPAGATORS", "b3"),
    ]
}

/// What came of [`EVENTS`] events and a SIGTERM.
struct Seen {
    collector: Collector,
    lines: Vec<Value>,
    quickest: Duration,
}

impl Seen {
    fn of(row: &Row, variables: &[(&str, &str)]) -> Self {
        let collector = Collector::start();
        if row.is_hung {
            collector.behave(Behaviour::Hung);
        }
        let url = collector.url();
        let mut environment: Vec<(&str, String)> = Vec::new();
        if !row.name.ends_with("_ENDPOINT") {
            environment.push((ENDPOINT, url.clone()));
        }
        for (name, value) in row.with.iter().chain(variables) {
            environment.push((name, value.replace(URL[0], &url).replace(URL[1], &url.to_uppercase())));
        }
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let log = tempfile::NamedTempFile::new().unwrap();
        let function = if row.is_batch { "dispatch" } else { "api" };
        let runtime = Runtime::start(&binary(function), log.path(), &environment);
        let request = || request_event("GET", "/healthz", &[("host", "h"), ("traceparent", PARENT)]);
        let event = if row.is_batch { batch() } else { request() };
        let quickest = (0..EVENTS).map(|_| runtime.invoke(&event, TIME).unwrap().took).min().unwrap();
        Self { collector, lines: runtime.terminate(), quickest }
    }

    /// Those about variables.
    fn warnings(&self) -> Vec<&str> {
        let warnings = self.lines.iter().filter(|line| line["level"] == "WARN");
        let messages = warnings.filter_map(|line| line["message"].as_str());
        messages.filter(|message| message.starts_with("OTEL_")).collect()
    }

    /// A header of a signal's first request.
    fn header(&self, signal: &str, name: &str) -> String {
        let values = self.collector.header(signal, name).into_iter().next().unwrap_or_default();
        values.into_iter().next().unwrap_or_else(|| "none".into())
    }

    fn is_of_each(&self, signal: &str) -> String {
        if self.collector.header(signal, "host").len() >= EVENTS { "each" } else { "some" }.into()
    }
}

/// Two messages with contexts.
fn batch() -> Value {
    let record = json!({
        "messageId": "m", "receiptHandle": "none", "attributes": {}, "body": "none", "md5OfBody": "",
        "messageAttributes": {"traceparent": {
            "dataType": "String", "stringValue": PARENT, "stringListValues": [], "binaryListValues": [],
        }},
        "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:WakeQueue",
        "awsRegion": "us-east-1",
    });
    json!({ "Records": [record, record] })
}

/// Which arrive.
fn signals(seen: &Seen) -> String {
    let arrived = [
        ("traces", seen.collector.span_count() > 0),
        ("metrics", !seen.collector.metrics().is_empty()),
        ("logs", !seen.collector.logs().is_empty()),
    ];
    let names: Vec<_> = arrived.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect();
    names.join(" ")
}

fn keys(seen: &Seen) -> String {
    format!("{} {}", seen.header("/v1/traces", "api-key"), seen.header("/v1/logs", "api-key"))
}

fn codings(seen: &Seen) -> String {
    format!(
        "{} {}",
        seen.header("/v1/traces", "content-encoding"),
        seen.header("/v1/logs", "content-encoding")
    )
}

fn patience(seen: &Seen) -> String {
    if seen.quickest < QUICK { "quick" } else { "patient" }.into()
}

fn service(seen: &Seen) -> String {
    seen.collector.resources()[0]["service.name"].clone()
}

fn team(seen: &Seen) -> String {
    let resource = &seen.collector.resources()[0];
    resource.get("team").or(resource.get("TEAM")).cloned().unwrap_or_default()
}

fn parent(seen: &Seen) -> String {
    seen.collector.spans()[0].parent_id.clone()
}

fn traces_of_each(seen: &Seen) -> String {
    seen.is_of_each("/v1/traces")
}

fn metrics_of_each(seen: &Seen) -> String {
    seen.is_of_each("/v1/metrics")
}

fn logs_of_each(seen: &Seen) -> String {
    seen.is_of_each("/v1/logs")
}

/// A collector that adds up gets more than there was where each export repeats the one before.
fn repeats(seen: &Seen) -> String {
    let metrics = seen.collector.metrics();
    let requests = metrics.iter().filter(|(name, _)| name.starts_with("http.server.request"));
    let requests: f64 = requests.map(|(_, count)| count).sum();
    #[allow(clippy::cast_precision_loss, reason = "a small count")]
    let events = EVENTS as f64;
    if requests > events { "repeats" } else { "adds" }.into()
}

/// The first span's, and the log record's of an answer.
fn attributes(seen: &Seen) -> String {
    let count = |count: usize| if count == 1 { "1" } else { "many" };
    let logs = seen.collector.logs();
    let most = logs.iter().map(|record| record.attributes.len()).max().unwrap();
    format!("{} {}", count(seen.collector.spans()[0].attributes.len()), count(most))
}

/// The route in both.
fn texts(seen: &Seen) -> String {
    let logs = seen.collector.logs();
    let route = logs.iter().flat_map(|record| &record.attributes).find(|pair| pair.key == "route").unwrap();
    let Some(StringValue(of_log)) = route.value.clone().and_then(|value| value.value) else {
        panic!("{route:?}")
    };
    format!("{} {of_log}", seen.collector.spans()[0].attributes["http.route"])
}

fn links(seen: &Seen) -> String {
    seen.collector.spans().iter().map(|span| span.links.len()).max().unwrap().to_string()
}

/// Whether the other variable's warning is there.
fn b3(seen: &Seen) -> String {
    let is_told = seen.warnings().iter().any(|warning| warning.contains("b3"));
    if is_told { "told" } else { "silent" }.into()
}

fn check(row: &Row) {
    let name = row.name;
    let see = |variables: &[(&str, &str)], expected: &str| {
        let seen = Seen::of(row, variables);
        assert_eq!((row.look)(&seen), expected, "{variables:?} {:#?}", seen.lines);
        seen.warnings().len()
    };
    let [default, changed] = row.seen;
    let warnings = see(&[], default);
    assert_eq!(see(&[(name, "")], default), warnings, "{name} is empty");
    assert!(see(&[(name, row.valid)], changed) <= warnings, "{name} is valid");
    if let Some(upper) = row.upper {
        assert!(see(&[(name, &row.valid.to_uppercase())], upper) <= warnings, "{name} is in upper case");
    }
    if let Some(invalid) = row.invalid {
        assert_eq!(see(&[(name, invalid)], default), warnings + 1, "{name}={invalid} is one warning");
    }
    if let Some((own, value, expected)) = row.own {
        assert!(see(&[(name, row.valid), (own, value)], expected) <= warnings, "{own} is valid");
    }
}

#[test]
fn the_shipped_binaries_honour_every_variable_in_every_form() {
    let (rows, next) = (rows(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    check(row);
                }
            });
        }
    });
}

/// What the exporter would read from the environment by itself is read in one place, and differently where that is better.
#[test]
fn the_exporters_read_no_variable_of_their_own() {
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a [&'a str], &'a [&'a str]);
    // Variables; content-encoding of traces and of metrics; the key in each request.
    let cases: [Case<'_>; 5] = [
        (&[], &[], &[], &[]),
        (&[("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP")], &["gzip"], &["gzip"], &[]),
        (
            &[
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
                // The exporter takes no white space, and falls back to the other variable.
                ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", " none "),
                ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b"),
            ],
            &[],
            &["gzip"],
            &["a b"],
        ),
        // One bad pair spoils the list; the exporter would send the others.
        (&[("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a,nonsense")], &[], &[], &[]),
        (
            &[
                ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a"),
                ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=b"),
            ],
            &[],
            &[],
            &["b"],
        ),
    ];
    for (variables, traces, metrics, key) in cases {
        let collector = Collector::start();
        let url = collector.url();
        let mut environment = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str())];
        environment.extend_from_slice(variables);
        let log = tempfile::NamedTempFile::new().unwrap();
        let runtime = Runtime::start(&binary("api"), log.path(), &environment);
        assert!(runtime.invoke(&request_event("GET", "/healthz", &[("host", "h")]), TIME).is_some());
        assert_eq!(collector.span_count(), 1, "{variables:?}");
        let header = |signal, name| collector.header(signal, name);
        assert_eq!(header("/v1/traces", "content-encoding"), [traces], "{variables:?}");
        assert_eq!(header("/v1/metrics", "content-encoding"), [metrics], "{variables:?}");
        assert_eq!(header("/v1/traces", "api-key"), [key], "{variables:?}");
        assert_eq!(header("/v1/traces", "content-type"), [["application/x-protobuf"]]);
        assert!(header("/v1/traces", "user-agent")[0][0].starts_with("callboard/"));
    }
}
