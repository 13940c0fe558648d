//! What a client sends to the server, as it goes over the wire: statements in order, and round trips.
//!
//! A round trip begins with what is sent after an answer was received (or at first). Answers are held back for a while, so
//! that what a client sends without waiting is surely told from what it sends next.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Longer than a client takes to send what it need not wait for; a test of four round trips takes 60 ms for it.
const HELD_BACK: Duration = Duration::from_millis(15);

/// A way to the server that writes down what goes over it.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    said: Arc<Mutex<Said>>,
}

/// What was sent since the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Round trips of statements; those of signing in do not count.
    pub round_trips: usize,
    /// Statements in the order in which they were sent, their white space made single.
    pub statements: Vec<String>,
    /// Names of prepared statements, which a transaction pooler does not keep.
    pub names: Vec<String>,
    is_open: bool,
}

impl Said {
    /// Checks that it was one transaction of so many round trips: nothing before its beginning, nothing after its end, and
    /// nothing that a transaction pooler would not keep.
    ///
    /// # Panics
    /// If it was not.
    #[track_caller]
    pub fn check_transaction(&self, round_trips: usize) {
        let statements = &self.statements;
        assert_eq!(self.round_trips, round_trips, "{statements:#?}");
        assert_eq!(statements.first().map(String::as_str), Some("BEGIN"));
        assert_eq!(statements.last().map(String::as_str), Some("COMMIT"));
        let ends = statements.iter().filter(|sql| ["BEGIN", "COMMIT", "ROLLBACK"].contains(&sql.as_str()));
        assert_eq!(ends.count(), 2, "{statements:#?}");
        assert!(self.names.is_empty(), "{:?}", self.names);
    }
}

impl Wire {
    /// Listens on a free port of 127.0.0.1, in front of the server at `upstream` (`host:port`).
    ///
    /// # Panics
    /// If no port can be listened on.
    pub async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let said = Arc::new(Mutex::new(Said::default()));
        let shared = Arc::clone(&said);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&upstream).await else { continue };
                pass_on(client, server, &shared);
            }
        });
        Self { address, said }
    }

    /// `url` by this way.
    ///
    /// # Panics
    /// If `url` is no `postgres://user@host:port/database`.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        let (user, rest) = url.split_once('@').expect("the URL names a user");
        let (_, database) = rest.split_once('/').expect("the URL names a database");
        format!("{user}@{}/{database}", self.address)
    }

    /// What was sent since the last call.
    #[must_use]
    pub fn take(&self) -> Said {
        std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn pass_on(client: TcpStream, server: TcpStream, said: &Arc<Mutex<Said>>) {
    for socket in [&client, &server] {
        socket.set_nodelay(true).expect("a connected socket takes the option");
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let shared = Arc::clone(said);
    tokio::spawn(async move {
        // The first message has no type (PostgreSQL, "Message Formats", StartupMessage).
        let mut is_first = true;
        while let Ok(message) = read_message(&mut from_client, is_first).await {
            if !is_first {
                shared.lock().unwrap_or_else(PoisonError::into_inner).note(&message);
            }
            is_first = false;
            if to_server.write_all(&message).await.is_err() {
                return;
            }
        }
    });
    let shared = Arc::clone(said);
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
            tokio::time::sleep(HELD_BACK).await;
            shared.lock().unwrap_or_else(PoisonError::into_inner).is_open = false;
            if to_client.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    });
}

/// A whole message: a type, unless it is the first, and a length that counts itself.
async fn read_message(from: &mut tokio::net::tcp::OwnedReadHalf, is_first: bool) -> std::io::Result<Vec<u8>> {
    let mut message = Vec::new();
    if !is_first {
        message.push(from.read_u8().await?);
    }
    let length = from.read_u32().await?;
    message.extend_from_slice(&length.to_be_bytes());
    let start = message.len();
    message.resize(start + (length as usize).saturating_sub(4), 0);
    from.read_exact(&mut message[start..]).await?;
    Ok(message)
}

impl Said {
    fn note(&mut self, message: &[u8]) {
        let text = |from: usize| {
            let rest = message.get(from..).unwrap_or_default();
            let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            (String::from_utf8_lossy(&rest[..end]).into_owned(), from + end + 1)
        };
        let statement = match message[0] {
            b'Q' => text(5).0,
            b'P' => {
                let (name, rest) = text(5);
                if !name.is_empty() {
                    self.names.push(name);
                }
                text(rest).0
            }
            _ => return,
        };
        if !self.is_open {
            self.round_trips += 1;
            self.is_open = true;
        }
        self.statements.push(statement.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}
