//! The queues: `winterbaume-sqs` in this process, on a loopback endpoint that the AWS SDK can talk to.
//!
//! Start at [`Queues::start`]. In front of the emulator stand the [`limits`] that AWS has and it lacks. A send to a queue
//! wakes whoever waits on [`Queues::has_changed`], so that a batch is picked up at once and not at the next look.

mod limits;

use crate::serve::{self, Server};
use crate::template::{ACCOUNT, QueueSpec, REGION};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use limits::{Refusal, Verdict};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use winterbaume_core::{MockRequest, MockResponse, MockService};
use winterbaume_sqs::SqsService;

/// A request is a batch of at most 1 MiB, escaped as JSON; more than this is not read.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A delayed message, or one whose visibility ran out, is seen this late at most.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What went wrong inside the emulator: a bug there or here.
#[derive(Debug, thiserror::Error)]
#[error("the queue emulator answered {action} with {answer}")]
pub struct QueueError {
    action: String,
    answer: String,
}

/// The running queues. Cloning shares them; they end with the last handle's [`Server`].
#[derive(Debug)]
pub struct Queues {
    shared: Arc<Shared>,
    server: Server,
}

#[derive(Debug)]
struct Shared {
    emulator: Emulator,
    /// Told of each send, by queue name.
    changed: Mutex<HashMap<String, Arc<Notify>>>,
    endpoint: std::sync::OnceLock<String>,
}

struct Emulator(SqsService);

impl std::fmt::Debug for Emulator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Emulator")
    }
}

/// A received message, as the emulator gives it.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Message {
    /// Its id.
    pub message_id: String,
    /// What deletes it.
    pub receipt_handle: String,
    /// The text that was sent.
    pub body: String,
    /// The hash of the text.
    #[serde(rename = "MD5OfBody")]
    pub md5_of_body: String,
    /// System attributes: receive count and times.
    #[serde(default)]
    pub attributes: serde_json::Map<String, Value>,
    /// The sender's attributes.
    #[serde(default)]
    pub message_attributes: serde_json::Map<String, Value>,
}

impl Queues {
    /// Serves the endpoint on a free loopback port and makes the queues.
    ///
    /// # Errors
    /// If nothing can be bound, or the emulator refuses a queue.
    pub async fn start(specs: &[QueueSpec]) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            emulator: Emulator(SqsService::new()),
            changed: Mutex::default(),
            endpoint: std::sync::OnceLock::new(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = Server::start(serve::LOOPBACK, 0, router).await?;
        // Set once, just above the first use.
        let _ = shared.endpoint.set(server.url());
        let queues = Self { shared, server };
        // Dead-letter queues first: a redrive policy names its target.
        let (with, without): (Vec<_>, Vec<_>) = specs.iter().partition(|spec| spec.redrive.is_some());
        for spec in without.into_iter().chain(with) {
            queues.create(spec).await?;
        }
        Ok(queues)
    }

    async fn create(&self, spec: &QueueSpec) -> Result<(), QueueError> {
        let mut attributes = json!({
            "VisibilityTimeout": spec.visibility.as_secs().to_string(),
            "MessageRetentionPeriod": spec.retention.as_secs().to_string(),
        });
        if let Some((target, receives)) = &spec.redrive {
            let policy = json!({"deadLetterTargetArn": arn(target), "maxReceiveCount": receives});
            attributes["RedrivePolicy"] = policy.to_string().into();
        }
        self.call("CreateQueue", &json!({"QueueName": spec.logical_id, "Attributes": attributes})).await?;
        Ok(())
    }

    /// `http://127.0.0.1:port`: what `AWS_ENDPOINT_URL_SQS` is set to.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.server.url()
    }

    /// The URL of a queue of the template.
    #[must_use]
    pub fn url(&self, logical_id: &str) -> String {
        format!("{}/{ACCOUNT}/{logical_id}", self.endpoint())
    }

    /// Waits until a message was sent to the queue, and at most the time after which a delayed one may be due.
    pub async fn has_changed(&self, logical_id: &str) {
        let changed = self.shared.changed_of(logical_id);
        // Either way the caller looks again.
        let _ = tokio::time::timeout(LOOK_EVERY, changed.notified()).await;
    }

    /// Receives up to `max` messages that are visible now.
    ///
    /// # Errors
    /// [`QueueError`] if the queue does not exist.
    pub async fn receive(&self, logical_id: &str, max: usize) -> Result<Vec<Message>, QueueError> {
        let answer = self
            .call(
                "ReceiveMessage",
                &json!({
                    "QueueUrl": self.url(logical_id),
                    "MaxNumberOfMessages": max,
                    "WaitTimeSeconds": 0,
                    "MessageAttributeNames": ["All"],
                    "MessageSystemAttributeNames": ["All"],
                }),
            )
            .await?;
        let messages = answer.get("Messages").cloned().unwrap_or_else(|| json!([]));
        serde_json::from_value(messages)
            .map_err(|error| QueueError { action: "ReceiveMessage".into(), answer: error.to_string() })
    }

    /// Deletes messages, ten a request.
    ///
    /// # Errors
    /// [`QueueError`] if the queue does not exist.
    pub async fn delete(&self, logical_id: &str, receipt_handles: &[&str]) -> Result<(), QueueError> {
        for chunk in receipt_handles.chunks(limits::BATCH_ENTRIES_MAX) {
            let entries: Vec<Value> = chunk
                .iter()
                .enumerate()
                .map(|(index, handle)| json!({"Id": index.to_string(), "ReceiptHandle": handle}))
                .collect();
            self.call("DeleteMessageBatch", &json!({"QueueUrl": self.url(logical_id), "Entries": entries}))
                .await?;
        }
        Ok(())
    }

    async fn call(&self, action: &str, body: &Value) -> Result<Value, QueueError> {
        let response = self.shared.emulate(action, Bytes::from(body.to_string())).await;
        let text = || String::from_utf8_lossy(&response.body).into_owned();
        if response.status != 200 {
            return Err(QueueError { action: action.to_owned(), answer: text() });
        }
        if response.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&response.body)
            .map_err(|_| QueueError { action: action.to_owned(), answer: text() })
    }
}

