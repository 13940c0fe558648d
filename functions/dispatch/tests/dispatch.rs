//! The dispatch function's handler, with events, a fake queue and a real ledger.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

use dispatch::Dispatch;
use futures::future::BoxFuture;
use kinds::{Kind, Kinds};
use ledger::sqs::{DeadLetter, HintQueue, SqsError};
use ledger::{
    Hint, JobId, JobRecord, JobStatus, KindPolicy, MarkedJob, NewJob, Route, TerminalJob, job_claim_batch,
    job_enqueue, job_find,
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use store::pipelined::Tx;
use telemetry::db::GenericClient as _;
use testdb::TestDb;
use tokio_postgres::Client;
use uuid::Uuid;

const POLICY: KindPolicy = KindPolicy {
    kind: "probe",
    route: Route::Internal,
    max_failures: 2,
    lease: Duration::from_secs(120),
    base: Duration::from_secs(30),
    cap: Duration::from_secs(3_600),
    priority: 10,
};

/// Its terminal effect fails in the database for targets of type `poison`.
struct Probe {
    ended: Arc<Mutex<Vec<JobId>>>,
}

impl Kind for Probe {
    fn policy(&self) -> KindPolicy {
        POLICY
    }

    fn on_terminal<'a>(
        &'a self,
        tx: &'a Tx<'a>,
        job: &'a TerminalJob,
    ) -> BoxFuture<'a, Result<(), store::Error>> {
        Box::pin(async move {
            if job.target_type == "poison" {
                tx.execute_typed("SELECT 1 / 0", &[]).await?;
            }
            self.ended.lock().unwrap().push(job.id);
            Ok(())
        })
    }
}

#[derive(Default)]
struct Queue {
    sent: Mutex<Vec<MarkedJob>>,
    refuse: Mutex<Vec<JobId>>,
    visible: Mutex<usize>,
    dead: Mutex<Vec<DeadLetter>>,
    deleted: Mutex<usize>,
    is_down: Mutex<bool>,
}

impl HintQueue for Queue {
    fn send<'a>(&'a self, jobs: &'a [MarkedJob]) -> BoxFuture<'a, Vec<Hint>> {
        Box::pin(async move {
            let refuse = self.refuse.lock().unwrap().clone();
            let (refused, sent): (Vec<_>, Vec<_>) =
                jobs.iter().cloned().partition(|job| refuse.contains(&job.hint.job_id));
            self.sent.lock().unwrap().extend(sent);
            refused.into_iter().map(|job| job.hint).collect()
        })
    }

    fn visible(&self) -> BoxFuture<'_, Result<usize, SqsError>> {
        Box::pin(async {
            if *self.is_down.lock().unwrap() {
                return Err(SqsError { call: "GetQueueAttributes", detail: "no answer".into() });
            }
            Ok(*self.visible.lock().unwrap())
        })
    }

    fn dead_visible(&self) -> BoxFuture<'_, Result<usize, SqsError>> {
        Box::pin(async { Ok(self.dead.lock().unwrap().len()) })
    }

    fn receive_dead(&self) -> BoxFuture<'_, Result<Vec<DeadLetter>, SqsError>> {
        Box::pin(async {
            let mut dead = self.dead.lock().unwrap();
            let count = dead.len().min(10);
            Ok(dead.drain(..count).collect())
        })
    }

    fn delete_dead<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), SqsError>> {
        Box::pin(async move {
            *self.deleted.lock().unwrap() += letters.len();
            Ok(())
        })
    }
}

struct Fixture {
    dispatch: Dispatch,
    queue: Arc<Queue>,
    ended: Arc<Mutex<Vec<JobId>>>,
    kinds: Arc<Kinds>,
    client: Client,
    owner: Client,
}

