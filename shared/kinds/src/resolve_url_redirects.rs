//! `resolve_url_redirects`: follow a discovery's address to its end without reading the page (§7.2).
//!
//! It runs for a repeat with another URL (`inputs.url`: an alias, if it ends at the same page), where extract is external,
//! or because the discovery's metadata asks for it.

use crate::record::{Recorder, name};
use crate::redirects::{Chain, aliases, follow};
use crate::{Applied, ApplyError, Attempt, Context, Handler, Kind, ResultOrigin, rules};
use domain::ids::DiscoveryId;
use domain::posting::FieldError;
use domain::redirects::{ChainEnd, judge};
use domain::state::{DiscoveryStatus, Resolution, TrustLevel, UrlRole};
use domain::url::{NormalizedUrl, Rules, UrlHash, normalize};
use fetch::{FetchError, Request, RequestKind};
use futures::FutureExt;
use futures::future::BoxFuture;
use ledger::{ClaimedJob, FencedJob, KindPolicy, Route, TerminalJob};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use store::candidates::links::{CandidateUrl, candidate_urls_add};
use store::candidates::{candidate_find, candidate_of_discovery};
use store::discovery_jobs::{DiscoveryWork, discovery_work_find, discovery_work_lock};
use store::pipelined::Tx;

/// The kind's name in the ledger.
pub const KIND: &str = "resolve_url_redirects";

/// What a lease keeps back for writing the result.
const APPLY_TIME: Duration = Duration::from_secs(2);
/// Hops that a result may tell of (http-api §5).
const HOPS_MAX: usize = 10;
/// `domain.md` §7.1.
const URL_CHARS_MAX: usize = 2_048;

/// The kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResolveUrlRedirects;

/// The members of a processor's result (http-api §5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolved {
    final_url: String,
    hops: Vec<Hop>,
    final_status: u16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hop {
    url: String,
    status: u16,
}

/// The worker's own result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OwnResult {
    /// The chain ended.
    Ended {
        #[serde(flatten)]
        resolved: Resolved,
        downgraded: bool,
    },
    /// It may not be followed, or leads nowhere.
    Skipped { resolution: Resolution, code: String },
}

impl Kind for ResolveUrlRedirects {
    fn policy(&self) -> KindPolicy {
        KindPolicy {
            kind: KIND,
            route: Route::Internal,
            max_failures: 5,
            lease: Duration::from_secs(120),
            base: Duration::from_secs(30),
            cap: Duration::from_secs(3600),
            priority: 12,
        }
    }

    /// Nothing: an address that was not resolved is as good as before.
    fn on_terminal<'a>(
        &'a self,
        _tx: &'a Tx<'a>,
        _job: &'a TerminalJob,
    ) -> BoxFuture<'a, Result<(), store::Error>> {
        async { Ok(()) }.boxed()
    }
}

impl Handler for ResolveUrlRedirects {
    fn run<'a>(&'a self, cx: &'a Context, job: &'a ClaimedJob) -> BoxFuture<'a, Attempt> {
        async move { run(cx, job).await.unwrap_or_else(|attempt| attempt) }.boxed()
    }

    fn apply<'a>(
        &'a self,
        cx: &'a Context,
        tx: &'a Tx<'a>,
        job: &'a FencedJob,
        result: Value,
        by: &'a ResultOrigin,
    ) -> BoxFuture<'a, Result<Applied, ApplyError>> {
        apply(cx, tx, job, result, by).boxed()
    }
}

/// The address that a job is about: that of its inputs, else its discovery's.
fn address<'a>(inputs: &'a Value, discovery: &'a DiscoveryWork) -> &'a str {
    inputs.get("url").and_then(Value::as_str).unwrap_or(&discovery.normalized_url)
}

