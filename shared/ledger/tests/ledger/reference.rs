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

    /// Whether the attempt has the job now.
    pub(crate) fn holds(&self, holder: &Holder) -> bool {
        self.pending.get(&holder.job_id).is_some_and(|job| {
            job.status == JobStatus::Claimed
                && job.attempt == holder.attempt
                && job.lease_token == Some(holder.lease_token)
                && job.lease_expires_at.is_some_and(|expiry| expiry > self.now)
        })
    }

    pub(crate) fn heartbeat(&mut self, holder: &Holder, lease: Duration, answer: &Result<Timestamp, Error>) {
        let expiry = match answer {
            Err(Error::Stale) => {
                assert!(!self.holds(holder), "who holds the job may extend it");
                return self.saw("a heartbeat is stale");
            }
            Err(error) => panic!("{error:?}"),
            Ok(expiry) => *expiry,
        };
        assert!(self.holds(holder), "only who holds the job may extend it");
        let now = self.now;
        let job = self.write(holder.job_id);
        let longest = job.claimed_at.unwrap() + LEASE_MAX;
        assert_eq!(expiry, (now + SignedDuration::try_from(lease).unwrap()).min(longest));
        job.lease_expires_at = Some(expiry);
        self.saw("a lease is extended");
    }

    /// A report over HTTP is looked up before the fence; a worker's has none.
    pub(crate) fn report(
        &mut self,
        holder: &Holder,
        end: &End,
        report: Option<&Report>,
        jitter: f64,
        answer: &Reported,
    ) {
        if let Some(report) = report {
            let Some(job) = self.find(holder.job_id) else {
                assert!(matches!(answer, Reported::Unknown), "{answer:?}");
                return self.saw("a report is of no job");
            };
            let is_known = job.report_token == Some(report.token);
            let is_same = is_known && job.report_digest.as_deref() == Some(report.digest.as_slice());
            match answer {
                Reported::Repeated(Replay::Same(record)) => {
                    assert!(is_same, "only the last accepted report is a repetition");
                    job.is_the_record(record);
                    return self.saw("a report is repeated");
                }
                Reported::Repeated(Replay::Other) => {
                    assert!(is_known && !is_same);
                    return self.saw("a report differs from the accepted one");
                }
                _ => assert!(!is_known, "{answer:?}"),
            }
        }
        let (fenced, transition) = match answer {
            Reported::Stale => {
                assert!(!self.holds(holder), "who holds the job passes the fence");
                return self.saw("a report is stale");
            }
            Reported::Settled(fenced, transition) => (fenced, transition),
            Reported::Repeated(_) | Reported::Unknown => panic!("{answer:?}"),
        };
        assert!(self.holds(holder), "only who holds the job passes the fence");
        let job = &self.pending[&holder.job_id];
        assert_eq!(fenced.job, job.claimed());
        assert_eq!(fenced.route, self.route(&job.kind).unwrap_or(job.route));
        let verdict = match end {
            End::Complete(result) => return self.complete(holder.job_id, result, report, transition),
            End::Fail(failure) => self.judge(job, failure, JobEventType::RetryScheduled, jitter),
            End::Release(after) => {
                let at = self.now + SignedDuration::try_from(after.unwrap_or_default()).unwrap();
                self.defer(job, At::From(at), true, jitter)
            }
            End::Defer { until, counted } => self.defer(job, At::Exactly(*until), *counted, jitter),
        };
        self.turn(holder.job_id, &verdict, report, transition);
    }

    fn defer(&self, job: &Job, at: At, counted: bool, jitter: f64) -> Verdict {
        if !counted || job.deferrals < DEFERRALS_FREE {
            return Verdict::Return { at, counted, charged: None };
        }
        let (At::Exactly(until) | At::From(until)) = at;
        let failure = Failure {
            code: "deferred_too_often".into(),
            message: format!("the job was put off {} times", job.deferrals + 1),
            permanent: false,
            retry_after: Duration::try_from(until.duration_since(self.now)).ok(),
        };
        match self.judge(job, &failure, JobEventType::RetryScheduled, jitter) {
            Verdict::Return { at, charged, .. } => Verdict::Return { at, counted: true, charged },
            bury @ Verdict::Bury { .. } => bury,
        }
    }

    fn judge(&self, job: &Job, failure: &Failure, event: JobEventType, jitter: f64) -> Verdict {
        let cause = |event| Cause { code: failure.code.clone(), message: failure.message.clone(), event };
        if failure.permanent {
            return Verdict::Bury {
                status: JobStatus::Failed,
                charge: 1,
                cause: cause(JobEventType::Failed),
            };
        }
        let failures = job.failures + 1;
        if failures >= job.max_failures {
            return Verdict::Bury {
                status: JobStatus::DeadLetter,
                charge: 1,
                cause: cause(JobEventType::DeadLettered),
            };
        }
        let policy = self.registry.get(&job.kind).unwrap();
        let (base_s, cap_s) = match self.kinds.get(&job.kind) {
            Some(row) => (f64::from(row.settings.base_seconds), f64::from(row.settings.cap_seconds)),
            None => (policy.base.as_secs_f64(), policy.cap.as_secs_f64()),
        };
        let bound_s = (base_s * f64::from(failures - 1).exp2()).min(cap_s).max(1.0);
        let floor_s = failure.retry_after.unwrap_or_default().as_secs_f64().min(6.0 * 3_600.0);
        let pause_s = (1.0 + (bound_s - 1.0) * jitter).max(floor_s);
        let at = At::From(self.now + SignedDuration::try_from_secs_f64(pause_s).unwrap());
        Verdict::Return { at, counted: false, charged: Some(cause(event)) }
    }

    /// A job leaves its lease (or, cancelled, the queue), as every transition of a claimed row does but completion.
    fn turn(&mut self, id: JobId, verdict: &Verdict, report: Option<&Report>, answer: &Transition) {
        let now = self.now;
        let before = self.pending[&id].clone();
        let route = self.route(&before.kind).unwrap_or(before.route);
        let mut expected = Transition {
            id,
            kind: before.kind.clone(),
            target_type: TARGET_TYPE.to_owned(),
            target_id: before.target_id,
            status: JobStatus::Queued,
            attempt: before.attempt,
            failures: before.failures,
            next_run_at: None,
            event: None,
            terminal: None,
            rerun: None,
            wake: None,
        };
        let cause = match verdict {
            Verdict::Return { at, counted, charged } => {
                self.saw(match (charged.as_ref().map(|cause| cause.code.as_str()), counted) {
                    (Some("deferred_too_often"), _) => "put off too often",
                    (Some("lease_expired"), _) => "a lease is reaped",
                    (Some(_), _) => "retried",
                    (None, true) => "put off, counted",
                    (None, false) => "put off, for pace",
                });
                let at = self.instant(at, answer.next_run_at.expect("a queued job has its instant"));
                expected.failures += i32::from(charged.is_some());
                expected.next_run_at = Some(at);
                let is_soon = at <= now + HORIZON + self.client_lag;
                expected.wake = (is_soon && route == Route::Internal).then_some(id);
                let error = charged.as_ref().map(|cause| error_json(&expected, cause));
                let job = self.write(id);
                job.status = JobStatus::Queued;
                job.route = route;
                job.next_run_at = to_the_column(at);
                job.failures = expected.failures;
                job.deferrals += i32::from(*counted);
                (job.lease_token, job.lease_expires_at, job.claimed_at) = (None, None, None);
                (job.module, job.hinted_until, job.rerun) = (None, None, false);
                if let Some(report) = report {
                    job.report_token = Some(report.token);
                    job.report_digest = Some(report.digest.to_vec());
                }
                job.last_error = error.or(job.last_error.take());
                charged.clone()
            }
            Verdict::Bury { status, charge, cause } => {
                self.saw(match (status, before.rerun) {
                    (_, true) => "dead, and again by a rerun",
                    (JobStatus::DeadLetter, _) => "dead",
                    (_, _) if cause.event == JobEventType::Cancelled => "cancelled",
                    _ => "failed",
                });
                expected.status = *status;
                expected.failures += charge;
                let error = error_json(&expected, cause);
                let mut job = self.leave(id, *status, report);
                job.failures = expected.failures;
                (job.last_error, job.error) = (Some(error.clone()), Some(error));
                self.dead.insert(id, job);
                self.rerun(&before, answer, &mut expected);
                expected.terminal = expected.rerun.is_none().then(|| TerminalJob {
                    id,
                    kind: before.kind.clone(),
                    target_type: TARGET_TYPE.to_owned(),
                    target_id: before.target_id,
                    inputs: before.inputs.clone(),
                    status: *status,
                    code: cause.code.clone(),
                    message: cause.message.clone(),
                    attempt: before.attempt,
                    trace_context: before.trace_context.clone(),
                });
                Some(cause.clone())
            }
        };
        expected.event = cause.map(|cause| event(&expected, before.status, &cause, &before));
        assert_eq!(*answer, expected);
    }

    fn instant(&self, at: &At, found: Timestamp) -> Timestamp {
        match *at {
            At::Exactly(at) => assert_eq!(found, at),
            At::From(at) => {
                let late = found.duration_since(at);
                // The model counts in floating seconds.
                let is_near = late >= -SignedDuration::from_micros(1) && late <= self.client_lag;
                assert!(is_near, "{found} should be {at}, or {} later", self.client_lag);
            }
        }
        found
    }

    /// What changes of any job that moves to the archive or to the dead.
    fn leave(&mut self, id: JobId, status: JobStatus, report: Option<&Report>) -> Job {
        let now = self.now;
        let mut job = self.remove(id);
        job.touch(now);
        (job.status, job.finished_at, job.rerun) = (status, Some(now), false);
        (job.lease_token, job.lease_expires_at, job.hinted_until) = (None, None, None);
        if let Some(report) = report {
            job.report_token = Some(report.token);
            job.report_digest = Some(report.digest.to_vec());
        }
        job
    }

    /// The fresh job that follows the end of a job which was enqueued again while it was claimed.
    fn rerun(&mut self, before: &Job, answer: &Transition, expected: &mut Transition) {
        if !before.rerun {
            return;
        }
        let made = answer.rerun.as_ref().expect("a rerun makes a fresh job");
        let fresh = self.rerun_job(before, made.id);
        let due_soon = fresh.route == Route::Internal;
        self.insert(fresh);
        expected.wake = due_soon.then_some(made.id);
        expected.rerun = Some(Enqueued { id: made.id, kind: before.kind.clone(), inserted: true, due_soon });
    }

    fn rerun_job(&self, before: &Job, id: JobId) -> Job {
        assert!(!self.known.contains(&id), "a new id");
        Job {
            inputs: before.inputs.clone(),
            route: self.route(&before.kind).unwrap_or(before.route),
            priority: before.priority,
            max_failures: self.max_failures(&before.kind).unwrap_or(before.max_failures),
            trace_context: before.trace_context.clone(),
            ..self.fresh(id, &before.kind, before.target_id)
        }
    }

    fn complete(&mut self, id: JobId, result: &Value, report: Option<&Report>, answer: &Transition) {
        let before = self.pending[&id].clone();
        self.saw(if before.rerun { "done, and again by a rerun" } else { "done" });
        let mut job = self.leave(id, JobStatus::Done, report);
        job.result = Some(result.clone());
        self.archive.insert(id, job);
        let mut expected = Transition {
            id,
            kind: before.kind.clone(),
            target_type: TARGET_TYPE.to_owned(),
            target_id: before.target_id,
            status: JobStatus::Done,
            attempt: before.attempt,
            failures: before.failures,
            next_run_at: None,
            event: None,
            terminal: None,
            rerun: None,
            wake: None,
        };
        self.rerun(&before, answer, &mut expected);
        assert_eq!(*answer, expected);
    }

    /// The fresh jobs of reruns are named only where they may be woken for: `made` tells them all.
    pub(crate) fn complete_batch(
        &mut self,
        attempts: &[(Holder, Value)],
        answer: &BatchCompleted,
        made: &BTreeMap<Key, JobId>,
    ) {
        let (mut done, mut stale, mut wake) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
        for (holder, result) in attempts {
            if !self.holds(holder) {
                self.saw("a batch is stale");
                stale.push(*holder);
                continue;
            }
            self.saw("a batch completes");
            let id = holder.job_id;
            let before = self.pending[&id].clone();
            let mut job = self.leave(id, JobStatus::Done, None);
            job.result = Some(result.clone());
            self.archive.insert(id, job);
            done.insert(id);
            if before.rerun {
                let fresh = self.rerun_job(&before, made[&before.key()]);
                if fresh.route == Route::Internal {
                    wake.insert(fresh.id);
                }
                self.insert(fresh);
            }
        }
        assert_eq!(answer.done.iter().copied().collect::<BTreeSet<_>>(), done);
        assert_eq!(answer.done.len(), done.len(), "each once");
        assert_eq!(answer.stale, stale, "the stale ones are told");
        assert_eq!(answer.wake.iter().copied().collect::<BTreeSet<_>>(), wake);
    }

    pub(crate) fn reap(&mut self, limit: usize, jitter: f64, answers: &[Transition]) {
        let mut expired: Vec<_> = self
            .pending
            .values()
            .filter(|job| job.lease_expires_at.is_some_and(|expiry| expiry <= self.now))
            .filter(|job| self.is_in_the_due_part(job))
            .map(|job| (job.lease_expires_at, job.id))
            .collect();
        expired.sort_unstable();
        expired.truncate(limit);
        let expired: Vec<_> = expired.into_iter().map(|(_, id)| id).collect();
        let found: Vec<_> = answers.iter().map(|answer| answer.id).collect();
        assert_eq!(found, expired, "expired leases, oldest first, and no others");
        for answer in answers {
            let job = &self.pending[&answer.id];
            let message =
                format!("attempt {} did not report before {}", job.attempt, job.lease_expires_at.unwrap());
            let failure =
                Failure { code: "lease_expired".into(), message, permanent: false, retry_after: None };
            let verdict = self.judge(job, &failure, JobEventType::LeaseRequeued, jitter);
            self.turn(answer.id, &verdict, None, answer);
        }
    }

    /// Where a claimed row lies, unless the clock went back since its claim: then it is passed over until the clock is
    /// there again.
    fn is_in_the_due_part(&self, job: &Job) -> bool {
        job.next_run_at <= self.now + EARLY
    }

    pub(crate) fn end_leases(&mut self, module: Uuid, answers: &[Transition]) {
        let held: Vec<_> = self
            .pending
            .values()
            .filter(|job| job.module == Some(module) && self.is_in_the_due_part(job))
            .map(|job| job.id)
            .collect();
        assert_eq!(answers.iter().map(|answer| answer.id).collect::<Vec<_>>(), held);
        for answer in answers {
            self.saw("a lease is ended");
            let verdict = Verdict::Return { at: At::From(self.now), counted: false, charged: None };
            self.turn(answer.id, &verdict, None, answer);
        }
    }

    fn cancelled(&mut self, id: JobId, reason: &str, answer: &Transition) {
        let cause =
            Cause { code: "cancelled".into(), message: reason.to_owned(), event: JobEventType::Cancelled };
        self.turn(id, &Verdict::Bury { status: JobStatus::Failed, charge: 0, cause }, None, answer);
    }

    pub(crate) fn cancel(&mut self, id: JobId, reason: &str, answer: &Result<Transition, Error>) {
        match (self.find(id).map(|job| job.status), answer) {
            (Some(JobStatus::Queued), Ok(answer)) => self.cancelled(id, reason, answer),
            (status, answer) => refused(status, "cancelled", answer),
        }
    }

    pub(crate) fn cancel_for_target(
        &mut self,
        kinds: &[&str],
        target_id: Uuid,
        reason: &str,
        answers: &[Transition],
    ) {
        let queued: BTreeSet<_> = kinds
            .iter()
            .filter_map(|kind| self.pending_of(&((*kind).to_owned(), target_id)))
            .filter(|job| job.is_queued())
            .map(|job| job.id)
            .collect();
        assert_eq!(
            answers.iter().map(|answer| answer.id).collect::<Vec<_>>(),
            queued.into_iter().collect::<Vec<_>>()
        );
        for answer in answers {
            self.cancelled(answer.id, reason, answer);
        }
    }

    fn queued(job: &Job) -> Transition {
        Transition {
            id: job.id,
            kind: job.kind.clone(),
            target_type: TARGET_TYPE.to_owned(),
            target_id: job.target_id,
            status: JobStatus::Queued,
            attempt: job.attempt,
            failures: job.failures,
            next_run_at: Some(job.next_run_at),
            event: None,
            terminal: None,
            rerun: None,
            wake: (job.route == Route::Internal).then_some(job.id),
        }
    }

    pub(crate) fn retry_now(&mut self, id: JobId, answer: &Result<Transition, Error>) {
        if !self.pending.get(&id).is_some_and(Job::is_queued) {
            return self.requeue(id, answer);
        }
        let now = self.now;
        let job = self.write(id);
        job.next_run_at = job.next_run_at.min(now);
        job.hinted_until = None;
        assert_eq!(*answer.as_ref().unwrap(), Self::queued(&self.pending[&id]));
    }

    fn back(&mut self, id: JobId, answer: &Transition) {
        let now = self.now;
        self.saw("requeued");
        let mut job = self.dead.remove(&id).unwrap();
        let from = job.status;
        job.touch(now);
        job.status = JobStatus::Queued;
        job.route = self.route(&job.kind).unwrap_or(job.route);
        job.max_failures = self.max_failures(&job.kind).unwrap_or(job.max_failures);
        (job.failures, job.deferrals, job.next_run_at) = (0, 0, now);
        job.requeues += 1;
        job.last_error = job.error.take();
        (job.claimed_at, job.module, job.finished_at) = (None, None, None);
        let mut expected = Self::queued(&job);
        expected.event = Some(JobEvent {
            job_id: id,
            event_type: JobEventType::Requeued,
            payload: json!({
                "kind": job.kind,
                "target_type": TARGET_TYPE,
                "target_id": job.target_id,
                "from": from,
                "to": "queued",
                "reason": "requeued",
                "attempt": job.attempt,
                "failures": 0,
                "requeues": job.requeues,
                "next_run_at": now,
            }),
            trace_context: job.trace_context.clone(),
        });
        self.insert(job);
        assert_eq!(*answer, expected);
    }

    pub(crate) fn requeue(&mut self, id: JobId, answer: &Result<Transition, Error>) {
        let Some(dead) = self.dead.get(&id) else {
            return refused(self.find(id).map(|job| job.status), "requeued", answer);
        };
        match (self.pending_of(&dead.key()), answer) {
            (None, Ok(answer)) => self.back(id, answer),
            (Some(pending), Err(Error::PendingJobExists { job_id })) => {
                assert_eq!(*job_id, pending.id);
                self.saw("a requeue is refused");
            }
            (pending, answer) => panic!("{answer:?} where {pending:?} is pending"),
        }
    }

    pub(crate) fn requeue_dead(&mut self, filter: &DeadFilter, limit: usize, answer: &Requeued) {
        let wanted: BTreeSet<_> = self
            .dead
            .values()
            .filter(|job| job.status == JobStatus::DeadLetter)
            .filter(|job| filter.kind.as_ref().is_none_or(|kind| *kind == job.kind))
            .filter(|job| {
                let code = job.error.as_ref().and_then(|error| error["code"].as_str());
                filter.error_code.as_deref().is_none_or(|wanted| code == Some(wanted))
            })
            .filter(|job| filter.before.is_none_or(|before| job.finished_at < Some(before)))
            .map(|job| job.id)
            .take(limit)
            .collect();
        let back: Vec<_> = answer.requeued.iter().map(|back| back.id).collect();
        let all: BTreeSet<_> = back.iter().chain(&answer.skipped).copied().collect();
        assert_eq!(
            (all.len(), &all),
            (back.len() + answer.skipped.len(), &wanted),
            "the oldest dead letters"
        );
        assert!(back.is_sorted());
        for back in &answer.requeued {
            let key = self.dead[&back.id].key();
            assert!(self.pending_of(&key).is_none(), "the target's pending job is kept");
            self.back(back.id, back);
        }
        for skipped in &answer.skipped {
            // Of two dead letters of one target either may be the one that came back.
            assert!(
                self.pending_of(&self.dead[skipped].key()).is_some(),
                "nothing is skipped without reason"
            );
        }
    }

    pub(crate) fn put_kind(&mut self, kind: &str, settings: &KindSettings, answer: &KindRow) {
        let version = self.kinds.get(kind).map_or(0, |row| row.version) + 1;
        let row = KindRow { kind: kind.to_owned(), settings: *settings, version };
        assert_eq!(*answer, row);
        self.kinds.insert(kind.to_owned(), row);
        let moved: Vec<_> = self
            .pending
            .values()
            .filter(|job| job.kind == kind && job.is_queued() && job.route != settings.route)
            .map(|job| job.id)
            .collect();
        for id in moved {
            let job = self.write(id);
            (job.route, job.hinted_until) = (settings.route, None);
        }
    }

    pub(crate) fn purge(&mut self, before: Timestamp, limit: usize, answer: u64) {
        let old: Vec<_> = self
            .dead
            .values()
            .filter(|job| job.finished_at < Some(before))
            .map(|job| job.id)
            .take(limit)
            .collect();
        assert_eq!(answer, old.len() as u64);
        for id in old {
            self.saw("purged");
            self.dead.remove(&id);
            self.known.remove(&id);
        }
    }

    pub(crate) fn found(&self, id: JobId, answer: Option<&JobRecord>) {
        match (self.find(id), answer) {
            (Some(job), Some(record)) => job.is_the_record(record),
            (None, None) => {}
            (job, record) => panic!("{record:?} of {job:?}"),
        }
    }

    pub(crate) fn listed(&self, target_id: Uuid, status: Option<JobStatus>, answers: &[JobRecord]) {
        let mut expected: Vec<_> = [&self.pending, &self.archive, &self.dead]
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(|job| job.target_id == target_id && status.is_none_or(|status| status == job.status))
            .collect();
        expected.sort_by_key(|job| Reverse(job.id));
        assert_eq!(answers.len(), expected.len());
        for (job, answer) in expected.iter().zip(answers) {
            job.is_the_record(answer);
        }
    }

    pub(crate) fn stats(&self, answer: &JobStats) {
        let statuses = [
            JobStatus::Queued,
            JobStatus::Claimed,
            JobStatus::Done,
            JobStatus::Failed,
            JobStatus::DeadLetter,
        ];
        let mut expected = JobStats {
            by_status: statuses.iter().map(|status| (status.to_string(), 0)).collect(),
            ..JobStats::default()
        };
        *expected.by_status.get_mut("done").unwrap() = i64::try_from(self.archive.len()).unwrap();
        for job in self.pending.values().chain(self.dead.values()) {
            *expected.by_status.get_mut(job.status.as_str()).unwrap() += 1;
            let by_status = expected.by_kind.entry(job.kind.clone()).or_default();
            *by_status.entry(job.status.to_string()).or_default() += 1;
        }
        expected.oldest_ready_age_s = self
            .pending
            .values()
            .filter(|job| job.is_queued() && job.next_run_at <= self.now && self.is_enabled(&job.kind))
            .map(|job| self.now.duration_since(job.next_run_at).as_secs_f64())
            .reduce(f64::max);
        let age = answer.oldest_ready_age_s;
        assert_eq!(JobStats { oldest_ready_age_s: expected.oldest_ready_age_s, ..answer.clone() }, expected);
        assert_eq!(age.is_some(), expected.oldest_ready_age_s.is_some());
        let difference = age.unwrap_or(0.0) - expected.oldest_ready_age_s.unwrap_or(0.0);
        assert!(difference.abs() < 1e-3, "{age:?}, not {:?}", expected.oldest_ready_age_s);
    }

    pub(crate) fn listed_kinds(&self, answers: &[KindRow]) {
        for (policy, answer) in self.registry.iter().zip(answers) {
            assert_eq!(policy.kind, answer.kind);
            match self.kinds.get(policy.kind) {
                Some(row) => assert_eq!(answer, row),
                None => assert_eq!((answer.version, answer.settings.max_failures), (0, policy.max_failures)),
            }
        }
        assert_eq!(answers.len(), self.registry.iter().count());
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
