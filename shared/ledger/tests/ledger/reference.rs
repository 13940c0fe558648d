//! The reference model: the state machine of `spec/ledger.md` in plain Rust, with no SQL and no concurrency.
//!
//! Each method does one operation of the ledger to the model, and compares what the ledger answered with what it should
//! have. What only the ledger can choose (ids, tokens, the microseconds that a backoff begins later) is taken
//! from its answer, after a check of its range.

use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use ledger::{
    BatchCompleted, ClaimedJob, DeadFilter, Enqueued, Error, Failure, FencedJob, Hint, Holder, JobEvent,
    JobEventType, JobId, JobRecord, JobStats, JobStatus, KindRow, KindSettings, MarkedJob, NewJob,
    NotClaimed, Registry, Replay, Report, Requeued, Route, TerminalJob, Transition,
};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

mod administration;
mod attempts;

pub(crate) const TARGET_TYPE: &str = "thing";
const MARK: SignedDuration = SignedDuration::from_mins(2);
const HORIZON: SignedDuration = SignedDuration::from_secs(60);
const EARLY: SignedDuration = SignedDuration::from_secs(1);
const LEASE_MAX: SignedDuration = SignedDuration::from_mins(15);
const DEFERRALS_FREE: i32 = 19;

/// A job with everything that the ledger keeps of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) kind: String,
    pub(crate) target_id: Uuid,
    pub(crate) inputs: Value,
    pub(crate) status: JobStatus,
    pub(crate) route: Route,
    pub(crate) priority: i16,
    pub(crate) next_run_at: Timestamp,
    pub(crate) attempt: i32,
    pub(crate) failures: i32,
    pub(crate) max_failures: i32,
    pub(crate) deferrals: i32,
    pub(crate) lease_token: Option<Uuid>,
    pub(crate) lease_expires_at: Option<Timestamp>,
    pub(crate) claimed_at: Option<Timestamp>,
    pub(crate) module: Option<Uuid>,
    pub(crate) hinted_until: Option<Timestamp>,
    pub(crate) report_token: Option<Uuid>,
    pub(crate) report_digest: Option<Vec<u8>>,
    pub(crate) last_error: Option<Value>,
    pub(crate) rerun: bool,
    pub(crate) requeues: i32,
    pub(crate) trace_context: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) version: i64,
    pub(crate) result: Option<Value>,
    pub(crate) error: Option<Value>,
    pub(crate) finished_at: Option<Timestamp>,
}

impl Job {
    fn is_queued(&self) -> bool {
        self.status == JobStatus::Queued
    }

    /// What the ledger answers about a job that is now in that state, without what a caller is to do about it.
    fn transition(&self, status: JobStatus) -> Transition {
        Transition {
            id: self.id,
            kind: self.kind.clone(),
            target_type: TARGET_TYPE.to_owned(),
            target_id: self.target_id,
            status,
            attempt: self.attempt,
            failures: self.failures,
            next_run_at: None,
            event: None,
            terminal: None,
            rerun: None,
            wake: None,
        }
    }

    pub(crate) fn key(&self) -> Key {
        (self.kind.clone(), self.target_id)
    }

    fn order(&self) -> (Reverse<i16>, Timestamp, JobId) {
        (Reverse(self.priority), self.next_run_at, self.id)
    }

    fn is_hinted(&self, now: Timestamp) -> bool {
        self.hinted_until.is_some_and(|until| until > now)
    }

    fn claimed(&self) -> ClaimedJob {
        ClaimedJob {
            id: self.id,
            kind: self.kind.clone(),
            target_type: TARGET_TYPE.to_owned(),
            target_id: self.target_id,
            inputs: self.inputs.clone(),
            attempt: self.attempt,
            lease_token: self.lease_token.unwrap(),
            lease_expires_at: self.lease_expires_at.unwrap(),
            failures: self.failures,
            max_failures: self.max_failures,
            deferrals: self.deferrals,
            trace_context: self.trace_context.clone(),
            created_at: self.created_at,
        }
    }

    fn touch(&mut self, now: Timestamp) {
        self.version += 1;
        self.updated_at = now;
    }

