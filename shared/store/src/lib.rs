//! Every SQL statement of callboard but the job ledger's, one file an aggregate.
//!
//! Start at [`pool`] for connections and at the aggregate's module for its statements. A function takes the
//! transaction when its writes belong to the caller's, and any [`telemetry::db::GenericClient`] otherwise.
//! Statements are typed and unnamed (`query_typed`), so that they survive a transaction pooler.
//!
//! Every statement stands in [`statements`], which the tests prepare as the functions' own role.

pub mod advisory;
pub mod candidates;
pub mod discoveries;
pub mod discovery_jobs;
pub mod error;
pub mod events;
pub mod evidence;
pub mod hosts;
pub mod idempotency;
pub mod ingest_counters;
pub mod migrations;
pub mod module_keys;
pub mod modules;
pub mod pipelined;
pub mod pool;
pub mod posting_search;
pub mod postings;
pub mod revisions;
pub mod server_keys;
pub mod sightings;
mod sql;
pub mod stats;
pub mod trust_policy;
pub mod url_overrides;

pub use error::Error;
pub use pool::{Client, Pool, PoolConfig};

use tokio_postgres::types::Type;

/// A named statement with the types of its parameters.
#[derive(Debug, Clone, Copy)]
pub struct Statement {
    /// The name of the function that runs it.
    pub name: &'static str,
    /// Its text.
    pub sql: &'static str,
    /// The types of `$1…`.
    pub types: &'static [Type],
}

/// Every statement of this crate, for the test that prepares each one and for the migration gate.
#[must_use]
pub fn statements() -> Vec<Statement> {
    let lists: &[&[Statement]] = &[
        &[Statement { name: "schema_version", sql: migrations::VERSION, types: &[] }],
        advisory::STATEMENTS,
        candidates::STATEMENTS,
        candidates::links::STATEMENTS,
        discovery_jobs::STATEMENTS,
        posting_search::STATEMENTS,
        postings::STATEMENTS,
        postings::checks::STATEMENTS,
        postings::detail::STATEMENTS,
        revisions::STATEMENTS,
        trust_policy::STATEMENTS,
        url_overrides::STATEMENTS,
        discoveries::STATEMENTS,
        events::STATEMENTS,
        evidence::STATEMENTS,
        hosts::STATEMENTS,
        idempotency::STATEMENTS,
        ingest_counters::STATEMENTS,
        module_keys::STATEMENTS,
        modules::STATEMENTS,
        server_keys::STATEMENTS,
        sightings::STATEMENTS,
        stats::STATEMENTS,
    ];
    lists.concat()
}
