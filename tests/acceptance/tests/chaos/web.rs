//! The web that is discovered: one server that answers at every loopback address, so that it is as many hosts as wanted
//! and the pace of one host does not set that of the run.

use acceptance::posting_page;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a page is, and so what must become of its discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A posting.
    Posting,
    /// A posting that takes its time, so that something happens meanwhile.
    Slow,
    /// 503 once or twice, then a posting.
    Flaky,
    /// 404.
    Missing,
    /// 410.
    Gone,
    /// 403: nobody asks again.
    Barred,
    /// 500 for ever: a dead letter by design.
    Poison,
}

impl Class {
    pub const ALL: [Self; 7] =
        [Self::Posting, Self::Slow, Self::Flaky, Self::Missing, Self::Gone, Self::Barred, Self::Poison];

    pub fn name(self) -> &'static str {
        match self {
            Self::Posting => "posting",
            Self::Slow => "slow",
            Self::Flaky => "flaky",
            Self::Missing => "missing",
            Self::Gone => "gone",
            Self::Barred => "barred",
            Self::Poison => "poison",
        }
    }

    /// Of a path or an URL.
    pub fn of(url: &str) -> Option<Self> {
        let mut parts = url.rsplit('/');
        parts.next()?;
        let name = parts.next()?;
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// The running server.
#[derive(Debug, Clone)]
pub struct Web {
    port: u16,
    hosts: usize,
}

impl Web {
    /// Starts it; `hosts` addresses are used.
    pub fn start(hosts: usize) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a port is free");
        let port = listener.local_addr().expect("the listener has an address").port();
        let asked = Arc::new(Mutex::new(HashMap::new()));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let asked = asked.clone();
                std::thread::spawn(move || answer(stream, &asked));
            }
        });
        Self { port, hosts }
    }

    fn host(&self, number: usize) -> String {
        let number = number % self.hosts;
        format!("127.77.{}.{}:{}", number / 250, 1 + number % 250, self.port)
    }

    /// What `up --allow-fetch` takes, for each host.
    pub fn authorities(&self) -> Vec<String> {
        (0..self.hosts).map(|number| self.host(number)).collect()
    }

    /// The page of that number.
    pub fn url(&self, class: Class, number: usize) -> String {
        format!("http://{}/{}/{number}", self.host(number), class.name())
    }
}

/// Of the posting with that number: no two are alike.
pub fn title(number: &str) -> String {
    format!("Doctoral student number {number} in fault tolerance")
}

fn answer(stream: TcpStream, asked: &Mutex<HashMap<String, usize>>) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    lines.by_ref().find(String::is_empty)?;
    let times = {
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        let times = asked.entry(path.clone()).or_default();
        *times += 1;
        *times
    };
    let number = path.rsplit('/').next()?;
    let value = number.parse::<usize>().unwrap_or(0);
    let posting = || posting_page(&title(number), &format!("University {number}"));
    let (status, body) = match Class::of(&path) {
        Some(Class::Posting) => (200, posting()),
        Some(Class::Slow) => {
            std::thread::sleep(Duration::from_millis(200 + 97 * (value as u64 % 20)));
            (200, posting())
        }
        Some(Class::Flaky) if times <= 1 + value % 2 => (503, String::new()),
        Some(Class::Flaky) => (200, posting()),
        Some(Class::Gone) => (410, String::new()),
        Some(Class::Barred) => (403, String::new()),
        Some(Class::Poison) => (500, String::new()),
        Some(Class::Missing) | None => (404, String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // A worker that was killed has gone away.
    writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(body.as_bytes())).ok()
}
