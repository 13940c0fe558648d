//! Taking in discoveries (http-api.md §4, domain.md §0.1, §4, §9.5): [`read`] checks one, [`write`] stores any number.
//!
//! One transaction holds the discovery, its sighting, its jobs and its events. Who is first is decided by two unique
//! indexes, so that twenty of the same at once are one accepted and nineteen resighted.
//!
//! A batch is written in sets: as many statements as one discovery takes, in key order, so that two batches cannot
//! deadlock. Independent statements are sent together, so that most of the way is: begin and quota, insert, match, the
//! rest, commit.

pub mod confirm;
pub mod read;
pub mod write;

/// The scope that handing in takes.
pub const SCOPE: &str = "discoveries:write";
/// The job that reads a discovery's page.
pub const EXTRACT: &str = "extract";
/// The job that follows a discovery's redirects.
pub const RESOLVE: &str = "resolve_url_redirects";
/// What the jobs of a discovery have as their target.
pub const TARGET: &str = "discovery";
