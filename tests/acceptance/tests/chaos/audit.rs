//! What must be true when the blows are over and everything has settled, read off the tables.

use crate::database::{Database, Rows};
use crate::web::{Class, title};
use std::collections::{BTreeMap, HashMap};

/// Failures that a poisoned page is given: its dead letter is by design and must not take all day.
pub const POISON_FAILURES_MAX: i64 = 4;

/// What is wrong with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    Lost,
    Doubled,
    Stuck,
    Wrong,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    pub sort: Sort,
    pub what: String,
}

/// Discoveries that were accepted: URL to the id that the API told.
pub type Accepted = BTreeMap<String, String>;

/// Reads the tables and judges them.
#[derive(Debug)]
pub struct Audit<'a> {
    pub database: &'a Database,
    pub accepted: &'a Accepted,
    /// Requests that were accepted, each with its idempotency key.
    pub requests: usize,
    /// Statements that are run before each look and rolled back after it: what a test plants.
    pub planted: &'a str,
}

#[derive(Debug)]
struct Job {
    id: String,
    status: String,
    attempt: i64,
    failures: i64,
    max_failures: i64,
}

impl Job {
    fn is_done(&self) -> bool {
        self.status == "done"
    }
}

#[derive(Debug, Default)]
struct Found {
    violations: Vec<Violation>,
}

impl Found {
    fn add(&mut self, sort: Sort, what: String) {
        self.violations.push(Violation { sort, what });
    }

    /// A count that must be exact.
    fn count(&mut self, subject: &str, of: &str, found: i64, expected: i64) {
        if found != expected {
            let sort = if found < expected { Sort::Lost } else { Sort::Doubled };
            self.add(sort, format!("{subject}: {found} {of}, not {expected}"));
        }
    }
}

impl Audit<'_> {
    /// Everything that is wrong.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Found::default();
        let mut jobs = self.jobs();
        let mut events = self.events();
        let mut discoveries: HashMap<String, Vec<Option<String>>> =
            self.look(DISCOVERIES).into_iter().map(|row| (text(&row, 0), row)).collect();
        for (url, id) in self.accepted {
            let Some(class) = Class::of(url) else { continue };
            let Some(row) = discoveries.remove(id) else {
                found.add(Sort::Lost, format!("{url}: accepted as {id}, which does not exist"));
                continue;
            };
            judge_discovery(url, class, &row, &mut found);
            let jobs = jobs.remove(id).unwrap_or_default();
            let events = events.remove(id).unwrap_or_default();
            found.count(url, "jobs", jobs.len() as i64, 1);
            for job in &jobs {
                judge_job(url, class, job, &mut found);
            }
            judge_events(url, class, jobs.first(), &events, &mut found);
        }
        for (id, row) in discoveries {
            found.add(Sort::Doubled, format!("{}: {id} exists, and nobody was told of it", text(&row, 1)));
        }
        for (target, jobs) in jobs {
            found.add(Sort::Doubled, format!("{} jobs for {target}, which nobody handed in", jobs.len()));
        }
        for (target, events) in events {
            found.add(Sort::Doubled, format!("events of {target}, which nobody handed in: {events:?}"));
        }
        for row in self.look(LEFTOVERS) {
            found.add(Sort::Stuck, format!("{} {}", text(&row, 0), text(&row, 1)));
        }
        for row in self.look(ORPHANS) {
            found.count("all tables", &text(&row, 0), number(&row, 1), 0);
        }
        let keys = self.look("SELECT count(*) FROM idempotency_keys WHERE status IN (200, 202)");
        found.count("idempotency", "keys with an answer", number(&keys[0], 0), self.requests as i64);
        found.violations.sort();
        found.violations
    }

    fn look(&self, statement: &str) -> Rows {
        if self.planted.is_empty() {
            return self.database.run(statement);
        }
        self.database.run(&format!("BEGIN; {}; {statement}; ROLLBACK", self.planted))
    }

    fn jobs(&self) -> HashMap<String, Vec<Job>> {
        let mut jobs: HashMap<String, Vec<Job>> = HashMap::new();
        for row in self.look(JOBS) {
            jobs.entry(text(&row, 1)).or_default().push(Job {
                id: text(&row, 0),
                status: text(&row, 2),
                attempt: number(&row, 3),
                failures: number(&row, 4),
                max_failures: number(&row, 5),
            });
        }
        jobs
    }

    /// Of each discovery, with those of its job, its candidate and its posting: how often which.
    fn events(&self) -> HashMap<String, BTreeMap<String, i64>> {
        let mut events: HashMap<String, BTreeMap<String, i64>> = HashMap::new();
        for row in self.look(EVENTS) {
            events.entry(text(&row, 0)).or_default().insert(text(&row, 1), number(&row, 2));
        }
        events
    }
}

