//! pgbouncer in transaction mode in front of a [`Server`]: what stands between Lambda functions and a database in
//! production (RDS Proxy, pgbouncer), and the strictest form of it.
//!
//! Each transaction of a client may run on another server connection, and does: they are taken in turns. Nothing is reset
//! between clients, and no prepared statement is carried along. So code that relies on its session fails here.

use crate::process::{self, Ending, Guarded, Start};
use crate::server::{Server, free_port};
use crate::{Error, SUPERUSER};
use std::fs::File;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The program that is used in place of one that is found.
const PROGRAM_VARIABLE: &str = "CALLBOARD_PGBOUNCER";
/// Debian's package puts it where only root's `PATH` looks.
const DIRECTORIES: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
/// The first version that knows the setting `max_prepared_statements`; older ones carry none along.
const KNOWS_PREPARED_STATEMENTS: (u32, u32) = (1, 21);
const READY_LIMIT: Duration = Duration::from_secs(20);
/// SIGTERM is pgbouncer's immediate shutdown; SIGINT would wait for its clients.
const ENDING: Ending = Ending { signal: libc::SIGTERM, limit: Duration::from_secs(5) };
const START_TRIES: u32 = 5;
/// Where the transaction of a client waits for longer than this for a server connection, the client is told.
const QUERY_WAIT_S: u32 = 10;
/// Server connections that nobody uses any more: a test process opens many databases one after another.
const SERVER_IDLE_S: u32 = 2;

/// How to start a pooler.
#[derive(Debug, Clone, Copy)]
pub struct PoolerOptions<'a> {
    /// The roles that may come in. They need no password, as with the server itself.
    pub roles: &'a [&'a str],
    /// The most server connections for each role and database.
    pub pool_size: u32,
}

/// A running pgbouncer on 127.0.0.1. Dropping it stops it; one that ends in any other way is started again.
#[derive(Debug)]
pub struct Pooler {
    port: u16,
    process: Guarded,
}

impl Pooler {
    /// Whether pgbouncer is there, before anything is started.
    ///
    /// # Errors
    /// [`Error::NoPooler`] with every place that was tried.
    pub fn check() -> Result<(), Error> {
        find().map(|_| ())
    }

