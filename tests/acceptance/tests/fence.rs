//! A worker that slept past its lease changes nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use acceptance::{Instance, Site, eventually, posting_page, signal, state_of};
use serde_json::json;

#[test]
fn a_worker_stopped_past_its_lease_has_no_effect_after_another_finished_its_job() {
    let site = Site::start();
    let instance =
        Instance::start(&["--no-site", "--allow-fetch", &site.authority(), "--worker-concurrency", "2"]);
    let (module, connector) = instance.connector("feed", "trusted");
    let gate =
        site.gated_page("/jobs/1", &posting_page("Doctoral student in fenced leases", "Norrsken University"));
    let body = json!({
        "origin_module_id": module.id, "url": site.url("/jobs/1"), "discovered_at": jiff::Timestamp::now().to_string(),
    });
    let accepted = connector.post("/discoveries", &body).expect(202);
    let job_id = accepted["jobs"][0]["id"].as_str().unwrap().to_owned();
    eventually("the first worker fetches the page", || site.asked("/jobs/1") == 1);

    // The first worker is stopped in the middle of its fetch; its lease runs out, by the database's clock.
    let sleepers = instance.function_pids("worker");
    sleepers.iter().for_each(|pid| signal(*pid, libc::SIGSTOP));
    eventually("the workers are stopped", || sleepers.iter().all(|pid| state_of(*pid) == Some('T')));
    instance.expire_leases();
    // The sleeper holds the host's permit too, for half a minute.
    let _ = instance.sql("UPDATE host_permits SET token = NULL, expires_at = NULL, next_at = now()");
    gate.open();
    instance.sweep();
    let _ = instance.sql(&format!("UPDATE jobs SET next_run_at = now() WHERE id = '{job_id}'"));

    // Another worker, called by hand with the ledger's own hint, in a fresh environment.
    let attempt = instance.sql_value(&format!("SELECT attempt FROM jobs WHERE id = '{job_id}'"));
    let hint = json!({ "job_id": job_id, "attempt": attempt.parse::<i64>().unwrap() });
    let event = json!({ "Records": [{
        "messageId": "11111111-1111-1111-1111-111111111111", "receiptHandle": "none", "attributes": {},
        "messageAttributes": {}, "body": hint.to_string(), "md5OfBody": "", "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:000000000000:jobs", "awsRegion": "eu-central-1",
    }]});
    let _ = instance.invoke("worker", &event);
    eventually("the second worker has finished the job", || {
        instance.sql_value(&format!("SELECT count(*) FROM job_archive WHERE id = '{job_id}'")) == "1"
    });
    let events = || instance.sql("SELECT event_type, count(*) FROM provenance_events GROUP BY 1 ORDER BY 1");
    let postings = || instance.sql_value("SELECT count(*) FROM postings");
    let events_before = events();
    assert_eq!(postings(), "1");

    // The first goes on, and finds its lease gone.
    sleepers.iter().for_each(|pid| signal(*pid, libc::SIGCONT));
    eventually("the first worker tells that it lost its lease", || {
        let log = instance.log("worker");
        log.iter().any(|line| {
            line["job_id"] == job_id.as_str()
                && line["message"].as_str().is_some_and(|message| message.contains("lost its lease"))
        })
    });
    assert_eq!(events(), events_before);
    assert_eq!(postings(), "1");
    let done_by = instance.sql_value(&format!("SELECT attempt FROM job_archive WHERE id = '{job_id}'"));
    assert_eq!(done_by, "2");
}
