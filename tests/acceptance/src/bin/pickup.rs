//! Measures how long a discovery waits: from the moment its POST is sent to the moment its handler starts in a worker,
//! through the API, the wake queue, dispatch and the jobs queue of the local runner. Prints a Markdown table.
//!
//! `cargo run --package acceptance --bin pickup [COUNT]` (300 by default): one at a time, then at steady rates, then of a page
//! that robots.txt forbids, which is no more work than finding that out. At last as many are handed in at once, and it says how
//! many a second were fetched, read and published.

use acceptance::{Client, Instance, Module, eventually};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const DEFAULT_COUNT: usize = 300;
/// A page of the bundled site.
const PAGE: &str = "/vacancies/phd-glacier-hydrology";
/// One that its robots.txt forbids.
const FORBIDDEN: &str = "/intern/vacancies";
const WARM_UP: usize = 20;
/// Discoveries a second in the other measurements.
const RATES: [(u32, &str); 3] = [(50, PAGE), (200, PAGE), (200, FORBIDDEN)];
/// Connectors that hand them in side by side: one that waits for each answer would not keep the rate.
const CONNECTORS: u32 = 8;

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_COUNT);
    let instance = Instance::start(&[]);
    let (module, client) = instance.connector("pickup", "trusted");
    // The bundled site has no pace: what is measured is the way through the queues, not politeness.
    let site = instance.address("site");
    let _ = instance.sql("UPDATE modules SET config = jsonb_build_object('ingest_per_minute', 100000)");
    let posts = Posts { site: &site, client: &client, module: &module, next: AtomicUsize::new(0) };
    for _ in 0..WARM_UP {
        posts.post(PAGE);
    }
    settle(&instance);
    let idle: Vec<_> = (0..count)
        .map(|_| {
            let sent = posts.post(PAGE);
            settle(&instance);
            sent
        })
        .collect();
    let mut steady = Vec::new();
    for (rate, page) in RATES {
        steady.push((rate, page, at_a_rate(&posts, page, rate, count)));
        settle(&instance);
    }

    let begin = Instant::now();
    posts.post_at_once(count);
    settle(&instance);
    let took = begin.elapsed();

    let started = starts(&instance);
    println!("| load | discoveries | p50, ms | p90, ms | p99, ms | slowest, ms |");
    println!("|---|---|---|---|---|---|");
    report("one at a time", &idle, &started);
    for (rate, page, sent) in &steady {
        let of = if *page == FORBIDDEN { ", forbidden by robots.txt" } else { "" };
        report(&format!("{rate} a second{of}"), sent, &started);
    }
    #[allow(clippy::cast_precision_loss, reason = "a small count")]
    let rate = count as f64 / took.as_secs_f64();
    println!("\n{count} handed in at once: {rate:.0} a second are fetched, read and published");
}

/// Discoveries are due at even instants, whoever of the connectors sends them; the wait counts from when one was due.
fn at_a_rate(posts: &Posts<'_>, page: &str, rate: u32, count: usize) -> Vec<(String, Timestamp)> {
    let pause = Duration::from_secs(1) / rate;
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let (begin, begin_at) = (Instant::now(), Timestamp::now());
    std::thread::scope(|scope| {
        let connectors: Vec<_> = (0..CONNECTORS)
            .map(|connector| {
                scope.spawn(move || {
                    let numbers = (connector..count).step_by(CONNECTORS as usize);
                    let post = |number: u32| {
                        let due = pause * number;
                        std::thread::sleep((begin + due).saturating_duration_since(Instant::now()));
                        (posts.post(page).0, begin_at + due)
                    };
                    numbers.map(post).collect::<Vec<_>>()
                })
            })
            .collect();
        connectors.into_iter().flat_map(|connector| connector.join().expect("a connector ends")).collect()
    })
}

struct Posts<'a> {
    site: &'a str,
    client: &'a Client,
    module: &'a Module,
    next: AtomicUsize,
}

impl Posts<'_> {
    fn discovery(&self, page: &str, found_at: Timestamp) -> Value {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let url = format!("{}{page}?number={number}", self.site);
        json!({"origin_module_id": self.module.id, "url": url, "discovered_at": found_at.to_string()})
    }

    /// Hands in many more URLs of [`PAGE`], a hundred a request.
    fn post_at_once(&self, count: usize) {
        let items: Vec<Value> = (0..count).map(|_| self.discovery(PAGE, Timestamp::now())).collect();
        for items in items.chunks(100) {
            self.client.post("/discoveries/batch", &json!({ "items": items })).expect(200);
        }
    }

    /// Hands in one more URL of a page; returns its job and when the POST was sent.
    fn post(&self, page: &str) -> (String, Timestamp) {
        let sent_at = Timestamp::now();
        let body = self.discovery(page, sent_at);
        let accepted = self.client.post("/discoveries", &body).expect(202);
        (accepted["jobs"][0]["id"].as_str().expect("a job").to_owned(), sent_at)
    }
}

fn settle(instance: &Instance) {
    eventually("every discovery is settled", || {
        instance.sql_value("SELECT count(*) FROM discoveries WHERE status = 'received'") == "0"
    });
}

/// When the first attempt of each job started, by the worker's own log.
fn starts(instance: &Instance) -> HashMap<String, Timestamp> {
    let lines = instance.log("worker");
    let started = lines.iter().filter(|line| line["message"] == "job started" && line["attempt"] == 1);
    started
        .filter_map(|line| {
            Some((line["job_id"].as_str()?.to_owned(), line["timestamp"].as_str()?.parse().ok()?))
        })
        .collect()
}

fn report(load: &str, sent: &[(String, Timestamp)], started: &HashMap<String, Timestamp>) {
    let mut waits: Vec<f64> = sent
        .iter()
        .map(|(job, sent_at)| {
            let started_at =
                started.get(job).unwrap_or_else(|| panic!("no log line tells that {job} started"));
            started_at.duration_since(*sent_at).as_secs_f64() * 1_000.0
        })
        .collect();
    waits.sort_by(f64::total_cmp);
    let at = |share: f64| {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a small index"
        )]
        let index = ((waits.len() as f64 * share).ceil() as usize).clamp(1, waits.len()) - 1;
        waits[index]
    };
    println!(
        "| {load} | {} | {:.1} | {:.1} | {:.1} | {:.1} |",
        waits.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}
