//! The way out to the web with its memory in the database: pace, robots.txt and host policies over all workers.
//!
//! Start at [`fetcher`]. The rules are in the crate `fetch`, the statements in `store::hosts`; here they meet.

use fetch::hosts::{HostPolicy, HostRecord, Hosts, RobotsRecord, RobotsStatus};
use fetch::pace::{HELD_POLL, PERMIT_LIFETIME, Pace, Permit, SeamError, Taken};
use fetch::{FetchConfig, Fetcher};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use store::Pool;
use store::hosts::{PermitAsk, PermitTaken, RobotsRow};
use uuid::Uuid;

/// The fetcher of every function: what it keeps, all workers see. Opens nothing.
#[must_use]
pub fn fetcher(pool: Pool, config: FetchConfig) -> Fetcher {
    let keeper = Arc::new(HostKeeper { pool });
    Fetcher::with(config, Arc::<HostKeeper>::clone(&keeper), keeper)
}

/// [`Pace`] and [`Hosts`] on the database. A call takes a connection for one statement, never while the web is asked.
#[derive(Debug, Clone)]
pub struct HostKeeper {
    pool: Pool,
}

impl HostKeeper {
    /// Keeps on this pool's database.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }
}

impl Pace for HostKeeper {
    fn take<'a>(
        &'a self,
        host: &'a str,
        gap: Duration,
        job: Option<Uuid>,
        anew: bool,
    ) -> BoxFuture<'a, Result<Taken, SeamError>> {
        Box::pin(async move {
            let client = self.pool.get().await.map_err(seam)?;
            let token = Uuid::new_v4();
            let ask = PermitAsk { host, token, gap, job, anew, lifetime: PERMIT_LIFETIME, poll: HELD_POLL };
            Ok(match store::hosts::permit_take(&**client, ask).await.map_err(seam)? {
                PermitTaken::Permit => Taken::Permit(Permit { host: host.to_owned(), token }),
                PermitTaken::Turn { at, after, is_due } => Taken::Turn { at, after, is_due },
            })
        })
    }

    fn stretch<'a>(&'a self, permit: &'a Permit, gap: Duration) -> BoxFuture<'a, Result<(), SeamError>> {
        Box::pin(async move {
            let client = self.pool.get().await.map_err(seam)?;
            store::hosts::permit_stretch(&**client, &permit.host, permit.token, gap).await.map_err(seam)
        })
    }

    fn give_back<'a>(&'a self, permit: &'a Permit) -> BoxFuture<'a, Result<(), SeamError>> {
        Box::pin(async move {
            let client = self.pool.get().await.map_err(seam)?;
            // One that ran out is another's by now; there is nothing to do about it here.
            store::hosts::permit_give_back(&**client, &permit.host, permit.token).await.map_err(seam)?;
            Ok(())
        })
    }
}

impl Hosts for HostKeeper {
    fn get<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<HostRecord, SeamError>> {
        Box::pin(async move {
            let client = self.pool.get().await.map_err(seam)?;
            let row = store::hosts::host_find(&**client, host).await.map_err(seam)?;
            Ok(row.map(record).unwrap_or_default())
        })
    }

    fn put_robots<'a>(
        &'a self,
        host: &'a str,
        record: &'a RobotsRecord,
    ) -> BoxFuture<'a, Result<(), SeamError>> {
        Box::pin(async move {
            let row = RobotsRow {
                text: record.text.clone(),
                status: Some(record.status.as_str().to_owned()),
                fetched_at: record.fetched_at,
                retry_at: record.retry_at,
            };
            let client = self.pool.get().await.map_err(seam)?;
            store::hosts::host_robots_put(&**client, host, &row).await.map_err(seam)
        })
    }
}

fn record(row: store::hosts::HostRow) -> HostRecord {
    let robots = row.robots;
    HostRecord {
        policy: HostPolicy {
            enabled: row.enabled,
            extra_ports: row.extra_ports.into_iter().filter_map(|port| u16::try_from(port).ok()).collect(),
            min_interval: Duration::from_millis(u64::try_from(row.min_interval_ms).unwrap_or(0)),
            obeys_robots: row.obeys_robots,
        },
        // A copy that an administrator put there by hand has a time and no status: it serves as a fetched one.
        robots: match robots.status.as_deref().map(RobotsStatus::parse) {
            Some(status) => status,
            None => robots.fetched_at.map(|_| RobotsStatus::Fetched),
        }
        .map(|status| RobotsRecord {
            status,
            text: robots.text,
            fetched_at: robots.fetched_at,
            retry_at: robots.retry_at,
        }),
    }
}

fn seam(error: store::Error) -> SeamError {
    SeamError(error.to_string())
}
