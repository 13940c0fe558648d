//! The way of one discovery, through the real functions, queues and database.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use acceptance::{Client, Instance, Site, eventually, posting_page};
use serde_json::{Value, json};
use std::sync::OnceLock;

/// One instance for the tests of this file.
fn instance() -> (&'static Instance, &'static Site) {
    static SITE: OnceLock<Site> = OnceLock::new();
    let site = SITE.get_or_init(Site::start);
    (Instance::shared(&["--no-site", "--allow-fetch", &site.authority()]), site)
}

fn discovery(module_id: &str, url: &str) -> Value {
    json!({ "origin_module_id": module_id, "url": url, "discovered_at": jiff::Timestamp::now().to_string() })
}

fn settled(client: &Client, discovery_id: &Value) -> Value {
    let path = format!("/discoveries/{}", discovery_id.as_str().unwrap());
    let mut last = Value::Null;
    eventually("the discovery is settled", || {
        last = client.get(&path).expect(200);
        last["status"] != "received"
    });
    last
}

#[test]
fn a_trusted_discovery_is_published_searchable_and_tells_where_each_field_came_from() {
    let (instance, site) = instance();
    let (module, connector) = instance.connector("trusted-feed", "trusted");
    site.page("/jobs/1", &posting_page("Doctoral student in glacier hydrology", "Norrsken University"));
    let url = site.url("/jobs/1?utm_source=feed");

    let accepted = connector.post("/discoveries", &discovery(&module.id, &url)).expect(202);
    assert_eq!(accepted["outcome"], "accepted");
    assert_eq!(accepted["normalized_url"], site.url("/jobs/1"));
    let discovery = settled(&connector, &accepted["discovery_id"]);
    assert_eq!(discovery["status"], "extracted", "{discovery}");

    let reader = instance.client();
    let mut items = Vec::new();
    eventually("the posting is found by its words", || {
        let found = reader.get("/postings?q=glacier%20hydrology").expect(200);
        items = found["items"].as_array().unwrap().clone();
        !items.is_empty()
    });
    assert_eq!(items[0]["organization_name"], "Norrsken University");
    assert_eq!(items[0]["country"], "SE");
    let detail = reader.get(&format!("/postings/{}", items[0]["id"].as_str().unwrap())).expect(200);
    assert_eq!(detail["status"], "active");
    assert_eq!(detail["provenance"]["title"]["via"], "json-ld", "{}", detail["provenance"]);
    assert_eq!(detail["provenance"]["title"]["discovery_id"], accepted["discovery_id"]);
    assert_eq!(detail["source_refs"][0]["module_id"], module.id);
}

#[test]
fn an_untrusted_discovery_waits_for_a_moderator_and_is_not_public() {
    let (instance, site) = instance();
    let (module, connector) = instance.connector("untrusted-feed", "untrusted");
    site.page("/jobs/2", &posting_page("Postdoctoral fellow in lichen taxonomy", "Norrsken University"));
    let accepted = connector.post("/discoveries", &discovery(&module.id, &site.url("/jobs/2"))).expect(202);
    assert_eq!(settled(&connector, &accepted["discovery_id"])["status"], "extracted");
    let state = instance.sql_value(&format!(
        "SELECT state FROM posting_candidates WHERE id = (SELECT candidate_id FROM discoveries WHERE id = '{}')",
        accepted["discovery_id"].as_str().unwrap()
    ));
    assert_eq!(state, "needs_review");
    let found = instance.client().get("/postings?q=lichen%20taxonomy").expect(200);
    assert_eq!(found["items"], json!([]));
}

#[test]
fn one_discovery_handed_in_twenty_times_at_once_is_accepted_once() {
    let (instance, site) = instance();
    let (module, connector) = instance.connector("doubling-feed", "trusted");
    site.page("/jobs/3", &posting_page("Research engineer for tide gauges", "Norrsken University"));
    let body = discovery(&module.id, &site.url("/jobs/3"));
    let outcomes: Vec<String> = std::thread::scope(|scope| {
        let post =
            || connector.post("/discoveries", &body).expect(202)["outcome"].as_str().unwrap().to_owned();
        let posts: Vec<_> = (0..20).map(|_| scope.spawn(post)).collect();
        posts.into_iter().map(|post| post.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "accepted").count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "resighted").count(), 19, "{outcomes:?}");
}

