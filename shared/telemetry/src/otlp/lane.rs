//! One signal on its way: its queue, the batch that failed, and what became of everything.

use super::client::{Client, Head};
use super::{Totals, Wanted};
use crate::env::{Queue, Signal};
use crate::flush;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// An encoded request.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) body: Bytes,
    pub(super) items: u64,
}

/// How a flush of one signal went.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Drained {
    /// Requests that the collector answered.
    pub(super) requests: u64,
    pub(super) sent: u64,
    pub(super) dropped: u64,
    /// Why it ended before everything was sent.
    pub(super) failure: Option<String>,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    /// Encoded and not taken yet. It goes first.
    kept: Option<Batch>,
    totals: Totals,
    /// Dropped since a flush last told so.
    untold: u64,
    flushed_at: Option<SystemTime>,
}

#[derive(Debug)]
pub(super) struct Lane<T> {
    signal: Signal,
    client: Client,
    bounds: Queue,
    state: Mutex<State<T>>,
}

impl<T> Lane<T> {
    pub(super) fn new(signal: Signal, client: Client, bounds: Queue) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            kept: None,
            totals: Totals::default(),
            untold: 0,
            flushed_at: None,
        };
        Self { signal, client, bounds, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this signal is to be sent now; if so, that is noted.
    pub(super) fn is_due(&self, wanted: Wanted) -> bool {
        let now = SystemTime::now();
        let mut state = self.state();
        let is_due = match wanted {
            Wanted::All => true,
            // A full batch does not wait: the queue is bounded.
            Wanted::Due { .. } if state.waiting.len() >= self.bounds.batch_max => true,
            Wanted::Due { is_busy } => flush::is_due(is_busy, state.flushed_at, now, self.bounds.every),
        };
        if is_due {
            state.flushed_at = Some(now);
        }
        is_due
    }

    pub(super) fn limit(&self) -> Duration {
        self.bounds.timeout
    }

    pub(super) fn push(&self, item: T) {
        let mut state = self.state();
        state.totals.made += 1;
        if state.waiting.len() < self.bounds.items_max {
            state.waiting.push_back(item);
        } else {
            state.totals.dropped += 1;
            state.untold += 1;
        }
    }

    /// Sends everything that waits, in batches of the configured size.
    pub(super) async fn drain(
        &self,
        budget: Duration,
        limit: Duration,
        encode: impl Fn(Vec<T>) -> Bytes,
    ) -> Drained {
        self.run(budget, limit, |state| {
            let count = state.waiting.len().min(self.bounds.batch_max);
            (count > 0).then(|| {
                let items: Vec<T> = state.waiting.drain(..count).collect();
                Batch { items: u64::try_from(count).unwrap_or(u64::MAX), body: encode(items) }
            })
        })
        .await
    }

    /// Sends what `next` makes, until it makes nothing: what is not collected yet cannot be lost.
    pub(super) async fn drain_from(
        &self,
        budget: Duration,
        limit: Duration,
        next: impl Fn() -> Option<Batch>,
    ) -> Drained {
        let mut is_collected = false;
        let mut next = || {
            if std::mem::replace(&mut is_collected, true) { None } else { next() }
        };
        self.run(budget, limit, |state| {
            let batch = next()?;
            state.totals.made += batch.items;
            Some(batch)
        })
        .await
    }

    async fn run(
        &self,
        budget: Duration,
        limit: Duration,
        mut next: impl FnMut(&mut State<T>) -> Option<Batch>,
    ) -> Drained {
        let mut drained = Drained { dropped: std::mem::take(&mut self.state().untold), ..Drained::default() };
        let deadline = Instant::now() + budget.min(limit).min(self.client.timeout());
        loop {
            let batch = {
                let mut state = self.state();
                if state.kept.is_none() {
                    state.kept = next(&mut state);
                }
                state.kept.clone()
            };
            let Some(batch) = batch else { return drained };
            let send = async {
                // From the head on the batch is the collector's: whatever becomes of the rest, it is not sent again.
                let head = self.client.post(batch.body.clone()).await?;
                self.settle(&mut drained, &batch, &head);
                let rejected = if head.is_success() { head.rejected(self.signal).await } else { 0 };
                Ok::<_, String>(rejected)
            };
            let failure = match tokio::time::timeout_at(deadline.into(), send).await {
                Ok(Ok(rejected)) => {
                    self.reject(&mut drained, &batch, rejected);
                    None
                }
                Ok(Err(failure)) => Some(failure),
                Err(_) => Some("it did not answer in time".to_owned()),
            };
            // A head that came in time has settled the batch, though its body did not.
            let is_settled = self.state().kept.is_none();
            if let Some(failure) = failure
                && !is_settled
            {
                drained.failure = Some(failure);
                return drained;
            }
        }
    }

    /// Books a batch by the answer's status.
    fn settle(&self, drained: &mut Drained, batch: &Batch, head: &Head) {
        let mut state = self.state();
        state.kept = None;
        drained.requests += 1;
        if head.is_success() {
            state.totals.sent += batch.items;
            drained.sent += batch.items;
        } else {
            // It will never be taken (OTLP, "Failures": only some statuses are worth a retry).
            state.totals.dropped += batch.items;
            drained.dropped += batch.items;
        }
    }

    fn reject(&self, drained: &mut Drained, batch: &Batch, rejected: u64) {
        let rejected = rejected.min(batch.items);
        let mut state = self.state();
        state.totals.sent -= rejected;
        state.totals.dropped += rejected;
        drained.sent -= rejected;
        drained.dropped += rejected;
    }

    /// Drops what still waits; tells what became of everything.
    pub(super) fn close(&self) -> Totals {
        let mut state = self.state();
        let waiting = u64::try_from(state.waiting.len()).unwrap_or(u64::MAX);
        let kept = state.kept.take().map_or(0, |batch| batch.items);
        state.waiting.clear();
        state.totals.dropped += waiting + kept;
        state.totals
    }
}
