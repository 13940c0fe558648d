//! Random histories of every operation, on PostgreSQL and on the reference model side by side.
//!
//! A *history* is what happens to three keys of two targets: a random sequence of [`ROUNDS`] operations by whoever has to do
//! with them, among them every holder that ever was. [`HISTORIES`] of them share a *world*: one database, its clock, the kinds' rows, and
//! what sweeps, modules and admins do to all jobs at once, between any two operations of a history. So one interleaving
//! is one history with what its world does to it. Each round is a transaction, and some are rolled back. After
//! each, every row that it wrote is compared with the model, column by column, and the answers were compared before.
//!
//! `LEDGER_WORLDS` sets how many worlds are run, `LEDGER_SEED` runs one again; a failure prints what to set.

use crate::clock;
use crate::reference::{End, Job, Key, MET, Reference, Reported, TARGET_TYPE, without_instant};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp, Unit};
use ledger::retention::DEAD_KEPT;
use ledger::{
    ClaimedJob, DeadFilter, Enqueued, Error, Failure, Hint, Holder, JobFilter, JobId, JobRecord, JobStatus,
    KindPolicy, KindSettings, MarkedJob, NewJob, NotClaimed, Registry, Replay, Report, Route, Scan,
    Transition, dead_jobs_purge, fence, job_cancel, job_claim_batch, job_claim_external, job_complete,
    job_defer, job_enqueue, job_fail, job_find, job_heartbeat, job_kind_put, job_kinds_list,
    job_pending_find, job_release, job_replay, job_requeue, job_retry_now, job_stats, jobs_cancel_for_target,
    jobs_claim_external, jobs_complete_batch, jobs_list, jobs_list_claimable, jobs_mark_by_id,
    jobs_mark_ready, jobs_reap, jobs_requeue_dead, jobs_unmark, jobs_unmark_by_id, module_leases_end,
};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use testdb::TestDb;
use tokio_postgres::{Client, Row, Transaction};
use uuid::Uuid;

mod steps;
use steps::*;

/// Worlds of each run of the tests.
const WORLDS: u64 = 40;
/// Histories of a world.
const HISTORIES: usize = 250;
/// Operations of a history.
const ROUNDS: usize = 20;
/// Worlds that run side by side, each with a database.
const LANES: u64 = 2;

const KINDS: [&str; 5] = ["extract", "resolve", "purge", "enrich", "translate"];

fn registry() -> Registry {
    let seconds = Duration::from_secs;
    let extract = KindPolicy {
        kind: "extract",
        route: Route::Internal,
        max_failures: 3,
        lease: seconds(120),
        base: seconds(30),
        cap: seconds(3_600),
        priority: 10,
    };
    Registry::new([
        extract,
        KindPolicy {
            kind: "resolve",
            max_failures: 5,
            base: seconds(1),
            cap: seconds(20),
            priority: 12,
            ..extract
        },
        // The first failure is its last.
        KindPolicy { kind: "purge", max_failures: 1, priority: 0, ..extract },
        KindPolicy { kind: "enrich", route: Route::External, priority: 5, ..extract },
        KindPolicy { kind: "translate", route: Route::External, lease: seconds(30), priority: 20, ..extract },
    ])
    .unwrap()
}

/// An operation on the jobs of one history.
#[derive(Debug, Clone)]
enum Step {
    Enqueue {
        jobs: Vec<NewJob<'static>>,
        alone: bool,
    },
    MarkById {
        ids: Vec<JobId>,
        alone: bool,
    },
    Unmark(Vec<Hint>),
    UnmarkById(Vec<JobId>),
    Claim(Vec<Hint>),
    ClaimOutside {
        module: Uuid,
        kinds: Vec<String>,
        id: JobId,
        lease: Option<Duration>,
    },
    Heartbeat {
        holder: Holder,
        lease: Duration,
    },
    Report {
        holder: Holder,
        end: End,
        report: Option<Report>,
        jitter: f64,
    },
    CompleteInBatch(Vec<(Holder, Value)>),
    Cancel(JobId),
    CancelForTarget {
        kinds: Vec<&'static str>,
        target: Uuid,
    },
    RetryNow(JobId),
    Requeue(JobId),
    /// As if the job had been put off that often.
    PutOff {
        id: JobId,
        deferrals: i32,
    },
    Find(JobId),
    List {
        target: Uuid,
        status: Option<JobStatus>,
    },
    FindPending(Key),
    Nothing,
}

