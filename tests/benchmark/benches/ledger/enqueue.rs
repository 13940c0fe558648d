//! Putting jobs in: one row a transaction over ten connections, and in bulk.

use crate::Extent;
use crate::measure::rate;
use crate::sides::{self, COLUMNS, Connection, SIDES, Side};
use crate::table::{External, Table};
use std::time::Instant;
use testdb::TestDb;

const CONNECTIONS: usize = 10;
const ONES: usize = 20_000;
const BULK: usize = 500;
const BULK_ROWS: usize = 50_000;

pub(crate) async fn run(extent: Extent, external: &External) {
    let table = Table::new("Enqueue", &COLUMNS, external);
    let db = sides::database().await;
    let mut ones = vec![Vec::new(); SIDES.len()];
    let mut many = vec![Vec::new(); SIDES.len()];
    for _ in 0..extent.rounds {
        for (index, side) in SIDES.into_iter().enumerate() {
            ones[index].push(one_by_one(&db, side, extent.of(ONES, CONNECTIONS)).await);
            many[index].push(in_bulk(&db, side, extent.of(BULK_ROWS, BULK)).await);
        }
    }
    table.row("enqueue, one row a transaction, 10 connections", &ones);
    table.row("enqueue, 500 rows a statement", &many);
}

async fn one_by_one(db: &TestDb, side: Side, count: usize) -> f64 {
    empty(db).await;
    let kinds = sides::kinds(1);
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::new(db, side, &kinds).await);
    }
    let started = Instant::now();
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|connection| {
            tokio::spawn(async move {
                for number in 0..count / CONNECTIONS {
                    connection.enqueue_one(number).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    rate(count, started)
}

async fn in_bulk(db: &TestDb, side: Side, count: usize) -> f64 {
    empty(db).await;
    let connection = Connection::new(db, side, &sides::kinds(1)).await;
    let started = Instant::now();
    for _ in 0..count / BULK {
        connection.enqueue_many(BULK).await;
    }
    rate(count / BULK * BULK, started)
}

async fn empty(db: &TestDb) {
    db.owner().await.batch_execute("TRUNCATE jobs, plain_jobs").await.unwrap();
}
