//! Stores what requests hand in, by the path that everything goes in by ([`kinds::ingest`]), and tells what was refused
//! as problems with pointers into the request.

use crate::app::App;
use crate::auth::machine::Machine;
use crate::front::RequestContext;
use crate::idempotency::Idempotent;
use crate::ingest::read::Submitted;
use crate::json::Errors;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::transact::TRIES;
use domain::state::Actor;
use futures::TryFutureExt as _;
use kinds::ingest::{Handing, Ingest, Intake, ItemError, ingest};
use ledger::JobId;
use store::evidence::{NewEvidence, PER_DISCOVERY_MAX};
use store::ingest_counters::{Counts, Used, ingest_counters_add, ingest_counters_used};
use store::pipelined::Pipelined;
use telemetry::db::GenericClient;
use telemetry::label::IngestOutcome;

pub use kinds::ingest::Written;

/// Discoveries a minute of a module whose configuration names no other number (http-api.md §1, "Limits").
const INGEST_PER_MINUTE_DEFAULT: i64 = 3_000;

/// What is written, with its evidence where that came along.
#[derive(Debug, Clone)]
pub struct Item {
    /// The discovery.
    pub submitted: Submitted,
    /// Evidence of it; its discovery is filled in later.
    pub evidence: Vec<NewEvidence>,
}

/// What a set of discoveries came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// One for each item, in the given order.
    pub results: Vec<Result<Written, Problem>>,
    /// Jobs that are due: to be named in one wake message after the commit.
    pub wake: Vec<JobId>,
}

/// Who hands in, by which request.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// The shared state.
    pub app: &'a App,
    /// The module.
    pub machine: &'a Machine,
    /// The request.
    pub context: &'a RequestContext,
}

impl Origin<'_> {
    fn intake<'i>(&'i self, actor: &'i Actor, traceparent: &'i str) -> Intake<'i> {
        Intake {
            registry: self.app.kinds.registry(),
            module: Handing {
                id: self.machine.db_id(),
                module_id: self.machine.module_id(),
                trust_level: self.machine.trust_level(),
                source_keys: self.machine.source_keys(),
            },
            actor,
            request_id: Some(&self.context.request_id),
            traceparent: Some(traceparent),
            depth: 0,
            quota: Some(quota_of(self.machine)),
        }
    }
}

