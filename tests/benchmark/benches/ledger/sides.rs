//! What is compared: the ledger, and plain SQL that does the same to tables with the same columns and indexes.
//!
//! The plain side is fenced (token, attempt, expiry) and archives. It has no kinds, no reruns and no hints, and waits for
//! nobody in order. Each of its statements goes out unnamed, as the ledger's do, or prepared, which a transaction
//! pooler would forbid.

use ledger::{
    Hint, Holder, JobId, KindPolicy, NewJob, Registry, Route, job_claim_batch, job_enqueue,
    jobs_complete_batch,
};
use serde_json::{Value, json};
use std::time::Duration;
use testdb::TestDb;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

pub(crate) const LEASE: Duration = Duration::from_secs(55);
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

const TABLES: &str = "
CREATE TABLE plain_jobs (LIKE jobs INCLUDING ALL) WITH (
    fillfactor = 45,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05
);
CREATE TABLE plain_archive (LIKE job_archive INCLUDING ALL);
GRANT ALL ON plain_jobs, plain_archive TO callboard_app";

const INSERT: &str = "\
INSERT INTO plain_jobs (id, kind, target_type, target_id, inputs_json, route, priority, max_failures, trace_context)
VALUES ($1, $2, 'discovery', $3, $4, 'internal', 10, 3, $5)
RETURNING id";
const INSERT_TYPES: &[Type] = &[Type::UUID, Type::TEXT, Type::UUID, Type::JSONB, Type::TEXT];

const INSERT_MANY: &str = "\
INSERT INTO plain_jobs (id, kind, target_type, target_id, inputs_json, route, priority, max_failures, trace_context)
SELECT id, kind, 'discovery', target_id, inputs::jsonb, 'internal', 10, 3, trace
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[]) AS n(id, kind, target_id, inputs, trace)
RETURNING id";
const INSERT_MANY_TYPES: &[Type] =
    &[Type::UUID_ARRAY, Type::TEXT_ARRAY, Type::UUID_ARRAY, Type::TEXT_ARRAY, Type::TEXT_ARRAY];

const CLAIM: &str = "\
UPDATE plain_jobs
SET status = 'claimed', attempt = attempt + 1, lease_token = gen_random_uuid(), claimed_at = now(),
    lease_expires_at = now() + interval '55 seconds'
WHERE id = ANY ($1) AND status = 'queued' AND next_run_at <= now()
RETURNING id, kind, target_type, target_id, inputs_json, attempt, lease_token, lease_expires_at, failures,
    max_failures, deferrals, trace_context, created_at";

const COMPLETE: &str = "\
WITH done AS (
    DELETE FROM plain_jobs AS j
    USING unnest($1::uuid[], $2::int4[], $3::uuid[], $4::text[]) AS r(id, attempt, token, result)
    WHERE j.id = r.id AND j.attempt = r.attempt AND j.lease_token = r.token AND j.lease_expires_at > now()
    RETURNING j.*, r.result
)
INSERT INTO plain_archive
    (id, kind, target_type, target_id, inputs_json, status, route, priority, next_run_at, attempt, failures,
    max_failures, deferrals, claimed_at, rerun, requeues, trace_context, created_at, version, result_json, finished_at)
SELECT id, kind, target_type, target_id, inputs_json, 'done', route, priority, next_run_at, attempt, failures,
    max_failures, deferrals, claimed_at, rerun, requeues, trace_context, created_at, version, result::jsonb, now()
FROM done
RETURNING id";
const COMPLETE_TYPES: &[Type] = &[Type::UUID_ARRAY, Type::INT4_ARRAY, Type::UUID_ARRAY, Type::TEXT_ARRAY];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ledger,
    /// Unnamed statements: what a transaction pooler allows.
    Plain,
    /// The same, prepared once a connection.
    Prepared,
}

pub(crate) const SIDES: [Side; 3] = [Side::Ledger, Side::Plain, Side::Prepared];
pub(crate) const COLUMNS: [&str; 3] = ["ledger", "plain", "plain, prepared"];

/// A fresh database with both sides' tables.
pub(crate) async fn database() -> TestDb {
    let db = TestDb::new().await;
    db.owner().await.batch_execute(TABLES).await.unwrap();
    db
}

/// `work_0` … `work_n`.
pub(crate) fn kinds(count: usize) -> Vec<&'static str> {
    (0..count).map(|number| &*Box::leak(format!("work_{number}").into_boxed_str())).collect()
}

