//! Wires the dispatch function: configuration, clients, the Lambda runtime.

use anyhow::Context as _;
use dispatch::Dispatch;
use kinds::Kinds;
use lambda_runtime::{LambdaEvent, service_fn};
use ledger::sqs::HintSender;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use store::Pool;
use telemetry::Invocation;
use tracing::Instrument as _;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    telemetry::init("dispatch", env!("CARGO_PKG_VERSION"));
    let dispatch = Arc::new(configure()?);
    lambda_runtime::run_concurrent(service_fn(move |event: LambdaEvent<Value>| {
        let dispatch = Arc::clone(&dispatch);
        async move {
            let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
            let invocation = Invocation::begin(&event.context.request_id, None);
            dispatch
                .handle(event.payload, Instant::now() + left)
                .instrument(invocation.span)
                .await
                .map_err(lambda_runtime::Error::from)
        }
    }))
    .await
}

fn configure() -> anyhow::Result<Dispatch> {
    let pool = Pool::from_env().context("cannot configure the database")?;
    let kinds = Kinds::new(kinds::all()).context("cannot register the kinds of job")?;
    let queue = HintSender::from_env().context("cannot configure the queues")?;
    Ok(Dispatch::new(pool, Arc::new(kinds), Arc::new(queue)))
}
