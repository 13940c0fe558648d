//! The database: the one that `DATABASE_URL` names, else a PostgreSQL of one's own in the data directory.
//!
//! Start at [`Database::open`]. The owner's role may make roles and owns the schema; the functions connect as another, which
//! owns nothing.

use anyhow::{Context as _, bail};
use local_postgres::{Durability, Pooler, PoolerOptions, Server, StartOptions};
use rand::RngExt as _;
use std::path::Path;
use store::migrations::{Migration, Report};
use store::{Pool, PoolConfig};
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;

/// The role that owns the schema, and has no more rights than that needs.
const OWNER: &str = "callboard_owner";
const DATABASE: &str = "callboard";
/// The role that the functions connect as; the first migration makes it.
pub const APP: &str = "callboard_app";
/// Server connections behind the pooler: fewer than the functions open, so that they have to share.
const POOLER_SIZE: u32 = 4;

/// An open database, migrated.
#[derive(Debug)]
pub struct Database {
    /// In front of our server, if it was asked for. Stopped before it: fields drop in order.
    pooler: Option<Pooler>,
    /// Ours, where `DATABASE_URL` names none. Dropping it stops it.
    server: Option<Server>,
    owner_url: String,
    /// How the functions get there.
    pub access: Access,
    /// What the migrations did.
    pub report: Report,
}

/// How the functions get to the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Host name, address, or directory of a socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub name: String,
    /// Whether TLS is required.
    pub tls: bool,
    /// A whole connection string, where a password is needed.
    pub url: Option<String>,
}

/// The database that the environment names, if it does.
#[must_use]
pub fn given_url() -> Option<String> {
    std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty())
}

impl Database {
    /// Starts or finds the server, makes role and database if they are missing, empties them if `is_fresh`, and migrates.
    ///
    /// # Errors
    /// Messages say what to do: binaries that are missing, a database of a newer version, rights that are missing.
    ///
    /// With `is_pooled` the functions get there through pgbouncer in transaction mode, and in no other way; migrations go
    /// past it.
    pub async fn open(data_dir: &Path, is_fresh: bool, is_pooled: bool) -> anyhow::Result<Self> {
        if is_pooled {
            Pooler::check()?;
        }
        let (server, owner_url) = match given_url() {
            Some(_) if is_pooled => bail!(
                "--pooler needs a PostgreSQL of the runner's own, which takes the functions from the pooler alone: unset \
                 DATABASE_URL"
            ),
            Some(url) => {
                if is_fresh {
                    empty_schema(&url).await?;
                }
                (None, url)
            }
            None => {
                let server = start(data_dir, is_pooled).await?;
                let url = make(&server, is_fresh).await?;
                (Some(server), url)
            }
        };
        let report = migrate(&owner_url, &store::migrations::embedded()?).await?;
        let pooler = match &server {
            Some(server) if is_pooled => {
                Some(Pooler::start(server, &PoolerOptions { roles: &[APP], pool_size: POOLER_SIZE })?)
            }
            _ => None,
        };
        let access = match &pooler {
            Some(pooler) => Access { port: pooler.port(), ..access_beside(&owner_url)? },
            None => access(&owner_url, data_dir).await?,
        };
        Ok(Self { pooler, server, owner_url, access, report })
    }

    /// The owner's connection string.
    #[must_use]
    pub fn owner_url(&self) -> &str {
        &self.owner_url
    }

    /// The console of the pooler in front of the server, if there is one.
    #[must_use]
    pub fn pooler_url(&self) -> Option<String> {
        self.pooler.as_ref().map(Pooler::console_url)
    }

    /// Stops the pooler and the server, if they are ours.
    pub async fn close(self) {
        let Self { pooler, server, .. } = self;
        // Waiting for a server to stop blocks its thread. A panic there would have told of itself.
        let _ = tokio::task::spawn_blocking(move || {
            drop(pooler);
            drop(server);
        })
        .await;
    }
}

/// Applies migrations as the owner.
///
/// # Errors
/// [`store::migrations::MigrationError`], or that the database does not answer.
pub async fn migrate(owner_url: &str, migrations: &[Migration]) -> anyhow::Result<Report> {
    let mut client = connect(owner_url).await?;
    Ok(store::migrations::apply(&mut client, migrations).await?)
}

