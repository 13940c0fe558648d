//! A function: its environments, at rest and at work.

use super::environment::{Environment, Handled};
use super::process::Spawner;
use super::{InvokeError, PAYLOAD_BYTES_MAX};
use crate::template::{ACCOUNT, REGION, STACK};
use axum::body::Bytes;
use rand::RngExt as _;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, Semaphore};

/// How long an invocation waits for one of the function's environments. AWS refuses at once; a laptop that is asked a
/// hundred things at once is better served a moment later, and no function can tell.
const PERMIT_WAIT: Duration = Duration::from_secs(5);
/// An environment may end just as it is given an event; another one takes it then, this often.
const TAKE_TRIES: u32 = 3;
/// A process that ends before its first event is started again after this long, doubled each time.
const RESTART_BASE: Duration = Duration::from_millis(200);
const RESTART_CAP: Duration = Duration::from_secs(10);

/// Starting and replacing call each other: one of the two futures has to have a name.
type BoxFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a function is.
#[derive(Debug, Clone)]
pub struct FunctionConfig {
    /// On the command line and in logs: `api`.
    pub name: String,
    /// In the template: `Api`.
    pub logical_id: String,
    /// The executable.
    pub binary: PathBuf,
    /// Its own variables; it gets the Lambda variables and nothing else besides.
    pub environment: BTreeMap<String, String>,
    /// For one event.
    pub timeout: Duration,
    /// Told to the function.
    pub memory_mb: u32,
    /// Environments at once, at most.
    pub limit: usize,
    /// Where its standard output and error go, a line as it wrote it.
    pub log: PathBuf,
}

impl FunctionConfig {
    /// The name that AWS would give it.
    #[must_use]
    pub fn aws_name(&self) -> String {
        format!("{STACK}-{}", self.logical_id)
    }

    /// The ARN that AWS would give it.
    #[must_use]
    pub fn arn(&self) -> String {
        format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}", self.aws_name())
    }
}

/// One event and what comes with it.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The event, JSON.
    pub payload: Bytes,
    /// The `X-Amzn-Trace-Id` of the caller; made if absent.
    pub trace_header: Option<String>,
}

impl Invocation {
    /// An event without a trace.
    #[must_use]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), trace_header: None }
    }
}

/// A function with its environments. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Function {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: FunctionConfig,
    spawner: Spawner,
    permits: Semaphore,
    environments: Mutex<Environments>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Environments {
    all: Vec<Arc<Environment>>,
    /// The most recently used last: it is the one that is used next, as its caches are warm.
    idle: Vec<Arc<Environment>>,
    is_stopping: bool,
    /// Processes in a row that ended before they asked for an event.
    failed_starts: u32,
}

impl Function {
    /// A function without any environment yet. `changed` is told whenever a process starts or ends.
    #[must_use]
    pub fn new(config: FunctionConfig, spawner: Spawner, changed: Arc<Notify>) -> Self {
        let permits = Semaphore::new(config.limit.max(1));
        Self { inner: Arc::new(Inner { config, spawner, permits, environments: Mutex::default(), changed }) }
    }

