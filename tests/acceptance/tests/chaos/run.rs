//! One run: rounds of hand-ins under blows, each followed by quiet and an audit.

use crate::audit::{Accepted, Audit, POISON_FAILURES_MAX, Sort, Violation};
use crate::blows::{Blows, Victims};
use crate::connectors::{Connectors, requests_of};
use crate::cutter::Cutter;
use crate::database::Database;
use crate::plan::{OVERTURE, Plan};
use crate::queue::QueueProxy;
use crate::tally::Tally;
use crate::watch::Watch;
use crate::web::{Class, Web};
use acceptance::{Client, Instance};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Hosts of the pages: each is asked once a second at most.
const HOSTS: usize = 120;
/// What passes for the ledger at every tick: leases of 55 s last 5 s, marks of two minutes 12 s.
const TICK: Duration = Duration::from_millis(300);
const PASSES_A_TICK: Duration = Duration::from_secs(3);
/// Beside the schedule's own, a sweep every so many ticks.
const TICKS_A_SWEEP: u32 = 3;
/// SQS gives out again what was not deleted within this time: what a killed worker had comes again soon.
const VISIBILITY_S: u32 = 6;
/// What leaves an innocent job alive through all that is charged to it: the most that a kind may have.
const INNOCENT_FAILURES_MAX: i64 = 20;
/// Blows go on until this share of a round is settled.
const SETTLED_UNDER_BLOWS: f64 = 0.7;
const UNDER_BLOWS_MAX: Duration = Duration::from_secs(600);
const QUIET_MAX: Duration = Duration::from_secs(300);
/// A long run goes on, round by round, until it has dealt this many.
const FAULTS_LONG: u64 = 100_000;
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What a run is asked to do.
#[derive(Debug, Clone, Copy)]
struct Options {
    seed: u64,
    is_long: bool,
    /// At least; more until there were enough faults.
    rounds: usize,
    faults: u64,
    discoveries: usize,
}

impl Options {
    fn from_env() -> Self {
        let number = |name: &str| std::env::var(format!("CALLBOARD_CHAOS{name}")).ok()?.parse::<u64>().ok();
        let is_long = std::env::var("CALLBOARD_CHAOS").is_ok_and(|form| form == "long");
        let (rounds, discoveries) = if is_long { (2, 2_000) } else { (1, 160) };
        let size = |name: &str, default: usize| number(name).map_or(default, |n| n as usize);
        Self {
            seed: number("_SEED").unwrap_or(1),
            is_long,
            rounds: size("_ROUNDS", rounds),
            faults: if is_long { FAULTS_LONG } else { 0 },
            discoveries: size("_DISCOVERIES", discoveries),
        }
    }

    fn command(self) -> String {
        let form = if self.is_long { "CALLBOARD_CHAOS=long " } else { "" };
        format!(
            "{form}CALLBOARD_CHAOS_SEED={} CALLBOARD_CHAOS_ROUNDS={} CALLBOARD_CHAOS_DISCOVERIES={} \
             cargo test -p acceptance --test chaos -- --nocapture",
            self.seed, self.rounds, self.discoveries
        )
    }
}

/// What a run left behind.
#[derive(Debug)]
pub struct Finished {
    options: Options,
    pub database: Database,
    pub accepted: Accepted,
    pub requests: usize,
    pub tally: Tally,
    pub violations: Vec<Violation>,
    notes: String,
}

impl Finished {
    /// For a person: how to do it again, and what was dealt.
    pub fn told(&self) -> String {
        format!("again: {}\n{}\n{}", self.options.command(), self.tally.table(), self.notes)
    }
}

/// The run of this process; its instance goes on until the process ends.
///
/// # Panics
/// If it cannot come to its end.
pub fn once() -> &'static Finished {
    static FINISHED: OnceLock<Result<Finished, String>> = OnceLock::new();
    let run = || {
        let options = Options::from_env();
        std::panic::catch_unwind(|| run(options)).map_err(|_| options.command())
    };
    match FINISHED.get_or_init(run) {
        Ok(finished) => finished,
        Err(command) => panic!("the run did not come to its end; again: {command}"),
    }
}

