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
use telemetry::{Function, Trigger};
use worker::Worker;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    telemetry::init(Function::Worker, env!("CARGO_PKG_VERSION"));
    kinds::name_statements();
    let worker = configure()?;
    telemetry::ready().await;
    lambda_runtime::run_concurrent(service_fn(move |event: LambdaEvent<Value>| {
        let worker = worker.clone();
        async move {
            let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
            let deadline = Instant::now() + left;
            let trigger = Trigger::of(&event.payload);
            let work = worker.handle(event.payload, deadline);
            telemetry::handle(&event.context.request_id, trigger, deadline, work)
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
