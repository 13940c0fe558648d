//! Taking in discoveries (http-api.md §4, domain.md §0.1, §4, §9.5): the one path for what a module hands in, what a
//! listing names, and what callboard pulls itself.
//!
//! Start at [`ingest`], or at [`Ingest`] to send other statements together with its own. One transaction holds the discovery, its sighting, its jobs and its events. Who is first is decided
//! by two unique indexes, so that twenty of the same at once are one accepted and nineteen resighted.
//!
//! A batch is written in sets: as many statements as one discovery takes, in key order, so that two batches cannot
//! deadlock. Independent statements are sent together: what is new takes two round trips, however many there are.

mod confirm;
mod write;

use domain::ids::{DiscoveryId, EvidenceId, ModuleDbId};
use domain::state::{Actor, DiscoveryStatus, TrustLevel};
use ledger::{JobId, Registry};
use store::discoveries::NewDiscovery;
use store::evidence::NewEvidence;

pub use write::{Ingest, LookedUp, Refused, ingest};

/// The job that reads a discovery's page.
pub const EXTRACT: &str = "extract";
/// What the jobs of a discovery have as their target.
pub const TARGET: &str = "discovery";

/// A discovery that may be stored: its form is checked.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// What is stored if it is new.
    pub new: NewDiscovery,
    /// Evidence to be attached.
    pub evidence_refs: Vec<EvidenceId>,
    /// `metadata.resolve_redirects`
    pub resolve_redirects: bool,
}

/// What is written, with its evidence where that came along.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// The discovery.
    pub discovery: &'a Submitted,
    /// Evidence of it; its discovery is filled in here.
    pub evidence: &'a [NewEvidence],
}

/// The module in whose name something is taken in.
#[derive(Debug, Clone, Copy)]
pub struct Handing<'a> {
    /// Key of its row.
    pub id: ModuleDbId,
    /// Its text id.
    pub module_id: &'a str,
    /// Its own trust.
    pub trust_level: TrustLevel,
    /// The keys that it may name.
    pub source_keys: &'a [String],
}

/// Who hands in, and how it is recorded.
#[derive(Debug, Clone, Copy)]
pub struct Intake<'a> {
    /// The kinds of jobs.
    pub registry: &'a Registry,
    /// The module.
    pub module: Handing<'a>,
    /// In whose name the events are written.
    pub actor: &'a Actor,
    /// The request, where there is one.
    pub request_id: Option<&'a str>,
    /// The W3C `traceparent` that the jobs carry on.
    pub traceparent: Option<&'a str>,
    /// 1 for what was found on a listing.
    pub depth: i16,
    /// The most that the module may hand in in a minute; nothing is inserted beyond it. It is the caller who asks and tells.
    pub quota: Option<i64>,
}

impl Intake<'_> {
    fn trace_id(&self) -> Option<&str> {
        self.traceparent.and_then(crate::settle::trace_id)
    }
}

/// What became of one discovery. The values are the stored ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its id, or that of the one that was known.
    pub discovery_id: DiscoveryId,
    /// Whether it is new.
    pub is_new: bool,
    /// In normal form.
    pub normalized_url: String,
    /// SHA-256 of that.
    pub canonical_hash: [u8; 32],
    /// domain.md §4.
    pub status: DiscoveryStatus,
    /// The jobs that it led to.
    pub jobs: Vec<(JobId, String)>,
    /// The evidence that came along, as it is stored.
    pub evidence: Vec<EvidenceId>,
}

/// Why one item was not taken in; the others are not touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// References to evidence that is not the module's own and unattached, by their places.
    #[error("some of the evidence is not the module's own, or is attached already")]
    NotAttachable(Vec<usize>),
    /// The discovery is known and would have more than [`store::evidence::PER_DISCOVERY_MAX`] pieces.
    #[error("a discovery has at most {} pieces of evidence", store::evidence::PER_DISCOVERY_MAX)]
    TooMuchEvidence,
}

/// What a set of discoveries came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// One for each item, in the given order.
    pub results: Vec<Result<Written, ItemError>>,
    /// Jobs that are due: to be named in one wake message after the commit.
    pub wake: Vec<JobId>,
}

/// What the database refuses; then nothing of the set may be committed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}
