//! Conditional requests (RFC 9110 §13): strong entity tags on what is public, versions on what administrators edit.

use crate::problem::{Problem, VERSION_MISMATCH};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// How long a shared cache may keep a public answer, and serve it while it asks again (http-api.md §1).
pub const PUBLIC_CACHE_CONTROL: HeaderValue =
    HeaderValue::from_static("public, max-age=60, stale-while-revalidate=300");

/// 128 bits of the hash tell any two bodies of one URL apart.
const TAG_BYTES: usize = 16;

/// A public answer as JSON: 200 with a strong `ETag`, or 304 if the client has it already.
///
/// # Errors
/// `internal` if `body` cannot be written as JSON: a bug.
pub fn public_json(headers: &HeaderMap, body: &impl Serialize) -> Result<Response, Problem> {
    let bytes = serde_json::to_vec(body).map_err(|error| Problem::internal(&error))?;
    Ok(public(headers, "application/json", bytes))
}

/// A public answer of any type: 200 with a strong `ETag`, or 304 if the client has it already.
#[must_use]
pub fn public(headers: &HeaderMap, content_type: &'static str, body: Vec<u8>) -> Response {
    let tag = format!("\"{}\"", BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(&body)[..TAG_BYTES]));
    let is_known = is_none_match(headers, &tag);
    let mut response =
        if is_known { StatusCode::NOT_MODIFIED.into_response() } else { Body::from(body).into_response() };
    if !is_known {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response.headers_mut().insert(CACHE_CONTROL, PUBLIC_CACHE_CONTROL);
    response
}

/// Whether `If-None-Match` lists the tag, by the weak comparison that it asks for (RFC 9110 §13.1.2).
fn is_none_match(headers: &HeaderMap, tag: &str) -> bool {
    tags(headers, IF_NONE_MATCH).any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag)
}

fn tags(headers: &HeaderMap, name: http::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// The `ETag` of a resource at that version.
#[must_use]
pub fn version_tag(version: i64) -> String {
    format!("\"{version}\"")
}

/// An answer with the resource's version as its `ETag`.
#[must_use]
pub fn with_version(mut response: Response, version: i64) -> Response {
    if let Ok(tag) = HeaderValue::try_from(version_tag(version)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// Checks `If-Match`, where it was sent, against the resource's version, by the strong comparison (RFC 9110 §13.1.1).
///
/// # Errors
/// `version-mismatch`.
pub fn check_if_match(headers: &HeaderMap, version: i64) -> Result<(), Problem> {
    if !headers.contains_key(IF_MATCH) {
        return Ok(());
    }
    let tag = version_tag(version);
    if tags(headers, IF_MATCH).any(|given| given == "*" || given == tag) {
        return Ok(());
    }
    Err(Problem::new(VERSION_MISMATCH, format!("The resource is at version {version} now."))
        .with_header(ETAG, &tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_known_tag_is_answered_with_304_without_body_but_with_the_tag() {
        let first = public(&HeaderMap::new(), "application/json", b"{}".to_vec());
        let tag = first.headers()[ETAG].to_str().unwrap().to_owned();
        assert!(tag.starts_with('"'), "strong");
        for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".into()] {
            let again = public(&headers(IF_NONE_MATCH, &known), "application/json", b"{}".to_vec());
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(again.headers()[ETAG].to_str().unwrap(), tag);
        }
        let changed = public(&headers(IF_NONE_MATCH, &tag), "application/json", b"{ }".to_vec());
        assert_eq!(changed.status(), StatusCode::OK);
    }

    #[test]
    fn if_match_compares_strongly_and_is_optional() {
        assert!(check_if_match(&HeaderMap::new(), 3).is_ok());
        for (value, fits) in [
            ("\"3\"", true),
            ("*", true),
            ("\"2\", \"3\"", true),
            ("W/\"3\"", false),
            ("\"4\"", false),
            ("3", false),
        ] {
            assert_eq!(check_if_match(&headers(IF_MATCH, value), 3).is_ok(), fits, "{value}");
        }
    }
}
