//! Wires the worker function: configuration, clients, the Lambda runtime.

use anyhow::Context as _;
use fetch::FetchConfig;
use kinds::Context;
use lambda_runtime::{LambdaEvent, service_fn};
use ledger::sqs::WakeSender;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use store::Pool;
use telemetry::Invocation;
use tracing::Instrument as _;
use worker::Worker;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    telemetry::init("worker", env!("CARGO_PKG_VERSION"));
    let worker = configure()?;
    lambda_runtime::run_concurrent(service_fn(move |event: LambdaEvent<Value>| {
        let worker = worker.clone();
        async move {
            let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
            let invocation = Invocation::begin(&event.context.request_id, None);
            worker
                .handle(event.payload, Instant::now() + left)
                .instrument(invocation.span)
                .await
                .map_err(lambda_runtime::Error::from)
        }
    }))
    .await
}

fn configure() -> anyhow::Result<Worker> {
    let pool = Pool::from_env().context("cannot configure the database")?;
    let config = FetchConfig::from_env().context("cannot configure the fetcher")?;
    let fetcher = kinds::web::fetcher(pool.clone(), config);
    let context = Context::new(pool, fetcher).context("cannot register the kinds of job")?;
    let wake = WakeSender::from_env().context("cannot configure the queues")?;
    Ok(Worker::new(context, Arc::new(wake)))
}
