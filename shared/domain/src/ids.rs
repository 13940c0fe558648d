//! Identifiers of rows, one type for each table, so that two cannot be exchanged by accident.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new version 7 id: it sorts by the millisecond it was made in.
            #[allow(clippy::new_without_default, reason = "a default that differs each time would surprise")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(text).map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )+};
}

ids! {
    /// A row of `discoveries`.
    DiscoveryId,
    /// A row of `posting_candidates`.
    CandidateId,
    /// A row of `postings`.
    PostingId,
    /// A row of `evidence`.
    EvidenceId,
    /// A row of `modules`; people and machines know a module by its text `module_id`.
    ModuleDbId,
    /// A row of `candidate_merges`.
    MergeId,
    /// A row of `candidate_merge_decisions`.
    MergeDecisionId,
    /// A row of `submissions`.
    SubmissionId,
}

/// The text is not the hyphenated, lower-case form of a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected a lower-case, hyphenated UUID")]
pub struct IdError;

/// Only one spelling is accepted, so that one row has one address (and one cache entry).
fn parse(text: &str) -> Result<Uuid, IdError> {
    let id = Uuid::try_parse(text).map_err(|_| IdError)?;
    let mut buffer = Uuid::encode_buffer();
    if id.hyphenated().encode_lower(&mut buffer) == text { Ok(id) } else { Err(IdError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_prints() {
        let id = CandidateId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn other_spellings_of_a_uuid_are_refused() {
        let good = "0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
        assert!(good.parse::<PostingId>().is_ok());
        for bad in [
            "",
            "x",
            "0197A1B2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
            "0197a1b2c3d47e5f8a9b0c1d2e3f4a5b",
            "{0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b}",
            "urn:uuid:0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        ] {
            assert_eq!(bad.parse::<PostingId>(), Err(IdError), "{bad}");
        }
    }

    #[test]
    fn later_ids_sort_after_earlier_ones() {
        let first = DiscoveryId::new();
        let second = DiscoveryId::new();
        assert!(first < second);
    }
}
