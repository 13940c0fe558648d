//! A database with modules, discoveries and claimed jobs, and results as the worker makes them.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use domain::ids::{CandidateId, DiscoveryId, PostingId};
use domain::url::{Rules, normalize};
use fetch::{FetchConfig, Fetcher};
use kinds::{Attempt, Context, ResultOrigin, Settled, Settlement, settle};
use ledger::{ClaimedJob, Hint, NewJob};
use serde_json::{Value, json};
use std::time::Duration;
use testdb::TestDb;
use tokio_postgres::types::Type;
use uuid::Uuid;

pub const URL: &str = "https://uni.example/jobs/42";

pub struct Bench {
    pub db: TestDb,
    pub cx: Context,
    pub owner: tokio_postgres::Client,
}

/// What is stored of a candidate, as far as tests ask.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateRow {
    pub id: CandidateId,
    pub state: String,
    pub reason: Option<String>,
    pub flags: Vec<String>,
    pub fields: Value,
    pub confidence: f64,
}

/// What is stored of a posting, as far as tests ask.
#[derive(Debug, Clone, PartialEq)]
pub struct PostingRow {
    pub id: PostingId,
    pub status: String,
    pub reason: String,
    pub visible: bool,
    pub title: String,
}

/// A fetcher that keeps nothing in the database.
pub fn in_memory(_: store::Pool) -> Fetcher {
    Fetcher::in_memory(FetchConfig::default())
}

impl Bench {
    pub async fn new() -> Self {
        Self::with(in_memory).await
    }

    pub async fn with(fetcher: impl FnOnce(store::Pool) -> Fetcher) -> Self {
        let db = TestDb::new().await;
        let pool = db.pool();
        Self::on(db, pool, fetcher).await
    }

    /// On this pool of the database's.
    pub async fn on(db: TestDb, pool: store::Pool, fetcher: impl FnOnce(store::Pool) -> Fetcher) -> Self {
        let cx = Context::new(pool.clone(), fetcher(pool)).unwrap();
        let owner = db.owner().await;
        Self { db, cx, owner }
    }

    pub async fn module(&self, module_id: &str, trust: &str) -> Uuid {
        let id = Uuid::now_v7();
        self.execute(
            "INSERT INTO modules (id, module_id, name, kind, trust_level) VALUES ($1, $2, $2, 'connector', $3)",
            &[(&id, Type::UUID), (&module_id, Type::TEXT), (&trust, Type::TEXT)],
        )
        .await;
        id
    }

    pub async fn discovery(&self, module: Uuid, url: &str) -> DiscoveryId {
        self.discovery_with(module, url, json!({})).await
    }

    pub async fn discovery_with(&self, module: Uuid, url: &str, metadata: Value) -> DiscoveryId {
        let id = DiscoveryId::new();
        let normal = normalize(url, &Rules::builtin()).unwrap();
        self.execute(
            "INSERT INTO discoveries (id, origin_module_id, discovered_at, url, normalized_url, canonical_hash, metadata) \
             VALUES ($1, $2, now(), $3, $4, $5, $6)",
            &[
                (&id.0, Type::UUID),
                (&module, Type::UUID),
                (&url, Type::TEXT),
                (&normal.as_str(), Type::TEXT),
                (&&normal.hash().0[..], Type::BYTEA),
                (&metadata, Type::JSONB),
            ],
        )
        .await;
        id
    }

