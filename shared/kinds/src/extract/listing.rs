//! A listing is none of the postings that it names: they go in by the same path as everybody's discoveries (§4).

use crate::Context;
use crate::ingest::{Handing, Intake, Item, Submitted, ingest};
use domain::extract::Extraction;
use domain::state::Actor;
use domain::url::{Rules, UrlHash, normalize};
use ledger::JobId;
use serde_json::json;
use std::collections::BTreeMap;
use store::discoveries::NewDiscovery;
use store::discovery_jobs::DiscoveryWork;
use store::pipelined::Tx;

/// Postings taken from one listing (§4).
const LISTED_MAX: usize = 200;
/// What is found on a listing is not followed further.
const LISTED_DEPTH: i16 = 1;

/// Hands in what a listing names, for the same module, and gives the jobs that are due; nothing if the listing was itself
/// found on one. An address that has no normal form is passed over, and so is the listing's own.
///
/// # Errors
/// [`crate::ApplyError`], of the database only.
pub(super) async fn hand_in(
    cx: &Context,
    tx: &Tx<'_>,
    actor: &Actor,
    rules: &Rules,
    discovery: &DiscoveryWork,
    extraction: &Extraction,
    traceparent: Option<&str>,
) -> Result<Vec<JobId>, crate::ApplyError> {
    if discovery.depth >= LISTED_DEPTH {
        return Ok(Vec::new());
    }
    let listed: BTreeMap<UrlHash, Submitted> = extraction
        .discovered_urls
        .iter()
        .take(LISTED_MAX)
        .filter_map(|url| {
            let normal = normalize(url, rules).ok()?;
            let hash = normal.hash();
            let new = NewDiscovery {
                metadata: json!({"listed_on": discovery.id}),
                // What may be said of the listing holds for what it lists.
                source_key: discovery.source_key.clone(),
                ..NewDiscovery::of_page(url, &normal, cx.now())
            };
            Some((hash, Submitted { new, evidence_refs: Vec::new(), resolve_redirects: false }))
        })
        .filter(|(hash, _)| hash.0 != discovery.canonical_hash)
        .collect();
    let items: Vec<Item<'_>> = listed.values().map(|discovery| Item { discovery, evidence: &[] }).collect();
    let intake = Intake {
        registry: cx.registry(),
        module: Handing {
            id: discovery.module.id,
            module_id: &discovery.module.module_id,
            trust_level: discovery.module.trust_level,
            source_keys: &discovery.module.source_keys,
        },
        actor,
        request_id: None,
        traceparent,
        depth: LISTED_DEPTH,
        quota: None,
    };
    Ok(ingest(tx, &intake, &items).await?.wake)
}
