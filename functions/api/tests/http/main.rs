//! The API by its router, on a real database.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod administration;
mod authentication;
mod catalogue;
mod conventions;
mod discoveries;
mod round_trips;
mod support;