async fn start(data_dir: &Path, is_pooled: bool) -> anyhow::Result<Server> {
    let options = StartOptions {
        data_dir: data_dir.join("postgres"),
        // One for all data directories: it is 60 MB.
        npm_cache: std::env::temp_dir().join("callboard-postgres-npm"),
        durability: Durability::Fast,
        pooled_role: is_pooled.then_some(APP),
    };
    Ok(tokio::task::spawn_blocking(move || Server::start(&options)).await??)
}

/// Makes the owner and the database.
async fn make(server: &Server, is_fresh: bool) -> anyhow::Result<String> {
    let superuser = connect(&server.superuser_url("postgres")).await?;
    let role = format!(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{OWNER}') THEN \
         CREATE ROLE {OWNER} LOGIN CREATEROLE; END IF; END $$"
    );
    superuser.batch_execute(&role).await?;
    if is_fresh {
        superuser.batch_execute(&format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")).await?;
    }
    match superuser.batch_execute(&format!("CREATE DATABASE {DATABASE} OWNER {OWNER}")).await {
        Err(error) if error.code() != Some(&SqlState::DUPLICATE_DATABASE) => return Err(error.into()),
        _ => {}
    }
    Ok(server.url(OWNER, DATABASE))
}

/// Empties a database that is not ours to drop.
async fn empty_schema(url: &str) -> anyhow::Result<()> {
    let client = connect(url).await?;
    client
        .batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        .await
        .context("--fresh cannot empty the schema public of the database that DATABASE_URL names")
}

/// How the functions' role connects, as far as the owner's string tells.
///
/// # Errors
/// If the string cannot be read.
pub(crate) fn access_beside(owner_url: &str) -> anyhow::Result<Access> {
    let config: tokio_postgres::Config = owner_url.parse().context("DATABASE_URL cannot be read")?;
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "127.0.0.1".into(),
    };
    Ok(Access {
        host,
        port: config.get_ports().first().copied().unwrap_or(5432),
        name: config.get_dbname().or(config.get_user()).unwrap_or(DATABASE).to_owned(),
        tls: needs_tls(&config),
        url: None,
    })
}

/// Makes sure that the functions' role can connect: gives it a password where the server asks for one, kept in the data
/// directory.
///
/// # Errors
/// If it cannot; the migrations have to have run.
pub(crate) async fn access(owner_url: &str, data_dir: &Path) -> anyhow::Result<Access> {
    let access = access_beside(owner_url)?;
    if can_connect(&access, None).await {
        return Ok(access);
    }
    let file = data_dir.join("app-password");
    let password = match std::fs::read_to_string(&file) {
        Ok(password) => password,
        Err(_) => {
            let password = format!("{:032x}", rand::rng().random::<u128>());
            crate::issuer::write_private(&file, password.as_bytes())?;
            password
        }
    };
    let access = Access { url: Some(app_url(&access, &password)), ..access };
    if !can_connect(&access, access.url.as_deref()).await {
        let owner = connect(owner_url).await?;
        owner.batch_execute(&format!("ALTER ROLE {APP} PASSWORD '{password}'")).await.with_context(|| {
            format!("the functions cannot connect as {APP}, and its password cannot be set by the role of DATABASE_URL")
        })?;
    }
    if !can_connect(&access, access.url.as_deref()).await {
        bail!("the functions cannot connect as {APP} to {}:{}/{}", access.host, access.port, access.name);
    }
    Ok(access)
}

fn app_url(access: &Access, password: &str) -> String {
    let Access { host, port, name, .. } = access;
    format!("host='{host}' port='{port}' dbname='{name}' user='{APP}' password='{password}'")
}

async fn can_connect(access: &Access, url: Option<&str>) -> bool {
    let Access { host, port, name, tls, .. } = access;
    let url = url
        .map_or_else(|| format!("host='{host}' port='{port}' dbname='{name}' user='{APP}'"), str::to_owned);
    match Pool::new(&PoolConfig { url, tls: *tls, iam: false, size: 1, ca_bundle: None }) {
        Ok(pool) => pool.get().await.is_ok(),
        Err(_) => false,
    }
}

fn needs_tls(config: &tokio_postgres::Config) -> bool {
    matches!(config.get_ssl_mode(), tokio_postgres::config::SslMode::Require)
}

async fn connect(url: &str) -> anyhow::Result<tokio_postgres::Client> {
    let parsed: tokio_postgres::Config = url.parse().context("the database's URL cannot be read")?;
    let config =
        PoolConfig { url: url.to_owned(), tls: needs_tls(&parsed), iam: false, size: 1, ca_bundle: None };
    config.connect().await.context("the database does not answer: is it running, and is its URL right?")
}
