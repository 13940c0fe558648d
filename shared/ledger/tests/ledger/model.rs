//! Random histories of a few targets, against a reference model in plain Rust.
//!
//! The model knows the state machine of `spec/ledger.md` and nothing of SQL. After each step the whole pending table is
//! compared with it. Every holder that ever was goes on trying to report: nothing that a stale one does may show.

use crate::support::{Fixture, WORK, job, permanent, transient};
use jiff::{SignedDuration, Timestamp};
use ledger::{
    ClaimedJob, Error, Hint, JobId, JobStatus, Scan, fence, job_cancel, job_claim_batch, job_complete,
    job_defer, job_fail, job_heartbeat, job_release, job_requeue, job_retry_now, jobs_mark_ready, jobs_reap,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// Histories of each run of the tests; `LEDGER_HISTORIES` names another number for a long one.
const HISTORIES: u64 = 8;
const STEPS: usize = 120;
const TARGETS: usize = 3;
const MAX_FAILURES: i32 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    id: JobId,
    is_claimed: bool,
    attempt: i32,
    failures: i32,
    deferrals: i32,
    requeues: i32,
    rerun: bool,
    hinted: bool,
    is_due: bool,
}

impl Pending {
    fn fresh(id: JobId) -> Self {
        Self {
            id,
            is_claimed: false,
            attempt: 0,
            failures: 0,
            deferrals: 0,
            requeues: 0,
            rerun: false,
            hinted: false,
            is_due: true,
        }
    }

    fn returned(&mut self, is_due: bool) {
        (self.is_claimed, self.hinted, self.rerun, self.is_due) = (false, false, false, is_due);
    }
}

#[derive(Default)]
struct Model {
    pending: BTreeMap<usize, Pending>,
    dead: BTreeMap<JobId, (usize, Pending)>,
    finished: BTreeMap<JobId, JobStatus>,
    /// Whose lease is over, though nobody took it back yet.
    expired: Vec<JobId>,
}

impl Model {
    fn holds(&self, job: &ClaimedJob) -> Option<usize> {
        self.pending
            .iter()
            .find(|(_, p)| p.id == job.id && p.is_claimed && p.attempt == job.attempt)
            .filter(|_| !self.expired.contains(&job.id))
            .map(|(target, _)| *target)
    }

    fn expire_no_more(&mut self, id: JobId) {
        self.expired.retain(|expired| *expired != id);
    }

    /// A terminal transition; `fresh` is the id of the job that a rerun made.
    fn end(&mut self, target: usize, status: JobStatus, charge: i32, fresh: Option<JobId>) {
        let mut ended = self.pending.remove(&target).unwrap();
        self.expire_no_more(ended.id);
        assert_eq!(fresh.is_some(), ended.rerun, "a rerun makes a fresh job, and nothing else does");
        ended.failures += charge;
        self.finished.insert(ended.id, status);
        if status != JobStatus::Done {
            self.dead.insert(ended.id, (target, ended));
        }
        if let Some(fresh) = fresh {
            self.pending.insert(target, Pending::fresh(fresh));
        }
    }

    /// A charged failure; answers the state that it leads to.
    fn charge(&mut self, target: usize, fresh: Option<JobId>) -> JobStatus {
        let pending = self.pending.get_mut(&target).unwrap();
        if pending.failures + 1 < MAX_FAILURES {
            pending.failures += 1;
            pending.returned(false);
            let id = pending.id;
            self.expire_no_more(id);
            return JobStatus::Queued;
        }
        self.end(target, JobStatus::DeadLetter, 1, fresh);
        JobStatus::DeadLetter
    }
}

struct Run {
    f: Fixture,
    model: Model,
    targets: Vec<Uuid>,
    holders: Vec<ClaimedJob>,
    rng: StdRng,
}

impl Run {
    async fn step(&mut self) -> String {
        let target = self.rng.random_range(0..TARGETS);
        match self.rng.random_range(0..14) {
            0 | 1 => self.enqueue(target).await,
            2..=4 => self.claim(target).await,
            5..=8 => self.report().await,
            9 => self.shift(target).await,
            10 => self.reap().await,
            11 => self.cancel_or_retry(target).await,
            12 => self.requeue().await,
            _ => self.mark().await,
        }
    }

    async fn enqueue(&mut self, target: usize) -> String {
        let made = self.f.enqueue(job(WORK, self.targets[target])).await;
        match self.model.pending.get_mut(&target) {
            None => {
                assert!(made.inserted);
                self.model.pending.insert(target, Pending::fresh(made.id));
            }
            Some(pending) => {
                assert_eq!((made.inserted, made.id), (false, pending.id));
                if pending.is_claimed {
                    pending.rerun = true;
                } else if !pending.is_due {
                    (pending.is_due, pending.hinted) = (true, false);
                }
            }
        }
        format!("enqueue {target}")
    }

