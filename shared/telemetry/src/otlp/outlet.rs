//! Where the exporter of one signal hands its requests over, and what became of everything.
//!
//! The exporter encodes a batch and awaits its client: this. A request is kept before it is sent, so that it is there when
//! the time is up and the export is dropped in the middle. It goes first the next time, without the exporter.

use super::client::{Client, Head};
use super::{Drained, Totals};
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// An encoded request.
#[derive(Debug, Clone)]
struct Batch {
    body: Bytes,
    items: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Items that the exporter has, until it hands their request over.
    at_exporter: u64,
    /// Encoded and not taken yet. It goes first.
    kept: Option<Batch>,
    totals: Totals,
    /// What happened since a flush last told so.
    untold: Drained,
}

#[derive(Debug)]
pub(super) struct Outlet {
    client: Client,
    state: Mutex<State>,
}

impl Outlet {
    pub(super) fn new(client: Client) -> Self {
        Self { client, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn timeout(&self) -> Duration {
        self.client.timeout()
    }

    pub(super) fn made(&self, items: u64) {
        self.state().totals.made += items;
    }

    pub(super) fn dropped(&self, items: u64) {
        self.state().lose(items);
    }

    pub(super) fn keeps_one(&self) -> bool {
        self.state().kept.is_some()
    }

    /// The exporter is given so many items.
    pub(super) fn announce(&self, items: u64) {
        self.state().at_exporter = items;
    }

    /// The exporter is done, or was dropped. What it could not encode is lost.
    pub(super) fn exporter_ended(&self) {
        let mut state = self.state();
        let items = std::mem::take(&mut state.at_exporter);
        state.lose(items);
    }

    pub(super) fn fail(&self, failure: String) {
        self.state().untold.failure = Some(failure);
    }

    /// What happened since this was last asked.
    pub(super) fn tell(&self) -> Drained {
        std::mem::take(&mut self.state().untold)
    }

    /// Drops what still waits, `waiting` items and the kept batch; tells what became of everything.
    pub(super) fn close(&self, waiting: u64) -> Totals {
        let mut state = self.state();
        let kept = state.kept.take().map_or(0, |batch| batch.items);
        state.lose(waiting + kept);
        state.totals
    }

    /// Sends the kept batch. After an error it is still kept.
    pub(super) async fn post_kept(&self) -> Result<Response<Bytes>, String> {
        let Some(batch) = self.state().kept.clone() else { return Err("there is nothing to send".into()) };
        let posted = self.post(batch).await;
        if let Err(failure) = &posted {
            self.fail(failure.clone());
        }
        posted
    }

    async fn post(&self, batch: Batch) -> Result<Response<Bytes>, String> {
        // From the head on the batch is the collector's: whatever becomes of the rest, it is not sent again.
        let head = self.client.post(batch.body.clone()).await?;
        self.settle(&batch, &head);
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = head.status();
        if head.status().is_success() {
            let rejected = head.rejected().await;
            self.reject(&batch, rejected);
        }
        Ok(answer)
    }

    /// Books a batch by the answer's status.
    fn settle(&self, batch: &Batch, head: &Head) {
        let mut state = self.state();
        state.kept = None;
        state.untold.requests += 1;
        if head.status().is_success() {
            state.totals.sent += batch.items;
            state.untold.sent += batch.items;
        } else {
            // It will never be taken (OTLP, "Failures": only some statuses are worth a retry).
            state.lose(batch.items);
        }
    }

    fn reject(&self, batch: &Batch, rejected: u64) {
        let rejected = rejected.min(batch.items);
        let mut state = self.state();
        state.totals.sent -= rejected;
        state.untold.sent -= rejected;
        state.lose(rejected);
    }
}

impl State {
    fn lose(&mut self, items: u64) {
        self.totals.dropped += items;
        self.untold.dropped += items;
    }
}

#[async_trait::async_trait]
impl HttpClient for Outlet {
    /// Only the body is the exporter's: it reads headers from the environment by itself, and [`crate::env`] is the one place
    /// for that. What went wrong is in the outlet's books already.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let body = self.client.compressed(request.into_body());
        {
            let mut state = self.state();
            let items = std::mem::take(&mut state.at_exporter);
            state.kept = Some(Batch { body, items });
        }
        Ok(self.post_kept().await?)
    }
}