/// An operation on all jobs of a world.
#[derive(Debug, Clone)]
enum Sweep {
    MarkReady(usize),
    Reap { limit: usize, jitter: f64 },
    ClaimOutside { module: Uuid, kinds: Vec<String>, limit: usize, lease: Option<Duration> },
    ListClaimable { kinds: Vec<String>, limit: usize },
    PutKind(&'static str, KindSettings),
    EndLeases(Uuid),
    RequeueDead(DeadFilter, usize),
    Purge { before: Timestamp, limit: usize },
    Stats,
    Kinds,
}

/// What a step that ran by itself answered.
#[derive(Debug)]
enum Answer {
    Enqueued(Vec<Enqueued>),
    Marked(Vec<MarkedJob>),
    ClaimedOutside(Result<ClaimedJob, NotClaimed>),
    Heartbeat(Result<Timestamp, Error>),
    Reported(Reported),
    Ended(Result<Transition, Error>),
    Cancelled(Vec<Transition>),
    PutOff,
    Found(Option<JobRecord>),
    Listed(Vec<JobRecord>),
    FoundPending(Option<JobId>),
}

struct History {
    keys: [Key; 3],
    /// Every job that was made for it, those of rolled back transactions among them.
    ids: Vec<JobId>,
    /// Every attempt that ever was.
    holders: Vec<Holder>,
}

struct World {
    rng: StdRng,
    registry: Registry,
    model: Reference,
    histories: Vec<History>,
    modules: [Uuid; 3],
    log: Log,
}

/// Told only if a check fails.
struct Log {
    seed: u64,
    round: usize,
    history: Option<usize>,
    steps: Vec<(usize, usize, Step)>,
    sweeps: Vec<(usize, Sweep)>,
    clock: Vec<(usize, Timestamp, bool)>,
}

impl Drop for Log {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("LEDGER_SEED={} runs this world again; round {}", self.seed, self.round);
        for round in 0..=self.round {
            for (_, at, rolled_back) in self.clock.iter().filter(|(of, ..)| *of == round) {
                eprintln!("{round}: the clock is {at}, rolled back: {rolled_back}");
            }
            for (_, sweep) in self.sweeps.iter().filter(|(of, _)| *of == round) {
                eprintln!("{round}: {sweep:?}");
            }
            for (_, _, step) in
                self.steps.iter().filter(|(of, history, _)| *of == round && Some(*history) == self.history)
            {
                eprintln!("{round}: {step:?}");
            }
        }
    }
}

/// The columns of [`Job`], of any of the three tables.
macro_rules! columns {
    ($ends:literal) => {
        concat!(
            "id, kind, target_type, target_id, inputs_json, status, route, priority, next_run_at, attempt, failures, \
             max_failures, deferrals, lease_token, lease_expires_at, claimed_at, locked_by_module_id, hinted_until, \
             report_token, report_digest, last_error, rerun, requeues, trace_context, created_at, updated_at, version",
            $ends
        )
    };
}
const PENDING: &str =
    concat!("SELECT ", columns!(", NULL::jsonb, NULL::jsonb, NULL::timestamptz"), " FROM jobs");
const ARCHIVE: &str =
    concat!("SELECT ", columns!(", result_json, error_json, finished_at"), " FROM job_archive");
const DEAD: &str = concat!("SELECT ", columns!(", result_json, error_json, finished_at"), " FROM job_dead");
const WRITTEN_NOW: &str = " WHERE xmin = pg_current_xact_id()::xid";

