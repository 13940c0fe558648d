//! Markdown tables, with the figures of other systems beside ours.

use std::collections::BTreeMap;
use std::path::Path;

/// System → (row's name → jobs a second).
#[derive(Debug, Default)]
pub(crate) struct External(BTreeMap<String, BTreeMap<String, f64>>);

impl External {
    pub(crate) fn read(path: Option<&Path>) -> Self {
        let Some(path) = path else { return Self::default() };
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn figure(&self, system: &str, row: &str) -> String {
        self.0.get(system).and_then(|rows| rows.get(row)).map_or_else(|| "–".to_owned(), |rate| count(*rate))
    }
}

/// A table whose first column of figures is the ledger's, and whose next ones are what it is compared with.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    columns: Vec<String>,
    external: &'a External,
}

impl<'a> Table<'a> {
    /// Prints the heading. `columns`: the ledger's and the others' names.
    pub(crate) fn new(title: &str, columns: &[&str], external: &'a External) -> Self {
        let columns: Vec<String> = columns.iter().map(|&name| name.to_owned()).collect();
        let mut heading = columns.clone();
        heading.extend(columns.iter().skip(1).map(|name| format!("ledger / {name}")));
        heading.extend(external.names().map(str::to_owned));
        println!("\n### {title}\n\n| | {} |\n|---|{}", heading.join(" | "), "---|".repeat(heading.len()));
        Self { columns, external }
    }

    /// Prints a row of medians: one list of rates a column.
    pub(crate) fn row(&self, name: &str, rates: &[Vec<f64>]) {
        let medians: Vec<f64> = rates.iter().map(|rates| median(rates)).collect();
        let mut cells: Vec<String> = medians.iter().map(|rate| count(*rate)).collect();
        cells.extend(medians.iter().skip(1).map(|other| format!("{:.2}", medians[0] / other)));
        cells.extend(self.external.names().map(|system| self.external.figure(system, name)));
        debug_assert_eq!(medians.len(), self.columns.len());
        println!("| {name} | {} |", cells.join(" | "));
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// A whole number with its thousands apart.
pub(crate) fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
