//! Lambda's Runtime API for one process of a shipped binary, with what AWS does around an event: freeze, thaw, SIGTERM, and
//! SIGKILL at the time-out.

use crate::http;
use acceptance::signal;
use serde_json::{Value, json};
use std::fs::File;
use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SOON: Duration = Duration::from_secs(30);

/// What came of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The function's answer.
    pub body: String,
    /// From handing the event over to the answer.
    pub took: Duration,
}

/// An event on its way: the time that it has, and its JSON.
type Work = (Duration, String);

#[derive(Debug)]
struct Api {
    work: Mutex<Receiver<Work>>,
    replies: Sender<String>,
    asked: Sender<()>,
    number: AtomicU64,
}

/// One environment.
#[derive(Debug)]
pub struct Runtime {
    child: Child,
    work: Sender<Work>,
    replies: Receiver<String>,
    asked: Receiver<()>,
    log: PathBuf,
}

impl Runtime {
    /// Starts a binary and waits until it asks for its first event; `log` takes what it writes to either output, as CloudWatch
    /// does.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn start(binary: &Path, log: &Path, environment: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let (work, inbox) = channel();
        let (replies_tx, replies) = channel();
        let (asked_tx, asked) = channel();
        let api = Arc::new(Api {
            work: Mutex::new(inbox),
            replies: replies_tx,
            asked: asked_tx,
            number: AtomicU64::new(0),
        });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let api = Arc::clone(&api);
                std::thread::spawn(move || serve(stream, &api));
            }
        });
        let output = File::options().create(true).append(true).open(log).expect("the log can be opened");
        let errors = output.try_clone().expect("a file has two handles");
        let child = Command::new(binary)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "proof")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "none")
            .env("AWS_SECRET_ACCESS_KEY", "none")
            // Nobody listens there: what is asked of the function here needs neither.
            .env("DATABASE_URL", "postgres://callboard_app@127.0.0.1:9/none")
            .env("DATABASE_TLS", "disable")
            .env("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9")
            .env("WAKE_QUEUE_URL", "http://127.0.0.1:9/1/Wake")
            .env("JOBS_QUEUE_URL", "http://127.0.0.1:9/1/Jobs")
            .env("DEAD_LETTER_QUEUE_URL", "http://127.0.0.1:9/1/Dead")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .expect("the binary starts");
        let runtime = Self { child, work, replies, asked, log: log.to_owned() };
        let asked = runtime.asked.recv_timeout(SOON);
        assert!(asked.is_ok(), "the function does not ask for an event: {}", runtime.text());
        runtime
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Hands one event over; `None` if no answer came within its time.
    pub fn invoke(&self, event: &Value, time: Duration) -> Option<Reply> {
        let started = Instant::now();
        self.work.send((time, event.to_string())).expect("the server lives");
        match self.replies.recv_timeout(time) {
            Ok(body) => {
                let took = started.elapsed();
                self.asked.recv_timeout(SOON).expect("the function asks for the next event");
                Some(Reply { body, took })
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the server lives"),
        }
    }

    /// Stops the process as a freeze does.
    pub fn freeze(&self) {
        signal(self.pid(), libc::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        signal(self.pid(), libc::SIGCONT);
    }

    /// Sends SIGTERM and waits for the end; returns the lines of its log.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    pub fn terminate(mut self) -> Vec<Value> {
        signal(self.pid(), libc::SIGTERM);
        let deadline = Instant::now() + SOON;
        while matches!(self.child.try_wait(), Ok(None)) {
            assert!(Instant::now() < deadline, "the function does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.lines()
    }

    /// Ends it as a time-out does.
    pub fn kill(mut self) -> Vec<Value> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.lines()
    }

    /// Its log so far.
    #[must_use]
    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The lines of its log so far that are JSON.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        self.text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(stream: TcpStream, api: &Api) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let _ = writer.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    while let Ok(Some(request)) = http::read(&mut reader) {
        let written = match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/2020-01-01/extension/register") => {
                http::write(&mut writer, 200, &[("lambda-extension-identifier", "1")], b"{}")
            }
            // Held until the process ends.
            ("GET", "/2020-01-01/extension/event/next") => continue,
            ("GET", "/2018-06-01/runtime/invocation/next") => {
                let _ = api.asked.send(());
                let next = api.work.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok((time, event)) = next else { return };
                let deadline = SystemTime::now() + time;
                let deadline = deadline.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
                let id = format!("request-{}", api.number.fetch_add(1, Ordering::Relaxed));
                let headers = [
                    ("lambda-runtime-aws-request-id", id.as_str()),
                    ("lambda-runtime-deadline-ms", &deadline.to_string()),
                    ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:1:function:proof"),
                    ("content-type", "application/json"),
                ];
                http::write(&mut writer, 200, &headers, event.as_bytes())
            }
            ("POST", path) if path.starts_with("/2018-06-01/runtime/invocation/") => {
                let _ = api.replies.send(String::from_utf8_lossy(&request.body).into_owned());
                http::write(&mut writer, 202, &[], b"{}")
            }
            _ => http::write(&mut writer, 404, &[], b"{}"),
        };
        if written.is_err() {
            return;
        }
    }
}

/// An API Gateway event of payload 2.0.
#[must_use]
pub fn request_event(method: &str, path: &str, headers: &[(&str, &str)]) -> Value {
    let headers: serde_json::Map<String, Value> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "headers": headers,
        "requestContext": {
            "accountId": "1", "apiId": "proof", "domainName": "proof.example.org", "domainPrefix": "proof",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "proof"},
            "requestId": "gateway", "routeKey": "$default", "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000", "timeEpoch": 1_767_225_600_000_u64,
        },
        "isBase64Encoded": false,
    })
}
