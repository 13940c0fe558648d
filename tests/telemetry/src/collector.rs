//! An OTLP receiver over real HTTP.

use crate::http;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use prost::Message as _;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How the collector answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// As it should.
    Healthy,
    /// With a status, taking nothing.
    Status(u16),
    /// Never.
    Hung,
    /// After a while, taking what came.
    Slow(Duration),
    /// By closing the connection.
    Reset,
    /// With bytes that are no HTTP.
    Garbage,
    /// With 10 MB that nobody asked for.
    Huge,
    /// Healthy every second time, 503 in between.
    EverySecond,
}

/// A span as it arrived, ids in hex.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// 32 digits.
    pub trace_id: String,
    /// 16 digits.
    pub span_id: String,
    /// 16 digits; empty at the root.
    pub parent_id: String,
    /// Its name.
    pub name: String,
    /// 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
    /// Its attributes as text.
    pub attributes: BTreeMap<String, String>,
    /// Trace id and span id of each link.
    pub links: Vec<(String, String)>,
    /// Whether its status is an error.
    pub failed: bool,
    /// Unix time in nanoseconds.
    pub started_ns: u64,
    /// Unix time in nanoseconds.
    pub ended_ns: u64,
    /// `callboard.function` of its resource.
    pub function: String,
}

#[derive(Debug, Default)]
struct State {
    behaviour: Option<Behaviour>,
    spans: Vec<Span>,
    logs: Vec<LogRecord>,
    /// Sums (of counters), counts (of histograms) and last values (of gauges) by name and attributes.
    metrics: BTreeMap<String, f64>,
    resources: Vec<BTreeMap<String, String>>,
    requests: usize,
    /// Path and fields of each request.
    heads: Vec<(String, Vec<(String, String)>)>,
    broken_handshakes: Vec<String>,
    raw: Vec<u8>,
}

/// A receiver on 127.0.0.1 for the life of the test process.
#[derive(Debug, Clone)]
pub struct Collector {
    origin: String,
    state: Arc<Mutex<State>>,
}

impl Collector {
    /// Starts a healthy one.
    ///
    /// # Panics
    /// If no port is to be had.
    #[must_use]
    pub fn start() -> Self {
        Self::serve("http://127.0.0.1", serve)
    }

    /// Starts a healthy one that speaks TLS, as `localhost`.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn over_tls(config: ServerConfig) -> Self {
        let config = Arc::new(config);
        Self::serve("https://localhost", move |stream, state| {
            let Ok(connection) = ServerConnection::new(Arc::clone(&config)) else { return };
            let mut stream = StreamOwned::new(connection, stream);
            while stream.conn.is_handshaking() {
                if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
                    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.broken_handshakes.push(error.to_string());
                    return;
                }
            }
            serve(stream, state);
        })
    }

    fn serve(origin: &str, speak: impl Fn(TcpStream, &Mutex<State>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let speak = Arc::new(speak);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, speak) = (Arc::clone(&shared), Arc::clone(&speak));
                std::thread::spawn(move || speak(stream, &state));
            }
        });
        Self { origin: format!("{origin}:{port}"), state }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        self.origin.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how it answers from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state().behaviour = Some(behaviour);
    }

    /// All spans so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.state().spans.clone()
    }

    /// The spans of a trace.
    #[must_use]
    pub fn trace(&self, trace_id: &str) -> Vec<Span> {
        self.state().spans.iter().filter(|span| span.trace_id == trace_id).cloned().collect()
    }

    /// The number of spans so far.
    #[must_use]
    pub fn span_count(&self) -> usize {
        self.state().spans.len()
    }

    /// All log records so far.
    #[must_use]
    pub fn logs(&self) -> Vec<LogRecord> {
        self.state().logs.clone()
    }

    /// What the metrics add up to, by `name{key=value,…}`: sums of counters, counts of histograms, last values of gauges.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        self.state().metrics.clone()
    }

    /// Attributes of every resource that spoke.
    #[must_use]
    pub fn resources(&self) -> Vec<BTreeMap<String, String>> {
        self.state().resources.clone()
    }

    /// Requests so far, whatever the answer.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.state().requests
    }

    /// How each handshake ended that did not lead to a connection: what the client said, or what was wrong with it.
    #[must_use]
    pub fn broken_handshakes(&self) -> Vec<String> {
        self.state().broken_handshakes.clone()
    }

    /// The values of a header in all requests of a signal, in the order of their arrival; a request without it has none, one
    /// with two has both.
    #[must_use]
    pub fn header(&self, signal: &str, name: &str) -> Vec<Vec<String>> {
        let state = self.state();
        let heads = state.heads.iter().filter(|(path, _)| path.ends_with(signal));
        let values = |headers: &Vec<(String, String)>| {
            headers.iter().filter(|(header, _)| header == name).map(|(_, value)| value.clone()).collect()
        };
        heads.map(|(_, headers)| values(headers)).collect()
    }

    /// Every byte of every body, decompressed.
    #[must_use]
    pub fn raw(&self) -> Vec<u8> {
        self.state().raw.clone()
    }
}

