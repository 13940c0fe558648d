//! Drives callboard from outside: the command line of `cargo callboard`, HTTP, and the database as its owner.
//!
//! Nothing here imports another crate of the workspace: what a test can see, a user can see. Start at [`Instance::start`].

mod client;
mod process;
mod site;

pub use client::{Answer, Client};
pub use process::{children_of, is_alive, signal, state_of};
pub use site::{Gate, Site, posting_page};

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long anything may take that should happen at once.
pub const SOON: Duration = Duration::from_secs(30);
/// How long a start from nothing may take: a database is made, migrations run, functions start.
const START_LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Set to anything but nothing or `0`, every instance runs behind a pooler.
const POOLER_VARIABLE: &str = "CALLBOARD_TEST_POOLER";

/// A running `cargo callboard up`, stopped when dropped.
#[derive(Debug)]
pub struct Instance {
    child: Child,
    data: PathBuf,
    stderr: std::sync::Arc<Mutex<String>>,
    // Removed after the child has stopped: fields drop in order.
    _directory: Option<tempfile::TempDir>,
}

/// A machine identity.
#[derive(Debug, Clone)]
pub struct Module {
    /// Goes into `X-Module-Id`.
    pub id: String,
    /// Goes into `X-API-Key`.
    pub key: String,
}

