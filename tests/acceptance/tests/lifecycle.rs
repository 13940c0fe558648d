//! The runner starts, stops and starts again without losing work or leaving processes behind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use acceptance::{Instance, Site, callboard_output, children_of, eventually, is_alive, posting_page, signal};
use serde_json::json;

fn hand_in(instance: &Instance, module: &str, urls: &[String]) {
    let (module, connector) = instance.connector(module, "trusted");
    for url in urls {
        let body = json!({
            "origin_module_id": module.id, "url": url, "discovered_at": jiff::Timestamp::now().to_string(),
        });
        connector.post("/discoveries", &body).expect(202);
    }
}

fn pages(site: &Site, count: usize) -> Vec<String> {
    let serve = |number| {
        let path = format!("/jobs/{number}");
        let title = format!("Doctoral student number {number} in geodesy");
        site.page(&path, &posting_page(&title, "Norrsken University"));
        site.url(&path)
    };
    (0..count).map(serve).collect()
}

fn count(instance: &Instance, status: &str) -> String {
    instance.sql_value(&format!("SELECT count(*) FROM discoveries WHERE status = '{status}'"))
}

fn stopped_in_mid_work_nothing_is_left_behind_and_the_next_start_goes_on(how: i32) {
    let site = Site::start();
    let data = tempfile::tempdir().unwrap();
    let options = ["--no-site", "--allow-fetch", &site.authority()];
    let mut first = Instance::start_in(data.path(), &options);
    let gate =
        site.gated_page("/slow", &posting_page("Doctoral student in slow answers", "Norrsken University"));
    let mut urls = vec![site.url("/slow")];
    urls.extend(pages(&site, 4));
    hand_in(&first, "feed", &urls);
    eventually("a worker is in the middle of a fetch", || site.asked("/slow") >= 1);

    let processes = children_of(first.pid());
    assert!(!processes.is_empty());
    let status = first.stop(how);
    if how == libc::SIGTERM {
        assert!(status.success(), "{status}: {}", first.said());
        assert!(!data.path().join("local.json").exists());
    }
    eventually("no process is left behind", || processes.iter().all(|pid| !is_alive(*pid)));
    gate.open();
    drop(first);

    let second = Instance::start_in(data.path(), &options);
    // By the database's clock, at once: leases are over, the killed worker's permit for the host too, and hints that
    // were in the first runner's queues are sent again.
    second.expire_leases();
    let _ = second.sql("UPDATE host_permits SET token = NULL, expires_at = NULL, next_at = now()");
    let _ = second.sql("DELETE FROM host_turns");
    second.sweep();
    let _ = second.sql("UPDATE jobs SET next_run_at = now(), hinted_until = NULL WHERE status = 'queued'");
    second.sweep();
    eventually("every discovery is settled", || count(&second, "received") == "0");
    assert_eq!(count(&second, "extracted"), urls.len().to_string());
}

#[test]
fn after_sigterm_nothing_is_left_behind_and_the_next_start_goes_on() {
    stopped_in_mid_work_nothing_is_left_behind_and_the_next_start_goes_on(libc::SIGTERM);
}

#[test]
fn after_sigkill_nothing_is_left_behind_and_the_next_start_goes_on() {
    stopped_in_mid_work_nothing_is_left_behind_and_the_next_start_goes_on(libc::SIGKILL);
}

#[test]
fn an_environment_that_is_killed_is_replaced_and_its_work_is_done() {
    let site = Site::start();
    let instance = Instance::start(&["--no-site", "--allow-fetch", &site.authority()]);
    for function in ["api", "worker", "dispatch"] {
        instance.function_pids(function).into_iter().for_each(|pid| signal(pid, libc::SIGKILL));
    }
    hand_in(&instance, "feed", &pages(&site, 3));
    eventually("every discovery is settled", || count(&instance, "received") == "0");
    assert_eq!(count(&instance, "extracted"), "3");
}

#[test]
fn a_second_runner_on_the_same_data_is_refused_in_plain_words() {
    let data = tempfile::tempdir().unwrap();
    let _first = Instance::start_in(data.path(), &["--no-site"]);
    let output =
        callboard_output(data.path(), &["up", "--port", "0", "--data", &data.path().to_string_lossy()], "");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another callboard runs") && !said.contains("panicked"), "{said}");
}
