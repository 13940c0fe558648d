//! What a fair scheduler makes of a state: sweeps, hints and workers, until nothing is pending.

use crate::interleavings::program::{LEASE, MODULE, enable, kind_of};
use crate::interleavings::snapshot::Table;
use crate::interleavings::world::World;
use jiff::SignedDuration;
use ledger::{
    ClaimedJob, Error, Hint, Scan, fence, job_claim_batch, jobs_claim_external, jobs_complete_batch,
    jobs_mark_ready, jobs_reap,
};
use serde_json::json;
use std::sync::Arc;
use tokio_postgres::Client;

/// Two failures, then those of a rerun, and its own.
const ROUNDS_MAX: usize = 8;

/// What becomes of the attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Each completes.
    Complete,
    /// Each worker dies, and nobody hears of it.
    Die,
}

impl World {
    /// Everybody has died; others go on, by hints alone. Every job comes to its end within a bounded number of sweeps.
    pub(crate) async fn drain(&mut self, fate: Fate) {
        self.abort().await;
        if let Err(error) = self.rounds(fate).await {
            self.history.failed(format!("while all was brought to its end: {error:?}"));
            return;
        }
        self.look().await;
        let pending = self.snapshot.rows.iter().filter(|row| row.table == Table::Pending);
        let left: Vec<String> = pending.map(|row| format!("{row:?}")).collect();
        self.history.stuck(&left);
        self.history.ended();
    }

    async fn rounds(&mut self, fate: Fate) -> Result<(), Error> {
        self.pass(SignedDuration::from_hours(1)).await;
        if !self.snapshot.disabled.is_empty() {
            let client = self.survivor().await;
            enable(&client, &self.registry, true).await?;
        }
        for _ in 0..ROUNDS_MAX {
            self.look().await;
            if self.snapshot.rows.iter().all(|row| row.table != Table::Pending) {
                break;
            }
            let client = self.pass(SignedDuration::from_hours(1)).await;
            client.batch_execute("BEGIN").await?;
            let reaped = jobs_reap(&*client, &self.registry, 100, || 0.0).await?;
            client.batch_execute("COMMIT").await?;
            for transition in &reaped {
                self.history.reaped(transition.id, transition.attempt, self.now);
                self.history.changed(transition, true);
            }
            let client = self.pass(SignedDuration::from_secs(5)).await;
            let marked = jobs_mark_ready(&*client, &Scan::new(), 100).await?;
            let hints: Vec<Hint> = marked.into_iter().map(|marked| marked.hint).collect();
            let mut claimed = job_claim_batch(&*client, &hints, LEASE).await?;
            let kinds = [kind_of('x').to_owned()];
            let scan = Scan::new();
            claimed.extend(
                jobs_claim_external(&*client, &self.registry, &scan, MODULE, &kinds, 100, Some(LEASE))
                    .await?,
            );
            for job in &claimed {
                self.history.claimed(job, self.now);
            }
            if fate == Fate::Complete {
                let attempts: Vec<_> = claimed.iter().map(|job| (job.holder(), json!({}))).collect();
                let batch = jobs_complete_batch(&*client, &attempts).await?;
                for holder in claimed.iter().map(ClaimedJob::holder) {
                    let is_done = !batch.stale.contains(&holder);
                    self.history.judged(&holder, is_done, self.now);
                    if is_done {
                        self.history.completed_in_batch(&holder, self.now);
                    }
                }
            }
        }
        Ok(())
    }

    async fn pass(&mut self, time: SignedDuration) -> Arc<Client> {
        self.pass_to(self.now + time).await;
        self.survivor().await
    }

    /// Everybody is done: of all attempts that ever were, the fence lets in those that live.
    pub(crate) async fn probe(&mut self) {
        let client = self.survivor().await;
        for attempt in self.history.attempts.clone() {
            client.batch_execute("BEGIN").await.unwrap();
            match fence(&*client, &attempt.holder).await {
                Ok(_) => self.history.judged(&attempt.holder, true, self.now),
                Err(Error::Stale) => self.history.judged(&attempt.holder, false, self.now),
                Err(error) => self.history.failed(format!("{error:?}")),
            }
            client.batch_execute("ROLLBACK").await.unwrap();
        }
    }
}
