//! The fetcher with its memory in the database: what one worker learns or holds, every worker sees.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use fetch::{Allowed, Class, FetchConfig, FetchError, Fetcher, Request, RequestKind, WaitReason};
use kinds::web::fetcher;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testdb::TestDb;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use uuid::Uuid;

/// A site that notes when each request began, how many were served at once at most, and what was asked.
#[derive(Debug, Default)]
struct Log {
    targets: Mutex<Vec<(Instant, String)>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

async fn site(address: &str, robots: &'static str) -> (SocketAddr, Arc<Log>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let log = Arc::<Log>::default();
    let shared = Arc::clone(&log);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let log = Arc::clone(&shared);
            tokio::spawn(async move {
                let at_once = log.at_once.fetch_add(1, Ordering::SeqCst) + 1;
                log.most_at_once.fetch_max(at_once, Ordering::SeqCst);
                let mut head = vec![0; 4_096];
                let read = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let target = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
                let body = if target == "/robots.txt" { robots } else { "page" };
                log.targets.lock().unwrap().push((Instant::now(), target));
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                log.at_once.fetch_sub(1, Ordering::SeqCst);
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (address, log)
}

fn worker(db: &TestDb, address: SocketAddr) -> Fetcher {
    let allow = vec![Allowed { address, paced: true }];
    fetcher(db.pool(), FetchConfig { allow, ..FetchConfig::default() })
}

fn request(address: SocketAddr, path: &str, job: Option<Uuid>) -> Request {
    Request { job, ..Request::new(format!("http://{address}{path}"), RequestKind::Page) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_jobs_of_one_host_take_turns_over_all_workers_and_none_books_twice() {
    let db = TestDb::new().await;
    let (address, log) = site("127.0.0.11:0", "User-agent: *\nDisallow: /no").await;
    let workers = [worker(&db, address), worker(&db, address), worker(&db, address)];
    let mut calls = Vec::new();
    for number in 0..6_usize {
        let worker = workers[number % workers.len()].clone();
        calls.push(tokio::spawn(async move {
            let request = request(address, &format!("/{number}"), Some(Uuid::new_v4()));
            let mut deferrals = 0;
            loop {
                match worker.get(&request).await {
                    Ok(response) => return (response.status, deferrals),
                    Err(FetchError::Wait { until, reason: WaitReason::Pace }) => {
                        deferrals += 1;
                        // As the ledger does: the job comes back on its turn.
                        let wait = until.duration_since(jiff::Timestamp::now());
                        tokio::time::sleep(Duration::try_from(wait).unwrap_or_default()).await;
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
        }));
    }
    for call in calls {
        let (status, deferrals) = call.await.unwrap();
        assert_eq!(status, 200);
        assert!(deferrals <= 1, "{deferrals} deferrals: a booked job keeps its turn");
    }
    let targets = log.targets.lock().unwrap().clone();
    let robots = targets.iter().filter(|(_, target)| target == "/robots.txt").count();
    assert_eq!((targets.len(), robots), (7, 1), "one worker asked for robots.txt, for all");
    assert_eq!(log.most_at_once.load(Ordering::SeqCst), 1);
    let pages: Vec<_> = targets.iter().filter(|(_, target)| target != "/robots.txt").collect();
    for pair in pages.windows(2).skip(1) {
        let gap = pair[1].0.duration_since(pair[0].0);
        assert!(gap > Duration::from_millis(800), "{gap:?} between two starts");
    }
    let row = db
        .owner()
        .await
        .query_one("SELECT token IS NULL, (SELECT count(*) FROM host_turns) FROM host_permits", &[])
        .await
        .unwrap();
    assert!(row.get::<_, bool>(0), "every permit was given back");
    assert_eq!(row.get::<_, i64>(1), 0, "every turn was taken");
}

#[tokio::test]
async fn a_policy_row_rules_the_next_request_of_every_worker() {
    let db = TestDb::new().await;
    let owner = db.owner().await;
    let (address, log) = site("127.0.0.12:0", "User-agent: *\nDisallow: /").await;
    let worker = worker(&db, address);
    let error = worker.get(&request(address, "/", None)).await.unwrap_err();
    assert_eq!(error, FetchError::RobotsDisallowed);
    let row = owner
        .query_one("SELECT robots_status, robots_txt FROM host_policies WHERE host = '127.0.0.12'", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "fetched");
    assert_eq!(row.get::<_, &str>(1), "User-agent: *\nDisallow: /");

    owner
        .batch_execute("UPDATE host_policies SET robots = 'ignore_with_reason', reason = 'agreed by mail'")
        .await
        .unwrap();
    // The gap to robots.txt is waited for in place.
    assert_eq!(worker.get(&request(address, "/", None)).await.unwrap().status, 200);
    owner.batch_execute("UPDATE host_policies SET enabled = false").await.unwrap();
    let error = worker.get(&request(address, "/", None)).await.unwrap_err();
    assert_eq!(error.class(), Some(Class::HostDisabled));
    let targets = log.targets.lock().unwrap().len();
    assert_eq!(targets, 2, "robots.txt once, the page once");
}

#[tokio::test]
async fn a_copy_of_robots_older_than_a_day_is_asked_for_again() {
    let db = TestDb::new().await;
    let owner = db.owner().await;
    let (address, log) = site("127.0.0.13:0", "").await;
    owner
        .batch_execute(
            "INSERT INTO host_policies (host, robots_txt, robots_fetched_at)
             VALUES ('127.0.0.13', E'User-agent: *\\nDisallow: /', now() - interval '23 hours')",
        )
        .await
        .unwrap();
    let worker = worker(&db, address);
    let error = worker.get(&request(address, "/", None)).await.unwrap_err();
    assert_eq!(error, FetchError::RobotsDisallowed, "a copy without a status serves");
    assert!(log.targets.lock().unwrap().is_empty());
    owner
        .batch_execute("UPDATE host_policies SET robots_fetched_at = now() - interval '24 hours'")
        .await
        .unwrap();
    assert_eq!(worker.get(&request(address, "/", None)).await.unwrap().status, 200);
    let targets = log.targets.lock().unwrap().clone();
    let targets: Vec<_> = targets.iter().map(|(_, target)| target.as_str()).collect();
    assert_eq!(targets, ["/robots.txt", "/"]);
}
