//! Transactions whose beginning and end go out with their statements.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use store::pipelined::{Pipelined, Tx};
use store::{Error, advisory::advisory_lock};
use telemetry::db::GenericClient as _;
use testdb::TestDb;
use tokio_postgres::Client;

async fn note(tx: &Tx<'_>, number: i32) -> Result<(), Error> {
    tx.execute_typed(&format!("INSERT INTO noted VALUES ({number})"), &[]).await?;
    Ok(())
}

async fn noted(client: &Client) -> Vec<i32> {
    let rows = client.query("SELECT number FROM noted ORDER BY number", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn table() -> (TestDb, Client) {
    let db = TestDb::new().await;
    let owner = db.owner().await;
    owner
        .batch_execute("CREATE TABLE noted (number integer PRIMARY KEY); GRANT ALL ON noted TO PUBLIC")
        .await
        .unwrap();
    (db, owner)
}

#[tokio::test]
async fn what_is_written_after_a_mark_is_undone_or_kept() {
    let (db, owner) = table().await;
    let mut client = db.app().await;
    let pipelined = Pipelined::on(&mut client);
    let tx = &pipelined.tx();
    tokio::try_join!(biased; pipelined.begin(), note(tx, 1), pipelined.mark(), note(tx, 2)).unwrap();
    tokio::try_join!(biased; pipelined.back_to_mark(), note(tx, 3)).unwrap();
    tokio::try_join!(biased; pipelined.mark(), note(tx, 4), pipelined.keep_since_mark()).unwrap();
    assert_eq!(noted(&owner).await, [0; 0]);
    pipelined.commit().await.unwrap();
    drop(pipelined);
    assert_eq!(noted(&owner).await, [1, 3, 4]);
}

#[tokio::test]
async fn what_is_dropped_before_its_commit_is_rolled_back_before_the_connection_is_used_again() {
    let (db, owner) = table().await;
    let mut client = db.app().await;
    let pipelined = Pipelined::on(&mut client);
    let tx = pipelined.tx();
    tokio::try_join!(biased; pipelined.begin(), note(&tx, 1)).unwrap();
    drop(pipelined);
    client.execute("INSERT INTO noted VALUES (2)", &[]).await.unwrap();
    assert_eq!(noted(&owner).await, [2]);
}

#[tokio::test]
async fn a_statement_that_fails_commits_nothing_and_its_error_is_the_one_that_is_told() {
    let (db, owner) = table().await;
    let mut client = db.app().await;
    let pipelined = Pipelined::on(&mut client);
    let tx = &pipelined.tx();
    let told = tokio::try_join!(biased; pipelined.begin(), note(tx, 1), note(tx, 1), note(tx, 2), pipelined.commit());
    assert!(matches!(told, Err(Error::Conflict { .. })), "{told:?}");
    drop(pipelined);
    assert_eq!(noted(&owner).await, [0; 0]);
}

#[tokio::test]
async fn an_error_of_another_statement_of_the_round_trip_is_worth_another_try() {
    let (db, owner) = table().await;
    owner.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(7)").await.unwrap();
    let mut client = db.app().await;
    client.batch_execute("SET lock_timeout = '10ms'").await.unwrap();
    let pipelined = Pipelined::on(&mut client);
    let tx = &pipelined.tx();
    let (_, locked, after) = tokio::join!(biased; pipelined.begin(), advisory_lock(tx, &[7]), note(tx, 1));
    assert!(locked.unwrap_err().is_collision());
    // Whose error is seen first where one of several takes more than one statement is left to chance.
    assert!(after.unwrap_err().is_collision());
}
