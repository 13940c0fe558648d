//! The fenced job ledger over PostgreSQL, and its SQS hints (`spec/ledger.md`).
//!
//! The ledger is the truth about what is to be done; an SQS message is only a hint that something may be ready. It
//! knows nothing of postings: a kind names its target, and the caller brings effects and transaction.
//!
//! Where to start: [`enqueue::job_enqueue`] puts work in; [`claim::job_claim_batch`] takes it; every write of a holder
//! begins with [`fence::fence`], which yields the [`FencedJob`] that [`settle`]'s functions take; [`reap::jobs_reap`]
//! returns what a dead worker held. Functions that end or return a job answer a [`Transition`]: the event to record
//! and, where the job is over, the [`TerminalJob`] whose kind's terminal effect belongs into the same transaction.
//!
//! Rules that hold everywhere here:
//! - Statements are typed and unnamed (`query_typed`): they survive a transaction pooler. Each stands in [`statements`].
//!   The hot ones call functions of the database (`migrations/`, `ledger_*`), which a connection plans only once.
//! - No session state: no `SET`, no session locks, no `LISTEN`.
//! - Nothing that claim, heartbeat or hint writes stands in an index, so that these updates stay HOT.
//! - Instants are the database's. The caller's clock is used for nothing but lengths.

pub mod admin;
pub mod claim;
pub mod enqueue;
pub mod error;
pub mod fence;
pub mod hints;
pub mod kind_rows;
pub mod observe;
pub mod policy;
pub mod read;
pub mod reap;
pub mod retention;
mod row;
pub mod scan;
pub mod settle;
pub mod sqs;
mod turn;
pub mod types;

pub use admin::{
    DeadFilter, Requeued, job_cancel, job_requeue, job_retry_now, jobs_cancel_for_target, jobs_requeue_dead,
    module_leases_end,
};
pub use claim::{
    ClaimedJob, NotClaimed, job_claim_batch, job_claim_external, jobs_claim_external, jobs_list_claimable,
};
pub use enqueue::{Enqueued, NewJob, job_enqueue};
pub use error::Error;
pub use fence::{FencedJob, Holder, fence, job_heartbeat};
pub use hints::{Hint, MarkedJob, Wake, jobs_mark_by_id, jobs_mark_ready, jobs_unmark, jobs_unmark_by_id};
pub use kind_rows::{KindRow, KindSettings, job_kind_put, job_kinds_list};
pub use observe::{Observed, jobs_observe};
pub use policy::{Backoff, KindPolicy, Registry, RegistryError};
pub use read::{
    JobFilter, JobRecord, JobStats, Replay, job_find, job_pending_find, job_replay, job_stats, jobs_list,
};
pub use reap::jobs_reap;
pub use retention::{dead_jobs_purge, partitions_drop, partitions_ensure};
pub use scan::Scan;
pub use settle::{
    BatchCompleted, Failure, Report, job_complete, job_defer, job_fail, job_release, jobs_complete_batch,
};
pub use types::{JobEvent, JobEventType, JobId, JobStatus, Route, TerminalJob, Transition};

use tokio_postgres::types::Type;

/// A named statement with the types of its parameters.
#[derive(Debug, Clone, Copy)]
pub struct Statement {
    /// The name of the function that runs it.
    pub name: &'static str,
    /// Its text.
    pub sql: &'static str,
    /// The types of `$1…`.
    pub types: &'static [Type],
}

/// Every statement of this crate, for the test that prepares each one and for the migration gate.
#[must_use]
pub fn statements() -> Vec<Statement> {
    let lists: &[&[Statement]] = &[
        admin::STATEMENTS,
        claim::STATEMENTS,
        enqueue::STATEMENTS,
        fence::STATEMENTS,
        hints::STATEMENTS,
        kind_rows::STATEMENTS,
        observe::STATEMENTS,
        read::STATEMENTS,
        reap::STATEMENTS,
        retention::STATEMENTS,
        settle::STATEMENTS,
    ];
    lists.concat()
}
