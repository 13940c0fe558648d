//! How long a function's binary takes from exec to asking for its first event: `startup BINARY…`, each without an endpoint and
//! with one, in turns, so that the machine's moods fall on all alike. Prints medians in milliseconds.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

use std::path::PathBuf;
use std::time::Instant;
use telemetry_proofs::{Collector, Runtime};

const ROUNDS: usize = 60;

fn main() {
    let binaries: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let collector = Collector::start();
    let url = collector.url();
    let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str())];
    let environments: [(&str, &[(&str, &str)]); 2] = [("no endpoint", &[]), ("endpoint", &endpoint)];
    let mut took = vec![Vec::new(); binaries.len() * environments.len()];
    for _ in 0..ROUNDS {
        for (at, samples) in took.iter_mut().enumerate() {
            let started = Instant::now();
            let runtime = Runtime::start(&binaries[at / 2], &log, environments[at % 2].1);
            samples.push(started.elapsed().as_secs_f64() * 1_000.0);
            drop(runtime);
        }
    }
    println!("| binary | endpoint | exec → first poll, median ms | bytes |\n|---|---|---|---|");
    for (at, samples) in took.iter_mut().enumerate() {
        samples.sort_by(f64::total_cmp);
        let binary = &binaries[at / 2];
        let bytes = std::fs::metadata(binary).unwrap().len();
        println!(
            "| {} | {} | {:.2} | {bytes} |",
            binary.display(),
            environments[at % 2].0,
            samples[samples.len() / 2]
        );
    }
}
