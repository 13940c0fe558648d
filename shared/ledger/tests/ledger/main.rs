//! The ledger against PostgreSQL: one process, one server, a database for each test.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

mod admin;
mod claim;
mod clock;
mod enqueue;
mod external;
mod fence;
mod hints;
mod histories;
mod interleavings;
mod read;
mod reap;
mod reference;
mod settle;
mod statements;
mod support;
