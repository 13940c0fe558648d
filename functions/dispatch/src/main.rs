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
use telemetry::{Function, Trigger};

// One event at a time, and a fraction of a processor: more threads would only cost their start.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    telemetry::init(Function::Dispatch, env!("CARGO_PKG_VERSION"));
    kinds::name_statements();
    let dispatch = Arc::new(configure()?);
    telemetry::ready().await;
    lambda_runtime::run_concurrent(service_fn(move |event: LambdaEvent<Value>| {
        let dispatch = Arc::clone(&dispatch);
        async move {
            let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
            let deadline = Instant::now() + left;
            let trigger = Trigger::of(&event.payload);
            let work = dispatch.handle(event.payload, deadline);
            telemetry::handle(&event.context.request_id, trigger, deadline, work)
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
