//! A web site of one test: pages with a content, a delay, and a count of how often each was asked for.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A page's answer.
#[derive(Debug, Clone)]
struct Page {
    status: u16,
    content_type: String,
    body: String,
    gate: Option<Arc<Gate>>,
}

/// Holds answers back until it is opened.
#[derive(Debug, Default)]
pub struct Gate {
    is_open: Mutex<bool>,
    opened: std::sync::Condvar,
}

impl Gate {
    /// Lets all answers go.
    pub fn open(&self) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let mut is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_open {
            is_open = self.opened.wait(is_open).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    pages: HashMap<String, Page>,
    asked: HashMap<String, usize>,
}

/// A server on 127.0.0.1 for the life of the test process.
#[derive(Debug, Clone)]
pub struct Site {
    address: std::net::SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Site {
    /// Starts an empty site: every path answers 404.
    ///
    /// # Panics
    /// If no port is to be had.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || answer(stream, &state));
            }
        });
        Self { address, state }
    }

    /// What `up --allow-fetch` takes.
    #[must_use]
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// The absolute URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Serves an HTML page at a path.
    pub fn page(&self, path: &str, body: &str) {
        self.put(path, 200, body, None);
    }

    /// Serves a page that is answered only when the gate is opened.
    #[must_use]
    pub fn gated_page(&self, path: &str, body: &str) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        self.put(path, 200, body, Some(gate.clone()));
        gate
    }

    fn put(&self, path: &str, status: u16, body: &str, gate: Option<Arc<Gate>>) {
        let page = Page { status, content_type: "text/html; charset=utf-8".into(), body: body.into(), gate };
        self.state.lock().unwrap_or_else(PoisonError::into_inner).pages.insert(path.into(), page);
    }

    /// How often a path was asked for.
    #[must_use]
    pub fn asked(&self, path: &str) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).asked.get(path).copied().unwrap_or(0)
    }
}

fn answer(stream: TcpStream, state: &Mutex<State>) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let method = request.split(' ').next().unwrap_or_default().to_owned();
    let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
    for line in lines.by_ref() {
        if line.is_empty() {
            break;
        }
    }
    let page = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        *state.asked.entry(path.clone()).or_default() += 1;
        state.pages.get(&path).cloned()
    };
    let page = page.unwrap_or(Page {
        status: 404,
        content_type: "text/plain".into(),
        body: "nothing here".into(),
        gate: None,
    });
    if let Some(gate) = &page.gate {
        gate.pass();
    }
    let head = format!(
        "HTTP/1.1 {} X\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        page.status,
        page.content_type,
        page.body.len()
    );
    let body = if method == "HEAD" { "" } else { page.body.as_str() };
    // A client that went away is no failure of the site's.
    let _ = writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(body.as_bytes()));
}

/// A page with one schema.org JobPosting, open for a long time.
#[must_use]
pub fn posting_page(title: &str, organization: &str) -> String {
    let posting = serde_json::json!({
        "@context": "https://schema.org",
        "@type": "JobPosting",
        "title": title,
        "description": format!("<p>{organization} invites applications: {title}.</p><p>You will work on open questions.</p>"),
        "datePosted": jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        "hiringOrganization": { "@type": "Organization", "name": organization },
        "jobLocation": { "@type": "Place", "address": { "@type": "PostalAddress", "addressLocality": "Lund", "addressCountry": "SE" } },
        "employmentType": "FULL_TIME",
    });
    format!(
        "<!doctype html><html lang=\"en\"><head><title>{title}</title><script type=\"application/ld+json\">{posting}</script></head>\
         <body><h1>{title}</h1><p>{organization} invites applications.</p></body></html>"
    )
}
