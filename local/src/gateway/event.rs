//! A request as a payload 2.0 event.

use crate::template::ACCOUNT;
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderName, Version, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use url::form_urlencoded;

/// The local API's id.
const API_ID: &str = "local";

/// What the gateway knows beside the request itself.
#[derive(Debug, Clone)]
pub struct Context {
    /// The client's address.
    pub source_ip: IpAddr,
    /// The gateway's own id of the request.
    pub request_id: String,
    /// When it arrived.
    pub now: Timestamp,
    /// The `X-Amzn-Trace-Id` that the function sees.
    pub trace_header: String,
}

/// Whether the `Host` is one that a front could have routed by; AWS refuses anything else before any integration.
#[must_use]
pub fn has_usable_host(parts: &Parts) -> bool {
    match host(parts) {
        None => false,
        Some(host) => host.parse::<Authority>().is_ok_and(|authority| !authority.as_str().contains('@')),
    }
}

fn host(parts: &Parts) -> Option<&str> {
    match parts.headers.get(header::HOST) {
        Some(value) => value.to_str().ok(),
        // An absolute-form target carries it (RFC 9112, 3.2.2).
        None => parts.uri.authority().map(Authority::as_str),
    }
}

/// The event of a request.
#[must_use]
pub fn from_request(parts: &Parts, body: &[u8], context: &Context) -> Value {
    let path = raw_path(parts.uri.path());
    let host = host(parts).unwrap_or_default();
    let domain = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let (headers, cookies) = headers(parts, context, host);
    let user_agent = headers.get("user-agent").cloned().unwrap_or_else(|| "".into());
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": parts.uri.query().unwrap_or_default(),
    });
    if !cookies.is_empty() {
        event["cookies"] = cookies.into();
    }
    event["headers"] = headers.into();
    let query = query_parameters(parts.uri.query().unwrap_or_default());
    if !query.is_empty() {
        event["queryStringParameters"] = query.into();
    }
    event["requestContext"] = json!({
        "accountId": ACCOUNT,
        "apiId": API_ID,
        "domainName": domain,
        "domainPrefix": domain.split('.').next().unwrap_or_default(),
        "http": {
            "method": parts.method.as_str(),
            "path": path,
            "protocol": protocol(parts.version),
            "sourceIp": context.source_ip.to_string(),
            "userAgent": user_agent,
        },
        "requestId": context.request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": context.now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
        "timeEpoch": context.now.as_millisecond(),
    });
    let text = std::str::from_utf8(body).ok().filter(|_| is_text(parts));
    match text {
        _ if body.is_empty() => {}
        Some(text) => event["body"] = text.into(),
        None => event["body"] = STANDARD.encode(body).into(),
    }
    event["isBase64Encoded"] = (!body.is_empty() && text.is_none()).into();
    event
}

/// The path as an HTTP API hands it on: percent-decoded, and cut at a `?` that comes to light by that.
fn raw_path(path: &str) -> String {
    // Bytes that are no UTF-8 become U+FFFD: an event is JSON and cannot hold them.
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned();
    match decoded.split_once('?') {
        Some((before, _)) => before.to_owned(),
        None => decoded,
    }
}

/// Lower-case names; several values joined by commas; cookies apart; what concerns one connection only left out
/// (RFC 9110, 7.6.1).
fn headers(parts: &Parts, context: &Context, host: &str) -> (Map<String, Value>, Vec<String>) {
    const HOP_BY_HOP: [HeaderName; 5] =
        [header::CONNECTION, header::TE, header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE];
    let mut out = Map::new();
    let mut cookies = Vec::new();
    for name in parts.headers.keys().filter(|name| !HOP_BY_HOP.contains(name) && *name != "keep-alive") {
        let values: Vec<String> = parts
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        if name == header::COOKIE {
            cookies = values.iter().flat_map(|value| value.split(';')).map(|c| c.trim().to_owned()).collect();
            cookies.retain(|cookie| !cookie.is_empty());
            continue;
        }
        out.insert(name.as_str().to_owned(), values.join(",").into());
    }
    out.insert("host".into(), host.into());
    let port = host.rsplit_once(':').map_or("80", |(_, port)| port);
    let forwarded = match out.get("x-forwarded-for").and_then(Value::as_str) {
        Some(earlier) => format!("{earlier}, {}", context.source_ip),
        None => context.source_ip.to_string(),
    };
    out.insert("x-forwarded-for".into(), forwarded.into());
    out.insert("x-forwarded-port".into(), port.into());
    out.insert("x-forwarded-proto".into(), "http".into());
    out.insert("x-amzn-trace-id".into(), context.trace_header.as_str().into());
    (out, cookies)
}

/// Decoded; several values of one name joined by commas.
fn query_parameters(query: &str) -> Map<String, Value> {
    let mut out: Map<String, Value> = Map::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match out.get_mut(&*name) {
            Some(Value::String(earlier)) => {
                earlier.push(',');
                earlier.push_str(&value);
            }
            _ => {
                out.insert(name.into_owned(), value.into());
            }
        }
    }
    out
}