    fn is_the_record(&self, record: &JobRecord) {
        let expected = JobRecord {
            id: self.id,
            kind: self.kind.clone(),
            target_type: TARGET_TYPE.to_owned(),
            target_id: self.target_id,
            inputs_json: self.inputs.clone(),
            status: self.status,
            route: self.route,
            priority: self.priority,
            next_run_at: self.next_run_at,
            attempt: self.attempt,
            failures: self.failures,
            max_failures: self.max_failures,
            deferrals: self.deferrals,
            lease_expires_at: self.lease_expires_at,
            claimed_at: self.claimed_at,
            locked_by_module_id: self.module,
            hinted_until: self.hinted_until,
            last_error: self.last_error.clone(),
            rerun: self.rerun,
            requeues: self.requeues,
            trace_context: self.trace_context.clone(),
            created_at: self.created_at,
            updated_at: self.updated_at,
            version: self.version,
            result_json: self.result.clone(),
            error_json: self.error.clone(),
            finished_at: self.finished_at,
        };
        let mut record = record.clone();
        without_instant(&mut record.last_error);
        without_instant(&mut record.error_json);
        assert_eq!(record, expected);
    }
}

/// The instant of an error is the one member that the model does not foresee.
pub(crate) fn without_instant(error: &mut Option<Value>) {
    if let Some(members) = error.as_mut().and_then(Value::as_object_mut) {
        let at = members.shift_remove("at").expect("an error tells when");
        assert!(at.as_str().is_some_and(|at| at.parse::<Timestamp>().is_ok()), "{at}");
    }
}

pub(crate) type Key = (String, Uuid);

/// How a holder ends its attempt.
#[derive(Debug, Clone)]
pub(crate) enum End {
    Complete(Value),
    Fail(Failure),
    Release(Option<Duration>),
    Defer { until: Timestamp, counted: bool },
}

/// What a reported attempt led to.
#[derive(Debug)]
pub(crate) enum Reported {
    Repeated(Replay),
    /// The report's job is in no table.
    Unknown,
    Stale,
    Settled(Box<FencedJob>, Box<Transition>),
}

enum Verdict {
    Return { at: At, counted: bool, charged: Option<Cause> },
    Bury { status: JobStatus, charge: i32, cause: Cause },
}

/// An instant that the ledger computes: this one (exactly), or from it on, by as much as the client took.
enum At {
    Exactly(Timestamp),
    From(Timestamp),
}

#[derive(Clone)]
struct Cause {
    code: String,
    message: String,
    event: JobEventType,
}

/// The ledger as it should be.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    registry: Registry,
    /// The present. The session's clock is set to it, and both stand still while operations run.
    pub(crate) now: Timestamp,
    /// How much later an instant may be that the ledger computes with its client's clock.
    pub(crate) client_lag: SignedDuration,
    pub(crate) kinds: BTreeMap<String, KindRow>,
    pub(crate) pending: BTreeMap<JobId, Job>,
    pub(crate) archive: BTreeMap<JobId, Job>,
    pub(crate) dead: BTreeMap<JobId, Job>,
    keys: BTreeMap<Key, JobId>,
    /// Jobs that were ever made, less those that a purge deleted.
    pub(crate) known: BTreeSet<JobId>,
    /// Pending jobs that were written since [`Reference::begin`], and those that left or came.
    pub(crate) touched: BTreeSet<JobId>,
    /// How often each thing happened, so that a run can show that it met all of them.
    pub(crate) seen: BTreeMap<&'static str, u64>,
}

/// What a run of many histories must have met, each at least once.
pub(crate) const MET: [&str; 32] = [
    "a job is made",
    "a queued job is enqueued again",
    "a claimed job is enqueued again",
    "a hint is marked",
    "a mark is taken back",
    "a hint claims",
    "a hint finds nothing",
    "a module claims",
    "a module is refused",
    "a lease is extended",
    "a heartbeat is stale",
    "a report is stale",
    "a report is repeated",
    "a report differs from the accepted one",
    "a report is of no job",
    "done",
    "done, and again by a rerun",
    "retried",
    "failed",
    "dead",
    "dead, and again by a rerun",
    "put off, counted",
    "put off, for pace",
    "put off too often",
    "a batch completes",
    "a batch is stale",
    "a lease is reaped",
    "a lease is ended",
    "cancelled",
    "requeued",
    "a requeue is refused",
    "purged",
];

impl Reference {
    pub(crate) fn new(registry: Registry, now: Timestamp) -> Self {
        Self {
            registry,
            now,
            client_lag: SignedDuration::ZERO,
            kinds: BTreeMap::new(),
            pending: BTreeMap::new(),
            archive: BTreeMap::new(),
            dead: BTreeMap::new(),
            keys: BTreeMap::new(),
            known: BTreeSet::new(),
            touched: BTreeSet::new(),
            seen: BTreeMap::new(),
        }
    }

    /// A transaction begins: nothing is touched yet.
    pub(crate) fn begin(&mut self) {
        self.touched.clear();
    }

    fn saw(&mut self, what: &'static str) {
        debug_assert!(MET.contains(&what), "{what}");
        *self.seen.entry(what).or_default() += 1;
    }

