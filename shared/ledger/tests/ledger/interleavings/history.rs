//! What happened so far in one schedule, as the actors saw it, and the checks that it must pass.

use crate::interleavings::actor::{Actor, Answer};
use crate::interleavings::program::{Key, Op, Outcome, key_of};
use crate::interleavings::snapshot::{Snapshot, Table};
use jiff::Timestamp;
use ledger::{ClaimedJob, Holder, JobEventType, JobId, JobStatus, Transition};
use std::collections::{BTreeMap, BTreeSet};

/// What must hold in every schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// A job's effect is there at most once, and only if the job is done.
    EffectOnce,
    /// A job that was ever committed is in exactly one of the three tables.
    NeverLost,
    /// From every committed state, sweeps and workers bring every job to its end.
    NeverStuck,
    /// Who claims a job finds every earlier attempt over.
    OneHolder,
    /// The fence and the version only grow, through every move.
    AttemptsGrow,
    /// A pending job has a try left, and a dead one no more failures than its budget.
    FailuresBounded,
    /// On the instant of expiry a lease is over, for its holder and for the reaper; before it, for neither.
    ExpiryKept,
    /// A job that was asked for is run by an attempt that began later.
    RequestKept,
    /// Each burial owes either the terminal effect or a fresh job.
    TerminalOnce,
    /// No statement fails: no deadlock, no conflict, no broken constraint.
    NoCollision,
}

impl Invariant {
    pub(crate) const ALL: [Self; 10] = [
        Self::EffectOnce,
        Self::NeverLost,
        Self::NeverStuck,
        Self::OneHolder,
        Self::AttemptsGrow,
        Self::FailuresBounded,
        Self::ExpiryKept,
        Self::RequestKept,
        Self::TerminalOnce,
        Self::NoCollision,
    ];
}

#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) what: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) holder: Holder,
    pub(crate) expires_at: Timestamp,
    /// Settled, taken back, or followed by another.
    pub(crate) is_over: bool,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct History {
    pub(crate) attempts: Vec<Attempt>,
    /// Every job that was committed, with its key.
    pub(crate) known: BTreeMap<JobId, Key>,
    /// Keys for which a run was asked for, and none has begun since.
    pub(crate) owed: BTreeSet<Key>,
    /// How often each job was completed, buried, and brought back.
    done: BTreeMap<JobId, u32>,
    buried: BTreeMap<JobId, u32>,
    requeued: BTreeMap<JobId, u32>,
    latest: BTreeMap<JobId, (i32, i64)>,
    pub(crate) violations: Vec<Violation>,
    /// How often each invariant was looked at.
    pub(crate) checks: BTreeMap<Invariant, u64>,
}

impl History {
    fn check(&mut self, invariant: Invariant, holds: bool, what: impl FnOnce() -> String) {
        *self.checks.entry(invariant).or_default() += 1;
        if !holds {
            self.violations.push(Violation { invariant, what: what() });
        }
    }

    pub(crate) fn failed(&mut self, what: String) {
        self.check(Invariant::NoCollision, false, || what);
    }

    fn succeeded(&mut self) {
        self.check(Invariant::NoCollision, true, String::new);
    }

    /// An actor's step has answered, and the actor has not heard of it yet.
    pub(crate) fn heard(&mut self, actor: &Actor, answer: &Answer, now: Timestamp) {
        let outcome = match answer {
            Ok(outcome) => outcome,
            Err(error) => {
                return self.failed(format!("{}, {:?}: {error:?}", actor.program.name, actor.op()));
            }
        };
        self.succeeded();
        match outcome {
            Outcome::Claimed(jobs) => {
                for job in jobs {
                    self.claimed(job, now);
                }
            }
            Outcome::Heartbeat(holder, expiry) => {
                self.judged(holder, expiry.is_some(), now);
                if let Some(expiry) = expiry {
                    self.attempt(holder).expires_at = *expiry;
                }
            }
            Outcome::Fenced(holder, fenced) => self.judged(holder, fenced.is_some(), now),
            Outcome::Batch(batch) => {
                for holder in actor.held.iter().map(ClaimedJob::holder) {
                    if batch.stale.contains(&holder) {
                        self.judged(&holder, false, now);
                    } else {
                        self.completed_in_batch(&holder, now);
                    }
                }
            }
            Outcome::Changed(transitions) if actor.op() == Op::Reap => {
                for transition in transitions {
                    self.reaped(transition.id, transition.attempt, now);
                }
            }
            Outcome::Committed => {
                for (transition, ends_attempt) in &actor.uncommitted {
                    self.changed(transition, *ends_attempt);
                }
                for (key, job) in &actor.asked_for {
                    self.asked_for(*key, job.id);
                }
            }
            Outcome::Changed(_)
            | Outcome::Enqueued(..)
            | Outcome::Marked(_)
            | Outcome::Opened
            | Outcome::Refused => {}
        }
    }

