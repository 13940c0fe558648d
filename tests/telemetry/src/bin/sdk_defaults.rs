//! What a function costs that takes `opentelemetry_sdk` and `opentelemetry-otlp` as they come: the batch span processor, the
//! periodic reader, the exporters' own time-out and retries, and a flush after every event. The test of the dead collector
//! measures it beside callboard's functions.

use async_trait::async_trait;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use opentelemetry::trace::{Span as _, SpanKind, Tracer as _, TracerProvider as _};
use opentelemetry::{KeyValue, metrics::MeterProvider as _};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    MetricExporter, OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT, SpanExporter, WithHttpConfig as _,
};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde_json::{Value, json};
use std::time::Instant;

/// As the client of `reqwest` in `opentelemetry-http` is by default: bodies of answers up to 4 MiB, the exporter's time-out.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(Debug, Clone)]
struct Client(ureq::Agent);

impl Client {
    fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT))
            .build();
        Self(config.into())
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let mut answer = self.0.run(Request::from_parts(head, body.to_vec()))?;
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(answer.map(|_| body.into()))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let client = Client::new();
    let spans = SpanExporter::builder().with_http().with_http_client(client.clone()).build()?;
    let tracing = SdkTracerProvider::builder().with_batch_exporter(spans).build();
    let metrics = MetricExporter::builder().with_http().with_http_client(client).build()?;
    let metering = SdkMeterProvider::builder().with_periodic_exporter(metrics).build();
    let tracer = tracing.tracer("sdk_defaults");
    let duration = metering.meter("sdk_defaults").f64_histogram("faas.invoke_duration").build();
    lambda_runtime::run(service_fn(async |_: LambdaEvent<Value>| {
        let started = Instant::now();
        let mut span = tracer.span_builder("GET /healthz").with_kind(SpanKind::Server).start(&tracer);
        span.set_attribute(KeyValue::new("http.route", "/healthz"));
        span.end();
        duration.record(started.elapsed().as_secs_f64(), &[]);
        // What went wrong is the answer's, so that a row of the table can be told from one that exported nothing.
        let (spans, metrics) = (tracing.force_flush(), metering.force_flush());
        Ok::<_, Error>(json!({ "spans": spans.is_ok(), "metrics": metrics.is_ok() }))
    }))
    .await
}
