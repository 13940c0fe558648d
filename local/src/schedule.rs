//! Schedules: an interval that invokes a function with the template's fixed input.

use crate::lambda::{Function, Invocation};
use crate::template::ScheduleSpec;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// A running schedule. Dropping it stops it.
#[derive(Debug)]
pub struct Schedule {
    task: JoinHandle<()>,
}

impl Drop for Schedule {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Invokes at once, for whatever an earlier run left behind, and then every interval. A failure is told and not repeated: the
/// next one makes up for it.
#[must_use]
pub fn start(spec: ScheduleSpec, function: Function) -> Schedule {
    let task = tokio::spawn(async move {
        let mut interval = tokio::time::interval(spec.every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if let Err(error) = function.invoke(Invocation::new(spec.input.clone())).await {
                tracing::warn!(%error, "the scheduled invocation failed");
            }
        }
    });
    Schedule { task }
}
