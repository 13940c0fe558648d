//! A transaction that costs no round trips of its own: BEGIN goes out with its first statements, COMMIT with its last.
//!
//! The driver sends a statement when its future is first polled, and the server answers in order. So what is awaited
//! together is one round trip:
//!
//! ```ignore
//! let tx = Pipelined::on(&mut client);
//! let ((), found) = tokio::try_join!(biased; tx.begin(), find(tx.client(), id))?;
//! tokio::try_join!(biased; change(tx.client(), &found), tx.commit())?;
//! ```
//!
//! After a statement that failed the server refuses all that follow, and COMMIT rolls back; the error is the failed
//! statement's, because it stands in front.
//!
//! **What is awaited beside `commit` must send all that it has in its first poll**, or the rest comes after the commit.

use crate::Error;
use futures::FutureExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_postgres::Client;

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
    pub fn client(&self) -> &Client {
        self.client
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
