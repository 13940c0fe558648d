//! What is done about some discoveries reads the rows of those, however many there are and whatever the planner believes:
//! its statistics are those of the last ANALYZE, which may have found next to nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod common;

use common::{Bench, found, in_memory, posting_with, result};
use domain::ids::ModuleDbId;
use domain::state::{Actor, TrustLevel};
use domain::url::{Rules, normalize};
use kinds::ingest::{Handing, Ingest, Intake, Item, Submitted, ingest};
use serde_json::json;
use std::collections::BTreeMap;
use store::discoveries::NewDiscovery;
use testdb::TestDb;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// Discoveries before, each with its candidate, its posting and all that belongs to them.
const STORED: i64 = 20_000;
/// Discoveries of a batch.
const BATCH: i64 = 100;

/// A stored discovery is `number`, its page `/number`, and the module's name for it `e-number`.
const FILL: &str = "
    INSERT INTO discoveries
        (id, origin_module_id, external_id, discovered_at, url, normalized_url, canonical_hash, status, created_at)
    SELECT md5('d' || n)::uuid, $1, 'e-' || n, now(), 'https://stored.example/' || n, 'https://stored.example/' || n,
        sha256(('https://stored.example/' || n)::bytea), 'extracted', now() - n * interval '1 second'
    FROM generate_series($2::bigint, $3::bigint) AS n";

/// What belongs to those that have no candidate yet.
const FILL_MORE: &str = "
    CREATE TEMPORARY TABLE fresh AS
    SELECT *, md5('c' || external_id)::uuid AS candidate, md5('p' || external_id)::uuid AS posting
    FROM discoveries WHERE candidate_id IS NULL;
    INSERT INTO sightings (discovery_id, module_id, seen_at, url)
    SELECT id, origin_module_id, now(), url FROM fresh;
    INSERT INTO evidence (id, discovery_id, kind, content_hash, captured_at, content_type, byte_size, inline_text)
    SELECT gen_random_uuid(), id, 'text', canonical_hash, now(), 'text/plain', 1, 'x' FROM fresh;
    INSERT INTO posting_candidates (id, state, extraction_confidence, canonical_hash, canonical_url, normalized_url,
        organization_key, title_key, authority_rank, authority_module_id)
    SELECT candidate, 'published', 0.9, canonical_hash, url, normalized_url, 'example', external_id, 4, origin_module_id
    FROM fresh;
    UPDATE discoveries SET candidate_id = fresh.candidate FROM fresh WHERE discoveries.id = fresh.id;
    INSERT INTO candidate_discoveries (candidate_id, discovery_id) SELECT candidate, id FROM fresh;
    INSERT INTO candidate_evidence (candidate_id, evidence_id)
    SELECT candidate, evidence.id FROM fresh JOIN evidence ON evidence.discovery_id = fresh.id;
    INSERT INTO candidate_urls (candidate_id, url_hash, normalized_url, role)
    SELECT candidate, canonical_hash, normalized_url, 'submitted' FROM fresh;
    INSERT INTO postings (id, candidate_id, title, canonical_url, normalized_url, canonical_hash, organization_name, status,
        status_reason, visible, published_at, title_fold, organization_fold)
    SELECT posting, candidate, 'Postdoc', url, normalized_url, canonical_hash, 'Example', 'active', 'trusted_auto_publish',
        true, now(), 'postdoc', 'example'
    FROM fresh;
    INSERT INTO posting_checks (posting_id, is_live, last_confirmed_at, last_seen_at, next_check_at)
    SELECT posting, true, now() - interval '2 days', now() - interval '2 days', now() FROM fresh;
    INSERT INTO posting_revisions (posting_id, candidate_id, fields, state, reason, actor_type, actor_id)
    SELECT posting, candidate, '{}', 'applied', 'published', 'machine', 'extract' FROM fresh;
    INSERT INTO jobs (id, kind, target_type, target_id, inputs_json, route, priority, next_run_at, max_failures)
    SELECT gen_random_uuid(), 'resolve_url_redirects', 'discovery', id, '{}', 'internal', 12, now() + interval '1 day', 5
    FROM fresh;
    DROP TABLE fresh";

struct Full {
    bench: Bench,
    module: Uuid,
}

/// What the planner knows.
#[derive(Debug, Clone, Copy)]
enum Analysed {
    Never,
    NearlyEmpty,
    Full,
}

