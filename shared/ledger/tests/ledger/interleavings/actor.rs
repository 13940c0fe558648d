//! One who takes part: a program, a connection, and what it has in hand.

use crate::interleavings::program::{Key, Op, Outcome, Program};
use crate::interleavings::snapshot::Snapshot;
use jiff::Timestamp;
use ledger::{ClaimedJob, Enqueued, Error, FencedJob, Hint, Transition};
use std::sync::Arc;
use testdb::TestDb;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Statement};

pub(crate) type Answer = Result<Outcome, Error>;

pub(crate) struct Actor {
    pub(crate) program: Program,
    pub(crate) client: Arc<Client>,
    pub(crate) pid: i32,
    /// Its own look at the tables, from within its transaction.
    pub(crate) look: Statement,
    /// The next step, by its place in the program.
    pub(crate) pc: usize,
    pub(crate) is_done: bool,
    /// The session's `now()`.
    pub(crate) at: Option<Timestamp>,
    pub(crate) running: Option<JoinHandle<Answer>>,
    /// What was committed when the statement that waits was started.
    pub(crate) started_on: Option<String>,
    pub(crate) in_transaction: bool,
    pub(crate) held: Vec<ClaimedJob>,
    pub(crate) fenced: Option<Box<FencedJob>>,
    /// With whether it ends an attempt: those of admins are of jobs that nobody holds.
    pub(crate) uncommitted: Vec<(Transition, bool)>,
    pub(crate) asked_for: Vec<(Key, Enqueued)>,
    pub(crate) marked: Vec<Hint>,
}

impl Actor {
    pub(crate) async fn connect(db: &TestDb, program: Program) -> Self {
        let client = db.session().await;
        // A schedule is held up by the machine, not by the ledger: it must not run into a limit of the role.
        let patient = "SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = 0";
        client.batch_execute(patient).await.unwrap();
        let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        Self {
            program,
            look: Snapshot::prepare(&client).await,
            client: Arc::new(client),
            pid,
            pc: 0,
            is_done: false,
            at: None,
            running: None,
            started_on: None,
            in_transaction: false,
            held: Vec::new(),
            fenced: None,
            uncommitted: Vec::new(),
            asked_for: Vec::new(),
            marked: Vec::new(),
        }
    }

    pub(crate) fn op(&self) -> Op {
        self.program.ops[self.pc]
    }

    /// Its step has answered: what it has in hand now, and where it goes on.
    pub(crate) fn take(&mut self, answer: Answer) {
        let op = self.op();
        let Ok(outcome) = answer else {
            self.is_done = true;
            return self.forget();
        };
        match outcome {
            Outcome::Claimed(jobs) => {
                self.is_done = jobs.is_empty();
                self.held = jobs;
                self.held.sort_by_key(|job| job.id);
            }
            Outcome::Heartbeat(_, None) => return self.give_up_one(),
            Outcome::Heartbeat(_, Some(_)) => {}
            Outcome::Fenced(_, None) => {
                self.at = None;
                return self.give_up_one();
            }
            Outcome::Fenced(_, fenced) => {
                self.fenced = fenced;
                self.in_transaction = true;
            }
            Outcome::Batch(_) => self.held.clear(),
            Outcome::Changed(transitions) => {
                let ends = !matches!(op, Op::Cancel(_) | Op::Requeue(_) | Op::RetryNow(_));
                self.uncommitted.extend(transitions.into_iter().map(|transition| (transition, ends)));
                self.in_transaction = true;
            }
            Outcome::Enqueued(keys, jobs) => {
                self.asked_for.extend(keys.iter().copied().zip(jobs));
                self.in_transaction = true;
            }
            Outcome::Marked(hints) => {
                self.marked = hints;
                self.in_transaction = true;
            }
            Outcome::Opened => self.in_transaction = true,
            Outcome::Refused => (self.at, self.is_done) = (None, true),
            Outcome::Committed => {
                self.in_transaction = false;
                if self.fenced.take().is_some() {
                    self.held.remove(0);
                }
                self.uncommitted.clear();
                self.asked_for.clear();
            }
        }
        if !self.is_done {
            self.go_on();
        }
    }

    /// What the transaction did is undone, and the setting of the clock that was made in it.
    pub(crate) fn forget(&mut self) {
        self.in_transaction = false;
        self.at = None;
        self.fenced = None;
        self.uncommitted.clear();
        self.asked_for.clear();
    }

    /// To the next step; after the last, to the next job in hand.
    pub(crate) fn go_on(&mut self) {
        self.pc += 1;
        if self.pc < self.program.ops.len() {
            return;
        }
        match self.program.again {
            Some(again) if !self.held.is_empty() => self.pc = again,
            _ => self.is_done = true,
        }
    }

    /// The job in hand is lost: on to the next.
    pub(crate) fn give_up_one(&mut self) {
        self.held.remove(0);
        self.pc = self.program.ops.len();
        self.go_on();
    }
}
