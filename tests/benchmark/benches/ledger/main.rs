//! The ledger beside plain SQL of the same round trips, on one durable server in one run.
//!
//! `cargo bench --package benchmark` runs all; `-- drain hints` runs those scenarios only; `-- --external FILE` joins another
//! system's figures into the tables (a JSON object: `{"awa": {"drain, batch 10": 13600}}`, keys as in the first column).
//! Rates are jobs a second. The sides take turns; each figure is the median of the rounds.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]

mod drain;
mod enqueue;
mod hints;
mod measure;
mod profile;
mod sides;
mod snapshot;
mod table;

use clap::{Parser, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    Enqueue,
    Drain,
    Archive,
    Kinds,
    Hints,
    Snapshot,
    Profile,
    /// Not a measurement of its own: the process that sends, with its queue in the environment.
    #[value(hide = true)]
    Send,
}

#[derive(Debug, Parser)]
struct Arguments {
    /// Which scenarios to run; all of them by default.
    scenarios: Vec<Scenario>,
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Divides every count: a quick look, or a proof that it runs.
    #[arg(long, default_value_t = 1)]
    divide: usize,
    /// Without fsync: what is left is the work of the processors, on a disk that would hide it.
    #[arg(long)]
    fast: bool,
    /// Another system's figures, for a column of their own.
    #[arg(long)]
    external: Option<PathBuf>,
    /// Cargo passes it.
    #[arg(long, hide = true)]
    bench: bool,
    /// `cargo test --benches` passes it: then it only proves that it runs.
    #[arg(long, hide = true)]
    test: bool,
}

/// How much to do.
#[derive(Debug, Clone, Copy)]
struct Extent {
    rounds: usize,
    divide: usize,
}

impl Extent {
    /// A count, divided as asked but never less than a few batches.
    fn of(self, count: usize, batch: usize) -> usize {
        (count / self.divide).max(batch * 4)
    }
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let extent = if arguments.test {
        Extent { rounds: 1, divide: 1_000 }
    } else {
        Extent { rounds: arguments.rounds, divide: arguments.divide }
    };
    if arguments.scenarios == [Scenario::Send] {
        return hints::send(extent).await;
    }
    let external = table::External::read(arguments.external.as_deref());
    if !arguments.fast {
        testdb::durable();
    }
    let is_wanted = |scenario| arguments.scenarios.is_empty() || arguments.scenarios.contains(&scenario);
    if is_wanted(Scenario::Enqueue) {
        enqueue::run(extent, &external).await;
    }
    if is_wanted(Scenario::Drain) {
        drain::run(drain::Setting::Empty, extent, &external).await;
    }
    if is_wanted(Scenario::Archive) {
        drain::run(drain::Setting::Archived, extent, &external).await;
    }
    if is_wanted(Scenario::Kinds) {
        drain::run(drain::Setting::Kinds, extent, &external).await;
    }
    if is_wanted(Scenario::Hints) {
        hints::run(extent, &external).await;
    }
    if is_wanted(Scenario::Snapshot) {
        snapshot::run(extent, &external).await;
    }
    if is_wanted(Scenario::Profile) {
        profile::run(extent).await;
    }
}
