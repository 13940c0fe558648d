//! A small world of sites for the fetcher: names with public addresses, behind which a local server answers.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use fetch::connect::Connect;
use fetch::hosts::{HostPolicy, HostRecord, Hosts, MemoryHosts};
use fetch::judge::JudgedAddr;
use fetch::limits::TimeLimits;
use fetch::pace::{NoPace, Pace};
use fetch::{FetchConfig, Fetcher, Request, RequestKind, Resolve, Seams};
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// So long that a busy machine breaks no test that is not about time.
pub const ROOMY: TimeLimits = TimeLimits {
    connect: Duration::from_secs(30),
    first_byte: Duration::from_secs(30),
    total: Duration::from_secs(60),
};

/// Short, for tests of the limits themselves.
pub const SHORT: TimeLimits = TimeLimits {
    connect: Duration::from_millis(500),
    first_byte: Duration::from_millis(500),
    total: Duration::from_millis(800),
};

/// A request as the site saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub head: String,
}

impl Seen {
    pub fn field(&self, name: &str) -> Option<String> {
        let prefix = format!("{name}:");
        self.head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(&prefix))
            .map(|line| line[prefix.len()..].trim().to_owned())
    }
}

/// What a site does with a request.
#[derive(Debug, Clone)]
pub enum Act {
    Send(Vec<u8>),
    /// A byte now and then, without an end.
    Drip(u8),
    /// Nothing, until the client goes away.
    Hold,
}

pub fn reply(text: impl Into<Vec<u8>>) -> Vec<Act> {
    vec![Act::Send(text.into())]
}

/// A complete answer with `Content-Length`; `fields` are whole lines.
pub fn ok(fields: &str, body: impl AsRef<[u8]>) -> Vec<Act> {
    status(200, fields, body)
}

pub fn status(status: u16, fields: &str, body: impl AsRef<[u8]>) -> Vec<Act> {
    let body = body.as_ref();
    let fields: String = fields.lines().map(|line| format!("{line}\r\n")).collect();
    let head = format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    reply([head.as_bytes(), body].concat())
}

pub fn redirect(to: &str) -> Vec<Act> {
    status(302, &format!("Location: {to}"), "")
}

type Handler = Arc<dyn Fn(&Seen) -> Option<Vec<Act>> + Send + Sync>;

/// A site on a local port; what its handler does not answer is 404.
pub struct Site {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

impl Site {
    pub async fn start(handler: impl Fn(&Seen) -> Option<Vec<Act>> + Send + Sync + 'static) -> Self {
        Self::start_on("127.0.0.1:0", handler).await
    }

    pub async fn start_on(
        address: &str,
        handler: impl Fn(&Seen) -> Option<Vec<Act>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let (log, handler) = (Arc::clone(&seen), Arc::new(handler) as Handler);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&log), Arc::clone(&handler)));
            }
        });
        Self { address, seen }
    }

    /// The same behind the test's certificate for `a.example` and `b.example`.
    pub async fn start_tls(handler: impl Fn(&Seen) -> Option<Vec<Act>> + Send + Sync + 'static) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = include_bytes!("../tls/site.key.der").to_vec();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![include_bytes!("../tls/site.der").to_vec().into()],
                key.try_into().unwrap(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let (log, handler) = (Arc::clone(&seen), Arc::new(handler) as Handler);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, log, handler) = (acceptor.clone(), Arc::clone(&log), Arc::clone(&handler));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, log, handler).await;
                    }
                });
            }
        });
        Self { address, seen }
    }

    pub fn targets(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
    }

    pub fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().cloned().unwrap()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    log: Arc<Mutex<Vec<Seen>>>,
    handler: Handler,
) {
    let mut head = Vec::new();
    let mut chunk = [0; 4_096];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => head.extend_from_slice(&chunk[..read]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut words = head.split_whitespace();
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let seen = Seen { method, target, head: head.clone() };
    log.lock().unwrap().push(seen.clone());
    for act in handler(&seen).unwrap_or_else(|| status(404, "", "not here")) {
        match act {
            Act::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::Drip(byte) => {
                while stream.write_all(&[byte]).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            Act::Hold => while stream.read(&mut chunk).await.is_ok_and(|read| read > 0) {},
        }
    }
    let _ = stream.shutdown().await;
}

/// The answers of one name, and how many were given.
type Answers = (Vec<Vec<IpAddr>>, usize);

/// Successive answers of a name; the last repeats.
#[derive(Default)]
pub struct Names {
    answers: Mutex<HashMap<String, Answers>>,
    pub lookups: AtomicUsize,
}

impl Names {
    pub fn set(&self, name: &str, answers: &[&[&str]]) {
        let parsed = answers.iter().map(|one| one.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        self.answers.lock().unwrap().insert(name.to_owned(), (parsed, 0));
    }
}

impl Resolve for Names {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            self.lookups.fetch_add(1, Ordering::Relaxed);
            let mut answers = self.answers.lock().unwrap();
            let Some((list, next)) = answers.get_mut(name) else {
                return Err(io::Error::other("no such name"));
            };
            let answer = list[(*next).min(list.len() - 1)].clone();
            *next += 1;
            Ok(answer)
        })
    }
}

/// Records every judged address, and connects to the local server that stands behind it.
#[derive(Default)]
pub struct Wires {
    behind: Mutex<HashMap<IpAddr, SocketAddr>>,
    pub connected: Mutex<Vec<SocketAddr>>,
}

impl Connect for Wires {
    fn connect(&self, address: JudgedAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async move {
            let address = address.socket();
            self.connected.lock().unwrap().push(address);
            let behind = self.behind.lock().unwrap().get(&address.ip()).copied();
            match behind {
                Some(local) => TcpStream::connect(local).await,
                None => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
}

/// Everything around a fetcher.
pub struct World {
    pub names: Arc<Names>,
    pub wires: Arc<Wires>,
    pub hosts: Arc<MemoryHosts>,
    pub fetcher: Fetcher,
}

impl World {
    pub fn new() -> Self {
        Self::limited(ROOMY)
    }

    pub fn limited(limits: TimeLimits) -> Self {
        Self::with(Arc::new(NoPace), FetchConfig { limits, ..FetchConfig::default() })
    }

    pub fn with(pace: Arc<dyn Pace>, config: FetchConfig) -> Self {
        let (names, wires) = (Arc::<Names>::default(), Arc::<Wires>::default());
        let hosts = Arc::<MemoryHosts>::default();
        let seams = Seams {
            resolver: Arc::<Names>::clone(&names),
            connector: Arc::<Wires>::clone(&wires),
            pace,
            hosts: Arc::<MemoryHosts>::clone(&hosts) as Arc<dyn Hosts>,
        };
        Self { fetcher: Fetcher::new(config, seams), names, wires, hosts }
    }

    /// Puts a site behind a name with a public address.
    pub fn place(&self, name: &str, site: &Site) {
        let number = self.wires.behind.lock().unwrap().len() + 1;
        let address = format!("93.184.216.{number}");
        self.names.set(name, &[&[&address]]);
        self.wires.behind.lock().unwrap().insert(address.parse().unwrap(), site.address);
    }

    pub fn policy(&self, host: &str, policy: HostPolicy) {
        self.hosts.set(host, HostRecord { policy, robots: None });
    }

    pub async fn page(&self, url: &str) -> Result<fetch::Response, fetch::FetchError> {
        self.fetcher.get(&Request::new(url, RequestKind::Page)).await
    }

    pub fn connected(&self) -> Vec<String> {
        self.wires.connected.lock().unwrap().iter().map(ToString::to_string).collect()
    }
}
