//! What an actor does: a short program of the ledger's operations, each of which others may come between.

use jiff::Timestamp;
use ledger::{
    BatchCompleted, ClaimedJob, Enqueued, Error, Failure, FencedJob, Hint, Holder, JobId, KindPolicy,
    KindSettings, MarkedJob, NewJob, Registry, Route, Scan, Transition, fence, job_cancel, job_claim_batch,
    job_complete, job_enqueue, job_fail, job_heartbeat, job_kind_put, job_release, job_requeue,
    job_retry_now, jobs_claim_external, jobs_complete_batch, jobs_mark_by_id, jobs_mark_ready, jobs_reap,
    jobs_unmark, module_leases_end,
};
use serde_json::json;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// A target with at most one pending job: `a`, `b` of an internal kind, `x` of an external one.
pub(crate) type Key = char;

pub(crate) const TARGET_TYPE: &str = "thing";
const INTERNAL: &str = "work";
const EXTERNAL: &str = "report";
/// The module that claims over HTTP.
pub(crate) const MODULE: Uuid = Uuid::from_u128(7);
/// Lease of every claim by hints.
pub(crate) const LEASE: Duration = Duration::from_secs(55);

pub(crate) fn kind_of(key: Key) -> &'static str {
    if key == 'x' { EXTERNAL } else { INTERNAL }
}

pub(crate) fn target_of(key: Key) -> Uuid {
    Uuid::from_u128(u128::from(u32::from(key)))
}

pub(crate) fn key_of(target: Uuid) -> Key {
    u32::try_from(target.as_u128()).ok().and_then(char::from_u32).unwrap()
}

/// Two failures end a job, and every backoff is one second.
pub(crate) fn registry() -> Registry {
    let work = KindPolicy {
        kind: INTERNAL,
        route: Route::Internal,
        max_failures: 2,
        lease: Duration::from_secs(120),
        base: Duration::from_secs(1),
        cap: Duration::from_secs(1),
        priority: 10,
    };
    Registry::new([work, KindPolicy { kind: EXTERNAL, route: Route::External, ..work }]).unwrap()
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Writes its effect, and completes.
    Complete,
    Fail,
    FailForGood,
    Release,
}