/// What an HTTP API takes for text; the body of anything else arrives in base64.
fn is_text(parts: &Parts) -> bool {
    if parts.headers.contains_key(header::CONTENT_ENCODING) {
        return false;
    }
    let Some(value) = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.starts_with("text/")
        || matches!(&*media_type, "application/json" | "application/xml" | "application/javascript")
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn event(builder: axum::http::request::Builder, body: &[u8]) -> Value {
        let (parts, ()) = builder.body(()).unwrap().into_parts();
        let context = Context {
            source_ip: "127.0.0.1".parse().unwrap(),
            request_id: "id".into(),
            now: "2026-11-25T22:20:50Z".parse().unwrap(),
            trace_header: "Root=1-0-0".into(),
        };
        from_request(&parts, body, &context)
    }

    #[test]
    fn a_whole_request_becomes_the_documented_event() {
        let builder = Request::builder()
            .method("POST")
            .uri("/discoveries?x=1&x=2&y=a%20b+c&z")
            .header("Host", "127.0.0.1:8080")
            .header("Content-Type", "application/json")
            .header("Accept", "a/b")
            .header("Accept", "c/d")
            .header("Cookie", "one=1; two=2")
            .header("Connection", "keep-alive")
            .header("User-Agent", "test");
        assert_eq!(
            event(builder, b"{\"a\":1}"),
            json!({
                "version": "2.0",
                "routeKey": "$default",
                "rawPath": "/discoveries",
                "rawQueryString": "x=1&x=2&y=a%20b+c&z",
                "cookies": ["one=1", "two=2"],
                "headers": {
                    "host": "127.0.0.1:8080",
                    "content-type": "application/json",
                    "accept": "a/b,c/d",
                    "user-agent": "test",
                    "x-forwarded-for": "127.0.0.1",
                    "x-forwarded-port": "8080",
                    "x-forwarded-proto": "http",
                    "x-amzn-trace-id": "Root=1-0-0",
                },
                "queryStringParameters": {"x": "1,2", "y": "a b c", "z": ""},
                "requestContext": {
                    "accountId": "123456789012",
                    "apiId": "local",
                    "domainName": "127.0.0.1",
                    "domainPrefix": "127",
                    "http": {
                        "method": "POST",
                        "path": "/discoveries",
                        "protocol": "HTTP/1.1",
                        "sourceIp": "127.0.0.1",
                        "userAgent": "test",
                    },
                    "requestId": "id",
                    "routeKey": "$default",
                    "stage": "$default",
                    "time": "25/Nov/2026:22:20:50 +0000",
                    "timeEpoch": 1_795_645_250_000_i64,
                },
                "body": "{\"a\":1}",
                "isBase64Encoded": false,
            })
        );
    }

    #[test]
    fn a_request_without_body_query_or_cookies_has_no_such_members() {
        let event = event(Request::builder().uri("/").header("Host", "a"), b"");
        for member in ["body", "cookies", "queryStringParameters"] {
            assert!(event.get(member).is_none(), "{member}");
        }
        assert_eq!((&event["rawQueryString"], &event["isBase64Encoded"]), (&json!(""), &json!(false)));
    }

    #[test]
    fn the_raw_path_is_decoded_and_cut_at_a_hidden_question_mark() {
        let cases = [
            ("/a%2Fb", "/a/b"),
            ("/a%20b/%C3%A4", "/a b/ä"),
            ("/a%3Fadmin=true", "/a"),
            ("/100%", "/100%"),
            ("/%zz", "/%zz"),
            ("/a+b", "/a+b"),
        ];
        for (path, expected) in cases {
            let event = event(Request::builder().uri(path).header("Host", "a"), b"");
            assert_eq!(event["rawPath"], expected, "{path}");
        }
    }

    #[test]
    fn bodies_that_are_not_text_arrive_in_base64() {
        type Case = (Option<&'static str>, Option<&'static str>, &'static [u8], bool);
        let cases: [Case; 8] = [
            (Some("application/json"), None, b"{}", false),
            (Some("application/json; charset=utf-8"), None, b"{}", false),
            (Some("text/plain"), None, b"x", false),
            (Some("application/octet-stream"), None, b"x", true),
            (Some("application/x-www-form-urlencoded"), None, b"a=b", true),
            (None, None, b"x", true),
            (Some("application/json"), Some("gzip"), b"x", true),
            (Some("application/json"), None, b"\xff\xfe", true),
        ];
        for (content_type, encoding, body, encoded) in cases {
            let mut builder = Request::builder().uri("/").header("Host", "a");
            if let Some(value) = content_type {
                builder = builder.header("Content-Type", value);
            }
            if let Some(value) = encoding {
                builder = builder.header("Content-Encoding", value);
            }
            let event = event(builder, body);
            assert_eq!(event["isBase64Encoded"], encoded, "{content_type:?} {encoding:?}");
            if encoded {
                assert_eq!(event["body"], STANDARD.encode(body));
            }
        }
    }

    #[test]
    fn a_host_that_no_front_could_route_by_is_refused() {
        for (host, usable) in [
            ("127.0.0.1:8080", true),
            ("api.example.org", true),
            ("a b", false),
            ("user@host", false),
            ("", false),
        ] {
            let (parts, ()) = Request::builder().uri("/").header("Host", host).body(()).unwrap().into_parts();
            assert_eq!(has_usable_host(&parts), usable, "{host:?}");
        }
    }
}
