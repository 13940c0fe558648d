//! What every request passes: its id and trace, CORS, the anonymous rate limit, and what turns whatever went wrong into
//! `application/problem+json` with `instance` and `request_id`.

use crate::app::App;
use crate::auth::{API_KEY_HEADER, MODULE_ID_HEADER, check_unambiguous};
use crate::problem::{Problem, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE};
use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ALLOW,
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::collections::HashSet;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telemetry::label::{RouteGroup, StatusClass};
use telemetry::{Invocation, SpanExt as _, TraceContext, metric};
use tracing::Instrument as _;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The function has 10 s. A database that took the request and does not answer is told from one that is slow by less
/// than that, so that the client gets its 503 and not API Gateway's.
const REQUEST_LIMIT: Duration = Duration::from_secs(7);
const REQUEST_ID_CHARS_MAX: usize = 64;
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// A browser may remember a preflight for an hour.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("3600");
const CORS_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, if-match, if-none-match, traceparent, tracestate, x-request-id",
);
const CORS_EXPOSED: HeaderValue =
    HeaderValue::from_static("etag, idempotency-replayed, link, location, retry-after, x-request-id");

/// Where a request is known by: extracted by handlers that write events or enqueue jobs.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// Echoed, or made here.
    pub request_id: String,
    /// The span of this request.
    pub trace: TraceContext,
    /// The request's path.
    pub path: String,
}

impl<S: Sync> FromRequestParts<S> for RequestContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // The front puts it there; a router without the front, in a test, gets one that nobody else knows.
        Ok(parts.extensions.get().cloned().unwrap_or_else(|| Self {
            request_id: request_id_of(&HeaderMap::new()),
            trace: TraceContext::new_root(),
            path: parts.uri.path().to_owned(),
        }))
    }
}

/// The caller's own, if it is one; else a new one.
fn request_id_of(headers: &HeaderMap) -> String {
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| is_request_id(id))
        .map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

/// `^[A-Za-z0-9._-]{1,64}$` (http-api.md §1).
fn is_request_id(id: &str) -> bool {
    (1..=REQUEST_ID_CHARS_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// A method that is none of HTTP's.
const OTHER_METHOD: &str = "_OTHER";

/// The paths whose GET is public.
pub type PublicPaths = Arc<HashSet<&'static str>>;

/// The middleware around every route and around the answers for paths that are none.
pub async fn front(
    State((app, public)): State<(App, PublicPaths)>,
    matched: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let request_id = request_id_of(request.headers());
    let method = request.method().clone();
    let route = matched.as_ref().map_or("none", MatchedPath::as_str);
    let parent = telemetry::incoming_http(request.headers());
    let told = told_method(&method);
    let name = if told == OTHER_METHOD { "HTTP" } else { told };
    let invocation = Invocation::begin(format!("{name} {route}"), &request_id, parent, "http");
    let span = &invocation.span;
    span.attribute("http.request.method", told);
    span.attribute("http.route", route.to_owned());
    if let Some(lambda) = request.extensions().get::<lambda_http::Context>() {
        span.attribute("faas.invocation_id", lambda.request_id.clone());
    }
    let path = request.uri().path().to_owned();
    let context = RequestContext { request_id, trace: invocation.trace.clone(), path };
    request.extensions_mut().insert(context.clone());

    let is_public_path = matched.as_ref().is_some_and(|path| public.contains(path.as_str()));
    let cors = Cors::of(&app, request.headers(), is_public_path);
    let mut response =
        if method == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            preflight()
        } else {
            answer(&app, request, next).instrument(invocation.span.clone()).await
        };
    response = write_problem(response, &context);
    let (status, took) = (response.status().as_u16(), started.elapsed());
    span.in_scope(|| {
        let duration_ms = took.as_secs_f64() * 1_000.0;
        tracing::info!(method = told, route, status, duration_ms, "request answered");
    });
    span.attribute("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.fail(status.to_string());
    }
    span.end();
    let labels = (RouteGroup::of_route(route), StatusClass::of(status));
    metric::HTTP_SERVER_REQUEST_DURATION.record(took.as_secs_f64(), labels);
    cors.apply(response.headers_mut());
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(NO_STORE);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&context.request_id) {
        headers.insert(REQUEST_ID, id);
    }
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response
}

