//! The worker's handler, with events, real kinds' framework and a real ledger.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

use fetch::{FetchConfig, Fetcher};
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use kinds::{Applied, ApplyError, Attempt, Context, Handler, Kind, Kinds, ResultOrigin};
use ledger::sqs::WakeQueue;
use ledger::{
    ClaimedJob, FencedJob, JobId, JobRecord, JobStatus, KindPolicy, NewJob, Route, TerminalJob, job_enqueue,
    job_find,
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use store::pipelined::Tx;
use telemetry::db::GenericClient as _;
use testdb::TestDb;
use tokio_postgres::Client;
use uuid::Uuid;
use worker::Worker;

/// An invocation whose handlers may run for minutes.
const LONG: Duration = Duration::from_secs(60);
/// One whose handlers have a second: 5 s margin of the lease and 3 s to settle.
const SHORT: Duration = Duration::from_secs(9);

/// Does what its inputs say.
struct Probe {
    policy: KindPolicy,
    ended: Arc<Mutex<Vec<String>>>,
}

const POLICY: KindPolicy = KindPolicy {
    kind: "probe",
    route: Route::Internal,
    max_failures: 2,
    lease: Duration::from_secs(120),
    base: Duration::from_secs(30),
    cap: Duration::from_secs(3_600),
    priority: 10,
};

impl Kind for Probe {
    fn policy(&self) -> KindPolicy {
        self.policy
    }

    fn on_terminal<'a>(
        &'a self,
        _tx: &'a Tx<'a>,
        job: &'a TerminalJob,
    ) -> BoxFuture<'a, Result<(), store::Error>> {
        Box::pin(async move {
            self.ended.lock().unwrap().push(job.code.clone());
            Ok(())
        })
    }
}

impl Handler for Probe {
    fn run<'a>(&'a self, _cx: &'a Context, job: &'a ClaimedJob) -> BoxFuture<'a, Attempt> {
        Box::pin(async move {
            match job.inputs["do"].as_str().unwrap() {
                "panic" => panic!("the handler is broken"),
                "hang" => std::future::pending().await,
                "retry" => Attempt::retry("busy", "come again"),
                "dead" => Attempt::Dead { code: "gone".into(), message: "for good".into() },
                "defer" => {
                    Attempt::Defer { until: Timestamp::now() + SignedDuration::from_secs(20), counted: false }
                }
                "slow" => {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    Attempt::Done(json!({"ok": true}))
                }
                other => Attempt::Done(json!({"what": other})),
            }
        })
    }

    fn apply<'a>(
        &'a self,
        cx: &'a Context,
        tx: &'a Tx<'a>,
        job: &'a FencedJob,
        result: Value,
        _by: &'a ResultOrigin,
    ) -> BoxFuture<'a, Result<Applied, ApplyError>> {
        Box::pin(async move {
            let mut enqueued = Vec::new();
            match job.inputs["do"].as_str().unwrap() {
                "apply_error" => {
                    tx.execute_typed("SELECT 1 / 0", &[]).await?;
                }
                "follow" => {
                    let next = new_job("probe", "done");
                    enqueued = job_enqueue(tx, cx.registry(), &[next]).await?;
                }
                _ => {}
            }
            let wake = enqueued.iter().filter(|job| job.due_soon).map(|job| job.id).collect();
            Ok(Applied { outcome: result, wake, ..Applied::default() })
        })
    }
}

#[derive(Default)]
struct Wakes(Mutex<Vec<Vec<JobId>>>);

impl WakeQueue for Wakes {
    fn wake<'a>(&'a self, ids: &'a [JobId]) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.0.lock().unwrap().push(ids.to_vec()) })
    }
}

struct Fixture {
    worker: Worker,
    wakes: Arc<Wakes>,
    ended: Arc<Mutex<Vec<String>>>,
    context: Context,
    client: Client,
    owner: Client,
}

fn new_job<'a>(kind: &'a str, what: &str) -> NewJob<'a> {
    NewJob {
        kind,
        target_type: "thing",
        target_id: Uuid::now_v7(),
        inputs: json!({"do": what}),
        priority: None,
        run_at: None,
        trace_context: None,
    }
}