/// The runner, what stands between its parts, and who watches.
struct Stage {
    options: Options,
    plan: Plan,
    tally: Tally,
    web: Web,
    cutter: Cutter,
    queue: QueueProxy,
    instance: &'static Instance,
    victims: Victims,
    connectors: Connectors,
    queues: Queues,
}

fn run(options: Options) -> Finished {
    let stage = Stage::set(options);
    let clock = Clock::start(stage.victims.clone());
    let (mut accepted, mut requests, mut notes) = (Accepted::new(), 0, String::new());
    let mut violations = Vec::new();
    let next_blow = Arc::new(AtomicU64::new(0));
    for round in 0.. {
        let note = stage.round(round, &next_blow, &mut accepted, &mut requests, &mut violations);
        // What was dealt so far: a long run that is cut short has told all the same.
        eprintln!("{note}\n{}", stage.tally.table());
        notes += &format!("{note}\n");
        let is_last = round + 1 >= options.rounds && stage.tally.total() >= options.faults;
        if is_last {
            violations.extend(stage.wait_until_quiet(&mut notes));
        }
        // The messages that are still on their way while the next round begins are more blows to it.
        let audit = Audit { database: &stage.victims.database, accepted: &accepted, requests, planted: "" };
        violations.extend(audit.violations());
        if !violations.is_empty() {
            notes += &stage.keep_logs();
        }
        if is_last || !violations.is_empty() {
            break;
        }
    }
    clock.stop();
    notes += &stage.charges();
    let finished = Finished {
        options,
        database: stage.victims.database.clone(),
        accepted,
        requests,
        tally: stage.tally.clone(),
        violations,
        notes,
    };
    eprintln!("{}", finished.told());
    finished
}

