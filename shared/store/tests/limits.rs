//! What is cleaned up in parts keeps to its limit, whatever plan the server has chosen.
//!
//! A subselect with LIMIT and SKIP LOCKED that a join may run once for each row of its other side gives other rows every
//! time, and the limit is none. Small tables get such plans, and keep them until they are analysed again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use store::idempotency::idempotency_purge;
use store::ingest_counters::ingest_counters_fold;
use testdb::TestDb;
use tokio_postgres::Client;

/// Only nested loops are left, and the table was of one row when it was looked at.
async fn inclined_to_loops(db: &TestDb, table: &str, rows: &str) -> Client {
    let owner = db.owner().await;
    owner.batch_execute(&format!("INSERT INTO {table} {rows} LIMIT 1")).await.unwrap();
    owner.batch_execute(&format!("VACUUM ANALYZE {table}")).await.unwrap();
    owner.batch_execute(&format!("INSERT INTO {table} {rows} OFFSET 1")).await.unwrap();
    let client = db.session().await;
    for method in ["hashjoin", "mergejoin", "hashagg", "material", "indexscan", "indexonlyscan", "bitmapscan"]
    {
        client.batch_execute(&format!("SET enable_{method} = off")).await.unwrap();
    }
    client
}

#[tokio::test]
async fn a_purge_of_idempotency_keys_keeps_to_its_limit() {
    let db = TestDb::new().await;
    let rows = "(principal, op, key, request_digest, expires_at)
        SELECT 'module', 'post', 'key ' || n, '\\x00', now() - interval '1 hour' FROM generate_series(1, 20) AS n";
    let client = inclined_to_loops(&db, "idempotency_keys", rows).await;
    assert_eq!(idempotency_purge(&client, 3).await.unwrap(), 3);
    assert_eq!(idempotency_purge(&client, 100).await.unwrap(), 17);
}

#[tokio::test]
async fn a_fold_of_counters_keeps_to_its_limit_and_loses_none() {
    let db = TestDb::new().await;
    let owner = db.owner().await;
    let module = "INSERT INTO modules (id, module_id, name, kind, scopes)
        VALUES ('01890000-0000-7000-8000-000000000001', 'counting', 'Counting', 'connector', '{discoveries:write}')";
    owner.batch_execute(module).await.unwrap();
    let rows = "(module_id, minute, slot, accepted, last_at)
        SELECT '01890000-0000-7000-8000-000000000001', date_trunc('minute', now() - n * interval '1 minute' - interval '2 days'),
            0, 1, now()
        FROM generate_series(1, 20) AS n";
    let client = inclined_to_loops(&db, "ingest_counters", rows).await;
    let counted = async || {
        let row = owner
            .query_one("SELECT ingested_count, (SELECT count(*) FROM ingest_counters) FROM modules WHERE module_id = 'counting'", &[])
            .await
            .unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    assert_eq!(ingest_counters_fold(&client, 3).await.unwrap(), 1);
    assert_eq!(counted().await, (3, 17));
    ingest_counters_fold(&client, 100).await.unwrap();
    assert_eq!(counted().await, (20, 0));
}
