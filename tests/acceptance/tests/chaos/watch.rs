//! Watches the ledger while the blows fall: what may never be so, not even for a moment.

use crate::audit::{Sort, Violation};
use crate::database::Database;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// By the primary keys: only pending rows are looked up in the other tables.
const LOOK: &str = "\
SELECT j.id, j.attempt, j.failures, j.max_failures, j.status,
    EXISTS (SELECT FROM job_archive AS a WHERE a.id = j.id) OR EXISTS (SELECT FROM job_dead AS d WHERE d.id = j.id),
    j.lease_token IS NOT NULL
FROM jobs AS j";

#[derive(Debug, Default)]
struct Seen {
    /// Of each job that was ever seen pending: attempt and failures.
    jobs: HashMap<String, (i64, i64)>,
    violations: Vec<Violation>,
    looks: u64,
}

/// The running watch.
#[derive(Debug)]
pub struct Watch {
    is_over: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub fn begin(database: Database) -> Self {
        let (is_over, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let (stop, shared) = (is_over.clone(), seen.clone());
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                // Nobody can see anything while the database is away.
                if let Ok(rows) = database.try_run(LOOK) {
                    let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.looks += 1;
                    rows.iter().for_each(|row| seen.look_at(row));
                }
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Self { is_over, seen, thread }
    }

    /// What was seen that must not be, compared at last with where each job ended.
    pub fn end(self, database: &Database) -> (u64, Vec<Violation>) {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().expect("the watch came to its end");
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let ended: HashMap<String, (i64, i64)> = database
            .run("SELECT id, attempt, failures FROM job_all")
            .iter()
            .map(|row| (text(row, 0), (number(row, 1), number(row, 2))))
            .collect();
        for (id, (attempt, failures)) in &seen.jobs {
            match ended.get(id) {
                None => {
                    seen.violations.push(Violation { sort: Sort::Lost, what: format!("job {id} is gone") })
                }
                Some(end) if end.0 < *attempt || end.1 < *failures => {
                    let what = format!("job {id} went back from {attempt}, {failures} to {end:?}");
                    seen.violations.push(Violation { sort: Sort::Wrong, what });
                }
                Some(_) => {}
            }
        }
        (seen.looks, seen.violations)
    }
}

impl Seen {
    fn look_at(&mut self, row: &[Option<String>]) {
        let id = text(row, 0);
        let (attempt, failures, max_failures) = (number(row, 1), number(row, 2), number(row, 3));
        let mut wrong = |sort, what| self.violations.push(Violation { sort, what });
        let before = self.jobs.get(&id).copied().unwrap_or((0, 0));
        if attempt < before.0 || failures < before.1 {
            wrong(Sort::Wrong, format!("job {id} went back from {before:?} to {attempt}, {failures}"));
        }
        if failures >= max_failures {
            wrong(Sort::Stuck, format!("job {id} is pending with {failures} failures of {max_failures}"));
        }
        if text(row, 5) == "t" {
            wrong(Sort::Doubled, format!("job {id} is pending and finished"));
        }
        if (text(row, 4) == "claimed") != (text(row, 6) == "t") {
            wrong(Sort::Wrong, format!("job {id} is {} with or without a lease", text(row, 4)));
        }
        self.jobs.insert(id, (attempt, failures));
    }
}

fn text(row: &[Option<String>], column: usize) -> String {
    row[column].clone().unwrap_or_default()
}

fn number(row: &[Option<String>], column: usize) -> i64 {
    text(row, column).parse().expect("a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_falls_and_a_budget_that_is_overdrawn_are_seen() {
        let row = |attempt: i64, failures: i64, status: &str, is_finished: &str, has_lease: &str| {
            [
                "a".to_owned(),
                attempt.to_string(),
                failures.to_string(),
                "3".into(),
                status.into(),
                is_finished.into(),
                has_lease.into(),
            ]
            .map(Some)
        };
        let judged = |rows: &[[Option<String>; 7]]| {
            let mut seen = Seen::default();
            rows.iter().for_each(|row| seen.look_at(row));
            seen.violations.into_iter().map(|violation| violation.sort).collect::<Vec<_>>()
        };
        let calm =
            [row(0, 0, "queued", "f", "f"), row(1, 0, "claimed", "f", "t"), row(1, 1, "queued", "f", "f")];
        assert_eq!(judged(&calm), []);
        assert_eq!(judged(&[row(2, 1, "queued", "f", "f"), row(1, 1, "queued", "f", "f")]), [Sort::Wrong]);
        assert_eq!(judged(&[row(2, 1, "queued", "f", "f"), row(2, 0, "queued", "f", "f")]), [Sort::Wrong]);
        assert_eq!(judged(&[row(3, 3, "queued", "f", "f")]), [Sort::Stuck]);
        assert_eq!(judged(&[row(1, 0, "queued", "t", "f")]), [Sort::Doubled]);
        assert_eq!(judged(&[row(1, 0, "claimed", "f", "f")]), [Sort::Wrong]);
    }
}