/// A step. What opens a transaction leaves it open: [`Op::Commit`] is a step of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// Claims by every hint that could ever have been sent for these keys, in this order.
    Claim(&'static [Key]),
    /// Claims by every hint that dispatch sent, late and doubled ones among them.
    ClaimSent,
    ClaimOutside,
    Heartbeat,
    /// Opens the transaction of the first job in hand.
    Fence,
    Settle(End),
    /// All jobs in hand, in reverse order, each row fenced by itself.
    CompleteBatch,
    /// Opens a transaction, as all of the following do.
    Reap,
    Enqueue(&'static [Key]),
    Cancel(Key),
    Requeue(Key),
    RetryNow(Key),
    EndLeases,
    Enable(bool),
    MarkReady,
    MarkById(&'static [Key]),
    /// Takes the marks back, as if SQS had refused the messages.
    Unmark,
    Commit,
    /// What was marked is in the queue.
    Send,
    /// Time passes, for everybody.
    Pass(i64),
}

/// An actor's steps. From `again` on they are repeated while it has jobs in hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) ops: &'static [Op],
    pub(crate) again: Option<usize>,
}

/// A step with what it works on.
#[derive(Debug)]
pub(crate) enum Call {
    Claim(Vec<Hint>),
    ClaimOutside,
    Heartbeat(Holder),
    Fence(Holder),
    Settle(Box<FencedJob>, End),
    CompleteBatch(Vec<Holder>),
    Reap,
    Enqueue(&'static [Key]),
    Cancel(JobId),
    Requeue(JobId),
    RetryNow(JobId),
    EndLeases,
    Enable(bool),
    MarkReady,
    MarkById(Vec<JobId>),
    Unmark(Vec<Hint>),
    Commit,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Claimed(Vec<ClaimedJob>),
    /// `None`: stale.
    Heartbeat(Holder, Option<Timestamp>),
    /// `None`: stale, and the transaction is rolled back.
    Fenced(Holder, Option<Box<FencedJob>>),
    Batch(BatchCompleted),
    /// In the open transaction.
    Changed(Vec<Transition>),
    /// In the open transaction: these keys have a pending job that will run.
    Enqueued(&'static [Key], Vec<Enqueued>),
    /// In the open transaction.
    Marked(Vec<Hint>),
    /// In the open transaction, nothing that a check needs.
    Opened,
    /// Nothing to do, or a transition that the job's state does not allow; the transaction is rolled back.
    Refused,
    Committed,
}

fn opens(call: &Call) -> bool {
    !matches!(
        call,
        Call::Claim(_)
            | Call::ClaimOutside
            | Call::Heartbeat(_)
            | Call::Settle(..)
            | Call::CompleteBatch(_)
            | Call::Commit
    )
}

/// Runs a step. `at`: the session's `now()`, if it is to be set.
///
/// # Errors
/// What the ledger did not expect; a transaction that was open is rolled back.
pub(crate) async fn run(
    client: &Client,
    registry: &Registry,
    at: Option<Timestamp>,
    call: Call,
) -> Result<Outcome, Error> {
    let mut begin = String::new();
    if opens(&call) {
        begin.push_str("BEGIN;");
    }
    if let Some(at) = at {
        begin.push_str(&format!("SELECT set_config('clock.at', '{at}', false)"));
    }
    if !begin.is_empty() {
        client.batch_execute(&begin).await?;
    }
    let outcome = call_ledger(client, registry, call).await;
    if matches!(outcome, Err(_) | Ok(Outcome::Fenced(_, None) | Outcome::Refused)) {
        client.batch_execute("ROLLBACK").await?;
    }
    outcome
}

async fn call_ledger(client: &Client, registry: &Registry, call: Call) -> Result<Outcome, Error> {
    Ok(match call {
        Call::Claim(hints) => Outcome::Claimed(job_claim_batch(client, &hints, LEASE).await?),
        Call::ClaimOutside => {
            let kinds = [EXTERNAL.to_owned()];
            let scan = Scan::new();
            Outcome::Claimed(
                jobs_claim_external(client, registry, &scan, MODULE, &kinds, 10, Some(LEASE)).await?,
            )
        }
        Call::Heartbeat(holder) => match job_heartbeat(client, &holder, LEASE).await {
            Err(Error::Stale) => Outcome::Heartbeat(holder, None),
            answer => Outcome::Heartbeat(holder, Some(answer?)),
        },
        Call::Fence(holder) => match fence(client, &holder).await {
            Err(Error::Stale) => Outcome::Fenced(holder, None),
            answer => Outcome::Fenced(holder, Some(Box::new(answer?))),
        },
        Call::Settle(job, end) => Outcome::Changed(vec![settle(client, registry, &job, end).await?]),
        Call::CompleteBatch(holders) => {
            let attempts: Vec<_> = holders.into_iter().map(|holder| (holder, json!({}))).collect();
            Outcome::Batch(jobs_complete_batch(client, &attempts).await?)
        }
        Call::Reap => changed(jobs_reap(client, registry, 10, || 0.0).await?),
        Call::Enqueue(keys) => {
            let jobs: Vec<_> = keys.iter().map(|key| new_job(*key)).collect();
            Outcome::Enqueued(keys, job_enqueue(client, registry, &jobs).await?)
        }
        Call::Cancel(id) => asked(job_cancel(client, id, "not wanted").await)?,
        Call::Requeue(id) => asked(job_requeue(client, id).await)?,
        Call::RetryNow(id) => asked(job_retry_now(client, id).await)?,
        Call::EndLeases => Outcome::Changed(module_leases_end(client, registry, MODULE).await?),
        Call::Enable(enabled) => {
            enable(client, registry, enabled).await?;
            Outcome::Opened
        }
        Call::MarkReady => marked(&jobs_mark_ready(client, &Scan::new(), 10).await?),
        Call::MarkById(ids) => marked(&jobs_mark_by_id(client, &ids).await?),
        Call::Unmark(hints) => {
            jobs_unmark(client, &hints).await?;
            Outcome::Opened
        }
        Call::Commit => {
            client.batch_execute("COMMIT").await?;
            Outcome::Committed
        }
    })
}

/// Without a row there is no lock, and nothing to commit.
fn changed(transitions: Vec<Transition>) -> Outcome {
    if transitions.is_empty() { Outcome::Refused } else { Outcome::Changed(transitions) }
}

fn marked(jobs: &[MarkedJob]) -> Outcome {
    if jobs.is_empty() {
        return Outcome::Refused;
    }
    Outcome::Marked(jobs.iter().map(|job| job.hint).collect())
}

/// What an admin asked for, and the job's state may forbid.
fn asked(answer: Result<Transition, Error>) -> Result<Outcome, Error> {
    match answer {
        Ok(transition) => Ok(Outcome::Changed(vec![transition])),
        Err(Error::NotFound | Error::InvalidTransition { .. } | Error::PendingJobExists { .. }) => {
            Ok(Outcome::Refused)
        }
        // The target's pending job ended between two looks; a deadlock is told by the server.
        Err(Error::Collision { detail }) if !detail.contains("deadlock") => Ok(Outcome::Refused),
        Err(error) => Err(error),
    }
}

async fn settle(
    client: &Client,
    registry: &Registry,
    job: &FencedJob,
    end: End,
) -> Result<Transition, Error> {
    let failure = |permanent| Failure {
        code: "busy".into(),
        message: "it did not work".into(),
        permanent,
        retry_after: None,
    };
    match end {
        End::Complete => {
            let effect = "INSERT INTO effects (job_id, attempt) VALUES ($1, $2)";
            client.execute_typed(effect, &[(&job.id.0, Type::UUID), (&job.attempt, Type::INT4)]).await?;
            job_complete(client, job, &json!({}), None).await
        }
        End::Fail => job_fail(client, job, &failure(false), None, registry, 0.0).await,
        End::FailForGood => job_fail(client, job, &failure(true), None, registry, 0.0).await,
        End::Release => job_release(client, job, None, registry, 0.0).await,
    }
}

pub(crate) async fn enable(client: &Client, registry: &Registry, enabled: bool) -> Result<(), Error> {
    let settings = KindSettings {
        route: Route::Internal,
        enabled,
        max_failures: 2,
        lease_seconds: 120,
        base_seconds: 1,
        cap_seconds: 1,
    };
    job_kind_put(client, registry, INTERNAL, &settings).await.map(drop)
}

pub(crate) fn new_job(key: Key) -> NewJob<'static> {
    NewJob {
        kind: kind_of(key),
        target_type: TARGET_TYPE,
        target_id: target_of(key),
        inputs: json!({}),
        priority: None,
        run_at: None,
        trace_context: None,
    }
}
