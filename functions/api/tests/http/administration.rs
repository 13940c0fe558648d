//! Modules, keys, jobs and kinds (http-api.md §8).

use crate::support::{Api, Credentials, pointers};
use http::Method;
use jiff::SignedDuration;
use serde_json::{Value, json};

async fn patch(api: &Api, path: &str, who: &Credentials, body: &Value) -> crate::support::Answer {
    api.call(Method::PATCH, path, who, Some(body)).await
}

#[tokio::test]
async fn a_module_is_made_read_changed_and_each_change_is_an_event() {
    let api = Api::new().await;
    let admin = api.person("admin");
    let body = json!({
        "module_id": "acme-feed", "name": "Acme", "kind": "connector", "intake_mode": "rss",
        "scopes": ["discoveries:write"], "source_keys": ["acme:eu"], "config": {"ingest_per_minute": 10, "x": 1},
    });
    let made = api.post("/admin/modules", &admin, &body).await;
    assert_eq!(made.header("location"), Some("/admin/modules/acme-feed"));
    assert_eq!(made.header("etag"), Some("\"1\""));
    let made = made.expect(201);
    assert_eq!(made["trust_level"], "untrusted");
    assert_eq!(
        (&made["enabled"], &made["keys"], &made["ingested_count"]),
        (&json!(true), &json!([]), &json!(0))
    );
    api.post("/admin/modules", &admin, &body).await.problem("already-exists");

    let path = "/admin/modules/acme-feed";
    let stale = admin.clone().with("if-match", "\"7\"");
    let answer = patch(&api, path, &stale, &json!({"name": "New"})).await;
    answer.problem("version-mismatch");
    assert_eq!(answer.header("etag"), Some("\"1\""));
    let fresh = admin.clone().with("if-match", "\"1\"");
    let changed = patch(&api, path, &fresh, &json!({"name": "New", "trust_level": "trusted"})).await;
    assert_eq!(changed.header("etag"), Some("\"2\""));
    assert_eq!(changed.expect(200)["name"], "New");
    // What changes nothing is no change.
    assert_eq!(patch(&api, path, &admin, &json!({"name": "New"})).await.header("etag"), Some("\"2\""));
    let read = api.get(path, &admin).await;
    assert_eq!(read.header("etag"), Some("\"2\""));
    assert_eq!(read.expect(200)["trust_level"], "trusted");
    api.get("/admin/modules/nobody", &admin).await.problem("not-found");
    patch(&api, "/admin/modules/nobody", &admin, &json!({})).await.problem("not-found");

    let owner = api.db.owner().await;
    let events = owner
        .query("SELECT payload FROM provenance_events WHERE event_type = 'modules_changed' ORDER BY id", &[])
        .await
        .unwrap();
    let events: Vec<Value> = events.iter().map(|row| row.get(0)).collect();
    assert_eq!(events.len(), 2);
    assert_eq!((&events[0]["before"], &events[0]["after"]["name"]), (&Value::Null, &json!("Acme")));
    assert_eq!((&events[1]["before"]["name"], &events[1]["after"]["name"]), (&json!("Acme"), &json!("New")));
}

