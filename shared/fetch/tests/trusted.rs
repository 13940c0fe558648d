//! Endpoints that the operator configured.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use bytes::Bytes;
use fetch::{TrustedError, trusted_get, trusted_put};
use std::time::Duration;
use support::{Act, Site, ok, redirect, status};

const LIMIT: Duration = Duration::from_millis(1_000);

#[tokio::test]
async fn a_configured_endpoint_is_read_within_its_limits() {
    let site = Site::start(|seen| {
        Some(match seen.target.as_str() {
            "/keys" => ok("Cache-Control: max-age=60", r#"{"keys":[]}"#),
            "/moved" => redirect("/keys"),
            "/silent" => vec![Act::Hold],
            _ => return None,
        })
    })
    .await;
    let url = |path: &str| format!("http://localhost:{}{path}", site.address.port());
    let answer = trusted_get(&url("/keys"), LIMIT, 1_000).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &br#"{"keys":[]}"#[..]));
    assert_eq!(answer.headers["cache-control"], "max-age=60");
    assert_eq!(trusted_get(&url("/moved"), LIMIT, 1_000).await.unwrap().status, 302);
    let code = |result: Result<fetch::TrustedResponse, TrustedError>| match result.unwrap_err() {
        TrustedError::Fetch(error) => error.code().to_owned(),
        TrustedError::Url => "url".to_owned(),
    };
    assert_eq!(code(trusted_get(&url("/keys"), LIMIT, 5).await), "too_large");
    assert_eq!(code(trusted_get(&url("/silent"), Duration::from_millis(100), 5).await), "timeout");
    for url in ["http://keys.example/", "http://10.0.0.1/", "ftp://localhost/", "keys", ""] {
        assert_eq!(code(trusted_get(url, LIMIT, 1_000).await), "url", "{url}");
    }
}

#[tokio::test]
async fn a_put_sends_its_body_and_only_the_content_type_it_is_given() {
    let site = Site::start(|_| Some(status(200, "", "done"))).await;
    let url = format!("http://{}/answer?X-Amz-Signature=a%2Fb", site.address);
    let answer = trusted_put(&url, Bytes::from_static(b"{}"), None, LIMIT).await.unwrap();
    assert_eq!(answer.status, 200);
    let seen = site.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("PUT", "/answer?X-Amz-Signature=a%2Fb"));
    assert_eq!((seen.field("content-length").as_deref(), seen.field("content-type")), (Some("2"), None));
    trusted_put(&url, Bytes::new(), Some("application/json"), LIMIT).await.unwrap();
    assert_eq!(site.last().field("content-type").as_deref(), Some("application/json"));
}
