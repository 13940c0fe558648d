//! How often an ingest goes to the database and back: counted on the wire.

use crate::support::{Api, Credentials, sha256_hex};
use api::limits::Rate;
use jiff::SignedDuration;
use serde_json::{Value, json};
use testdb::{Said, TestDb, Wire};

struct Counted {
    api: Api,
    wire: Wire,
    connector: Credentials,
}

impl Counted {
    /// Module, key and URL rules are known from an earlier request; one connection is open.
    async fn new() -> Self {
        let db = TestDb::new().await;
        let (wire, pool) = db.wired_pool().await;
        let api = Api::on(db, pool, Rate::default(), None);
        let connector = api.connector("acme-feed", "trusted").await;
        let counted = Self { api, wire, connector };
        counted.post("/discoveries", &counted.discovery("warm"), None).await;
        counted
    }

    fn discovery(&self, name: &str) -> Value {
        self.api.discovery("acme-feed", &format!("https://example.org/{name}"))
    }

    fn hundred(&self, series: &str) -> Vec<Value> {
        (0..100).map(|number| self.discovery(&format!("{series}/{number}"))).collect()
    }

    async fn post(&self, path: &str, body: &Value, key: Option<&str>) -> (Value, Said) {
        let mut who = self.connector.clone();
        if let Some(key) = key {
            who = who.with("idempotency-key", key);
        }
        let _ = self.wire.take();
        let answer = self.api.post(path, &who, body).await;
        assert!(answer.status.is_success(), "{}", answer.text);
        (answer.json(), self.wire.take())
    }

    async fn batch(&self, items: Vec<Value>, key: Option<&str>) -> (Value, Said) {
        self.post("/discoveries/batch", &json!({ "items": items }), key).await
    }

    /// Ids of evidence that is attached to nothing.
    async fn evidence(&self, count: usize) -> Vec<Value> {
        let mut ids = Vec::new();
        for number in 0..count {
            let text = format!("seen {number}");
            let body = self.inline(&text);
            let answer = self.api.post("/evidence", &self.connector, &body).await.expect(202);
            ids.push(answer["evidence_id"].clone());
        }
        ids
    }

    fn inline(&self, text: &str) -> Value {
        json!({
            "kind": "text", "inline_text": text, "content_type": "text/plain", "byte_size": text.len(),
            "captured_at": self.api.now().to_string(), "content_hash": sha256_hex(text),
        })
    }
}

#[track_caller]
fn check_outcomes(answer: &Value, outcome: &str) {
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 100);
    assert!(results.iter().all(|result| result["body"]["outcome"] == outcome), "{answer}");
}

#[tokio::test]
async fn one_discovery_takes_two_round_trips_new_or_known_and_three_with_a_key() {
    let counted = Counted::new().await;
    let (one, other) = (counted.discovery("1"), counted.discovery("2"));
    for (body, key, round_trips) in [(&one, None, 2), (&one, None, 2), (&other, Some("k-1"), 3)] {
        let (_, said) = counted.post("/discoveries", body, key).await;
        said.check_transaction(round_trips);
    }
    // The answer that was given before costs one, and its transaction is rolled back before the connection is used again.
    let (_, replayed) = counted.post("/discoveries", &other, Some("k-1")).await;
    assert_eq!(replayed.statements.first().map(String::as_str), Some("BEGIN"));
    assert!(!replayed.statements.contains(&"COMMIT".to_owned()), "{replayed:#?}");
    let before = counted.api.count("SELECT count(*) FROM sightings").await;
    counted.post("/discoveries", &counted.discovery("3"), None).await;
    assert_eq!(counted.api.count("SELECT count(*) FROM sightings").await, before + 1);
}

