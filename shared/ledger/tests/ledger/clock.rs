//! A database clock that a test sets: `now()` and `clock_timestamp()` of the statements under test are its own.
//!
//! PostgreSQL looks into `pg_catalog` first only where the search path does not say otherwise. Here a schema with
//! functions of the same names stands before it, for the one database of the test. The statements are those of
//! production, to the byte.

use jiff::Timestamp;
use testdb::TestDb;
use tokio_postgres::{Client, GenericClient};

/// Each session stands at the instant that [`set`] gave it; time does not pass by itself.
const OF_SESSION: &str = "
CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE
AS $$ SELECT current_setting('clock.at')::timestamptz $$;
CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
AS $$ SELECT current_setting('clock.at')::timestamptz $$;";

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
    client.query("SELECT set_config('clock.at', $1, false)", &[&at.to_string()]).await.unwrap();
}
