//! A migrated database of its own for each test, on a real PostgreSQL server.
//!
//! [`TestDb::new`] starts one server a test process (or uses the one that `DATABASE_URL` names), migrates a template once,
//! and clones it. The server and its directory are gone when the process ends.
//!
//! With `CALLBOARD_TEST_POOLER=1` the functions' role comes in by pgbouncer in transaction mode, and in no other way: the
//! server refuses its direct connections. The owner and the migrations go past the pooler, as in production. One pooler
//! stands in front of one test process's server. Where pgbouncer is not installed, every test fails and says so.

mod wire;

pub use wire::{Said, Wire};

use local_postgres::{Durability, Pooler, PoolerOptions, Server, StartOptions};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use store::{Pool, PoolConfig};
use tokio_postgres::Client;

const OWNER: &str = "callboard_owner";
const APP: &str = "callboard_app";
const POOL_SIZE: usize = 8;
/// Names a directory whose migrations are applied instead of this release's, for tests of the tests.
const MIGRATIONS: &str = "CALLBOARD_TEST_MIGRATIONS";
/// Set to anything but nothing or `0`, it puts the pooler in between.
const POOLER_VARIABLE: &str = "CALLBOARD_TEST_POOLER";
/// Server connections for each database behind the pooler: tests hold a few transactions open beside those of a pool.
const POOLER_SIZE: u32 = 16;
/// Server connections that are open before a test begins: a lone client's statements go round on them.
const POOLER_WARM: usize = 3;

static DURABILITY: OnceLock<Durability> = OnceLock::new();

/// Has the server of this process keep PostgreSQL's defaults instead of doing without fsync: for benchmarks, whose
/// figures would mean nothing otherwise. Call it before the first [`TestDb::new`].
///
/// # Panics
/// If the server runs already.
pub fn durable() {
    assert!(DURABILITY.set(Durability::Durable).is_ok(), "the server has been started already");
}

/// One database. It is dropped with its server.
#[derive(Debug)]
pub struct TestDb {
    name: String,
}

impl TestDb {
    /// Clones the migrated template.
    ///
    /// # Panics
    /// If there is no server to be had or the migrations fail: the test cannot go on.
    pub async fn new() -> Self {
        let name = format!("test_{}", uuid::Uuid::now_v7().simple());
        let create = format!("CREATE DATABASE {name} TEMPLATE {} OWNER {OWNER}", template());
        tokio::task::spawn_blocking(move || {
            on_own_runtime(async move { superuser().await.batch_execute(&create).await })
        })
        .await
        .expect("the task ends")
        .expect("a database can be cloned");
        let db = Self { name };
        db.warm_the_pooler().await;
        db
    }

    /// Opens server connections by transactions at once, so that a client with one statement after another meets several.
    async fn warm_the_pooler(&self) {
        if pooler().is_none() {
            return;
        }
        let mut clients = Vec::with_capacity(POOLER_WARM);
        for _ in 0..POOLER_WARM {
            let client = self.app().await;
            client.batch_execute("BEGIN").await.expect("a transaction begins");
            clients.push(client);
        }
        for client in clients {
            client.batch_execute("ROLLBACK").await.expect("a transaction ends");
        }
    }

    /// An empty database, for tests of the migrations themselves.
    ///
    /// # Panics
    /// As [`TestDb::new`].
    pub async fn empty() -> Self {
        let name = format!("test_{}", uuid::Uuid::now_v7().simple());
        let _ = template();
        superuser()
            .await
            .batch_execute(&format!("CREATE DATABASE {name} OWNER {OWNER}"))
            .await
            .expect("a database can be made");
        Self { name }
    }

    /// The connection string of the schema's owner.
    #[must_use]
    pub fn owner_url(&self) -> String {
        url(OWNER, &self.name)
    }

    /// The connection string of the functions' role: through the pooler where there is one.
    #[must_use]
    pub fn app_url(&self) -> String {
        pooler().map_or_else(|| url(APP, &self.name), |pooler| pooler.url(APP, &self.name))
    }

    /// A connection as the functions' role with a session of its own, also where there is a pooler: for a test whose own rig
    /// needs one, such as a clock that is set for a session. What such a test runs is not tried behind the pooler.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn session(&self) -> Client {
        match host() {
            Host::Own { pooler: Some(_), server } => connect(&server.socket_url(APP, &self.name)).await,
            _ => self.app().await,
        }
    }

    /// The functions' role past the pooler: what a server with a pooler refuses.
    #[must_use]
    pub fn direct_app_url(&self) -> String {
        url(APP, &self.name)
    }

    /// A way to the server, by the pooler where there is one, that writes down what goes over it.
    ///
    /// # Panics
    /// If no port can be listened on.
    pub async fn wire(&self) -> Wire {
        let url = self.app_url();
        let upstream = url.split_once('@').and_then(|(_, rest)| rest.split_once('/')).map(|(host, _)| host);
        Wire::start(upstream.expect("the URL names a host").to_owned()).await
    }

    /// A connection as the owner.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn owner(&self) -> Client {
        connect(&self.owner_url()).await
    }

    /// A connection as the functions' role.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn app(&self) -> Client {
        connect(&self.app_url()).await
    }

    /// A pool as the functions' role.
    ///
    /// # Panics
    /// Never: the configuration is constant.
    #[must_use]
    pub fn pool(&self) -> Pool {
        pool_of(self.app_url(), POOL_SIZE)
    }

    /// A pool of one connection as the functions' role, and the way that it takes to the server.
    ///
    /// # Panics
    /// As [`Self::wire`].
    pub async fn wired_pool(&self) -> (Wire, Pool) {
        let wire = self.wire().await;
        let pool = pool_of(wire.url(&self.app_url()), 1);
        (wire, pool)
    }
}