fn read(row: &Row) -> Job {
    assert_eq!(row.get::<_, &str>(2), TARGET_TYPE);
    let (mut last_error, mut error) = (row.get(20), row.get(28));
    without_instant(&mut last_error);
    without_instant(&mut error);
    Job {
        id: JobId(row.get(0)),
        kind: row.get(1),
        target_id: row.get(3),
        inputs: row.get(4),
        status: row.get::<_, &str>(5).parse().unwrap(),
        route: row.get::<_, &str>(6).parse().unwrap(),
        priority: row.get(7),
        next_run_at: row.get(8),
        attempt: row.get(9),
        failures: row.get(10),
        max_failures: row.get(11),
        deferrals: row.get(12),
        lease_token: row.get(13),
        lease_expires_at: row.get(14),
        claimed_at: row.get(15),
        module: row.get(16),
        hinted_until: row.get(17),
        report_token: row.get(18),
        report_digest: row.get(19),
        last_error,
        rerun: row.get(21),
        requeues: row.get(22),
        trace_context: row.get(23),
        created_at: row.get(24),
        updated_at: row.get(25),
        version: row.get(26),
        result: row.get(27),
        error,
        finished_at: row.get(29),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let registry = registry();
        // Later than the ids that are made, and within the archive's partitions whatever steps the clock makes.
        let start = Timestamp::now().round(Unit::Second).unwrap() + SignedDuration::from_hours(240);
        let mut rng = StdRng::seed_from_u64(seed);
        let histories = (0..HISTORIES)
            .map(|_| {
                let targets = [Uuid::new_v4(), Uuid::new_v4()];
                let first = *KINDS.choose(&mut rng).unwrap();
                let second = *KINDS
                    .iter()
                    .filter(|kind| **kind != first)
                    .collect::<Vec<_>>()
                    .choose(&mut rng)
                    .unwrap();
                let keys = [
                    (first.to_owned(), targets[0]),
                    ((*second).to_owned(), targets[0]),
                    (first.to_owned(), targets[1]),
                ];
                History { keys, ids: Vec::new(), holders: Vec::new() }
            })
            .collect();
        Self {
            rng,
            model: Reference::new(registry.clone(), start),
            registry,
            histories,
            modules: [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()],
            log: Log { seed, round: 0, history: None, steps: vec![], sweeps: vec![], clock: vec![] },
        }
    }

    async fn run(&mut self, client: &mut Client) {
        for round in 0..ROUNDS {
            self.log.round = round;
            self.step_clock();
            let rolls_back = self.rng.random_bool(0.06);
            self.log.clock.push((round, self.model.now, rolls_back));
            let before = rolls_back.then(|| self.model.clone());
            let tx = client.transaction().await.unwrap();
            clock::set(&tx, self.model.now).await;
            self.model.begin();
            self.round(&tx, round).await;
            self.compare_written(&tx).await;
            match before {
                Some(before) => {
                    tx.rollback().await.unwrap();
                    self.model = before;
                }
                None => tx.commit().await.unwrap(),
            }
        }
        self.finish(client).await;
    }

    /// Forward by moments, by the length of a lease, by that of a backoff, and at times back.
    fn step_clock(&mut self) {
        let millis = match self.rng.random_range(0..100) {
            0..=34 => 0,
            35..=64 => self.rng.random_range(1..3_000),
            65..=84 => self.rng.random_range(15_000..35_000),
            85..=92 => self.rng.random_range(61_000..150_000),
            93..=95 => self.rng.random_range(600_000..5_000_000),
            _ => -self.rng.random_range(500..400_000),
        };
        self.model.now += SignedDuration::from_millis(millis);
    }

    async fn round(&mut self, tx: &Transaction<'_>, round: usize) {
        let started = Instant::now();
        let mut steps: Vec<(usize, Step)> =
            (0..HISTORIES).map(|history| (history, self.plan(history))).collect();
        self.log.steps.extend(steps.iter().map(|(history, step)| (round, *history, step.clone())));
        steps.shuffle(&mut self.rng);
        let sweeps: Vec<Sweep> = (0..4).map(|_| self.plan_sweep()).collect();
        self.log.sweeps.extend(sweeps.iter().map(|sweep| (round, sweep.clone())));

        // Those that come in batches, those of one job each, and the sweeps, in any order: no two of the steps have a job in
        // common, and each sweep sees all that was done before it.
        let mut turns: Vec<usize> = (0..3 + sweeps.len()).collect();
        turns.shuffle(&mut self.rng);
        for turn in turns {
            match turn {
                0 => self.in_batches(tx, &steps).await,
                1 => self.one_by_one(tx, &steps, started).await,
                2 => self.complete_batch(tx, &steps).await,
                n => self.sweep(tx, &sweeps[n - 3], started).await,
            }
        }
    }

    fn lag(&mut self, started: Instant) {
        self.model.client_lag =
            SignedDuration::try_from(started.elapsed()).unwrap() + SignedDuration::from_millis(1);
    }

    fn plan(&mut self, history: usize) -> Step {
        let rng = &mut self.rng;
        let h = &self.histories[history];
        let pending: Vec<&Job> = h.keys.iter().filter_map(|key| self.model.pending_of(key)).collect();
        let any_id = |rng: &mut StdRng| h.ids.choose(rng).copied();
        let some_ids = |rng: &mut StdRng| -> Vec<JobId> {
            let mut ids: Vec<JobId> = (0..rng.random_range(1..4)).filter_map(|_| any_id(rng)).collect();
            if rng.random_bool(0.1) {
                ids.push(JobId::new());
            }
            ids
        };
        let wanted = |rng: &mut StdRng| -> Vec<NewJob<'static>> {
            (0..rng.random_range(1..4)).map(|_| new_job(rng, h, self.model.now)).collect()
        };
        let choice = if h.ids.is_empty() { 0 } else { rng.random_range(0..100) };
        // Nothing but stale reports would be a dull history.
        let is_held = h.holders.iter().any(|holder| self.model.holds(holder));
        let choice =
            if (48..=79).contains(&choice) && !is_held && rng.random_bool(0.6) { 20 } else { choice };
        match choice {
            0..=14 => Step::Enqueue { jobs: wanted(rng), alone: false },
            15..=19 => {
                let one = new_job(rng, h, self.model.now);
                let count = if rng.random_bool(0.2) { 2 } else { 1 };
                Step::Enqueue { jobs: vec![one; count], alone: true }
            }
            20..=40 => Step::Claim(hints(rng, &pending, &some_ids)),
            41..=47 => match any_id(rng) {
                Some(id) => Step::ClaimOutside {
                    module: *self.modules.choose(rng).unwrap(),
                    kinds: some_kinds(rng),
                    id: pending.choose(rng).filter(|_| rng.random_bool(0.9)).map_or(id, |job| job.id),
                    lease: asked_lease(rng),
                },
                None => Step::Nothing,
            },
            48..=51 => match a_holder(rng, &h.holders, &self.model) {
                Some(holder) => Step::Heartbeat {
                    holder,
                    lease: Duration::from_secs(*[20, 60, 900].choose(rng).unwrap()),
                },
                None => Step::Nothing,
            },
            52..=74 => match a_holder(rng, &h.holders, &self.model) {
                Some(holder) => report(rng, holder, self.model.now),
                None => Step::Nothing,
            },
            75..=79 => {
                let count = rng.random_range(1..4);
                let mut all: Vec<_> =
                    (0..count).filter_map(|_| a_holder(rng, &h.holders, &self.model)).collect();
                all.sort_by_key(|holder| (holder.job_id, holder.attempt, holder.lease_token));
                all.dedup();
                let attempts: Vec<_> =
                    all.into_iter().map(|holder| (holder, json!({"attempt": holder.attempt}))).collect();
                Step::CompleteInBatch(attempts)
            }
            80..=82 => Step::MarkById { ids: some_ids(rng), alone: rng.random_bool(0.5) },
            83 => Step::Unmark(hints(rng, &pending, &some_ids)),
            84 => Step::UnmarkById(some_ids(rng)),
            85..=86 => any_id(rng).map_or(Step::Nothing, Step::Cancel),
            87 => Step::CancelForTarget {
                kinds: KINDS.iter().copied().filter(|_| rng.random_bool(0.6)).collect(),
                target: h.keys.choose(rng).unwrap().1,
            },
            88..=90 => any_id(rng).map_or(Step::Nothing, Step::RetryNow),
            91..=93 => {
                let dead: Vec<_> = h.ids.iter().filter(|id| self.model.dead.contains_key(id)).collect();
                let id = dead.choose(rng).copied().copied().or_else(|| any_id(rng));
                id.map_or(Step::Nothing, Step::Requeue)
            }
            94..=95 => pending.choose(rng).map_or(Step::Nothing, |job| Step::PutOff {
                id: job.id,
                deferrals: rng.random_range(17..21),
            }),
            96..=97 => any_id(rng).map_or(Step::Nothing, Step::Find),
            98 => Step::List {
                target: h.keys.choose(rng).unwrap().1,
                status: [None, Some(JobStatus::Queued), Some(JobStatus::Done)].choose(rng).copied().unwrap(),
            },
            _ => Step::FindPending(h.keys.choose(rng).unwrap().clone()),
        }
    }

    fn plan_sweep(&mut self) -> Sweep {
        let now = self.model.now;
        let rng = &mut self.rng;
        match rng.random_range(0..24) {
            0..=6 => Sweep::MarkReady(*[5, 40, 1_000].choose(rng).unwrap()),
            7..=9 => Sweep::Reap {
                limit: *[3, 30, 1_000].choose(rng).unwrap(),
                jitter: *[0.0, 0.5, 1.0].choose(rng).unwrap(),
            },
            10..=12 => Sweep::ClaimOutside {
                module: *self.modules.choose(rng).unwrap(),
                kinds: some_kinds(rng),
                limit: rng.random_range(1..30),
                lease: asked_lease(rng),
            },
            13 => Sweep::ListClaimable { kinds: some_kinds(rng), limit: rng.random_range(1..30) },
            14..=16 => Sweep::PutKind(
                KINDS.choose(rng).unwrap(),
                KindSettings {
                    route: if rng.random_bool(0.6) { Route::Internal } else { Route::External },
                    enabled: rng.random_bool(0.8),
                    max_failures: rng.random_range(1..6),
                    lease_seconds: rng.random_range(10..200),
                    base_seconds: *[1, 10, 50].choose(rng).unwrap(),
                    cap_seconds: *[1, 30, 3_600].choose(rng).unwrap(),
                },
            ),
            17 => Sweep::EndLeases(*self.modules.choose(rng).unwrap()),
            18..=19 => {
                let filter = DeadFilter {
                    kind: rng.random_bool(0.5).then(|| (*KINDS.choose(rng).unwrap()).to_owned()),
                    error_code: rng
                        .random_bool(0.4)
                        .then(|| (*["busy", "lease_expired", "unheard-of"].choose(rng).unwrap()).to_owned()),
                    before: rng
                        .random_bool(0.4)
                        .then(|| now - SignedDuration::from_secs(rng.random_range(0..120))),
                };
                Sweep::RequeueDead(filter, rng.random_range(1..20))
            }
            20 => Sweep::Purge {
                before: now - SignedDuration::from_secs(rng.random_range(30..900)),
                limit: rng.random_range(1..6),
            },
            21..=22 => Sweep::Stats,
            _ => Sweep::Kinds,
        }
    }

    /// Each kind of step that takes lists, once for all histories.
    async fn in_batches(&mut self, tx: &Transaction<'_>, steps: &[(usize, Step)]) {
        let (mut jobs, mut marks, mut unmarks, mut unmarks_by_id, mut claims) =
            (vec![], vec![], vec![], vec![], vec![]);
        let mut owners = BTreeMap::new();
        for (history, step) in steps {
            match step {
                Step::Enqueue { jobs: some, alone: false } => {
                    for job in some {
                        owners.insert((job.kind.to_owned(), job.target_id), *history);
                        jobs.push(job.clone());
                    }
                }
                Step::MarkById { ids, alone: false } => marks.extend(ids),
                Step::Unmark(hints) => unmarks.extend(hints),
                Step::UnmarkById(ids) => unmarks_by_id.extend(ids),
                Step::Claim(hints) => claims.extend(hints),
                _ => {}
            }
        }
        let made = job_enqueue(tx, &self.registry, &jobs).await.unwrap();
        self.model.enqueue(&jobs, &made);
        for (job, made) in jobs.iter().zip(&made) {
            self.histories[owners[&(job.kind.to_owned(), job.target_id)]].knows(made.id);
        }

        let marked = jobs_mark_by_id(tx, &marks).await.unwrap();
        self.model.mark_by_id(&marks, &marked);
        let unmarked = jobs_unmark(tx, &unmarks).await.unwrap();
        self.model.unmark(&with_attempts(&unmarks), unmarked);
        let unmarked = jobs_unmark_by_id(tx, &unmarks_by_id).await.unwrap();
        self.model.unmark(&unmarks_by_id.iter().map(|id| (*id, None)).collect::<Vec<_>>(), unmarked);

        let lease = Duration::from_secs(*[20, 55, 800].choose(&mut self.rng).unwrap());
        let claimed = job_claim_batch(tx, &claims, lease).await.unwrap();
        self.model.claim_batch(&claims, lease, &claimed);
        self.remember(&claimed);
    }

    /// New attempts go to their histories.
    fn remember(&mut self, claimed: &[ClaimedJob]) {
        for job in claimed {
            let key = (job.kind.clone(), job.target_id);
            let history = self.histories.iter_mut().find(|history| history.keys.contains(&key)).unwrap();
            history.holders.push(job.holder());
        }
    }

    /// Side by side on one connection: the server does them one after the other.
    async fn one_by_one(&mut self, tx: &Transaction<'_>, steps: &[(usize, Step)], started: Instant) {
        let registry = &self.registry;
        let answers = join_all(
            steps
                .iter()
                .map(|(history, step)| async move { (*history, step, run(tx, registry, step).await) }),
        )
        .await;
        self.lag(started);
        for (history, step, answer) in answers {
            let Some(answer) = answer else { continue };
            self.log.history = Some(history);
            self.check(history, step, answer);
        }
        self.log.history = None;
    }

    fn check(&mut self, history: usize, step: &Step, answer: Answer) {
        let model = &mut self.model;
        let h = &mut self.histories[history];
        match (step, answer) {
            (Step::Enqueue { jobs, .. }, Answer::Enqueued(made)) => {
                model.enqueue(jobs, &made);
                made.iter().for_each(|made| h.knows(made.id));
            }
            (Step::MarkById { ids, .. }, Answer::Marked(marked)) => model.mark_by_id(ids, &marked),
            (Step::ClaimOutside { module, kinds, id, lease }, Answer::ClaimedOutside(claimed)) => {
                model.claim_one_outside(*module, kinds, *id, *lease, &claimed);
                h.holders.extend(claimed.ok().map(|job| job.holder()));
            }
            (Step::Heartbeat { holder, lease }, Answer::Heartbeat(answer)) => {
                model.heartbeat(holder, *lease, &answer);
            }
            (Step::Report { holder, end, report, jitter }, Answer::Reported(answer)) => {
                model.report(holder, end, report.as_ref(), *jitter, &answer);
                if let Reported::Settled(_, transition) = answer {
                    transition.rerun.iter().for_each(|rerun| h.knows(rerun.id));
                }
            }
            (Step::Cancel(id), Answer::Ended(answer)) => model.cancel(*id, "not wanted", &answer),
            (Step::CancelForTarget { kinds, target }, Answer::Cancelled(answers)) => {
                model.cancel_for_target(kinds, *target, "merged", &answers);
            }
            (Step::RetryNow(id), Answer::Ended(answer)) => model.retry_now(*id, &answer),
            (Step::Requeue(id), Answer::Ended(answer)) => model.requeue(*id, &answer),
            (Step::PutOff { id, deferrals }, Answer::PutOff) => {
                // A sweep may have ended it since it was chosen.
                if let Some(job) = model.pending.get_mut(id) {
                    job.deferrals = *deferrals;
                    model.touched.insert(*id);
                }
            }
            (Step::Find(id), Answer::Found(record)) => model.found(*id, record.as_ref()),
            (Step::List { target, status }, Answer::Listed(records)) => {
                model.listed(*target, *status, &records)
            }
            (Step::FindPending(key), Answer::FoundPending(id)) => {
                assert_eq!(id, model.pending_of(key).map(|job| job.id));
            }
            (step, answer) => panic!("{step:?} was answered with {answer:?}"),
        }
    }

    async fn complete_batch(&mut self, tx: &Transaction<'_>, steps: &[(usize, Step)]) {
        let mut attempts = Vec::new();
        for (_, step) in steps {
            if let Step::CompleteInBatch(some) = step {
                attempts.extend(some.clone());
            }
        }
        let completed = jobs_complete_batch(tx, &attempts).await.unwrap();
        let made = written_now(tx, PENDING)
            .await
            .into_iter()
            .map(|job| ((job.kind, job.target_id), job.id))
            .collect();
        self.model.complete_batch(&attempts, &completed, &made);
        self.learn();
    }

    /// Jobs that sweeps and batches made belong to the histories of their keys.
    fn learn(&mut self) {
        for history in &mut self.histories {
            for key in &history.keys {
                if let Some(id) = self.model.pending_of(key).map(|job| job.id)
                    && !history.ids.contains(&id)
                {
                    history.ids.push(id);
                }
            }
        }
    }

    async fn sweep(&mut self, tx: &Transaction<'_>, sweep: &Sweep, started: Instant) {
        let registry = self.registry.clone();
        match sweep {
            Sweep::MarkReady(limit) => {
                let marked = jobs_mark_ready(tx, &Scan::new(), *limit).await.unwrap();
                self.model.mark_ready(*limit, &marked);
            }
            Sweep::Reap { limit, jitter } => {
                let rows = i64::try_from(*limit).unwrap();
                let reaped = jobs_reap(tx, &registry, rows, || *jitter).await.unwrap();
                self.lag(started);
                self.model.reap(*limit, *jitter, &reaped);
                self.learn();
            }
            Sweep::ClaimOutside { module, kinds, limit, lease } => {
                let scan = Scan::new();
                let claimed =
                    jobs_claim_external(tx, &registry, &scan, *module, kinds, *limit, *lease).await.unwrap();
                self.model.claim_outside(*module, kinds, *limit, *lease, &claimed);
                self.remember(&claimed);
            }
            Sweep::ListClaimable { kinds, limit } => {
                let listed = jobs_list_claimable(tx, kinds, *limit).await.unwrap();
                self.model.list_claimable(kinds, *limit, &listed);
            }
            Sweep::PutKind(kind, settings) => {
                let row = job_kind_put(tx, &registry, kind, settings).await.unwrap();
                self.model.put_kind(kind, settings, &row);
            }
            Sweep::EndLeases(module) => {
                let ended = module_leases_end(tx, &registry, *module).await.unwrap();
                self.lag(started);
                self.model.end_leases(*module, &ended);
            }
            Sweep::RequeueDead(filter, limit) => {
                let rows = i64::try_from(*limit).unwrap();
                let requeued = jobs_requeue_dead(tx, filter, rows).await.unwrap();
                self.model.requeue_dead(filter, *limit, &requeued);
            }
            Sweep::Purge { before, limit } => {
                let rows = i64::try_from(*limit).unwrap();
                let purged = dead_jobs_purge(tx, *before + DEAD_KEPT, rows).await.unwrap();
                self.model.purge(*before, *limit, purged);
            }
            Sweep::Stats => self.model.stats(&job_stats(tx).await.unwrap()),
            Sweep::Kinds => self.model.listed_kinds(&job_kinds_list(tx, &registry).await.unwrap()),
        }
    }

    fn blame(&mut self, job: &Job) {
        self.log.history = self.histories.iter().position(|history| history.keys.contains(&job.key()));
    }

    /// All that this transaction wrote is what the model wrote, and nothing else came or went.
    async fn compare_written(&mut self, tx: &Transaction<'_>) {
        let found = written_now(tx, PENDING).await;
        let ids: BTreeSet<_> = found.iter().map(|job| job.id).collect();
        let pending = &self.model.pending;
        let expected: BTreeSet<_> =
            self.model.touched.iter().filter(|id| pending.contains_key(id)).copied().collect();
        if let Some(id) = ids.symmetric_difference(&expected).next() {
            let job = self.model.find(*id).cloned();
            job.iter().for_each(|job| self.blame(job));
            panic!("{id} was written: {}; it should be {job:?}", ids.contains(id));
        }
        self.compare(found, |model| &model.pending);
        let archived = written_now(tx, ARCHIVE).await;
        self.compare(archived, |model| &model.archive);
        let dead = written_now(tx, DEAD).await;
        self.compare(dead, |model| &model.dead);
        let counts = "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM job_archive), \
             (SELECT count(*) FROM job_dead)";
        let counts = tx.query_one(counts, &[]).await.unwrap();
        let model = [self.model.pending.len(), self.model.archive.len(), self.model.dead.len()];
        for (column, expected) in model.into_iter().enumerate() {
            assert_eq!(
                counts.get::<_, i64>(column),
                i64::try_from(expected).unwrap(),
                "rows of table {column}"
            );
        }
    }

    fn compare(&mut self, found: Vec<Job>, table: impl Fn(&Reference) -> &BTreeMap<JobId, Job>) {
        for job in found {
            if table(&self.model).get(&job.id) != Some(&job) {
                self.blame(&job);
                assert_eq!(Some(&job), table(&self.model).get(&job.id));
            }
        }
    }

    /// From wherever the histories stopped, sweeps and claims bring every job to its end: none is lost, and none is stuck.
    async fn finish(&mut self, client: &mut Client) {
        for kind in KINDS {
            self.model.now += SignedDuration::from_mins(20);
            let tx = client.transaction().await.unwrap();
            clock::set(&tx, self.model.now).await;
            self.model.begin();
            let settings = KindSettings {
                route: Route::Internal,
                enabled: true,
                max_failures: 20,
                lease_seconds: 60,
                base_seconds: 1,
                cap_seconds: 1,
            };
            self.sweep(&tx, &Sweep::PutKind(kind, settings), Instant::now()).await;
            self.compare_written(&tx).await;
            tx.commit().await.unwrap();
        }
        for turn in 0.. {
            if self.model.pending.is_empty() {
                break;
            }
            // A lease is taken back, its job claimed, and completed; a rerun or two follow.
            assert!(turn < 8, "{} jobs are stuck", self.model.pending.len());
            self.model.now += SignedDuration::from_hours(1);
            let started = Instant::now();
            let tx = client.transaction().await.unwrap();
            clock::set(&tx, self.model.now).await;
            self.model.begin();
            self.sweep(&tx, &Sweep::Reap { limit: 1_000, jitter: 0.0 }, started).await;
            self.model.now += SignedDuration::from_secs(5);
            clock::set(&tx, self.model.now).await;
            self.sweep(&tx, &Sweep::MarkReady(10_000), started).await;
            let hints: Vec<Hint> = self
                .model
                .pending
                .values()
                .map(|job| Hint { job_id: job.id, attempt: job.attempt })
                .collect();
            let lease = Duration::from_secs(55);
            let claimed = job_claim_batch(&tx, &hints, lease).await.unwrap();
            self.model.claim_batch(&hints, lease, &claimed);
            let attempts: Vec<_> = claimed.iter().map(|job| (job.holder(), json!(null))).collect();
            self.complete_batch(&tx, &[(0, Step::CompleteInBatch(attempts))]).await;
            self.compare_written(&tx).await;
            tx.commit().await.unwrap();
        }
        let tx = client.transaction().await.unwrap();
        let all = |sql: &'static str| {
            let tx = &tx;
            async move { tx.query(sql, &[]).await.unwrap().iter().map(read).collect::<Vec<_>>() }
        };
        let (archive, dead) = (all(ARCHIVE).await, all(DEAD).await);
        assert_eq!(archive.len() + dead.len(), self.model.known.len(), "every job that was made has ended");
        self.compare(archive, |model| &model.archive);
        self.compare(dead, |model| &model.dead);
    }
}