async fn run(cx: &Context, job: &ClaimedJob) -> Result<Attempt, Attempt> {
    let dead = |code: &str, message: &str| Attempt::Dead { code: code.into(), message: message.into() };
    let discovery = {
        let client = cx.pool.get().await?;
        discovery_work_find(&**client, DiscoveryId(job.target_id))
            .await?
            .ok_or_else(|| dead("no_such_discovery", "the discovery of this job does not exist"))?
    };
    let left = Duration::try_from(job.lease_expires_at.duration_since(cx.now())).unwrap_or_default();
    let request = Request {
        job: Some(job.id.0),
        deadline: Some(Instant::now() + left.saturating_sub(APPLY_TIME)),
        ..Request::new(address(&job.inputs, &discovery), RequestKind::Resolve)
    };
    let result = match cx.fetcher.get(&request).await {
        Ok(response) => OwnResult::Ended {
            resolved: Resolved {
                final_url: response.final_url,
                hops: response.hops.into_iter().map(|hop| Hop { url: hop.url, status: hop.status }).collect(),
                final_status: response.status,
            },
            downgraded: response.downgraded,
        },
        Err(error) => {
            let resolution = match error {
                FetchError::Refused { .. } | FetchError::RobotsDisallowed => Resolution::SkippedRefused,
                FetchError::Redirects { .. }
                | FetchError::TooLarge { .. }
                | FetchError::UnsupportedEncoding => Resolution::SkippedNotFinal,
                FetchError::Wait { .. } | FetchError::Transient { .. } => return Err(error.into()),
            };
            OwnResult::Skipped { resolution, code: error.code().to_owned() }
        }
    };
    serde_json::to_value(result)
        .map(Attempt::Done)
        .map_err(|error| Attempt::retry("unreadable_result", error.to_string()))
}

async fn apply(
    cx: &Context,
    tx: &Tx<'_>,
    job: &FencedJob,
    result: Value,
    by: &ResultOrigin,
) -> Result<Applied, ApplyError> {
    let result = read(result, by)?;
    let Some(discovery) = discovery_work_lock(tx, DiscoveryId(job.target_id)).await? else {
        return Err(ApplyError::Refused {
            code: "apply_failed",
            message: "the discovery of this job does not exist".into(),
        });
    };
    let answer =
        |resolution: Resolution| Applied { outcome: json!({"resolution": resolution}), ..Applied::default() };
    if discovery.status == DiscoveryStatus::Withdrawn {
        return Ok(answer(Resolution::Unchanged));
    }
    let mut recorder = Recorder::of_job(by.actor(KIND), job.trace_context.as_deref());
    let resolution = match result {
        OwnResult::Skipped { resolution, code } => {
            let payload = json!({"resolution": resolution, "code": code});
            recorder.discovery(discovery.id, name::REDIRECT_RESOLVED, payload);
            resolution
        }
        OwnResult::Ended { resolved, downgraded } => {
            let rules = rules::load(tx).await?;
            let asked =
                normalize(address(&job.inputs, &discovery), &rules).map_err(|error| ApplyError::Refused {
                    code: "apply_failed",
                    message: format!("the address of this job has no normal form: {error}"),
                })?;
            let hops: Vec<String> = resolved.hops.into_iter().map(|hop| hop.url).collect();
            let chain = Chain {
                asked: &asked,
                hops: &hops,
                end: &resolved.final_url,
                status: resolved.final_status,
                downgraded,
            };
            if asked.hash().0 == discovery.canonical_hash {
                own_address(cx, tx, &mut recorder, &rules, &discovery, &chain).await?
            } else {
                other_address(tx, &mut recorder, &rules, &discovery, &chain).await?
            }
        }
    };
    recorder.flush(tx).await?;
    Ok(answer(resolution))
}

/// The discovery's own address: the rule of §7.2.
async fn own_address(
    cx: &Context,
    tx: &Tx<'_>,
    recorder: &mut Recorder,
    rules: &Rules,
    discovery: &DiscoveryWork,
    chain: &Chain<'_>,
) -> Result<Resolution, store::Error> {
    let followed = follow(tx, recorder, rules, discovery, chain, cx.now()).await?;
    let candidate = candidate_of_discovery(tx, discovery.id).await?;
    if let (Some(candidate), Resolution::Applied | Resolution::Unchanged) = (candidate, followed.resolution) {
        candidate_urls_add(tx, candidate.candidate_id, &followed.aliases).await?;
    }
    Ok(followed.resolution)
}

