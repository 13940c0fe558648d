//! The one error of the API: `application/problem+json` (RFC 9457).
//!
//! Policy: the client is told what it did and what to do about it; of what happens inside it is told nothing. A cause
//! is logged once, where it becomes a problem. A handler returns a [`Problem`]; the front ([`crate::front`]) writes it
//! out, because only it knows the request's path and id. [`TYPES`] is the whole list (http-api.md §1.3).

use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// A client that meets an unreachable database asks again after this many seconds (http-api.md §1).
const UNAVAILABLE_RETRY_S: u64 = 2;

/// A kind of problem: its slug is the last part of `type`.
#[derive(Debug, PartialEq, Eq)]
pub struct ProblemType {
    /// `/problems/<slug>`.
    pub slug: &'static str,
    /// The status that goes with it, always.
    pub status: u16,
    /// A short name that does not change from case to case.
    pub title: &'static str,
    /// For a person: what it means and what to do.
    pub text: &'static str,
}

macro_rules! problem_types {
    ($($name:ident $status:literal $slug:literal $title:literal $text:literal;)*) => {
        $(pub(crate) const $name: &ProblemType =
            &ProblemType { slug: $slug, status: $status, title: $title, text: $text };)*
        /// Every type that the API answers with.
        pub const TYPES: &[&ProblemType] = &[$($name),*];
    };
}

problem_types! {
    MALFORMED_JSON 400 "malformed-json" "Malformed JSON"
        "The body is not one JSON value in UTF-8, has the same member twice, or is nested deeper than 32 levels.";
    INVALID_CURSOR 400 "invalid-cursor" "Invalid cursor"
        "The cursor was changed, is older than 24 hours, or belongs to a list with other filters. Begin the list again without it.";
    AMBIGUOUS_CREDENTIALS 400 "ambiguous-credentials" "Ambiguous credentials"
        "The request carries both a module's key and a bearer token. Send one of them.";
    INVALID_CREDENTIALS 401 "invalid-credentials" "Invalid credentials"
        "X-Module-Id and X-API-Key are missing, or name no enabled module with a live key.";
    INVALID_TOKEN 401 "invalid-token" "Invalid token"
        "The bearer token is missing, or is not a valid token of the configured issuer for this service.";
    INSUFFICIENT_SCOPE 403 "insufficient-scope" "Insufficient scope"
        "The credentials are valid, but lack the scope that `required` names.";
    ORIGIN_MISMATCH 403 "origin-mismatch" "Origin mismatch"
        "`origin_module_id` is not the module that sent the request.";
    NOT_OWNER 403 "not-owner" "Not the owner"
        "The resource belongs to another module.";
    WRONG_MODULE_KIND 403 "wrong-module-kind" "Wrong module kind"
        "A module of this kind, or with these job kinds, cannot do this.";
    NOT_FOUND 404 "not-found" "Not found"
        "Nothing is here, or nothing that you may see.";
    METHOD_NOT_ALLOWED 405 "method-not-allowed" "Method not allowed"
        "The path exists, but not with this method. `Allow` lists those that it has.";
    STALE_ATTEMPT 409 "stale-attempt" "Stale attempt"
        "The lease of this attempt is over or was given to another. Nothing was changed.";
    RESULT_ALREADY_RECORDED 409 "result-already-recorded" "Result already recorded"
        "This attempt already reported another result.";
    JOB_NOT_CLAIMABLE 409 "job-not-claimable" "Job not claimable"
        "The job is claimed, not due, finished, of a disabled kind, or not for processors.";
    PENDING_JOB_EXISTS 409 "pending-job-exists" "Pending job exists"
        "A job of this kind is already pending for the same target; `job_id` names it.";
    INVALID_TRANSITION 409 "invalid-transition" "Invalid transition"
        "The resource cannot go from its state to the one that was asked for.";
    NOT_PUBLISHABLE 409 "not-publishable" "Not publishable"
        "Required fields are missing; `missing` lists them.";
    POSTING_EXISTS 409 "posting-exists" "Posting exists"
        "Another live posting has the same canonical URL; `posting_id` names it.";
    MERGE_REFUSED 409 "merge-refused" "Merge refused"
        "The candidates cannot be merged; `cause` says why.";
    MERGE_NOT_REVERSIBLE 409 "merge-not-reversible" "Merge not reversible"
        "Only the latest merge of a candidate can be undone, and only while its URL is free.";
    IDEMPOTENCY_IN_PROGRESS 409 "idempotency-in-progress" "Idempotent request in progress"
        "A request with the same Idempotency-Key is still being worked on. Try again.";
    ALREADY_EXISTS 409 "already-exists" "Already exists"
        "A resource with this identity exists, or there are as many as there may be.";
    LAST_KEY 409 "last-key" "Last key"
        "This is the last live key of an enabled module. Make another one first, or use force=true.";
    PROTECTED 409 "protected" "Protected"
        "This resource is part of the service and cannot be deleted.";
    WITHDRAWN 410 "withdrawn" "Withdrawn"
        "The posting was taken down.";
    VERSION_MISMATCH 412 "version-mismatch" "Version mismatch"
        "The resource was changed since it was read. Read it again and send its new ETag in If-Match.";
    TOO_LARGE 413 "too-large" "Too large"
        "The body is larger than this operation takes.";
    UNSUPPORTED_MEDIA_TYPE 415 "unsupported-media-type" "Unsupported media type"
        "Send the body as Content-Type: application/json.";
    VALIDATION 422 "validation" "Validation failed"
        "Parts of the request do not fit; `errors` names every one of them.";
    INVALID_URL 422 "invalid-url" "Invalid URL"
        "The URL is not an absolute http or https address that callboard can keep.";
    INVALID_RESULT 422 "invalid-result" "Invalid result"
        "The job's result does not fit its kind. The attempt was charged; `job` says what becomes of it.";
    IDEMPOTENCY_KEY_REUSED 422 "idempotency-key-reused" "Idempotency key reused"
        "The Idempotency-Key was used with another body within the last 24 hours. Use a new key for a new request.";
    RATE_LIMITED 429 "rate-limited" "Rate limited"
        "Too many requests. Wait as many seconds as Retry-After says.";
    INTERNAL 500 "internal" "Internal error"
        "callboard failed. The request id finds the cause in its logs.";
    UNAVAILABLE 503 "unavailable" "Unavailable"
        "A part of the service that this request needs does not answer. Try again after Retry-After seconds.";
}