pub(crate) fn registry(kinds: &[&'static str]) -> Registry {
    Registry::new(kinds.iter().map(|kind| KindPolicy {
        kind,
        route: Route::Internal,
        max_failures: 3,
        lease: Duration::from_secs(120),
        base: Duration::from_secs(30),
        cap: Duration::from_secs(3_600),
        priority: 10,
    }))
    .unwrap()
}

fn new_job(kind: &'static str) -> NewJob<'static> {
    let target = Uuid::new_v4();
    NewJob {
        kind,
        target_type: "discovery",
        target_id: target,
        inputs: json!({"discovery_id": target}),
        priority: None,
        run_at: None,
        trace_context: Some(TRACE.to_owned()),
    }
}

/// One side on a connection of its own.
pub(crate) struct Connection {
    side: Side,
    pub(crate) client: Client,
    kinds: Vec<&'static str>,
    registry: Registry,
    prepared: Vec<(&'static str, Statement)>,
}

impl Connection {
    pub(crate) async fn new(db: &TestDb, side: Side, kinds: &[&'static str]) -> Self {
        let client = db.app().await;
        let mut prepared = Vec::new();
        if side == Side::Prepared {
            for (sql, types) in [
                (INSERT, INSERT_TYPES),
                (INSERT_MANY, INSERT_MANY_TYPES),
                (CLAIM, &[Type::UUID_ARRAY]),
                (COMPLETE, COMPLETE_TYPES),
            ] {
                prepared.push((sql, client.prepare_typed(sql, types).await.unwrap()));
            }
        }
        Self { side, client, kinds: kinds.to_vec(), registry: registry(kinds), prepared }
    }

    async fn plain(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Vec<Row> {
        match self.prepared.iter().find(|(text, _)| *text == sql) {
            Some((_, statement)) => {
                let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|(value, _)| *value).collect();
                self.client.query(statement, &params).await.unwrap()
            }
            None => self.client.query_typed(sql, params).await.unwrap(),
        }
    }

    /// One row a transaction.
    pub(crate) async fn enqueue_one(&self, number: usize) {
        let job = new_job(self.kinds[number % self.kinds.len()]);
        if self.side == Side::Ledger {
            job_enqueue(&self.client, &self.registry, &[job]).await.unwrap();
            return;
        }
        let id = Uuid::now_v7();
        let params: &[(&(dyn ToSql + Sync), Type)] = &[
            (&id, Type::UUID),
            (&job.kind, Type::TEXT),
            (&job.target_id, Type::UUID),
            (&job.inputs, Type::JSONB),
            (&job.trace_context, Type::TEXT),
        ];
        self.plain(INSERT, params).await;
    }

    /// Many rows in one statement.
    pub(crate) async fn enqueue_many(&self, count: usize) -> Vec<Uuid> {
        let jobs: Vec<_> = (0..count).map(|number| new_job(self.kinds[number % self.kinds.len()])).collect();
        if self.side == Side::Ledger {
            let made = job_enqueue(&self.client, &self.registry, &jobs).await.unwrap();
            return made.into_iter().map(|made| made.id.0).collect();
        }
        let ids: Vec<Uuid> = jobs.iter().map(|_| Uuid::now_v7()).collect();
        let kinds: Vec<&str> = jobs.iter().map(|job| job.kind).collect();
        let targets: Vec<Uuid> = jobs.iter().map(|job| job.target_id).collect();
        let inputs: Vec<String> = jobs.iter().map(|job| job.inputs.to_string()).collect();
        let traces: Vec<Option<&str>> = jobs.iter().map(|job| job.trace_context.as_deref()).collect();
        let params: &[(&(dyn ToSql + Sync), Type)] = &[
            (&ids, Type::UUID_ARRAY),
            (&kinds, Type::TEXT_ARRAY),
            (&targets, Type::UUID_ARRAY),
            (&inputs, Type::TEXT_ARRAY),
            (&traces, Type::TEXT_ARRAY),
        ];
        self.plain(INSERT_MANY, params).await;
        ids
    }

    pub(crate) async fn claim(&self, ids: &[Uuid]) -> Vec<Holder> {
        if self.side == Side::Ledger {
            let hints: Vec<Hint> = ids.iter().map(|id| Hint { job_id: JobId(*id), attempt: 0 }).collect();
            let claimed = job_claim_batch(&self.client, &hints, LEASE).await.unwrap();
            return claimed.iter().map(ledger::ClaimedJob::holder).collect();
        }
        let rows = self.plain(CLAIM, &[(&ids, Type::UUID_ARRAY)]).await;
        rows.iter()
            .map(|row| Holder {
                job_id: JobId(row.get("id")),
                attempt: row.get("attempt"),
                lease_token: row.get("lease_token"),
            })
            .collect()
    }

    /// How many of them were done.
    pub(crate) async fn complete(&self, holders: &[Holder]) -> usize {
        let result = json!({"ok": true});
        if self.side == Side::Ledger {
            let done: Vec<(Holder, Value)> = holders.iter().map(|holder| (*holder, result.clone())).collect();
            return jobs_complete_batch(&self.client, &done).await.unwrap().done.len();
        }
        let ids: Vec<Uuid> = holders.iter().map(|holder| holder.job_id.0).collect();
        let attempts: Vec<i32> = holders.iter().map(|holder| holder.attempt).collect();
        let tokens: Vec<Uuid> = holders.iter().map(|holder| holder.lease_token).collect();
        let results: Vec<String> = holders.iter().map(|_| result.to_string()).collect();
        let params: &[(&(dyn ToSql + Sync), Type)] = &[
            (&ids, Type::UUID_ARRAY),
            (&attempts, Type::INT4_ARRAY),
            (&tokens, Type::UUID_ARRAY),
            (&results, Type::TEXT_ARRAY),
        ];
        self.plain(COMPLETE, params).await.len()
    }
}

/// Puts that many jobs into a side's table; answers their ids in the order of work.
pub(crate) async fn fill(db: &TestDb, side: Side, kinds: &[&'static str], count: usize) -> Vec<Uuid> {
    let connection = Connection::new(db, side, kinds).await;
    let mut ids = Vec::with_capacity(count);
    while ids.len() < count {
        ids.extend(connection.enqueue_many(500.min(count - ids.len())).await);
    }
    let owner = db.owner().await;
    for table in ["jobs", "plain_jobs"] {
        owner.batch_execute(&format!("VACUUM ANALYZE {table}")).await.unwrap();
    }
    ids
}