#[tokio::test]
async fn a_module_that_does_not_fit_is_told_with_its_pointers() {
    let api = Api::new().await;
    let admin = api.person("admin");
    let good = json!({
        "module_id": "acme-feed", "name": "Acme", "kind": "connector", "scopes": ["discoveries:write"],
    });
    let cases = [
        ("module_id", json!("Acme Feed"), "/module_id"),
        ("module_id", Value::Null, "/module_id"),
        ("name", json!(""), "/name"),
        ("name", json!("x".repeat(201)), "/name"),
        ("kind", json!("spy"), "/kind"),
        ("intake_mode", json!("osmosis"), "/intake_mode"),
        ("scopes", json!(["jobs:write"]), "/scopes/0"),
        ("scopes", json!(["root"]), "/scopes/0"),
        ("scopes", Value::Null, "/scopes"),
        ("trust_level", json!("blind"), "/trust_level"),
        ("source_keys", json!(["UPPER"]), "/source_keys/0"),
        ("source_keys", json!(["module:acme-feed"]), "/source_keys/0"),
        ("source_keys", json!(vec!["a"; 51]), "/source_keys"),
        ("job_kinds", json!(["unknown"]), "/job_kinds/0"),
        ("config", json!({"a": "x".repeat(16 * 1024)}), "/config"),
        ("config", json!({"ingest_per_minute": "many"}), "/config/ingest_per_minute"),
        ("enabled", json!(false), "/enabled"),
    ];
    for (member, value, pointer) in cases {
        let mut body = good.clone();
        body[member] = value.clone();
        let problem = api.post("/admin/modules", &admin, &body).await.problem("validation");
        assert!(pointers(&problem).contains(&pointer), "{member}={value}: {problem}");
    }
    api.post("/admin/modules", &admin, &good).await.expect(201);
    for (body, pointer) in [
        (json!({"scopes": ["jobs:read"]}), "/scopes/0"),
        (json!({"enabled": null}), "/enabled"),
        (json!({"kind": "processor"}), "/kind"),
        (json!({"disabled_reason": "x".repeat(1_001)}), "/disabled_reason"),
    ] {
        let problem = patch(&api, "/admin/modules/acme-feed", &admin, &body).await.problem("validation");
        assert_eq!(pointers(&problem), [pointer]);
    }
    for role in ["reader", "moderator"] {
        api.post("/admin/modules", &api.person(role), &good).await.problem("insufficient-scope");
    }
    api.post("/admin/modules", &Credentials::machine("acme-feed", "cb_a_b"), &good)
        .await
        .problem("invalid-token");
}

#[tokio::test]
async fn the_kill_switch_shuts_a_module_out_and_ends_its_leases() {
    let api = Api::new().await;
    let admin = api.person("admin");
    let connector = api.connector("acme-feed", "trusted").await;
    let body = api.discovery("acme-feed", "https://example.org/1");
    api.post("/discoveries", &connector, &body).await.expect(202);
    api.execute(
        "UPDATE jobs SET status = 'claimed', attempt = 1, lease_token = id, claimed_at = now(),
            lease_expires_at = now() + interval '1 minute', hinted_until = NULL,
            locked_by_module_id = (SELECT id FROM modules WHERE module_id = 'acme-feed')",
    )
    .await;
    let off = json!({"enabled": false, "disabled_reason": "sends nonsense"});
    patch(&api, "/admin/modules/acme-feed", &admin, &off).await.expect(200);
    api.post("/discoveries", &connector, &body).await.problem("invalid-credentials");
    assert_eq!(api.count("SELECT count(*) FROM jobs WHERE status = 'queued' AND failures = 0").await, 1);
    let on = patch(&api, "/admin/modules/acme-feed", &admin, &json!({"enabled": true})).await.expect(200);
    assert_eq!(on["disabled_reason"], Value::Null);
    api.post("/discoveries", &connector, &body).await.expect(202);
}

