//! Applies the schema's migrations: as a CloudFormation custom resource before new code takes traffic, and by hand.
//!
//! Start at [`handle`]. A custom-resource event is answered to its `ResponseURL`, always, also on failure, since
//! CloudFormation waits an hour for a resource that stays silent. Any other event applies the migrations and
//! answers with the [`Report`]; started outside Lambda, `main` does the same and prints it.

mod custom_resource;

pub use custom_resource::{CustomResource, Properties, RequestType, Response, Status};

use serde_json::Value;
use std::time::{Duration, Instant};
use store::PoolConfig;
use store::migrations::{MigrationError, Report};

/// What is kept of the invocation's time to tell CloudFormation of a failure.
const ANSWER_RESERVE: Duration = Duration::from_secs(15);

/// Why the schema was not brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment does not say where the database is.
    #[error("the database is not configured: {0}")]
    Config(#[from] store::pool::ConfigError),
    /// The database does not answer.
    #[error("the database does not answer: {0}")]
    Connect(#[source] store::Error),
    /// A file failed, or the files do not fit the database.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// The server's own keys could not be made.
    #[error("the server's keys could not be made: {0}")]
    Keys(#[source] store::Error),
    /// The time was not enough. What was applied before stays.
    #[error("the migrations did not end in time; run migrate again")]
    Deadline,
    /// CloudFormation could not be told.
    #[error("CloudFormation could not be told: {0}")]
    Answer(String),
}

/// Brings the schema up to date, and tells what was applied.
///
/// # Errors
/// See [`Error`]; what was applied before the failure stays applied.
pub async fn migrate(config: &PoolConfig) -> Result<Report, Error> {
    let mut client = config.connect().await.map_err(Error::Connect)?;
    let report = store::migrations::apply(&mut client, &store::migrations::embedded()?).await?;
    tracing::info!(applied = report.applied.len(), version = report.version, "schema is up to date");
    Ok(report)
}

/// Handles one event of the function; `deadline` is the invocation's.
///
/// # Errors
/// For a custom resource only [`Error::Answer`]: every other failure is told to CloudFormation. For any other event, what
/// [`migrate`] says.
pub async fn handle(config: &PoolConfig, event: Value, deadline: Instant) -> Result<Value, Error> {
    let limit = deadline.saturating_duration_since(Instant::now()).saturating_sub(ANSWER_RESERVE);
    let Ok(request) = serde_json::from_value::<CustomResource>(event) else {
        let report = within(limit, migrate(config)).await?;
        return serde_json::to_value(report).map_err(|error| Error::Answer(error.to_string()));
    };
    let outcome = match request.request_type {
        // The data stays when the stack goes: dropping tables is a person's decision.
        RequestType::Delete => Ok(None),
        RequestType::Create => within(limit, migrate(config)).await.map(|report| Some(report.version)),
        RequestType::Update => {
            within(limit, migrate(config)).await.map(|report| report.version).or_else(rolled_back).map(Some)
        }
    };
    let response = Response::new(&request, outcome);
    let body = serde_json::to_vec(&response).map_err(|error| Error::Answer(error.to_string()))?;
    custom_resource::answer(&request.response_url, body).await?;
    serde_json::to_value(response).map_err(|error| Error::Answer(error.to_string()))
}

/// A release that is rolled back to meets the schema of the one that came after it. It was made to live with it (expand,
/// then contract), so the update succeeds; a failure would leave the stack between two releases.
fn rolled_back(error: Error) -> Result<i32, Error> {
    match error {
        Error::Migration(MigrationError::Newer { database, known }) => {
            tracing::warn!(database, known, "the schema is newer than this release, and stays as it is");
            Ok(database)
        }
        other => Err(other),
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(Error::Deadline))
}
