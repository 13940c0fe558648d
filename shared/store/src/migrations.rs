//! Applies numbered SQL files to a database, forward only, each once.
//!
//! Start at [`apply`]. The files of this release are [`embedded`]; the gate and the local runner may read others from
//! a directory with [`from_directory`]. Each file runs in a transaction of its own, unless its first line is
//! [`NO_TRANSACTION_MARKER`]: then it is one statement that runs outside any (such as `CREATE INDEX CONCURRENTLY`).
//!
//! This is the only code that takes a session lock and changes settings with `SET`: it connects past the pooler.

use rand::RngExt;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};
use telemetry::db::GenericClient;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

/// First line of a file whose single statement must not run in a transaction.
pub const NO_TRANSACTION_MARKER: &str = "-- gate: no-transaction";

/// Any two runners meet on this session lock; the number is `callboard` in no particular encoding.
const LOCK_KEY: i64 = 0x0063_616c_6c62_6f61;
/// A statement that waits longer than this for a lock makes readers queue behind it; it is tried again instead.
const LOCK_TIMEOUT_MS: u32 = 2_000;
/// A concurrent index waits for old transactions, not in front of others; a short limit would leave it invalid.
const LOCK_TIMEOUT_OUTSIDE_MS: u32 = 300_000;
const TRIES: u32 = 6;
const BACKOFF_BASE: Duration = Duration::from_millis(500);

/// One numbered file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// The number that the name begins with, from 1 up without gaps.
    pub version: i32,
    /// The file's name, `NNNN_verb_noun.sql`.
    pub name: String,
    /// The file's text.
    pub sql: String,
}

impl Migration {
    /// Lower-case hex SHA-256 of the text with `\r\n` read as `\n`, so that a checkout's line endings change nothing.
    #[must_use]
    pub fn checksum(&self) -> String {
        let digest = Sha256::digest(self.sql.replace("\r\n", "\n").as_bytes());
        digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    fn runs_in_transaction(&self) -> bool {
        self.sql.lines().next().map(str::trim) != Some(NO_TRANSACTION_MARKER)
    }
}

/// Why the database was left as it was, or at the last file that succeeded.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A file's name is not `NNNN_verb_noun.sql`, or numbers are doubled or missing.
    #[error("{name}: {problem}; a migration is named NNNN_verb_noun.sql, numbered from 0001 without gaps")]
    Name {
        /// The file.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A directory of migrations could not be read.
    #[error("cannot read the migrations in {path}")]
    Read {
        /// The directory.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// An applied file was edited. Write a new migration instead.
    #[error("{name} was changed after it was applied; restore it, and put the change into a new migration")]
    Changed {
        /// The file.
        name: String,
    },
    /// The database has versions that this release does not know.
    #[error(
        "the database is at version {database}, newer than this release's {known}; deploy a newer release"
    )]
    Newer {
        /// The newest version that the database has.
        database: i32,
        /// The newest version that this release has.
        known: i32,
    },
    /// A file failed; nothing of it remains, and the files before it do.
    #[error("{name} failed{}: {message}", position.map(|line| format!(" at line {line}")).unwrap_or_default())]
    Failed {
        /// The file.
        name: String,
        /// The line of the statement that failed, where the server told it.
        position: Option<usize>,
        /// What the server said.
        message: String,
    },
    /// The ledger of migrations itself could not be read or written.
    #[error("cannot read or write schema_migrations")]
    Database(#[from] tokio_postgres::Error),
}

/// What [`apply`] did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Files applied by this call, in order.
    pub applied: Vec<String>,
    /// The database's version now.
    pub version: i32,
}

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The files of this release, in order.
///
/// # Errors
/// [`MigrationError::Name`]: a file of this release is misnamed (a test keeps that from being released).
pub fn embedded() -> Result<Vec<Migration>, MigrationError> {
    parse(EMBEDDED.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned())).collect())
}

/// The newest version that this release knows; `/readyz` asks for at least it.
#[must_use]
pub fn newest_version() -> i32 {
    i32::try_from(EMBEDDED.len()).unwrap_or(i32::MAX)
}

