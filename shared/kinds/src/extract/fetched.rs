//! What callboard's own fetch brought, as far as it is kept (§12: minimal evidence always).

use domain::extract::{Extraction, Page, page_hash, visible_text};
use domain::ids::{DiscoveryId, EvidenceId};
use domain::state::EvidenceKind;
use fetch::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use store::evidence::NewEvidence;
use store::postings::checks::CheckedPage;

/// Fields of an answer that are kept; one that carries a session is not.
const HEADERS_MAX: usize = 50;
/// Characters kept of one field's value.
const HEADER_CHARS_MAX: usize = 1_000;
/// `http-api.md` §4: the longest content type.
const CONTENT_TYPE_CHARS_MAX: usize = 128;
/// Never kept: they are credentials.
const SECRET_HEADERS: [&str; 3] = ["set-cookie", "set-cookie2", "www-authenticate"];

/// A fetched page without its body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Fetched {
    /// The end of the redirects.
    pub(super) final_url: String,
    /// Its status.
    pub(super) status: u16,
    /// Every URL asked, in order, the first and the last among them.
    pub(super) hops: Vec<FetchedHop>,
    /// https led to http.
    pub(super) downgraded: bool,
    /// Names in lower case.
    pub(super) headers: Map<String, Value>,
    /// `text/html` and the like.
    pub(super) content_type: String,
    /// SHA-256 of the decoded body.
    pub(super) body_hash: [u8; 32],
    /// Its length.
    pub(super) body_bytes: i64,
    /// When the answer was there.
    pub(super) captured_at: Timestamp,
    /// The page's text; `None` where the publisher asks for no archive.
    pub(super) text: Option<String>,
    /// SHA-256 of the extracted fields.
    pub(super) page_hash: Option<[u8; 32]>,
}

/// One answered URL of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FetchedHop {
    /// What was asked.
    pub(super) url: String,
    /// What it answered.
    pub(super) status: u16,
}

impl Fetched {
    pub(super) fn new(
        response: &Response,
        page: &Page<'_>,
        extraction: &Extraction,
        captured_at: Timestamp,
    ) -> Self {
        let headers = response
            .headers
            .iter()
            .filter(|(name, _)| !SECRET_HEADERS.contains(&name.as_str()))
            .take(HEADERS_MAX)
            .map(|(name, value)| (name.clone(), json!(clean(value, HEADER_CHARS_MAX))))
            .collect();
        let content_type = response.content_type.as_deref().unwrap_or("application/octet-stream");
        Self {
            final_url: response.final_url.clone(),
            status: response.status,
            hops: response
                .hops
                .iter()
                .map(|hop| FetchedHop { url: hop.url.clone(), status: hop.status })
                .collect(),
            downgraded: response.downgraded,
            headers,
            content_type: clean(content_type, CONTENT_TYPE_CHARS_MAX),
            body_hash: Sha256::digest(&response.body).into(),
            body_bytes: i64::try_from(response.body.len()).unwrap_or(i64::MAX),
            captured_at,
            text: (!extraction.noarchive).then(|| visible_text(page)),
            page_hash: extraction.postings.first().map(|posting| page_hash(&posting.fields)),
        }
    }

    fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name)?.as_str().map(str::to_owned)
    }

    /// What the next conditional request needs.
    pub(super) fn checked_page(&self) -> CheckedPage {
        CheckedPage {
            etag: self.header("etag"),
            last_modified: self.header("last-modified"),
            page_hash: self.page_hash,
        }
    }

    /// The row of evidence.
    pub(super) fn evidence(&self, discovery: DiscoveryId) -> NewEvidence {
        NewEvidence {
            id: EvidenceId::new(),
            discovery_id: Some(discovery),
            module: None,
            kind: EvidenceKind::UrlFetch,
            uri: Some(self.final_url.clone()),
            object_key: None,
            content_hash: self.body_hash,
            captured_at: self.captured_at,
            content_type: self.content_type.clone(),
            byte_size: self.body_bytes,
            inline_text: self.text.clone(),
            http: Some(json!({
                "status": self.status,
                "final_url": self.final_url,
                "etag": self.header("etag"),
                "last_modified": self.header("last-modified"),
                "redirect_chain": self.hops,
                "headers": self.headers,
            })),
            metadata: json!({}),
        }
    }
}

/// What a page's server sends may hold anything; the database takes no NUL.
fn clean(text: &str, chars_max: usize) -> String {
    domain::text::truncate_chars(&domain::text::clean_page(text), chars_max).to_owned()
}