impl Full {
    async fn new(analysed: Analysed) -> Self {
        let db = TestDb::new().await;
        // One connection: its counts are asked to be reported before they are read.
        let pool = testdb::pool_of(db.app_url(), 1);
        let bench = Bench::on(db, pool, in_memory).await;
        let module = bench.module("feed", "trusted").await;
        let off = "SELECT 'ALTER TABLE ' || oid::regclass || ' SET (autovacuum_enabled = off)' FROM pg_class
            WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
        for row in bench.owner.query_typed(off, &[]).await.unwrap() {
            bench.owner.batch_execute(row.get(0)).await.unwrap();
        }
        let full = Self { bench, module };
        let first = if let Analysed::NearlyEmpty = analysed { 10 } else { STORED };
        full.fill(1, first).await;
        if !matches!(analysed, Analysed::Never) {
            full.bench.owner.batch_execute("ANALYZE").await.unwrap();
        }
        full.fill(first + 1, STORED).await;
        full
    }

    async fn fill(&self, from: i64, to: i64) {
        self.bench.execute(FILL, &[(&self.module, Type::UUID), (&from, Type::INT8), (&to, Type::INT8)]).await;
        self.bench.owner.batch_execute(FILL_MORE).await.unwrap();
    }

    /// Rows that were read so far, by table; a partitioned table is the sum of its parts.
    async fn rows_read(&self) -> BTreeMap<String, i64> {
        let client = self.bench.cx.pool.get().await.unwrap();
        // Reported when the session is idle next, before it takes another statement.
        client.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
        client.batch_execute("SELECT 1").await.unwrap();
        let sql = "SELECT regexp_replace(relname, '_p?\\d{4}.*', ''),
                sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint
            FROM pg_stat_user_tables GROUP BY 1";
        let rows = self.bench.owner.query_typed(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Tables of which more than `limit` rows were read since `before`.
    async fn excess(&self, before: &BTreeMap<String, i64>, limit: i64) -> Vec<(String, i64)> {
        let after = self.rows_read().await;
        let read = after.into_iter().map(|(table, rows)| {
            let rows = rows - before.get(&table).copied().unwrap_or(0);
            (table, rows)
        });
        read.filter(|(_, rows)| *rows > limit).collect()
    }

    fn page(&self, number: i64, url: &str) -> Submitted {
        let normal = normalize(url, &Rules::builtin()).unwrap();
        let new = NewDiscovery {
            external_id: Some(format!("e-{number}")),
            ..NewDiscovery::of_page(url, &normal, jiff::Timestamp::now())
        };
        Submitted { new, evidence_refs: Vec::new(), resolve_redirects: false }
    }

    async fn take_in(&self, discoveries: &[Submitted]) -> usize {
        let items: Vec<Item<'_>> =
            discoveries.iter().map(|discovery| Item { discovery, evidence: &[] }).collect();
        let actor = Actor::machine("feed");
        let intake = Intake {
            registry: self.bench.cx.registry(),
            module: Handing {
                id: ModuleDbId(self.module),
                module_id: "feed",
                trust_level: TrustLevel::Trusted,
                source_keys: &[],
            },
            actor: &actor,
            request_id: None,
            traceparent: None,
            depth: 0,
            quota: None,
        };
        assert!(!Ingest::new(&intake, &items).refers_to_evidence());
        let mut client = self.bench.cx.pool.get().await.unwrap();
        let tx = client.transaction().await.unwrap();
        let outcome = ingest(&*tx, &intake, &items).await.unwrap();
        tx.commit().await.unwrap();
        outcome.results.iter().filter(|result| result.as_ref().unwrap().is_new).count()
    }
}

#[tokio::test]
async fn taking_in_a_batch_and_publishing_a_page_read_what_they_are_about() {
    let mut wrong = Vec::new();
    for analysed in [Analysed::Never, Analysed::NearlyEmpty, Analysed::Full] {
        let full = Full::new(analysed).await;
        // Half of it is new; of what is known, some comes with another address.
        let batch: Vec<Submitted> = (STORED - BATCH / 2 + 1..=STORED + BATCH / 2)
            .map(|number| {
                let moved = if number % 10 == 0 { "/moved" } else { "" };
                full.page(number, &format!("https://stored.example/{number}{moved}"))
            })
            .collect();
        let before = full.rows_read().await;
        assert_eq!(full.take_in(&batch).await, 50);
        // Foreign keys look at the rows that they name, several times each.
        wrong.push(("a batch", analysed, full.excess(&before, 5 * BATCH).await));

        let url = "https://stored.example/new";
        let discovery = full.bench.discovery(full.module, url).await;
        let job = full.bench.claim("extract", discovery, json!({})).await;
        let before = full.rows_read().await;
        let found = result(found(posting_with(json!({"canonical_url": url}))));
        full.bench.settle(&job, kinds::Attempt::Done(found)).await;
        let candidate = full.bench.candidate(discovery).await.unwrap();
        assert!(full.bench.posting(candidate.id).await.unwrap().visible, "{candidate:?}");
        // What a test asks afterwards is read by the owner, a few rows of it by sequence.
        wrong.push(("a publication", analysed, full.excess(&before, 40).await));
    }
    wrong.retain(|(_, _, tables)| !tables.is_empty());
    assert!(wrong.is_empty(), "{wrong:#?}");
}
