//! An answer whose bytes are known before it is sent, because they may be stored and given again.

use crate::problem::Problem;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A successful answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    status: u16,
    /// Such as `location` and `etag`.
    headers: Vec<(String, String)>,
    /// JSON.
    body: Vec<u8>,
    /// What is stored instead of the body, where the body holds a secret.
    stored: Option<Vec<u8>>,
    is_replay: bool,
}

/// What stands in front of the body in a stored reply: one line of JSON.
#[derive(Serialize, Deserialize)]
struct Head {
    headers: Vec<(String, String)>,
}

impl Reply {
    /// An answer in JSON.
    ///
    /// # Errors
    /// `internal` if `body` cannot be written as JSON: a bug.
    pub fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_vec(body).map_err(|error| Problem::internal(&error))?;
        Ok(Self { status: status.as_u16(), headers: Vec::new(), body, stored: None, is_replay: false })
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name.as_str().to_owned(), value.into()));
        self
    }

    /// Is stored with another body: the same without its secret.
    ///
    /// # Errors
    /// `internal` if `body` cannot be written as JSON: a bug.
    pub fn stored_as(mut self, body: &impl Serialize) -> Result<Self, Problem> {
        self.stored = Some(serde_json::to_vec(body).map_err(|error| Problem::internal(&error))?);
        Ok(self)
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// As it is stored: the headers in a line of JSON, then the body to the byte.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(&Head { headers: self.headers.clone() }).unwrap_or_default();
        bytes.push(b'\n');
        bytes.extend_from_slice(self.stored.as_ref().unwrap_or(&self.body));
        bytes
    }

    /// Reads what [`Reply::encode`] wrote, as an answer that is given again.
    ///
    /// # Errors
    /// `internal` if it is something else: a bug.
    pub fn decode(status: i32, bytes: &[u8]) -> Result<Self, Problem> {
        let broken = || Problem::internal(&"a stored answer cannot be read");
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
        let head: Head = serde_json::from_slice(&bytes[..end]).map_err(|_| broken())?;
        Ok(Self {
            status: u16::try_from(status).map_err(|_| broken())?,
            headers: head.headers,
            body: bytes[end + 1..].to_vec(),
            stored: None,
            is_replay: true,
        })
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        let mut response = (status, Body::from(self.body)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, JSON);
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().insert(name, value);
            }
        }
        if self.is_replay {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::LOCATION;
    use serde_json::json;

    #[test]
    fn a_stored_reply_comes_back_to_the_byte_and_without_its_secret() {
        let reply = Reply::json(StatusCode::CREATED, &json!({"key": "secret"}))
            .unwrap()
            .with_header(&LOCATION, "/x")
            .stored_as(&json!({"key": null}))
            .unwrap();
        let again = Reply::decode(201, &reply.encode()).unwrap();
        assert_eq!(again.body, br#"{"key":null}"#);
        let response = again.into_response();
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(response.headers()[LOCATION], "/x");
        assert_eq!(response.headers()[REPLAYED], "true");
    }
}