    pub async fn execute(&self, sql: &str, params: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)]) {
        self.owner.execute_typed(sql, params).await.unwrap();
    }

    /// Enqueues and claims a job of a discovery.
    pub async fn claim(&self, kind: &str, discovery: DiscoveryId, inputs: Value) -> ClaimedJob {
        let client = self.cx.pool.get().await.unwrap();
        let job = NewJob {
            kind,
            target_type: "discovery",
            target_id: discovery.0,
            inputs,
            priority: None,
            run_at: None,
            trace_context: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        };
        let enqueued = ledger::job_enqueue(&**client, self.cx.registry(), &[job]).await.unwrap();
        drop(client);
        self.claim_again(enqueued[0].id, 0).await.unwrap()
    }

    /// Claims a job whose last attempt had this number.
    pub async fn claim_again(&self, job_id: ledger::JobId, attempt: i32) -> Option<ClaimedJob> {
        self.execute("UPDATE jobs SET next_run_at = now() WHERE id = $1", &[(&job_id.0, Type::UUID)]).await;
        let client = self.cx.pool.get().await.unwrap();
        let hints = [Hint { job_id, attempt }];
        ledger::job_claim_batch(&**client, &hints, Duration::from_secs(60)).await.unwrap().pop()
    }

    pub async fn settle(&self, job: &ClaimedJob, attempt: Attempt) -> Settled {
        self.settle_by(job, attempt, &ResultOrigin::Worker).await
    }

    pub async fn settle_by(&self, job: &ClaimedJob, attempt: Attempt, by: &ResultOrigin) -> Settled {
        settle(&self.cx, &job.kind, &job.holder(), &attempt, by, None).await.unwrap()
    }

    /// Runs one extraction of a discovery with this result, from the claim to the commit.
    pub async fn extract(&self, discovery: DiscoveryId, result: Value) -> Settlement {
        let job = self.claim("extract", discovery, json!({})).await;
        moved(self.settle(&job, Attempt::Done(result)).await)
    }

    pub async fn discovery_status(&self, id: DiscoveryId) -> (String, Option<String>) {
        let row = &self
            .owner
            .query_typed(
                "SELECT status, status_reason FROM discoveries WHERE id = $1",
                &[(&id.0, Type::UUID)],
            )
            .await
            .unwrap()[0];
        (row.get(0), row.get(1))
    }

    pub async fn candidate(&self, discovery: DiscoveryId) -> Option<CandidateRow> {
        let rows = self
            .owner
            .query_typed(
                "SELECT c.id, c.state, c.state_reason, c.risk_flags, c.fields, c.extraction_confidence::float8 \
                 FROM discoveries d JOIN posting_candidates c ON c.id = d.candidate_id WHERE d.id = $1",
                &[(&discovery.0, Type::UUID)],
            )
            .await
            .unwrap();
        rows.first().map(|row| CandidateRow {
            id: CandidateId(row.get(0)),
            state: row.get(1),
            reason: row.get(2),
            flags: row.get(3),
            fields: row.get(4),
            confidence: row.get(5),
        })
    }

    pub async fn posting(&self, candidate: CandidateId) -> Option<PostingRow> {
        let rows = self
            .owner
            .query_typed(
                "SELECT id, status, status_reason, visible, title FROM postings WHERE candidate_id = $1",
                &[(&candidate.0, Type::UUID)],
            )
            .await
            .unwrap();
        rows.first().map(|row| PostingRow {
            id: PostingId(row.get(0)),
            status: row.get(1),
            reason: row.get(2),
            visible: row.get(3),
            title: row.get(4),
        })
    }

    /// The types of an entity's events, oldest first.
    pub async fn events(&self, entity_id: impl ToString) -> Vec<String> {
        self.event_payloads(entity_id).await.into_iter().map(|(name, _)| name).collect()
    }

    pub async fn event_payloads(&self, entity_id: impl ToString) -> Vec<(String, Value)> {
        self.owner
            .query_typed(
                "SELECT event_type, payload FROM provenance_events WHERE entity_id = $1 ORDER BY id",
                &[(&entity_id.to_string(), Type::TEXT)],
            )
            .await
            .unwrap()
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect()
    }

    pub async fn count(&self, sql: &str) -> i64 {
        self.owner.query_typed(sql, &[]).await.unwrap()[0].get(0)
    }
}

pub fn moved(settled: Settled) -> Settlement {
    match settled {
        Settled::Moved(settlement) => *settlement,
        Settled::Stale => panic!("the attempt was stale"),
    }
}

/// A posting as the page of [`URL`] tells of it, with structured data's confidence.
pub fn posting() -> Value {
    json!({
        "title": "Doctoral position in soil physics",
        "organization_name": "University of Example",
        "canonical_url": URL,
        "description_text": "You will measure how water moves through soil.",
        "country": "CH",
        "city": "Bern",
        "deadline": "2090-01-31T11:59:59Z",
        "tags": ["soil", "physics"],
        "opportunity_kind": "phd",
        "field_provenance": provenance(&["title", "organization_name", "canonical_url", "description_text", "country",
            "city", "deadline", "tags", "opportunity_kind"], 0.98),
    })
}

pub fn provenance(fields: &[&str], confidence: f64) -> Value {
    fields
        .iter()
        .map(|field| ((*field).to_owned(), json!({"via": "json-ld", "confidence": confidence})))
        .collect()
}

/// The worker's result for a page that answered at [`URL`].
pub fn result(extraction: Value) -> Value {
    result_at(&[URL], extraction)
}

/// The worker's result for a page at the end of a chain.
pub fn result_at(hops: &[&str], extraction: Value) -> Value {
    let end = hops.last().unwrap();
    let last = hops.len() - 1;
    let hops: Vec<Value> = hops
        .iter()
        .enumerate()
        .map(|(at, url)| json!({"url": url, "status": if at == last { 200 } else { 301 }}))
        .collect();
    // Evidence is the same if its hash is: each result is another page.
    let hash: [u8; 32] = {
        let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(a.as_bytes());
        bytes[16..].copy_from_slice(b.as_bytes());
        bytes
    };
    json!({
        "extraction": extraction,
        "fetched": {
            "final_url": end,
            "status": 200,
            "hops": hops,
            "downgraded": false,
            "headers": {"etag": "\"v1\"", "last-modified": "Wed, 25 Nov 2026 10:00:00 GMT"},
            "content_type": "text/html",
            "body_hash": hash,
            "body_bytes": 1234,
            "captured_at": "2026-11-25T10:00:00Z",
            "text": "You will measure how water moves through soil.",
            "page_hash": hash,
        },
    })
}

pub fn found(posting: Value) -> Value {
    json!({"verdict": "posting", "postings": [posting]})
}

/// `posting()` with some members replaced.
pub fn posting_with(changes: Value) -> Value {
    let mut posting = posting();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            posting.as_object_mut().unwrap().remove(name);
            posting["field_provenance"].as_object_mut().unwrap().remove(name);
        } else {
            posting[name] = value.clone();
        }
    }
    posting
}
