//! What the schema itself refuses and guarantees, whatever the code does (domain.md §0, §2).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use domain::state::TrustLevel;
use domain::trust::{PolicyRow, PolicyRules};
use serde_json::Value;
use testdb::TestDb;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

const MODULE: &str = "01930000-0000-7000-8000-000000000001";

async fn refused(client: &Client, sql: &str) -> (SqlState, Option<String>) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let error = error.as_db_error().unwrap();
    (error.code().clone(), error.constraint().map(str::to_owned))
}

async fn refused_by(client: &Client, sql: &str, constraint: &str) {
    let (_, by) = refused(client, sql).await;
    assert_eq!(by.as_deref(), Some(constraint), "{sql}");
}

fn candidate(number: u8, more: &str) -> String {
    format!(
        "INSERT INTO posting_candidates (id, state, extraction_confidence, canonical_hash, canonical_url, normalized_url, \
         organization_key, title_key, authority_rank, authority_module_id{}) \
         VALUES ('01930000-0000-7000-8000-0000000001{number:02}', {}, sha256('{number}'), 'u', 'u', 'o', 't', 1, '{MODULE}'{})",
        if more.is_empty() { "" } else { ", merged_into_id" },
        if more.is_empty() { "'published', 0.9" } else { "'merged', 0.9" },
        if more.is_empty() { String::new() } else { format!(", {more}") },
    )
}

fn posting(number: u8, hash: u8, status: &str, visible: bool) -> String {
    format!(
        "INSERT INTO postings (id, candidate_id, title, canonical_url, normalized_url, canonical_hash, organization_name, \
         tags, language, status, status_reason, visible, published_at, title_fold, organization_fold, opportunity_kind, \
         description_text) \
         VALUES ('01930000-0000-7000-8000-0000000002{number:02}', '01930000-0000-7000-8000-0000000001{number:02}', \
         'Doctoral positions in Zürich', 'u', 'u', sha256('{hash}'), 'ETH', '{{Robotics}}', 'en-GB', '{status}', 'r', \
         {visible}, now(), 't', 'o', 'research_staff', 'Working on héroïc machines')"
    )
}

#[tokio::test]
async fn one_visible_posting_a_hash_and_what_is_live_is_visible() {
    let db = TestDb::new().await;
    let client = db.app().await;
    for number in 1..=3 {
        client.batch_execute(&candidate(number, "")).await.unwrap();
    }
    client.batch_execute(&posting(1, 1, "active", true)).await.unwrap();
    refused_by(&client, &posting(2, 1, "active", true), "postings_visible_hash_key").await;
    refused_by(&client, &posting(2, 2, "active", false), "postings_live_is_visible").await;
    client.batch_execute(&posting(2, 1, "archived", false)).await.unwrap();
    let twice = posting(2, 9, "active", true).replace("0000000002", "0000000003");
    refused_by(&client, &twice, "postings_candidate_id_key").await;
    refused_by(
        &client,
        "UPDATE postings SET withdrawn_at = now() WHERE visible",
        "postings_withdrawn_is_hidden",
    )
    .await;
}

#[tokio::test]
async fn merged_means_merged_into_another() {
    let db = TestDb::new().await;
    let client = db.app().await;
    client.batch_execute(&candidate(1, "")).await.unwrap();
    refused_by(&client, &candidate(2, "NULL"), "posting_candidates_merged_has_target").await;
    let itself = candidate(2, "'01930000-0000-7000-8000-000000000102'");
    refused_by(&client, &itself, "posting_candidates_not_merged_into_itself").await;
    client.batch_execute(&candidate(2, "'01930000-0000-7000-8000-000000000101'")).await.unwrap();
    let stale = "UPDATE posting_candidates SET extraction_confidence = 1.2";
    refused_by(&client, stale, "posting_candidates_extraction_confidence_range").await;
}

#[tokio::test]
async fn events_and_merge_decisions_are_append_only_for_everybody() {
    let db = TestDb::new().await;
    let (app, owner) = (db.app().await, db.owner().await);
    app.batch_execute(
        "INSERT INTO provenance_events (entity_type, entity_id, event_type, actor_type, actor_id) \
         VALUES ('posting', 'x', 'projected', 'machine', 'extract')",
    )
    .await
    .unwrap();
    for client in [&app, &owner] {
        for sql in [
            "UPDATE provenance_events SET payload = '{}'",
            "DELETE FROM provenance_events",
            "TRUNCATE provenance_events",
            "UPDATE candidate_merge_decisions SET rationale = ''",
            "DELETE FROM candidate_merge_decisions",
        ] {
            assert_eq!(refused(client, sql).await.0, SqlState::INSUFFICIENT_PRIVILEGE, "{sql}");
        }
    }
    let anonymous = "INSERT INTO provenance_events (entity_type, entity_id, event_type, actor_type, actor_id) \
                     VALUES ('posting', 'x', 'projected', 'machine', '')";
    refused_by(&app, anonymous, "provenance_events_actor_named").await;
}

