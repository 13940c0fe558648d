//! A host's permit, waited for with patience and given back whatever happens.

use crate::error::{FetchError, WaitReason};
use crate::pace::{Pace, Permit, Taken};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// How long the first host of a chain is waited for in place: a turn that near costs less than a deferral. Turns are a gap
/// apart, so that one or two callers a host wait at once, not a crowd. More than the second that the ledger lets a job
/// come early by, so that one that comes for its turn is not sent away again.
pub(crate) const FIRST_PATIENCE: Duration = Duration::from_millis(1_500);
/// How long a later host is waited for in place (section 7.2), and any host whose booked turn has come.
pub(crate) const HOP_PATIENCE: Duration = Duration::from_secs(3);

/// A permit that goes back when it is dropped.
pub(crate) struct Held {
    pace: Arc<dyn Pace>,
    permit: Option<Permit>,
    fallback: Permit,
}

impl Held {
    fn new(pace: Arc<dyn Pace>, permit: Permit) -> Self {
        Self { pace, fallback: permit.clone(), permit: Some(permit) }
    }

    pub(crate) fn permit(&self) -> &Permit {
        self.permit.as_ref().unwrap_or(&self.fallback)
    }

    /// Gives the permit back, and waits for it to be done.
    pub(crate) async fn release(mut self) {
        if let Some(permit) = self.permit.take() {
            give_back(self.pace.as_ref(), &permit).await;
        }
    }
}

impl Drop for Held {
    /// The caller was cancelled: its time limit struck. The permit would run out by itself, but the host's next is waiting.
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let pace = Arc::clone(&self.pace);
            runtime.spawn(async move { give_back(pace.as_ref(), &permit).await });
        }
    }
}

async fn give_back(pace: &dyn Pace, permit: &Permit) {
    if let Err(error) = pace.give_back(permit).await {
        tracing::warn!(%error, "a host's permit was not given back; it runs out by itself");
    }
}

/// Takes the host's permit, waiting in place for a turn within `patience`. The flag says whether there was any waiting.
///
/// # Errors
/// [`FetchError::Wait`] with the turn, which is booked if there is a `job`; transient `seam`.
pub(crate) async fn acquire(
    pace: &Arc<dyn Pace>,
    host: &str,
    gap: Duration,
    job: Option<Uuid>,
    patience: Duration,
    deadline: Option<Instant>,
) -> Result<(Held, bool), FetchError> {
    let seam = |error| {
        tracing::warn!(%error, "the keeper of permits does not answer");
        FetchError::transient("seam")
    };
    let started = Instant::now();
    let mut waited = false;
    loop {
        let (at, after, is_due) = match pace.take(host, gap, job, false).await.map_err(seam)? {
            Taken::Permit(permit) => return Ok((Held::new(Arc::clone(pace), permit), waited)),
            Taken::Turn { at, after, is_due } => (at, after, is_due),
        };
        let patience = if is_due { HOP_PATIENCE } else { patience };
        let is_near = started.elapsed() + after <= patience;
        let is_in_time = deadline.is_none_or(|deadline| Instant::now() + after < deadline);
        if is_near && is_in_time {
            sleep(after).await;
            waited = true;
            continue;
        }
        let until = match (is_due, job) {
            // The permit is still held by a slow one: to the end of the queue, so that the others' turns stay apart.
            (true, Some(_)) => match pace.take(host, gap, job, true).await.map_err(seam)? {
                Taken::Permit(permit) => return Ok((Held::new(Arc::clone(pace), permit), true)),
                Taken::Turn { at, .. } => at,
            },
            _ => at,
        };
        return Err(FetchError::Wait { until, reason: WaitReason::Pace });
    }
}
