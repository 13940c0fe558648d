//! Writing down where a discovery's address leads (§7.2): for extract's own chain, and for the job that only follows.

use crate::record::{Recorder, name};
use domain::ids::{CandidateId, DiscoveryId};
use domain::redirects::{ChainEnd, NotFinal, is_alias, judge};
use domain::state::{Resolution, UrlRole};
use domain::url::{NormalizedUrl, Rules, UrlHash, normalize};
use jiff::Timestamp;
use serde_json::json;
use store::candidates::links::CandidateUrl;
use store::discovery_jobs::{DiscoveryWork, ResolvedAddress, discovery_at_address, discovery_resolved_set};
use store::pipelined::Tx;

/// A chain of redirects as it was followed.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a> {
    /// What was asked for.
    pub asked: &'a NormalizedUrl,
    /// Every URL asked, in order.
    pub hops: &'a [String],
    /// The last one.
    pub end: &'a str,
    /// Its status.
    pub status: u16,
    /// https led to http.
    pub downgraded: bool,
}

/// What was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// How it ended.
    pub resolution: Resolution,
    /// Where the page is, if that may stand for the discovery's address; else the address that was asked for.
    pub page: NormalizedUrl,
    /// Why the end may not stand for it.
    pub not_final: Option<NotFinal>,
    /// Other names of the page, for its candidate.
    pub aliases: Vec<CandidateUrl>,
    /// On a conflict: the module's other discovery of that page, and its candidate.
    pub other: Option<(DiscoveryId, Option<CandidateId>)>,
}

/// Judges a chain that began at a locked discovery's address and writes the outcome: `resolved_*` once, and an event
/// wherever the chain led somewhere.
///
/// # Errors
/// [`store::Error`], of the database only.
pub async fn follow(
    tx: &Tx<'_>,
    recorder: &mut Recorder,
    rules: &Rules,
    discovery: &DiscoveryWork,
    chain: &Chain<'_>,
    now: Timestamp,
) -> Result<Followed, store::Error> {
    let mut followed = Followed {
        resolution: Resolution::Unchanged,
        page: chain.asked.clone(),
        not_final: None,
        aliases: Vec::new(),
        other: None,
    };
    match judge(chain.asked, chain.end, chain.status, chain.downgraded, rules) {
        ChainEnd::Unchanged => return Ok(followed),
        ChainEnd::NotFinal(reason) => {
            followed.resolution = Resolution::SkippedNotFinal;
            followed.not_final = Some(reason);
        }
        ChainEnd::Moved(end) => {
            let UrlHash(hash) = end.hash();
            followed.aliases = aliases(chain, rules);
            let other = discovery_at_address(tx, discovery.module.id, discovery.id, &hash).await?;
            if other.is_some() {
                followed.resolution = Resolution::Conflict;
                followed.other = other;
            } else {
                let address =
                    ResolvedAddress { url: chain.end, normalized_url: end.as_str(), hash: &hash, at: now };
                // Written once: a chain that leads elsewhere today adds an alias and changes nothing.
                let is_first = discovery_resolved_set(tx, discovery.id, &address).await?;
                followed.resolution = if is_first { Resolution::Applied } else { Resolution::Unchanged };
            }
            followed.page = end;
        }
    }
    if chain.hops.len() > 1 || followed.resolution != Resolution::SkippedNotFinal {
        record(recorder, discovery.id, chain, &followed);
    }
    Ok(followed)
}

fn record(recorder: &mut Recorder, discovery: DiscoveryId, chain: &Chain<'_>, followed: &Followed) {
    let payload = json!({
        "resolution": followed.resolution,
        "status": chain.status,
        "hops": chain.hops.len(),
        "resolved_normalized_url": followed.page,
    });
    recorder.discovery(discovery, name::REDIRECT_RESOLVED, payload);
    if let Some((other, candidate)) = followed.other {
        recorder.discovery(
            discovery,
            name::REDIRECT_RESOLUTION_CONFLICT,
            json!({"other_discovery_id": other, "candidate_id": candidate}),
        );
    }
}

/// The addresses on the way, the end among them, that are other names of the page: not a login or a home page.
#[must_use]
pub fn aliases(chain: &Chain<'_>, rules: &Rules) -> Vec<CandidateUrl> {
    let asked = chain.asked.hash();
    chain
        .hops
        .iter()
        .map(String::as_str)
        .chain([chain.end])
        .filter_map(|hop| normalize(hop, rules).ok())
        .filter(|hop| hop.hash() != asked && is_alias(chain.asked, hop))
        .map(|hop| {
            let UrlHash(hash) = hop.hash();
            CandidateUrl { hash, normalized_url: hop.as_str().to_owned(), role: UrlRole::Resolved }
        })
        .collect()
}