/// A pool of at most `size` connections to the server of a test, without TLS.
///
/// # Panics
/// If `url` is no connection string.
#[must_use]
pub fn pool_of(url: String, size: usize) -> Pool {
    Pool::new(&PoolConfig { url, tls: false, iam: false, size, ca_bundle: None })
        .expect("the configuration is valid")
}

enum Host {
    Own { pooler: Option<Pooler>, server: Server },
    Given(String),
}

/// The pooler in front of this process's server, if [`CALLBOARD_TEST_POOLER`](self) asks for one.
///
/// # Panics
/// If there is no server or no pooler to be had.
#[must_use]
pub fn pooler() -> Option<&'static Pooler> {
    match host() {
        Host::Own { pooler, .. } => pooler.as_ref(),
        Host::Given(_) => None,
    }
}

fn wants_pooler() -> bool {
    std::env::var(POOLER_VARIABLE).is_ok_and(|value| !value.is_empty() && value != "0")
}

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let is_pooled = wants_pooler();
        if let Some(url) = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
            assert!(
                !is_pooled,
                "{POOLER_VARIABLE} needs a server of the tests' own, which takes the functions' role from its pooler \
                 alone: unset DATABASE_URL"
            );
            return Host::Given(url);
        }
        if is_pooled {
            // Before a server is started for each test that then fails.
            Pooler::check().unwrap_or_else(|error| panic!("{POOLER_VARIABLE} is set: {error}"));
        }
        let root = root();
        remove_abandoned(&root);
        let options = StartOptions {
            data_dir: root.join(std::process::id().to_string()),
            npm_cache: std::env::temp_dir().join("callboard-postgres-npm"),
            durability: *DURABILITY.get_or_init(|| Durability::Fast),
            pooled_role: is_pooled.then_some(APP),
        };
        let server = Server::start(&options).unwrap_or_else(|error| panic!("{error}"));
        let pooler = is_pooled.then(|| {
            Pooler::start(&server, &PoolerOptions { roles: &[APP], pool_size: POOLER_SIZE })
                .unwrap_or_else(|error| panic!("{POOLER_VARIABLE} is set: {error}"))
        });
        at_exit();
        Host::Own { pooler, server }
    })
}

fn root() -> PathBuf {
    std::env::temp_dir().join("callboard-testdb")
}

/// Directories of processes that were killed before they could tidy up.
fn remove_abandoned(root: &std::path::Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_alive = name.to_str().is_some_and(|pid| std::path::Path::new("/proc").join(pid).exists());
        if !is_alive {
            // Another test process may be removing the same directory: whoever is first wins.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Statics are not dropped: the server is stopped, and its directory removed, by the C library's exit hook.
fn at_exit() {
    extern "C" fn stop() {
        if let Host::Own { pooler, server } = host() {
            for pid in pooler.iter().map(Pooler::pid).chain([server.pid()]) {
                #[allow(unsafe_code, reason = "kill takes two integers")]
                // SAFETY: kill has no preconditions.
                unsafe {
                    libc::kill(i32::try_from(pid).unwrap_or(i32::MAX), libc::SIGKILL);
                }
            }
            let _ = std::fs::remove_dir_all(server.data_dir());
        }
    }
    #[allow(unsafe_code, reason = "the only way to run code when a test process ends")]
    // SAFETY: `stop` is a plain function that does not unwind across the boundary.
    unsafe {
        libc::atexit(stop);
    }
}

fn url(user: &str, database: &str) -> String {
    match host() {
        Host::Own { server, .. } => server.url(user, database),
        Host::Given(given) => {
            let rest = given.split_once("://").map_or(given.as_str(), |(_, rest)| rest);
            let host = rest.split('/').next().unwrap_or_default();
            let host = host.rsplit('@').next().unwrap_or(host);
            format!("postgres://{user}@{host}/{database}")
        }
    }
}

async fn superuser() -> Client {
    match host() {
        Host::Own { server, .. } => connect(&server.superuser_url("postgres")).await,
        Host::Given(url) => connect(url).await,
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap_or_else(|error| panic!("{url}: {error}"));
    tokio::spawn(connection);
    client
}

/// The migrated template's name; made once a process.
fn template() -> String {
    static MADE: Mutex<Option<String>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.get_or_insert_with(|| {
        let name = format!("template_{}", std::process::id());
        let database = name.clone();
        std::thread::spawn(move || on_own_runtime(make_template(&database)))
            .join()
            .expect("the template can be made");
        name
    })
    .clone()
}

async fn make_template(name: &str) {
    let superuser = superuser().await;
    let roles = format!(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{OWNER}') THEN \
         CREATE ROLE {OWNER} LOGIN CREATEROLE; END IF; END $$"
    );
    superuser.batch_execute(&roles).await.expect("the owner's role can be made");
    superuser
        .batch_execute(&format!("DROP DATABASE IF EXISTS {name}"))
        .await
        .expect("an old template can be dropped");
    superuser
        .batch_execute(&format!("CREATE DATABASE {name} OWNER {OWNER}"))
        .await
        .expect("a template can be made");
    let mut owner = connect(&url(OWNER, name)).await;
    let migrations = match std::env::var_os(MIGRATIONS) {
        Some(directory) => store::migrations::from_directory(directory.as_ref()),
        None => store::migrations::embedded(),
    };
    let migrations = migrations.expect("the migrations are well named");
    store::migrations::apply(&mut owner, &migrations).await.unwrap_or_else(|error| panic!("{error}"));
}

fn on_own_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built")
        .block_on(future)
}
