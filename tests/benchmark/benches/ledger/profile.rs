//! Where the time of a batch of ten goes: the server's processor, ours, and waiting (mostly for the log to be on disk).

use crate::Extent;
use crate::measure::{Processor, per};
use crate::sides::{self, COLUMNS, Connection, SIDES};
use std::time::{Duration, Instant};

const BATCH: usize = 10;
const JOBS: usize = 40_000;

pub(crate) async fn run(extent: Extent) {
    println!("\n### Profile: a batch of ten, one connection, µs\n");
    println!("| | | server's processor | client's processor | waiting | in all |\n|---|---|---|---|---|---|");
    let db = sides::database().await;
    let kinds = sides::kinds(1);
    for (index, side) in SIDES.into_iter().enumerate() {
        let ids = sides::fill(&db, side, &kinds, extent.of(JOBS, BATCH)).await;
        let batches = ids.len() / BATCH;
        let worker = Connection::new(&db, side, &kinds).await;
        let mut held = Vec::with_capacity(batches);
        let look = (Processor::read(&worker.client).await, Instant::now());
        for ids in ids.chunks(BATCH) {
            held.push(worker.claim(ids).await);
        }
        print(COLUMNS[index], "claim", &look, &worker, batches).await;
        let look = (Processor::read(&worker.client).await, Instant::now());
        for held in &held {
            worker.complete(held).await;
        }
        print(COLUMNS[index], "complete", &look, &worker, batches).await;
    }
    let worker = Connection::new(&db, SIDES[0], &kinds).await;
    let trips = extent.of(JOBS, BATCH) / BATCH;
    let look = (Processor::read(&worker.client).await, Instant::now());
    for _ in 0..trips {
        worker.client.query_typed("SELECT 1", &[]).await.unwrap();
    }
    print("a round trip", "SELECT 1", &look, &worker, trips).await;
}

async fn print(side: &str, what: &str, look: &(Processor, Instant), worker: &Connection, batches: usize) {
    let wall = look.1.elapsed();
    let (server, client) = Processor::read(&worker.client).await.since(&look.0);
    let each = |time: Duration| per(usize::try_from(time.as_micros()).unwrap(), batches);
    let waiting = wall.saturating_sub(server + client);
    println!(
        "| {side} | {what} | {:.0} | {:.0} | {:.0} | {:.0} |",
        each(server),
        each(client),
        each(waiting),
        each(wall)
    );
}
