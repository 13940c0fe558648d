//! Requests to endpoints that the operator configured: the issuer's keys, CloudFormation's answer address.
//!
//! They may lie inside the operator's network, so their addresses are not judged; they are never taken from what came
//! from outside. Only https, or http to this machine. No redirect is followed.

use crate::body::{self, Coding, Overflow};
use crate::connect::{Stream, Tls};
use crate::error::FetchError;
use crate::exchange;
use bytes::Bytes;
use http::{Method, header};
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use url::{Host, Url};

/// The most of an answer to [`trusted_put`] that is read.
const PUT_ANSWER_MAX_BYTES: usize = 64 * 1024;
const USER_AGENT: &str = concat!("callboard/", env!("CARGO_PKG_VERSION"));

/// What the endpoint answered, whatever the status.
#[derive(Debug, Clone)]
pub struct TrustedResponse {
    /// The status.
    pub status: u16,
    /// The fields.
    pub headers: http::HeaderMap,
    /// The decoded body.
    pub body: Bytes,
}

/// Why an endpoint gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum TrustedError {
    /// Not https, nor http on this machine: a mistake in the configuration.
    #[error("a configured endpoint must be an https URL, or http on this machine")]
    Url,
    /// The endpoint could not be reached or read.
    #[error("the configured endpoint does not answer ({})", .0.code())]
    Fetch(FetchError),
}

/// Gets a document of at most `limit_bytes` decoded bytes within `time_limit`.
///
/// # Errors
/// [`TrustedError::Url`] for good; [`TrustedError::Fetch`] is worth a retry unless the answer is too large.
pub async fn trusted_get(
    url: &str,
    time_limit: Duration,
    limit_bytes: usize,
) -> Result<TrustedResponse, TrustedError> {
    let url = endpoint(url)?;
    let fields =
        [(header::ACCEPT, "application/json, */*;q=0.5"), (header::ACCEPT_ENCODING, Coding::ACCEPTED)];
    within(time_limit, exchange(Method::GET, &url, &fields, Bytes::new(), time_limit, limit_bytes)).await
}

/// Puts a body. A presigned address may bind the content type: None sends no such field.
///
/// # Errors
/// As [`trusted_get`].
pub async fn trusted_put(
    url: &str,
    body: Bytes,
    content_type: Option<&str>,
    time_limit: Duration,
) -> Result<TrustedResponse, TrustedError> {
    let url = endpoint(url)?;
    let fields: Vec<_> = content_type.map(|value| (header::CONTENT_TYPE, value)).into_iter().collect();
    within(time_limit, exchange(Method::PUT, &url, &fields, body, time_limit, PUT_ANSWER_MAX_BYTES)).await
}

fn endpoint(url: &str) -> Result<Url, TrustedError> {
    let url = Url::parse(url).map_err(|_| TrustedError::Url)?;
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(TrustedError::Url),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_here => Ok(url),
        _ => Err(TrustedError::Url),
    }
}

async fn within(
    time_limit: Duration,
    work: impl Future<Output = Result<TrustedResponse, FetchError>>,
) -> Result<TrustedResponse, TrustedError> {
    timeout(time_limit, work)
        .await
        .unwrap_or_else(|_| Err(FetchError::transient("timeout")))
        .map_err(TrustedError::Fetch)
}

async fn exchange(
    method: Method,
    url: &Url,
    fields: &[(header::HeaderName, &str)],
    body: Bytes,
    time_limit: Duration,
    limit_bytes: usize,
) -> Result<TrustedResponse, FetchError> {
    let request = exchange::request(method, url, USER_AGENT, fields, body)?;
    let answer = exchange::send(open(url, time_limit).await?, request, time_limit).await?;
    let coding = Coding::parse(&answer.header(header::CONTENT_ENCODING).unwrap_or_default())?;
    let (status, headers) = (answer.status, answer.headers.clone());
    let body = body::read(answer.into_body(), coding, limit_bytes, Overflow::Refuse).await?;
    Ok(TrustedResponse { status, headers, body })
}

async fn open(url: &Url, time_limit: Duration) -> Result<Box<dyn Stream>, FetchError> {
    let port = url.port_or_known_default().ok_or_else(|| FetchError::transient("connect"))?;
    let connected = match url.host() {
        Some(Host::Domain(name)) => TcpStream::connect((name, port)).await,
        Some(Host::Ipv4(address)) => TcpStream::connect((IpAddr::V4(address), port)).await,
        Some(Host::Ipv6(address)) => TcpStream::connect((IpAddr::V6(address), port)).await,
        None => return Err(FetchError::transient("connect")),
    };
    let stream = connected.map_err(|_| FetchError::transient("connect"))?;
    if url.scheme() != "https" {
        return Ok(Box::new(stream));
    }
    let name = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => return Err(FetchError::transient("tls")),
    };
    static TLS: LazyLock<Tls> = LazyLock::new(Tls::default);
    TLS.encrypt(stream, &name, Instant::now() + time_limit).await
}
