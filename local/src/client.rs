//! A small HTTP client for the commands: one request, one connection, loopback.

use anyhow::{Context as _, bail};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Duration;
use tokio::net::TcpStream;

/// A command that waits longer than this for one answer is better off with an error.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// `migrate` may take as long as the function may.
pub const LONG_LIMIT: Duration = Duration::from_secs(960);

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; `Null` if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What an error says, for a person: the problem's title, detail and errors, or the body.
    #[must_use]
    pub fn problem(&self) -> String {
        let body = self.json();
        let mut text = match (body["title"].as_str(), body["detail"].as_str()) {
            (Some(title), Some(detail)) => format!("{title}: {detail}"),
            (Some(text), None) | (None, Some(text)) => text.to_owned(),
            (None, None) => String::from_utf8_lossy(&self.body).into_owned(),
        };
        for error in body["errors"].as_array().into_iter().flatten() {
            let pointer = error["pointer"].as_str().unwrap_or_default();
            let detail = error["detail"].as_str().unwrap_or_default();
            if text.contains(detail) {
                continue;
            }
            text.push_str(&format!("; {pointer}: {detail}"));
        }
        format!("{} {text}", self.status.as_u16())
    }
}

/// A request that is sent with [`send`].
#[derive(Debug, Clone)]
pub struct Call<'a> {
    method: &'static str,
    url: String,
    headers: Vec<(&'static str, &'a str)>,
    body: Bytes,
    limit: Duration,
}

impl<'a> Call<'a> {
    /// A GET.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self { method: "GET", url: url.into(), headers: Vec::new(), body: Bytes::new(), limit: ANSWER_LIMIT }
    }

    /// A POST of JSON.
    #[must_use]
    pub fn post(url: impl Into<String>, body: &Value) -> Self {
        Self::post_bytes(url, body.to_string())
    }

    /// A POST of JSON that is text already.
    #[must_use]
    pub fn post_bytes(url: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let mut call = Self::get(url).header("content-type", "application/json");
        call.method = "POST";
        call.body = body.into();
        call
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With another limit than the usual one.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

/// Sends a request and reads the whole answer.
///
/// # Errors
/// If nobody answers; an answer of any status is none.
pub async fn send(call: Call<'_>) -> anyhow::Result<Answer> {
    let url = call.url.clone();
    match tokio::time::timeout(call.limit, exchange(call)).await {
        Ok(answer) => answer.with_context(|| format!("no answer from {url}")),
        Err(_) => bail!("no answer from {url} in time"),
    }
}

async fn exchange(call: Call<'_>) -> anyhow::Result<Answer> {
    let uri: axum::http::Uri = call.url.parse()?;
    let authority = uri.authority().context("the URL has no host")?.as_str().to_owned();
    let stream = TcpStream::connect(&authority).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Its errors reach the request that is under way.
    let driver = tokio::spawn(connection);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = hyper::Request::builder().method(call.method).uri(target).header("host", authority);
    for (name, value) in call.headers {
        request = request.header(name, value);
    }
    let response = sender.send_request(request.body(Full::new(call.body))?).await?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    driver.abort();
    Ok(Answer { status: parts.status, headers: parts.headers, body })
}

/// The JSON of a GET that succeeds.
///
/// # Errors
/// If nobody answers, or with another status than 200.
pub async fn get_json(url: String) -> anyhow::Result<Value> {
    let answer = send(Call::get(&url)).await?;
    if answer.status != StatusCode::OK {
        bail!("{url}: {}", answer.problem());
    }
    Ok(answer.json())
}
