//! How often the end of an attempt goes to the database and back: counted on the wire.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod common;

use common::{Bench, URL, found, in_memory, posting, posting_with, result};
use domain::ids::DiscoveryId;
use kinds::{Attempt, Settled};
use serde_json::{Value, json};
use testdb::{Said, TestDb, Wire};
use tokio_postgres::types::Type;

struct Counted {
    bench: Bench,
    wire: Wire,
}

impl Counted {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let (wire, pool) = db.wired_pool().await;
        Self { bench: Bench::on(db, pool, in_memory).await, wire }
    }

    async fn discovery(&self, module: &str, trust: &str) -> DiscoveryId {
        let module = self.bench.module(module, trust).await;
        self.bench.discovery(module, URL).await
    }

    /// What the end of an attempt says.
    async fn settle(&self, discovery: DiscoveryId, attempt: Attempt) -> Said {
        let job = self.bench.claim("extract", discovery, json!({})).await;
        let _ = self.wire.take();
        self.bench.settle(&job, attempt).await;
        self.wire.take()
    }

    async fn extract(&self, discovery: DiscoveryId, extraction: Value) -> Said {
        self.settle(discovery, Attempt::Done(result(extraction))).await
    }
}

#[tokio::test]
async fn a_publication_takes_eleven_round_trips_from_the_fence_to_the_commit() {
    let counted = Counted::new().await;
    let discovery = counted.discovery("feed", "trusted").await;
    let said = counted.extract(discovery, found(posting())).await;
    let candidate = counted.bench.candidate(discovery).await.unwrap();
    assert!(counted.bench.posting(candidate.id).await.unwrap().visible);
    said.check_transaction(11);
}

#[tokio::test]
async fn a_candidate_that_waits_for_a_moderator_takes_ten() {
    let counted = Counted::new().await;
    let discovery = counted.discovery("feed", "untrusted").await;
    let said = counted.extract(discovery, found(posting())).await;
    assert_eq!(counted.bench.candidate(discovery).await.unwrap().state, "needs_review");
    said.check_transaction(10);
}

#[tokio::test]
async fn a_page_that_is_read_again_takes_nine_and_fourteen_if_its_posting_changes() {
    let counted = Counted::new().await;
    let discovery = counted.discovery("feed", "trusted").await;
    counted.extract(discovery, found(posting())).await;
    counted.extract(discovery, found(posting())).await.check_transaction(9);
    let said = counted.extract(discovery, found(posting_with(json!({"city": "Basel"})))).await;
    assert!(said.statements.iter().any(|sql| sql.starts_with("UPDATE postings")), "{:#?}", said.statements);
    said.check_transaction(14);
}

#[tokio::test]
async fn an_attempt_without_a_result_takes_three_and_one_that_lost_its_lease_takes_one() {
    let counted = Counted::new().await;
    let discovery = counted.discovery("feed", "trusted").await;
    counted.settle(discovery, Attempt::retry("http_503", "the site is down")).await.check_transaction(3);
    let job = counted.bench.claim("resolve_url_redirects", discovery, json!({})).await;
    let expire = "UPDATE jobs SET lease_expires_at = clock_timestamp() WHERE id = $1";
    counted.bench.execute(expire, &[(&job.id.0, Type::UUID)]).await;
    let _ = counted.wire.take();
    assert_eq!(counted.bench.settle(&job, Attempt::retry("http_503", "late")).await, Settled::Stale);
    let said = counted.wire.take();
    // Nobody waits for the ROLLBACK; the next statement on the connection queues behind it.
    let waited_for = said.statements.iter().filter(|sql| *sql != "ROLLBACK").count();
    assert_eq!((said.statements[0].as_str(), waited_for), ("BEGIN", 2), "{:#?}", said.statements);
}