impl Fixture {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let (ended, queue) = (Arc::default(), Arc::<Queue>::default());
        let probe: Box<dyn Kind> = Box::new(Probe { ended: Arc::clone(&ended) });
        let kinds = Arc::new(Kinds::new(vec![probe]).unwrap());
        let dispatch = Dispatch::new(db.pool(), Arc::clone(&kinds), Arc::<Queue>::clone(&queue));
        Self { dispatch, queue, ended, kinds, client: db.app().await, owner: db.owner().await }
    }

    async fn queued(&self, target_type: &str) -> JobId {
        let job = NewJob {
            kind: "probe",
            target_type,
            target_id: Uuid::now_v7(),
            inputs: json!({}),
            priority: None,
            run_at: None,
            trace_context: None,
        };
        job_enqueue(&self.client, self.kinds.registry(), &[job]).await.unwrap()[0].id
    }

    async fn many(&self, count: usize) {
        let targets: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
        let jobs: Vec<NewJob<'_>> = targets
            .iter()
            .map(|target| NewJob {
                kind: "probe",
                target_type: "thing",
                target_id: *target,
                inputs: json!({}),
                priority: None,
                run_at: None,
                trace_context: None,
            })
            .collect();
        job_enqueue(&self.client, self.kinds.registry(), &jobs).await.unwrap();
    }

    /// A claimed job whose lease has ended.
    async fn expired(&self, target_type: &str, failures: i32) -> JobId {
        let id = self.queued(target_type).await;
        let hints = [Hint { job_id: id, attempt: 0 }];
        job_claim_batch(&self.client, &hints, Duration::from_secs(30)).await.unwrap();
        let sql =
            format!("UPDATE jobs SET lease_expires_at = now(), failures = {failures} WHERE id = '{id}'");
        self.owner.batch_execute(&sql).await.unwrap();
        id
    }

    async fn sweep(&self) -> Value {
        self.handle(json!({"sweep": true})).await
    }

    async fn handle(&self, event: Value) -> Value {
        self.dispatch.handle(event, Instant::now() + Duration::from_secs(30)).await.unwrap()
    }

    fn sent(&self) -> Vec<JobId> {
        self.queue.sent.lock().unwrap().drain(..).map(|job| job.hint.job_id).collect()
    }

    async fn find(&self, id: JobId) -> JobRecord {
        job_find(&self.client, id).await.unwrap().unwrap()
    }

    async fn event_types(&self, id: JobId) -> Vec<(String, String)> {
        let sql = "SELECT event_type, actor_type || ' ' || actor_id FROM provenance_events \
             WHERE entity_type = 'job' AND entity_id = $1 ORDER BY id";
        let rows = self.owner.query(sql, &[&id.to_string()]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

fn wake(bodies: &[String]) -> Value {
    let records: Vec<Value> = bodies
        .iter()
        .enumerate()
        .map(|(n, body)| json!({"messageId": n.to_string(), "body": body, "eventSource": "aws:sqs"}))
        .collect();
    json!({"Records": records})
}

fn body(ids: &[JobId]) -> String {
    json!({"job_ids": ids}).to_string()
}

#[tokio::test]
async fn a_wake_hints_its_jobs_at_once_and_the_sweep_does_not_repeat_them() {
    let f = Fixture::new().await;
    let (a, b, other) = (f.queued("thing").await, f.queued("thing").await, f.queued("thing").await);
    let answer = f.handle(wake(&[body(&[a]), body(&[b, a, JobId::new()])])).await;
    assert_eq!(answer, json!({"batchItemFailures": []}));
    let mut sent = f.sent();
    sent.sort_unstable();
    assert_eq!(sent, vec![a, b], "each once");
    f.sweep().await;
    assert_eq!(f.sent(), vec![other]);
}

#[tokio::test]
async fn a_wake_that_cannot_be_read_is_acknowledged_and_the_others_are_handled() {
    let f = Fixture::new().await;
    let id = f.queued("thing").await;
    let bodies = ["".to_owned(), "{}".to_owned(), r#"{"job_ids":["x"]}"#.to_owned(), body(&[id]), body(&[])];
    assert_eq!(f.handle(wake(&bodies)).await, json!({"batchItemFailures": []}));
    assert_eq!(f.sent(), vec![id]);
}

#[tokio::test]
async fn without_a_database_wakes_are_given_back_and_a_sweep_fails() {
    let pool = testdb::pool_of("postgres://callboard_app@127.0.0.1:1/none".into(), 1);
    let dispatch = Dispatch::new(pool, Arc::new(Kinds::new(Vec::new()).unwrap()), Arc::<Queue>::default());
    let deadline = Instant::now() + Duration::from_secs(30);
    let event = wake(&[body(&[JobId::new()]), "?".to_owned()]);
    let answer = dispatch.handle(event, deadline).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "0"}]}));
    assert!(dispatch.handle(json!({"sweep": true}), deadline).await.is_err());
}

#[tokio::test]
async fn what_sqs_refuses_is_unmarked_and_sent_by_the_next_sweep() {
    let f = Fixture::new().await;
    let (taken, refused) = (f.queued("thing").await, f.queued("thing").await);
    f.queue.refuse.lock().unwrap().push(refused);
    f.handle(wake(&[body(&[taken, refused])])).await;
    assert_eq!(f.sent(), vec![taken]);
    assert_eq!(f.find(refused).await.hinted_until, None);
    f.queue.refuse.lock().unwrap().clear();
    assert_eq!(f.sweep().await["hinted"], 1);
    assert_eq!(f.sent(), vec![refused]);
}