impl History {
    fn knows(&mut self, id: JobId) {
        if !self.ids.contains(&id) {
            self.ids.push(id);
        }
    }
}

async fn written_now(tx: &Transaction<'_>, select: &str) -> Vec<Job> {
    tx.query(&format!("{select}{WRITTEN_NOW}"), &[]).await.unwrap().iter().map(read).collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_history_leaves_the_state_machine() {
    let started = Instant::now();
    let (first, end) = match number("LEDGER_SEED") {
        Some(seed) => (seed, seed + 1),
        None => (0, number("LEDGER_WORLDS").unwrap_or(WORLDS)),
    };
    let lanes = (0..LANES).map(|lane| {
        tokio::spawn(async move {
            let db = TestDb::new().await;
            let owner = db.owner().await;
            clock::install_of_session(&db, &owner).await;
            // The clock is the session's.
            let mut client = db.session().await;
            let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
            for seed in (first..end).filter(|seed| seed % LANES == lane) {
                let mut world = World::new(seed);
                world.run(&mut client).await;
                world.model.seen.iter().for_each(|(what, count)| *seen.entry(what).or_default() += count);
                owner.batch_execute("TRUNCATE jobs, job_archive, job_dead, job_kinds").await.unwrap();
            }
            seen
        })
    });
    let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
    for lane in join_all(lanes).await {
        lane.unwrap().into_iter().for_each(|(what, count)| *seen.entry(what).or_default() += count);
    }
    let histories = (end - first) * HISTORIES as u64;
    println!("{histories} histories of {ROUNDS} operations in {:.1?}: {seen:#?}", started.elapsed());
    if end - first >= WORLDS {
        for what in MET {
            assert!(seen.contains_key(what), "no history met this: {what}");
        }
    }
}
