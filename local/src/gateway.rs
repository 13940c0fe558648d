//! An API Gateway HTTP API with one `$default` route: requests become payload 2.0 events of the api function.
//!
//! Start at [`router`]. [`event`] and [`response`] are the two mappings, as AWS documents them ("Create AWS Lambda proxy
//! integrations for HTTP APIs"); the status codes of failures are its own, with its own bodies.

pub mod event;
pub mod response;

use crate::lambda::{Function, Invocation, InvokeError, new_trace_header};
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use response::Failure;
use std::net::SocketAddr;

/// An HTTP API takes at most this much (AWS, "Quotas for HTTP APIs").
const BODY_BYTES_MAX: usize = 10 * 1024 * 1024;

/// Every method and path goes to `function`.
pub fn router(function: Function) -> Router {
    Router::new().fallback(handle).with_state(function)
}

async fn handle(
    State(function): State<Function>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return failure(Failure::RequestTooLarge);
    };
    if !event::has_usable_host(&parts) {
        return failure(Failure::BadRequest);
    }
    let trace_header = parts
        .headers
        .get("x-amzn-trace-id")
        .and_then(|value| value.to_str().ok())
        .map_or_else(new_trace_header, str::to_owned);
    let context = event::Context {
        source_ip: client.ip(),
        request_id: uuid::Uuid::new_v4().simple().to_string(),
        now: jiff::Timestamp::now(),
        trace_header: trace_header.clone(),
    };
    let payload = event::from_request(&parts, &body, &context).to_string();
    let invocation = Invocation { payload: payload.into(), trace_header: Some(trace_header) };
    let mut answer = match function.invoke(invocation).await {
        Ok(answer) => response::from_answer(&answer).unwrap_or_else(|error| {
            tracing::warn!(%error, "the api function gave an answer that is no HTTP response");
            failure(Failure::BadAnswer)
        }),
        Err(error) => {
            tracing::warn!(%error, method = %parts.method, path = parts.uri.path(), "a request failed");
            failure(match error {
                InvokeError::EventTooLarge { .. } => Failure::RequestTooLarge,
                InvokeError::Throttled { .. } => Failure::Unavailable,
                InvokeError::TimedOut { .. } => Failure::TimedOut,
                InvokeError::Reported { .. } | InvokeError::Crashed { .. } | InvokeError::Init { .. } => {
                    Failure::BadAnswer
                }
            })
        }
    };
    if let Ok(id) = HeaderValue::from_str(&context.request_id) {
        answer.headers_mut().insert("apigw-requestid", id);
    }
    answer
}

fn failure(failure: Failure) -> Response<Body> {
    let (status, message) = match failure {
        Failure::BadRequest => (StatusCode::BAD_REQUEST, "Bad Request"),
        Failure::RequestTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large"),
        Failure::BadAnswer => (StatusCode::BAD_GATEWAY, "Internal Server Error"),
        Failure::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
        Failure::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "Gateway Timeout"),
    };
    let mut answer = Response::new(Body::from(serde_json::json!({ "message": message }).to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
