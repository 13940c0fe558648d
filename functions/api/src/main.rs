//! Wires the API function: configuration, clients, the router.

use anyhow::Context as _;
use api::app::{App, Config};
use api::auth::issuer::HttpKeySource;
use api::router::router;
use jiff::Timestamp;
use kinds::Kinds;
use lambda_http::{Request, RequestExt as _, service_fn};
use ledger::sqs::WakeSender;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use store::Pool;
use telemetry::Function;
use tower::ServiceExt as _;

// One event at a time, and a fraction of a processor: more threads would only cost their start.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    telemetry::init(Function::Api, env!("CARGO_PKG_VERSION"));
    kinds::name_statements();
    let router = router(configure()?);
    telemetry::ready().await;
    lambda_http::run(service_fn(move |request: Request| {
        let router = router.clone();
        async move {
            let left = left(&request.lambda_context());
            // The router cannot fail; its span is begun where the route is known.
            telemetry::around(Instant::now() + left, router.oneshot(request)).await
        }
    }))
    .await
}

/// What is left of the invocation's time.
fn left(context: &lambda_http::Context) -> Duration {
    context.deadline().duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)
}

fn configure() -> anyhow::Result<App> {
    let config = Config::from_env().context("cannot configure the API")?;
    let pool = Pool::from_env().context("cannot configure the database")?;
    let kinds = Kinds::new(kinds::all()).context("cannot register the kinds of job")?;
    let wake = WakeSender::from_env().context("cannot configure the queues")?;
    Ok(App::new(
        config,
        pool,
        Arc::new(kinds),
        Box::new(HttpKeySource),
        Box::new(wake),
        Arc::new(Timestamp::now),
    ))
}
