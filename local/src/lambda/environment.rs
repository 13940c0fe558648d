//! One environment: one process of a function, and the Runtime API that it talks to.

use super::function::FunctionConfig;
use super::process::{Spawner, signal_group};
use super::runtime_api::{Answer, RuntimeApi, Work};
use super::{INIT_LIMIT, InvokeError, TERM_LIMIT};
use crate::serve;
use crate::template::REGION;
use axum::body::Bytes;
use std::fs::OpenOptions;
use std::process::Stdio;
use std::sync::Arc;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use uuid::Uuid;

/// How the process ended; `None` while it runs.
type Ending = Option<String>;

/// A running environment. It ends when it is asked to ([`Environment::end`]) or its process does.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) pid: u32,
    work: mpsc::Sender<Work>,
    api: Arc<RuntimeApi>,
    ending: watch::Receiver<Ending>,
    end: Arc<Notify>,
}

/// How one event went in one environment.
#[derive(Debug)]
pub(super) enum Handled {
    /// The environment is good for another.
    Done(Result<Bytes, InvokeError>),
    /// The environment is gone.
    Lost(InvokeError),
    /// The process had ended before it took the event: another environment can have it.
    NotTaken,
}

impl Environment {
    /// Starts a process with a cleared environment and the function's variables.
    pub(super) async fn start(config: &FunctionConfig, spawner: &Spawner) -> std::io::Result<Arc<Self>> {
        let (work, inbox) = mpsc::channel(1);
        let api = RuntimeApi::new(inbox, config.arn(), config.timeout);
        let server = serve::Server::start(serve::LOOPBACK, 0, api.router()).await?;
        let mut command = command(config, server.port())?;
        let log = OpenOptions::new().create(true).append(true).open(&config.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = spawner.spawn(command).await?;
        let pid = child.id().unwrap_or_default();
        let (ending_tx, ending) = watch::channel(None);
        let end = Arc::new(Notify::new());
        let environment = Arc::new(Self { pid, work, api: Arc::clone(&api), ending, end: Arc::clone(&end) });
        tokio::spawn(async move {
            let how = watch_over(child, &end).await;
            api.abandon();
            ending_tx.send_replace(Some(how));
            drop(server);
        });
        Ok(environment)
    }

    /// Asks the process to end: SIGTERM, then SIGKILL.
    pub(super) fn end(&self) {
        self.end.notify_one();
    }

    /// Waits until the process has ended; how it did.
    pub(super) async fn ended(&self) -> String {
        let mut ending = self.ending.clone();
        match ending.wait_for(Option::is_some).await {
            Ok(ending) => ending.clone().unwrap_or_default(),
            Err(_) => "its watcher is gone".into(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.ending.borrow().is_some()
    }

    /// Whether the process has got as far as asking for its first event.
    pub(super) fn has_started(&self) -> bool {
        self.api.has_asked()
    }

    /// Hands one event over and waits for its answer, for the function's time-out at most.
    pub(super) async fn handle(
        &self,
        config: &FunctionConfig,
        payload: Bytes,
        trace_header: String,
    ) -> Handled {
        let (taken, was_taken) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let work = Work { payload, trace_header, taken, answer };
        if self.is_over() || self.work.try_send(work).is_err() {
            return Handled::NotTaken;
        }
        let init = async {
            tokio::select! {
                taken = was_taken => taken.map_err(|_| "its runtime is gone".to_owned()),
                how = self.ended() => Err(format!("its process ended ({how})")),
            }
        };
        let function = || config.name.clone();
        match tokio::time::timeout(INIT_LIMIT, init).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) if self.has_started() => return Handled::NotTaken,
            Ok(Err(why)) => {
                let why = self.api.init_error().map_or(why, |error| error.to_string());
                return Handled::Lost(InvokeError::Init { function: function(), why });
            }
            Err(_) => {
                self.end();
                let why = format!("it asked for no event within {} s", INIT_LIMIT.as_secs());
                return Handled::Lost(InvokeError::Init { function: function(), why });
            }
        }
        let answered = async {
            tokio::select! {
                // An answer that was given before the process ended counts.
                biased;
                Ok(answer) = answered => Ok(answer),
                how = self.ended() => Err(how),
            }
        };
        match tokio::time::timeout(config.timeout, answered).await {
            Ok(Ok(Answer::Response(body))) => Handled::Done(Ok(body)),
            Ok(Ok(Answer::Error(error))) => {
                Handled::Done(Err(InvokeError::Reported { function: function(), error }))
            }
            Ok(Err(how)) => Handled::Lost(InvokeError::Crashed { function: function(), how }),
            Err(_) => {
                self.end();
                Handled::Lost(InvokeError::TimedOut {
                    function: function(),
                    seconds: config.timeout.as_secs_f64(),
                })
            }
        }
    }
}

/// Waits for the process to end by itself, or ends it.
async fn watch_over(mut child: Child, end: &Notify) -> String {
    let pid = child.id();
    let status = tokio::select! {
        status = child.wait() => status,
        () = end.notified() => {
            // Until it has been waited for, the process keeps its number: no other can be hit.
            let signal = |signal| pid.map_or((), |pid| signal_group(pid, signal));
            signal(libc::SIGTERM);
            match tokio::time::timeout(TERM_LIMIT, child.wait()).await {
                Ok(status) => status,
                Err(_) => {
                    signal(libc::SIGKILL);
                    child.wait().await
                }
            }
        }
    };
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

/// The variables that AWS sets (AWS, "Defined runtime environment variables"), and the function's own over them.
fn command(config: &FunctionConfig, runtime_port: u16) -> std::io::Result<Command> {
    let binary = std::path::absolute(&config.binary)?;
    let mut command = Command::new(&binary);
    command.env_clear().current_dir("/");
    let stream =
        format!("{}/[$LATEST]{}", jiff::Timestamp::now().strftime("%Y/%m/%d"), Uuid::new_v4().simple());
    command
        .env("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{runtime_port}"))
        .env("AWS_LAMBDA_FUNCTION_NAME", config.aws_name())
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", config.memory_mb.to_string())
        .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", config.aws_name()))
        .env("AWS_LAMBDA_LOG_STREAM_NAME", stream)
        .env("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023")
        .env("AWS_REGION", REGION)
        .env("AWS_DEFAULT_REGION", REGION)
        // Without credentials the SDK would go looking for them on the network.
        .env("AWS_ACCESS_KEY_ID", "local")
        .env("AWS_SECRET_ACCESS_KEY", "local")
        .env("AWS_SESSION_TOKEN", "local")
        .env("LAMBDA_TASK_ROOT", binary.parent().unwrap_or(&binary))
        .env("LAMBDA_RUNTIME_DIR", "/var/runtime")
        .env("_HANDLER", "bootstrap")
        .env("LANG", "en_US.UTF-8")
        .env("PATH", "/usr/local/bin:/usr/bin/:/bin")
        .env("TZ", ":UTC")
        .envs(&config.environment);
    Ok(command)
}
