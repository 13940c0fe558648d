//! The pace of hosts on a real database.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use jiff::Timestamp;
use std::time::Duration;
use store::hosts::{
    PermitAsk, PermitTaken, RobotsRow, host_find, host_robots_put, permit_give_back, permit_stretch,
    permit_take,
};
use testdb::TestDb;
use tokio_postgres::Client;
use uuid::Uuid;

const GAP: Duration = Duration::from_secs(1);

fn ask(host: &str, job: Option<Uuid>) -> PermitAsk<'_> {
    PermitAsk {
        host,
        token: Uuid::new_v4(),
        gap: GAP,
        job,
        anew: false,
        lifetime: Duration::from_secs(30),
        poll: Duration::from_millis(250),
    }
}

fn turn(taken: PermitTaken) -> (Timestamp, Duration, bool) {
    match taken {
        PermitTaken::Turn { at, after, is_due } => (at, after, is_due),
        PermitTaken::Permit => panic!("a permit instead of a turn"),
    }
}

/// Moves all of a host's times into the past: the only clock is the database's.
async fn pass(owner: &Client, host: &str, seconds: f64) {
    let sql = format!(
        "UPDATE host_permits SET next_at = next_at - make_interval(secs => {seconds}),
            started_at = started_at - make_interval(secs => {seconds}),
            expires_at = expires_at - make_interval(secs => {seconds}) WHERE host = '{host}';
         UPDATE host_turns SET turn_at = turn_at - make_interval(secs => {seconds}) WHERE host = '{host}'"
    );
    owner.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn five_hundred_jobs_of_one_host_book_one_turn_each_a_gap_apart_and_keep_it() {
    let db = TestDb::new().await;
    let (client, owner) = (db.app().await, db.owner().await);
    let first = ask("h.example", Some(Uuid::new_v4()));
    assert_eq!(permit_take(&client, first).await.unwrap(), PermitTaken::Permit);
    assert!(permit_give_back(&client, "h.example", first.token).await.unwrap());

    let jobs: Vec<_> = (0..500).map(|_| Uuid::new_v4()).collect();
    let mut turns = Vec::new();
    for job in &jobs {
        let (at, _, is_due) = turn(permit_take(&client, ask("h.example", Some(*job))).await.unwrap());
        assert!(!is_due);
        turns.push(at);
    }
    for pair in turns.windows(2) {
        assert_eq!(pair[1].duration_since(pair[0]), jiff::SignedDuration::from_secs(1));
    }
    let again = turn(permit_take(&client, ask("h.example", Some(jobs[499]))).await.unwrap());
    assert_eq!(again.0, turns[499], "a job that comes early keeps its turn");

    // The first three come on their turns.
    let until_first = Timestamp::now().duration_until(turns[0]).as_secs_f64().max(0.0);
    pass(&owner, "h.example", until_first + 0.001).await;
    for job in &jobs[..3] {
        let mine = ask("h.example", Some(*job));
        assert_eq!(permit_take(&client, mine).await.unwrap(), PermitTaken::Permit);
        assert!(permit_give_back(&client, "h.example", mine.token).await.unwrap());
        pass(&owner, "h.example", 1.0).await;
    }
    let row = owner.query_one("SELECT count(*) FROM host_turns", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 497, "a turn that was taken is no longer kept");
}

#[tokio::test]
async fn a_held_permit_is_nobody_elses_and_runs_out() {
    let db = TestDb::new().await;
    let (client, owner) = (db.app().await, db.owner().await);
    let slow = ask("h.example", None);
    assert_eq!(permit_take(&client, slow).await.unwrap(), PermitTaken::Permit);
    pass(&owner, "h.example", 5.0).await;

    let job = Some(Uuid::new_v4());
    let (at, ..) = turn(permit_take(&client, ask("h.example", job)).await.unwrap());
    pass(&owner, "h.example", 2.0).await;
    let (_, after, is_due) = turn(permit_take(&client, ask("h.example", job)).await.unwrap());
    assert!(is_due, "its turn {at} has come");
    assert!((1..=250).contains(&after.as_millis()), "{after:?}");
    // Given up, it goes behind whoever booked meanwhile.
    let (other, ..) = turn(permit_take(&client, ask("h.example", Some(Uuid::new_v4()))).await.unwrap());
    let anew = PermitAsk { anew: true, ..ask("h.example", job) };
    let (moved, _, is_due) = turn(permit_take(&client, anew).await.unwrap());
    assert!(!is_due);
    assert_eq!(moved.duration_since(other), jiff::SignedDuration::from_secs(1));
    assert_eq!(turn(permit_take(&client, ask("h.example", job)).await.unwrap()).0, moved);

    pass(&owner, "h.example", 25.0).await;
    assert_eq!(permit_take(&client, ask("h.example", job)).await.unwrap(), PermitTaken::Permit);
    assert!(!permit_give_back(&client, "h.example", slow.token).await.unwrap(), "it ran out");
    let row = owner.query_one("SELECT token IS NOT NULL FROM host_permits", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0), "the late holder frees nobody else's");
}

