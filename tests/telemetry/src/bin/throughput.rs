//! How many `GET /healthz` builds of the `api` function answer a second without an endpoint, one after the other:
//! `throughput BINARY…`, in turns, so that the machine's moods fall on all alike. Prints medians, and ratios to the first.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

use std::path::PathBuf;
use std::time::{Duration, Instant};
use telemetry_proofs::{Runtime, request_event};

const ROUNDS: usize = 60;
const ANSWERS: usize = 500;
const TIME: Duration = Duration::from_secs(10);

fn main() {
    let binaries: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let event = request_event("GET", "/healthz", &[("host", "proof.example.org")]);
    let mut rates = vec![Vec::new(); binaries.len()];
    for _ in 0..ROUNDS {
        for (binary, rates) in binaries.iter().zip(&mut rates) {
            let runtime = Runtime::start(binary, &log, &[]);
            let started = Instant::now();
            for _ in 0..ANSWERS {
                assert!(runtime.invoke(&event, TIME).is_some());
            }
            #[allow(clippy::cast_precision_loss, reason = "a small count")]
            rates.push(ANSWERS as f64 / started.elapsed().as_secs_f64());
        }
    }
    let medians: Vec<f64> = rates
        .iter_mut()
        .map(|rates| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        })
        .collect();
    println!("| binary | answers a second, median | ratio |\n|---|---|---|");
    for (binary, median) in binaries.iter().zip(&medians) {
        println!("| {} | {median:.0} | {:.3} |", binary.display(), median / medians[0]);
    }
}
