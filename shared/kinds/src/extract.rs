//! `extract`: fetch a discovery's page, read it, and make what was read a candidate and, where the policy allows, a
//! posting (§8, §5's pipeline).
//!
//! [`run`] does the I/O, [`apply`] the writes. What the two hand over is [`result::Report`]; a processor's result has the
//! extraction's members alone.

mod apply;
mod fetched;
mod listing;
mod reading;
mod result;
mod run;

use crate::record::{Recorder, name};
use crate::{Applied, ApplyError, Attempt, Context, Handler, Kind, ResultOrigin};
use domain::ids::DiscoveryId;
use domain::state::{Actor, By, DiscoveryStatus, MachineCause, Transition, discovery_transition};
use futures::FutureExt;
use futures::future::BoxFuture;
use ledger::{ClaimedJob, FencedJob, KindPolicy, Route, TerminalJob};
use serde_json::{Value, json};
use std::time::Duration;
use store::discovery_jobs::{DiscoveryWork, discovery_status_set, discovery_work_lock};
use store::pipelined::Tx;

/// The kind's name in the ledger.
pub const KIND: &str = crate::ingest::EXTRACT;

/// The kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extract;

impl Kind for Extract {
    fn policy(&self) -> KindPolicy {
        KindPolicy {
            kind: KIND,
            route: Route::Internal,
            max_failures: 5,
            lease: Duration::from_secs(120),
            base: Duration::from_secs(30),
            cap: Duration::from_secs(3600),
            priority: 10,
        }
    }

    fn on_terminal<'a>(
        &'a self,
        tx: &'a Tx<'a>,
        job: &'a TerminalJob,
    ) -> BoxFuture<'a, Result<(), store::Error>> {
        async move {
            let Some(discovery) = discovery_work_lock(tx, DiscoveryId(job.target_id)).await? else {
                return Ok(());
            };
            let mut recorder = Recorder::of_job(Actor::machine(KIND), job.trace_context.as_deref());
            set_status(tx, &mut recorder, &discovery, DiscoveryStatus::Failed, Some(&job.code)).await?;
            recorder.flush(tx).await
        }
        .boxed()
    }
}

impl Handler for Extract {
    fn run<'a>(&'a self, cx: &'a Context, job: &'a ClaimedJob) -> BoxFuture<'a, Attempt> {
        async move { run::run(cx, job).await.unwrap_or_else(|attempt| attempt) }.boxed()
    }

    fn apply<'a>(
        &'a self,
        cx: &'a Context,
        tx: &'a Tx<'a>,
        job: &'a FencedJob,
        result: Value,
        by: &'a ResultOrigin,
    ) -> BoxFuture<'a, Result<Applied, ApplyError>> {
        apply::apply(cx, tx, job, result, by).boxed()
    }
}

/// Moves a locked discovery where §4 allows it; elsewhere it stays (an extraction that is run again changes nothing about
/// a discovery that was read before). The event is recorded at once, the statement is sent when the answer is polled.
fn set_status<'a>(
    tx: &'a Tx<'a>,
    recorder: &mut Recorder,
    discovery: &'a DiscoveryWork,
    to: DiscoveryStatus,
    reason: Option<&'a str>,
) -> impl Future<Output = Result<(), store::Error>> + Send + use<'a> {
    let by = By::Machine(MachineCause::Pipeline);
    let is_allowed = matches!(discovery_transition(discovery.status, to, by), Ok(Transition::Steps(_)));
    if is_allowed {
        let payload = json!({"from": discovery.status, "to": to, "reason": reason});
        recorder.discovery(discovery.id, name::STATUS_CHANGED, payload);
    }
    async move { if is_allowed { discovery_status_set(tx, discovery.id, to, reason).await } else { Ok(()) } }
}
