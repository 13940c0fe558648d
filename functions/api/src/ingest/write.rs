//! Stores what requests hand in, by the path that everything goes in by ([`kinds::ingest`]), and tells what was refused
//! as problems with pointers into the request.

use crate::app::App;
use crate::auth::machine::Machine;
use crate::front::RequestContext;
use crate::ingest::read::Submitted;
use crate::json::Errors;
use crate::problem::Problem;
use kinds::ingest::{Handing, Intake, ItemError, ingest};
use ledger::JobId;
use store::evidence::{NewEvidence, PER_DISCOVERY_MAX};
use tokio_postgres::Transaction;

pub use kinds::ingest::Written;

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
pub struct Origin<'a> {
    /// The shared state.
    pub app: &'a App,
    /// The module.
    pub machine: &'a Machine,
    /// The request.
    pub context: &'a RequestContext,
}

/// Stores items. The caller counts and commits.
///
/// # Errors
/// What the database refuses; then nothing of the set may be committed.
pub async fn write(origin: &Origin<'_>, tx: &Transaction<'_>, items: &[Item]) -> Result<Outcome, Problem> {
    let machine = origin.machine;
    let (actor, traceparent) = (machine.actor(), origin.context.trace.to_carrier());
    let intake = Intake {
        registry: origin.app.kinds.registry(),
        module: Handing {
            id: machine.db_id(),
            module_id: machine.module_id(),
            trust_level: machine.trust_level(),
            source_keys: machine.source_keys(),
        },
        actor: &actor,
        request_id: Some(&origin.context.request_id),
        traceparent: Some(&traceparent),
        depth: 0,
    };
    let handed: Vec<kinds::ingest::Item<'_>> = items
        .iter()
        .map(|item| kinds::ingest::Item { discovery: &item.submitted.discovery, evidence: &item.evidence })
        .collect();
    let outcome = ingest(tx, &intake, &handed).await?;
    let results = items
        .iter()
        .zip(outcome.results)
        .map(|(item, result)| result.map_err(|refused| problem(&item.submitted.pointer, refused)))
        .collect();
    Ok(Outcome { results, wake: outcome.wake })
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
