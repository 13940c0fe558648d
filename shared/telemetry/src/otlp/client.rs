//! One request to a collector: a connection of its own, HTTP/1.1, in the clear or over TLS.
//!
//! A connection that was kept would be dead after a freeze more often than not, and to a collector beside the function a new
//! one costs a fraction of a millisecond.

use crate::env::Target;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

/// An answer is a few bytes; what is longer is not read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The answer to a request: `Export{Trace,Metrics,Logs}ServiceResponse`, which are alike but for a name.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PartialSuccess {
    /// Spans, data points or log records that were not taken.
    #[prost(int64, tag = "1")]
    rejected: i64,
}

#[derive(Debug)]
pub(super) struct Client {
    target: Target,
    user_agent: String,
    tls: OnceLock<Result<Tls, String>>,
}

#[derive(Clone)]
struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// The head of an answer, with the connection that its body comes over.
pub(super) struct Head {
    status: StatusCode,
    body: Incoming,
    _connection: Driver,
}

/// The task that drives a connection; it ends with it.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Client {
    pub(super) fn new(target: Target, version: &str) -> Self {
        Self { target, user_agent: format!("callboard/{version}"), tls: OnceLock::new() }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.target.timeout
    }

    /// A body as this target wants it. The exporter is not asked to compress: where code says nothing it reads the environment,
    /// and code cannot say "none".
    pub(super) fn compressed(&self, body: Bytes) -> Bytes {
        if !self.target.gzip {
            return body;
        }
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        // Writing to memory does not fail.
        let _ = encoder.write_all(&body);
        encoder.finish().unwrap_or_default().into()
    }

    /// Sends a request and waits for the head of its answer. What went wrong is said without the URL, which may hold a key.
    ///
    /// An error means that the request is worth sending again.
    pub(super) async fn post(&self, body: Bytes) -> Result<Head, String> {
        let request = self.request(body)?;
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let driver = Driver(tokio::spawn(async move { drop(connection.await) }).abort_handle());
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        // OTLP, "Retryable Response Codes".
        if matches!(head.status.as_u16(), 429 | 502 | 503 | 504) {
            return Err(format!("it answered {}", head.status));
        }
        Ok(Head { status: head.status, body, _connection: driver })
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let url = &self.target.url;
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let mut request = Request::post(path)
            .header(HOST, host)
            .header(USER_AGENT, &self.user_agent)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        if self.target.gzip {
            request.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        for (name, value) in &self.target.headers {
            let name = HeaderName::try_from(name.as_str()).map_err(|_| "a header's name is none")?;
            let mut value = HeaderValue::from_str(value).map_err(|_| "a header's value is none")?;
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let url = &self.target.url;
        let port = url.port_or_known_default().ok_or("the URL has no port")?;
        let connected = match url.host() {
            Some(url::Host::Ipv4(address)) => TcpStream::connect((address, port)).await,
            Some(url::Host::Ipv6(address)) => TcpStream::connect((address, port)).await,
            // Known without asking a resolver, which would take a thread.
            Some(url::Host::Domain("localhost")) => TcpStream::connect(("127.0.0.1", port)).await,
            Some(url::Host::Domain(name)) => TcpStream::connect((name, port)).await,
            None => return Err("the URL has no host".into()),
        };
        let stream = connected.map_err(|error| error.kind().to_string())?;
        let _ = stream.set_nodelay(true);
        if url.scheme() != "https" {
            return Ok(Box::new(stream));
        }
        let tls = self.tls.get_or_init(|| self.tls()).clone()?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let stream = tls.0.connect(name, stream).await.map_err(|error| error.to_string())?;
        Ok(Box::new(stream))
    }

    /// Trusts the public authorities, or those of the configured file in their place.
    fn tls(&self) -> Result<Tls, String> {
        let mut roots = rustls::RootCertStore::empty();
        match &self.target.certificate {
            Some(path) => {
                for certificate in certificates(path, "the authorities' certificates")? {
                    roots.add(certificate).map_err(|error| error.to_string())?;
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let config = match &self.target.client {
            Some((key, certificate)) => {
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| format!("the client's key cannot be read: {error}"))?;
                config
                    .with_client_auth_cert(certificates(certificate, "the client's certificate")?, key)
                    .map_err(|error| error.to_string())?
            }
            None => config.with_no_client_auth(),
        };
        Ok(Tls(TlsConnector::from(Arc::new(config))))
    }
}

/// A file without any is refused here: rustls would only find that it believes nobody.
fn certificates(path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let found = read().map_err(|error: pem::Error| format!("{what} cannot be read: {error}"))?;
    if found.is_empty() {
        return Err(format!("{what} cannot be read: there is none in the file"));
    }
    Ok(found)
}

impl Head {
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// How many items the body says were not taken. A body that is too long, or no message, rejects none.
    pub(super) async fn rejected(self) -> u64 {
        let Self { body, _connection, .. } = self;
        let Ok(body) = Limited::new(body, ANSWER_BYTES_MAX).collect().await else { return 0 };
        let rejected = Answer::decode(body.to_bytes()).ok().and_then(|answer| answer.partial_success);
        rejected.and_then(|partial| u64::try_from(partial.rejected).ok()).unwrap_or(0)
    }
}