fn text(row: &[Option<String>], column: usize) -> String {
    row[column].clone().unwrap_or_default()
}

fn number(row: &[Option<String>], column: usize) -> i64 {
    text(row, column).parse().expect("a number")
}

/// By `discoveries` and the indexes on what belongs to each.
const DISCOVERIES: &str = "\
SELECT d.id, d.url, d.status, d.status_reason,
    (SELECT count(*) FROM sightings AS s WHERE s.discovery_id = d.id),
    (SELECT count(*) FROM evidence AS e WHERE e.discovery_id = d.id),
    (SELECT count(*) FROM candidate_discoveries AS c WHERE c.discovery_id = d.id),
    (SELECT count(*) FROM candidate_discoveries AS c JOIN postings AS p ON p.candidate_id = c.candidate_id
        WHERE c.discovery_id = d.id AND p.visible AND p.status = 'active'),
    (SELECT min(p.title) FROM candidate_discoveries AS c JOIN postings AS p ON p.candidate_id = c.candidate_id
        WHERE c.discovery_id = d.id)
FROM discoveries AS d";

const JOBS: &str = "SELECT id, target_id, status, attempt, failures, max_failures FROM job_all";

const EVENTS: &str = "\
WITH subject AS (
    SELECT 'discovery' AS entity_type, id::text AS entity_id, id AS discovery_id FROM discoveries
    UNION ALL SELECT 'job', id::text, target_id FROM job_all
    UNION ALL SELECT 'candidate', candidate_id::text, discovery_id FROM candidate_discoveries
    UNION ALL SELECT 'posting', p.id::text, c.discovery_id
    FROM postings AS p JOIN candidate_discoveries AS c ON c.candidate_id = p.candidate_id
)
SELECT s.discovery_id, entity_type || ' ' || event_type, count(*)
FROM provenance_events
JOIN subject AS s USING (entity_type, entity_id)
GROUP BY 1, 2";

/// A pending row is told as its own violation, with what holds it.
const LEFTOVERS: &str = "\
SELECT 'a pending job is left:', concat_ws(' ', id, status, 'attempt', attempt, 'failures', failures,
    'due', next_run_at, 'hinted until', hinted_until, 'lease', lease_expires_at)
FROM jobs
UNION ALL
SELECT 'a request is in progress for ever:', key FROM idempotency_keys WHERE response IS NULL
UNION ALL
SELECT 'a host is held for ever:', host FROM host_permits WHERE expires_at > now() + interval '1 hour'";

/// What a transaction that was rolled back in part would leave.
const ORPHANS: &str = "\
SELECT 'candidates of no discovery', count(*) FROM posting_candidates AS c
WHERE NOT EXISTS (SELECT FROM candidate_discoveries AS d WHERE d.candidate_id = c.id)
UNION ALL
SELECT 'postings of no discovery', count(*) FROM postings AS p
WHERE NOT EXISTS (SELECT FROM candidate_discoveries AS d WHERE d.candidate_id = p.candidate_id)
UNION ALL
SELECT 'evidence of no discovery', count(*) FROM evidence WHERE discovery_id IS NULL
UNION ALL
SELECT 'events of jobs that do not exist', count(*) FROM provenance_events AS e
WHERE e.entity_type = 'job' AND NOT EXISTS (SELECT FROM job_all AS j WHERE j.id::text = e.entity_id)
UNION ALL
SELECT 'events of candidates that do not exist', count(*) FROM provenance_events AS e
WHERE e.entity_type = 'candidate'
    AND NOT EXISTS (SELECT FROM posting_candidates AS c WHERE c.id::text = e.entity_id)
UNION ALL
SELECT 'events of postings that do not exist', count(*) FROM provenance_events AS e
WHERE e.entity_type = 'posting' AND NOT EXISTS (SELECT FROM postings AS p WHERE p.id::text = e.entity_id)
UNION ALL
SELECT 'jobs in two tables or twice in one', count(*) FROM (
    SELECT FROM job_all GROUP BY id HAVING count(*) > 1
) AS twice";

