//! Reading a posting from a page (`domain.md` §8).
//!
//! [`extract`] takes what a fetch brought and gives back a verdict, at most one posting with the
//! origin of each field, and the URLs of other postings that the page leads to. It is pure: the
//! time comes in [`ExtractContext::now`], and nothing is fetched.
//!
//! Pages are hostile until shown otherwise. Every step is linear in the size of the page or has a
//! named bound, so that a page of 2 MiB costs at most 200 ms and 32 MiB.

mod charset;
mod confidence;
pub mod country;
pub mod dates;
mod dom;
pub mod employment;
mod engine;
mod guard;
mod head;
mod html;
mod kind;
mod labels;
pub mod language;
mod layer;
mod links;
mod opengraph;
mod phrases;
mod processor;
mod result;
mod segments;
mod structured;
mod text;
mod title;
mod warnings;
pub(crate) mod words;

pub use confidence::{ResultSource, extraction_confidence};
pub use result::{ClosedBy, Conflict, ExtractedPosting, Extraction, Verdict, Warning};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::posting::limits::DESCRIPTION_CHARS_MAX;
use crate::posting::{Hints, PostingFields};
use crate::state::TrustLevel;
use crate::text::truncate_chars;
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

/// Reads a page (§8): what it is, the posting on it with the origin of every field, and the URLs
/// of other postings. Deterministic; never fails and never panics, whatever the page.
///
/// A page that is not HTML is read as an empty one, so that a connector's hints for a PDF count.
pub fn extract(page: &Page<'_>, context: &ExtractContext<'_>) -> Extraction {
    engine::extract(page, context)
}

/// SHA-256 over the extracted fields: equal for two fetches that say the same (§9.3).
pub fn page_hash(fields: &PostingFields) -> [u8; 32] {
    // The fields are written in a fixed order, and none of them can fail to be.
    Sha256::digest(serde_json::to_vec(fields).unwrap_or_default()).into()
}

/// The text of a page that a reader sees, at most 50,000 characters, for the evidence of a fetch.
/// Empty for what is not HTML.
pub fn visible_text(page: &Page<'_>) -> String {
    let content_type = page.content_type.or_else(|| head::header(page.headers, "content-type").next());
    if !engine::is_html(content_type, page.body) {
        return String::new();
    }
    let mut ignored = warnings::Warnings::default();
    let text = charset::decode(page.body, content_type, &mut ignored);
    let dom = dom::Dom::parse(&text, &mut ignored);
    let text = text::block_text(&dom, dom::Dom::ROOT);
    truncate_chars(&text, DESCRIPTION_CHARS_MAX).trim_end().to_owned()
}
