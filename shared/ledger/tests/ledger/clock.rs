//! A database clock that a test sets: `now()` and `clock_timestamp()` of the statements under test are its own.
//!
//! PostgreSQL looks into `pg_catalog` first only where the search path does not say otherwise. Here a schema with
//! functions of the same names stands before it, for the one database of the test. The statements are those of
//! production, to the byte.

use jiff::Timestamp;
use testdb::TestDb;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, GenericClient};

/// Each session stands at the instant that [`set`] gave it; time does not pass by itself.
const OF_SESSION: &str = "
CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE
AS $$ SELECT current_setting('clock.at')::timestamptz $$;
CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
AS $$ SELECT current_setting('clock.at')::timestamptz $$;";

/// All sessions share one clock, in whole seconds: a sequence is written outside of transactions, and read past snapshots, so
/// that time passes for a statement that waits. Each transaction's `now()` is the instant that [`set`] gave its session.
const SHARED: &str = "
CREATE SEQUENCE clock.tick;
GRANT SELECT ON SEQUENCE clock.tick TO PUBLIC;
CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE
AS $$ SELECT current_setting('clock.at')::timestamptz $$;
CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
AS $$ SELECT to_timestamp(last_value) FROM clock.tick $$;";

/// Columns that default to the present were bound to the built-in function when their table was made.
const DEFAULTS: &str = "
ALTER TABLE jobs ALTER next_run_at SET DEFAULT clock.now(), ALTER created_at SET DEFAULT clock.now(),
    ALTER updated_at SET DEFAULT clock.now();
ALTER TABLE job_archive ALTER updated_at SET DEFAULT clock.now();
ALTER TABLE job_dead ALTER updated_at SET DEFAULT clock.now();
ALTER TABLE job_kinds ALTER created_at SET DEFAULT clock.now(), ALTER updated_at SET DEFAULT clock.now();";

/// Replaces the clock for connections that are made from now on. Each is to call [`set`] before anything else.
pub(crate) async fn install_of_session(db: &TestDb, owner: &Client) {
    install(db, owner, OF_SESSION).await;
}

/// As [`install_of_session`], with a `clock_timestamp()` that all sessions share and [`advance`] sets.
pub(crate) async fn install_shared(db: &TestDb, owner: &Client) {
    install(db, owner, SHARED).await;
}

/// The present of every session, at once, also for statements that run already.
pub(crate) async fn advance(owner: &Client, to: Timestamp) {
    owner.query_typed("SELECT setval('clock.tick', $1)", &[(&to.as_second(), Type::INT8)]).await.unwrap();
}

async fn install(db: &TestDb, owner: &Client, functions: &str) {
    let database: String = owner.query_one("SELECT current_database()", &[]).await.unwrap().get(0);
    let sql = format!(
        "CREATE SCHEMA clock; GRANT USAGE ON SCHEMA clock TO PUBLIC; {functions} {DEFAULTS}
        ALTER DATABASE {database} SET search_path = clock, pg_catalog, public"
    );
    owner.batch_execute(&sql).await.unwrap();
    let path: String = db.session().await.query_one("SHOW search_path", &[]).await.unwrap().get(0);
    assert!(path.starts_with("clock"), "the functions' role sees the test's clock");
}

/// The session's present, until it is set again.
pub(crate) async fn set(client: &impl GenericClient, at: Timestamp) {
    let at = at.to_string();
    client.query_typed("SELECT set_config('clock.at', $1, false)", &[(&at, Type::TEXT)]).await.unwrap();
}
