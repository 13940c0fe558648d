//! Wires the migrate function: Lambda where the runtime calls it, a plain command elsewhere.

use anyhow::Context;
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::Value;
use std::time::{Instant, SystemTime};
use store::PoolConfig;
use tracing::Instrument;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    telemetry::init("migrate", env!("CARGO_PKG_VERSION"));
    let config = PoolConfig::for_migrate()?;
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_none() {
        let report = migrate::migrate(&config).await?;
        println!("{}", serde_json::to_string(&report).context("print the report")?);
        return Ok(());
    }
    let handler = service_fn(|event: LambdaEvent<Value>| {
        let config = config.clone();
        async move {
            let invocation = telemetry::Invocation::begin(&event.context.request_id, None);
            let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
            let answer = migrate::handle(&config, event.payload, Instant::now() + left);
            answer.instrument(invocation.span).await.map_err(lambda_runtime::Error::from)
        }
    });
    lambda_runtime::run(handler).await.map_err(anyhow::Error::from_boxed)
}
