//! Reads a request's body: its type, its size, its JSON, in this order.

use crate::json;
use crate::problem::{Problem, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE};
use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Of one resource (http-api.md §1).
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Of a batch (http-api.md §1).
pub const BATCH_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A JSON body of at most `LIMIT` bytes, with the digest that tells a repeat from another request.
#[derive(Debug)]
pub struct JsonBody<const LIMIT: usize = BODY_BYTES_MAX> {
    /// What it says.
    pub value: Value,
    /// SHA-256 of its bytes.
    pub digest: [u8; 32],
}

/// The body of a batch.
pub type BatchBody = JsonBody<BATCH_BODY_BYTES_MAX>;

impl<S: Send + Sync, const LIMIT: usize> FromRequest<S> for JsonBody<LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        check_type(request.headers())?;
        let bytes = read(request, LIMIT).await?;
        Ok(Self { value: json::parse(&bytes)?, digest: Sha256::digest(&bytes).into() })
    }
}

/// The body of an operation that can do without: an empty one counts as `{}`.
#[derive(Debug)]
pub struct OptionalJsonBody(pub JsonBody);

impl<S: Send + Sync> FromRequest<S> for OptionalJsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let headers = request.headers().clone();
        let bytes = read(request, BODY_BYTES_MAX).await?;
        let digest = Sha256::digest(&bytes).into();
        if bytes.is_empty() {
            return Ok(Self(JsonBody { value: Value::Object(serde_json::Map::new()), digest }));
        }
        check_type(&headers)?;
        Ok(Self(JsonBody { value: json::parse(&bytes)?, digest }))
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(UNSUPPORTED_MEDIA_TYPE, "Send the body as Content-Type: application/json."))
}

async fn read(request: Request, limit: usize) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(TOO_LARGE, format!("The body may have at most {limit} bytes."));
    let told =
        request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let body: Body = request.into_body();
    let least = told.unwrap_or(0).max(body.size_hint().lower());
    if least > limit as u64 {
        return Err(too_large());
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(Problem::internal(&error)),
    }
}