impl Instance {
    /// Starts everything in a directory of its own, with these further options of `up`.
    ///
    /// # Panics
    /// If it does not become ready; the message holds what it said.
    #[must_use]
    pub fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let mut instance = Self::start_in(directory.path(), options);
        instance._directory = Some(directory);
        instance
    }

    /// As [`Self::start`], in a directory that outlives the instance.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_in(data: &Path, options: &[&str]) -> Self {
        let mut command = callboard(data);
        command.args(["up", "--port", "0", "--data"]).arg(data).args(options);
        if std::env::var(POOLER_VARIABLE).is_ok_and(|value| !value.is_empty() && value != "0")
            && !options.contains(&"--pooler")
        {
            command.arg("--pooler");
        }
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("callboard starts");
        let stderr = collect(child.stderr.take().expect("standard error is piped"));
        let (ready_tx, ready_rx) = std::sync::mpsc::channel();
        let stdout = child.stdout.take().expect("standard output is piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.starts_with("ready http://") {
                    let _ = ready_tx.send(());
                }
            }
        });
        let instance = Self { child, data: data.to_owned(), stderr, _directory: None };
        assert!(
            ready_rx.recv_timeout(START_LIMIT).is_ok(),
            "callboard did not become ready:\n{}",
            instance.said()
        );
        instance
    }

    /// One instance for all tests of a process, stopped when the process ends. All callers give the same options.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn shared(options: &[&str]) -> &'static Self {
        static SHARED: OnceLock<Instance> = OnceLock::new();
        SHARED.get_or_init(|| {
            let instance = Self::start(options);
            process::stop_at_exit(instance.pid());
            instance
        })
    }

    /// What it printed for a person so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `local.json` as it is now.
    ///
    /// # Panics
    /// If it is not there or no JSON.
    #[must_use]
    pub fn local(&self) -> Value {
        let path = self.data.join("local.json");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).expect("local.json is JSON")
    }

    /// A member of `local.json` that is a string.
    ///
    /// # Panics
    /// If it is absent.
    #[must_use]
    pub fn address(&self, member: &str) -> String {
        let local = self.local();
        local[member].as_str().unwrap_or_else(|| panic!("local.json has no {member}: {local}")).to_owned()
    }

    /// The process ids of a function's environments.
    #[must_use]
    pub fn function_pids(&self, function: &str) -> Vec<u32> {
        let local = self.local();
        let pids = local["functions"][function].as_array().cloned().unwrap_or_default();
        pids.iter().filter_map(|pid| u32::try_from(pid.as_u64()?).ok()).collect()
    }

    /// The data directory, with `local.json` and the logs.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The runner's own process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An HTTP client without credentials.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.address("api"))
    }

    /// An HTTP client that signs in as a person of that role.
    ///
    /// # Panics
    /// If no token is printed.
    #[must_use]
    pub fn person(&self, role: &str) -> Client {
        let token = self.run(&["token", "--role", role]);
        self.client().with("authorization", &format!("Bearer {}", token.trim()))
    }

    /// Makes a machine identity.
    ///
    /// # Panics
    /// If it is refused.
    #[must_use]
    pub fn module(&self, name: &str, scopes: &[&str], trust: &str) -> Module {
        let mut arguments = vec!["module", "create", name, "--trust", trust];
        for scope in scopes {
            arguments.extend(["--scope", scope]);
        }
        let printed: Value = serde_json::from_str(&self.run(&arguments)).expect("module create prints JSON");
        let member = |name: &str| printed[name].as_str().expect("module_id and key are strings").to_owned();
        Module { id: member("module_id"), key: member("key") }
    }

    /// An HTTP client with a connector's credentials, of that trust.
    #[must_use]
    pub fn connector(&self, name: &str, trust: &str) -> (Module, Client) {
        let module = self.module(name, &["discoveries:write", "evidence:write"], trust);
        let client = self.client().with("x-module-id", &module.id).with("x-api-key", &module.key);
        (module, client)
    }

    /// Runs a command of `cargo callboard` against this instance, and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = callboard(&self.data).args(arguments).output().expect("callboard runs");
        assert!(
            output.status.success(),
            "callboard {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("callboard prints UTF-8")
    }

    /// One invocation of a function with this event; returns its answer.
    ///
    /// # Panics
    /// If the invocation fails.
    #[must_use]
    pub fn invoke(&self, function: &str, event: &Value) -> Value {
        let file = self.data.join(format!("event-{function}.json"));
        std::fs::write(&file, event.to_string()).expect("the event can be written");
        let printed = self.run(&["invoke", function, "--event", &file.to_string_lossy()]);
        serde_json::from_str(&printed).unwrap_or(Value::Null)
    }

    /// One run of the schedule's sweep, at once.
    ///
    /// # Panics
    /// If the invocation fails.
    pub fn sweep(&self) {
        let _ = self.invoke("dispatch", &serde_json::json!({ "sweep": true }));
    }

    /// Sends a message to a queue (`wake`, `jobs`, `dead_letters`), with attributes that are text.
    ///
    /// # Panics
    /// If it is refused.
    pub fn send_message(&self, queue: &str, body: &str, attributes: &[(&str, &str)]) {
        let attributes: serde_json::Map<String, Value> = attributes
            .iter()
            .map(|(name, value)| {
                let attribute = serde_json::json!({ "DataType": "String", "StringValue": value });
                ((*name).to_owned(), attribute)
            })
            .collect();
        let message = serde_json::json!({
            "QueueUrl": self.local()["queues"][queue], "MessageBody": body, "MessageAttributes": attributes,
        });
        let answer = Client::new(self.address("sqs_endpoint").trim_end_matches('/').to_owned())
            .with("x-amz-target", "AmazonSQS.SendMessage")
            .send("POST", "/", Some(("application/x-amz-json-1.0", message.to_string().as_bytes())));
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// Lets every lease be over, by the database's clock.
    ///
    /// # Panics
    /// If the database does not answer.
    pub fn expire_leases(&self) {
        let _ = self.sql(
            "UPDATE jobs SET lease_expires_at = now() - interval '1 second', claimed_at = now() - interval '1 minute' \
             WHERE status = 'claimed'",
        );
    }

    /// A statement on the database as its owner; each row's columns as text.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn sql(&self, statement: &str) -> Vec<Vec<Option<String>>> {
        sql(&self.address("database_url"), statement)
    }

    /// The first column of the first row, as text.
    ///
    /// # Panics
    /// If there is no row, or the column is null.
    #[must_use]
    pub fn sql_value(&self, statement: &str) -> String {
        self.sql(statement)
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next().flatten())
            .expect("one value")
    }

    /// Lines of a function's log that are JSON objects.
    #[must_use]
    pub fn log(&self, function: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.data.join("logs").join(format!("{function}.log")))
            .unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Sends a signal to the runner, and waits until it has ended.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn stop(&mut self, signal: i32) -> std::process::ExitStatus {
        process::signal(self.child.id(), signal);
        let mut status = None;
        eventually("the runner ends", || {
            status = self.child.try_wait().expect("the child can be waited for");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        process::signal(self.child.id(), libc::SIGTERM);
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `cargo callboard` with these arguments and no instance.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn callboard_output(data: &Path, arguments: &[&str], input: &str) -> Output {
    callboard_output_with(data, arguments, input, &[])
}

/// As [`callboard_output`], with these further variables in its environment.
///
/// # Panics
/// As [`callboard_output`].
#[must_use]
pub fn callboard_output_with(
    data: &Path,
    arguments: &[&str],
    input: &str,
    variables: &[(&str, &str)],
) -> Output {
    use std::io::Write;
    let mut child = callboard(data)
        .envs(variables.iter().copied())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("callboard starts");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let input = input.to_owned();
    // A thread of its own: a child that prints before it has read everything would wait for us otherwise.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("callboard ends");
    // A child that does not read its input closes the pipe: no failure of ours.
    let _ = writer.join();
    output
}

/// Waits until `condition` holds, looking often.
///
/// # Panics
/// If it does not within [`SOON`].
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "in {} s it did not come about that {what}", SOON.as_secs());
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A statement on a database; each row's columns as text.
///
/// # Panics
/// If it fails.
#[must_use]
pub fn sql(url: &str, statement: &str) -> Vec<Vec<Option<String>>> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    runtime.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("the database answers");
        tokio::spawn(connection);
        let messages =
            client.simple_query(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        messages
            .into_iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
                }
                _ => None,
            })
            .collect()
    })
}