/// The type with that slug.
#[must_use]
pub fn find(slug: &str) -> Option<&'static ProblemType> {
    TYPES.iter().copied().find(|kind| kind.slug == slug)
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// JSON Pointer into the body (`/hints/title`), or `#/query/<name>`, or `#/header/<name>`.
    pub pointer: String,
    /// For programs: `required`, `unknown_field`, `type`, `length`, `range`, `format`, ….
    pub code: String,
    /// For people.
    pub detail: String,
}

/// What a problem looks like on the wire. Some types have members of their own beside these.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemOut {
    /// `/problems/<slug>`.
    pub r#type: String,
    /// A short name of the type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong in this case.
    pub detail: String,
    /// The path of the request.
    pub instance: String,
    /// The request's id, for support.
    pub request_id: String,
    /// With `validation`: everything that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<FieldError>>,
}

/// An answer other than success. Cheap to make, boxed because it travels in every `Result`.
#[derive(Debug, Clone)]
pub struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: &'static ProblemType,
    detail: String,
    errors: Vec<FieldError>,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    is_collision: bool,
}

impl Problem {
    /// A problem of that type. `detail` goes to the client.
    #[must_use]
    pub fn new(kind: &'static ProblemType, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            members: Map::new(),
            headers: Vec::new(),
            is_collision: false,
        }))
    }

    /// 404, the same for what is absent and what may not be seen.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(NOT_FOUND, "There is nothing at this path.")
    }

    /// 422 with everything that is wrong.
    #[must_use]
    pub fn validation(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => format!("{}: {}", only.pointer, only.detail),
            several => format!("{} parts of the request do not fit.", several.len()),
        };
        let mut problem = Self::new(VALIDATION, detail);
        problem.0.errors = errors;
        problem
    }

    /// 422 with one thing that is wrong.
    #[must_use]
    pub fn invalid(pointer: impl Into<String>, code: &str, detail: impl Into<String>) -> Self {
        Self::validation(vec![FieldError {
            pointer: pointer.into(),
            code: code.into(),
            detail: detail.into(),
        }])
    }

    /// 401 for a machine: one answer for a missing, unknown, wrong, expired or revoked key and a disabled module.
    #[must_use]
    pub fn invalid_credentials() -> Self {
        Self::new(
            INVALID_CREDENTIALS,
            "Send the id and a live key of an enabled module in X-Module-Id and X-API-Key.",
        )
    }

    /// 401 for a person, with `WWW-Authenticate` (RFC 6750 §3).
    #[must_use]
    pub fn invalid_token(detail: &str) -> Self {
        Self::new(INVALID_TOKEN, detail)
            .with_header(WWW_AUTHENTICATE, "Bearer realm=\"callboard\", error=\"invalid_token\"")
    }

    /// 403 naming the scope that is missing.
    #[must_use]
    pub fn insufficient_scope(required: &str) -> Self {
        Self::new(INSUFFICIENT_SCOPE, format!("The scope {required} is missing."))
            .with_member("required", required)
    }

    /// 429 until that many seconds are over.
    #[must_use]
    pub fn rate_limited(detail: &str, retry_after_s: u64) -> Self {
        Self::new(RATE_LIMITED, detail).with_header(RETRY_AFTER, &retry_after_s.max(1).to_string())
    }

    /// 503: a part of the service does not answer. The cause is for the log.
    #[must_use]
    pub fn unavailable(detail: &str) -> Self {
        Self::new(UNAVAILABLE, detail).with_header(RETRY_AFTER, &UNAVAILABLE_RETRY_S.to_string())
    }

    /// 500. Logs the cause; the client is not told it.
    #[must_use]
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %cause, "a request failed inside");
        Self::new(INTERNAL, "callboard failed. The request id finds the cause in its logs.")
    }

    /// 405; `allow` is the list of methods.
    #[must_use]
    pub fn method_not_allowed(allow: Option<HeaderValue>) -> Self {
        let mut problem = Self::new(METHOD_NOT_ALLOWED, "This path does not have that method.");
        problem.0.headers.extend(allow.map(|allow| (ALLOW, allow)));
        problem
    }

    /// Adds a member beside the standard ones.
    #[must_use]
    pub fn with_member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a header. A value that is no header value (a bug) is left out.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        self.0.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    /// Adds what is wrong, for a problem of another type than `validation`.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> &'static ProblemType {
        self.0.kind
    }

    /// Whether the database transaction collided with another and is worth running again at once.
    #[must_use]
    pub fn is_collision(&self) -> bool {
        self.0.is_collision
    }

    /// The body for a request with that path and id.
    #[must_use]
    pub fn to_json(&self, instance: &str, request_id: &str) -> Value {
        let Inner { kind, detail, errors, members, .. } = &*self.0;
        let mut body = json!({
            "type": format!("/problems/{}", kind.slug),
            "title": kind.title,
            "status": kind.status,
            "detail": detail,
            "instance": instance,
            "request_id": request_id,
        });
        if let Some(object) = body.as_object_mut() {
            if !errors.is_empty() {
                object.insert("errors".into(), json!(errors));
            }
            object.extend(members.clone());
        }
        body
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.0.kind.status, self.0.kind.slug, self.0.detail)
    }
}