    fn attempt(&mut self, holder: &Holder) -> &mut Attempt {
        self.attempts.iter_mut().find(|attempt| attempt.holder == *holder).expect("it was claimed")
    }

    pub(crate) fn claimed(&mut self, job: &ClaimedJob, now: Timestamp) {
        let holder = job.holder();
        for index in 0..self.attempts.len() {
            let earlier = self.attempts[index].clone();
            if earlier.holder.job_id != job.id {
                continue;
            }
            let is_free = earlier.is_over || earlier.expires_at <= now;
            self.check(Invariant::OneHolder, is_free, || {
                format!("{holder:?} was claimed while {earlier:?} lived")
            });
            self.check(Invariant::AttemptsGrow, earlier.holder.attempt < job.attempt, || {
                format!("{holder:?} came after {earlier:?}")
            });
            self.attempts[index].is_over = true;
        }
        // A claim that waited longer than its lease begins with one that is over: it is counted from the caller's start, since
        // it ends with the caller's invocation.
        self.attempts.push(Attempt { holder, expires_at: job.lease_expires_at, is_over: false });
        self.owed.remove(&key_of(job.target_id));
    }

    /// A holder was let in (`true`), or told that it is stale.
    pub(crate) fn judged(&mut self, holder: &Holder, passed: bool, now: Timestamp) {
        let attempt = self.attempt(holder).clone();
        let lives = !attempt.is_over && attempt.expires_at > now;
        if attempt.is_over {
            self.check(Invariant::OneHolder, !passed, || format!("{attempt:?} was let in, and is over"));
        } else {
            self.check(Invariant::ExpiryKept, passed == lives, || {
                format!("{attempt:?}: let in: {passed}, at {now}")
            });
        }
    }

    /// The attempt's end is committed.
    fn settled(&mut self, id: JobId, number: i32) {
        let mut all = self.attempts.iter_mut();
        let attempt = all.find(|attempt| attempt.holder.job_id == id && attempt.holder.attempt == number);
        let lived = attempt.is_some_and(|attempt| !std::mem::replace(&mut attempt.is_over, true));
        self.check(Invariant::OneHolder, lived, || format!("attempt {number} of {id} ended, and was over"));
    }

    fn completed(&mut self, id: JobId) {
        let count = self.done.entry(id).or_default();
        *count += 1;
        let count = *count;
        self.check(Invariant::EffectOnce, count == 1, || format!("{id} was completed {count} times"));
    }

    pub(crate) fn completed_in_batch(&mut self, holder: &Holder, now: Timestamp) {
        self.judged(holder, true, now);
        self.settled(holder.job_id, holder.attempt);
        self.completed(holder.job_id);
    }

    /// A reaper took the attempt back, and has not committed.
    pub(crate) fn reaped(&mut self, id: JobId, number: i32, now: Timestamp) {
        let attempt = self
            .attempts
            .iter()
            .find(|attempt| attempt.holder.job_id == id && attempt.holder.attempt == number)
            .cloned();
        let is_expired = attempt.as_ref().is_some_and(|attempt| attempt.expires_at <= now);
        self.check(Invariant::ExpiryKept, is_expired, || format!("{attempt:?} was taken back at {now}"));
    }