#[test]
fn a_disabled_module_and_an_unknown_one_get_the_same_answer() {
    let (instance, site) = instance();
    let (module, connector) = instance.connector("leaving-feed", "trusted");
    let admin = instance.person("admin");
    let body = discovery(&module.id, &site.url("/jobs/none"));
    connector.post("/discoveries", &body).expect(202);
    admin.patch(&format!("/admin/modules/{}", module.id), &json!({ "enabled": false })).expect(200);
    eventually("the module is refused", || connector.post("/discoveries", &body).status == 401);
    let disabled = connector.post("/discoveries", &body).json();
    let unknown = instance.client().with("x-module-id", "nobody").with("x-api-key", "cb_x_y");
    let unknown = unknown.post("/discoveries", &body).json();
    assert_eq!(disabled["type"], unknown["type"]);
    assert_eq!(disabled["detail"], unknown["detail"]);
}

#[test]
fn a_bad_discovery_is_refused_with_a_pointer_to_each_fault_and_nothing_is_written() {
    let (instance, _) = instance();
    let (module, connector) = instance.connector("faulty-feed", "trusted");
    let body = json!({
        "origin_module_id": module.id, "url": "https://example.org/", "discovered_at": "yesterday", "titel_hint": "typo",
    });
    let answer = connector.post("/discoveries", &body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.expect(422);
    let errors = problem["errors"].as_array().unwrap();
    let pointers: Vec<&str> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    assert!(pointers.contains(&"/discovered_at") && pointers.contains(&"/titel_hint"), "{problem}");
    let written = instance.sql_value(&format!(
        "SELECT count(*) FROM discoveries JOIN modules m ON m.id = origin_module_id WHERE m.module_id = '{}'",
        module.id
    ));
    assert_eq!(written, "0");
}

#[test]
fn without_the_queue_a_discovery_is_still_taken_and_the_sweep_finds_its_job() {
    let site = Site::start();
    // The API's own way to the queue leads nowhere; dispatch and worker reach it.
    let instance = Instance::start(&[
        "--no-site",
        "--allow-fetch",
        &site.authority(),
        "--env",
        "api.AWS_ENDPOINT_URL_SQS=http://127.0.0.1:9",
    ]);
    let (module, connector) = instance.connector("feed", "trusted");
    site.page("/jobs/1", &posting_page("Doctoral student in peat chemistry", "Norrsken University"));
    let accepted = connector.post("/discoveries", &discovery(&module.id, &site.url("/jobs/1"))).expect(202);
    instance.sweep();
    assert_eq!(settled(&connector, &accepted["discovery_id"])["status"], "extracted");
}

#[test]
fn while_the_database_is_away_the_api_says_so_and_afterwards_all_goes_on() {
    let site = Site::start();
    let instance = Instance::start(&["--no-site", "--allow-fetch", &site.authority()]);
    let (module, connector) = instance.connector("feed", "trusted");
    site.page("/jobs/1", &posting_page("Doctoral student in snow optics", "Norrsken University"));
    let body = discovery(&module.id, &site.url("/jobs/1"));
    // Stopped, its processes answer nobody, as a database behind a broken network does.
    let is_postgres = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "postgres")
    };
    let database: Vec<u32> =
        acceptance::children_of(instance.pid()).into_iter().filter(is_postgres).collect();
    assert!(!database.is_empty(), "the runner started PostgreSQL");
    database.iter().for_each(|pid| acceptance::signal(*pid, libc::SIGSTOP));
    let refused = connector.post("/discoveries", &body);
    database.iter().for_each(|pid| acceptance::signal(*pid, libc::SIGCONT));
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(refused.header("retry-after"), Some("2"));
    eventually("the API takes discoveries again", || connector.post("/discoveries", &body).status == 202);
    eventually("the posting is published", || {
        let found = instance.client().get("/postings?q=snow%20optics").expect(200);
        found["items"].as_array().is_some_and(|items| !items.is_empty())
    });
}