fn is_published(class: Class) -> bool {
    matches!(class, Class::Posting | Class::Slow | Class::Flaky)
}

/// The page was read: it stands as evidence.
fn is_read(class: Class) -> bool {
    !matches!(class, Class::Barred | Class::Poison)
}

fn judge_discovery(url: &str, class: Class, row: &[Option<String>], found: &mut Found) {
    let expected = match class {
        Class::Posting | Class::Slow | Class::Flaky => "extracted",
        Class::Missing | Class::Gone => "unusable",
        Class::Barred | Class::Poison => "failed",
    };
    let status = text(row, 2);
    if status == "received" {
        found.add(Sort::Stuck, format!("{url}: still {status}"));
    } else if status != expected {
        found.add(Sort::Wrong, format!("{url}: {status} ({}), not {expected}", text(row, 3)));
    }
    if text(row, 1) != url {
        found.add(Sort::Wrong, format!("{url}: stored as {}", text(row, 1)));
    }
    found.count(url, "sightings", number(row, 4), 1);
    found.count(url, "pieces of evidence", number(row, 5), i64::from(is_read(class)));
    found.count(url, "candidates", number(row, 6), i64::from(is_published(class)));
    found.count(url, "public postings", number(row, 7), i64::from(is_published(class)));
    let wanted = title(url.rsplit('/').next().unwrap_or_default());
    if is_published(class) && number(row, 7) > 0 && text(row, 8) != wanted {
        found.add(Sort::Wrong, format!("{url}: published as {:?}, not {wanted:?}", text(row, 8)));
    }
}

fn judge_job(url: &str, class: Class, job: &Job, found: &mut Found) {
    let expected = match class {
        Class::Poison => "dead_letter",
        Class::Barred => "failed",
        _ => "done",
    };
    if matches!(job.status.as_str(), "queued" | "claimed") {
        found.add(Sort::Stuck, format!("{url}: job {} is {}", job.id, job.status));
    } else if job.status != expected {
        found.add(Sort::Wrong, format!("{url}: job {} is {}, not {expected}", job.id, job.status));
    }
    if job.failures > job.max_failures {
        found.add(Sort::Wrong, format!("{url}: {} failures of at most {}", job.failures, job.max_failures));
    }
    // Each charge is of an attempt of its own, and the one that got through is another.
    if job.attempt < job.failures + i64::from(job.is_done()) {
        found.add(Sort::Doubled, format!("{url}: {} failures in {} attempts", job.failures, job.attempt));
    }
    if class == Class::Poison
        && (job.failures, job.max_failures) != (POISON_FAILURES_MAX, POISON_FAILURES_MAX)
    {
        let detail = format!("{url}: dead after {} failures of {}", job.failures, job.max_failures);
        found.add(Sort::Wrong, detail);
    }
}

/// Every change has its event, once. What was charged is told by as many events of the job.
fn judge_events(
    url: &str,
    class: Class,
    job: Option<&Job>,
    events: &BTreeMap<String, i64>,
    found: &mut Found,
) {
    let mut rest = events.clone();
    let mut expect = |name: &str, count: i64| {
        let told = rest.remove(name).unwrap_or(0);
        found.count(url, &format!("events '{name}'"), told, count);
    };
    expect("discovery ingested", 1);
    expect("discovery status_changed", 1);
    for name in ["candidate materialised", "candidate trust_policy_applied", "posting projected"] {
        expect(name, i64::from(is_published(class)));
    }
    // discovered → processed or publishable → published
    expect("candidate state_changed", 2 * i64::from(is_published(class)));
    expect("job dead_lettered", i64::from(class == Class::Poison));
    expect("job failed", i64::from(class == Class::Barred));
    let retried = ["job retry_scheduled", "job lease_requeued"].map(|name| rest.remove(name).unwrap_or(0));
    if let Some(job) = job {
        let charged = job.failures - i64::from(!job.is_done());
        found.count(url, "events of a charged return", retried.iter().sum(), charged);
    }
    for (name, count) in rest {
        found.add(Sort::Doubled, format!("{url}: {count} events '{name}' that nothing should cause"));
    }
}