impl std::error::Error for Problem {}

/// The status and headers; the front writes the body, see the module's page.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = StatusCode::from_u16(self.0.kind.status)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response();
        for (name, value) in &self.0.headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Unavailable { detail } => {
                tracing::warn!(detail, "the database is unavailable");
                Self::unavailable("The database does not answer.")
            }
            store::Error::Collision { detail } => {
                tracing::warn!(detail, "a transaction collided");
                let mut problem = Self::unavailable("Too many requests change the same thing at once.");
                problem.0.is_collision = true;
                problem
            }
            store::Error::NotFound => Self::not_found(),
            other => Self::internal(&chain(&other)),
        }
    }
}

impl From<ledger::Error> for Problem {
    fn from(error: ledger::Error) -> Self {
        use ledger::Error as E;
        match error {
            E::Stale => Self::new(STALE_ATTEMPT, "The attempt no longer holds the job. Nothing was changed."),
            E::NotFound | E::UnknownKind(_) => Self::not_found(),
            E::InvalidTransition { from, asked } => {
                Self::new(INVALID_TRANSITION, format!("A job that is {from} cannot be {asked}."))
                    .with_member("from", from.as_str())
            }
            E::PendingJobExists { job_id } => {
                Self::new(PENDING_JOB_EXISTS, "A job of this kind is already pending for the same target.")
                    .with_member("job_id", job_id.to_string())
            }
            E::Unavailable { detail } => store::Error::Unavailable { detail }.into(),
            E::Collision { detail } => store::Error::Collision { detail }.into(),
            other @ (E::TooLarge { .. } | E::Invalid(_) | E::Database(_)) => Self::internal(&chain(&other)),
        }
    }
}

impl From<kinds::ingest::Error> for Problem {
    fn from(error: kinds::ingest::Error) -> Self {
        match error {
            kinds::ingest::Error::Store(error) => error.into(),
            kinds::ingest::Error::Ledger(error) => error.into(),
        }
    }
}

impl From<tokio_postgres::Error> for Problem {
    fn from(error: tokio_postgres::Error) -> Self {
        store::Error::from(error).into()
    }
}

/// An error with its causes, for a log line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_types_share_a_slug_and_each_is_an_error() {
        let mut slugs: Vec<_> = TYPES.iter().map(|kind| kind.slug).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), TYPES.len());
        assert!(TYPES.iter().all(|kind| (400..600).contains(&kind.status)));
    }

    #[test]
    fn a_problem_names_every_error_and_its_own_members() {
        let problem = Problem::invalid("/url", "required", "Give a URL.").with_member("required", "x");
        assert_eq!(
            problem.to_json("/discoveries", "r1"),
            json!({
                "type": "/problems/validation", "title": "Validation failed", "status": 422,
                "detail": "/url: Give a URL.", "instance": "/discoveries", "request_id": "r1",
                "errors": [{"pointer": "/url", "code": "required", "detail": "Give a URL."}], "required": "x",
            })
        );
    }

    #[test]
    fn a_failing_database_says_nothing_of_itself() {
        let problem = Problem::from(store::Error::Unavailable { detail: "host=secret".into() });
        assert_eq!(problem.kind(), UNAVAILABLE);
        assert!(!problem.to_json("/", "r").to_string().contains("secret"));
    }
}
