//! One HTTP/1.1 request and the head of its answer, over a stream that is used once.

use crate::connect::Stream;
use crate::error::FetchError;
use crate::limits::{HEAD_MAX_BYTES, HEADERS_MAX};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::Full;
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use url::{Position, Url};

/// An answer whose body has not been read. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
    connection: Connection,
}

/// A body that owns its connection.
#[derive(Debug)]
pub(crate) struct OwnedBody {
    body: Incoming,
    _connection: Connection,
}

impl hyper::body::Body for OwnedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

impl Answer {
    /// The body, which keeps the connection until it has been read.
    pub(crate) fn into_body(self) -> OwnedBody {
        OwnedBody { body: self.body, _connection: self.connection }
    }

    /// The text of a field that stands once; of the first, if it stands more often.
    pub(crate) fn header(&self, name: header::HeaderName) -> Option<String> {
        self.headers.get(name).map(|value| field_text(value.as_bytes()))
    }
}

/// The task that drives the connection; it ends with its answer.
#[derive(Debug)]
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A request for the URL with the fields that every request has.
///
/// # Errors
/// Transient `protocol`: the parser of URLs and that of requests disagree about a character.
pub(crate) fn request(
    method: Method,
    url: &Url,
    user_agent: &str,
    fields: &[(header::HeaderName, &str)],
    body: Bytes,
) -> Result<Request<Full<Bytes>>, FetchError> {
    let protocol = || FetchError::transient("protocol");
    let host = url.host_str().ok_or_else(protocol)?;
    let host = host.strip_suffix('.').unwrap_or(host);
    let authority = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let mut builder = Request::builder()
        .method(method)
        .uri(&url[Position::BeforePath..Position::AfterQuery])
        .header(header::HOST, authority)
        .header(header::USER_AGENT, user_agent)
        .header(header::CONNECTION, "close");
    for (name, value) in fields {
        // A stored ETag may hold what a field must not: it is left out, and the answer is then unconditional.
        if let Ok(value) = header::HeaderValue::from_str(value) {
            builder = builder.header(name, value);
        }
    }
    builder.body(Full::new(body)).map_err(|_| protocol())
}

/// Sends a request and waits for the whole head of the answer.
///
/// # Errors
/// [`FetchError::TooLarge`] for the head; transient `timeout`, `truncated`, `protocol`.
pub(crate) async fn send(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
    first_byte: Duration,
) -> Result<Answer, FetchError> {
    let exchange = async {
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_MAX_BYTES)
            // Browsers forgive both, so sites have both. A connection that serves one answer has no next one to smuggle.
            .ignore_invalid_headers_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .handshake(TokioIo::new(stream))
            .await?;
        // What ends the connection early reaches the answer or its body, too.
        let task = tokio::spawn(async move {
            let _ = connection.await;
        });
        let connection = Connection(task.abort_handle());
        let (parts, body) = sender.send_request(request).await?.into_parts();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body, connection })
    };
    match timeout(first_byte, exchange).await {
        // The client only bounds its buffer, which may overshoot the limit by a read.
        Ok(Ok(answer)) if head_bytes(&answer.headers) > HEAD_MAX_BYTES => {
            Err(FetchError::TooLarge { what: "headers" })
        }
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(classify(&error)),
        Err(_) => Err(FetchError::transient("timeout")),
    }
}

/// The size of the fields as they stand in a head: `name: value\r\n`.
fn head_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// What an error of the connection means.
pub(crate) fn classify(error: &hyper::Error) -> FetchError {
    if error.is_parse_too_large() {
        return FetchError::TooLarge { what: "headers" };
    }
    let broke = error.is_incomplete_message() || error.is_closed() || error.is_canceled() || is_io(error);
    FetchError::transient(if broke { "truncated" } else { "protocol" })
}

/// The connection's own fault; what cannot be parsed comes as an I/O error of another kind.
fn is_io(error: &hyper::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput};
    std::error::Error::source(error)
        .and_then(|cause| cause.downcast_ref::<std::io::Error>())
        .is_some_and(|cause| !matches!(cause.kind(), InvalidData | InvalidInput))
}

/// A field's value as text: UTF-8, or Latin-1 where it is not (RFC 9110, section 5.5).
pub(crate) fn field_text(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => value.iter().copied().map(char::from).collect(),
    }
}