#[tokio::test]
async fn a_key_is_shown_once_two_may_live_and_the_last_one_is_kept() {
    let api = Api::new().await;
    let admin = api.person("admin");
    let connector = api.connector("acme-feed", "trusted").await;
    let path = "/admin/modules/acme-feed/keys";
    let keyed = admin.clone().with("idempotency-key", "k-1");
    let body = json!({"label": "second"});
    let second = api.post(path, &keyed, &body).await;
    assert_eq!(second.header("cache-control"), Some("no-store"));
    let second = second.expect(201);
    let again = api.post(path, &keyed, &body).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let again = again.expect(201);
    assert_eq!((&again["key_id"], &again["key"]), (&second["key_id"], &Value::Null));
    let secret = second["key"].as_str().unwrap();
    let (public, hidden) = secret.strip_prefix("cb_").unwrap().split_once('_').unwrap();
    assert_eq!((public, hidden.len()), (second["key_id"].as_str().unwrap(), 52));
    let leaks = format!(
        "SELECT (SELECT count(*) FROM idempotency_keys WHERE position('{hidden}' IN encode(response, 'escape')) > 0)
            + (SELECT count(*) FROM provenance_events WHERE payload::text LIKE '%{hidden}%')"
    );
    assert_eq!(api.count(&leaks).await, 0);
    api.post(path, &admin, &json!({"label": "third"})).await.problem("already-exists");

    let discovery = api.discovery("acme-feed", "https://example.org/1");
    let with_second = Credentials::machine("acme-feed", secret);
    api.post("/discoveries", &with_second, &discovery).await.expect(202);
    let delete = async |query: &str, key_id: &str| {
        api.call(Method::DELETE, &format!("{path}/{key_id}{query}"), &admin, None).await
    };
    assert_eq!(delete("", public).await.status, 204);
    api.post("/discoveries", &with_second, &discovery).await.problem("invalid-credentials");
    delete("", public).await.problem("not-found");
    let first = connector.0[1].1.split('_').nth(1).unwrap().to_owned();
    delete("", &first).await.problem("last-key");
    delete("?force=false", &first).await.problem("last-key");
    assert_eq!(delete("?force=true", &first).await.status, 204);
    api.post("/discoveries", &connector, &discovery).await.problem("invalid-credentials");

    for (body, pointer) in [
        (json!({}), "/label"),
        (json!({"label": "x".repeat(81)}), "/label"),
        (json!({"label": "x", "expires_at": "2020-01-01T00:00:00Z"}), "/expires_at"),
        (json!({"label": "x", "key": "mine"}), "/key"),
    ] {
        assert_eq!(pointers(&api.post(path, &admin, &body).await.problem("validation")), [pointer]);
    }
    api.post("/admin/modules/nobody/keys", &admin, &json!({"label": "x"})).await.problem("not-found");
}

