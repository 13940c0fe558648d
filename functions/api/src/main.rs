//! Wires the API function: configuration, clients, the router.

use anyhow::Context as _;
use api::app::{App, Config};
use api::auth::issuer::HttpKeySource;
use api::router::router;
use jiff::Timestamp;
use kinds::Kinds;
use ledger::sqs::WakeSender;
use std::sync::Arc;
use store::Pool;

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    telemetry::init("api", env!("CARGO_PKG_VERSION"));
    lambda_http::run(router(configure()?)).await
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