impl Stage {
    fn set(options: Options) -> Self {
        let plan = Plan { seed: options.seed, long_stops: options.is_long };
        let tally = Tally::default();
        let web = Web::start(HOSTS);
        let cutter = Cutter::start(plan, tally.clone());
        let queue = QueueProxy::start(plan, tally.clone());
        let mut arguments = vec!["--no-site".to_owned(), "--worker-concurrency".into(), "4".into()];
        for authority in web.authorities() {
            arguments.extend(["--allow-fetch".into(), authority]);
        }
        for function in ["api", "dispatch", "worker"] {
            let url = format!("postgres://callboard_app@127.0.0.1:{}/callboard", cutter.port());
            arguments.extend(["--env".into(), format!("{function}.DATABASE_URL={url}")]);
            arguments
                .extend(["--env".into(), format!("{function}.AWS_ENDPOINT_URL_SQS={}", queue.endpoint())]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let instance = Instance::shared(&arguments);
        let database = Database::superuser_beside(&instance.address("database_url"));
        cutter.lead_to(database.address());
        queue.lead_to(instance.address("sqs_endpoint"));
        let queues = Queues::of(instance);
        queues.shorten_visibility();
        let module = instance.module("chaos", &["discoveries:write", "evidence:write"], "trusted");
        let victims = Victims {
            runner: instance.pid(),
            local: instance.data().join("local.json"),
            database,
            lambda_endpoint: instance.address("lambda_endpoint"),
        };
        let connectors = Connectors { api: instance.address("api"), module, plan, tally: tally.clone() };
        Self { options, plan, tally, web, cutter, queue, instance, victims, connectors, queues }
    }

    /// Hands in a round's discoveries under blows, and waits until all is quiet.
    fn round(
        &self,
        round: usize,
        next_blow: &Arc<AtomicU64>,
        accepted: &mut Accepted,
        requests: &mut usize,
        violations: &mut Vec<Violation>,
    ) -> String {
        let started = Instant::now();
        let before = self.tally.total();
        let (poison, rest) = self.pages(round);
        self.limit_failures(POISON_FAILURES_MAX);
        let watch = Watch::begin(self.victims.database.clone());
        self.cutter.strike();
        self.queue.strike();
        let blows = Blows::begin(self.plan, self.tally.clone(), self.victims.clone(), Arc::clone(next_blow));
        let progress = AtomicUsize::new(0);
        for (limit, urls) in [(POISON_FAILURES_MAX, &poison), (INNOCENT_FAILURES_MAX, &rest)] {
            self.limit_failures(limit);
            accepted.extend(self.connectors.hand_in(*requests as u64, urls, &progress));
            *requests += requests_of(*requests as u64, urls);
        }
        let handed_in = started.elapsed();
        let pending_max = (self.options.discoveries as f64 * (1.0 - SETTLED_UNDER_BLOWS)) as i64;
        let is_to_go_on = || self.pending() > pending_max || next_blow.load(Ordering::SeqCst) <= OVERTURE;
        while is_to_go_on() && started.elapsed() < UNDER_BLOWS_MAX {
            std::thread::sleep(LOOK_EVERY);
        }
        blows.end();
        self.cutter.calm();
        self.queue.calm();
        let struck = started.elapsed();
        while self.pending() > 0 && started.elapsed() < struck + QUIET_MAX {
            std::thread::sleep(LOOK_EVERY);
        }
        let settled = started.elapsed() - struck;
        let (looks, seen) = watch.end(&self.victims.database);
        violations.extend(seen);
        format!(
            "round {round}: {} discoveries in {} s, {} faults in {} s, all settled {} s later, {looks} looks",
            poison.len() + rest.len(),
            handed_in.as_secs(),
            self.tally.total() - before,
            struck.as_secs(),
            settled.as_secs(),
        )
    }

    /// Late and doubled hints find nothing and are acknowledged; those delayed by a minute take longest. Whatever stays is
    /// told.
    fn wait_until_quiet(&self, notes: &mut String) -> Option<Violation> {
        let started = Instant::now();
        while !self.is_quiet() {
            if started.elapsed() > QUIET_MAX {
                let (held, queues) = (self.queue.held(), self.queues.messages());
                let what = format!("messages are left: {held} on their way, in queues {queues:?}");
                return Some(Violation { sort: Sort::Stuck, what });
            }
            std::thread::sleep(LOOK_EVERY);
        }
        *notes += &format!("queues empty {} s after the last round\n", started.elapsed().as_secs());
        None
    }

    /// The URLs of a round: those that are poisoned, and the rest.
    fn pages(&self, round: usize) -> (Vec<String>, Vec<String>) {
        let first = round * self.options.discoveries;
        let all = (first..first + self.options.discoveries).map(|number| {
            let class = match number % 40 {
                0 | 20 => Class::Poison,
                1 | 2 => Class::Missing,
                3 => Class::Gone,
                4 => Class::Barred,
                5..9 => Class::Flaky,
                9..14 => Class::Slow,
                _ => Class::Posting,
            };
            (class, self.web.url(class, number))
        });
        let (poison, rest): (Vec<_>, Vec<_>) = all.partition(|(class, _)| *class == Class::Poison);
        let urls = |pages: Vec<(Class, String)>| pages.into_iter().map(|(_, url)| url).collect();
        (urls(poison), urls(rest))
    }

    /// Sets the budget and the shortest backoff of the kind as an administrator does, until it is so.
    fn limit_failures(&self, max_failures: i64) {
        let admin = self.instance.person("admin");
        let deadline = Instant::now() + QUIET_MAX;
        let mut is_set = false;
        while !is_set {
            assert!(Instant::now() < deadline, "the kind's budget cannot be set");
            is_set = self.try_limit_failures(&admin, max_failures).is_some();
        }
    }

    fn try_limit_failures(&self, admin: &Client, max_failures: i64) -> Option<()> {
        let list = admin.try_send("GET", "/admin/job-kinds", None).ok()?;
        let list: Value = serde_json::from_str(&list.text).ok()?;
        let extract = list["items"].as_array()?.iter().find(|item| item["kind"] == "extract")?;
        let wanted = json!({
            "route": "internal", "enabled": true, "max_failures": max_failures, "lease_seconds": 120,
            "base_seconds": 1, "cap_seconds": 1,
        });
        if wanted.as_object()?.iter().all(|(name, value)| extract[name] == *value) {
            return Some(());
        }
        let version = format!("\"{}\"", extract["version"]);
        let body = wanted.to_string();
        // Whether it was done is seen in the next list.
        let _ = admin.clone().with("if-match", &version).try_send(
            "PUT",
            "/admin/job-kinds/extract",
            Some(("application/json", body.as_bytes())),
        );
        None
    }

    fn pending(&self) -> i64 {
        self.victims.database.count("SELECT count(*) FROM jobs")
    }

    /// Nothing is to be done any more, and no message is on its way.
    fn is_quiet(&self) -> bool {
        self.pending() == 0
            && self.queue.held() == 0
            && self.queues.messages().iter().all(|count| *count == 0)
    }

    /// How hard it was: what was charged to jobs that got through all the same.
    fn charges(&self) -> String {
        let rows = self.victims.database.run(
            "SELECT count(*), sum(failures), max(failures), sum(attempt), max(attempt), sum(deferrals) FROM job_archive",
        );
        let at = |column: usize| rows[0][column].clone().unwrap_or_default();
        format!(
            "{} jobs done in {} attempts (at most {}), {} failures charged to them (at most {}), {} deferrals\n",
            at(0),
            at(3),
            at(4),
            at(1),
            at(2),
            at(5)
        )
    }

    /// The instance's directory goes with the process; what was found is to be understood afterwards.
    fn keep_logs(&self) -> String {
        let kept = std::env::temp_dir().join(format!("callboard-chaos-{}", self.options.seed));
        let _ = std::fs::create_dir_all(&kept);
        for function in ["api", "dispatch", "worker"] {
            let name = format!("{function}.log");
            let _ = std::fs::copy(self.instance.data().join("logs").join(&name), kept.join(&name));
        }
        let _ = std::fs::write(kept.join("runner.log"), self.instance.said());
        format!("logs: {}\n", kept.display())
    }
}

/// Time for the ledger: it passes, and the sweep comes by.
struct Clock {
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Clock {
    fn start(victims: Victims) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = is_over.clone();
        let thread = std::thread::spawn(move || {
            for tick in 1_u32.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                std::thread::sleep(TICK);
                victims.database.let_pass(PASSES_A_TICK);
                if tick % TICKS_A_SWEEP == 0 {
                    // A dispatch that is stopped would hold up the clock.
                    let victims = victims.clone();
                    std::thread::spawn(move || victims.sweep());
                }
            }
        });
        Self { is_over, thread }
    }

    fn stop(self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().expect("the clock came to its end");
    }
}

/// The queues as an onlooker sees them: past the proxy.
struct Queues {
    endpoint: String,
    urls: Vec<String>,
}

impl Queues {
    fn of(instance: &Instance) -> Self {
        let local = instance.local();
        let urls = local["queues"].as_object().expect("local.json names the queues").values();
        let urls = urls.filter_map(Value::as_str).map(str::to_owned).collect();
        Self { endpoint: instance.address("sqs_endpoint"), urls }
    }