/// Why the server refuses a connection; nothing if it takes it.
///
/// # Panics
/// If nobody answers.
#[must_use]
pub fn refusal(url: &str) -> Option<String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    let error = runtime.block_on(tokio_postgres::connect(url, tokio_postgres::NoTls)).err()?;
    let database = error.as_db_error().unwrap_or_else(|| panic!("{url}: {error:?}"));
    Some(database.message().to_owned())
}

/// The built `callboard`, with the function binaries beside it.
fn callboard(data: &Path) -> Command {
    let bin = binaries();
    let mut command = Command::new(bin.join("callboard"));
    command.env("CALLBOARD_BIN_DIR", bin).env("CALLBOARD_DATA", data).current_dir(workspace());
    command
}

/// The built executable of that name.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    binaries().join(name)
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Builds every binary once a test process, unless `CALLBOARD_BIN_DIR` says where they are: `cargo test` alone builds no other
/// package's binaries. That a test is named too makes Cargo count the features of development dependencies, as `cargo test`
/// does: what they share is compiled once.
fn binaries() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(given) = std::env::var_os("CALLBOARD_BIN_DIR").filter(|given| !given.is_empty()) {
            return given.into();
        }
        let output = Command::new(env!("CARGO"))
            .args(["build", "--workspace", "--bins", "--test", "tidy", "--message-format=json", "--quiet"])
            .current_dir(workspace())
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "the binaries do not build");
        let text = String::from_utf8_lossy(&output.stdout);
        let executable = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["kind"] == serde_json::json!(["bin"]))
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .expect("cargo names an executable");
        executable.parent().expect("an executable is in a directory").to_owned()
    })
}

fn collect(mut stream: impl Read + Send + 'static) -> std::sync::Arc<Mutex<String>> {
    let text = std::sync::Arc::new(Mutex::new(String::new()));
    let shared = text.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            let part = String::from_utf8_lossy(&buffer[..read]).into_owned();
            shared.lock().unwrap_or_else(PoisonError::into_inner).push_str(&part);
        }
    });
    text
}