/// The ARN of a queue of the template.
#[must_use]
pub fn arn(logical_id: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{logical_id}")
}

impl Shared {
    fn changed_of(&self, queue: &str) -> Arc<Notify> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(changed.entry(queue.to_owned()).or_default())
    }

    async fn emulate(&self, action: &str, body: Bytes) -> MockResponse {
        let mut headers = HeaderMap::new();
        let target = HeaderValue::from_str(&format!("AmazonSQS.{action}"));
        headers.insert("x-amz-target", target.unwrap_or(HeaderValue::from_static("")));
        // The emulator takes the region from the host's name.
        let uri = format!("https://sqs.{REGION}.amazonaws.com/");
        self.emulator.0.handle(MockRequest { method: "POST".into(), uri, headers, body }).await
    }

    /// Says in an answer that the queues are here and not at AWS.
    fn localise(&self, body: Bytes) -> Bytes {
        let remote = format!("https://sqs.{REGION}.amazonaws.com/");
        match (std::str::from_utf8(&body), self.endpoint.get()) {
            (Ok(text), Some(endpoint)) if text.contains(&remote) => {
                text.replace(&remote, &format!("{endpoint}/")).into()
            }
            _ => body,
        }
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok());
    let Some(action) = target.and_then(|target| target.rsplit('.').next()).map(str::to_owned) else {
        return refuse(&Refusal::new("MissingAction", "the header X-Amz-Target is missing"));
    };
    let Ok(body) = axum::body::to_bytes(request.into_body(), REQUEST_BYTES_MAX).await else {
        return refuse(&Refusal::new("RequestEntityTooLarge", "the request is too large"));
    };
    let Ok(input) = serde_json::from_slice::<Value>(&body) else {
        return refuse(&Refusal::new("InvalidParameterValue", "the body is not JSON"));
    };
    let (body, failed) = match limits::check(&action, &input) {
        Verdict::Pass => (body, Vec::new()),
        Verdict::Refuse(refusal) => return refuse(&refusal),
        Verdict::Part { rest, failed } => (Bytes::from(rest.to_string()), failed),
    };
    let response = shared.emulate(&action, body).await;
    if response.status == 200
        && matches!(&*action, "SendMessage" | "SendMessageBatch" | "ChangeMessageVisibility")
    {
        let queue = input["QueueUrl"].as_str().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
        shared.changed_of(queue).notify_one();
    }
    let mut body = shared.localise(response.body);
    if response.status == 200 && !failed.is_empty() {
        body = limits::add_failed(&body, failed);
    }
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *answer.headers_mut() = response.headers;
    answer
}

/// An error in the shape of the AWS JSON protocol.
fn refuse(refusal: &Refusal) -> Response<Body> {
    let body = json!({"__type": format!("com.amazonaws.sqs#{}", refusal.code), "message": refusal.message});
    let mut answer = Response::new(Body::from(body.to_string()));
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    let headers = answer.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/x-amz-json-1.0"));
    // The codes that the older query protocol had, which the SDK goes by.
    let prefix = if refusal.code.contains("Batch") { "AWS.SimpleQueueService." } else { "" };
    if let Ok(value) = HeaderValue::from_str(&format!("{prefix}{};Sender", refusal.code)) {
        headers.insert("x-amzn-query-error", value);
    }
    answer
}

/// The queues' names in the template, by what `local.json` calls them.
pub const NAMES: [(&str, &str); 3] =
    [("wake", "WakeQueue"), ("jobs", "JobsQueue"), ("dead_letters", "DeadLetterQueue")];

#[cfg(test)]
mod tests;
