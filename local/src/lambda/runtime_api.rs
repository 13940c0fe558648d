//! The Lambda Runtime API (AWS, "Using the Lambda runtime API", version 2018-06-01), one small server an environment.

use super::PAYLOAD_BYTES_MAX;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

/// An event on its way to the process.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) payload: Bytes,
    pub(super) trace_header: String,
    /// Told when the process has taken the event: its time runs from here.
    pub(super) taken: oneshot::Sender<()>,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// What the process said.
#[derive(Debug)]
pub(super) enum Answer {
    Response(Bytes),
    Error(Value),
}

/// One environment's side of the API.
#[derive(Debug)]
pub(super) struct RuntimeApi {
    inbox: tokio::sync::Mutex<mpsc::Receiver<Work>>,
    open: Mutex<HashMap<Uuid, oneshot::Sender<Answer>>>,
    init_error: watch::Sender<Option<Value>>,
    has_asked: AtomicBool,
    arn: String,
    timeout: Duration,
}

impl RuntimeApi {
    pub(super) fn new(inbox: mpsc::Receiver<Work>, arn: String, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            inbox: tokio::sync::Mutex::new(inbox),
            open: Mutex::default(),
            init_error: watch::Sender::new(None),
            has_asked: AtomicBool::new(false),
            arn,
            timeout,
        })
    }

    pub(super) fn init_error(&self) -> Option<Value> {
        self.init_error.borrow().clone()
    }

    /// Whether the process has got as far as asking for an event.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    pub(super) fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .route("/2020-01-01/extension/register", post(register_extension))
            .route("/2020-01-01/extension/event/next", get(next_extension_event))
            .with_state(Arc::clone(self))
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, oneshot::Sender<Answer>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever asked for what this process was doing is told that it will not answer.
    pub(super) fn abandon(&self) {
        self.open().clear();
    }

    fn close(&self, id: Uuid, answer: Answer) -> bool {
        let waiting = self.open().remove(&id);
        // Whoever asked may have given up; the process is told the same either way, as on AWS.
        waiting.is_some_and(|waiting| {
            let _ = waiting.send(answer);
            true
        })
    }
}

async fn next(State(api): State<Arc<RuntimeApi>>) -> Response<Body> {
    api.has_asked.store(true, Ordering::Relaxed);
    let Some(work) = api.inbox.lock().await.recv().await else {
        return answer(
            StatusCode::FORBIDDEN,
            &json!({"errorType": "Shutdown", "errorMessage": "shutting down"}),
        );
    };
    let id = Uuid::new_v4();
    let deadline = SystemTime::now() + api.timeout;
    let deadline_ms = deadline.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    api.open().insert(id, work.answer);
    let _ = work.taken.send(());
    let mut response = Response::new(Body::from(work.payload));
    let headers = response.headers_mut();
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put("content-type", "application/json");
    put("lambda-runtime-aws-request-id", &id.to_string());
    put("lambda-runtime-deadline-ms", &deadline_ms.to_string());
    put("lambda-runtime-invoked-function-arn", &api.arn);
    put("lambda-runtime-trace-id", &work.trace_header);
    response
}

async fn response(
    State(api): State<Arc<RuntimeApi>>,
    Path(id): Path<String>,
    request: Request,
) -> Response<Body> {
    let Some(id) = parse(&id) else { return unknown_id() };
    match axum::body::to_bytes(request.into_body(), PAYLOAD_BYTES_MAX).await {
        Ok(body) => accepted(api.close(id, Answer::Response(body))),
        Err(_) => {
            let error = json!({
                "errorType": "Function.ResponseSizeTooLarge",
                "errorMessage": format!("Response payload size exceeded maximum allowed payload size ({PAYLOAD_BYTES_MAX} bytes)."),
            });
            api.close(id, Answer::Error(error.clone()));
            answer(StatusCode::PAYLOAD_TOO_LARGE, &error)
        }
    }
}

async fn error(
    State(api): State<Arc<RuntimeApi>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let Some(id) = parse(&id) else { return unknown_id() };
    accepted(api.close(id, Answer::Error(error_of(&headers, &body))))
}

async fn init_error(State(api): State<Arc<RuntimeApi>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    api.init_error.send_replace(Some(error_of(&headers, &body)));
    accepted(true)
}

/// Registers an internal extension (AWS, "Lambda Extensions API", `Register`).
async fn register_extension(headers: HeaderMap) -> Response<Body> {
    if !headers.contains_key("lambda-extension-name") {
        let error =
            json!({"errorType": "Extension.InvalidExtensionName", "errorMessage": "a name is needed"});
        return answer(StatusCode::FORBIDDEN, &error);
    }
    let mut response = answer(StatusCode::OK, &json!({"handler": "bootstrap"}));
    if let Ok(id) = HeaderValue::from_str(&Uuid::new_v4().to_string()) {
        response.headers_mut().insert("lambda-extension-identifier", id);
    }
    response
}

/// Of the events, internal extensions may ask for INVOKE only, and ours asks for none: it waits until its process ends.
async fn next_extension_event() -> Response<Body> {
    std::future::pending().await
}

fn error_of(headers: &HeaderMap, body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| {
        let kind = headers.get("lambda-runtime-function-error-type").and_then(|value| value.to_str().ok());
        json!({"errorType": kind.unwrap_or("Unknown"), "errorMessage": String::from_utf8_lossy(body)})
    })
}

fn parse(id: &str) -> Option<Uuid> {
    Uuid::try_parse(id).ok()
}

fn accepted(known: bool) -> Response<Body> {
    if known { answer(StatusCode::ACCEPTED, &json!({"status": "OK"})) } else { unknown_id() }
}

fn unknown_id() -> Response<Body> {
    let error = json!({"errorType": "InvalidRequestID", "errorMessage": "no such invocation is open"});
    answer(StatusCode::BAD_REQUEST, &error)
}

fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response
}
