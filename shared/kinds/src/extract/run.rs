//! The work of an attempt: fetch and read. Nothing is written.

use super::fetched::Fetched;
use super::result::OwnResult;
use crate::{Attempt, Context, rules};
use domain::extract::{ExtractContext, Page, extract};
use domain::ids::DiscoveryId;
use domain::state::DiscoveryStatus;
use fetch::{Request, RequestKind, Response};
use jiff::Timestamp;
use ledger::ClaimedJob;
use std::time::{Duration, Instant};
use store::discovery_jobs::{DiscoveryWork, discovery_work_find};

/// What a lease keeps back for reading the page and writing the result.
const APPLY_TIME: Duration = Duration::from_secs(5);

/// The attempt; the error is the attempt that ends without a result.
pub(super) async fn run(cx: &Context, job: &ClaimedJob) -> Result<Attempt, Attempt> {
    let (discovery, rules) = {
        let client = cx.pool.get().await?;
        let found = discovery_work_find(&**client, DiscoveryId(job.target_id));
        tokio::try_join!(biased; found, rules::load(&**client))?
    };
    let Some(discovery) = discovery else {
        return Err(dead("no_such_discovery", "the discovery of this job does not exist"));
    };
    if discovery.status == DiscoveryStatus::Withdrawn {
        return Err(dead("withdrawn", "the discovery was withdrawn"));
    }
    let request = Request {
        job: Some(job.id.0),
        deadline: Some(deadline(job, cx.now())),
        ..Request::new(discovery.normalized_url.clone(), RequestKind::Page)
    };
    let started = Instant::now();
    let response = cx.fetcher.get(&request).await?;
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(discovery_id = %discovery.id, status = response.status, duration_ms, "page fetched");
    if is_barred(response.status) {
        let message = format!("the site answered {}", response.status);
        return Err(Attempt::Dead { code: format!("http_{}", response.status), message });
    }
    // A hostile page may cost a fifth of a second, or find a panic: neither is the other attempts' business.
    let now = cx.now();
    let read = tokio::task::spawn_blocking(move || read(&discovery, &response, &rules, now)).await;
    match read {
        Ok(result) => Ok(Attempt::Done(serde_json::to_value(result).map_err(|error| {
            Attempt::retry("unreadable_result", format!("the extraction cannot be written as JSON: {error}"))
        })?)),
        Err(_) => Err(Attempt::retry("extraction_panicked", "reading the page panicked; this is a bug")),
    }
}

/// The page is there, but not for callboard; asking again would be impolite. (404 and 410 are read: they say that there
/// is no posting. What may pass is an error of the fetch.)
fn is_barred(status: u16) -> bool {
    (400..500).contains(&status) && status != 404 && status != 410
}

fn read(
    discovery: &DiscoveryWork,
    response: &Response,
    rules: &domain::url::Rules,
    now: Timestamp,
) -> OwnResult {
    let page = Page {
        url: &response.final_url,
        submitted_url: &discovery.normalized_url,
        status: response.status,
        headers: &response.headers,
        content_type: response.content_type.as_deref(),
        body: &response.body,
    };
    let context = ExtractContext {
        now,
        rules,
        hints: (!discovery.hints.is_empty()).then_some(&discovery.hints),
        module_trust: discovery.module.trust_level,
    };
    let extraction = extract(&page, &context);
    let fetched = Fetched::new(response, &page, &extraction, now);
    OwnResult { extraction, fetched }
}

fn deadline(job: &ClaimedJob, now: Timestamp) -> Instant {
    let left = Duration::try_from(job.lease_expires_at.duration_since(now)).unwrap_or_default();
    Instant::now() + left.saturating_sub(APPLY_TIME)
}

fn dead(code: &str, message: &str) -> Attempt {
    Attempt::Dead { code: code.to_owned(), message: message.to_owned() }
}
