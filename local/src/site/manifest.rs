//! The manifest of the bundled site, `local/site/site.json`: what is served, what the demonstration hands in, and what
//! should become of it. The format is described in `local/site/README.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The whole manifest.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What the server answers, by path.
    pub pages: Vec<SitePage>,
    /// What the demonstration hands in, in this order.
    pub discoveries: Vec<SiteDiscovery>,
}

/// One path of the site.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SitePage {
    /// Absolute path without query; a request's query is ignored.
    pub path: String,
    /// File in `local/site/pages`, rendered before it is sent; absent for an empty body.
    #[serde(default)]
    pub file: Option<String>,
    /// HTTP status, 200 by default.
    #[serde(default = "ok")]
    pub status: u16,
    /// Headers of the answer; `Content-Type` is among them where there is one. Values are rendered too.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How long the server waits before it answers, in milliseconds.
    #[serde(default)]
    pub delay_ms: u64,
    /// Path that a redirect leads to: sent as `Location`; the status is then 301, 302, 303, 307 or 308.
    #[serde(default)]
    pub redirect: Option<String>,
}

fn ok() -> u16 {
    200
}

/// One item that the demonstration hands in as a discovery.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SiteDiscovery {
    /// Absolute path with query, below the site's origin.
    pub path: String,
    /// Why it is here, for a person.
    pub about: String,
    /// Hint members of `POST /discoveries`: `title_hint`, `organization_hint`, `text_hint`, `hints`.
    #[serde(default)]
    pub hints: serde_json::Map<String, serde_json::Value>,
    /// What should become of it.
    pub expect: Expect,
}

/// What should become of a discovery once everything is settled. What is absent is not checked, save
/// `candidate_state`: null means that there is no candidate.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The `outcome` of the ingest: `accepted` or `resighted`.
    pub outcome: String,
    /// Final status of the discovery.
    pub discovery_status: String,
    /// Final state of its candidate.
    pub candidate_state: Option<String>,
    /// The candidate's `state_reason`, or the discovery's `status_reason` where there is no candidate.
    #[serde(default)]
    pub reason: Option<String>,
    /// The title of the candidate.
    #[serde(default)]
    pub title: Option<String>,
}
