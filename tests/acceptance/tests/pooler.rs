//! The functions behind pgbouncer in transaction mode: `CALLBOARD_TEST_POOLER=1` puts every instance of these tests behind
//! it. Without it, the same test holds without a pooler, so that what differs is the pooler alone.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use acceptance::{Instance, Site, callboard_output_with, eventually, posting_page, sql};
use serde_json::json;

/// One site has one page fetched a second.
const POSTINGS: usize = 5;
const BACKENDS: &str = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'callboard_app'";

#[test]
fn discoveries_become_postings_whichever_way_the_functions_go_to_the_database() {
    let is_asked_for =
        std::env::var("CALLBOARD_TEST_POOLER").is_ok_and(|value| !value.is_empty() && value != "0");
    let site = Site::start();
    let instance = Instance::start(&["--no-site", "--allow-fetch", &site.authority()]);
    let (module, connector) = instance.connector("feed", "trusted");
    let items: Vec<_> = (0..POSTINGS)
        .map(|number| {
            let path = format!("/jobs/{number}");
            site.page(
                &path,
                &posting_page(&format!("Doctoral student number {number} in hydrology"), "Norrsken"),
            );
            json!({
                "origin_module_id": module.id,
                "url": site.url(&path),
                "discovered_at": jiff::Timestamp::now().to_string(),
            })
        })
        .collect();
    let results = connector.post("/discoveries/batch", &json!({ "items": items })).expect(200);
    assert!(results["results"].as_array().unwrap().iter().all(|result| result["status"] == 202), "{results}");
    eventually("every posting is public", || {
        let found = instance.client().get("/postings?q=hydrology&limit=100").expect(200);
        found["items"].as_array().is_some_and(|items| items.len() == POSTINGS)
    });

    let local = instance.local();
    let direct = instance.address("database_url").replace("callboard_owner", "callboard_app");
    let refusal = acceptance::refusal(&direct);
    if is_asked_for {
        let console = local["pooler_url"].as_str().expect("local.json names the pooler");
        let refusal = refusal.expect("the functions' role has no other way in");
        assert!(refusal.contains("pg_hba.conf"), "{refusal}");
        let backends: u64 = instance.sql_value(BACKENDS).parse().unwrap();
        assert!(backends >= 2, "transactions have more than one connection to run on: {backends}");
        let stats = sql(console, "SHOW STATS");
        let of_callboard = stats.iter().find(|row| row[0].as_deref() == Some("callboard")).unwrap();
        let transactions: u64 = of_callboard[1].as_ref().unwrap().parse().unwrap();
        assert!(transactions >= 20, "each posting took transactions: {stats:?}");
    } else {
        assert_eq!(local["pooler_url"], json!(null));
        assert_eq!(refusal, None);
    }
}

#[test]
fn without_pgbouncer_the_option_is_refused_in_plain_words() {
    let data = tempfile::tempdir().unwrap();
    let directory = data.path().to_string_lossy().into_owned();
    let arguments = ["up", "--port", "0", "--pooler", "--data", &directory];
    let output =
        callboard_output_with(data.path(), &arguments, "", &[("CALLBOARD_PGBOUNCER", "/nowhere/pgbouncer")]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("pgbouncer was not found") && said.contains("apt-get install pgbouncer"), "{said}");
}