    fn call(&self, action: &str, body: &Value) -> Value {
        let client = Client::new(self.endpoint.clone()).with("x-amz-target", &format!("AmazonSQS.{action}"));
        let body = body.to_string();
        let answer = client.send("POST", "/", Some(("application/x-amz-json-1.0", body.as_bytes())));
        assert_eq!(answer.status, 200, "{action}: {}", answer.text);
        serde_json::from_str(&answer.text).unwrap_or_default()
    }

    fn shorten_visibility(&self) {
        for url in &self.urls {
            let attributes = json!({ "VisibilityTimeout": VISIBILITY_S.to_string() });
            self.call("SetQueueAttributes", &json!({ "QueueUrl": url, "Attributes": attributes }));
        }
    }

    /// Of each queue: visible, in flight and delayed messages.
    fn messages(&self) -> Vec<u64> {
        let count = |url: &String| {
            let answer =
                self.call("GetQueueAttributes", &json!({ "QueueUrl": url, "AttributeNames": ["All"] }));
            let of = |which: &&str| {
                let count = answer["Attributes"][format!("ApproximateNumberOfMessages{which}")].as_str();
                count.and_then(|count| count.parse::<u64>().ok()).expect("the queue counts its messages")
            };
            ["", "NotVisible", "Delayed"].iter().map(of).sum()
        };
        self.urls.iter().map(count).collect()
    }
}