#[tokio::test]
async fn a_sweep_tops_the_queue_up_and_no_further() {
    let f = Fixture::new().await;
    f.many(700).await;
    *f.queue.visible.lock().unwrap() = 9_990;
    assert_eq!(f.sweep().await["hinted"], 10);
    *f.queue.visible.lock().unwrap() = 12_000;
    assert_eq!(f.sweep().await["hinted"], 0);
    *f.queue.visible.lock().unwrap() = 0;
    assert_eq!(f.sweep().await["hinted"], 690, "in rounds");
    let mut sent = f.sent();
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent.len(), 700);
}

#[tokio::test]
async fn a_sweep_reaps_with_event_and_terminal_effect() {
    let f = Fixture::new().await;
    let (again, dead) = (f.expired("thing", 0).await, f.expired("thing", 1).await);
    let report = f.sweep().await;
    assert_eq!((report["reaped"].as_u64(), report["dead_lettered"].as_u64()), (Some(2), Some(1)));
    assert_eq!(f.find(again).await.status, JobStatus::Queued);
    assert_eq!(f.find(dead).await.status, JobStatus::DeadLetter);
    assert_eq!(*f.ended.lock().unwrap(), vec![dead]);
    let by = "system reaper".to_owned();
    assert_eq!(f.event_types(again).await, vec![("lease_requeued".to_owned(), by.clone())]);
    assert_eq!(f.event_types(dead).await, vec![("dead_lettered".to_owned(), by)]);
    // It is due within its backoff of at most 30 s, so the same sweep has hinted it, delayed.
    assert_eq!(f.sent(), vec![again]);
}

#[tokio::test]
async fn a_terminal_effect_that_the_database_refuses_does_not_stop_the_reaper() {
    let f = Fixture::new().await;
    let (poison, fine) = (f.expired("poison", 1).await, f.expired("thing", 1).await);
    assert_eq!(f.sweep().await["dead_lettered"], 2);
    assert_eq!(f.find(poison).await.status, JobStatus::DeadLetter);
    assert_eq!(*f.ended.lock().unwrap(), vec![fine]);
}

#[tokio::test]
async fn dead_letters_are_drained_a_hundred_at_a_time_and_their_jobs_hinted_again() {
    let f = Fixture::new().await;
    let id = f.queued("thing").await;
    f.sweep().await;
    assert_eq!(f.sent(), vec![id]);
    let letter = |hint| DeadLetter { hint, receipt: "r".into() };
    {
        let mut dead = f.queue.dead.lock().unwrap();
        dead.push(letter(Some(Hint { job_id: id, attempt: 0 })));
        dead.push(letter(None));
        dead.extend((0..120).map(|_| letter(Some(Hint { job_id: JobId::new(), attempt: 1 }))));
    }
    assert_eq!(f.sweep().await["dead_letters"], 100);
    assert_eq!(f.sent(), vec![id], "the same sweep sends its hint again");
    assert_eq!(f.sweep().await["dead_letters"], 22);
    assert_eq!(*f.queue.deleted.lock().unwrap(), 122);
}

#[tokio::test]
async fn a_queue_that_does_not_answer_keeps_nothing_else_from_being_swept() {
    let f = Fixture::new().await;
    let expired = f.expired("thing", 0).await;
    *f.queue.is_down.lock().unwrap() = true;
    let deadline = Instant::now() + Duration::from_secs(30);
    assert!(f.dispatch.handle(json!({"sweep": true}), deadline).await.is_err(), "the failure is seen");
    assert_eq!(f.find(expired).await.status, JobStatus::Queued);
}

#[tokio::test]
async fn upkeep_runs_at_the_first_sweep_and_then_not_for_an_hour() {
    let f = Fixture::new().await;
    let last = "SELECT max(c.relname) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid \
         WHERE i.inhparent = 'job_archive'::regclass";
    let last: String = f.owner.query_one(last, &[]).await.unwrap().get(0);
    f.owner.batch_execute(&format!("DROP TABLE {last}")).await.unwrap();
    assert_eq!(f.sweep().await["upkeep"], true);
    let is_back = format!("SELECT to_regclass('{last}') IS NOT NULL");
    assert!(f.owner.query_one(&is_back, &[]).await.unwrap().get::<_, bool>(0));
    assert_eq!(f.sweep().await["upkeep"], false);
}

#[tokio::test]
async fn a_sweep_out_of_time_does_nothing() {
    let f = Fixture::new().await;
    f.queued("thing").await;
    let report = f.dispatch.handle(json!({"sweep": true}), Instant::now()).await.unwrap();
    assert_eq!(report["hinted"], 0);
    assert!(f.sent().is_empty());
}