    /// A transition is committed; of a claimed job, it ends the attempt.
    pub(crate) fn changed(&mut self, transition: &Transition, ends_attempt: bool) {
        let id = transition.id;
        if ends_attempt {
            self.settled(id, transition.attempt);
        }
        match transition.event.as_ref().map(|event| event.event_type) {
            Some(JobEventType::Cancelled) => {
                self.owed.remove(&key_of(transition.target_id));
            }
            Some(JobEventType::Requeued) => {
                *self.requeued.entry(id).or_default() += 1;
                self.owed.insert(key_of(transition.target_id));
            }
            _ => {}
        }
        match transition.status {
            JobStatus::Done => self.completed(id),
            JobStatus::Failed | JobStatus::DeadLetter => {
                *self.buried.entry(id).or_default() += 1;
                let owes_one = transition.terminal.is_some() != transition.rerun.is_some();
                self.check(Invariant::TerminalOnce, owes_one, || {
                    format!("{:?} and {:?}", transition.terminal, transition.rerun)
                });
            }
            JobStatus::Queued | JobStatus::Claimed => {}
        }
        if let Some(fresh) = &transition.rerun {
            self.known.insert(fresh.id, key_of(transition.target_id));
        }
    }

    fn asked_for(&mut self, key: Key, id: JobId) {
        self.owed.insert(key);
        self.known.insert(id, key);
    }

    /// All requests were served by the time that everything has ended.
    pub(crate) fn ended(&mut self) {
        let owed = self.owed.clone();
        self.check(Invariant::RequestKept, owed.is_empty(), || format!("no run began for {owed:?}"));
    }

    pub(crate) fn stuck(&mut self, left: &[String]) {
        self.check(Invariant::NeverStuck, left.is_empty(), || format!("{left:?}"));
    }

    /// What is committed, at a moment when no statement runs.
    pub(crate) fn seen(&mut self, snapshot: &Snapshot) {
        let mut places: BTreeMap<JobId, Vec<Table>> = BTreeMap::new();
        for row in &snapshot.rows {
            places.entry(row.id).or_default().push(row.table);
            self.known.insert(row.id, row.key);
            let before = self.latest.insert(row.id, (row.attempt, row.version));
            let grew =
                before.is_none_or(|(attempt, version)| attempt <= row.attempt && version <= row.version);
            self.check(Invariant::AttemptsGrow, grew, || format!("{row:?} came after {before:?}"));
            let most = if row.table == Table::Dead { row.max_failures } else { row.max_failures - 1 };
            self.check(Invariant::FailuresBounded, (0..=most).contains(&row.failures), || format!("{row:?}"));
            if let Some(token) = row.lease_token {
                let is_of_one = self
                    .attempts
                    .iter()
                    .any(|attempt| attempt.holder.lease_token == token && !attempt.is_over);
                self.check(Invariant::OneHolder, is_of_one, || format!("nobody holds {row:?}"));
            }
        }
        for id in self.known.keys().copied().collect::<Vec<_>>() {
            let found = places.get(&id).cloned().unwrap_or_default();
            self.check(Invariant::NeverLost, found.len() == 1, || format!("{id} is in {found:?}"));
            let is_dead = found.contains(&Table::Dead);
            let of = |counts: &BTreeMap<JobId, u32>| counts.get(&id).copied().unwrap_or_default();
            let (buried, requeued) = (of(&self.buried), of(&self.requeued));
            self.check(Invariant::TerminalOnce, buried == requeued + u32::from(is_dead), || {
                format!("{id}: {buried} burials, {requeued} requeues, dead: {is_dead}")
            });
        }
        let mut effects: BTreeMap<JobId, u32> = BTreeMap::new();
        for (id, _) in &snapshot.effects {
            *effects.entry(*id).or_default() += 1;
        }
        for (id, count) in effects {
            let is_done = places.get(&id).is_some_and(|found| found == &[Table::Archive]);
            self.check(Invariant::EffectOnce, count == 1 && is_done, || {
                format!("{id} has {count} effects, and is in {:?}", places.get(&id))
            });
        }
    }
}
