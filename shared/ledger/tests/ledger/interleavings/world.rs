//! One database, its clock, and a connection for each actor; one schedule at a time.

use crate::clock;
use crate::interleavings::actor::{Actor, Answer};
use crate::interleavings::history::History;
use crate::interleavings::program::{Call, Key, Op, Program, new_job, registry, run};
use crate::interleavings::snapshot::{Names, Snapshot, distance};
use jiff::{SignedDuration, Timestamp, Unit};
use ledger::{ClaimedJob, Hint, JobId, NewJob, Registry, job_enqueue};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use testdb::TestDb;
use tokio_postgres::{Client, Statement};

/// Who takes part, and what is there when they begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Keys with a queued job, and in how many seconds it is due.
    pub(crate) jobs: &'static [(Key, i64)],
    pub(crate) actors: &'static [Program],
}

/// What happens next: an actor does its next step, or dies in the midst of its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Step(usize),
    Die(usize),
}

/// A statement that has not answered by then is looked at: does it wait for a lock?
const PATIENCE: Duration = Duration::from_millis(3);
/// More schedules than this on one pile of dead rows would slow every scan.
const RESETS_A_TRUNCATE: u32 = 100;
const EMPTY: &str = "WITH a AS (DELETE FROM jobs), b AS (DELETE FROM job_archive), c AS (DELETE FROM job_dead), \
    d AS (DELETE FROM job_kinds) DELETE FROM effects";

pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) registry: Arc<Registry>,
    pub(crate) now: Timestamp,
    pub(crate) history: History,
    /// Committed, as of the last look.
    pub(crate) snapshot: Snapshot,
    start: Timestamp,
    owner: Client,
    look: Statement,
    empty: Statement,
    actors: Vec<Actor>,
    /// Actors that wait for a lock, first come first.
    waiting: Vec<usize>,
    sent: BTreeSet<(JobId, i32)>,
    resets: u32,
    _db: TestDb,
}

impl World {
    pub(crate) async fn new(scenario: Scenario) -> Self {
        let db = TestDb::new().await;
        let owner = db.owner().await;
        clock::install_shared(&db, &owner).await;
        let effects = "CREATE TABLE effects (job_id uuid NOT NULL, attempt integer NOT NULL);
            GRANT SELECT, INSERT ON effects TO callboard_app";
        owner.batch_execute(effects).await.unwrap();
        let mut actors = Vec::new();
        for program in scenario.actors {
            actors.push(Actor::connect(&db, *program).await);
        }
        // Later than the ids that are made, and within the archive's partitions.
        let start = Timestamp::now().round(Unit::Second).unwrap() + SignedDuration::from_hours(240);
        Self {
            scenario,
            registry: Arc::new(registry()),
            now: start,
            history: History::default(),
            snapshot: Snapshot::default(),
            start,
            look: Snapshot::prepare(&owner).await,
            empty: owner.prepare(EMPTY).await.unwrap(),
            owner,
            actors,
            waiting: Vec::new(),
            sent: BTreeSet::new(),
            resets: 0,
            _db: db,
        }
    }

    /// As before the first step.
    pub(crate) async fn reset(&mut self) {
        self.abort().await;
        self.resets += 1;
        if self.resets.is_multiple_of(RESETS_A_TRUNCATE) {
            let truncate = "TRUNCATE jobs, job_archive, job_dead, job_kinds, effects";
            self.owner.batch_execute(truncate).await.unwrap();
        } else {
            self.owner.execute(&self.empty, &[]).await.unwrap();
        }
        self.pass_to(self.start).await;
        self.history = History::default();
        self.sent.clear();
        for actor in &mut self.actors {
            actor.pc = 0;
            actor.is_done = false;
            actor.held.clear();
            actor.marked.clear();
        }
        clock::set(&self.owner, self.now).await;
        for (key, ahead_s) in self.scenario.jobs {
            let run_at = (*ahead_s != 0).then(|| self.now + SignedDuration::from_secs(*ahead_s));
            let job = NewJob { run_at, ..new_job(*key) };
            job_enqueue(&self.owner, &self.registry, &[job]).await.unwrap();
        }
        self.look().await;
    }

