//! The kinds of job: one file a kind, for the worker that runs them and the API that takes their results.
//!
//! Start at [`Kind`] and [`Handler`], what a kind must say, and [`settle()`], which ends an attempt: the fence, the kind's effects in a
//! savepoint, and the job's own transition, all in one transaction. A new kind is its file
//! and a place in `register!`.
//!
//! I/O happens in [`Handler::run`], which never writes; every write happens in [`Handler::apply`], which does no I/O but the
//! transaction's. So an attempt that lost its lease changes nothing, and a result that came over HTTP is applied by the
//! very same code.

pub mod context;
pub mod extract;
pub mod ingest;
pub mod kind;
pub mod publication;
pub mod record;
pub mod redirects;
pub mod resolve_url_redirects;
pub mod rules;
pub mod settle;
pub mod web;

pub use context::{Context, Kinds};
pub use kind::{Applied, ApplyError, Attempt, Handler, Kind, ResultOrigin};
pub use settle::{Error, Settled, Settlement, settle};

macro_rules! register {
    ($($kind:expr),+ $(,)?) => {
        /// Every kind of this release, for functions that run none.
        #[must_use]
        pub fn all() -> Vec<Box<dyn Kind>> {
            vec![$(Box::new($kind)),+]
        }

        /// The same kinds with their work.
        #[must_use]
        pub fn handlers() -> Vec<Box<dyn Handler>> {
            vec![$(Box::new($kind)),+]
        }
    };
}

register!(extract::Extract, resolve_url_redirects::ResolveUrlRedirects);

/// Gives spans of statements the names that `ledger` and `store` know them by. Reads nothing until a span needs it.
pub fn name_statements() {
    telemetry::db::name_statements(|| {
        let ledger = ledger::statements().into_iter().map(|statement| (statement.name, statement.sql));
        let store = store::statements().into_iter().map(|statement| (statement.name, statement.sql));
        ledger.chain(store).collect()
    });
}
