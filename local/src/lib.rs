//! callboard on one laptop: everything that AWS would put round the function binaries.
//!
//! Start at [`runner::Runner::start`]. It reads [`template.yaml`](template) for what there is to run, starts PostgreSQL
//! ([`database`]), the queues ([`queue`]), an OIDC issuer ([`issuer`]), the bundled site ([`site`]), a Lambda runtime for
//! every function ([`lambda`]), the event source mappings ([`mapping`]), the schedule ([`schedule`]) and the HTTP gateway
//! ([`gateway`]). The binaries are the ones that are deployed; they cannot tell the difference where AWS documents one.
//!
//! This is a development tool: no function crate depends on it, and it is not deployed. State of the queues is in memory;
//! what a stop loses there, the ledger's next sweep sends again.

pub mod artefacts;
pub mod client;
pub mod commands;
pub mod database;
pub mod gateway;
pub mod instance;
pub mod issuer;
pub mod lambda;
pub mod mapping;
pub mod queue;
pub mod runner;
pub mod schedule;
pub mod serve;
pub mod site;
pub mod spans;
pub mod template;