#[tokio::test]
async fn jobs_are_listed_newest_first_with_the_dead_among_them() {
    let api = Api::new().await;
    let admin = api.person("admin");
    let connector = api.connector("acme-feed", "trusted").await;
    for number in 0..3 {
        let body = api.discovery("acme-feed", &format!("https://example.org/{number}"));
        api.post("/discoveries", &connector, &body).await.expect(202);
    }
    let first = api.get("/admin/jobs?limit=2", &admin).await.expect(200);
    let items = first["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert!(items[0]["id"].as_str() > items[1]["id"].as_str());
    assert!(items[0].get("lease_token").is_none());
    let next = format!("/admin/jobs?limit=2&cursor={}", first["next_cursor"].as_str().unwrap());
    let second = api.get(&next, &admin).await.expect(200);
    assert_eq!(second["items"].as_array().unwrap().len(), 1);
    assert_eq!(second["next_cursor"], Value::Null);

    let id = items[0]["id"].as_str().unwrap();
    let cancel = json!({"reason": "not wanted"});
    let cancelled = api.post(&format!("/admin/jobs/{id}/cancel"), &admin, &cancel).await.expect(200);
    assert_eq!(cancelled["status"], "failed");
    let dead = api.get("/admin/jobs?status=failed", &admin).await.expect(200);
    assert_eq!(dead["items"][0]["id"], *id);
    let job = api.get(&format!("/admin/jobs/{id}"), &admin).await.expect(200);
    assert_eq!(job["events"][0]["event_type"], "cancelled");
    assert_eq!(job["events"][0]["actor_id"], "ada");
    assert_eq!(job["trace_id"].as_str().unwrap().len(), 32);
    api.post(&format!("/admin/jobs/{id}/cancel"), &admin, &cancel).await.problem("invalid-transition");
    let none = "/admin/jobs/01890a5d-ac96-774b-bcce-b302099a8057";
    api.get(none, &admin).await.problem("not-found");
    api.post(&format!("{none}/retry"), &admin, &json!({})).await.problem("not-found");
    for query in ["status=sleeping", "target_id=x", "since=yesterday", "limit=0"] {
        api.get(&format!("/admin/jobs?{query}"), &admin).await.problem("validation");
    }
}

#[tokio::test]
async fn a_dead_job_is_brought_back_with_its_discovery() {
    let api = Api::new().await;
    let admin = api.person("admin");
    let connector = api.connector("acme-feed", "trusted").await;
    let body = api.discovery("acme-feed", "https://example.org/1");
    let accepted = api.post("/discoveries", &connector, &body).await.expect(202);
    let id = accepted["jobs"][0]["id"].as_str().unwrap();
    let retry = format!("/admin/jobs/{id}/retry");
    // A queued job is due now.
    api.execute("UPDATE jobs SET next_run_at = now() + interval '1 hour'").await;
    let queued = api.call(Method::POST, &retry, &admin, None).await.expect(200);
    assert_eq!(queued["status"], "queued");
    assert_eq!(api.count("SELECT count(*) FROM jobs WHERE next_run_at <= now()").await, 1);

    api.post(&format!("/admin/jobs/{id}/cancel"), &admin, &json!({"reason": "x"})).await.expect(200);
    api.execute("UPDATE discoveries SET status = 'failed', status_reason = 'cancelled'").await;
    let before = api.queue.0.lock().unwrap().len();
    let keyed = admin.clone().with("idempotency-key", "k-1");
    let back = api.call(Method::POST, &retry, &keyed, None).await;
    let again = api.call(Method::POST, &retry, &keyed, None).await;
    assert_eq!(again.text, back.text);
    let back = back.expect(200);
    assert_eq!((&back["id"], &back["requeues"]), (&json!(id), &json!(1)));
    assert_eq!(api.queue.0.lock().unwrap().len(), before + 1);
    let discovery = format!("/discoveries/{}", accepted["discovery_id"].as_str().unwrap());
    assert_eq!(api.get(&discovery, &connector).await.expect(200)["status"], "received");

    // A fresh job of the same target stands in the way of the old one.
    api.post(&format!("/admin/jobs/{id}/cancel"), &admin, &json!({"reason": "x"})).await.expect(200);
    api.execute("UPDATE discoveries SET status = 'failed', updated_at = now() - interval '2 days'").await;
    let fresh = api.post("/discoveries", &connector, &body).await.expect(202);
    let problem = api.post(&retry, &admin, &json!({})).await.problem("pending-job-exists");
    assert_eq!(problem["job_id"], fresh["jobs"][0]["id"]);
    let stale = admin.clone().with("if-match", "\"999\"");
    api.post(&retry, &stale, &json!({})).await.problem("version-mismatch");
}

#[tokio::test]
async fn a_kind_is_as_the_release_has_it_until_somebody_changes_it() {
    let api = Api::new().await;
    let admin = api.person("admin");
    let connector = api.connector("acme-feed", "trusted").await;
    let list = api.get("/admin/job-kinds", &admin).await.expect(200);
    let names: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|kind| kind["kind"].as_str().unwrap()).collect();
    assert_eq!(names, ["enrich", "extract", "resolve_url_redirects"]);
    let body = api.discovery("acme-feed", "https://example.org/1");
    api.post("/discoveries", &connector, &body).await.expect(202);

    let settings = json!({
        "route": "external", "enabled": false, "max_failures": 3, "lease_seconds": 60, "base_seconds": 10,
        "cap_seconds": 100,
    });
    let put = async |kind: &str, who: &Credentials, body: &Value| {
        api.call(Method::PUT, &format!("/admin/job-kinds/{kind}"), who, Some(body)).await
    };
    put("extract", &admin.clone().with("if-match", "\"5\""), &settings).await.problem("version-mismatch");
    let answer = put("extract", &admin, &settings).await;
    assert_eq!(answer.header("etag"), Some("\"1\""));
    assert_eq!(answer.expect(200)["route"], "external");
    assert_eq!(api.count("SELECT count(*) FROM jobs WHERE route = 'external'").await, 1);
    put("unknown", &admin, &settings).await.problem("not-found");
    let wrong = json!({
        "route": "sideways", "enabled": 1, "max_failures": 21, "lease_seconds": 9, "base_seconds": 0, "x": 1,
    });
    let problem = put("extract", &admin, &wrong).await.problem("validation");
    let mut found = pointers(&problem);
    found.sort_unstable();
    let expected =
        ["/base_seconds", "/cap_seconds", "/enabled", "/lease_seconds", "/max_failures", "/route", "/x"];
    assert_eq!(found, expected);
    let changed = "SELECT count(*) FROM provenance_events WHERE event_type = 'job_kinds_changed'";
    assert_eq!(api.count(changed).await, 1);
}

