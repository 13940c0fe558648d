//! Reading a posting from a page (`domain.md` §8).
//!
//! [`extract`] takes what a fetch brought and gives back a verdict, at most one posting with the
//! origin of each field, and the URLs of other postings that the page leads to. It is pure: the
//! time comes in [`ExtractContext::now`], and nothing is fetched.
//!
//! Pages are hostile until shown otherwise. Every step is linear in the size of the page or has a
//! named bound, so that a page of 2 MiB costs at most 200 ms and 32 MiB.

pub mod country;
pub mod dates;
pub mod employment;
pub mod language;
mod result;
pub(crate) mod words;

pub use result::{ClosedBy, Conflict, ExtractedPosting, Extraction, Verdict, Warning};

use jiff::Timestamp;

use crate::posting::Hints;
use crate::state::TrustLevel;
use crate::url::Rules;

/// What a fetch brought: the response at the end of the redirects.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The URL that answered, after redirects.
    pub url: &'a str,
    /// The URL that was asked for first.
    pub submitted_url: &'a str,
    /// HTTP status of the answer.
    pub status: u16,
    /// Response headers in any order; names are compared without case.
    pub headers: &'a [(String, String)],
    /// The `Content-Type` header, where there was one.
    pub content_type: Option<&'a str>,
    /// The body, content coding removed.
    pub body: &'a [u8],
}

/// What else extraction depends on.
#[derive(Debug, Clone, Copy)]
pub struct ExtractContext<'a> {
    /// The time at which deadlines are judged.
    pub now: Timestamp,
    /// How URLs are normalised.
    pub rules: &'a Rules,
    /// What the connector said beforehand.
    pub hints: Option<&'a Hints>,
    /// The trust of the connector's module: how far its hints are believed.
    pub module_trust: TrustLevel,
}
