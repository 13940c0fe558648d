//! How many faults of each sort a run has dealt.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts by name. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    counts: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl Tally {
    pub fn add(&self, fault: &'static str) {
        self.add_many(fault, 1);
    }

    pub fn add_many(&self, fault: &'static str, count: u64) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(fault).or_default() += count;
    }

    pub fn of(&self, fault: &str) -> u64 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).get(fault).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// A row of a Markdown table for each.
    pub fn table(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = counts.iter().map(|(fault, count)| format!("| {fault} | {count} |\n"));
        format!(
            "| fault | times |\n|---|---|\n{}| **all** | **{}** |\n",
            rows.collect::<String>(),
            counts.values().sum::<u64>()
        )
    }
}