/// The files of a directory, in order; files that do not end in `.sql` are passed over.
///
/// # Errors
/// [`MigrationError::Read`] or [`MigrationError::Name`].
pub fn from_directory(directory: &Path) -> Result<Vec<Migration>, MigrationError> {
    let read = |source| MigrationError::Read { path: directory.display().to_string(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(read)? {
        let entry = entry.map_err(read)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".sql") {
            files.push((name, std::fs::read_to_string(entry.path()).map_err(read)?));
        }
    }
    parse(files)
}

fn parse(mut files: Vec<(String, String)>) -> Result<Vec<Migration>, MigrationError> {
    files.sort();
    let mut migrations = Vec::with_capacity(files.len());
    for (name, sql) in files {
        let number = name.split_once('_').map(|(number, _)| number).filter(|number| number.len() == 4);
        let Some(version) = number.and_then(|number| number.parse::<i32>().ok()) else {
            return Err(MigrationError::Name { name, problem: "has no four-digit number" });
        };
        let expected = i32::try_from(migrations.len()).unwrap_or(i32::MAX).saturating_add(1);
        if version != expected {
            return Err(MigrationError::Name { name, problem: "has a number out of order" });
        }
        migrations.push(Migration { version, name, sql });
    }
    Ok(migrations)
}

const CREATE_TABLE: &str = "\
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    duration_ms bigint NOT NULL
)";
const LOCK: &str = "SELECT pg_advisory_lock($1)";
const UNLOCK: &str = "SELECT pg_advisory_unlock($1)";
const APPLIED: &str = "\
SELECT version, name, checksum
FROM schema_migrations
ORDER BY version";
const RECORD: &str = "\
INSERT INTO schema_migrations (version, name, checksum, duration_ms)
VALUES ($1, $2, $3, $4)";
/// Version of the schema; asked for by `/readyz` as `callboard_app`.
pub(crate) const VERSION: &str = "\
SELECT max(version)
FROM schema_migrations";

/// The schema's version in the database; `None` before the first migration.
///
/// # Errors
/// [`crate::Error`] if the database does not answer or has no `schema_migrations`.
pub async fn schema_version(client: &impl GenericClient) -> Result<Option<i32>, crate::Error> {
    let rows = client.query_typed(VERSION, &[]).await?;
    Ok(rows.first().and_then(|row| row.get(0)))
}

/// Applies what is missing, and tells what it did. Two callers at once wait for one another; a second run does nothing.
///
/// `client` must be a direct connection (no transaction pooler) as the owner of the schema. A file that cannot get its
/// lock within a short time is tried again as a whole, [`TRIES`] times with growing, jittered pauses.
///
/// # Errors
/// See [`MigrationError`]. Files before the failing one stay applied.
pub async fn apply(client: &mut Client, migrations: &[Migration]) -> Result<Report, MigrationError> {
    client.execute_typed(LOCK, &[(&LOCK_KEY, Type::INT8)]).await?;
    let outcome = apply_locked(client, migrations).await;
    // A failed unlock changes nothing: the lock ends with the session, which the caller drops.
    let _ = client.execute_typed(UNLOCK, &[(&LOCK_KEY, Type::INT8)]).await;
    outcome
}

async fn apply_locked(client: &mut Client, migrations: &[Migration]) -> Result<Report, MigrationError> {
    client.batch_execute(CREATE_TABLE).await?;
    let applied = client.query_typed(APPLIED, &[]).await?;
    let known = migrations.last().map_or(0, |migration| migration.version);
    for row in &applied {
        let (version, name, checksum): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
        match migrations.iter().find(|migration| migration.version == version) {
            None => {
                let database = applied.last().map_or(version, |newest| newest.get(0));
                return Err(MigrationError::Newer { database, known });
            }
            Some(migration) if migration.checksum() != checksum => {
                return Err(MigrationError::Changed { name });
            }
            Some(_) => {}
        }
    }
    let done = applied.last().map_or(0, |row| row.get::<_, i32>(0));
    let mut names = Vec::new();
    for migration in migrations.iter().filter(|migration| migration.version > done) {
        apply_one(client, migration).await?;
        tracing::info!(migration = %migration.name, "migration applied");
        names.push(migration.name.clone());
    }
    Ok(Report { applied: names, version: known.max(done) })
}

