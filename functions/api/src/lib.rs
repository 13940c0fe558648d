//! callboard over HTTP: an axum router behind API Gateway (payload 2.0), or behind any HTTP server.
//!
//! Start at [`router`]: it is the table of contents. [`app::App`] is what handlers share, [`problem::Problem`] what they
//! answer when something is wrong, [`front`] what every request passes. An endpoint is one handler in a file of
//! [`handlers`], one line in [`router`], and one in [`openapi`].
//!
//! A handler reads its request with [`json::Reader`] or [`params::Params`] (everything that is wrong at once), says who
//! may call it by the extractor that it takes ([`auth`]), and writes in one transaction ([`transact!`]).
//!
//! Nothing is opened when the router is made: the first request that needs the database connects to it.

#[macro_use]
mod transact;

pub mod app;
pub mod auth;
pub mod body;
pub mod conditional;
pub mod cursor;
pub mod front;
pub mod handlers;
pub mod idempotency;
pub mod ingest;
pub mod json;
pub mod limits;
pub mod openapi;
pub mod params;
pub mod path;
pub mod problem;
pub mod reply;
pub mod router;
pub mod routes;
pub mod url_rules;
