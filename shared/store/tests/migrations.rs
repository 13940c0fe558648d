//! The runner against a real server.

use store::migrations::{Migration, MigrationError, apply, embedded, newest_version, schema_version};
use testdb::TestDb;

fn migration(version: i32, sql: &str) -> Migration {
    Migration { version, name: format!("{version:04}_test_runner.sql"), sql: sql.into() }
}

#[tokio::test]
async fn a_second_run_does_nothing_and_the_app_role_reads_the_version() {
    let db = TestDb::new().await;
    let report = apply(&mut db.owner().await, &embedded().unwrap()).await.unwrap();
    assert!(report.applied.is_empty());
    assert_eq!(schema_version(&db.app().await).await.unwrap(), Some(newest_version()));
}

#[tokio::test]
async fn two_runners_at_once_apply_each_file_once() {
    let db = TestDb::empty().await;
    let files =
        vec![migration(1, "CREATE TABLE a (id integer)"), migration(2, "CREATE TABLE b (id integer)")];
    let (mut one, mut two) = (db.owner().await, db.owner().await);
    let (first, second) = tokio::join!(apply(&mut one, &files), apply(&mut two, &files));
    assert_eq!(first.unwrap().applied.len() + second.unwrap().applied.len(), 2);
}

#[tokio::test]
async fn a_failing_file_leaves_nothing_of_itself_and_keeps_those_before_it() {
    let db = TestDb::empty().await;
    let mut owner = db.owner().await;
    let files = vec![
        migration(1, "CREATE TABLE a (id integer)"),
        migration(2, "CREATE TABLE b (id integer);\nSELECT nothing"),
    ];
    let error = apply(&mut owner, &files).await.unwrap_err();
    assert!(matches!(&error, MigrationError::Failed { position: Some(2), .. }), "{error}");
    assert_eq!(schema_version(&owner).await.unwrap(), Some(1));
    assert!(owner.batch_execute("SELECT FROM b").await.is_err());
}

#[tokio::test]
async fn an_edited_file_and_a_newer_database_are_refused() {
    let db = TestDb::empty().await;
    let mut owner = db.owner().await;
    let files =
        vec![migration(1, "CREATE TABLE a (id integer)"), migration(2, "CREATE TABLE b (id integer)")];
    apply(&mut owner, &files).await.unwrap();
    let edited = vec![migration(1, "CREATE TABLE a (id bigint)"), files[1].clone()];
    assert!(matches!(apply(&mut owner, &edited).await, Err(MigrationError::Changed { .. })));
    assert!(matches!(
        apply(&mut owner, &files[..1]).await,
        Err(MigrationError::Newer { database: 2, known: 1 })
    ));
}

#[tokio::test]
async fn a_marked_file_runs_outside_a_transaction() {
    let db = TestDb::empty().await;
    let mut owner = db.owner().await;
    let files = vec![
        migration(1, "CREATE TABLE a (id integer)"),
        migration(2, "-- gate: no-transaction\nCREATE INDEX CONCURRENTLY a_id ON a (id)"),
    ];
    assert_eq!(apply(&mut owner, &files).await.unwrap().applied.len(), 2);
}

#[tokio::test]
async fn a_file_that_waits_for_a_lock_is_tried_again_and_succeeds() {
    let db = TestDb::empty().await;
    let mut owner = db.owner().await;
    apply(&mut owner, &[migration(1, "CREATE TABLE a (id integer)")]).await.unwrap();
    let mut holder = db.owner().await;
    let held = holder.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE a").await.unwrap();
    let files =
        vec![migration(1, "CREATE TABLE a (id integer)"), migration(2, "ALTER TABLE a ADD COLUMN b integer")];
    let waiting = tokio::spawn(async move { apply(&mut owner, &files).await });
    // The lock is let go only once the first try has been refused, which the server's own statistics tell.
    let watcher = db.owner().await;
    let rollbacks = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    let before: i64 = watcher.query_typed(rollbacks, &[]).await.unwrap()[0].get(0);
    while watcher.query_typed(rollbacks, &[]).await.unwrap()[0].get::<_, i64>(0) == before {
        assert!(!waiting.is_finished());
        watcher.batch_execute("SELECT pg_stat_clear_snapshot()").await.unwrap();
    }
    held.rollback().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().applied.len(), 1);
}