/// What a request says of its items.
pub trait Request: Sync {
    /// What is counted, by whether each item is new or why it is refused.
    ///
    /// # Errors
    /// If nothing is to be written then.
    fn count(&self, verdicts: &[Result<bool, Problem>]) -> Result<(Counts, Option<&'static str>), Problem>;

    /// The answer.
    ///
    /// # Errors
    /// `internal` if it cannot be written as JSON: a bug.
    fn answer(&self, results: &[Result<Written, Problem>]) -> Result<Reply, Problem>;
}

/// Why a set was not written.
pub enum Failure {
    /// The request is at fault, or the connection, or the whole transaction.
    Request(Problem),
    /// The database refused a write of the set; another item may be the cause.
    Set(Problem),
}

impl From<kinds::ingest::Error> for Failure {
    fn from(error: kinds::ingest::Error) -> Self {
        Self::Set(error.into())
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Request(problem)
    }
}

/// Stores a request's items in one transaction, with its idempotency key and its count, and answers it; runs again if it
/// collided with another (ledger.md, "Order of locks").
///
/// Round trips: two if all items are new. One more for each of: a key, repeats that have to be looked up, references to
/// evidence of which some are refused. A posting that is brought back costs three.
///
/// # Errors
/// [`Failure`]; then nothing is written.
pub async fn write_at_once(
    origin: &Origin<'_>,
    idempotent: &Idempotent,
    items: &[Item],
    request: &impl Request,
) -> Result<(Reply, Outcome), Failure> {
    let mut tries = 1;
    loop {
        match try_write_at_once(origin, idempotent, items, request).await {
            Err(Failure::Request(problem) | Failure::Set(problem))
                if problem.is_collision() && tries < TRIES =>
            {
                tries += 1;
            }
            Err(Failure::Set(problem)) if problem.kind().status == 503 => {
                return Err(Failure::Request(problem));
            }
            other => return other,
        }
    }
}

async fn try_write_at_once(
    origin: &Origin<'_>,
    idempotent: &Idempotent,
    items: &[Item],
    request: &impl Request,
) -> Result<(Reply, Outcome), Failure> {
    let (actor, traceparent) = (origin.machine.actor(), origin.context.trace.to_carrier());
    let intake = origin.intake(&actor, &traceparent);
    let handed = handed(items);
    let mut ingest = Ingest::new(&intake, &handed);
    let mut client = origin.app.pool.get().await.map_err(Problem::from)?;
    let pipelined = Pipelined::on(&mut client);
    let tx = &pipelined.tx();
    let machine = origin.machine;

    // Judged in the order in which they were sent: after one that failed the server refuses the others, and a known answer
    // is given again whatever the quota says.
    let (begun, known, used, refused, marked, taken) = tokio::join!(
        biased;
        pipelined.begin(),
        idempotent.begin(tx),
        ingest_counters_used(tx, machine.db_id()),
        ingest.check_evidence(tx),
        async {
            if ingest.refers_to_evidence() { pipelined.mark().await } else { Ok(()) }
        },
        ingest.take_in(tx),
    );
    begun.map_err(Problem::from)?;
    if let Some(known) = known? {
        return Ok((known, Outcome::default()));
    }
    judge_quota(machine, used.map_err(Problem::from)?, items.len())?;
    let refused = refused?;
    marked.map_err(Problem::from)?;
    let mut taken = taken?;
    if !refused.is_empty() {
        // What is refused for its references must not be inserted, and what doubles it may be.
        ingest.refuse(refused);
        let (back, again) = tokio::join!(biased; pipelined.back_to_mark(), ingest.take_in(tx));
        back.map_err(Problem::from)?;
        taken = again?;
    }

    let looked_up = ingest.look_up(tx, taken).await?;
    let verdicts: Vec<Result<bool, Problem>> = looked_up
        .verdicts()
        .zip(items)
        .map(|(verdict, item)| verdict.map_err(|refused| problem(&item.submitted.pointer, refused.clone())))
        .collect();
    let (counts, last_error) = request.count(&verdicts)?;
    let count = || {
        ingest_counters_add(tx, machine.db_id(), counts, last_error)
            .map_err(|error| Failure::Request(error.into()))
    };
    let commit = || pipelined.commit().map_err(|error| Failure::Request(error.into()));
    // The module's counter is what its requests wait for one another at: it is the last that is written.
    if idempotent.has_key() {
        let outcome = outcome_of(items, looked_up.write(tx).await?);
        let reply = request.answer(&outcome.results)?;
        tokio::try_join!(biased; idempotent.store(tx, &reply).map_err(Failure::Request), count(), commit())?;
        measure(counts);
        Ok((reply, outcome))
    } else {
        let (written, (), ()) =
            tokio::try_join!(biased; looked_up.write(tx).map_err(Failure::from), count(), commit())?;
        measure(counts);
        let outcome = outcome_of(items, written);
        Ok((request.answer(&outcome.results)?, outcome))
    }
}

/// Adds what was counted to the metric.
pub fn measure(counts: Counts) {
    for (count, outcome) in [
        (counts.accepted, IngestOutcome::Accepted),
        (counts.resighted, IngestOutcome::Resighted),
        (counts.rejected, IngestOutcome::Refused),
    ] {
        telemetry::metric::DISCOVERIES.add(u64::from(count.unsigned_abs()), outcome);
    }
}

/// Stores items in a transaction that has begun. The caller counts and commits.
///
/// # Errors
/// What the database refuses; then nothing of the set may be committed.
pub async fn write(origin: &Origin<'_>, tx: &impl GenericClient, items: &[Item]) -> Result<Outcome, Problem> {
    let (actor, traceparent) = (origin.machine.actor(), origin.context.trace.to_carrier());
    let intake = origin.intake(&actor, &traceparent);
    Ok(outcome_of(items, ingest(tx, &intake, &handed(items)).await?))
}

/// Whether the module may hand in that many more in this minute.
///
/// # Errors
/// `rate-limited`.
pub async fn check_quota(tx: &impl GenericClient, machine: &Machine, wanted: usize) -> Result<(), Problem> {
    judge_quota(machine, ingest_counters_used(tx, machine.db_id()).await?, wanted)
}

fn judge_quota(machine: &Machine, used: Used, wanted: usize) -> Result<(), Problem> {
    let quota = quota_of(machine);
    let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
    if used.discoveries.saturating_add(wanted) <= quota {
        return Ok(());
    }
    let detail = format!("This module may hand in {quota} discoveries a minute.");
    Err(Problem::rate_limited(&detail, used.next_minute_s.unsigned_abs()))
}

fn quota_of(machine: &Machine) -> i64 {
    machine.ingest_per_minute().unwrap_or(INGEST_PER_MINUTE_DEFAULT)
}

fn handed(items: &[Item]) -> Vec<kinds::ingest::Item<'_>> {
    items
        .iter()
        .map(|item| kinds::ingest::Item { discovery: &item.submitted.discovery, evidence: &item.evidence })
        .collect()
}

fn outcome_of(items: &[Item], outcome: kinds::ingest::Outcome) -> Outcome {
    let results = items
        .iter()
        .zip(outcome.results)
        .map(|(item, result)| result.map_err(|refused| problem(&item.submitted.pointer, refused)))
        .collect();
    Outcome { results, wake: outcome.wake }
}

fn problem(pointer: &str, refused: ItemError) -> Problem {
    match refused {
        ItemError::NotAttachable(places) => {
            let mut errors = Errors::default();
            for index in places {
                let pointer = format!("{pointer}/evidence_refs/{index}");
                errors.add(pointer, "not_attachable", "This is no unattached evidence of yours.");
            }
            match errors.check(None::<()>) {
                Err(problem) => problem,
                Ok(()) => Problem::internal(&"an item was refused without a reason"),
            }
        }
        ItemError::TooMuchEvidence => {
            let detail = format!("A discovery has at most {PER_DISCOVERY_MAX} pieces of evidence.");
            Problem::invalid(format!("{pointer}/evidence_refs"), "limit", detail)
        }
    }
}