#[tokio::test]
async fn a_batch_of_a_hundred_takes_two_round_trips_new_or_known_and_three_with_a_key() {
    let counted = Counted::new().await;
    let (answer, said) = counted.batch(counted.hundred("a"), None).await;
    check_outcomes(&answer, "accepted");
    said.check_transaction(2);
    let (answer, said) = counted.batch(counted.hundred("a"), None).await;
    check_outcomes(&answer, "resighted");
    // Nothing has to be looked up: no candidate yet, no other URL, nothing to begin anew.
    said.check_transaction(2);
    let (answer, said) = counted.batch(counted.hundred("b"), Some("k-1")).await;
    check_outcomes(&answer, "accepted");
    said.check_transaction(3);
}

#[tokio::test]
async fn a_module_that_was_not_seen_for_a_while_costs_one_round_trip_more() {
    let counted = Counted::new().await;
    counted.api.advance(SignedDuration::from_secs(15));
    let (answer, said) = counted.batch(counted.hundred("a"), Some("k-1")).await;
    check_outcomes(&answer, "accepted");
    // Its key and the rules of URLs, then the ingest with an idempotency key.
    assert_eq!(said.round_trips, 4, "{:#?}", said.statements);
}

#[tokio::test]
async fn a_batch_that_leads_to_everything_at_once_takes_four_round_trips() {
    let counted = Counted::new().await;
    let mut named = counted.hundred("a");
    for (number, item) in named.iter_mut().enumerate() {
        item["external_id"] = json!(format!("e-{number}"));
    }
    counted.batch(named.clone(), None).await;
    counted
        .api
        .execute(
            "UPDATE discoveries SET status = 'failed', updated_at = now() - interval '25 hours'
            WHERE external_id IN ('e-0', 'e-1');
            INSERT INTO posting_candidates
                (id, state, extraction_confidence, canonical_hash, canonical_url, normalized_url, organization_key,
                title_key, authority_rank, authority_module_id)
            SELECT '01890a5d-ac96-774b-bcce-b302099a8057', 'needs_review', 0.5, canonical_hash, url, normalized_url,
                'acme', 'title', 1, origin_module_id
            FROM discoveries
            WHERE external_id = 'e-2';
            UPDATE discoveries SET candidate_id = '01890a5d-ac96-774b-bcce-b302099a8057' WHERE external_id = 'e-2'",
        )
        .await;
    let refs = counted.evidence(2).await;
    // Known: begun anew, with a candidate, at another URL, with evidence; new ones beside them, one of them twice.
    named[3]["url"] = json!("https://example.org/moved");
    named[4]["evidence_refs"] = json!([refs[0]]);
    named.truncate(50);
    named.extend(counted.hundred("b").into_iter().take(47));
    named.push(counted.discovery("b/0"));
    let mut referring = counted.discovery("c/0");
    referring["evidence_refs"] = json!([refs[1]]);
    named.push(referring);
    named.push(json!({"discovery": counted.discovery("c/1"), "evidence": [counted.inline("beside it")]}));
    assert_eq!(named.len(), 100);
    let (answer, said) = counted.batch(named.clone(), Some("k-1")).await;
    let outcomes = |outcome: &str| {
        let results = answer["results"].as_array().unwrap();
        results.iter().filter(|result| result["body"]["outcome"] == outcome).count()
    };
    assert_eq!((outcomes("accepted"), outcomes("resighted")), (49, 51), "{answer}");
    said.check_transaction(4);
    assert_eq!(counted.api.count("SELECT count(*) FROM evidence WHERE discovery_id IS NOT NULL").await, 3);
    for event in ["url_changed", "status_changed"] {
        let sql = format!("SELECT count(*) FROM provenance_events WHERE event_type = '{event}'");
        assert_eq!(counted.api.count(&sql).await, if event == "url_changed" { 1 } else { 2 });
    }
    // Without a key and without references, the same takes three.
    for item in &mut named {
        if let Some(item) = item.as_object_mut() {
            item.remove("evidence_refs");
        }
    }
    named[3]["url"] = json!("https://example.org/moved-again");
    let (_, said) = counted.batch(named, None).await;
    said.check_transaction(3);
}

