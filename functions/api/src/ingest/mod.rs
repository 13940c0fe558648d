//! Taking in discoveries (http-api.md §4): [`read`] checks one as it was sent, [`write`] stores any number by the path
//! that everything goes in by, [`kinds::ingest`].

pub mod read;
pub mod write;

/// The scope that handing in takes.
pub const SCOPE: &str = "discoveries:write";
