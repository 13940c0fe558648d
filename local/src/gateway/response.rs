//! A function's answer as an HTTP response.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Why the gateway answers by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It cannot be routed.
    BadRequest,
    /// Over the gateway's or the function's limit.
    RequestTooLarge,
    /// The function failed, or answered something that is no response.
    BadAnswer,
    /// All environments are busy.
    Unavailable,
    /// The function's time-out passed.
    TimedOut,
}

/// Why an answer is no HTTP response.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadAnswer {
    /// Not JSON at all.
    #[error("it is not JSON")]
    NotJson,
    /// A member has a wrong type or value.
    #[error("{0} is malformed")]
    Member(&'static str),
}

/// Reads an answer in format 2.0. An answer without `statusCode` is a 200 whose body is the answer itself: a string's text, or
/// any other value's JSON.
///
/// # Errors
/// [`BadAnswer`]; the client then gets a 502.
pub fn from_answer(answer: &[u8]) -> Result<Response<Body>, BadAnswer> {
    let value: Value = serde_json::from_slice(answer).map_err(|_| BadAnswer::NotJson)?;
    let Some(status) = value.get("statusCode") else {
        let body = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return Ok(response);
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status_code(status)?;
    let headers = response.headers_mut();
    for (name, value) in members(&value, "headers")? {
        let (name, value) = header(name, value, "headers")?;
        // The connection is the gateway's own.
        if !matches!(name, header::CONNECTION | header::TRANSFER_ENCODING | header::CONTENT_LENGTH) {
            headers.insert(name, value);
        }
    }
    match value.get("cookies") {
        None | Some(Value::Null) => {}
        Some(Value::Array(cookies)) => {
            for cookie in cookies {
                let cookie = cookie.as_str().ok_or(BadAnswer::Member("cookies"))?;
                let cookie = HeaderValue::from_str(cookie).map_err(|_| BadAnswer::Member("cookies"))?;
                headers.append(header::SET_COOKIE, cookie);
            }
        }
        Some(_) => return Err(BadAnswer::Member("cookies")),
    }
    let encoded = match value.get("isBase64Encoded") {
        None | Some(Value::Null) => false,
        Some(encoded) => encoded.as_bool().ok_or(BadAnswer::Member("isBase64Encoded"))?,
    };
    let body = match value.get("body") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if encoded => {
            STANDARD.decode(text).map_err(|_| BadAnswer::Member("body"))?
        }
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(_) => return Err(BadAnswer::Member("body")),
    };
    if !body.is_empty() && !headers.contains_key(header::CONTENT_TYPE) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    *response.body_mut() = Body::from(body);
    Ok(response)
}

fn status_code(value: &Value) -> Result<StatusCode, BadAnswer> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        // The gateway itself could not send an interim response as a final one.
        .filter(|status| (200..=599).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or(BadAnswer::Member("statusCode"))
}

fn members<'a>(
    value: &'a Value,
    name: &'static str,
) -> Result<impl Iterator<Item = (&'a String, &'a Value)>, BadAnswer> {
    match value.get(name) {
        None | Some(Value::Null) => Ok(None.into_iter().flatten()),
        Some(Value::Object(members)) => Ok(Some(members.iter()).into_iter().flatten()),
        Some(_) => Err(BadAnswer::Member(name)),
    }
}

fn header(name: &str, value: &Value, member: &'static str) -> Result<(HeaderName, HeaderValue), BadAnswer> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        _ => return Err(BadAnswer::Member(member)),
    };
    let name = HeaderName::try_from(name).map_err(|_| BadAnswer::Member(member))?;
    let value = HeaderValue::from_str(&text).map_err(|_| BadAnswer::Member(member))?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(answer: &str) -> (u16, Vec<(String, String)>, String) {
        let response = from_answer(answer.as_bytes()).unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let headers = parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        (parts.status.as_u16(), headers, String::from_utf8(body.to_vec()).unwrap())
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    #[tokio::test]
    async fn a_full_answer_becomes_its_response() {
        let answer = r#"{"statusCode": 201, "headers": {"Content-Type": "application/json", "X-Count": 3},
            "cookies": ["a=1; Path=/", "b=2"], "body": "e30=", "isBase64Encoded": true}"#;
        let (status, headers, body) = read(answer).await;
        assert_eq!((status, body.as_str()), (201, "{}"));
        assert_eq!(
            headers,
            [
                pair("content-type", "application/json"),
                pair("x-count", "3"),
                pair("set-cookie", "a=1; Path=/"),
                pair("set-cookie", "b=2"),
            ]
        );
    }

    #[tokio::test]
    async fn an_answer_without_status_is_a_200_whose_body_it_is() {
        for (answer, body) in
            [(r#""hello""#, "hello"), (r#"{"a":1}"#, r#"{"a":1}"#), ("[1]", "[1]"), ("null", "null")]
        {
            let (status, headers, text) = read(answer).await;
            assert_eq!((status, text.as_str()), (200, body));
            assert_eq!(headers, [pair("content-type", "application/json")]);
        }
    }

    #[tokio::test]
    async fn the_content_type_has_a_default_only_where_there_is_content() {
        assert_eq!(
            read(r#"{"statusCode": 200, "body": "x"}"#).await.1,
            [pair("content-type", "text/plain; charset=utf-8")]
        );
        assert_eq!(read(r#"{"statusCode": "204"}"#).await.1, []);
    }

    #[test]
    fn malformed_answers_are_refused() {
        let cases = [
            ("", BadAnswer::NotJson),
            ("{", BadAnswer::NotJson),
            (r#"{"statusCode": "ok"}"#, BadAnswer::Member("statusCode")),
            (r#"{"statusCode": 99}"#, BadAnswer::Member("statusCode")),
            (r#"{"statusCode": 1000}"#, BadAnswer::Member("statusCode")),
            (r#"{"statusCode": null}"#, BadAnswer::Member("statusCode")),
            (r#"{"statusCode": 200, "body": {}}"#, BadAnswer::Member("body")),
            (r#"{"statusCode": 200, "body": "%", "isBase64Encoded": true}"#, BadAnswer::Member("body")),
            (r#"{"statusCode": 200, "isBase64Encoded": "yes"}"#, BadAnswer::Member("isBase64Encoded")),
            (r#"{"statusCode": 200, "headers": []}"#, BadAnswer::Member("headers")),
            (r#"{"statusCode": 200, "headers": {"a": []}}"#, BadAnswer::Member("headers")),
            (r#"{"statusCode": 200, "headers": {"a": "x\ny"}}"#, BadAnswer::Member("headers")),
            (r#"{"statusCode": 200, "cookies": "a=1"}"#, BadAnswer::Member("cookies")),
        ];
        for (answer, expected) in cases {
            assert_eq!(from_answer(answer.as_bytes()).unwrap_err(), expected, "{answer}");
        }
    }
}