/// An address that a repeat came with: another name of the page if it ends there, else nothing.
async fn other_address(
    tx: &Tx<'_>,
    recorder: &mut Recorder,
    rules: &Rules,
    discovery: &DiscoveryWork,
    chain: &Chain<'_>,
) -> Result<Resolution, store::Error> {
    let end = match judge(chain.asked, chain.end, chain.status, chain.downgraded, rules) {
        ChainEnd::Moved(end) => end,
        ChainEnd::Unchanged => chain.asked.clone(),
        ChainEnd::NotFinal(_) => {
            record_alias(recorder, discovery, chain, Resolution::SkippedNotFinal, None);
            return Ok(Resolution::SkippedNotFinal);
        }
    };
    let UrlHash(hash) = end.hash();
    let candidate = match candidate_of_discovery(tx, discovery.id).await? {
        Some(found) => candidate_find(tx, found.candidate_id).await?,
        None => None,
    };
    let is_same_page = hash == discovery.canonical_hash
        || discovery.resolved_canonical_hash == Some(hash)
        || candidate.as_ref().is_some_and(|candidate| candidate.content.canonical_hash == hash);
    let resolution = if is_same_page { Resolution::Applied } else { Resolution::Unchanged };
    if let (Some(candidate), true) = (&candidate, is_same_page) {
        let mut urls = aliases(chain, rules);
        urls.push(alias(chain.asked));
        candidate_urls_add(tx, candidate.id, &urls).await?;
    }
    record_alias(recorder, discovery, chain, resolution, Some(&end));
    Ok(resolution)
}

fn alias(url: &NormalizedUrl) -> CandidateUrl {
    let UrlHash(hash) = url.hash();
    CandidateUrl { hash, normalized_url: url.as_str().to_owned(), role: UrlRole::Resolved }
}

fn record_alias(
    recorder: &mut Recorder,
    discovery: &DiscoveryWork,
    chain: &Chain<'_>,
    resolution: Resolution,
    end: Option<&NormalizedUrl>,
) {
    recorder.discovery(
        discovery.id,
        name::REDIRECT_RESOLVED,
        json!({
            "resolution": resolution,
            "alias": chain.asked,
            "status": chain.status,
            "hops": chain.hops.len(),
            "resolved_normalized_url": end,
        }),
    );
}

/// Reads a result by the rules of its origin. A processor's is accepted from trusted ones only (http-api §5).
fn read(result: Value, by: &ResultOrigin) -> Result<OwnResult, ApplyError> {
    let invalid = |pointer: &str, code: &'static str, detail: String| {
        ApplyError::Invalid(vec![FieldError { pointer: pointer.to_owned(), code, detail }])
    };
    match by {
        ResultOrigin::Worker => {
            serde_json::from_value(result).map_err(|error| invalid("", "invalid_type", error.to_string()))
        }
        ResultOrigin::Module { trust_level, .. } if *trust_level != TrustLevel::Trusted => {
            Err(invalid("", "not_allowed", "only a trusted processor may resolve addresses".into()))
        }
        ResultOrigin::Module { .. } => {
            let resolved: Resolved = serde_json::from_value(result)
                .map_err(|error| invalid("", "invalid_type", error.to_string()))?;
            if resolved.hops.len() > HOPS_MAX {
                return Err(invalid("/hops", "too_many", format!("at most {HOPS_MAX} hops")));
            }
            let is_long = |url: &str| url.chars().count() > URL_CHARS_MAX;
            if is_long(&resolved.final_url) || resolved.hops.iter().any(|hop| is_long(&hop.url)) {
                let detail = format!("an address has at most {URL_CHARS_MAX} characters");
                return Err(invalid("/final_url", "too_long", detail));
            }
            if !(100..600).contains(&resolved.final_status) {
                return Err(invalid("/final_status", "invalid_value", "is no HTTP status".into()));
            }
            let downgraded = is_downgrade(&resolved);
            Ok(OwnResult::Ended { resolved, downgraded })
        }
    }
}

/// Whether https led to http anywhere in a chain that a processor tells of.
fn is_downgrade(resolved: &Resolved) -> bool {
    let urls: Vec<&str> =
        resolved.hops.iter().map(|hop| hop.url.as_str()).chain([resolved.final_url.as_str()]).collect();
    let is_secure = |url: &str| url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
    urls.windows(2).any(|pair| is_secure(pair[0]) && !is_secure(pair[1]))
}