#[tokio::test]
async fn the_numbers_of_the_dashboard_add_up() {
    let api = Api::new().await;
    let connector = api.connector("acme-feed", "trusted").await;
    for number in 0..2 {
        let body = api.discovery("acme-feed", &format!("https://example.org/{number}"));
        api.post("/discoveries", &connector, &body).await.expect(202);
    }
    let stats = api.get("/admin/stats", &api.person("admin")).await.expect(200);
    assert_eq!(stats["jobs"]["by_status"]["queued"], 2);
    assert_eq!(stats["ingest_24h"], 2);
    assert_eq!(stats["postings"]["overdue_checks"], 0);
    assert_eq!(stats["candidates"]["oldest_review_age_s"], Value::Null);
    let module = api.get("/admin/modules/acme-feed", &api.person("admin")).await.expect(200);
    assert_eq!((&module["ingested_count"], &module["ingested_24h"]), (&json!(2), &json!(2)));
    assert!(module["last_ingested_at"].is_string());
    // Long ago is folded into the total.
    api.execute("UPDATE ingest_counters SET minute = minute - interval '26 hours'").await;
    let client = api.db.app().await;
    store::ingest_counters::ingest_counters_fold(&client, 1_000).await.unwrap();
    api.advance(SignedDuration::from_secs(1));
    let module = api.get("/admin/modules/acme-feed", &api.person("admin")).await.expect(200);
    assert_eq!((&module["ingested_count"], &module["ingested_24h"]), (&json!(2), &json!(0)));
}

#[tokio::test]
async fn dead_letters_are_requeued_together_and_those_with_a_successor_are_skipped() {
    let api = Api::new().await;
    let admin = api.person("admin");
    let connector = api.connector("acme-feed", "trusted").await;
    for number in 0..3 {
        let body = api.discovery("acme-feed", &format!("https://example.org/{number}"));
        api.post("/discoveries", &connector, &body).await.expect(202);
    }
    api.execute(
        "UPDATE jobs SET status = 'claimed', attempt = 1, failures = max_failures - 1, lease_token = id,
            claimed_at = now() - interval '2 minutes', lease_expires_at = now() - interval '1 minute',
            hinted_until = NULL",
    )
    .await;
    let reap = "/admin/jobs/reap-expired";
    let reaped = api.post(reap, &admin, &json!({"limit": 2})).await.expect(200);
    assert_eq!(reaped, json!({"count": 2, "dead_lettered": 2}));
    let reaped = api.call(Method::POST, reap, &admin, None).await.expect(200);
    assert_eq!(reaped, json!({"count": 1, "dead_lettered": 1}));
    let events =
        "SELECT count(*) FROM provenance_events WHERE event_type = 'dead_lettered' AND actor_id = 'ada'";
    assert_eq!(api.count(events).await, 3);

    api.execute("UPDATE discoveries SET status = 'failed', updated_at = now() - interval '2 days'").await;
    let body = api.discovery("acme-feed", "https://example.org/0");
    api.post("/discoveries", &connector, &body).await.expect(202);
    let requeue = "/admin/jobs/requeue-dead-letters";
    let none = api.post(requeue, &admin, &json!({"kind": "enrich"})).await.expect(200);
    assert_eq!(none, json!({"requeued": 0, "skipped": 0}));
    let back = api.post(requeue, &admin, &json!({"kind": "extract", "error_code": "lease_expired"})).await;
    assert_eq!(back.expect(200), json!({"requeued": 2, "skipped": 1}));
    assert_eq!(api.count("SELECT count(*) FROM discoveries WHERE status = 'received'").await, 3);
    for body in
        [json!({"limit": 0}), json!({"limit": 1_001}), json!({"knid": "extract"}), json!({"before": "x"})]
    {
        api.post(requeue, &admin, &body).await.problem("validation");
    }
    api.post(reap, &api.person("moderator"), &json!({})).await.problem("insufficient-scope");
}
