//! What the proofs about telemetry need: a collector that decodes what it is sent, or misbehaves as asked, and a Lambda
//! runtime that drives one shipped binary, freezes it, and kills it.
//!
//! Nothing here imports the code under test. The messages are decoded with the generated types of the OpenTelemetry project.

mod collector;
mod http;
mod runtime;

pub use collector::{Behaviour, Collector, Span};
pub use runtime::{Reply, Runtime, request_event};
