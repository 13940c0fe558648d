//! The ledger's rows, as one connection sees them, and their names that do not depend on ids, tokens and the clock.

use crate::interleavings::program::{Key, key_of};
use jiff::Timestamp;
use ledger::JobId;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Pending,
    Archive,
    Dead,
}

#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) table: Table,
    pub(crate) id: JobId,
    pub(crate) key: Key,
    pub(crate) status: String,
    pub(crate) route: String,
    pub(crate) attempt: i32,
    pub(crate) failures: i32,
    pub(crate) max_failures: i32,
    pub(crate) deferrals: i32,
    pub(crate) requeues: i32,
    pub(crate) rerun: bool,
    pub(crate) lease_token: Option<Uuid>,
    pub(crate) lease_expires_at: Option<Timestamp>,
    pub(crate) claimed_at: Option<Timestamp>,
    pub(crate) next_run_at: Timestamp,
    pub(crate) hinted_until: Option<Timestamp>,
    pub(crate) version: i64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) rows: Vec<Row>,
    /// Job and attempt.
    pub(crate) effects: Vec<(JobId, i32)>,
    pub(crate) disabled: Vec<String>,
}

macro_rules! columns {
    () => {
        "id, target_id, status, route, attempt, failures, max_failures, deferrals, requeues, rerun, lease_token, \
         lease_expires_at, claimed_at, next_run_at, hinted_until, version"
    };
}
/// The three tables and the effects in one statement, which is one snapshot of READ COMMITTED.
const ALL: &str = concat!(
    "SELECT 0 AS place, ",
    columns!(),
    " FROM jobs UNION ALL SELECT 1, ",
    columns!(),
    " FROM job_archive UNION ALL SELECT 2, ",
    columns!(),
    " FROM job_dead UNION ALL SELECT 3, job_id, job_id, '', '', attempt, 0, 0, 0, 0, false, NULL, NULL, NULL, now(), \
     NULL, 0 FROM effects UNION ALL SELECT 4, '00000000-0000-0000-0000-000000000000', \
     '00000000-0000-0000-0000-000000000000', kind, route, 0, 0, 0, 0, 0, enabled, NULL, NULL, NULL, now(), NULL, 0 \
     FROM job_kinds ORDER BY 1, 2, 6"
);

impl Snapshot {
    /// The look of one connection, planned once: the archive has many partitions.
    pub(crate) async fn prepare(client: &Client) -> Statement {
        client.prepare(ALL).await.unwrap()
    }

    /// With what [`Self::prepare`] made on this connection.
    pub(crate) async fn take(client: &Client, all: &Statement) -> Self {
        let mut snapshot = Self::default();
        for row in client.query(all, &[]).await.unwrap() {
            let id = JobId(row.get(1));
            let table = match row.get::<_, i32>(0) {
                0 => Table::Pending,
                1 => Table::Archive,
                2 => Table::Dead,
                3 => {
                    snapshot.effects.push((id, row.get(5)));
                    continue;
                }
                _ => {
                    if !row.get::<_, bool>(10) {
                        snapshot.disabled.push(row.get(3));
                    }
                    continue;
                }
            };
            snapshot.rows.push(Row {
                table,
                id,
                key: key_of(row.get(2)),
                status: row.get(3),
                route: row.get(4),
                attempt: row.get(5),
                failures: row.get(6),
                max_failures: row.get(7),
                deferrals: row.get(8),
                requeues: row.get(9),
                rerun: row.get(10),
                lease_token: row.get(11),
                lease_expires_at: row.get(12),
                claimed_at: row.get(13),
                next_run_at: row.get(14),
                hinted_until: row.get(15),
                version: row.get(16),
            });
        }
        snapshot
    }

    /// All that later statements can depend on. Two snapshots with one text are one state: ids are named by their key and
    /// their order, instants by their distance from the clock.
    pub(crate) fn text(&self, names: &Names, now: Timestamp) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let _ = write!(
                text,
                "{}{:?} {} {} a{} f{}/{} d{} q{} {} {} {} {} {} {};",
                names.of(row.id),
                row.table,
                row.status,
                row.route,
                row.attempt,
                row.failures,
                row.max_failures,
                row.deferrals,
                row.requeues,
                row.rerun,
                row.lease_token.is_some(),
                distance(row.lease_expires_at, now),
                row.claimed_at
                    .filter(|_| row.lease_token.is_some())
                    .map_or(0, |at| now.duration_since(at).as_secs()),
                distance(Some(row.next_run_at).filter(|_| row.table == Table::Pending), now),
                distance(row.hinted_until, now),
            );
        }
        for (id, attempt) in &self.effects {
            let _ = write!(text, "effect {}{attempt};", names.of(*id));
        }
        let _ = write!(text, "off {:?}", self.disabled);
        text
    }
}

/// Whole seconds ahead of now, which no statement's own duration changes. Of what is past, nothing depends on how long.
pub(crate) fn distance(at: Option<Timestamp>, now: Timestamp) -> String {
    match at.map(|at| at.duration_since(now)) {
        None => "-".to_owned(),
        Some(ahead) if ahead.is_positive() => format!("+{}", ahead.as_secs()),
        Some(_) => "past".to_owned(),
    }
}

/// Jobs by their key and the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<JobId, String>);

impl Names {
    pub(crate) fn new(ids: impl Iterator<Item = (JobId, Key)>) -> Self {
        let ids: BTreeMap<JobId, Key> = ids.collect();
        let mut counts: BTreeMap<Key, usize> = BTreeMap::new();
        let mut names = BTreeMap::new();
        for (id, key) in ids {
            let count = counts.entry(key).or_default();
            names.insert(id, format!("{key}{count}"));
            *count += 1;
        }
        Self(names)
    }

    pub(crate) fn of(&self, id: JobId) -> &str {
        self.0.get(&id).map_or("?", String::as_str)
    }
}