#[tokio::test]
async fn a_late_turn_keeps_the_gap_and_a_wider_gap_moves_the_next() {
    let db = TestDb::new().await;
    let (client, owner) = (db.app().await, db.owner().await);
    let (a, b) = (Some(Uuid::new_v4()), Some(Uuid::new_v4()));
    let first = ask("h.example", None);
    permit_take(&client, first).await.unwrap();
    permit_give_back(&client, "h.example", first.token).await.unwrap();
    turn(permit_take(&client, ask("h.example", a)).await.unwrap());
    turn(permit_take(&client, ask("h.example", b)).await.unwrap());
    // Both turns are past: a starts late, and b may not start right behind it.
    pass(&owner, "h.example", 10.0).await;
    let late = ask("h.example", a);
    assert_eq!(permit_take(&client, late).await.unwrap(), PermitTaken::Permit);
    permit_stretch(&client, "h.example", late.token, Duration::from_secs(20)).await.unwrap();
    permit_give_back(&client, "h.example", late.token).await.unwrap();
    let (_, after, is_due) = turn(permit_take(&client, ask("h.example", b)).await.unwrap());
    assert!(is_due && after > Duration::from_millis(500), "{after:?}");
    let (_, after, _) = turn(permit_take(&client, ask("h.example", None)).await.unwrap());
    assert!(after > Duration::from_secs(19), "{after:?}");
    let rows = owner.query_one("SELECT count(*) FROM host_turns", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 1, "a caller without a job books nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_workers_never_talk_to_one_host_at_once_nor_within_the_gap() {
    let db = TestDb::new().await;
    let owner = db.owner().await;
    owner
        .batch_execute(
            "CREATE TABLE starts (token uuid, started_at timestamptz, ended_at timestamptz);
             GRANT ALL ON starts TO callboard_app",
        )
        .await
        .unwrap();
    let gap = Duration::from_millis(60);
    let mut workers = Vec::new();
    for _ in 0..8 {
        let client = db.app().await;
        workers.push(tokio::spawn(async move {
            for _ in 0..4 {
                let job = Some(Uuid::new_v4());
                loop {
                    let mine = PermitAsk { gap, poll: Duration::from_millis(5), ..ask("h.example", job) };
                    match permit_take(&client, mine).await.unwrap() {
                        PermitTaken::Turn { after, .. } => tokio::time::sleep(after).await,
                        PermitTaken::Permit => {
                            let sql = "INSERT INTO starts
                                SELECT token, started_at FROM host_permits WHERE host = 'h.example'";
                            client.batch_execute(sql).await.unwrap();
                            let sql = format!(
                                "UPDATE starts SET ended_at = clock_timestamp() WHERE token = '{}'",
                                mine.token
                            );
                            client.batch_execute(&sql).await.unwrap();
                            assert!(permit_give_back(&client, "h.example", mine.token).await.unwrap());
                            break;
                        }
                    }
                }
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    let row = owner
        .query_one(
            "SELECT count(*), count(*) FILTER (WHERE started_at < before_end),
                min(extract(epoch FROM started_at - before_start) * 1000)::float8
             FROM (
                SELECT started_at, lag(started_at) OVER every AS before_start,
                    lag(ended_at) OVER every AS before_end
                FROM starts WINDOW every AS (ORDER BY started_at)
             ) AS pairs",
            &[],
        )
        .await
        .unwrap();
    let (starts, overlaps, least_ms) = (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, f64>(2));
    assert_eq!((starts, overlaps), (32, 0));
    assert!(least_ms >= 60.0, "{least_ms} ms between two starts");
    let row = owner.query_one("SELECT count(*) FROM host_turns", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn turns_that_nobody_came_back_for_are_swept_out() {
    let db = TestDb::new().await;
    let (client, owner) = (db.app().await, db.owner().await);
    permit_take(&client, ask("h.example", None)).await.unwrap();
    turn(permit_take(&client, ask("h.example", Some(Uuid::new_v4()))).await.unwrap());
    pass(&owner, "h.example", 3_700.0).await;
    assert_eq!(permit_take(&client, ask("h.example", None)).await.unwrap(), PermitTaken::Permit);
    let row = owner.query_one("SELECT count(*) FROM host_turns", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn keeping_robots_leaves_the_administrators_policy_alone() {
    let db = TestDb::new().await;
    let (client, owner) = (db.app().await, db.owner().await);
    assert_eq!(host_find(&client, "h.example").await.unwrap(), None);
    let robots = RobotsRow {
        text: Some("User-agent: *\nDisallow: /x".into()),
        status: Some("fetched".into()),
        fetched_at: Some("2026-01-02T03:04:05Z".parse().unwrap()),
        retry_at: None,
    };
    host_robots_put(&client, "h.example", &robots).await.unwrap();
    let row = host_find(&client, "h.example").await.unwrap().unwrap();
    assert!(row.enabled && row.obeys_robots && row.extra_ports.is_empty());
    assert_eq!((row.min_interval_ms, &row.robots), (1_000, &robots));

    owner
        .batch_execute(
            "UPDATE host_policies SET enabled = false, extra_ports = '{8080}', min_interval_ms = 5000,
                robots = 'ignore_with_reason', reason = 'agreed', version = 7",
        )
        .await
        .unwrap();
    let failed = RobotsRow { status: Some("unreachable".into()), ..robots };
    host_robots_put(&client, "h.example", &failed).await.unwrap();
    let row = host_find(&client, "h.example").await.unwrap().unwrap();
    assert!(!row.enabled && !row.obeys_robots);
    assert_eq!((row.extra_ports, row.min_interval_ms, row.robots), (vec![8_080], 5_000, failed));
    let version = owner.query_one("SELECT version FROM host_policies", &[]).await.unwrap();
    assert_eq!(version.get::<_, i64>(0), 7);
}