    pub(crate) fn find(&self, id: JobId) -> Option<&Job> {
        self.pending.get(&id).or_else(|| self.archive.get(&id)).or_else(|| self.dead.get(&id))
    }

    pub(crate) fn pending_of(&self, key: &Key) -> Option<&Job> {
        self.keys.get(key).map(|id| &self.pending[id])
    }

    fn is_enabled(&self, kind: &str) -> bool {
        self.kinds.get(kind).is_none_or(|row| row.settings.enabled)
    }

    fn route(&self, kind: &str) -> Option<Route> {
        self.kinds.get(kind).map(|row| row.settings.route)
    }

    fn max_failures(&self, kind: &str) -> Option<i32> {
        self.kinds.get(kind).map(|row| row.settings.max_failures)
    }

    fn write(&mut self, id: JobId) -> &mut Job {
        self.touched.insert(id);
        let job = self.pending.get_mut(&id).unwrap();
        job.touch(self.now);
        job
    }

    fn insert(&mut self, job: Job) {
        assert!(self.keys.insert(job.key(), job.id).is_none(), "at most one pending job a key");
        self.known.insert(job.id);
        self.touched.insert(job.id);
        assert!(self.pending.insert(job.id, job).is_none());
    }

    fn remove(&mut self, id: JobId) -> Job {
        let job = self.pending.remove(&id).unwrap();
        self.keys.remove(&job.key());
        self.touched.insert(id);
        job
    }

    fn fresh(&self, id: JobId, kind: &str, target_id: Uuid) -> Job {
        let policy = self.registry.get(kind).unwrap();
        Job {
            id,
            kind: kind.to_owned(),
            target_id,
            inputs: Value::Null,
            status: JobStatus::Queued,
            route: self.route(kind).unwrap_or(policy.route),
            priority: policy.priority,
            next_run_at: self.now,
            attempt: 0,
            failures: 0,
            max_failures: self.max_failures(kind).unwrap_or(policy.max_failures),
            deferrals: 0,
            lease_token: None,
            lease_expires_at: None,
            claimed_at: None,
            module: None,
            hinted_until: None,
            report_token: None,
            report_digest: None,
            last_error: None,
            rerun: false,
            requeues: 0,
            trace_context: None,
            created_at: self.now,
            updated_at: self.now,
            version: 1,
            result: None,
            error: None,
            finished_at: None,
        }
    }

    fn due_soon(&self, job: &Job) -> bool {
        job.is_queued()
            && job.route == Route::Internal
            && job.next_run_at <= self.now + HORIZON
            && !job.is_hinted(self.now)
    }

