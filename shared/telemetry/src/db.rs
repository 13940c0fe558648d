//! Statements of the database: how long each took, how it ended, and, where spans are exported, a span of its name.
//!
//! `ledger` and `store` take a [`GenericClient`] of this module in place of tokio-postgres's own; it has the same methods,
//! so a statement is written as before. Neither its parameters nor its rows are looked at, only how many rows came.

use crate::label::StatementOutcome;
use crate::registry::metric;
use crate::span::{SpanBuilder, SpanExt as _, SpanKind, count};
use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};
use tracing::Instrument as _;

/// A statement's parameters with their types.
pub type Parameters<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// A client or transaction of tokio-postgres whose statements are measured.
pub trait GenericClient: Sync {
    /// As tokio-postgres's method of that name.
    fn query_typed(
        &self,
        statement: &str,
        params: Parameters<'_>,
    ) -> impl Future<Output = Result<Vec<Row>, Error>> + Send;

    /// As tokio-postgres's method of that name.
    fn execute_typed(
        &self,
        statement: &str,
        params: Parameters<'_>,
    ) -> impl Future<Output = Result<u64, Error>> + Send;
}

impl<C: tokio_postgres::GenericClient + Sync> GenericClient for C {
    async fn query_typed(&self, statement: &str, params: Parameters<'_>) -> Result<Vec<Row>, Error> {
        let query = tokio_postgres::GenericClient::query_typed(self, statement, params);
        measure(statement, query, Vec::len).await
    }

    async fn execute_typed(&self, statement: &str, params: Parameters<'_>) -> Result<u64, Error> {
        let execute = tokio_postgres::GenericClient::execute_typed(self, statement, params);
        measure(statement, execute, |rows| usize::try_from(*rows).unwrap_or(usize::MAX)).await
    }
}

async fn measure<T>(
    statement: &str,
    work: impl Future<Output = Result<T, Error>>,
    rows: impl FnOnce(&T) -> usize,
) -> Result<T, Error> {
    let span = if crate::global::exports_traces() {
        let name = name(statement);
        SpanBuilder::new(name, SpanKind::Client)
            .attribute("db.system.name", "postgresql")
            .attribute("db.query.summary", name)
            .inner()
    } else {
        tracing::Span::none()
    };
    let started = Instant::now();
    let result = work.instrument(span.clone()).await;
    let outcome = match &result {
        Ok(value) => {
            span.attribute("db.response.returned_rows", count(rows(value)));
            StatementOutcome::Ok
        }
        Err(error) => {
            span.fail(error_type(error));
            outcome(error)
        }
    };
    metric::DB_CLIENT_OPERATION_DURATION.record(started.elapsed().as_secs_f64(), outcome);
    result
}

/// What a caller may do about an error: wait and try again, run the whole transaction again at once, or neither.
/// [`StatementOutcome::Ok`] is none of its answers.
#[must_use]
pub fn outcome(error: &Error) -> StatementOutcome {
    let Some(code) = error.code() else {
        // No answer of the server: the connection broke, timed out, or could not be made; else a value did not fit its type.
        return if error.is_closed() || is_io(error) {
            StatementOutcome::Unavailable
        } else {
            StatementOutcome::Error
        };
    };
    match *code {
        SqlState::T_R_SERIALIZATION_FAILURE
        | SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::LOCK_NOT_AVAILABLE
        // Another statement of the same round trip failed; when all is run again, that one's error stands in front.
        | SqlState::IN_FAILED_SQL_TRANSACTION => StatementOutcome::Collision,
        SqlState::TOO_MANY_CONNECTIONS
        | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        | SqlState::QUERY_CANCELED
        | SqlState::ADMIN_SHUTDOWN
        | SqlState::CRASH_SHUTDOWN
        | SqlState::CANNOT_CONNECT_NOW => StatementOutcome::Unavailable,
        // Class 08: connection exception.
        _ if code.code().starts_with("08") => StatementOutcome::Unavailable,
        _ => StatementOutcome::Error,
    }
}

/// What the server said, or, where it said nothing, the client. For logs.
#[must_use]
pub fn detail(error: &Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |database| database.message().to_owned())
}

fn is_io(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if inner.is::<std::io::Error>() {
            return true;
        }
        cause = inner.source();
    }
    let text = error.to_string();
    text.starts_with("error connecting") || text.starts_with("error communicating")
}

/// The server's five-character code, which holds no data.
fn error_type(error: &Error) -> String {
    error.code().map_or_else(|| "connection".to_owned(), |code| code.code().to_owned())
}

/// Names by statement text; both are constants of `ledger` and `store`.
type Names = HashMap<&'static str, &'static str>;

/// Lists names and texts.
pub type List = fn() -> Vec<(&'static str, &'static str)>;

static LISTS: OnceLock<List> = OnceLock::new();

/// Says how to list the names and texts of statements. The list is made when the first span needs it, and not before.
pub fn name_statements(list: List) {
    let _ = LISTS.set(list);
}

/// A statement's name; of one that is not listed, its first word.
fn name(statement: &str) -> &'static str {
    static NAMES: OnceLock<Names> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let list = LISTS.get().map(|list| list()).unwrap_or_default();
        list.into_iter().map(|(name, sql)| (sql, name)).collect()
    });
    names.get(statement).copied().unwrap_or_else(|| {
        let word = statement.split_whitespace().next().unwrap_or_default();
        ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"]
            .into_iter()
            .find(|known| word.eq_ignore_ascii_case(known))
            .unwrap_or("statement")
    })
}