/// The method in spans and logs. Anybody can send any word for one (semantic conventions, `http.request.method`).
fn told_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| method == known).unwrap_or(OTHER_METHOD)
}

async fn answer(app: &App, request: Request, next: Next) -> Response {
    if let Err(problem) =
        check_unambiguous(request.headers()).and_then(|()| check_anonymous_rate(app, &request))
    {
        return problem.into_response();
    }
    let run = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(REQUEST_LIMIT, run).await {
        Ok(Ok(response)) => response,
        // The panic's own message went to stderr already.
        Ok(Err(_)) => Problem::internal(&"a handler panicked").into_response(),
        Err(_) => {
            tracing::error!(limit_s = REQUEST_LIMIT.as_secs(), "a request took too long");
            Problem::unavailable("The service did not answer in time.").into_response()
        }
    }
}

/// Who shows credentials is counted by them, once they are verified; everybody else by the address.
fn check_anonymous_rate(app: &App, request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let shows_credentials = [MODULE_ID_HEADER, API_KEY_HEADER].iter().any(|name| headers.contains_key(*name))
        || headers.contains_key(AUTHORIZATION);
    if shows_credentials {
        return Ok(());
    }
    // API Gateway appends the address that it saw; what stands before it is the client's own claim.
    let address = headers
        .get("x-forwarded-for")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.rsplit(',').next())
        .map_or("unknown", str::trim);
    app.limiter.take(&format!("address:{address}"), app.now())
}

fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE"),
    );
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, CORS_HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
    response
}

/// Public GETs: any origin, no credentials. Others: only origins that the configuration names.
struct Cors {
    allow: Option<HeaderValue>,
    is_fixed: bool,
}

impl Cors {
    fn of(app: &App, headers: &HeaderMap, is_public: bool) -> Self {
        if is_public {
            return Self { allow: Some(HeaderValue::from_static("*")), is_fixed: true };
        }
        let origin = headers.get(ORIGIN);
        let is_known = |origin: &&HeaderValue| {
            app.config.cors_origins.iter().any(|known| known.as_bytes() == origin.as_bytes())
        };
        Self { allow: origin.filter(is_known).cloned(), is_fixed: false }
    }

    fn apply(self, headers: &mut HeaderMap) {
        if !self.is_fixed {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        match self.allow {
            Some(allow) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allow);
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, CORS_EXPOSED);
            }
            None => {
                for name in
                    [ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_MAX_AGE]
                {
                    headers.remove(name);
                }
            }
        }
    }
}

/// Writes a problem's body. An error status that is no problem yet (axum's own refusals) becomes the fitting one.
fn write_problem(mut response: Response, context: &RequestContext) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let problem = match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem,
        None => {
            let problem = match status {
                StatusCode::NOT_FOUND => Problem::not_found(),
                StatusCode::METHOD_NOT_ALLOWED => {
                    Problem::method_not_allowed(response.headers().get(ALLOW).cloned())
                }
                StatusCode::PAYLOAD_TOO_LARGE => Problem::new(TOO_LARGE, "The body is too large."),
                StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                    Problem::new(UNSUPPORTED_MEDIA_TYPE, "Send the body as Content-Type: application/json.")
                }
                other => Problem::internal(&format!("a response of status {other} was no problem")),
            };
            response = problem.clone().into_response();
            problem
        }
    };
    let body = problem.to_json(&context.path, &context.request_id).to_string();
    *response.body_mut() = Body::from(body);
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_tame_request_id_is_echoed() {
        let longest = "x".repeat(64);
        for (id, is_tame) in
            [("a-B_9.", true), (longest.as_str(), true), ("", false), ("a b", false), ("é", false)]
        {
            assert_eq!(is_request_id(id), is_tame, "{id}");
        }
        assert!(!is_request_id(&"x".repeat(65)));
    }
}
