//! A Lambda runtime for each function: the Runtime API, and environments that are real processes of the real binary.
//!
//! Start at [`Function::invoke`]. An environment handles one event at a time; a function has as many as it needs at once,
//! up to its limit. An invocation that runs past the function's time-out costs the environment its life, as on AWS.
//! A process that ends is replaced.

mod environment;
mod function;
mod process;
mod runtime_api;

pub(crate) use function::new_trace_header;
pub use function::{Function, FunctionConfig, Invocation};
pub use process::Spawner;

use serde_json::{Value, json};
use std::time::Duration;

/// A synchronous invocation takes and gives at most this much (AWS, "Lambda quotas").
pub const PAYLOAD_BYTES_MAX: usize = 6 * 1024 * 1024;

/// How an invocation failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InvokeError {
    /// The function reported an error.
    #[error("the function {function} failed: {error}")]
    Reported {
        /// The function's name.
        function: String,
        /// `errorType`, `errorMessage`, as it reported them.
        error: Value,
    },
    /// The process ended in the middle of it.
    #[error("the process of {function} ended ({how}) while it handled an event; see its log")]
    Crashed {
        /// The function's name.
        function: String,
        /// Its exit status or signal.
        how: String,
    },
    /// The time-out passed; the process was ended.
    #[error("{function} timed out after {seconds} s")]
    TimedOut {
        /// The function's name.
        function: String,
        /// The function's time-out.
        seconds: f64,
    },
    /// The process did not get as far as asking for its first event.
    #[error("{function} did not start: {why}; see its log")]
    Init {
        /// The function's name.
        function: String,
        /// What happened.
        why: String,
    },
    /// All environments that the function may have are busy.
    #[error("{function} is at its limit of {limit} environments")]
    Throttled {
        /// The function's name.
        function: String,
        /// The limit.
        limit: usize,
    },
    /// The event is larger than [`PAYLOAD_BYTES_MAX`].
    #[error("the event of {bytes} bytes is larger than {PAYLOAD_BYTES_MAX}")]
    EventTooLarge {
        /// Its size.
        bytes: usize,
    },
}

impl InvokeError {
    /// What AWS answers as the payload of a failed invocation: `errorType` and `errorMessage`.
    #[must_use]
    pub fn payload(&self) -> Value {
        match self {
            Self::Reported { error, .. } => error.clone(),
            Self::Crashed { .. } => {
                json!({"errorType": "Runtime.ExitError", "errorMessage": self.to_string()})
            }
            Self::TimedOut { .. } => {
                json!({"errorType": "Sandbox.Timedout", "errorMessage": self.to_string()})
            }
            Self::Init { .. } => json!({"errorType": "Runtime.InitError", "errorMessage": self.to_string()}),
            Self::Throttled { .. } => {
                json!({"errorType": "TooManyRequestsException", "errorMessage": self.to_string()})
            }
            Self::EventTooLarge { .. } => {
                json!({"errorType": "RequestEntityTooLargeException", "errorMessage": self.to_string()})
            }
        }
    }
}

/// AWS gives a function 10 s to ask for its first event (AWS, "Lambda runtime environment lifecycle").
const INIT_LIMIT: Duration = Duration::from_secs(10);
/// From SIGTERM to SIGKILL.
const TERM_LIMIT: Duration = Duration::from_millis(500);

/// Lambda's own `Invoke` (AWS, "Lambda API reference"), for functions by name: `POST /2015-03-31/functions/NAME/invocations`.
pub fn endpoint(functions: Vec<Function>) -> axum::Router {
    use axum::extract::{DefaultBodyLimit, Path, State};
    use axum::http::StatusCode;
    use axum::response::{IntoResponse as _, Response};

    async fn invoke(
        State(functions): State<std::sync::Arc<Vec<Function>>>,
        Path(name): Path<String>,
        payload: axum::body::Bytes,
    ) -> Response {
        let is_named = |function: &&Function| function.name() == name || function.config().aws_name() == name;
        let Some(function) = functions.iter().find(is_named) else {
            return (
                StatusCode::NOT_FOUND,
                axum::Json(json!({"message": format!("Function not found: {name}")})),
            )
                .into_response();
        };
        let payload = if payload.is_empty() { "{}".into() } else { payload };
        match function.invoke(Invocation::new(payload)).await {
            Ok(answer) => answer.into_response(),
            Err(error) => {
                let status = match error {
                    InvokeError::Throttled { .. } => StatusCode::TOO_MANY_REQUESTS,
                    InvokeError::EventTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                    _ => StatusCode::OK,
                };
                (status, [("x-amz-function-error", "Unhandled")], axum::Json(error.payload())).into_response()
            }
        }
    }

    axum::Router::new()
        .route("/2015-03-31/functions/{name}/invocations", axum::routing::post(invoke))
        .layer(DefaultBodyLimit::max(2 * PAYLOAD_BYTES_MAX))
        .with_state(std::sync::Arc::new(functions))
}

#[cfg(test)]
mod tests;