#[tokio::test]
async fn the_functions_role_changes_nothing_that_was_submitted_and_owns_nothing() {
    let db = TestDb::new().await;
    let client = db.app().await;
    for column in
        ["url", "normalized_url", "canonical_hash", "external_id", "hints", "metadata", "discovered_at"]
    {
        let sql = format!("UPDATE discoveries SET {column} = {column}");
        assert_eq!(refused(&client, &sql).await.0, SqlState::INSUFFICIENT_PRIVILEGE, "{column}");
    }
    for sql in [
        "DELETE FROM discoveries",
        "DELETE FROM postings",
        "DELETE FROM modules",
        "DELETE FROM sightings",
        "UPDATE evidence SET content_hash = content_hash",
        "UPDATE server_keys SET secret = secret",
        "CREATE TABLE mine (id integer)",
        "ALTER TABLE postings DISABLE TRIGGER ALL",
    ] {
        assert_eq!(refused(&client, sql).await.0, SqlState::INSUFFICIENT_PRIVILEGE, "{sql}");
    }
    let owned = "SELECT count(*) FROM pg_class WHERE relowner = 'callboard_app'::regrole";
    let rows = client.query_typed(owned, &[]).await.unwrap();
    assert_eq!(rows[0].get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_connector_has_no_job_scopes_and_a_processor_no_ingest_scopes() {
    let db = TestDb::new().await;
    let client = db.app().await;
    let insert = |kind: &str, scope: &str| {
        format!(
            "INSERT INTO modules (id, module_id, name, kind, scopes) \
             VALUES (gen_random_uuid(), '{kind}-{}', 'n', '{kind}', '{{{scope}}}')",
            scope.replace(':', ".")
        )
    };
    refused_by(&client, &insert("connector", "jobs:read"), "modules_scopes_fit_kind").await;
    refused_by(&client, &insert("processor", "evidence:write"), "modules_scopes_fit_kind").await;
    refused_by(&client, &insert("processor", "everything"), "modules_scopes_known").await;
    client.batch_execute(&insert("connector", "discoveries:write")).await.unwrap();
    client.batch_execute(&insert("processor", "jobs:write")).await.unwrap();
}

#[tokio::test]
async fn the_default_policies_are_seeded_with_the_built_in_values() {
    let db = TestDb::new().await;
    let rows = db
        .app()
        .await
        .query_typed(
            "SELECT source_key, trust_level, auto_publish, requires_moderation, rules_json, enabled, allow_elevation \
             FROM source_trust_policy",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), TrustLevel::ALL.len());
    for row in &rows {
        let level: TrustLevel = row.get::<_, &str>(1).parse().unwrap();
        let seeded = PolicyRow {
            source_key: row.get(0),
            trust_level: level,
            auto_publish: row.get(2),
            requires_moderation: row.get(3),
            rules: PolicyRules::parse(&row.get::<_, Value>(4)).unwrap(),
            enabled: row.get(5),
            allow_elevation: row.get(6),
        };
        assert_eq!(seeded, PolicyRow::builtin(level));
    }
}

#[tokio::test]
async fn people_submit_by_an_untrusted_module_and_no_key_is_seeded() {
    let db = TestDb::new().await;
    let client = db.app().await;
    let seeded = "SELECT trust_level, (SELECT count(*) FROM module_keys) FROM modules WHERE module_id = 'human-submissions'";
    let rows = client.query_typed(seeded, &[]).await.unwrap();
    assert_eq!((rows[0].get::<_, &str>(0), rows[0].get::<_, i64>(1)), ("untrusted", 0));
    let keys = "SELECT count(DISTINCT secret), count(DISTINCT purpose) FROM server_keys";
    let rows = client.query_typed(keys, &[]).await.unwrap();
    assert_eq!((rows[0].get::<_, i64>(0), rows[0].get::<_, i64>(1)), (2, 2));
}

#[tokio::test]
async fn the_search_document_knows_weights_stems_accents_and_languages() {
    let db = TestDb::new().await;
    let client = db.app().await;
    client.batch_execute(&candidate(1, "")).await.unwrap();
    client.batch_execute(&posting(1, 1, "active", true)).await.unwrap();
    for (query, weight, is_found) in [
        ("position", "A", true),
        ("Zürich", "A", true),
        ("zurich", "A", true),
        ("eth", "B", true),
        ("robotic", "C", true),
        ("research staff", "C", true),
        ("heroic machine", "D", true),
        ("machine", "A", false),
    ] {
        let of_weight = format!(
            "SELECT ts_filter(search, '{{{}}}') @@ websearch_to_tsquery('english', search_unaccent('{query}')) FROM postings",
            weight.to_lowercase()
        );
        let found = client.query_typed(&of_weight, &[]).await.unwrap()[0].get::<_, bool>(0);
        assert_eq!(found, is_found, "{query} as {weight}");
    }
    // Another language is not stemmed as English.
    client.batch_execute("UPDATE postings SET language = 'de'").await.unwrap();
    let stemmed = "SELECT search @@ 'posit'::tsquery, search @@ 'positions'::tsquery FROM postings";
    let rows = client.query_typed(stemmed, &[]).await.unwrap();
    assert_eq!((rows[0].get::<_, bool>(0), rows[0].get::<_, bool>(1)), (false, true));
}

#[tokio::test]
async fn every_constraint_is_named_by_us() {
    let db = TestDb::new().await;
    // What PostgreSQL names itself ends in a column list, a number, or "check".
    let rows = db
        .owner()
        .await
        .query_typed(
            "SELECT conname::text FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid \
             JOIN pg_namespace n ON n.oid = t.relnamespace \
             WHERE n.nspname = 'public' AND t.relname <> 'schema_migrations' AND NOT t.relispartition \
                AND conname ~ '(_check[0-9]*|_fkey[0-9]+|_key[0-9]+|_not_null)$'",
            &[],
        )
        .await
        .unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[tokio::test]
async fn this_month_and_the_next_three_have_a_partition_of_sightings() {
    let db = TestDb::new().await;
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'sightings'::regclass";
    let rows = db.app().await.query_typed(partitions, &[]).await.unwrap();
    assert_eq!(rows[0].get::<_, i64>(0), 4);
}
