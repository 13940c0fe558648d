//! Handing in discoveries (http-api.md §4, domain.md §4 and §9.5).

use crate::support::{Api, Credentials, pointers, sha256_hex};
use futures::future::join_all;
use jiff::{SignedDuration, ToSpan as _};
use ledger::sqs::WakeSender;
use serde_json::{Value, json};

const TABLES: [&str; 5] = ["discoveries", "sightings", "jobs", "evidence", "idempotency_keys"];

/// Rows of everything that an ingest writes, but the counters and the events of settings.
async fn written(api: &Api) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in TABLES {
        counts.push(api.count(&format!("SELECT count(*) FROM {table}")).await);
    }
    counts.push(api.count("SELECT count(*) FROM provenance_events WHERE entity_type = 'discovery'").await);
    counts
}

#[tokio::test]
async fn a_discovery_is_written_with_its_sighting_job_event_and_count_and_dispatch_is_woken() {
    let api = Api::new().await;
    let connector = api.connector("acme-feed", "trusted").await;
    let mut body = api.discovery("acme-feed", "HTTPS://Example.org:443/jobs/1/?utm_source=x&b=2&a=1");
    body["external_id"] = json!("e-1");
    body["title_hint"] = json!("PhD in cafe\u{301} studies");
    body["hints"] = json!({"country": "SE", "extra": {"anything": [1]}});
    body["metadata"] = json!({"source_key": "not-mine", "resolve_redirects": true, "n": 1});
    let traced =
        connector.clone().with("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let accepted = api.post("/discoveries", &traced, &body).await.expect(202);
    assert_eq!(accepted["outcome"], "accepted");
    assert_eq!(accepted["status"], "received");
    assert_eq!(accepted["normalized_url"], "https://example.org/jobs/1?a=1&b=2");
    assert_eq!(accepted["canonical_hash"].as_str().unwrap().len(), 64);
    let kinds: Vec<&str> =
        accepted["jobs"].as_array().unwrap().iter().map(|job| job["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["extract", "resolve_url_redirects"]);
    assert_eq!(written(&api).await, [1, 1, 2, 0, 0, 1]);
    let sum = "SELECT sum(accepted) FROM ingest_counters WHERE resighted = 0 AND rejected = 0";
    assert_eq!(api.count(sum).await, 1);
    let woken = api.queue.0.lock().unwrap().clone();
    assert_eq!(woken.len(), 1, "one message");
    assert_eq!(woken[0].len(), 2);

    let path = format!("/discoveries/{}", accepted["discovery_id"].as_str().unwrap());
    let stored = api.get(&path, &connector).await.expect(200);
    assert_eq!(stored["url"], body["url"], "as it was sent");
    assert_eq!(stored["title_hint"], "PhD in café studies", "in NFC");
    assert_eq!(stored["source_key"], Value::Null, "one that it may not name is ignored");
    assert_eq!(stored["metadata"]["source_key"], "not-mine");
    assert_eq!(stored["sightings_count"], 1);
    assert_eq!(stored["hints"]["extra"], json!({"anything": [1]}));
    let traces = "SELECT count(*) FROM jobs WHERE trace_context LIKE '00-0af7651916cd43dd8448eb211c80319c-%'";
    assert_eq!(api.count(traces).await, 2);
    let events = "SELECT count(*) FROM provenance_events
        WHERE event_type = 'ingested' AND actor_type = 'machine' AND actor_id = 'acme-feed'
            AND trace_id = '0af7651916cd43dd8448eb211c80319c' AND request_id IS NOT NULL";
    assert_eq!(api.count(events).await, 1);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_its_pointer_and_nothing_is_written() {
    let api = Api::new().await;
    let connector = api.connector("acme-feed", "trusted").await;
    let before = written(&api).await;
    let now = api.now();
    let cases: Vec<(&str, Value, &str)> = vec![
        ("url", Value::Null, "/url"),
        ("url", json!(5), "/url"),
        ("discovered_at", Value::Null, "/discovered_at"),
        ("discovered_at", json!("2026-01-01T00:00:00"), "/discovered_at"),
        ("discovered_at", json!(now.checked_add(6.minutes()).unwrap().to_string()), "/discovered_at"),
        ("discovered_at", json!(now.checked_sub(9_601.hours()).unwrap().to_string()), "/discovered_at"),
        ("origin_module_id", Value::Null, "/origin_module_id"),
        ("origin_module_id", json!(1), "/origin_module_id"),
        ("external_id", json!(""), "/external_id"),
        ("external_id", json!("x".repeat(257)), "/external_id"),
        ("external_id", json!("a\u{0}b"), "/external_id"),
        ("title_hint", json!("x".repeat(301)), "/title_hint"),
        ("title_hint", json!("a\u{202e}b"), "/title_hint"),
        ("title_hint", json!(["x"]), "/title_hint"),
        ("organization_hint", json!("x".repeat(201)), "/organization_hint"),
        ("text_hint", json!("x".repeat(50_001)), "/text_hint"),
        ("hints", json!([]), "/hints"),
        ("hints", json!({"titel": "typo"}), "/hints/titel"),
        ("hints", json!({"extra": {"a": ["\u{0}"]}}), "/hints/extra/a/0"),
        ("evidence_refs", json!("x"), "/evidence_refs"),
        ("evidence_refs", json!(["x"]), "/evidence_refs/0"),
        ("evidence_refs", json!(["01890a5d-ac96-774b-bcce-b302099a8057"]), "/evidence_refs/0"),
        ("evidence_refs", json!(vec!["01890a5d-ac96-774b-bcce-b302099a8057"; 51]), "/evidence_refs"),
        ("metadata", json!("x"), "/metadata"),
        ("metadata", json!({"a": "x".repeat(16 * 1024)}), "/metadata"),
        ("metadata", json!({"a\u{7}": 1}), "/metadata/a\\u{7}"),
        ("metadata", json!({"source_key": 1}), "/metadata/source_key"),
        ("metadata", json!({"resolve_redirects": "yes"}), "/metadata/resolve_redirects"),
        ("titel_hint", json!("typo"), "/titel_hint"),
    ];
    for (member, value, pointer) in cases {
        let mut body = api.discovery("acme-feed", "https://example.org/1");
        body[member] = value.clone();
        let problem = api.post("/discoveries", &connector, &body).await.problem("validation");
        assert!(pointers(&problem).contains(&pointer), "{member}={value}: {problem}");
    }
    for url in ["ftp://example.org/", "/relative", "https://user:pw@example.org/", "https://", "x"] {
        let body = api.discovery("acme-feed", url);
        let problem = api.post("/discoveries", &connector, &body).await.problem("invalid-url");
        assert_eq!(pointers(&problem), ["/url"], "{url}");
    }
    let body = api.discovery("acme-feed", &format!("https://example.org/{}", "x".repeat(2_048)));
    api.post("/discoveries", &connector, &body).await.problem("validation");
    let body = api.discovery("other-feed", "https://example.org/1");
    api.post("/discoveries", &connector, &body).await.problem("origin-mismatch");

    let mut body = api.discovery("acme-feed", "x");
    body["discovered_at"] = json!("yesterday");
    body["typo"] = json!(1);
    let problem = api.post("/discoveries", &connector, &body).await.problem("validation");
    let mut all = pointers(&problem);
    all.sort_unstable();
    assert_eq!(all, ["/discovered_at", "/typo", "/url"], "all at once");

    assert_eq!(written(&api).await, before);
    assert!(api.queue.0.lock().unwrap().is_empty());
    let module = api.get("/admin/modules/acme-feed", &api.person("admin")).await.expect(200);
    assert_eq!(module["last_ingest_error"], "validation");
    assert!(module["last_ingest_error_at"].is_string());
    assert_eq!(module["ingested_count"], 0);
}

#[tokio::test]
async fn a_repeat_is_a_sighting_and_answers_with_what_is_stored() {
    let api = Api::new().await;
    let connector = api.connector("acme-feed", "trusted").await;
    let first =
        api.post("/discoveries", &connector, &api.discovery("acme-feed", "https://example.org/1")).await;
    let first = first.expect(202);
    let again = api.discovery("acme-feed", "https://EXAMPLE.org/1?utm_source=mail");
    let again = api.post("/discoveries", &connector, &again).await.expect(202);
    assert_eq!(again["outcome"], "resighted");
    assert_eq!(again["discovery_id"], first["discovery_id"]);
    assert_eq!(again["jobs"], json!([]));
    assert_eq!(written(&api).await, [1, 2, 1, 0, 0, 2]);

    // With an external id it is another thing, and its URL may change.
    let mut named = api.discovery("acme-feed", "https://example.org/1");
    named["external_id"] = json!("e-1");
    let new = api.post("/discoveries", &connector, &named).await.expect(202);
    assert_eq!(new["outcome"], "accepted");
    named["url"] = json!("https://example.org/moved");
    let moved = api.post("/discoveries", &connector, &named).await.expect(202);
    assert_eq!(moved["outcome"], "resighted");
    assert_eq!(moved["normalized_url"], "https://example.org/1", "the stored one");
    assert_eq!(moved["jobs"][0]["kind"], "resolve_url_redirects");
    let changed = "SELECT count(*) FROM provenance_events WHERE event_type = 'url_changed'";
    assert_eq!(api.count(changed).await, 1);
    let same = api.post("/discoveries", &connector, &named).await.expect(202);
    assert_eq!(same["jobs"], json!([]), "the new URL is known by now");
    assert_eq!(api.count(changed).await, 1);

    // Another module's is another discovery.
    let other = api.connector("other-feed", "trusted").await;
    let theirs =
        api.post("/discoveries", &other, &api.discovery("other-feed", "https://example.org/1")).await;
    assert_eq!(theirs.expect(202)["outcome"], "accepted");
}

#[tokio::test]
async fn twenty_at_once_are_one_accepted_and_nineteen_resighted() {
    let api = Api::new().await;
    let connector = api.connector("acme-feed", "trusted").await;
    let mut body = api.discovery("acme-feed", "https://example.org/1");
    for named in [false, true] {
        if named {
            body["external_id"] = json!("e-1");
        }
        let answers = join_all((0..20).map(|_| api.post("/discoveries", &connector, &body))).await;
        let outcomes: Vec<Value> =
            answers.iter().map(|answer| answer.expect(202)["outcome"].clone()).collect();
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == "accepted").count(), 1, "{outcomes:?}");
    }
    assert_eq!(written(&api).await, [2, 40, 2, 0, 0, 40]);
    assert_eq!(api.count("SELECT sum(accepted) * 100 + sum(resighted) FROM ingest_counters").await, 238);
}

#[tokio::test]
async fn what_failed_a_day_ago_gets_a_fresh_job_when_it_is_seen_again() {
    let api = Api::new().await;
    let connector = api.connector("acme-feed", "trusted").await;
    let body = api.discovery("acme-feed", "https://example.org/1");
    api.post("/discoveries", &connector, &body).await.expect(202);
    for (status, age, jobs) in
        [("failed", 23, 0), ("failed", 25, 1), ("unusable", 25, 1), ("withdrawn", 25, 0)]
    {
        api.execute(&format!(
            "DELETE FROM jobs;
            UPDATE discoveries SET status = '{status}', updated_at = now() - interval '{age} hours'"
        ))
        .await;
        let again = api.post("/discoveries", &connector, &body).await.expect(202);
        assert_eq!(again["jobs"].as_array().unwrap().len(), jobs, "{status} {age}");
        assert_eq!(again["status"], if jobs == 1 { "received" } else { status });
    }
    assert_eq!(
        api.count("SELECT count(*) FROM provenance_events WHERE event_type = 'status_changed'").await,
        2
    );
}

#[tokio::test]
async fn a_key_answers_again_to_the_byte_and_never_does_it_twice() {
    let api = Api::new().await;
    let connector = api.connector("acme-feed", "trusted").await;
    let keyed = connector.clone().with("idempotency-key", "k-1");
    let body = api.discovery("acme-feed", "https://example.org/1");
    let first = api.post("/discoveries", &keyed, &body).await;
    first.expect(202);
    assert_eq!(first.header("idempotency-replayed"), None);
    let again = api.post("/discoveries", &keyed, &body).await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(written(&api).await, [1, 1, 1, 0, 1, 1]);

    let other = api.discovery("acme-feed", "https://example.org/2");
    api.post("/discoveries", &keyed, &other).await.problem("idempotency-key-reused");
    // Another operation, another principal, another key.
    let batch = json!({"items": [other]});
    api.post("/discoveries/batch", &keyed, &batch).await.expect(200);
    let theirs = api.connector("other-feed", "trusted").await.with("idempotency-key", "k-1");
    let theirs =
        api.post("/discoveries", &theirs, &api.discovery("other-feed", "https://example.org/1")).await;
    assert_eq!(theirs.expect(202)["outcome"], "accepted");

    // What was refused is not remembered.
    let refused = connector.clone().with("idempotency-key", "k-2");
    api.post("/discoveries", &refused, &api.discovery("acme-feed", "x")).await.problem("invalid-url");
    api.post("/discoveries", &refused, &api.discovery("acme-feed", "https://example.org/3"))
        .await
        .expect(202);

    api.execute("UPDATE idempotency_keys SET expires_at = now()").await;
    let later = api.post("/discoveries", &keyed, &body).await;
    assert_eq!(later.expect(202)["outcome"], "resighted");

    for key in ["", "with space", "é", &"x".repeat(129)] {
        let answer = api.post("/discoveries", &connector.clone().with("idempotency-key", key), &body).await;
        assert_eq!(pointers(&answer.problem("validation")), ["#/header/Idempotency-Key"], "{key}");
    }
}

#[tokio::test]
async fn twins_with_one_key_get_one_answer() {
    let api = Api::new().await;
    let keyed = api.connector("acme-feed", "trusted").await.with("idempotency-key", "k-1");
    let body = api.discovery("acme-feed", "https://example.org/1");
    let answers = join_all((0..8).map(|_| api.post("/discoveries", &keyed, &body))).await;
    assert!(answers.iter().all(|answer| answer.status == 202 && answer.text == answers[0].text));
    assert_eq!(answers.iter().filter(|answer| answer.header("idempotency-replayed").is_none()).count(), 1);
    assert_eq!(written(&api).await, [1, 1, 1, 0, 1, 1]);
}

#[tokio::test]
async fn a_twin_of_what_takes_too_long_is_told_so() {
    let api = Api::new().await;
    let keyed = api.connector("acme-feed", "trusted").await.with("idempotency-key", "k-1");
    let body = api.discovery("acme-feed", "https://example.org/1");
    let mut owner = api.db.owner().await;
    let held = owner.transaction().await.unwrap();
    held.batch_execute(
        "INSERT INTO idempotency_keys (principal, op, key, request_digest, expires_at)
        VALUES ('module:acme-feed', 'POST /discoveries', 'k-1', '\\x00', now() + interval '1 day')",
    )
    .await
    .unwrap();
    api.post("/discoveries", &keyed, &body).await.problem("idempotency-in-progress");
    held.rollback().await.unwrap();
    api.post("/discoveries", &keyed, &body).await.expect(202);
}

#[tokio::test]
async fn the_quota_of_a_minute_is_counted_in_the_database() {
    let api = Api::new().await;
    let admin = api.person("admin");
    let connector = api.connector("acme-feed", "trusted").await;
    let patch = json!({"config": {"ingest_per_minute": 3}});
    api.call(http::Method::PATCH, "/admin/modules/acme-feed", &admin, Some(&patch)).await.expect(200);
    // The whole test lies within a minute of the database, or the count begins anew.
    for number in 0..3 {
        let body = api.discovery("acme-feed", &format!("https://example.org/{number}"));
        api.post("/discoveries", &connector, &body).await;
    }
    api.execute("UPDATE ingest_counters SET minute = date_trunc('minute', now()) WHERE slot >= 0").await;
    let body = api.discovery("acme-feed", "https://example.org/one-more");
    let answer = api.post("/discoveries", &connector, &body).await;
    answer.problem("rate-limited");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    let batch = json!({"items": [body]});
    api.post("/discoveries/batch", &connector, &batch).await.problem("rate-limited");
    api.execute("UPDATE ingest_counters SET minute = minute - interval '1 minute'").await;
    api.post("/discoveries", &connector, &body).await.expect(202);
}

#[tokio::test]
async fn a_batch_answers_each_item_by_itself_and_in_order() {
    let api = Api::new().await;
    let connector = api.connector("acme-feed", "trusted").await;
    let good = |number: usize| api.discovery("acme-feed", &format!("https://example.org/{number}"));
    let mut bad = good(2);
    bad["title_hint"] = json!("x".repeat(301));
    let evidence = json!({
        "kind": "text", "inline_text": "seen", "content_type": "text/plain", "byte_size": 4,
        "captured_at": api.now().to_string(),
        "content_hash": "edd9b6a3b9a3d3e5e7e8d1a2b9a3d3e5e7e8d1a2b9a3d3e5e7e8d1a2b9a3d3e5",
    });
    let mut right = evidence.clone();
    right["content_hash"] = json!(sha256_hex("seen"));
    let items = json!({"items": [
        good(1),
        bad,
        good(1),
        api.discovery("other-feed", "https://example.org/3"),
        api.discovery("acme-feed", "nonsense"),
        {"discovery": good(4), "evidence": [right]},
        {"discovery": good(5), "evidence": [evidence]},
        5,
        good(0),
    ]});
    let answer = api.post("/discoveries/batch", &connector, &items).await.expect(200);
    let results = answer["results"].as_array().unwrap();
    let summary: Vec<(u64, u64, &str)> = results
        .iter()
        .map(|result| {
            let told = result["body"]["outcome"].as_str().or(result["problem"]["type"].as_str());
            (result["index"].as_u64().unwrap(), result["status"].as_u64().unwrap(), told.unwrap())
        })
        .collect();
    assert_eq!(
        summary,
        [
            (0, 202, "accepted"),
            (1, 422, "/problems/validation"),
            (2, 202, "resighted"),
            (3, 403, "/problems/origin-mismatch"),
            (4, 422, "/problems/invalid-url"),
            (5, 202, "accepted"),
            (6, 422, "/problems/validation"),
            (7, 422, "/problems/validation"),
            (8, 202, "accepted"),
        ]
    );
    assert_eq!(pointers(&results[1]["problem"]), ["/items/1/title_hint"]);
    assert_eq!(pointers(&results[4]["problem"]), ["/items/4/url"]);
    assert_eq!(pointers(&results[6]["problem"]), ["/items/6/evidence/0/content_hash"]);
    assert_eq!(results[5]["body"]["evidence"].as_array().unwrap().len(), 1);
    assert_eq!(results[0]["body"]["discovery_id"], results[2]["body"]["discovery_id"]);
    assert_eq!(written(&api).await, [3, 4, 3, 1, 0, 4]);
    assert_eq!(
        api.count(
            "SELECT (sum(accepted) * 100 + sum(resighted) * 10 + sum(rejected))::bigint FROM ingest_counters"
        )
        .await,
        315
    );
    assert_eq!(api.queue.0.lock().unwrap().len(), 1, "one wake message for all");

    for items in
        [json!({"items": []}), json!({"items": vec![5; 101]}), json!({}), json!({"items": [], "x": 1})]
    {
        api.post("/discoveries/batch", &connector, &items).await.problem("validation");
    }
}

#[tokio::test]
async fn batches_at_once_in_opposite_orders_do_not_deadlock() {
    let api = Api::new().await;
    let connector = api.connector("acme-feed", "trusted").await;
    let one: Vec<Value> =
        (0..100).map(|number| api.discovery("acme-feed", &format!("https://example.org/{number}"))).collect();
    let other: Vec<Value> = one.iter().rev().cloned().collect();
    let bodies: Vec<Value> =
        (0..6).map(|n| json!({"items": if n % 2 == 0 { &one } else { &other }})).collect();
    let answers = join_all(bodies.iter().map(|body| api.post("/discoveries/batch", &connector, body))).await;
    let mut accepted = 0;
    for answer in answers {
        for result in answer.expect(200)["results"].as_array().unwrap() {
            assert_eq!(result["status"], 202, "{result}");
            accepted += usize::from(result["body"]["outcome"] == "accepted");
        }
    }
    assert_eq!(accepted, 100);
    assert_eq!(written(&api).await, [100, 600, 100, 0, 0, 600]);
}

#[tokio::test]
async fn evidence_is_attached_to_its_owners_discovery_once() {
    let api = Api::new().await;
    let connector = api.connector("acme-feed", "trusted").await;
    let other = api.connector("other-feed", "trusted").await;
    let evidence = json!({
        "kind": "rss_item", "uri": "https://store.example/1", "content_type": "text/xml", "byte_size": 10,
        "captured_at": api.now().to_string(), "content_hash": "ab".repeat(32), "metadata": {"a": 1},
    });
    let first = api.post("/evidence", &connector, &evidence).await.expect(202);
    assert_eq!(first["outcome"], "accepted");
    let again = api.post("/evidence", &connector, &evidence).await.expect(202);
    assert_eq!((&again["outcome"], &again["evidence_id"]), (&json!("duplicate"), &first["evidence_id"]));

    let mut theirs = api.discovery("other-feed", "https://example.org/1");
    theirs["evidence_refs"] = json!([first["evidence_id"]]);
    let problem = api.post("/discoveries", &other, &theirs).await.problem("validation");
    assert_eq!(pointers(&problem), ["/evidence_refs/0"]);
    let mut ours = api.discovery("acme-feed", "https://example.org/1");
    ours["evidence_refs"] = json!([first["evidence_id"]]);
    let accepted = api.post("/discoveries", &connector, &ours).await.expect(202);
    // The same request sent again attaches nothing anew, and is no error.
    assert_eq!(api.post("/discoveries", &connector, &ours).await.expect(202)["outcome"], "resighted");
    let mut second = api.discovery("acme-feed", "https://example.org/2");
    second["evidence_refs"] = json!([first["evidence_id"]]);
    api.post("/discoveries", &connector, &second).await.problem("validation");

    let id = accepted["discovery_id"].as_str().unwrap().to_owned();
    let stored = api.get(&format!("/discoveries/{id}"), &connector).await.expect(200);
    assert_eq!(stored["evidence"][0]["id"], first["evidence_id"]);
    assert!(stored["evidence"][0].get("uri").is_none());
    let mut named = evidence.clone();
    named["discovery_id"] = json!(id);
    named["content_hash"] = json!("cd".repeat(32));
    api.post("/evidence", &connector, &named).await.expect(202);
    api.post("/evidence", &other, &named).await.problem("not-owner");
    named["discovery_id"] = json!("01890a5d-ac96-774b-bcce-b302099a8057");
    api.post("/evidence", &connector, &named).await.problem("not-found");
    let batch = json!({"items": [evidence, named]});
    let results = api.post("/evidence/batch", &connector, &batch).await.expect(200);
    assert_eq!(results["results"][0]["status"], 202);
    assert_eq!(results["results"][1]["status"], 404);
}

#[tokio::test]
async fn evidence_that_does_not_fit_is_told_with_its_pointer() {
    let api = Api::new().await;
    let connector = api.connector("acme-feed", "trusted").await;
    let good = json!({
        "kind": "text", "inline_text": "seen", "content_type": "text/plain", "byte_size": 4,
        "captured_at": api.now().to_string(), "content_hash": sha256_hex("seen"),
    });
    let cases = [
        ("kind", json!("photo"), "/kind"),
        ("uri", json!("https://two.example"), ""),
        ("inline_text", Value::Null, ""),
        ("inline_text", json!("x".repeat(64 * 1024 + 1)), "/inline_text"),
        ("object_key", json!("evidence/ab/abcd"), "/object_key"),
        ("content_hash", json!("ab".repeat(32)), "/content_hash"),
        ("content_hash", json!("xy"), "/content_hash"),
        ("captured_at", json!("now"), "/captured_at"),
        ("content_type", json!("x".repeat(129)), "/content_type"),
        ("byte_size", json!(-1), "/byte_size"),
        ("byte_size", json!(10_485_761), "/byte_size"),
        ("byte_size", json!(5), "/byte_size"),
        ("metadata", json!({"a": "x".repeat(8 * 1024)}), "/metadata"),
        ("discovery_id", json!("x"), "/discovery_id"),
        ("typo", json!(1), "/typo"),
    ];
    for (member, value, pointer) in cases {
        let mut body = good.clone();
        body[member] = value.clone();
        let problem = api.post("/evidence", &connector, &body).await.problem("validation");
        assert!(pointers(&problem).contains(&pointer), "{member}={value}: {problem}");
    }
    assert_eq!(api.count("SELECT count(*) FROM evidence").await, 0);
    api.post("/evidence", &connector, &good).await.expect(202);
}

#[tokio::test]
async fn a_discovery_is_seen_by_its_module_and_by_moderators() {
    let api = Api::new().await;
    let connector = api.connector("acme-feed", "trusted").await;
    let other = api.connector("other-feed", "trusted").await;
    let body = api.discovery("acme-feed", "https://example.org/1");
    let accepted = api.post("/discoveries", &connector, &body).await.expect(202);
    let path = format!("/discoveries/{}", accepted["discovery_id"].as_str().unwrap());
    api.get(&path, &connector).await.expect(200);
    api.get(&path, &api.person("moderator")).await.expect(200);
    api.get(&path, &api.person("reader")).await.problem("insufficient-scope");
    api.get(&path, &other).await.problem("not-found");
    api.get(&path, &Credentials::none()).await.problem("invalid-credentials");
    let absent = "/discoveries/01890a5d-ac96-774b-bcce-b302099a8057";
    api.get(absent, &connector).await.problem("not-found");
}

#[tokio::test]
async fn without_the_queue_a_discovery_is_taken_all_the_same() {
    // SAFETY-free stand-in for an unreachable queue: the sender's own client, at a port where nobody listens.
    let api = Api::with_queue(Box::new(WakeSender::new("http://127.0.0.1:9/queue"))).await;
    let connector = api.connector("acme-feed", "trusted").await;
    let body = api.discovery("acme-feed", "https://example.org/1");
    api.post("/discoveries", &connector, &body).await.expect(202);
    assert_eq!(written(&api).await, [1, 1, 1, 0, 0, 1]);
}

/// A published posting of the discovery, whose status the test chooses.
async fn publish(api: &Api, discovery_id: &str, status: &str, reason: &str) {
    let (state, live) = match status {
        "active" | "stale" => ("published", true),
        other => (other, false),
    };
    api.execute(&format!(
        "DELETE FROM candidate_discoveries; DELETE FROM posting_checks; DELETE FROM postings;
        UPDATE discoveries SET candidate_id = NULL;
        DELETE FROM posting_candidates;
        INSERT INTO posting_candidates (id, state, extraction_confidence, canonical_hash, canonical_url,
            normalized_url, organization_key, title_key, authority_rank, authority_module_id)
        SELECT id, '{state}', 1, canonical_hash, url, normalized_url, 'o', 't', 3, origin_module_id
        FROM discoveries WHERE id = '{discovery_id}';
        UPDATE discoveries SET status = 'extracted', candidate_id = id WHERE id = '{discovery_id}';
        INSERT INTO candidate_discoveries (candidate_id, discovery_id) VALUES ('{discovery_id}', '{discovery_id}');
        INSERT INTO postings (id, candidate_id, title, canonical_url, normalized_url, canonical_hash,
            organization_name, status, status_reason, visible, published_at, title_fold, organization_fold)
        SELECT id, id, 't', canonical_url, normalized_url, canonical_hash, 'o', '{status}', '{reason}', true,
            now(), 't', 'o'
        FROM posting_candidates;
        INSERT INTO posting_checks (posting_id, is_live, last_confirmed_at, last_seen_at, next_check_at)
        SELECT id, {live}, now() - interval '3 days', now() - interval '3 days', now() FROM postings"
    ))
    .await;
}

#[tokio::test]
async fn a_trusted_sighting_confirms_a_posting_and_an_untrusted_one_does_not() {
    let api = Api::new().await;
    let confirmed = "SELECT count(*) FROM posting_checks
        WHERE last_confirmed_at > now() - interval '1 hour' AND last_seen_at > now() - interval '1 hour'";
    let active = "SELECT count(*) FROM postings WHERE status = 'active'";
    let cases = [
        ("trusted-feed", "trusted", "stale", "stale_after", 1, 1),
        ("semi-feed", "semi_trusted", "stale", "stale_after", 1, 1),
        ("untrusted-feed", "untrusted", "stale", "stale_after", 0, 0),
        ("archived-feed", "trusted", "archived", "archive_after", 1, 1),
        ("moderated-feed", "trusted", "archived", "moderator", 1, 0),
        ("closed-feed", "trusted", "closed", "deadline_passed", 1, 0),
    ];
    for (module, trust, status, reason, is_confirmed, is_active) in cases {
        let connector = api.connector(module, trust).await;
        let body = api.discovery(module, "https://example.org/1");
        let accepted = api.post("/discoveries", &connector, &body).await.expect(202);
        publish(&api, accepted["discovery_id"].as_str().unwrap(), status, reason).await;
        api.post("/discoveries", &connector, &body).await.expect(202);
        assert_eq!(api.count(confirmed).await, is_confirmed, "{module}");
        assert_eq!(api.count(active).await, is_active, "{module}");
        let published = "SELECT count(*) FROM posting_candidates WHERE state = 'published'";
        let expected = i64::from(is_active == 1 || status == "stale");
        assert_eq!(api.count(published).await, expected, "{module}");
    }
    let suggested = "SELECT count(*) FROM provenance_events WHERE event_type = 'reopen_suggested'";
    assert_eq!(api.count(suggested).await, 2);
    let changed = "SELECT count(*) FROM provenance_events
        WHERE entity_type = 'posting' AND event_type = 'status_changed' AND payload ->> 'reason' = 'resighted'";
    assert_eq!(api.count(changed).await, 3);
}

#[tokio::test]
async fn a_sighting_of_the_future_confirms_no_later_than_now() {
    let api = Api::new().await;
    let connector = api.connector("acme-feed", "trusted").await;
    let mut body = api.discovery("acme-feed", "https://example.org/1");
    let accepted = api.post("/discoveries", &connector, &body).await.expect(202);
    publish(&api, accepted["discovery_id"].as_str().unwrap(), "active", "published").await;
    body["discovered_at"] = json!((api.now() + SignedDuration::from_mins(4)).to_string());
    api.post("/discoveries", &connector, &body).await.expect(202);
    assert_eq!(api.count("SELECT count(*) FROM posting_checks WHERE last_confirmed_at > now()").await, 0);
    body["discovered_at"] = json!((api.now() - SignedDuration::from_hours(48)).to_string());
    api.post("/discoveries", &connector, &body).await.expect(202);
    let recent = "SELECT count(*) FROM posting_checks WHERE last_confirmed_at > now() - interval '1 hour'";
    assert_eq!(api.count(recent).await, 1, "an older sighting takes nothing back");
}
