//! Statements about some rows read those, however many the table has and whatever the planner believes of it: its
//! statistics are those of the last ANALYZE, which may have found next to nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use domain::ids::ModuleDbId;
use domain::url::{Rules, normalize};
use store::discoveries::{MatchKey, NewDiscovery, discoveries_match, discoveries_take_in};
use testdb::TestDb;
use tokio_postgres::Client;
use uuid::Uuid;

/// Discoveries of the module before the batch.
const STORED: usize = 4_000;
/// The batch.
const ASKED: usize = 100;
/// A row may be looked at by more than one part of a statement.
const READ_MAX: i64 = 5 * 100;

/// The `number`-th page of a module that gives ids of its own, or of one that gives none.
fn page(number: usize, has_id: bool) -> NewDiscovery {
    let url = format!("https://example.org/{number}");
    let normal = normalize(&url, &Rules::builtin()).unwrap();
    NewDiscovery {
        external_id: has_id.then(|| format!("e-{number}")),
        ..NewDiscovery::of_page(&url, &normal, jiff::Timestamp::now())
    }
}

async fn take_in(client: &Client, module: ModuleDbId, pages: &[NewDiscovery]) -> (usize, usize) {
    let taken = discoveries_take_in(client, module, 0, None, None, pages).await.unwrap();
    (taken.inserted.len(), taken.known.len())
}

/// Rows of discoveries that this session read, since its counts were last reported: between transactions at the earliest.
async fn rows_read(client: &Client) -> i64 {
    let sql = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = 'discoveries'";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_batch_reads_no_more_of_a_large_module_than_of_a_small_one() {
    let mut wrong = Vec::new();
    for has_id in [false, true] {
        // Never, when nearly nothing was there, and just now.
        for analysed_at in [None, Some(10), Some(STORED)] {
            let db = TestDb::new().await;
            let (app, owner) = (db.app().await, db.owner().await);
            let module = Uuid::now_v7();
            let sql = "INSERT INTO modules (id, module_id, name, kind, trust_level) VALUES ($1, 'feed', 'feed', 'connector', 'trusted')";
            owner.execute(sql, &[&module]).await.unwrap();
            let module = ModuleDbId(module);
            let stored: Vec<NewDiscovery> = (0..STORED).map(|number| page(number, has_id)).collect();
            let first = analysed_at.unwrap_or(STORED);
            for pages in [&stored[..first], &stored[first..]] {
                for pages in pages.chunks(1_000) {
                    take_in(&app, module, pages).await;
                }
                if analysed_at.is_some() && pages.len() == first {
                    owner.batch_execute("ANALYZE discoveries").await.unwrap();
                }
            }
            let asked: Vec<NewDiscovery> =
                (STORED - ASKED / 2..STORED + ASKED / 2).map(|number| page(number, has_id)).collect();
            let keys: Vec<(usize, MatchKey)> = asked
                .iter()
                .map(|page| MatchKey {
                    external_id: page.external_id.clone(),
                    canonical_hash: page.canonical_hash,
                    normalized_url: page.normalized_url.clone(),
                })
                .enumerate()
                .collect();
            app.batch_execute("BEGIN").await.unwrap();
            let before = rows_read(&app).await;
            assert_eq!(take_in(&app, module, &asked).await, (ASKED / 2, ASKED / 2));
            let of_take_in = rows_read(&app).await - before;
            assert_eq!(discoveries_match(&app, module, &keys).await.unwrap().len(), ASKED);
            let of_match = rows_read(&app).await - before - of_take_in;
            app.batch_execute("ROLLBACK").await.unwrap();
            if of_take_in > READ_MAX || of_match > READ_MAX {
                wrong.push(format!(
                    "ids: {has_id}, analysed at {analysed_at:?}: {of_take_in} rows to take in, {of_match} to match"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
