//! From judged addresses to an open stream.

use crate::error::FetchError;
use crate::judge::JudgedAddr;
use crate::limits::ADDRESSES_TRIED_MAX;
use futures::future::BoxFuture;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Opens a connection. Its only argument cannot be made but by judging.
pub trait Connect: Send + Sync {
    /// Connects to exactly that address.
    ///
    /// # Errors
    /// Those of the socket.
    fn connect(&self, address: JudgedAddr) -> BoxFuture<'_, io::Result<TcpStream>>;
}

/// A TCP socket of this machine. No proxy is asked, whatever the environment says.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnect;

impl Connect for TcpConnect {
    fn connect(&self, address: JudgedAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(address.socket()))
    }
}

/// A stream, plain or encrypted.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to the first address that answers within `limit`, and encrypts for the name beside `tls`.
///
/// # Errors
/// Transient `connect`, `tls`, `timeout`.
pub(crate) async fn open(
    connector: &dyn Connect,
    addresses: &[JudgedAddr],
    tls: Option<(&Tls, &str)>,
    limit: Duration,
) -> Result<Box<dyn Stream>, FetchError> {
    let deadline = Instant::now() + limit;
    let tried = by_turns(addresses);
    let mut last = FetchError::transient("connect");
    for (index, address) in tried.iter().enumerate() {
        // The rest of the time is shared among the addresses left, so that a dead first one leaves some to the others.
        let left = u32::try_from(tried.len() - index).unwrap_or(1);
        let until = Instant::now() + deadline.saturating_duration_since(Instant::now()) / left;
        match timeout_at(until, connector.connect(*address)).await {
            Ok(Ok(stream)) => {
                // Requests are one small write; waiting to fill a segment only costs time. Not having it is no error.
                let _ = stream.set_nodelay(true);
                return match tls {
                    None => Ok(Box::new(stream)),
                    Some((tls, name)) => tls.encrypt(stream, name, deadline).await,
                };
            }
            Ok(Err(_)) => last = FetchError::transient("connect"),
            Err(_) => last = FetchError::transient("timeout"),
        }
    }
    Err(last)
}

/// The first addresses, families by turns in the resolver's order, so that a machine without IPv6 reaches an IPv4 address
/// behind many others.
fn by_turns(addresses: &[JudgedAddr]) -> Vec<JudgedAddr> {
    let first_is_v4 = addresses.first().is_some_and(|address| address.socket().is_ipv4());
    let (mut a, mut b): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.socket().is_ipv4() == first_is_v4);
    (a, b) = (a.into_iter().rev().collect(), b.into_iter().rev().collect());
    let mut out = Vec::new();
    while out.len() < ADDRESSES_TRIED_MAX && (!a.is_empty() || !b.is_empty()) {
        out.extend(a.pop());
        out.extend(b.pop());
    }
    out.truncate(ADDRESSES_TRIED_MAX);
    out
}

/// The client's side of TLS: the public roots, HTTP/1.1 only. Made at the first encrypted request, because reading the
/// roots is not for the cold start.
#[derive(Default)]
pub(crate) struct Tls {
    extra_roots: Vec<Vec<u8>>,
    config: OnceLock<Arc<rustls::ClientConfig>>,
}

impl Tls {
    pub(crate) fn new(extra_roots: Vec<Vec<u8>>) -> Self {
        Self { extra_roots, config: OnceLock::new() }
    }

    pub(crate) async fn encrypt(
        &self,
        stream: TcpStream,
        name: &str,
        deadline: Instant,
    ) -> Result<Box<dyn Stream>, FetchError> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| FetchError::transient("tls"))?;
        match timeout_at(deadline, self.connector().connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(_)) => Err(FetchError::transient("tls")),
            Err(_) => Err(FetchError::transient("timeout")),
        }
    }

    fn connector(&self) -> TlsConnector {
        let config = self.config.get_or_init(|| {
            let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            roots.add_parsable_certificates(self.extra_roots.iter().map(|der| der.as_slice().into()));
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("the provider supports rustls's own default versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(config)
        });
        TlsConnector::from(Arc::clone(config))
    }
}
