//! What is asked and what comes back.

use bytes::Bytes;
use std::time::Instant;
use uuid::Uuid;

/// What is wanted, which sets the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// A page: 5 redirects, 2 MiB.
    Page,
    /// A feed or a sitemap: 5 redirects, 10 MiB.
    Feed,
    /// Only where the URL ends: `HEAD`, else a ranged `GET`; 10 redirects, no body.
    Resolve,
}

/// One request for a URL that came from outside.
#[derive(Debug, Clone)]
pub struct Request {
    /// As it came; it is judged here.
    pub url: String,
    /// What is wanted.
    pub kind: RequestKind,
    /// The stored `ETag`, sent as `If-None-Match`.
    pub if_none_match: Option<String>,
    /// The stored `Last-Modified`, sent as `If-Modified-Since`.
    pub if_modified_since: Option<String>,
    /// Who comes back for a booked turn. Without one, a busy host is an error at once and nothing is booked.
    pub job: Option<Uuid>,
    /// When the caller's own time is over.
    pub deadline: Option<Instant>,
}

impl Request {
    /// An unconditional request without a job and a deadline.
    #[must_use]
    pub fn new(url: impl Into<String>, kind: RequestKind) -> Self {
        Self {
            url: url.into(),
            kind,
            if_none_match: None,
            if_modified_since: None,
            job: None,
            deadline: None,
        }
    }
}

/// One answered URL of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// What was asked, without a fragment.
    pub url: String,
    /// What it answered.
    pub status: u16,
}

/// The answer at the end of the chain. Its status is none of 408, 425, 429 and 5xx: those are errors worth a retry.
#[derive(Debug, Clone)]
pub struct Response {
    /// The last URL of the chain.
    pub final_url: String,
    /// Its status. A partial answer to a ranged request counts as 200.
    pub status: u16,
    /// Its fields, names in lower case, values as UTF-8 (others are read as Latin-1).
    pub headers: Vec<(String, String)>,
    /// Every URL asked, the first and the last among them.
    pub hops: Vec<Hop>,
    /// The decoded body; empty for [`RequestKind::Resolve`] and 304.
    pub body: Bytes,
    /// The field `content-type`.
    pub content_type: Option<String>,
    /// 304 to a conditional request.
    pub not_modified: bool,
    /// A redirect led from https to http: such a URL never becomes canonical.
    pub downgraded: bool,
}

impl Response {
    /// The first field of that name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}
