//! A transaction that costs no round trips of its own: BEGIN goes out with its first statements, COMMIT with its last.
//!
//! The driver sends a statement when its future is first polled, and the server answers in order. So what is awaited
//! together is one round trip:
//!
//! ```ignore
//! let pipelined = Pipelined::on(&mut client);
//! let tx = pipelined.tx();
//! let ((), found) = tokio::try_join!(biased; pipelined.begin(), find(&tx, id))?;
//! tokio::try_join!(biased; change(&tx, &found), pipelined.commit())?;
//! ```
//!
//! After a statement that failed the server refuses all that follow, and COMMIT rolls back; the error is the failed
//! statement's, because it stands in front.
//!
//! **What is awaited beside `commit` must send all that it has in its first poll**, or the rest comes after the commit.

use crate::Error;
use futures::FutureExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use telemetry::db::{GenericClient, Parameters};
use tokio_postgres::{Client, Row, Transaction};

/// A transaction, for those who write in it and do not end it: what statements run on.
#[derive(Debug, Clone, Copy)]
pub struct Tx<'a>(&'a Client);

impl<'a> From<&'a Transaction<'_>> for Tx<'a> {
    fn from(transaction: &'a Transaction<'_>) -> Self {
        Self(transaction.client())
    }
}

impl GenericClient for Tx<'_> {
    async fn query_typed(
        &self,
        statement: &str,
        params: Parameters<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        GenericClient::query_typed(self.0, statement, params).await
    }

    async fn execute_typed(
        &self,
        statement: &str,
        params: Parameters<'_>,
    ) -> Result<u64, tokio_postgres::Error> {
        GenericClient::execute_typed(self.0, statement, params).await
    }
}

/// A transaction on a connection that nobody else uses meanwhile. Dropped before [`Self::commit`] is answered, it is rolled
/// back.
#[derive(Debug)]
pub struct Pipelined<'a> {
    client: &'a mut Client,
    is_over: AtomicBool,
}

impl<'a> Pipelined<'a> {
    /// Sends nothing yet.
    #[must_use]
    pub fn on(client: &'a mut Client) -> Self {
        Self { client, is_over: AtomicBool::new(false) }
    }

    /// What statements run on.
    #[must_use]
    pub fn tx(&self) -> Tx<'_> {
        Tx(self.client)
    }

    /// Begins. To be the first of what is awaited together.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn begin(&self) -> Result<(), Error> {
        Ok(self.client.batch_execute("BEGIN").await?)
    }

    /// Sets the savepoint that [`Self::back_to_mark`] goes back to.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mark(&self) -> Result<(), Error> {
        Ok(self.client.batch_execute("SAVEPOINT mark").await?)
    }

    /// Undoes what was written since [`Self::mark`], and lets go of what was locked.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn back_to_mark(&self) -> Result<(), Error> {
        Ok(self.client.batch_execute("ROLLBACK TO SAVEPOINT mark").await?)
    }

    /// Keeps what was written since [`Self::mark`], whose savepoint is gone then.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn keep_since_mark(&self) -> Result<(), Error> {
        Ok(self.client.batch_execute("RELEASE SAVEPOINT mark").await?)
    }

    /// Commits. To be the last of what is awaited together: only if all of that succeeds has anything been written.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn commit(&self) -> Result<(), Error> {
        self.client.batch_execute("COMMIT").await?;
        self.is_over.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Pipelined<'_> {
    fn drop(&mut self) {
        if !self.is_over.load(Ordering::Relaxed) {
            // One poll sends it; whoever uses the connection next queues behind it. After a commit whose answer nobody
            // waited for, the server warns that there is no transaction, and that is all.
            let _ = self.client.batch_execute("ROLLBACK").now_or_never();
        }
    }
}
