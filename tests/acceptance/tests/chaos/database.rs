//! The database as an onlooker has it: past the proxy, patient while the server is being crashed.

use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A server that is stopped takes connections and says nothing.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Each row's columns as text.
pub type Rows = Vec<Vec<Option<String>>>;

/// A role on the runner's database.
#[derive(Debug, Clone)]
pub struct Database {
    url: String,
}

impl Database {
    /// As the cluster's superuser, beside the owner's URL.
    pub fn superuser_beside(owner_url: &str) -> Self {
        let (_, rest) = owner_url.split_once('@').expect("the owner's URL names a user");
        Self { url: format!("postgres://postgres@{rest}") }
    }

    /// Where the server listens.
    pub fn address(&self) -> std::net::SocketAddr {
        let (_, rest) = self.url.split_once('@').expect("the URL names a user");
        rest.split('/').next().and_then(|address| address.parse().ok()).expect("the URL has an address")
    }

    /// Statements, once the server takes them; repeated if the connection breaks meanwhile, so they must bear that.
    ///
    /// # Panics
    /// If the server refuses them, or is away for longer than anything here lasts.
    pub fn run(&self, statements: &str) -> Rows {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_run(statements) {
                Ok(rows) => return rows,
                Err(error) => {
                    assert!(Instant::now() < deadline, "{statements}: {error}");
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        }
    }

    /// One try.
    ///
    /// # Errors
    /// That the server is not there, or a collision with somebody's locks.
    ///
    /// # Panics
    /// If the statements are wrong.
    pub fn try_run(&self, statements: &str) -> Result<Rows, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        runtime.block_on(async {
            tokio::time::timeout(ANSWER_LIMIT, self.ask(statements))
                .await
                .map_err(|_| "no answer in time".to_owned())?
        })
    }

    async fn ask(&self, statements: &str) -> Result<Rows, String> {
        use tokio_postgres::SimpleQueryMessage;
        let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls)
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let messages = client.simple_query(statements).await.map_err(|error| {
            // Classes 42 and 22: what was asked makes no sense, and never will.
            let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
            assert!(!code.starts_with("42") && !code.starts_with("22"), "{statements}: {error:?}");
            format!("{error:?}")
        })?;
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// One number.
    pub fn count(&self, statement: &str) -> i64 {
        let rows = self.run(statement);
        rows.first().and_then(|row| row.first()?.as_ref()?.parse().ok()).expect("one number")
    }

    /// Lets time pass for the ledger and for the hosts' pace and rules, and for nothing else: every instant that they wait for comes
    /// nearer. What waits for nothing stays as it is, so that this cannot free what is stuck. Rows that are locked right
    /// now are left out.
    pub fn let_pass(&self, length: Duration) {
        let by = format!("interval '{} ms'", length.as_millis());
        // Missed for once while the server is away: the next one comes soon.
        let _ = self.try_run(&format!(
            "WITH picked AS (SELECT id FROM jobs ORDER BY id FOR UPDATE SKIP LOCKED) \
             UPDATE jobs AS j SET next_run_at = next_run_at - {by}, hinted_until = hinted_until - {by}, \
             lease_expires_at = lease_expires_at - {by}, claimed_at = claimed_at - {by} \
             FROM picked AS p WHERE j.id = p.id; \
             WITH picked AS (SELECT host FROM host_permits ORDER BY host FOR UPDATE SKIP LOCKED) \
             UPDATE host_permits AS h SET expires_at = expires_at - {by}, next_at = next_at - {by}, \
             started_at = started_at - {by} FROM picked AS p WHERE h.host = p.host; \
             WITH picked AS (SELECT host, job_id FROM host_turns ORDER BY host, job_id FOR UPDATE SKIP LOCKED) \
             UPDATE host_turns AS t SET turn_at = turn_at - {by} \
             FROM picked AS p WHERE t.host = p.host AND t.job_id = p.job_id; \
             WITH picked AS (SELECT host FROM host_policies ORDER BY host FOR UPDATE SKIP LOCKED) \
             UPDATE host_policies AS h SET robots_retry_at = robots_retry_at - {by} \
             FROM picked AS p WHERE h.host = p.host AND robots_retry_at IS NOT NULL"
        ));
    }
}
