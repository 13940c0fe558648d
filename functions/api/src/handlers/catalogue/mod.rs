//! The public catalogue (http-api.md §3): the list, and one posting with the provenance of every field.

mod accept;
pub mod detail;
mod jsonld;
pub mod list;
