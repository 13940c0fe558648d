//! What became of a page, as the API tells it.

use super::{HandedIn, text};
use crate::client::{self, Call};
use anyhow::bail;
use axum::http::StatusCode;

/// The states in which a candidate is still on its way.
const ON_ITS_WAY: [&str; 2] = ["discovered", "publishable"];

/// The last that the API said.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    /// The discovery's status.
    pub(super) discovery: String,
    /// Its candidate's state.
    pub(super) candidate: Option<String>,
    /// The candidate's title.
    pub(super) title: Option<String>,
    /// Why it is in that state: the candidate's reason, or the discovery's.
    pub(super) reason: Option<String>,
    /// The posting that the public can read.
    pub(super) posting: Option<String>,
    /// The posting's status.
    pub(super) posting_status: Option<String>,
}

impl Outcome {
    /// Asks for the discovery, its candidate and its posting.
    pub(super) async fn ask(api: &str, bearer: &str, discovery_id: &str) -> anyhow::Result<Self> {
        let get = async |path: String| {
            let answer =
                client::send(Call::get(format!("{api}{path}")).header("authorization", bearer)).await?;
            match answer.status {
                StatusCode::OK => Ok(Some(answer.json())),
                StatusCode::NOT_FOUND | StatusCode::PERMANENT_REDIRECT | StatusCode::GONE => Ok(None),
                _ => bail!("GET {path}: {}", answer.problem()),
            }
        };
        let Some(discovery) = get(format!("/discoveries/{discovery_id}")).await? else {
            bail!("the discovery {discovery_id} is not there");
        };
        let mut outcome = Self {
            discovery: text(&discovery["status"]).unwrap_or_default(),
            reason: text(&discovery["status_reason"]),
            ..Self::default()
        };
        if let Some(candidate_id) = text(&discovery["candidate_id"])
            && let Some(candidate) = get(format!("/candidates/{candidate_id}")).await?
        {
            outcome.candidate = text(&candidate["state"]);
            outcome.title = text(&candidate["fields"]["title"]);
            outcome.reason = text(&candidate["state_reason"]).or(outcome.reason);
            if let Some(posting_id) = text(&candidate["posting_id"])
                && let Some(posting) = get(format!("/postings/{posting_id}")).await?
            {
                outcome.title = text(&posting["title"]).or(outcome.title);
                outcome.posting_status = text(&posting["status"]);
                outcome.posting = Some(posting_id);
            }
        }
        Ok(outcome)
    }

    /// Whether nothing of it will move by itself any more.
    pub(super) fn is_settled(&self) -> bool {
        match (self.discovery.as_str(), &self.candidate) {
            // Also with a candidate: it was begun anew, or was settled between the questions.
            ("received", _) | ("extracted", None) => false,
            (_, Some(state)) => !ON_ITS_WAY.contains(&state.as_str()),
            (_, None) => true,
        }
    }

    /// Whether the public can read it.
    pub(super) fn is_live(&self) -> bool {
        self.posting.is_some() && self.candidate.as_deref() == Some("published")
    }

    /// In which points it is not what the site's manifest says; empty if it is.
    pub(super) fn complaints(&self, item: &HandedIn<'_>) -> Vec<String> {
        let expect = &item.page.expect;
        let mut complaints = Vec::new();
        let mut check = |what: &str, found: Option<&str>, wanted: Option<&str>| {
            if found != wanted {
                let (found, wanted) = (found.unwrap_or("none"), wanted.unwrap_or("none"));
                complaints.push(format!("{what} is {found}, and should be {wanted}"));
            }
        };
        check("the ingest's outcome", Some(&item.ingest), Some(&expect.outcome));
        check("the discovery", Some(&self.discovery), Some(&expect.discovery_status));
        check("the candidate", self.candidate.as_deref(), expect.candidate_state.as_deref());
        if let Some(reason) = &expect.reason {
            check("the reason", self.reason.as_deref(), Some(reason));
        }
        if let Some(title) = &expect.title {
            check("the title", self.title.as_deref(), Some(title));
        }
        if self.candidate.as_deref() == Some("published") {
            check("what the public sees", self.posting.as_ref().map(|_| "a posting"), Some("a posting"));
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(discovery: &str, candidate: Option<&str>) -> Outcome {
        Outcome { discovery: discovery.into(), candidate: candidate.map(str::to_owned), ..Outcome::default() }
    }

    #[test]
    fn what_is_on_its_way_is_not_settled() {
        let cases = [
            ("received", None, false),
            ("received", Some("published"), false),
            ("extracted", None, false),
            ("extracted", Some("discovered"), false),
            ("extracted", Some("publishable"), false),
            ("extracted", Some("published"), true),
            ("extracted", Some("needs_review"), true),
            ("extracted", Some("processed"), true),
            ("unusable", None, true),
            ("failed", None, true),
        ];
        for (discovery, candidate, settled) in cases {
            assert_eq!(outcome(discovery, candidate).is_settled(), settled, "{discovery} {candidate:?}");
        }
    }
}
