//! Hosts of the web: the administrator's policy, the kept robots.txt, and the pace over all workers.
//!
//! [`permit_take`] is the pace: one statement that takes a host's permit or books a turn (domain specification, section
//! 7.2). All its times are the database's, read after the host's row is locked, so that workers' clocks do not matter.

use crate::{Error, Statement};
use jiff::Timestamp;
use std::time::Duration;
use telemetry::db::GenericClient;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// A row of `host_policies`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRow {
    /// False refuses every request to the host.
    pub enabled: bool,
    /// Ports beside 80 and 443, 1–65535.
    pub extra_ports: Vec<i32>,
    /// The least gap between starts.
    pub min_interval_ms: i32,
    /// Whether robots.txt binds.
    pub obeys_robots: bool,
    /// What is kept of robots.txt.
    pub robots: RobotsRow,
}

/// What is kept of a host's robots.txt. Without a status it was never asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RobotsRow {
    /// The last text that was fetched.
    pub text: Option<String>,
    /// `fetched`, `none`, `wait`, `unreachable`.
    pub status: Option<String>,
    /// When the text was fetched.
    pub fetched_at: Option<Timestamp>,
    /// After a failure: when to ask again.
    pub retry_at: Option<Timestamp>,
}

/// What asking for a permit gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PermitTaken {
    /// The caller's token holds the permit.
    Permit,
    /// Not yet.
    Turn {
        /// The caller's turn, or when to look again if it has come.
        at: Timestamp,
        /// How far off that is, by the database's clock.
        after: Duration,
        /// The caller's kept turn has come, but the permit is held or the gap lasts.
        is_due: bool,
    },
}

/// By primary key.
const FIND: &str = "
    SELECT
        enabled, extra_ports, min_interval_ms, robots = 'obey' AS obeys_robots,
        robots_txt, robots_status, robots_fetched_at, robots_retry_at
    FROM host_policies
    WHERE host = $1";

/// A copy of robots.txt is no edit of the policy: version and updated_at, which an administrator's conditional request
/// counts on, stay.
const ROBOTS_PUT: &str = "
    INSERT INTO host_policies (host, robots_txt, robots_status, robots_fetched_at, robots_retry_at)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (host) DO UPDATE
    SET robots_txt = excluded.robots_txt,
        robots_status = excluded.robots_status,
        robots_fetched_at = excluded.robots_fetched_at,
        robots_retry_at = excluded.robots_retry_at";

