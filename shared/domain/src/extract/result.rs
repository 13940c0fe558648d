//! The result of the job kind `extract`: what callboard's own extraction gives and what an
//! external processor must answer (`http-api.md` §5).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::posting::{FieldProvenance, PostingFields};

/// What a page turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// An open posting.
    Posting,
    /// A page that leads to several postings and is none itself.
    Listing,
    /// A posting that no longer takes applications.
    Closed,
    /// Neither: an error page, a home page, an article.
    NotAPosting,
}

impl Verdict {
    /// The word used in the API and in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Posting => "posting",
            Self::Listing => "listing",
            Self::Closed => "closed",
            Self::NotAPosting => "not_a_posting",
        }
    }
}

/// Why a page is judged closed: freshness treats a phrase more gently than a date (§9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosedBy {
    /// The structured deadline is over.
    StructuredDeadline,
    /// A labelled date in the text, or a hint, is over.
    VisibleDeadline,
    /// A closed phrase in title, heading or status region.
    Phrase,
    /// The server answered 410 for a page that carries a posting.
    Gone,
}

/// Sources of one field that contradict each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conflict {
    /// Name of the field, as in [`PostingFields`].
    pub field: String,
    /// What each source says; the first is the one that stays.
    pub values: Vec<Value>,
}

/// Something that was repaired, dropped or cut while reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warning {
    /// A stable word, such as `json_ld_repaired` or `impossible_date`.
    pub code: String,
    /// What was met and what was done about it, for a person.
    pub detail: String,
}

/// A posting read from a page.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExtractedPosting {
    /// The fields, directly in the JSON object.
    #[serde(flatten)]
    pub fields: PostingFields,
    /// Where each field that is set came from, by the field's name.
    #[serde(default)]
    pub field_provenance: BTreeMap<String, FieldProvenance>,
    /// Canonical URLs on other domains, which the page claims and nobody has confirmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claimed_urls: Vec<String>,
    /// `<system>:<tenant>:<id>` or `<registrable domain>:<identifier>`: the publisher's own key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_identity: Option<String>,
}

/// The result of reading one page.
///
/// Callboard's own result is trusted as it stands; a processor's goes through
/// [`Extraction::from_processor`], which refuses what it may not say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Extraction {
    /// What the page is.
    pub verdict: Verdict,
    /// At most one; set for `posting`, and for `closed` where the page still tells which.
    #[serde(default)]
    pub postings: Vec<ExtractedPosting>,
    /// Absolute URLs of other postings that the page leads to, ≤ 200, without repeats.
    #[serde(default)]
    pub discovered_urls: Vec<String>,
    /// Fields whose sources contradict each other.
    #[serde(default)]
    pub conflicts: Vec<Conflict>,
    /// ≤ 50.
    #[serde(default)]
    pub warnings: Vec<Warning>,
    /// Why the verdict is `closed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<ClosedBy>,
    /// The publisher asks not to be indexed: waits for a moderator.
    #[serde(default)]
    pub noindex: bool,
    /// The publisher asks not to be archived: no body is kept.
    #[serde(default)]
    pub noarchive: bool,
}

impl Extraction {
    /// A result without posting, URLs or remarks.
    pub fn bare(verdict: Verdict) -> Self {
        Self {
            verdict,
            postings: Vec::new(),
            discovered_urls: Vec::new(),
            conflicts: Vec::new(),
            warnings: Vec::new(),
            closed_by: None,
            noindex: false,
            noarchive: false,
        }
    }
}