fn serve(stream: impl Read + Write, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    while let Ok(Some(request)) = http::read(&mut reader) {
        let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
        let behaviour = {
            let mut state = lock();
            state.requests += 1;
            state.heads.push((request.path.clone(), request.headers.clone()));
            match state.behaviour.unwrap_or(Behaviour::Healthy) {
                Behaviour::EverySecond if state.requests % 2 == 0 => Behaviour::Healthy,
                Behaviour::EverySecond => Behaviour::Status(503),
                other => other,
            }
        };
        let writer = reader.get_mut();
        let written = match behaviour {
            Behaviour::Healthy | Behaviour::EverySecond => {
                lock().take(&request);
                http::write(writer, 200, &[("content-type", "application/x-protobuf")], b"")
            }
            Behaviour::Status(status) => http::write(writer, status, &[], b""),
            Behaviour::Hung => {
                std::thread::sleep(Duration::from_secs(3_600));
                return;
            }
            Behaviour::Slow(pause) => {
                std::thread::sleep(pause);
                lock().take(&request);
                http::write(writer, 200, &[], b"")
            }
            Behaviour::Reset => return,
            Behaviour::Garbage => writer.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n"),
            Behaviour::Huge => http::write(writer, 200, &[], &vec![b'x'; 10 * 1024 * 1024]),
        };
        if written.is_err() {
            return;
        }
    }
}

impl State {
    fn take(&mut self, request: &http::Request) {
        let plain = match request.header("content-encoding") {
            None => request.body.clone(),
            Some("gzip") => {
                let mut plain = Vec::new();
                let mut decoder = flate2::read::GzDecoder::new(request.body.as_slice());
                decoder.read_to_end(&mut plain).expect("gzip, as its header says");
                plain
            }
            Some(other) => panic!("{other}"),
        };
        self.raw.extend_from_slice(&plain);
        let body = plain.as_slice();
        let resource = match request.path.as_str() {
            path if path.ends_with("/v1/traces") => ExportTraceServiceRequest::decode(body).map(|message| {
                for of_resource in message.resource_spans {
                    let resource = text_map(of_resource.resource.map(|r| r.attributes).unwrap_or_default());
                    let function = resource.get("callboard.function").cloned().unwrap_or_default();
                    self.resources.push(resource);
                    for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                        self.spans.push(Span {
                            trace_id: hex(&span.trace_id),
                            span_id: hex(&span.span_id),
                            parent_id: hex(&span.parent_span_id),
                            name: span.name,
                            kind: span.kind,
                            attributes: text_map(span.attributes),
                            links: span.links.iter().map(|l| (hex(&l.trace_id), hex(&l.span_id))).collect(),
                            failed: span.status.is_some_and(|status| status.code == 2),
                            started_ns: span.start_time_unix_nano,
                            ended_ns: span.end_time_unix_nano,
                            function: function.clone(),
                        });
                    }
                }
            }),
            path if path.ends_with("/v1/logs") => ExportLogsServiceRequest::decode(body).map(|message| {
                for of_resource in message.resource_logs {
                    self.logs.extend(of_resource.scope_logs.into_iter().flat_map(|scope| scope.log_records));
                }
            }),
            _ => ExportMetricsServiceRequest::decode(body).map(|message| self.add_metrics(message)),
        };
        resource.expect("a request of OTLP");
    }

    fn add_metrics(&mut self, message: ExportMetricsServiceRequest) {
        let of_resources = message.resource_metrics.into_iter();
        let scopes = of_resources.flat_map(|of_resource| of_resource.scope_metrics);
        for found in scopes.flat_map(|scope| scope.metrics) {
            let key = |attributes: Vec<KeyValue>| {
                let pairs: Vec<String> =
                    text_map(attributes).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{}{{{}}}", found.name, pairs.join(","))
            };
            let number = |value| match value {
                Some(number_data_point::Value::AsDouble(value)) => value,
                #[allow(clippy::cast_precision_loss, reason = "small counts")]
                Some(number_data_point::Value::AsInt(value)) => value as f64,
                None => f64::NAN,
            };
            match found.data.clone() {
                Some(metric::Data::Sum(sum)) => {
                    for point in sum.data_points {
                        *self.metrics.entry(key(point.attributes)).or_default() += number(point.value);
                    }
                }
                Some(metric::Data::Gauge(gauge)) => {
                    for point in gauge.data_points {
                        self.metrics.insert(key(point.attributes), number(point.value));
                    }
                }
                Some(metric::Data::Histogram(histogram)) => {
                    for point in histogram.data_points {
                        #[allow(clippy::cast_precision_loss, reason = "small counts")]
                        let count = point.count as f64;
                        *self.metrics.entry(key(point.attributes)).or_default() += count;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text_map(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(truth)) => truth.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}