    /// Its name: `api`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.config.name
    }

    /// What it is.
    #[must_use]
    pub fn config(&self) -> &FunctionConfig {
        &self.inner.config
    }

    /// The process ids of its environments, oldest first.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.inner.environments().all.iter().map(|environment| environment.pid).collect()
    }

    /// Starts one environment ahead of its first event.
    ///
    /// # Errors
    /// If the binary cannot be started.
    pub async fn warm(&self) -> std::io::Result<()> {
        let environment = self.inner.start().await?;
        self.inner.rest(environment);
        Ok(())
    }

    /// Handles one event in an environment that is idle, or in a new one.
    ///
    /// # Errors
    /// [`InvokeError`]; the function may have done its work in part.
    pub async fn invoke(&self, invocation: Invocation) -> Result<Bytes, InvokeError> {
        let inner = &self.inner;
        let config = &inner.config;
        if invocation.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(InvokeError::EventTooLarge { bytes: invocation.payload.len() });
        }
        let Ok(Ok(_permit)) = tokio::time::timeout(PERMIT_WAIT, inner.permits.acquire()).await else {
            return Err(InvokeError::Throttled { function: config.name.clone(), limit: config.limit });
        };
        let trace_header = invocation.trace_header.unwrap_or_else(new_trace_header);
        for _ in 0..TAKE_TRIES {
            let idle = inner.environments().idle.pop();
            let environment = match idle {
                Some(environment) => environment,
                None => inner.start().await.map_err(|error| InvokeError::Init {
                    function: config.name.clone(),
                    why: error.to_string(),
                })?,
            };
            // A caller that gives up (a client that hangs up) must not take the environment out of the pool.
            let work = {
                let (inner, environment) = (Arc::clone(inner), environment);
                let (payload, trace_header) = (invocation.payload.clone(), trace_header.clone());
                tokio::spawn(async move {
                    let handled = environment.handle(&inner.config, payload, trace_header).await;
                    if matches!(handled, Handled::Done(_)) {
                        inner.rest(environment);
                    }
                    handled
                })
            };
            match work.await {
                Ok(Handled::Done(result)) => return result,
                Ok(Handled::Lost(error)) => return Err(error),
                Ok(Handled::NotTaken) => {}
                Err(error) => {
                    return Err(InvokeError::Crashed {
                        function: config.name.clone(),
                        how: error.to_string(),
                    });
                }
            }
        }
        Err(InvokeError::Crashed { function: config.name.clone(), how: "before it took the event".into() })
    }

    /// Ends every process and waits until it is gone.
    pub async fn stop(&self) {
        let all = {
            let mut environments = self.inner.environments();
            environments.is_stopping = true;
            environments.idle.clear();
            environments.all.clone()
        };
        for environment in &all {
            environment.end();
        }
        for environment in &all {
            environment.ended().await;
        }
    }
}

impl Inner {
    fn environments(&self) -> std::sync::MutexGuard<'_, Environments> {
        self.environments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process that is replaced when it ends.
    async fn start(self: &Arc<Self>) -> std::io::Result<Arc<Environment>> {
        let environment = Environment::start(&self.config, &self.spawner).await?;
        let is_stopping = {
            let mut environments = self.environments();
            environments.all.push(Arc::clone(&environment));
            environments.is_stopping
        };
        if is_stopping {
            // Too late: `stop` has taken its list.
            environment.end();
        }
        self.changed.notify_one();
        let (inner, watched) = (Arc::clone(self), Arc::clone(&environment));
        tokio::spawn(async move { inner.replace_when_ended(watched).await });
        Ok(environment)
    }

    fn rest(&self, environment: Arc<Environment>) {
        let mut environments = self.environments();
        if environments.is_stopping || environment.is_over() {
            return;
        }
        environments.idle.push(environment);
    }

    /// Waits for the environment's end, and replaces it. One that never got to its first event is replaced only if it was the
    /// last, and ever more slowly: a binary that cannot start must not become a storm of processes.
    fn replace_when_ended(self: Arc<Self>, ended: Arc<Environment>) -> BoxFuture {
        Box::pin(async move {
            let how = ended.ended().await;
            let pause = {
                let mut environments = self.environments();
                environments.all.retain(|environment| !Arc::ptr_eq(environment, &ended));
                environments.idle.retain(|environment| !Arc::ptr_eq(environment, &ended));
                if ended.has_started() {
                    environments.failed_starts = 0;
                } else {
                    environments.failed_starts = environments.failed_starts.saturating_add(1);
                }
                let is_replaced = ended.has_started() || environments.all.is_empty();
                let factor = 2_u32.saturating_pow(environments.failed_starts.saturating_sub(1));
                let pause = match environments.failed_starts {
                    0 => Duration::ZERO,
                    _ => RESTART_BASE.saturating_mul(factor).min(RESTART_CAP),
                };
                (is_replaced && !environments.is_stopping).then_some(pause)
            };
            self.changed.notify_one();
            let Some(pause) = pause else { return };
            tracing::warn!(
                function = self.config.name,
                pid = ended.pid,
                how,
                "a process ended; replacing it"
            );
            tokio::time::sleep(pause).await;
            // Meanwhile an event may have had one started.
            if !pause.is_zero() && !self.environments().all.is_empty() {
                return;
            }
            match self.start().await {
                Ok(environment) => self.rest(environment),
                Err(error) => {
                    tracing::warn!(function = self.config.name, %error, "a process cannot be replaced");
                }
            }
        })
    }
}

/// `X-Amzn-Trace-Id` of an untraced event (AWS X-Ray, "Tracing header").
pub(crate) fn new_trace_header() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (high, low): (u32, u64) = (rand::rng().random(), rand::rng().random());
    let parent: u64 = rand::rng().random();
    format!("Root=1-{seconds:08x}-{high:08x}{low:016x};Parent={parent:016x};Sampled=0")
}
