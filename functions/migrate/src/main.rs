//! Wires the migrate function: Lambda where the runtime calls it, a plain command elsewhere.

use anyhow::Context;
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::Value;
use std::time::{Instant, SystemTime};
use store::PoolConfig;
use telemetry::{Function, Trigger};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    telemetry::init(Function::Migrate, env!("CARGO_PKG_VERSION"));
    let config = PoolConfig::for_migrate()?;
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_none() {
        let report = migrate::migrate(&config).await?;
        println!("{}", serde_json::to_string(&report).context("print the report")?);
        return Ok(());
    }
    let handler = service_fn(|event: LambdaEvent<Value>| {
        let config = config.clone();
        async move {
            let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
            let deadline = Instant::now() + left;
            let work = migrate::handle(&config, event.payload, deadline);
            telemetry::handle(&event.context.request_id, Trigger::Other, deadline, work)
                .await
                .map_err(lambda_runtime::Error::from)
        }
    });
    telemetry::ready().await;
    lambda_runtime::run(handler).await.map_err(anyhow::Error::from_boxed)
}
