//! Stands between the functions and PostgreSQL, and breaks connections as the plan says: at an exact byte, around a
//! COMMIT, or not at all.

use crate::plan::{ConnectionFault, Direction, Plan};
use crate::tally::Tally;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How `tokio-postgres` commits: a simple query with this text.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
/// A connection that comes before the server's address is known waits for it.
const TARGET_LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The running proxy. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Cutter {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    plan: Plan,
    tally: Tally,
    target: OnceLock<SocketAddr>,
    is_calm: AtomicBool,
    connections: AtomicU64,
}

impl Cutter {
    /// Listens; calm until [`Self::strike`].
    pub fn start(plan: Plan, tally: Tally) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        let shared = Arc::new(Shared {
            plan,
            tally,
            target: OnceLock::new(),
            is_calm: AtomicBool::new(true),
            connections: AtomicU64::new(0),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = accepting.clone();
                std::thread::spawn(move || serve(client, &shared));
            }
        });
        Self { address, shared }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where the server is.
    pub fn lead_to(&self, target: SocketAddr) {
        // The server keeps its address for its life.
        let _ = self.shared.target.set(target);
    }

    /// From now on new connections have the plan's fates.
    pub fn strike(&self) {
        self.shared.is_calm.store(false, Ordering::SeqCst);
    }

    /// From now on nothing breaks, in old connections neither.
    pub fn calm(&self) {
        self.shared.is_calm.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::SeqCst)
    }

    fn target(&self) -> Option<SocketAddr> {
        let deadline = std::time::Instant::now() + TARGET_LIMIT;
        loop {
            match self.target.get() {
                Some(target) => return Some(*target),
                None if std::time::Instant::now() >= deadline => return None,
                None => std::thread::sleep(LOOK_EVERY),
            }
        }
    }
}

fn serve(client: TcpStream, shared: &Arc<Shared>) -> Option<()> {
    let target = shared.target()?;
    let fault = if shared.is_calm() {
        ConnectionFault::None
    } else {
        shared.plan.connection(shared.connections.fetch_add(1, Ordering::SeqCst))
    };
    if fault == ConnectionFault::Refused {
        shared.tally.add("connection: refused");
        return None;
    }
    let server = TcpStream::connect(target).ok()?;
    // Small messages back and forth: waiting to fill a packet would be measured as the database's slowness.
    client.set_nodelay(true).ok()?;
    server.set_nodelay(true).ok()?;
    let (from, to) = (client.try_clone().ok()?, server.try_clone().ok()?);
    let upwards = shared.clone();
    std::thread::spawn(move || pump(from, to, Direction::ToServer, fault, &upwards));
    pump(server, client, Direction::ToClient, fault, shared);
    Some(())
}

/// Moves bytes one way until one side is done or the fate strikes.
fn pump(mut from: TcpStream, mut to: TcpStream, way: Direction, fault: ConnectionFault, shared: &Shared) {
    let mut buffer = [0; 16 * 1024];
    let mut passed = 0;
    let mut commits = 0;
    let mut has_stalled = false;
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..read];
        let fault = if shared.is_calm() { ConnectionFault::None } else { fault };
        match fault {
            ConnectionFault::CutAfter(direction, limit) if direction == way => {
                let room = usize::try_from(limit.saturating_sub(passed)).unwrap_or(usize::MAX);
                if room < read {
                    shared.tally.add("connection: cut at a byte");
                    // What was let through arrives, then both sides find the connection gone.
                    let _ = to.write_all(&bytes[..room]);
                    return cut(&from, &to);
                }
            }
            ConnectionFault::CutAtCommit { nth, is_done } if way == Direction::ToServer => {
                if let Some(at) = find(bytes, COMMIT) {
                    commits += 1;
                    if commits == nth && is_done {
                        shared.tally.add("connection: cut after COMMIT");
                        return hang_up(&from, &mut to, &bytes[..at + COMMIT.len()]);
                    }
                    if commits == nth {
                        shared.tally.add("connection: cut before COMMIT");
                        let _ = to.write_all(&bytes[..at]);
                        return cut(&from, &to);
                    }
                }
            }
            ConnectionFault::Stalled { after, pause }
                if way == Direction::ToClient && !has_stalled && passed >= after =>
            {
                has_stalled = true;
                shared.tally.add("connection: stalled");
                std::thread::sleep(pause);
            }
            _ => {}
        }
        if to.write_all(bytes).is_err() {
            break;
        }
        passed += read as u64;
    }
    cut(&from, &to);
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn cut(one: &TcpStream, other: &TcpStream) {
    // Either may be closed already.
    let _ = one.shutdown(Shutdown::Both);
    let _ = other.shutdown(Shutdown::Both);
}

