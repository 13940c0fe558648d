//! The ledger against PostgreSQL: one process, one server, a database for each test.

mod admin;
mod claim;
mod enqueue;
mod external;
mod fence;
mod hints;
mod read;
mod reap;
mod settle;
mod statements;
mod support;