#[tokio::test]
async fn references_that_are_refused_cost_one_round_trip_more_and_leave_the_other_items_as_they_would_be() {
    let counted = Counted::new().await;
    let refs = counted.evidence(1).await;
    let mut items = counted.hundred("a");
    let strange = "01890a5d-ac96-774b-bcce-b302099a8057";
    items[0]["evidence_refs"] = json!([strange]);
    // The same page once more, without them: it is the one that is taken in.
    items[1] = counted.discovery("a/0");
    items[2]["evidence_refs"] = json!([refs[0]]);
    let (answer, said) = counted.batch(items, None).await;
    said.check_transaction(3);
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results[0]["problem"]["errors"][0]["code"], "not_attachable", "{answer}");
    assert!(results[1..].iter().all(|result| result["body"]["outcome"] == "accepted"), "{answer}");
    assert_eq!(counted.api.count("SELECT count(*) FROM discoveries").await, 1 + 99);
    assert_eq!(counted.api.count("SELECT count(*) FROM sightings").await, 1 + 99);
    assert_eq!(counted.api.count("SELECT count(*) FROM evidence WHERE discovery_id IS NOT NULL").await, 1);
}

#[tokio::test]
async fn an_ingest_that_the_database_refuses_leaves_nothing_behind_and_its_connection_clean() {
    let counted = Counted::new().await;
    counted.api.execute("REVOKE INSERT ON sightings FROM callboard_app").await;
    // Few: each is tried by itself, in round trips that the wire makes long.
    let few: Vec<Value> = counted.hundred("a").into_iter().take(8).collect();
    let body = json!({ "items": few });
    let answer = counted.api.post("/discoveries/batch", &counted.connector, &body).await.expect(200);
    let results = answer["results"].as_array().unwrap();
    assert!(results.iter().all(|result| result["status"] == 500), "{answer}");
    assert_eq!(counted.api.count("SELECT count(*) FROM discoveries").await, 1, "the one that came before");
    assert_eq!(counted.api.count("SELECT count(*) FROM jobs").await, 1);
    let single = counted.discovery("b");
    counted.api.post("/discoveries", &counted.connector, &single).await.problem("internal");
    assert_eq!(counted.api.count("SELECT count(*) FROM discoveries").await, 1);
    counted.api.execute("GRANT INSERT ON sightings TO callboard_app").await;
    let (answer, said) = counted.batch(counted.hundred("a"), None).await;
    check_outcomes(&answer, "accepted");
    said.check_transaction(2);
}

#[tokio::test]
async fn a_known_answer_is_given_again_though_the_quota_is_spent() {
    let counted = Counted::new().await;
    let batch = json!({ "items": counted.hundred("a") });
    let (first, _) = counted.post("/discoveries/batch", &batch, Some("k-1")).await;
    let admin = counted.api.person("admin");
    let patch = json!({"config": {"ingest_per_minute": 0}});
    counted.api.call(http::Method::PATCH, "/admin/modules/acme-feed", &admin, Some(&patch)).await.expect(200);
    counted.api.post("/discoveries/batch", &counted.connector, &batch).await.problem("rate-limited");
    let (again, _) = counted.post("/discoveries/batch", &batch, Some("k-1")).await;
    assert_eq!(again, first);
}

#[tokio::test]
async fn what_the_quota_refuses_is_not_even_inserted_for_a_moment() {
    let counted = Counted::new().await;
    let admin = counted.api.person("admin");
    let patch = json!({"config": {"ingest_per_minute": 50}});
    counted.api.call(http::Method::PATCH, "/admin/modules/acme-feed", &admin, Some(&patch)).await.expect(200);
    let body = json!({ "items": counted.hundred("a") });
    counted.api.post("/discoveries/batch", &counted.connector, &body).await.problem("rate-limited");
    // A row that was inserted and rolled back would have made the table longer.
    assert_eq!(counted.api.count("SELECT count(*) FROM discoveries").await, 1);
    let size = counted.api.count("SELECT pg_relation_size('discoveries')").await;
    assert_eq!(size, 8_192, "one page, of the one discovery that came before");
}
