//! What the tests of the ledger share.

use ledger::{
    ClaimedJob, Enqueued, Failure, FencedJob, Hint, Holder, JobId, JobRecord, KindPolicy, NewJob, Registry,
    Route, fence, job_claim_batch, job_enqueue, job_find,
};
use serde_json::json;
use std::time::{Duration, Instant};
use testdb::TestDb;
use tokio_postgres::Client;
use uuid::Uuid;

/// Internal, three failures.
pub(crate) const WORK: &str = "work";
/// External, three failures.
pub(crate) const REPORT: &str = "report";
/// Internal, urgent.
pub(crate) const URGENT: &str = "urgent";

pub(crate) fn registry() -> Registry {
    let work = KindPolicy {
        kind: WORK,
        route: Route::Internal,
        max_failures: 3,
        lease: Duration::from_secs(120),
        base: Duration::from_secs(30),
        cap: Duration::from_secs(3_600),
        priority: 10,
    };
    Registry::new([
        work,
        KindPolicy { kind: REPORT, route: Route::External, priority: 5, ..work },
        KindPolicy { kind: URGENT, priority: 20, ..work },
    ])
    .unwrap()
}

/// A database with connections: one for the code under test, one to look and to shift time.
pub(crate) struct Fixture {
    pub(crate) db: TestDb,
    pub(crate) app: Client,
    pub(crate) owner: Client,
    pub(crate) registry: Registry,
}

pub(crate) fn job(kind: &str, target: Uuid) -> NewJob<'_> {
    NewJob {
        kind,
        target_type: "thing",
        target_id: target,
        inputs: json!({"n": 1}),
        priority: None,
        run_at: None,
        trace_context: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
    }
}

pub(crate) fn transient(code: &str) -> Failure {
    Failure { code: code.into(), message: "it did not work".into(), permanent: false, retry_after: None }
}

pub(crate) fn permanent(code: &str) -> Failure {
    Failure { permanent: true, ..transient(code) }
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let db = TestDb::new().await;
        Self { app: db.app().await, owner: db.owner().await, db, registry: registry() }
    }

    pub(crate) async fn enqueue(&self, job: NewJob<'_>) -> Enqueued {
        job_enqueue(&self.app, &self.registry, &[job]).await.unwrap().remove(0)
    }

    /// A queued job of that kind with a target of its own.
    pub(crate) async fn queued(&self, kind: &str) -> JobId {
        self.enqueue(job(kind, Uuid::now_v7())).await.id
    }

    pub(crate) async fn claim(&self, id: JobId, attempt: i32) -> Option<ClaimedJob> {
        let hints = [Hint { job_id: id, attempt }];
        job_claim_batch(&self.app, &hints, Duration::from_secs(55)).await.unwrap().pop()
    }

    /// A claimed internal job.
    pub(crate) async fn claimed(&self) -> ClaimedJob {
        let id = self.queued(WORK).await;
        self.claim(id, 0).await.unwrap()
    }

    /// The fence of an attempt, on the connection under test.
    pub(crate) async fn fenced(&self, job: &ClaimedJob) -> FencedJob {
        fence(&self.app, &job.holder()).await.unwrap()
    }

    /// Returns once a connection to this database waits for a lock.
    pub(crate) async fn wait_until_somebody_is_blocked(&self) {
        // What others wait for is hidden in pg_stat_activity from all but superusers, but not here.
        let waiting = "SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid \
             WHERE NOT l.granted AND a.datname = current_database()";
        let limit = Instant::now() + Duration::from_secs(10);
        while self.owner.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            assert!(Instant::now() < limit, "nobody waits for a lock");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn find(&self, id: JobId) -> JobRecord {
        job_find(&self.owner, id).await.unwrap().expect("the job is somewhere")
    }

    /// Shifts time for one row: SQL that sets columns of `jobs`.
    pub(crate) async fn set(&self, id: JobId, assignments: &str) {
        let changed = self
            .owner
            .execute(&format!("UPDATE jobs SET {assignments} WHERE id = '{id}'"), &[])
            .await
            .unwrap();
        assert_eq!(changed, 1, "the job is pending");
    }

    pub(crate) async fn make_due(&self, id: JobId) {
        self.set(id, "next_run_at = now()").await;
    }

    /// The lease ends on this very instant.
    pub(crate) async fn expire(&self, id: JobId) {
        self.set(id, "lease_expires_at = now()").await;
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        self.owner.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
    }

    /// The whole of a job's row, to be compared: nothing was changed.
    pub(crate) async fn row(&self, id: JobId) -> String {
        self.owner
            .query_one(&format!("SELECT jobs::text FROM jobs WHERE id = '{id}'"), &[])
            .await
            .unwrap()
            .get(0)
    }
}

pub(crate) fn stranger(job: &ClaimedJob) -> Holder {
    Holder { lease_token: Uuid::new_v4(), ..job.holder() }
}
