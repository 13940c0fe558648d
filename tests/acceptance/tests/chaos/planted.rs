//! An audit that finds nothing proves nothing unless it would: here each thing that it is for is planted.

use crate::audit::{Audit, Sort, Violation};
use crate::run::{self, Finished};

/// Without constraints and triggers, which would refuse some of it: they are a proof of their own, and not the audit's.
const FREE: &str = "SET LOCAL session_replication_role = replica; ALTER TABLE jobs DROP CONSTRAINT jobs_pkey";
/// A job that is done; the same one in every statement.
const DONE: &str = "(SELECT min(id::text)::uuid FROM job_archive)";
/// Its discovery.
const DISCOVERY: &str =
    "(SELECT target_id FROM job_archive WHERE id = (SELECT min(id::text)::uuid FROM job_archive))";
/// What a job has in every table, but for its id.
const COLUMNS: &str = "kind, target_type, target_id, inputs_json, route, priority, next_run_at, attempt, failures, \
                       max_failures, deferrals, requeues, created_at, version";

/// How the audit must name it (sort, and part of the text), and the statements that plant it. `DONE`, `DISCOVERY` and
/// `COLUMNS` stand for the constants.
const PLANTED: [(Sort, &str, &str); 20] = [
    (Sort::Lost, "jobs, not 1", "DELETE FROM job_archive WHERE id = DONE"),
    (Sort::Lost, "which does not exist", "DELETE FROM discoveries WHERE id = DISCOVERY"),
    (Sort::Lost, "public postings", "DELETE FROM postings WHERE id = (SELECT id FROM postings LIMIT 1)"),
    (Sort::Lost, "sightings", "DELETE FROM sightings WHERE discovery_id = DISCOVERY"),
    (Sort::Lost, "'job dead_lettered'", "DELETE FROM provenance_events WHERE event_type = 'dead_lettered'"),
    (
        Sort::Lost,
        "keys with an answer",
        "DELETE FROM idempotency_keys WHERE key = (SELECT min(key) FROM idempotency_keys)",
    ),
    (
        Sort::Doubled,
        "jobs, not 1",
        "INSERT INTO job_archive (id, COLUMNS, status, rerun, finished_at) \
         SELECT gen_random_uuid(), COLUMNS, 'done', false, now() FROM job_archive WHERE id = DONE",
    ),
    (
        Sort::Doubled,
        "in two tables",
        "INSERT INTO jobs (id, COLUMNS) SELECT id, COLUMNS FROM job_archive WHERE id = DONE",
    ),
    (
        Sort::Doubled,
        "'posting projected'",
        "INSERT INTO provenance_events (entity_type, entity_id, event_type, actor_type, actor_id) \
         SELECT entity_type, entity_id, event_type, actor_type, actor_id \
         FROM provenance_events WHERE event_type = 'projected' LIMIT 1",
    ),
    (
        Sort::Doubled,
        "sightings",
        "INSERT INTO sightings SELECT * FROM sightings WHERE discovery_id = DISCOVERY",
    ),
    (
        Sort::Doubled,
        "events of a charged return",
        "UPDATE job_archive SET failures = failures - 1 WHERE id = DONE",
    ),
    (Sort::Doubled, "in 0 attempts", "UPDATE job_archive SET attempt = 0 WHERE id = DONE"),
    (
        Sort::Doubled,
        "candidates of no discovery",
        "DELETE FROM candidate_discoveries \
         WHERE candidate_id = (SELECT candidate_id FROM candidate_discoveries LIMIT 1)",
    ),
    (
        Sort::Stuck,
        "a pending job is left",
        "INSERT INTO jobs (id, COLUMNS, hinted_until) \
         SELECT id, COLUMNS, 'infinity' FROM job_archive WHERE id = DONE; \
         DELETE FROM job_archive WHERE id = DONE",
    ),
    (
        Sort::Stuck,
        "is claimed",
        "INSERT INTO jobs (id, COLUMNS, status, lease_token, lease_expires_at, claimed_at) \
         SELECT id, COLUMNS, 'claimed', gen_random_uuid(), now(), now() FROM job_archive WHERE id = DONE; \
         DELETE FROM job_archive WHERE id = DONE",
    ),
    (Sort::Stuck, "still received", "UPDATE discoveries SET status = 'received' WHERE id = DISCOVERY"),
    (
        Sort::Stuck,
        "in progress for ever",
        "UPDATE idempotency_keys SET response = NULL, status = NULL \
         WHERE key = (SELECT min(key) FROM idempotency_keys)",
    ),
    (Sort::Wrong, "not dead_letter", "UPDATE job_dead SET status = 'failed' WHERE status = 'dead_letter'"),
    (
        Sort::Wrong,
        "failures of at most",
        "UPDATE job_archive SET failures = 99, attempt = 100 WHERE id = DONE",
    ),
    (
        Sort::Wrong,
        "published as",
        "UPDATE postings SET title = 'Another' WHERE id = (SELECT id FROM postings LIMIT 1)",
    ),
];

fn audited_with(finished: &Finished, planted: &str) -> Vec<Violation> {
    let (database, accepted, requests) = (&finished.database, &finished.accepted, finished.requests);
    Audit { database, accepted, requests, planted }.violations()
}

/// In the tables that a run left behind, in a transaction that is rolled back after each look.
#[test]
fn the_audit_finds_what_is_lost_doubled_stuck_or_wrong() {
    let finished = run::once();
    let clean = audited_with(finished, "");
    for (sort, part, plant) in PLANTED {
        let plant = plant.replace("DONE", DONE).replace("DISCOVERY", DISCOVERY).replace("COLUMNS", COLUMNS);
        let found = audited_with(finished, &format!("{FREE}; {plant}"));
        let new: Vec<&Violation> = found.iter().filter(|violation| !clean.contains(violation)).collect();
        assert!(
            new.iter().any(|violation| violation.sort == sort && violation.what.contains(part)),
            "{plant}\nwas not found as {sort:?} … {part} …: {new:#?}"
        );
    }
    assert_eq!(audited_with(finished, ""), clean, "what was planted is gone again");
}