/// `$2` the caller's new token, `$3` the gap in seconds, `$4` the job that keeps a turn (or null), `$5` whether its kept
/// turn is given up for a new one, `$6` the permit's lifetime and `$7` the poll of a held one in seconds.
///
/// By primary keys. The conflicting row is locked before the SET's subquery runs, and the subquery reads the clock once:
/// with `now()`, a caller that waited for the lock would start earlier than the one it waited for. A booked turn has
/// moved `next_at` on already, so that taking it does not do so again, unless it is late. Turns that nobody came back for
/// are swept out by the way.
const PERMIT_TAKE: &str = "
    WITH kept AS MATERIALIZED (
        SELECT turn_at
        FROM host_turns
        WHERE host = $1 AND job_id = $4 AND NOT $5
    ),
    permit AS (
        INSERT INTO host_permits AS held (host, token, expires_at, started_at, next_at)
        SELECT $1, $2, clock.at + make_interval(secs => $6), clock.at, clock.at + make_interval(secs => $3)
        FROM (SELECT clock_timestamp() AS at) AS clock
        ON CONFLICT (host) DO UPDATE
        SET (token, expires_at, started_at, next_at) = (
            SELECT
                CASE WHEN judged.goes THEN $2 ELSE held.token END,
                CASE WHEN judged.goes THEN clock.at + make_interval(secs => $6) ELSE held.expires_at END,
                CASE WHEN judged.goes THEN clock.at ELSE held.started_at END,
                CASE
                    WHEN judged.goes THEN greatest(held.next_at, clock.at + make_interval(secs => $3))
                    WHEN $4 IS NULL OR EXISTS (SELECT FROM kept) THEN held.next_at
                    ELSE greatest(held.next_at, clock.at, held.started_at + make_interval(secs => $3))
                        + make_interval(secs => $3)
                END
            FROM (SELECT clock_timestamp() AS at OFFSET 0) AS clock
            CROSS JOIN LATERAL (
                SELECT
                    (held.token IS NULL OR held.expires_at <= clock.at)
                    AND (held.started_at IS NULL OR held.started_at + make_interval(secs => $3) <= clock.at)
                    AND coalesce((SELECT turn_at FROM kept), held.next_at) <= clock.at AS goes
            ) AS judged
        )
        RETURNING token, expires_at, started_at, next_at, coalesce(token = $2, false) AS is_taken
    ),
    booked AS (
        INSERT INTO host_turns (host, job_id, turn_at)
        SELECT $1, $4, permit.next_at - make_interval(secs => $3)
        FROM permit
        WHERE NOT permit.is_taken AND $4 IS NOT NULL AND NOT EXISTS (SELECT FROM kept)
        ON CONFLICT (host, job_id) DO UPDATE
        SET turn_at = excluded.turn_at
    ),
    spent AS (
        DELETE FROM host_turns AS turn
        USING permit
        WHERE turn.host = $1
            AND permit.is_taken
            AND (turn.job_id = $4 OR turn.turn_at < permit.started_at - interval '1 hour')
    )
    SELECT
        found.is_taken,
        found.turn_at,
        ceil(extract(epoch FROM greatest(found.turn_at - found.at, interval '0')) * 1000)::bigint AS after_ms,
        found.is_due
    FROM (
        SELECT
            permit.is_taken,
            CASE
                WHEN kept.turn_at > clock.at THEN kept.turn_at
                WHEN kept.turn_at IS NOT NULL THEN greatest(
                    permit.started_at + make_interval(secs => $3),
                    CASE
                        WHEN permit.expires_at > clock.at THEN clock.at + make_interval(secs => $7)
                        ELSE clock.at
                    END
                )
                WHEN $4 IS NULL THEN greatest(permit.next_at, clock.at)
                ELSE permit.next_at - make_interval(secs => $3)
            END AS turn_at,
            coalesce(kept.turn_at <= clock.at, false) AS is_due,
            clock.at
        FROM permit
        CROSS JOIN (SELECT clock_timestamp() AS at OFFSET 0) AS clock
        LEFT JOIN kept ON true
    ) AS found";

/// By primary key, fenced by the token; `$3` the gap in seconds.
const PERMIT_STRETCH: &str = "
    UPDATE host_permits
    SET next_at = greatest(next_at, started_at + make_interval(secs => $3))
    WHERE host = $1 AND token = $2";

/// By primary key, fenced by the token: a holder that was too slow frees nobody else's permit.
const PERMIT_GIVE_BACK: &str = "
    UPDATE host_permits
    SET token = NULL, expires_at = NULL
    WHERE host = $1 AND token = $2";

const PERMIT_TAKE_TYPES: &[Type] =
    &[Type::TEXT, Type::UUID, Type::FLOAT8, Type::UUID, Type::BOOL, Type::FLOAT8, Type::FLOAT8];

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "host_find", sql: FIND, types: &[Type::TEXT] },
    Statement {
        name: "host_robots_put",
        sql: ROBOTS_PUT,
        types: &[Type::TEXT, Type::TEXT, Type::TEXT, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    },
    Statement { name: "permit_take", sql: PERMIT_TAKE, types: PERMIT_TAKE_TYPES },
    Statement { name: "permit_stretch", sql: PERMIT_STRETCH, types: &[Type::TEXT, Type::UUID, Type::FLOAT8] },
    Statement { name: "permit_give_back", sql: PERMIT_GIVE_BACK, types: &[Type::TEXT, Type::UUID] },
];

