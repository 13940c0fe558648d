//! Small HTTP servers on loopback addresses.

use axum::Router;
use axum::serve::ListenerExt as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Where everything listens, unless it needs an address of its own.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A running server. Dropping it stops it; what is being answered is cut off.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Binds and serves. Port 0 takes a free one.
    ///
    /// # Errors
    /// What the system says, such as a port in use.
    pub async fn start(host: IpAddr, port: u16, router: Router) -> io::Result<Self> {
        let listener = TcpListener::bind((host, port)).await?;
        Self::on(listener, router)
    }

    /// Serves on a listener that is bound already.
    ///
    /// # Errors
    /// What the system says.
    pub fn on(listener: TcpListener, router: Router) -> io::Result<Self> {
        let address = listener.local_addr()?;
        // Answers are small and wanted at once: Nagle's algorithm would hold them back for 40 ms. Where the option cannot be
        // set, an answer is late, not wrong.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let task = tokio::spawn(async move {
            // axum's accept loop goes on after errors; it ends only with this task.
            let _ = axum::serve(listener, service).await;
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `http://host:port`, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