fn kinds_of(names: &[&'static str], ended: &Arc<Mutex<Vec<String>>>) -> Kinds<dyn Handler> {
    let probes = names.iter().map(|name| -> Box<dyn Handler> {
        Box::new(Probe { policy: KindPolicy { kind: name, ..POLICY }, ended: Arc::clone(ended) })
    });
    Kinds::new(probes.collect()).unwrap()
}

impl Fixture {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let (ended, wakes) = (Arc::default(), Arc::<Wakes>::default());
        let fetcher = Fetcher::in_memory(FetchConfig::default());
        let context = Context::with_kinds(db.pool(), fetcher, kinds_of(&["probe"], &ended));
        let worker = Worker::new(context.clone(), Arc::<Wakes>::clone(&wakes));
        Self { worker, wakes, ended, context, client: db.app().await, owner: db.owner().await }
    }

    async fn queued(&self, what: &str) -> JobId {
        job_enqueue(&self.client, self.context.registry(), &[new_job("probe", what)]).await.unwrap()[0].id
    }

    async fn handle(&self, messages: &[(String, String)], time: Duration) -> Value {
        self.worker.handle(event(messages), Instant::now() + time).await.unwrap()
    }

    async fn find(&self, id: JobId) -> JobRecord {
        job_find(&self.client, id).await.unwrap().unwrap()
    }

    fn wakes(&self) -> Vec<Vec<JobId>> {
        self.wakes.0.lock().unwrap().clone()
    }

    async fn event_types(&self, id: JobId) -> Vec<String> {
        let sql = "SELECT event_type FROM provenance_events WHERE entity_type = 'job' AND entity_id = $1 ORDER BY id";
        let rows = self.owner.query(sql, &[&id.to_string()]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

fn hint(id: JobId, attempt: i32) -> String {
    json!({"job_id": id, "attempt": attempt}).to_string()
}

/// Messages `(id, body)` as SQS hands them to Lambda.
fn event(messages: &[(String, String)]) -> Value {
    let records: Vec<Value> = messages
        .iter()
        .map(|(id, body)| {
            json!({"messageId": id, "receiptHandle": "r", "body": body, "attributes": {}, "messageAttributes": {},
                "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:eu-central-1:0:jobs", "awsRegion": "eu-central-1"})
        })
        .collect();
    json!({"Records": records})
}

fn message(id: JobId) -> (String, String) {
    (format!("m-{id}"), hint(id, 0))
}

fn nothing_failed() -> Value {
    json!({"batchItemFailures": []})
}

#[tokio::test]
async fn each_job_of_a_batch_ends_as_its_handler_says() {
    let f = Fixture::new().await;
    let mut ids = Vec::new();
    for what in ["done", "retry", "dead", "defer", "panic", "apply_error"] {
        ids.push(f.queued(what).await);
    }
    let messages: Vec<_> = ids.iter().map(|id| message(*id)).collect();
    assert_eq!(f.handle(&messages, LONG).await, nothing_failed(), "the ledger retries, not SQS");
    let expected = [
        (JobStatus::Done, 0, None),
        (JobStatus::Queued, 1, Some("busy")),
        (JobStatus::Failed, 1, None),
        (JobStatus::Queued, 0, None),
        (JobStatus::Queued, 1, Some("panic")),
        (JobStatus::Queued, 1, Some("apply_failed")),
    ];
    for (id, (status, failures, code)) in ids.iter().zip(expected) {
        let job = f.find(*id).await;
        assert_eq!((job.status, job.failures), (status, failures), "{}", job.inputs_json);
        let found = job.last_error.as_ref().and_then(|error| error["code"].as_str());
        if status == JobStatus::Queued {
            assert_eq!(found, code, "{}", job.inputs_json);
            assert!(job.next_run_at > job.created_at);
        }
    }
    assert_eq!(f.find(ids[0]).await.result_json, Some(json!({"what": "done"})));
    assert_eq!(*f.ended.lock().unwrap(), vec!["gone"]);
    assert_eq!(f.event_types(ids[1]).await, vec!["retry_scheduled"]);
    assert_eq!(f.event_types(ids[2]).await, vec!["failed"]);
    assert!(f.event_types(ids[0]).await.is_empty(), "the row tells it");
}

#[tokio::test]
async fn a_panic_is_told_and_kills_the_job_once_its_budget_is_spent() {
    let f = Fixture::new().await;
    let id = f.queued("panic").await;
    f.handle(&[message(id)], LONG).await;
    let error = f.find(id).await.last_error.unwrap();
    assert!(error["message"].as_str().unwrap().contains("the handler is broken"), "{error}");
    f.owner.execute("UPDATE jobs SET next_run_at = now()", &[]).await.unwrap();
    f.handle(&[("m".into(), hint(id, 1))], LONG).await;
    assert_eq!(f.find(id).await.status, JobStatus::DeadLetter);
    assert_eq!(*f.ended.lock().unwrap(), vec!["panic"]);
    assert_eq!(f.event_types(id).await, vec!["retry_scheduled", "dead_lettered"]);
}

#[tokio::test]
async fn a_handler_that_hangs_is_charged_and_harms_no_other() {
    let f = Fixture::new().await;
    let (hung, fine) = (f.queued("hang").await, f.queued("slow").await);
    let started = Instant::now();
    assert_eq!(f.handle(&[message(hung), message(fine)], SHORT).await, nothing_failed());
    assert!(started.elapsed() < SHORT - Duration::from_secs(5), "the batch ends before its lease");
    let job = f.find(hung).await;
    assert_eq!((job.status, job.failures), (JobStatus::Queued, 1));
    assert_eq!(job.last_error.unwrap()["code"], "timeout");
    assert_eq!(f.find(fine).await.status, JobStatus::Done);
}

#[tokio::test]
async fn what_could_not_be_started_in_time_is_released_uncharged() {
    let f = Fixture::new().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(f.queued("hang").await);
    }
    let messages: Vec<_> = ids.iter().map(|id| message(*id)).collect();
    assert_eq!(f.handle(&messages, SHORT).await, nothing_failed());
    let mut released = 0;
    for id in ids {
        let job = f.find(id).await;
        assert_eq!(job.status, JobStatus::Queued);
        match (job.failures, job.deferrals) {
            (1, 0) => {}
            (0, 1) => released += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(released, 4, "sixteen run at once");
}

#[tokio::test]
async fn late_and_doubled_hints_are_acknowledged() {
    let f = Fixture::new().await;
    let id = f.queued("done").await;
    let doubled =
        [("a".to_owned(), hint(id, 0)), ("b".to_owned(), hint(id, 0)), ("c".to_owned(), hint(id, 7))];
    assert_eq!(f.handle(&doubled, LONG).await, nothing_failed());
    assert_eq!(f.find(id).await.attempt, 1);
    assert_eq!(f.handle(&doubled, LONG).await, nothing_failed());
    assert_eq!(f.find(id).await.attempt, 1);
    assert_eq!(f.handle(&[("d".into(), hint(JobId::new(), 0))], LONG).await, nothing_failed());
}

#[tokio::test]
async fn a_message_that_is_no_hint_is_acknowledged_and_the_rest_of_the_batch_runs() {
    let f = Fixture::new().await;
    let id = f.queued("done").await;
    let bodies = ["", "not json", "{}", r#"{"job_id":"x","attempt":0}"#, r#"{"job_ids":[]}"#];
    let mut messages: Vec<_> =
        bodies.iter().enumerate().map(|(n, body)| (n.to_string(), (*body).to_owned())).collect();
    messages.push(message(id));
    assert_eq!(f.handle(&messages, LONG).await, nothing_failed());
    assert_eq!(f.find(id).await.status, JobStatus::Done);
    assert!(f.worker.handle(json!({"Records": 5}), Instant::now() + LONG).await.is_err());
}

#[tokio::test]
async fn what_a_commit_made_due_soon_is_woken_for() {
    let f = Fixture::new().await;
    let (follow, retry, defer) = (f.queued("follow").await, f.queued("retry").await, f.queued("defer").await);
    f.handle(&[message(follow), message(retry), message(defer)], LONG).await;
    let mut wakes = f.wakes();
    wakes.sort_by_key(|ids| ids != &vec![retry] && ids != &vec![defer]);
    assert_eq!(wakes.len(), 3, "one message a commit");
    let next = wakes[2][0];
    assert!(![follow, retry, defer].contains(&next));
    assert_eq!(f.find(next).await.status, JobStatus::Queued);
}

#[tokio::test]
async fn without_a_database_every_hint_is_given_back_and_no_other_message() {
    let ended = Arc::default();
    let pool = testdb::pool_of("postgres://callboard_app@127.0.0.1:1/none".into(), 1);
    let context =
        Context::with_kinds(pool, Fetcher::in_memory(FetchConfig::default()), kinds_of(&["probe"], &ended));
    let worker = Worker::new(context, Arc::<Wakes>::default());
    let id = JobId::new();
    let messages =
        [("a".to_owned(), hint(id, 0)), ("b".to_owned(), hint(id, 0)), ("c".to_owned(), "?".to_owned())];
    let answer = worker.handle(event(&messages), Instant::now() + LONG).await.unwrap();
    let mut given_back: Vec<_> = answer["batchItemFailures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["itemIdentifier"].as_str().unwrap().to_owned())
        .collect();
    given_back.sort_unstable();
    assert_eq!(given_back, vec!["a", "b"]);
}

#[tokio::test]
async fn an_end_that_the_database_refuses_is_recorded_as_a_failure() {
    let f = Fixture::new().await;
    let id = f.queued("done").await;
    f.owner.batch_execute("REVOKE INSERT ON job_archive FROM callboard_app").await.unwrap();
    assert_eq!(f.handle(&[message(id)], LONG).await, nothing_failed());
    let job = f.find(id).await;
    assert_eq!((job.status, job.failures), (JobStatus::Queued, 1));
    assert_eq!(job.last_error.unwrap()["code"], "settle_failed");
}

#[tokio::test]
async fn only_what_cannot_be_recorded_at_all_is_given_back_to_sqs() {
    let f = Fixture::new().await;
    let (fine, lost) = (f.queued("done").await, f.queued("retry").await);
    f.owner.batch_execute("REVOKE INSERT ON provenance_events FROM callboard_app").await.unwrap();
    let answer = f.handle(&[message(fine), message(lost)], LONG).await;
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": format!("m-{lost}")}]}));
    assert_eq!(f.find(fine).await.status, JobStatus::Done);
    assert_eq!(f.find(lost).await.status, JobStatus::Claimed, "the reaper takes the lease back");
}

#[tokio::test]
async fn a_worker_that_slept_past_its_lease_changes_nothing() {
    let f = Fixture::new().await;
    let id = f.queued("slow").await;
    let handled = {
        let (worker, message) = (f.worker.clone(), message(id));
        tokio::spawn(async move { worker.handle(event(&[message]), Instant::now() + LONG).await.unwrap() })
    };
    let limit = Instant::now() + Duration::from_secs(10);
    // While the handler runs, its lease ends and another attempt takes the job.
    while f.find(id).await.status != JobStatus::Claimed {
        assert!(Instant::now() < limit, "the job is not claimed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let steal = "UPDATE jobs SET attempt = attempt + 1, lease_token = gen_random_uuid()";
    f.owner.execute(steal, &[]).await.unwrap();
    assert_eq!(handled.await.unwrap(), nothing_failed(), "losing the fence is an outcome");
    let job = f.find(id).await;
    assert_eq!((job.status, job.attempt, job.result_json), (JobStatus::Claimed, 2, None));
    assert!(f.wakes().is_empty());
}

#[tokio::test]
async fn a_job_of_a_kind_that_this_release_lacks_is_put_off_uncharged() {
    let f = Fixture::new().await;
    let newer = kinds_of(&["probe", "novel"], &f.ended);
    let id = job_enqueue(&f.client, newer.registry(), &[new_job("novel", "done")]).await.unwrap()[0].id;
    assert_eq!(f.handle(&[message(id)], LONG).await, nothing_failed());
    let job = f.find(id).await;
    assert_eq!((job.status, job.failures, job.deferrals), (JobStatus::Queued, 0, 1));
    assert!(job.next_run_at > Timestamp::now() + SignedDuration::from_secs(50));
}

#[tokio::test]
async fn an_invocation_without_time_claims_nothing() {
    let f = Fixture::new().await;
    let id = f.queued("done").await;
    let answer = f.handle(&[message(id)], Duration::from_secs(6)).await;
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 1);
    assert_eq!(f.find(id).await.attempt, 0);
}
