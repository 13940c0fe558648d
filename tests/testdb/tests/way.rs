//! Which way a test's statements take to the server: past a pooler only where none is asked for.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use testdb::TestDb;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const ASK: &str = "SELECT pg_backend_pid()::text, coalesce(inet_client_addr()::text, 'socket')";

/// The server process that answers, and where the connection comes from.
async fn answering(client: &Client) -> (String, String) {
    let rows = client.query_typed(ASK, &[]).await.unwrap();
    (rows[0].get(0), rows[0].get(1))
}

fn is_asked_for() -> bool {
    std::env::var("CALLBOARD_TEST_POOLER").is_ok_and(|value| !value.is_empty() && value != "0")
}

/// Transactions that pgbouncer has passed on for a database.
async fn passed_on(database: &str) -> u64 {
    let console = testdb::pooler().unwrap().console_url();
    let (client, connection) = tokio_postgres::connect(&console, NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows = client.simple_query("SHOW STATS").await.unwrap();
    rows.iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) if row.get("database") == Some(database) => {
                row.get("total_xact_count")?.parse::<u64>().ok()
            }
            _ => None,
        })
        .sum()
}

#[tokio::test]
async fn the_functions_role_comes_in_by_the_pooler_and_in_no_other_way_where_one_is_asked_for() {
    let db = TestDb::new().await;
    let direct = tokio_postgres::connect(&db.direct_app_url(), NoTls).await;
    if !is_asked_for() {
        assert!(testdb::pooler().is_none());
        let (client, connection) = direct.unwrap();
        tokio::spawn(connection);
        assert_eq!(answering(&client).await.1, "127.0.0.1/32");
        return;
    }
    let refusal = direct.err().expect("the server refuses a direct connection");
    assert!(refusal.as_db_error().unwrap().message().contains("pg_hba.conf"), "{refusal:?}");
    let pooled = db.pool().get().await.unwrap();
    assert_eq!(answering(&pooled).await.1, "socket");
    // The owner's migrations go past it.
    assert_eq!(answering(&db.owner().await).await.1, "127.0.0.1/32");
}

#[tokio::test]
async fn one_client_meets_several_server_connections_only_behind_the_pooler() {
    let db = TestDb::new().await;
    let client = db.app().await;
    let mut met = BTreeSet::new();
    for _ in 0..12 {
        met.insert(answering(&client).await.0);
    }
    if is_asked_for() {
        assert!(met.len() >= 2, "{met:?}");
        let database = db.app_url().rsplit('/').next().unwrap().to_owned();
        assert!(passed_on(&database).await >= 12);
    } else {
        assert_eq!(met.len(), 1, "{met:?}");
    }
}

#[tokio::test]
async fn what_relies_on_its_session_fails_behind_the_pooler_and_works_without_it() {
    let db = TestDb::new().await;
    let client = db.app().await;
    // A statement with a name belongs to the connection that it was prepared on.
    let statement = client.prepare("SELECT pg_backend_pid()").await.unwrap();
    let mut is_lost = false;
    for _ in 0..12 {
        is_lost |= client.query(&statement, &[]).await.is_err();
    }
    assert_eq!(is_lost, is_asked_for());
    let client = db.app().await;
    client.batch_execute("SET application_name = 'here'; SET statement_timeout = '7777ms'").await.unwrap();
    let mut settings = BTreeSet::new();
    for _ in 0..12 {
        let rows = client.query_typed("SELECT current_setting('statement_timeout')", &[]).await.unwrap();
        settings.insert(rows[0].get::<_, String>(0));
    }
    assert_eq!(settings.len() > 1, is_asked_for(), "{settings:?}");
}
