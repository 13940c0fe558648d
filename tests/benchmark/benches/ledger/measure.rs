//! What the server and this process say of the work between two looks.

use std::time::{Duration, Instant};
use testdb::TestDb;
use tokio_postgres::Client;

pub(crate) fn rate(count: usize, started: Instant) -> f64 {
    per(count, 1) / started.elapsed().as_secs_f64()
}

/// As a number with a fraction; counts here are far below where an `f64` rounds.
#[allow(clippy::cast_precision_loss, reason = "counts of a benchmark")]
pub(crate) fn per(value: usize, count: usize) -> f64 {
    value as f64 / count as f64
}

/// The server's counters of one table and its database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counters {
    updates: i64,
    hot: i64,
    dead: i64,
    commits: i64,
    wal_bytes: i64,
}

impl Counters {
    /// Waits until no other client is connected: a backend reports what it did at its end at the latest.
    pub(crate) async fn read(db: &TestDb, table: &str) -> Self {
        let owner = db.owner().await;
        let others = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        while owner.query_one(others, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let row = owner
            .query_one(
                "SELECT t.n_tup_upd, t.n_tup_hot_upd, t.n_dead_tup, d.xact_commit,
                    (pg_current_wal_insert_lsn() - '0/0')::int8
                FROM pg_stat_user_tables AS t, pg_stat_database AS d
                WHERE t.relname = $1 AND d.datname = current_database()",
                &[&table],
            )
            .await
            .unwrap();
        Self {
            updates: row.get(0),
            hot: row.get(1),
            dead: row.get(2),
            commits: row.get(3),
            wal_bytes: row.get(4),
        }
    }

    /// Since an earlier look, for that many jobs: HOT share of updates, dead tuples, WAL bytes a job, commits a job.
    pub(crate) fn since(&self, earlier: &Self, jobs: usize) -> String {
        let of_jobs = |value: i64| per(usize::try_from(value).unwrap_or(0), jobs);
        let updates = self.updates - earlier.updates;
        let hot = if updates == 0 {
            "no updates".to_owned()
        } else {
            let share =
                per(usize::try_from(self.hot - earlier.hot).unwrap_or(0), usize::try_from(updates).unwrap());
            format!("{:.1} %", share * 100.0)
        };
        format!(
            "{hot} | {} | {:.0} | {:.3}",
            self.dead,
            of_jobs(self.wal_bytes - earlier.wal_bytes),
            of_jobs(self.commits - earlier.commits)
        )
    }
}

/// Processor time of a connection's server process, and of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Processor {
    server: Duration,
    client: Duration,
}

impl Processor {
    pub(crate) async fn read(client: &Client) -> Self {
        let pid: i32 = client.query_typed("SELECT pg_backend_pid()", &[]).await.unwrap()[0].get(0);
        Self { server: used(&pid.to_string()), client: used("self") }
    }

    /// (server, client) since an earlier look.
    pub(crate) fn since(&self, earlier: &Self) -> (Duration, Duration) {
        (self.server - earlier.server, self.client - earlier.client)
    }
}

/// User and system time out of `/proc/PID/stat` (proc(5), fields 14 and 15), in the kernel's ticks.
fn used(pid: &str) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = text.rsplit_once(')').unwrap().1;
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    #[allow(unsafe_code, reason = "sysconf takes an integer")]
    // SAFETY: sysconf has no preconditions.
    let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs(ticks) / u32::try_from(ticks_per_second).unwrap()
}
