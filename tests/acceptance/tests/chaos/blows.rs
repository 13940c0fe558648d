//! Blows from outside: signals to processes, and what befalls the database.

use crate::database::Database;
use crate::plan::{Blow, Crash, Function, Plan};
use crate::tally::Tally;
use acceptance::{children_of, signal, state_of};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The longest lease of the worker is 60 s.
pub const PAST_ANY_LEASE: Duration = Duration::from_secs(61);
/// A database that just came back is left alone for as long as a recovery takes, so that there is one to strike.
const RECOVERY: Duration = Duration::from_millis(1_500);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What is struck.
#[derive(Debug, Clone)]
pub struct Victims {
    pub runner: u32,
    /// `local.json`, which names the functions' processes as they are now.
    pub local: PathBuf,
    pub database: Database,
    pub lambda_endpoint: String,
}

impl Victims {
    fn pids(&self, function: Function) -> Vec<u32> {
        pids(&self.local, function.name())
    }

    /// The processes of the database's server, the postmaster first.
    fn server(&self) -> Vec<u32> {
        let is_postgres = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "postgres")
        };
        children_of(self.runner).into_iter().filter(is_postgres).collect()
    }

    /// One run of the schedule's sweep. It may fail, as the schedule's own may.
    pub fn sweep(&self) {
        let client = acceptance::Client::new(self.lambda_endpoint.clone());
        let path = "/2015-03-31/functions/dispatch/invocations";
        let _ = client.try_send("POST", path, Some(("application/json", br#"{"sweep":true}"#)));
    }
}

fn pids(local: &Path, function: &str) -> Vec<u32> {
    let text = std::fs::read_to_string(local).unwrap_or_default();
    let local: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let pids = local["functions"][function].as_array().cloned().unwrap_or_default();
    pids.iter().filter_map(|pid| u32::try_from(pid.as_u64()?).ok()).collect()
}

/// Blows that fall one after another until they are stopped. Stops and continuations run beside them.
#[derive(Debug)]
pub struct Blows {
    is_over: Arc<AtomicBool>,
    striker: JoinHandle<()>,
}

impl Blows {
    /// `next` is the number of the next blow, and goes on from run to run.
    pub fn begin(plan: Plan, tally: Tally, victims: Victims, next: Arc<AtomicU64>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = is_over.clone();
        let striker = std::thread::spawn(move || {
            let mut stopped = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let (pause, blow) = plan.blow(next.fetch_add(1, Ordering::SeqCst));
                std::thread::sleep(pause);
                stopped.extend(strike(blow, &victims, &tally));
            }
            // Nobody is left stopped.
            stopped.into_iter().for_each(|thread| thread.join().expect("a stopped process is continued"));
        });
        Self { is_over, striker }
    }

    /// Waits until the last blow is over.
    pub fn end(self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.striker.join().expect("the blows came to their end");
    }
}

fn pick(list: &[u32], which: usize) -> Option<u32> {
    (!list.is_empty()).then(|| list[which % list.len()])
}

/// Strikes; a thread if the blow lasts.
fn strike(blow: Blow, victims: &Victims, tally: &Tally) -> Option<JoinHandle<()>> {
    match blow {
        Blow::Kill { function, which } => {
            let pid = pick(&victims.pids(function), which)?;
            signal(pid, libc::SIGKILL);
            tally.add(match function {
                Function::Api => "process: api killed",
                Function::Dispatch => "process: dispatch killed",
                Function::Worker => "process: worker killed",
            });
            None
        }
        Blow::Stop { function, which, pause } => {
            let pid = pick(&victims.pids(function), which)?;
            let (victims, tally) = (victims.clone(), tally.clone());
            Some(std::thread::spawn(move || stop(function, pid, pause, &victims, &tally)))
        }
        Blow::EndLeases => {
            victims.database.let_pass(PAST_ANY_LEASE);
            victims.sweep();
            tally.add("leases ended under living holders");
            None
        }
        Blow::Crash(how, which) => {
            crash(how, which, victims, tally);
            None
        }
        Blow::StopDatabase(pause) => {
            let server = victims.server();
            server.iter().for_each(|pid| signal(*pid, libc::SIGSTOP));
            std::thread::sleep(pause);
            server.iter().for_each(|pid| signal(*pid, libc::SIGCONT));
            tally.add("database: stopped and continued");
            None
        }
        Blow::Terminate(which) => {
            let rows = victims.database.try_run(&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE usename = 'callboard_app' AND pid % 3 = {}",
                which % 3
            ));
            tally.add_many("connection: terminated by the server", rows.map_or(0, |rows| rows.len() as u64));
            None
        }
    }
}

fn stop(function: Function, pid: u32, pause: Duration, victims: &Victims, tally: &Tally) {
    signal(pid, libc::SIGSTOP);
    let deadline = Instant::now() + pause;
    // A process that was killed meanwhile has no state, or another's number; either way it is let go below.
    while state_of(pid) != Some('T') && Instant::now() < deadline {
        std::thread::sleep(LOOK_EVERY);
    }
    if function == Function::Worker {
        victims.database.let_pass(PAST_ANY_LEASE);
        victims.sweep();
    }
    std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
    signal(pid, libc::SIGCONT);
    tally.add(match function {
        Function::Api => "process: api stopped and continued",
        Function::Dispatch => "process: dispatch stopped and continued",
        Function::Worker => "process: worker stopped past its lease and continued",
    });
}

fn crash(how: Crash, which: usize, victims: &Victims, tally: &Tally) {
    let server = victims.server();
    // Children come after their parent.
    let Some(postmaster) = server.first().copied() else { return };
    let (pid, signal_number, name) = match how {
        Crash::Kill => (postmaster, libc::SIGKILL, "database: postmaster killed"),
        Crash::Immediate => (postmaster, libc::SIGQUIT, "database: immediate shutdown"),
        Crash::Restart => (postmaster, libc::SIGINT, "database: fast shutdown and start"),
        Crash::Backend => {
            let rows = victims
                .database
                .try_run("SELECT pid FROM pg_stat_activity WHERE usename = 'callboard_app' ORDER BY pid");
            let backends: Vec<u32> = rows
                .unwrap_or_default()
                .into_iter()
                .filter_map(|row| row.into_iter().next()??.parse().ok())
                .collect();
            let Some(backend) = pick(&backends, which) else { return };
            (backend, libc::SIGKILL, "database: backend killed, all recover")
        }
    };
    signal(pid, signal_number);
    tally.add(name);
    std::thread::sleep(RECOVERY);
}