/// The client sees the connection closed; the server gets these last bytes before it does. In this order, as a fast answer
/// would reach the client otherwise.
fn hang_up(client: &TcpStream, server: &mut TcpStream, last: &[u8]) {
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.write_all(last);
    let _ = server.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that keeps what it is sent, and answers each read with a dot a byte.
    fn echo() -> (SocketAddr, std::sync::mpsc::Receiver<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tx, rx) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let tx = tx.clone();
                std::thread::spawn(move || {
                    let mut all = Vec::new();
                    let mut buffer = [0; 1024];
                    while let Ok(read @ 1..) = stream.read(&mut buffer) {
                        all.extend_from_slice(&buffer[..read]);
                        let _ = stream.write_all(&vec![b'.'; read]);
                    }
                    let _ = tx.send(all);
                });
            }
        });
        (address, rx)
    }

    /// Connects to a pump with one fate; sends the parts, each when the one before was answered; what came back.
    fn exchange(fault: ConnectionFault, parts: &[&[u8]]) -> (Vec<u8>, Vec<u8>, Tally) {
        let (target, received) = echo();
        let tally = Tally::default();
        let shared = Arc::new(Shared {
            plan: Plan { seed: 0, long_stops: false },
            tally: tally.clone(),
            target: OnceLock::from(target),
            is_calm: AtomicBool::new(false),
            connections: AtomicU64::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let inner = listener.accept().unwrap().0;
        let server = TcpStream::connect(target).unwrap();
        let (from, to) = (inner.try_clone().unwrap(), server.try_clone().unwrap());
        let upwards = shared.clone();
        std::thread::spawn(move || pump(from, to, Direction::ToServer, fault, &upwards));
        std::thread::spawn(move || pump(server, inner, Direction::ToClient, fault, &shared));
        let mut answered = Vec::new();
        for part in parts {
            if client.write_all(part).is_err() {
                break;
            }
            let mut answer = vec![0; part.len()];
            let mut got = 0;
            while got < answer.len() {
                match client.read(&mut answer[got..]) {
                    Ok(read @ 1..) => got += read,
                    _ => break,
                }
            }
            answered.extend_from_slice(&answer[..got]);
            if got < part.len() {
                break;
            }
        }
        drop(client);
        let arrived = received.recv_timeout(Duration::from_secs(10)).unwrap();
        (arrived, answered, tally)
    }

    #[test]
    fn a_connection_is_cut_at_the_very_byte_of_its_fate() {
        for limit in [0, 1, 5, 9] {
            let fault = ConnectionFault::CutAfter(Direction::ToServer, limit);
            let (arrived, answered, tally) = exchange(fault, &[b"12345", b"67890"]);
            assert_eq!(arrived, &b"1234567890"[..usize::try_from(limit).unwrap()], "{limit}");
            assert!(answered.len() as u64 <= limit);
            assert_eq!(tally.of("connection: cut at a byte"), 1);
            let fault = ConnectionFault::CutAfter(Direction::ToClient, limit);
            let (_, answered, _) = exchange(fault, &[b"12345", b"67890"]);
            assert_eq!(answered.len() as u64, limit);
        }
        let (arrived, answered, tally) = exchange(ConnectionFault::None, &[b"12345", b"67890"]);
        assert_eq!((arrived.as_slice(), answered.len(), tally.total()), (&b"1234567890"[..], 10, 0));
    }

    #[test]
    fn a_commit_is_kept_from_the_server_or_its_answer_from_the_client() {
        let parts = [b"begin".as_slice(), COMMIT, b"begin", COMMIT, b"more"];
        let sent = |until: usize| parts[..until].concat();
        let fault = |is_done| ConnectionFault::CutAtCommit { nth: 2, is_done };
        let (arrived, answered, tally) = exchange(fault(false), &parts);
        assert_eq!((arrived, tally.of("connection: cut before COMMIT")), (sent(3), 1));
        assert_eq!(answered.len(), sent(3).len());
        let (arrived, answered, tally) = exchange(fault(true), &parts);
        assert_eq!((arrived, tally.of("connection: cut after COMMIT")), (sent(4), 1));
        assert_eq!(answered.len(), sent(3).len());
    }
}