    /// Finds pgbouncer, starts it in front of `server`, and waits until it takes connections. `server` must have been
    /// started with a `pooled_role`, or it has no socket.
    ///
    /// # Errors
    /// [`Error::NoPooler`] if it is not installed, [`Error::Failed`] with what it printed, [`Error::NotReady`].
    pub fn start(server: &Server, options: &PoolerOptions<'_>) -> Result<Self, Error> {
        let (program, version) = find()?;
        let mut last = None;
        for _ in 0..START_TRIES {
            // The port is free now and may be taken before pgbouncer binds it: hence the tries.
            match Self::start_once(&program, version, server, free_port()?, options) {
                Ok(pooler) => return Ok(pooler),
                Err(error @ Error::Failed { .. }) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(Error::NoPooler { tried: vec![program.display().to_string()] }))
    }

    fn start_once(
        program: &Path,
        version: (u32, u32),
        server: &Server,
        port: u16,
        options: &PoolerOptions<'_>,
    ) -> Result<Self, Error> {
        let io = |doing| move |source| Error::Io { doing, source };
        let directory = server.data_dir().join("pooler");
        std::fs::create_dir_all(&directory).map_err(io("make the pooler's directory"))?;
        let (users, ini, log_path) =
            (directory.join("users.txt"), directory.join("pgbouncer.ini"), directory.join("pgbouncer.log"));
        let known: String =
            options.roles.iter().chain([&SUPERUSER]).map(|role| format!("\"{role}\" \"\"\n")).collect();
        std::fs::write(&users, known).map_err(io("write the pooler's configuration"))?;
        std::fs::write(&ini, configuration(server, port, &users, version, options))
            .map_err(io("write the pooler's configuration"))?;
        let log = File::create(&log_path).map_err(io("write the pooler's log"))?;
        process::give_away(&directory).map_err(io("write the pooler's configuration"))?;
        let mut command = Command::new(program);
        command.arg(&ini).current_dir("/").stdin(std::process::Stdio::null());
        command.stdout(log.try_clone().map_err(io("write the pooler's log"))?).stderr(log);
        process::drop_root(&mut command);
        let start = Start { program: "pgbouncer", name: "pgbouncer", log: &log_path, limit: READY_LIMIT };
        // The log tells this process's own listening from a stranger's who has the port.
        let listening = format!("listening on 127.0.0.1:{port}");
        let is_ready = |_| {
            std::fs::read_to_string(&log_path).is_ok_and(|log| log.contains(&listening))
                && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        };
        let process = Guarded::spawn(command, ENDING, "start pgbouncer")?.keep_once_ready(start, is_ready)?;
        Ok(Self { port, process })
    }

    /// The connection string of `role` on `database`, through the pooler.
    #[must_use]
    pub fn url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// The connection string of pgbouncer's own console, which takes `SHOW STATS` and the like as simple queries.
    #[must_use]
    pub fn console_url(&self) -> String {
        self.url(SUPERUSER, "pgbouncer")
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id; another one after a crash.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// `server_round_robin` puts a client's transactions on all server connections in turn: by default the one that was used
/// last is used again, and a lone client would never notice that it has no session.
fn configuration(
    server: &Server,
    port: u16,
    users: &Path,
    version: (u32, u32),
    options: &PoolerOptions<'_>,
) -> String {
    let prepared = if version >= KNOWS_PREPARED_STATEMENTS { "max_prepared_statements = 0\n" } else { "" };
    format!(
        "[databases]\n\
         * = host={socket} port={server_port}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = trust\n\
         auth_file = {users}\n\
         admin_users = {SUPERUSER}\n\
         pool_mode = transaction\n\
         default_pool_size = {pool_size}\n\
         max_client_conn = 1000\n\
         server_round_robin = 1\n\
         server_reset_query =\n\
         server_idle_timeout = {SERVER_IDLE_S}\n\
         query_wait_timeout = {QUERY_WAIT_S}\n\
         log_connections = 0\n\
         log_disconnections = 0\n\
         {prepared}",
        socket = server.data_dir().display(),
        server_port = server.port(),
        users = users.display(),
        pool_size = options.pool_size,
    )
}

/// The program, and its major and minor version.
fn find() -> Result<(PathBuf, (u32, u32)), Error> {
    let candidates: Vec<PathBuf> = match std::env::var_os(PROGRAM_VARIABLE) {
        Some(explicit) => vec![PathBuf::from(explicit)],
        None => std::env::var_os("PATH")
            .map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
            .unwrap_or_default()
            .into_iter()
            .chain(DIRECTORIES.map(PathBuf::from))
            .map(|directory| directory.join("pgbouncer"))
            .filter(|program| program.is_file())
            .collect(),
    };
    let mut tried = Vec::new();
    for program in candidates {
        match version(&program) {
            Ok(version) => return Ok((program, version)),
            Err(why) => tried.push(format!("{} ({why})", program.display())),
        }
    }
    if tried.is_empty() {
        tried.push("the PATH and the usual directories (no pgbouncer there)".into());
    }
    Err(Error::NoPooler { tried })
}

/// `pgbouncer --version` begins with a line such as `PgBouncer 1.18.0`.
fn version(program: &Path) -> Result<(u32, u32), String> {
    let output = Command::new(program).arg("--version").output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut parts = text
        .strip_prefix("PgBouncer ")
        .unwrap_or_default()
        .split(['.', '\n', ' '])
        .map_while(|part| part.parse::<u32>().ok());
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => Err(format!("unreadable version {text:?}")),
    }
}
