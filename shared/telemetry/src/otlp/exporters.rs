//! The exporters of `opentelemetry-otlp`, and who they say is speaking.
//!
//! Everything that a builder would otherwise look up in the environment is set in code: endpoint, protocol, time-out,
//! temporality, no retries. Headers and compression are the transport's ([`super::client`]).

use super::lane::Export;
use super::outlet::Outlet;
use crate::env::{Settings, Target};
use crate::registry::Function;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, Protocol, RetryPolicy, SpanExporter, WithExportConfig,
    WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _, SdkLogRecord};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter as _;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use std::sync::Arc;

fn configured<B: WithExportConfig + WithHttpConfig>(builder: B, target: &Target, outlet: Arc<Outlet>) -> B {
    builder
        .with_shared_http_client(outlet)
        .with_endpoint(target.url.as_str())
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(target.timeout)
        .with_retry_policy(RetryPolicy::disabled())
}

pub(super) fn spans(
    target: &Target,
    outlet: Arc<Outlet>,
    resource: &Resource,
) -> Result<Spans, ExporterBuildError> {
    let mut exporter = configured(SpanExporter::builder().with_http(), target, outlet).build()?;
    exporter.set_resource(resource);
    Ok(Spans(exporter))
}

pub(super) fn logs(
    target: &Target,
    outlet: Arc<Outlet>,
    resource: &Resource,
    scope: InstrumentationScope,
) -> Result<Logs, ExporterBuildError> {
    let mut exporter = configured(LogExporter::builder().with_http(), target, outlet).build()?;
    exporter.set_resource(resource);
    Ok(Logs { exporter, scope })
}

pub(super) fn metrics(
    target: &Target,
    outlet: Arc<Outlet>,
    temporality: Temporality,
) -> Result<Metrics, ExporterBuildError> {
    let builder = MetricExporter::builder().with_http().with_temporality(temporality);
    Ok(Metrics(configured(builder, target, outlet).build()?))
}

// What an export answers is the outlet's to know: it has seen the request and the collector's answer.

#[derive(Debug)]
pub(super) struct Spans(SpanExporter);

impl Export for Spans {
    type Batch = Vec<SpanData>;

    async fn export(&self, batch: Vec<SpanData>) {
        let _ = self.0.export(batch).await;
    }
}

#[derive(Debug)]
pub(super) struct Logs {
    exporter: LogExporter,
    scope: InstrumentationScope,
}

impl Export for Logs {
    type Batch = Vec<SdkLogRecord>;

    async fn export(&self, batch: Vec<SdkLogRecord>) {
        let records: Vec<_> = batch.iter().map(|record| (record, &self.scope)).collect();
        let _ = self.exporter.export(LogBatch::new(&records)).await;
    }
}

#[derive(Debug)]
pub(super) struct Metrics(MetricExporter);

impl Export for Metrics {
    type Batch = ResourceMetrics;

    async fn export(&self, batch: ResourceMetrics) {
        let _ = self.0.export(&batch).await;
    }
}

/// Who speaks (semantic conventions, "FaaS", "Cloud"). What the operator says wins over what is found.
pub(super) fn resource(
    settings: &Settings,
    function: Function,
    version: &'static str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Resource {
    let service = settings.service_name.clone().unwrap_or_else(|| crate::SERVICE.into());
    let from_environment = [
        ("faas.name", "AWS_LAMBDA_FUNCTION_NAME"),
        ("faas.version", "AWS_LAMBDA_FUNCTION_VERSION"),
        ("faas.instance", "AWS_LAMBDA_LOG_STREAM_NAME"),
        ("cloud.region", "AWS_REGION"),
    ];
    let found =
        from_environment.into_iter().filter_map(|(key, name)| Some(KeyValue::new(key, lookup(name)?)));
    let cloud = [KeyValue::new("cloud.provider", "aws"), KeyValue::new("cloud.platform", "aws_lambda")];
    let is_lambda = lookup("AWS_LAMBDA_FUNCTION_NAME").is_some();
    let told = settings.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes([
            KeyValue::new("service.name", service),
            KeyValue::new("service.version", version),
            KeyValue::new("callboard.function", function.as_str()),
        ])
        .with_attributes(cloud.into_iter().filter(|_| is_lambda))
        .with_attributes(found)
        .with_attributes(told)
        .build()
}