    pub(crate) fn enqueue(&mut self, jobs: &[NewJob<'_>], answers: &[Enqueued]) {
        assert_eq!(jobs.len(), answers.len());
        let mut merged: BTreeMap<Key, (NewJob<'_>, &Enqueued)> = BTreeMap::new();
        for (job, answer) in jobs.iter().zip(answers) {
            let priority = job.priority.unwrap_or_else(|| self.registry.get(job.kind).unwrap().priority);
            let run_at = job.run_at.unwrap_or(self.now);
            merged
                .entry((job.kind.to_owned(), job.target_id))
                .and_modify(|(first, first_answer)| {
                    first.priority = first.priority.max(Some(priority));
                    first.run_at = first.run_at.min(Some(run_at));
                    assert_eq!(*first_answer, answer, "two of one key are one job");
                })
                .or_insert((
                    NewJob { priority: Some(priority), run_at: Some(run_at), ..job.clone() },
                    answer,
                ));
        }
        for (key, (new, answer)) in merged {
            let (priority, run_at) = (new.priority.unwrap(), new.run_at.unwrap());
            let id = if let Some(id) = self.keys.get(&key).copied() {
                assert_eq!((answer.id, answer.inserted), (id, false), "the pending job is kept: {key:?}");
                let is_queued = self.pending[&id].is_queued();
                self.saw(if is_queued {
                    "a queued job is enqueued again"
                } else {
                    "a claimed job is enqueued again"
                });
                let job = self.write(id);
                if is_queued {
                    if run_at < job.next_run_at {
                        (job.next_run_at, job.hinted_until) = (run_at, None);
                    }
                    job.priority = job.priority.max(priority);
                } else {
                    job.rerun = true;
                }
                id
            } else {
                assert!(answer.inserted && !self.known.contains(&answer.id), "a new job: {key:?}");
                self.saw("a job is made");
                self.insert(Job {
                    inputs: new.inputs.clone(),
                    priority,
                    next_run_at: run_at,
                    trace_context: new.trace_context.clone(),
                    ..self.fresh(answer.id, new.kind, new.target_id)
                });
                answer.id
            };
            let due_soon = self.due_soon(&self.pending[&id]);
            assert_eq!(*answer, Enqueued { id, kind: key.0, inserted: answer.inserted, due_soon });
        }
    }

    fn is_markable(&self, job: &Job) -> bool {
        self.due_soon(job) && self.is_enabled(&job.kind)
    }

    fn mark(&mut self, id: JobId, answer: &MarkedJob) {
        self.saw("a hint is marked");
        let now = self.now;
        let job = self.write(id);
        job.hinted_until = Some(now.max(job.next_run_at) + MARK);
        let ahead = job.next_run_at.duration_since(now);
        let seconds = ahead.as_secs() + i64::from(ahead.subsec_nanos() > 0);
        let expected = MarkedJob {
            hint: Hint { job_id: id, attempt: job.attempt },
            delay: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
            trace_context: job.trace_context.clone(),
        };
        assert_eq!(*answer, expected);
    }

    pub(crate) fn mark_ready(&mut self, limit: usize, answers: &[MarkedJob]) {
        let mut expected: Vec<_> =
            self.pending.values().filter(|job| self.is_markable(job)).map(Job::order).collect();
        expected.sort_unstable();
        expected.truncate(limit);
        let found: Vec<_> = answers.iter().map(|answer| answer.hint.job_id).collect();
        let ids: Vec<_> = expected.into_iter().map(|(.., id)| id).collect();
        assert_eq!(found, ids, "what is due within a minute and unhinted, in the order of work");
        for answer in answers {
            self.mark(answer.hint.job_id, answer);
        }
    }

    pub(crate) fn mark_by_id(&mut self, ids: &[JobId], answers: &[MarkedJob]) {
        let wanted: BTreeSet<_> = ids.iter().copied().collect();
        let expected: BTreeSet<_> = wanted
            .into_iter()
            .filter(|id| self.pending.get(id).is_some_and(|job| self.is_markable(job)))
            .collect();
        let found: BTreeSet<_> = answers.iter().map(|answer| answer.hint.job_id).collect();
        assert_eq!((&found, answers.len()), (&expected, expected.len()), "what a sweep would mark, once");
        for answer in answers {
            self.mark(answer.hint.job_id, answer);
        }
    }

    /// `attempt` `None`: whatever it is.
    pub(crate) fn unmark(&mut self, hints: &[(JobId, Option<i32>)], answer: u64) {
        let marked: BTreeSet<_> = hints
            .iter()
            .filter(|(id, attempt)| {
                self.pending.get(id).is_some_and(|job| {
                    job.is_queued()
                        && job.hinted_until.is_some()
                        && attempt.is_none_or(|attempt| attempt == job.attempt)
                })
            })
            .map(|(id, _)| *id)
            .collect();
        assert_eq!(answer, marked.len() as u64, "marks of the same attempt are taken back");
        for id in marked {
            self.saw("a mark is taken back");
            self.write(id).hinted_until = None;
        }
    }

    fn claim(&mut self, answer: &ClaimedJob, lease: SignedDuration, module: Option<Uuid>) {
        self.saw(if module.is_some() { "a module claims" } else { "a hint claims" });
        let now = self.now;
        let job = self.write(answer.id);
        job.status = JobStatus::Claimed;
        job.attempt += 1;
        job.lease_token = Some(answer.lease_token);
        job.lease_expires_at = Some(now + lease);
        job.claimed_at = Some(now);
        job.module = module;
        job.hinted_until = None;
        assert_eq!(*answer, job.claimed());
    }

    pub(crate) fn claim_batch(&mut self, hints: &[Hint], lease: Duration, answers: &[ClaimedJob]) {
        let expected: BTreeSet<_> = hints
            .iter()
            .filter(|hint| {
                self.pending.get(&hint.job_id).is_some_and(|job| {
                    job.is_queued()
                        && job.attempt == hint.attempt
                        && job.route == Route::Internal
                        && job.next_run_at <= self.now + EARLY
                        && self.is_enabled(&job.kind)
                })
            })
            .map(|hint| hint.job_id)
            .collect();
        let found: BTreeSet<_> = answers.iter().map(|answer| answer.id).collect();
        assert_eq!((&found, answers.len()), (&expected, expected.len()), "what the hints may claim, once");
        if expected.len() < hints.len() {
            self.saw("a hint finds nothing");
        }
        let lease = SignedDuration::try_from(lease.min(Duration::from_secs(60))).unwrap();
        for answer in answers {
            self.claim(answer, lease, None);
        }
    }

    fn is_claimable_outside(&self, job: &Job, kinds: &[String]) -> bool {
        job.is_queued()
            && job.route == Route::External
            && job.next_run_at <= self.now
            && kinds.contains(&job.kind)
            && self.is_enabled(&job.kind)
    }

    fn claimable_outside(&self, kinds: &[String], limit: usize) -> Vec<JobId> {
        let mut ready: Vec<_> = self
            .pending
            .values()
            .filter(|job| self.is_claimable_outside(job, kinds))
            .map(Job::order)
            .collect();
        ready.sort_unstable();
        ready.truncate(limit);
        ready.into_iter().map(|(.., id)| id).collect()
    }

    fn lease_outside(&self, kind: &str, asked: Option<Duration>) -> SignedDuration {
        let seconds = match asked {
            Some(asked) => i64::try_from(asked.as_secs()).unwrap().clamp(10, 900),
            None => self.kinds.get(kind).map_or_else(
                || i64::try_from(self.registry.get(kind).unwrap().lease.as_secs()).unwrap(),
                |row| i64::from(row.settings.lease_seconds),
            ),
        };
        SignedDuration::from_secs(seconds)
    }

    pub(crate) fn list_claimable(&self, kinds: &[String], limit: usize, answers: &[JobRecord]) {
        let found: Vec<_> = answers.iter().map(|answer| answer.id).collect();
        assert_eq!(found, self.claimable_outside(kinds, limit));
        for answer in answers {
            self.pending[&answer.id].is_the_record(answer);
        }
    }

    pub(crate) fn claim_outside(
        &mut self,
        module: Uuid,
        kinds: &[String],
        limit: usize,
        lease: Option<Duration>,
        answers: &[ClaimedJob],
    ) {
        let found: Vec<_> = answers.iter().map(|answer| answer.id).collect();
        assert_eq!(found, self.claimable_outside(kinds, limit), "in the order of work");
        for answer in answers {
            let lease = self.lease_outside(&answer.kind, lease);
            self.claim(answer, lease, Some(module));
        }
    }

    pub(crate) fn claim_one_outside(
        &mut self,
        module: Uuid,
        kinds: &[String],
        id: JobId,
        lease: Option<Duration>,
        answer: &Result<ClaimedJob, NotClaimed>,
    ) {
        let Some(job) = self.find(id) else {
            return assert_eq!(*answer, Err(NotClaimed::NotFound));
        };
        if !kinds.contains(&job.kind) {
            return assert_eq!(*answer, Err(NotClaimed::WrongKind));
        }
        match answer {
            Ok(claimed) => {
                assert!(self.is_claimable_outside(job, kinds), "{job:?}");
                let lease = self.lease_outside(&claimed.kind, lease);
                self.claim(claimed, lease, Some(module));
            }
            Err(NotClaimed::NotClaimable(record)) => {
                assert!(!self.is_claimable_outside(job, kinds), "{job:?}");
                job.is_the_record(record);
                self.saw("a module is refused");
            }
            Err(other) => panic!("{other:?} of {job:?}"),
        }
    }
}

/// The driver cuts nanoseconds off.
fn to_the_column(at: Timestamp) -> Timestamp {
    at.round(TimestampRound::new().smallest(Unit::Microsecond).mode(RoundMode::Trunc)).unwrap()
}

fn refused(status: Option<JobStatus>, asked: &str, answer: &Result<Transition, Error>) {
    match (status, answer) {
        (None, Err(Error::NotFound)) => {}
        (Some(status), Err(Error::InvalidTransition { from, asked: refused })) => {
            assert_eq!((*from, *refused), (status, asked));
        }
        _ => panic!("{answer:?} of a job that is {status:?}"),
    }
}

fn error_json(after: &Transition, cause: &Cause) -> Value {
    json!({
        "code": cause.code,
        "message": cause.message,
        "attempt": after.attempt,
        "failures": after.failures,
        "next_run_at": after.next_run_at,
    })
}

fn event(after: &Transition, from: JobStatus, cause: &Cause, before: &Job) -> JobEvent {
    let mut payload = json!({
        "kind": after.kind,
        "target_type": TARGET_TYPE,
        "target_id": after.target_id,
        "from": from,
        "to": after.status,
        "reason": cause.code,
        "message": cause.message,
        "attempt": after.attempt,
        "failures": after.failures,
    });
    if let Some(next_run_at) = after.next_run_at {
        payload["next_run_at"] = json!(next_run_at);
    }
    JobEvent {
        job_id: after.id,
        event_type: cause.event,
        payload,
        trace_context: before.trace_context.clone(),
    }
}
