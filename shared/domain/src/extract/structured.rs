//! Structured data: schema.org in JSON-LD, microdata and RDFa.
//!
//! The three syntaxes become the same kind of JSON objects, so that one mapping reads them all:
//! [`json_ld`] and [`attributes`] make the objects, [`graph`] finds the postings among them, and
//! [`job_posting`] turns one into posting fields.

pub(crate) mod attributes;
pub(crate) mod graph;
pub(crate) mod job_posting;
pub(crate) mod json_ld;
pub(crate) mod layers;
pub(crate) mod money;
pub(crate) mod place;
mod repair;