    pub(crate) async fn pass_to(&mut self, to: Timestamp) {
        clock::advance(&self.owner, to).await;
        self.now = to;
    }

    /// Everybody dies: open transactions are rolled back, statements that waited for them finish by themselves.
    pub(crate) async fn abort(&mut self) {
        loop {
            for index in 0..self.actors.len() {
                if self.actors[index].running.is_none() && self.actors[index].in_transaction {
                    self.roll_back(index).await;
                }
            }
            let Some(&first) = self.waiting.first() else { break };
            self.wait(&[first]).await;
            if self.actors[first].running.is_some() {
                // It waits for another that waits.
                self.waiting.rotate_left(1);
            }
        }
    }

    async fn roll_back(&mut self, index: usize) {
        self.actors[index].client.batch_execute("ROLLBACK").await.unwrap();
        self.actors[index].forget();
    }

    /// What may happen now: nothing, once everybody is done.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let ready = |index: &usize| {
            let actor = &self.actors[*index];
            !actor.is_done && actor.running.is_none()
        };
        let all: Vec<usize> = (0..self.actors.len()).filter(ready).collect();
        let steps = all.iter().map(|index| Action::Step(*index));
        let deaths = all.iter().filter(|index| self.actors[**index].in_transaction);
        steps.chain(deaths.map(|index| Action::Die(*index))).collect()
    }

    pub(crate) fn name(&self, action: Action) -> String {
        match action {
            Action::Step(index) => self.actors[index].program.name.to_owned(),
            Action::Die(index) => format!("{} dies", self.actors[index].program.name),
        }
    }

    /// Does it, and waits until nobody's statement runs: each has answered, or waits for a lock of somebody who is idle.
    ///
    /// `true` if it could have gone otherwise: several waited, and some went on, in an order that the server chose.
    pub(crate) async fn act(&mut self, action: Action) -> bool {
        let waited = self.waiting.clone();
        match action {
            Action::Die(index) => {
                self.roll_back(index).await;
                self.actors[index].is_done = true;
            }
            Action::Step(index) => self.step(index).await,
        }
        let (Action::Step(index) | Action::Die(index)) = action;
        let actor = &self.actors[index];
        if !actor.in_transaction && actor.running.is_none() {
            // Nobody is let go but by the end of a transaction.
            let others = self.waiting.clone();
            self.wait(&others).await;
        }
        // All wait for each other: the server will find out, and end one of them.
        while self.actions().is_empty() && !self.waiting.is_empty() {
            let others = self.waiting.clone();
            self.wait(&others).await;
        }
        waited.len() > 1 && waited.iter().any(|index| !self.waiting.contains(index))
    }

    async fn step(&mut self, index: usize) {
        let call = match self.actors[index].op() {
            Op::Pass(seconds) => {
                self.pass_to(self.now + SignedDuration::from_secs(seconds)).await;
                self.actors[index].go_on();
                return;
            }
            Op::Send => {
                let marked = std::mem::take(&mut self.actors[index].marked);
                self.sent.extend(marked.iter().map(|hint| (hint.job_id, hint.attempt)));
                self.actors[index].go_on();
                return;
            }
            op => self.call(index, op).await,
        };
        let Some(call) = call else {
            self.actors[index].is_done = true;
            return;
        };
        let now = self.now;
        let actor = &mut self.actors[index];
        let at = (!actor.in_transaction && actor.at != Some(now)).then_some(now);
        actor.at = if actor.in_transaction { actor.at } else { Some(now) };
        let (client, registry) = (Arc::clone(&actor.client), Arc::clone(&self.registry));
        actor.running = Some(tokio::spawn(async move { run(&client, &registry, at, call).await }));
        self.waiting.push(index);
        self.wait(&[index]).await;
        if self.actors[index].running.is_some() {
            let committed = Snapshot::take(&self.owner, &self.look).await;
            self.actors[index].started_on = Some(committed.text(&self.names(), self.now));
        }
    }

    /// The step with what it works on; `None`: there is nothing to do, and the actor is done.
    async fn call(&mut self, index: usize, op: Op) -> Option<Call> {
        if matches!(op, Op::Claim(_) | Op::MarkById(_)) {
            self.snapshot = Snapshot::take(&self.owner, &self.look).await;
        }
        let actor = &self.actors[index];
        let first = actor.held.first();
        let oldest = |key: Key| self.history.known.iter().find(|(_, of)| **of == key).map(|(id, _)| *id);
        Some(match op {
            Op::Claim(keys) => {
                let mut hints = Vec::new();
                for key in keys {
                    for row in self.snapshot.rows.iter().filter(|row| row.key == *key) {
                        hints.extend((0..=row.attempt).map(|attempt| Hint { job_id: row.id, attempt }));
                    }
                }
                Call::Claim(hints)
            }
            Op::ClaimSent => Call::Claim(
                self.sent
                    .iter()
                    .map(|(job_id, attempt)| Hint { job_id: *job_id, attempt: *attempt })
                    .collect(),
            ),
            Op::ClaimOutside => Call::ClaimOutside,
            Op::Heartbeat => Call::Heartbeat(first?.holder()),
            Op::Fence => Call::Fence(first?.holder()),
            Op::Settle(end) => Call::Settle(actor.fenced.clone()?, end),
            Op::CompleteBatch => {
                first?;
                Call::CompleteBatch(actor.held.iter().rev().map(ClaimedJob::holder).collect())
            }
            Op::Reap => Call::Reap,
            Op::Enqueue(keys) => Call::Enqueue(keys),
            Op::Cancel(key) => Call::Cancel(oldest(key)?),
            Op::Requeue(key) => Call::Requeue(oldest(key)?),
            Op::RetryNow(key) => Call::RetryNow(oldest(key)?),
            Op::EndLeases => Call::EndLeases,
            Op::Enable(enabled) => Call::Enable(enabled),
            Op::MarkReady => Call::MarkReady,
            Op::MarkById(keys) => {
                let rows = self.snapshot.rows.iter().filter(|row| keys.contains(&row.key));
                Call::MarkById(rows.map(|row| row.id).collect())
            }
            Op::Unmark => Call::Unmark(actor.marked.clone()),
            Op::Commit => Call::Commit,
            Op::Pass(_) | Op::Send => return None,
        })
    }

    /// Until each of the given statements has answered, or waits for one of the actors.
    async fn wait(&mut self, indexes: &[usize]) {
        let mut answers = Vec::new();
        let mut was_blocked = false;
        loop {
            let running: Vec<usize> =
                indexes.iter().copied().filter(|index| self.actors[*index].running.is_some()).collect();
            let mut has_answered = false;
            for index in &running {
                let Some(handle) = &mut self.actors[*index].running else { continue };
                // The first look at one that is known to wait costs no time.
                let patience = if indexes.len() == 1 && !was_blocked { PATIENCE } else { Duration::ZERO };
                if let Ok(answer) = tokio::time::timeout(patience, handle).await {
                    self.actors[*index].running = None;
                    self.actors[*index].started_on = None;
                    self.waiting.retain(|waits| waits != index);
                    answers.push((*index, answer.expect("a step does not panic")));
                    has_answered = true;
                }
            }
            if has_answered {
                was_blocked = false;
                continue;
            }
            if running.is_empty() {
                break;
            }
            let is_blocked = self.are_blocked(&running).await;
            if is_blocked && was_blocked {
                break;
            }
            was_blocked = is_blocked;
            if !is_blocked {
                tokio::task::yield_now().await;
            }
        }
        self.answered(answers);
    }

    async fn are_blocked(&self, indexes: &[usize]) -> bool {
        let pids: Vec<i32> = indexes.iter().map(|index| self.actors[*index].pid).collect();
        let all: Vec<i32> = self.actors.iter().map(|actor| actor.pid).collect();
        let sql = "SELECT bool_and(pg_blocking_pids(p) && $2) FROM unnest($1::int4[]) AS p";
        self.owner.query_one(sql, &[&pids, &all]).await.unwrap().get(0)
    }

    /// Of statements that were let go together, the server knows in which order they came through, and an answer may
    /// overtake another on its way here. There must be one order in which every check holds.
    fn answered(&mut self, answers: Vec<(usize, Answer)>) {
        let told = |order: &[usize]| {
            let mut history = self.history.clone();
            for (index, answer) in order.iter().map(|place| &answers[*place]) {
                history.heard(&self.actors[*index], answer, self.now);
            }
            history
        };
        let before = self.history.violations.len();
        let mut histories = orders(answers.len()).into_iter().map(|order| told(&order));
        let first = histories.next().expect("there is one order of nothing");
        let fits = |history: &History| history.violations.len() == before;
        let history = if fits(&first) { None } else { histories.find(fits) };
        self.history = history.unwrap_or(first);
        for (index, answer) in answers {
            self.actors[index].take(answer);
        }
    }

    /// Several wait: a step may let them go in one order or another.
    pub(crate) fn may_fork(&self) -> bool {
        self.waiting.len() > 1
    }

    pub(crate) fn somebody_waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn names(&self) -> Names {
        let known = self.history.known.iter().map(|(id, key)| (*id, *key));
        Names::new(known.chain(self.snapshot.rows.iter().map(|row| (row.id, row.key))))
    }

    /// Looks at what is committed, and checks it.
    pub(crate) async fn look(&mut self) {
        self.snapshot = Snapshot::take(&self.owner, &self.look).await;
        self.history.seen(&self.snapshot);
    }

    /// A connection for what comes after everybody died, at the present.
    pub(crate) async fn survivor(&mut self) -> Arc<Client> {
        let actor = &mut self.actors[0];
        actor.at = None;
        clock::set(&*actor.client, self.now).await;
        Arc::clone(&actor.client)
    }

    pub(crate) fn committed_text(&self) -> String {
        self.snapshot.text(&self.names(), self.now)
    }

    /// The state: two schedules that lead to one text have the same futures.
    pub(crate) async fn state(&self) -> String {
        let names = self.names();
        let mut text = self.committed_text();
        let mut attempts: Vec<String> = Vec::new();
        for attempt in &self.history.attempts {
            let rest = if attempt.is_over {
                "over".to_owned()
            } else {
                distance(Some(attempt.expires_at), self.now)
            };
            attempts.push(format!("|{}#{} {rest}", names.of(attempt.holder.job_id), attempt.holder.attempt));
        }
        // Which of two jobs was claimed first makes no difference.
        attempts.sort_unstable();
        text.push_str(&attempts.concat());
        let _ = write!(text, "|owed {:?}|sent", self.history.owed);
        for (id, attempt) in &self.sent {
            let _ = write!(text, " {}#{attempt}", names.of(*id));
        }
        let _ = write!(text, "|waiting {:?}", self.waiting);
        for actor in self.actors.iter().filter(|actor| !actor.is_done) {
            let _ = write!(text, "\n{} {}", actor.program.name, actor.pc);
            for job in &actor.held {
                let _ = write!(text, " {}#{}", names.of(job.id), job.attempt);
            }
            for hint in &actor.marked {
                let _ = write!(text, " marked {}#{}", names.of(hint.job_id), hint.attempt);
            }
            if let Some(started_on) = &actor.started_on {
                let _ = write!(text, " waits since {} {started_on}", distance(actor.at, self.now));
            } else if actor.in_transaction {
                let own = Snapshot::take(&actor.client, &actor.look).await;
                let rows = own.rows.iter().map(|row| (row.id, row.key));
                let names = Names::new(self.history.known.iter().map(|(id, key)| (*id, *key)).chain(rows));
                let began = actor.at.map_or(0, |at| self.now.duration_since(at).as_secs());
                let _ = write!(text, " began {began} sees {}", own.text(&names, self.now));
            }
        }
        text
    }
}

/// Every order of so many things, the given one first.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![Vec::new()] };
    let insert = |order: Vec<usize>| {
        (0..count).rev().map(move |place| [&order[..place], &[last], &order[place..]].concat())
    };
    orders(last).into_iter().flat_map(insert).collect()
}