/// The row of a host; none means the defaults.
///
/// # Errors
/// [`Error`].
pub async fn host_find(client: &impl GenericClient, host: &str) -> Result<Option<HostRow>, Error> {
    let rows = client.query_typed(FIND, &[(&host, Type::TEXT)]).await?;
    Ok(rows.first().map(|row| HostRow {
        enabled: row.get(0),
        extra_ports: row.get(1),
        min_interval_ms: row.get(2),
        obeys_robots: row.get(3),
        robots: RobotsRow {
            text: row.get(4),
            status: row.get(5),
            fetched_at: row.get(6),
            retry_at: row.get(7),
        },
    }))
}

/// Keeps what became of a request for robots.txt. A host without a row gets one with the defaults.
///
/// # Errors
/// [`Error`].
pub async fn host_robots_put(
    client: &impl GenericClient,
    host: &str,
    robots: &RobotsRow,
) -> Result<(), Error> {
    client
        .execute_typed(
            ROBOTS_PUT,
            &[
                (&host, Type::TEXT),
                (&robots.text, Type::TEXT),
                (&robots.status, Type::TEXT),
                (&robots.fetched_at, Type::TIMESTAMPTZ),
                (&robots.retry_at, Type::TIMESTAMPTZ),
            ],
        )
        .await?;
    Ok(())
}

/// What a caller of [`permit_take`] wants.
#[derive(Debug, Clone, Copy)]
pub struct PermitAsk<'a> {
    /// The host's key.
    pub host: &'a str,
    /// A fresh token, which holds the permit if it is taken.
    pub token: Uuid,
    /// The gap to the host's next start.
    pub gap: Duration,
    /// Who keeps a turn; none books nothing.
    pub job: Option<Uuid>,
    /// Give the kept turn up for a new one at the end of the queue.
    pub anew: bool,
    /// After this a permit is free again.
    pub lifetime: Duration,
    /// When to look again for a permit that is held although the turn has come.
    pub poll: Duration,
}

/// Takes the host's permit if it is free, the gap since its last start is over and the caller's turn has come; books a
/// turn otherwise, unless the job has one. One round trip.
///
/// # Errors
/// [`Error`].
pub async fn permit_take(client: &impl GenericClient, ask: PermitAsk<'_>) -> Result<PermitTaken, Error> {
    let rows = client
        .query_typed(
            PERMIT_TAKE,
            &[
                (&ask.host, Type::TEXT),
                (&ask.token, Type::UUID),
                (&ask.gap.as_secs_f64(), Type::FLOAT8),
                (&ask.job, Type::UUID),
                (&ask.anew, Type::BOOL),
                (&ask.lifetime.as_secs_f64(), Type::FLOAT8),
                (&ask.poll.as_secs_f64(), Type::FLOAT8),
            ],
        )
        .await?;
    let row = rows.first().ok_or(Error::NotFound)?;
    if row.get(0) {
        return Ok(PermitTaken::Permit);
    }
    let after_ms: i64 = row.get(2);
    Ok(PermitTaken::Turn {
        at: row.get(1),
        after: Duration::from_millis(u64::try_from(after_ms).unwrap_or(0)),
        is_due: row.get(3),
    })
}

/// Moves the host's next start to a wider gap, learned under the permit.
///
/// # Errors
/// [`Error`].
pub async fn permit_stretch(
    client: &impl GenericClient,
    host: &str,
    token: Uuid,
    gap: Duration,
) -> Result<(), Error> {
    client
        .execute_typed(
            PERMIT_STRETCH,
            &[(&host, Type::TEXT), (&token, Type::UUID), (&gap.as_secs_f64(), Type::FLOAT8)],
        )
        .await?;
    Ok(())
}

/// Gives a permit back. Says whether it was still the token's.
///
/// # Errors
/// [`Error`].
pub async fn permit_give_back(client: &impl GenericClient, host: &str, token: Uuid) -> Result<bool, Error> {
    let changed =
        client.execute_typed(PERMIT_GIVE_BACK, &[(&host, Type::TEXT), (&token, Type::UUID)]).await?;
    Ok(changed == 1)
}