async fn apply_one(client: &mut Client, migration: &Migration) -> Result<(), MigrationError> {
    let mut tried = 1;
    loop {
        let started = Instant::now();
        let result = if migration.runs_in_transaction() {
            apply_in_transaction(client, migration, started).await
        } else {
            apply_outside(client, migration, started).await
        };
        let Err(error) = result else { return Ok(()) };
        let lock_not_available = error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE);
        if !lock_not_available || tried == TRIES {
            return Err(failed(migration, &error));
        }
        let pause = BACKOFF_BASE * 2_u32.pow(tried - 1);
        let pause = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        tracing::warn!(migration = %migration.name, tried, pause_ms = pause.as_millis(), "a lock was not to be had, trying again");
        tokio::time::sleep(pause).await;
        tried += 1;
    }
}

async fn apply_in_transaction(
    client: &mut Client,
    migration: &Migration,
    started: Instant,
) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction
        .batch_execute(&format!(
            "SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; SET LOCAL statement_timeout = 0"
        ))
        .await?;
    transaction.batch_execute(&migration.sql).await?;
    record(&transaction, migration, started).await?;
    transaction.commit().await
}

async fn apply_outside(
    client: &mut Client,
    migration: &Migration,
    started: Instant,
) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&format!("SET lock_timeout = {LOCK_TIMEOUT_OUTSIDE_MS}")).await?;
    let result = client.batch_execute(&migration.sql).await;
    client.batch_execute("RESET lock_timeout").await?;
    result?;
    record(client, migration, started).await
}

async fn record(
    client: &impl GenericClient,
    migration: &Migration,
    started: Instant,
) -> Result<(), tokio_postgres::Error> {
    let duration_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    client
        .execute_typed(
            RECORD,
            &[
                (&migration.version, Type::INT4),
                (&migration.name, Type::TEXT),
                (&migration.checksum(), Type::TEXT),
                (&duration_ms, Type::INT8),
            ],
        )
        .await?;
    Ok(())
}

fn failed(migration: &Migration, error: &tokio_postgres::Error) -> MigrationError {
    let database = error.as_db_error();
    let position = database.and_then(|database| match database.position() {
        Some(tokio_postgres::error::ErrorPosition::Original(at)) => {
            let at = usize::try_from(*at).ok()?;
            Some(migration.sql.chars().take(at.saturating_sub(1)).filter(|c| *c == '\n').count() + 1)
        }
        _ => None,
    });
    let message = database.map_or_else(|| error.to_string(), |database| database.message().to_owned());
    MigrationError::Failed { name: migration.name.clone(), position, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_this_release_are_numbered_from_one_without_gaps() {
        let migrations = embedded().unwrap();
        assert_eq!(migrations.last().map(|migration| migration.version), Some(newest_version()));
    }

    #[test]
    fn a_gap_a_double_and_a_name_without_number_are_refused() {
        for names in
            [&["0001_a.sql", "0003_b.sql"][..], &["0001_a.sql", "0001_b.sql"], &["first.sql"], &["1_a.sql"]]
        {
            let files = names.iter().map(|name| ((*name).to_owned(), String::new())).collect();
            assert!(matches!(parse(files), Err(MigrationError::Name { .. })), "{names:?}");
        }
    }

    #[test]
    fn line_endings_do_not_change_a_checksum() {
        let migration = |sql: &str| Migration { version: 1, name: "0001_a.sql".into(), sql: sql.into() };
        assert_eq!(migration("a;\nb;\n").checksum(), migration("a;\r\nb;\r\n").checksum());
        assert_ne!(migration("a;").checksum(), migration("b;").checksum());
    }
}