    async fn claim(&mut self, target: usize) -> String {
        let Some(pending) = self.model.pending.get(&target).cloned() else { return "claim nothing".into() };
        let off = if self.rng.random_bool(0.2) { self.rng.random_range(-1..=1) } else { 0 };
        let hints = [Hint { job_id: pending.id, attempt: pending.attempt + off }];
        let claimed = job_claim_batch(&self.f.app, &hints, Duration::from_secs(55)).await.unwrap();
        let expected = !pending.is_claimed && pending.is_due && off == 0;
        assert_eq!(claimed.len(), usize::from(expected), "claim {target} with attempt off by {off}");
        for job in claimed {
            let pending = self.model.pending.get_mut(&target).unwrap();
            (pending.is_claimed, pending.hinted) = (true, false);
            pending.attempt += 1;
            assert_eq!((job.attempt, job.failures), (pending.attempt, pending.failures));
            self.holders.push(job);
        }
        format!("claim {target}")
    }

    /// Any holder that ever was, with anything that a holder may say.
    async fn report(&mut self) -> String {
        if self.holders.is_empty() {
            return "report nothing".into();
        }
        let holder = self.holders[self.rng.random_range(0..self.holders.len())].clone();
        let target = self.model.holds(&holder);
        let what = self.rng.random_range(0..7);
        if what == 6 {
            let beat = job_heartbeat(&self.f.app, &holder.holder(), Duration::from_secs(60)).await;
            assert_eq!(beat.is_ok(), target.is_some());
            return "heartbeat".into();
        }
        let fenced = match fence(&self.f.app, &holder.holder()).await {
            Ok(fenced) => fenced,
            Err(Error::Stale) => {
                assert_eq!(target, None, "who holds the job passes the fence");
                return "stale".into();
            }
            Err(error) => panic!("{error:?}"),
        };
        let target = target.expect("only who holds the job passes the fence");
        let (app, registry) = (&self.f.app, &self.f.registry);
        let counted = self.rng.random_bool(0.5);
        let transition = match what {
            0 | 1 => job_complete(app, &fenced, &json!({"n": 1}), None).await,
            2 => job_fail(app, &fenced, &transient("busy"), None, registry, 1.0).await,
            3 => job_fail(app, &fenced, &permanent("gone"), None, registry, 1.0).await,
            4 => job_release(app, &fenced, None, registry, 1.0).await,
            _ => {
                let until = Timestamp::now() + SignedDuration::from_secs(40);
                job_defer(app, &fenced, until, counted, registry, 1.0).await
            }
        }
        .unwrap();
        let fresh = transition.rerun.as_ref().map(|rerun| rerun.id);
        let expected = match what {
            0 | 1 => {
                self.model.end(target, JobStatus::Done, 0, fresh);
                JobStatus::Done
            }
            2 => self.model.charge(target, fresh),
            3 => {
                self.model.end(target, JobStatus::Failed, 1, fresh);
                JobStatus::Failed
            }
            _ => {
                let counts = what == 4 || counted;
                let pending = self.model.pending.get_mut(&target).unwrap();
                if counts && pending.deferrals >= 19 {
                    pending.deferrals += 1;
                    self.model.charge(target, fresh)
                } else {
                    pending.deferrals += i32::from(counts);
                    pending.returned(what == 4);
                    JobStatus::Queued
                }
            }
        };
        assert_eq!(transition.status, expected);
        let is_dead = matches!(expected, JobStatus::Failed | JobStatus::DeadLetter);
        assert_eq!(transition.terminal.is_some(), is_dead && fresh.is_none());
        format!("report {what} on {target}: {expected}")
    }

    /// Time passes for one job: it is due, has been put off often, or its lease is over.
    async fn shift(&mut self, target: usize) -> String {
        let Some(pending) = self.model.pending.get_mut(&target) else { return "shift nothing".into() };
        if pending.is_claimed {
            self.f.expire(pending.id).await;
            self.model.expired.push(pending.id);
            return format!("expire {target}");
        }
        if self.rng.random_bool(0.2) {
            self.f.set(pending.id, "deferrals = 19").await;
            pending.deferrals = 19;
        }
        self.f.set(pending.id, "next_run_at = least(next_run_at, now())").await;
        pending.is_due = true;
        format!("due {target}")
    }

    async fn reap(&mut self) -> String {
        let reaped = jobs_reap(&self.f.app, &self.f.registry, 100, || 1.0).await.unwrap();
        let mut expected = self.model.expired.clone();
        let mut found: Vec<JobId> = reaped.iter().map(|end| end.id).collect();
        expected.sort_unstable();
        expected.dedup();
        found.sort_unstable();
        assert_eq!(found, expected, "every expired lease is taken back, and no other");
        for end in reaped {
            let target = *self.model.pending.iter().find(|(_, p)| p.id == end.id).unwrap().0;
            let expected = self.model.charge(target, end.rerun.as_ref().map(|rerun| rerun.id));
            assert_eq!(end.status, expected);
        }
        "reap".into()
    }

    async fn cancel_or_retry(&mut self, target: usize) -> String {
        let Some(pending) = self.model.pending.get(&target).cloned() else { return "cancel nothing".into() };
        let cancels = self.rng.random_bool(0.4);
        let result = if cancels {
            job_cancel(&self.f.app, pending.id, "why not").await
        } else {
            job_retry_now(&self.f.app, pending.id).await
        };
        assert_eq!(result.is_ok(), !pending.is_claimed, "{result:?}");
        if !pending.is_claimed {
            if cancels {
                self.model.end(target, JobStatus::Failed, 0, None);
            } else {
                let pending = self.model.pending.get_mut(&target).unwrap();
                (pending.is_due, pending.hinted) = (true, false);
            }
        }
        format!("cancel or retry {target}")
    }

    async fn requeue(&mut self) -> String {
        let ids: Vec<JobId> = self.model.finished.keys().copied().collect();
        if ids.is_empty() {
            return "requeue nothing".into();
        }
        let id = ids[self.rng.random_range(0..ids.len())];
        let result = job_requeue(&self.f.app, id).await;
        match self.model.dead.get(&id).cloned() {
            None => assert!(matches!(result, Err(Error::InvalidTransition { .. })), "{result:?}"),
            Some((target, _)) if self.model.pending.contains_key(&target) => {
                assert!(matches!(result, Err(Error::PendingJobExists { .. })), "{result:?}");
            }
            Some((target, dead)) => {
                assert_eq!(result.unwrap().attempt, dead.attempt);
                self.model.dead.remove(&id);
                self.model.finished.remove(&id);
                let back =
                    Pending { attempt: dead.attempt, requeues: dead.requeues + 1, ..Pending::fresh(id) };
                self.model.pending.insert(target, back);
            }
        }
        "requeue".into()
    }

    async fn mark(&mut self) -> String {
        let marked = jobs_mark_ready(&self.f.app, &Scan::new(), 100).await.unwrap();
        let mut found: Vec<(JobId, i32)> =
            marked.iter().map(|marked| (marked.hint.job_id, marked.hint.attempt)).collect();
        let mut expected = Vec::new();
        for pending in self.model.pending.values_mut() {
            if !pending.is_claimed && !pending.hinted {
                pending.hinted = true;
                expected.push((pending.id, pending.attempt));
            }
        }
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "all that is due within a minute and unhinted, once");
        "mark".into()
    }

    async fn compare(&self) {
        let sql = "SELECT target_id, id, status = 'claimed', attempt, failures, deferrals, requeues, rerun, \
             coalesce(hinted_until > now(), false), next_run_at <= now() + interval '1 second' FROM jobs";
        let rows = self.f.owner.query(sql, &[]).await.unwrap();
        let mut found = BTreeMap::new();
        for row in &rows {
            let target = self.targets.iter().position(|target| *target == row.get::<_, Uuid>(0)).unwrap();
            let is_claimed: bool = row.get(2);
            let pending = Pending {
                id: JobId(row.get(1)),
                is_claimed,
                attempt: row.get(3),
                failures: row.get(4),
                deferrals: row.get(5),
                requeues: row.get(6),
                rerun: row.get(7),
                hinted: row.get(8),
                is_due: row.get(9),
            };
            found.insert(target, pending);
        }
        assert_eq!(found, self.model.pending);
        let dead = i64::try_from(self.model.dead.len()).unwrap();
        assert_eq!(self.f.count("job_dead").await, dead);
        let done = self.model.finished.values().filter(|status| **status == JobStatus::Done).count();
        assert_eq!(self.f.count("job_archive").await, i64::try_from(done).unwrap());
    }
}

#[tokio::test]
async fn no_history_leaves_the_state_machine() {
    let histories = std::env::var("LEDGER_HISTORIES").ok().and_then(|count| count.parse().ok());
    for seed in 0..histories.unwrap_or(HISTORIES) {
        let f = Fixture::new().await;
        let mut run = Run {
            f,
            model: Model::default(),
            targets: (0..TARGETS).map(|_| Uuid::new_v4()).collect(),
            holders: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
        };
        let mut history = History { seed, steps: Vec::new() };
        for _ in 0..STEPS {
            let step = run.step().await;
            history.steps.push(step);
            run.compare().await;
        }
        history.steps.clear();
    }
}

/// Told only if a step panics.
struct History {
    seed: u64,
    steps: Vec<String>,
}

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}: {}", self.seed, self.steps.join("; "));
        }
    }
}
