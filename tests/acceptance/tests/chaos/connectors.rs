//! Connectors that hand discoveries in, as a good one does: with an idempotency key, again until there is an answer.

use crate::plan::Plan;
use crate::tally::Tally;
use acceptance::{Client, Module};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Connectors at once.
const AT_ONCE: usize = 6;
/// Of one batch request.
const BATCH: usize = 7;
/// How long a client that gives up lets its request run before it hangs up.
const HANG_UP_AFTER: Duration = Duration::from_millis(15);
const PAUSE: Duration = Duration::from_millis(100);
/// For one request to be accepted at last.
const LIMIT: Duration = Duration::from_secs(180);

/// One request: a discovery, or several as a batch.
#[derive(Debug)]
struct HandIn {
    number: u64,
    urls: Vec<String>,
}

/// Who hands in, where.
#[derive(Debug)]
pub struct Connectors {
    pub api: String,
    pub module: Module,
    pub plan: Plan,
    pub tally: Tally,
}

impl Connectors {
    /// Hands in every URL once, and tells each one's discovery as the API answered. `first` numbers the requests, which
    /// must differ from those of other calls.
    ///
    /// # Panics
    /// If one is refused, answered with 500, or not accepted within [`LIMIT`]; or if a repeated request has another answer than before.
    pub fn hand_in(&self, first: u64, urls: &[String], progress: &AtomicUsize) -> BTreeMap<String, String> {
        let hand_ins: Mutex<Vec<HandIn>> = Mutex::new(requests(first, urls));
        let ids = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let next = hand_ins.lock().unwrap_or_else(PoisonError::into_inner).pop();
                        let Some(hand_in) = next else { break };
                        let answered = self.deliver(&hand_in);
                        progress.fetch_add(answered.len(), Ordering::SeqCst);
                        ids.lock().unwrap_or_else(PoisonError::into_inner).extend(answered);
                    }
                });
            }
        });
        ids.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, hand_in: &HandIn) -> Vec<(String, String)> {
        let delivery = self.plan.delivery(hand_in.number);
        let now = jiff::Timestamp::now().to_string();
        let item =
            |url: &String| json!({ "origin_module_id": self.module.id, "url": url, "discovered_at": now });
        let (path, body) = match hand_in.urls.as_slice() {
            [url] => ("/discoveries", item(url)),
            urls => ("/discoveries/batch", json!({ "items": urls.iter().map(item).collect::<Vec<_>>() })),
        };
        let key = format!("chaos-{}-{}", self.plan.seed, hand_in.number);
        for _ in 0..delivery.given_up {
            self.give_up_on(path, &key, &body);
            self.tally.add("client: hung up before the answer");
        }
        let answer = self.insist(path, &key, &body);
        for _ in 0..delivery.repeats {
            assert_eq!(self.insist(path, &key, &body), answer, "{key} has two answers");
            self.tally.add("client: request repeated after its answer");
        }
        let accepted: Value = serde_json::from_str(&answer).expect("the answer is JSON");
        let id = |accepted: &Value| {
            accepted["discovery_id"].as_str().unwrap_or_else(|| panic!("{key}: {accepted}")).to_owned()
        };
        match hand_in.urls.as_slice() {
            [url] => vec![(url.clone(), id(&accepted))],
            urls => {
                let results = accepted["results"].as_array().cloned().unwrap_or_default();
                assert_eq!(results.len(), urls.len(), "{key}: {accepted}");
                urls.iter().zip(&results).map(|(url, result)| (url.clone(), id(&result["body"]))).collect()
            }
        }
    }

    /// Sends until it is accepted; the answer's text.
    fn insist(&self, path: &str, key: &str, body: &Value) -> String {
        let client = Client::new(self.api.clone())
            .with("x-module-id", &self.module.id)
            .with("x-api-key", &self.module.key)
            .with("idempotency-key", key);
        let bytes = body.to_string();
        let deadline = Instant::now() + LIMIT;
        loop {
            let said = match client.try_send("POST", path, Some(("application/json", bytes.as_bytes()))) {
                Ok(answer) if matches!(answer.status, 200 | 202) => return answer.text,
                // In progress, too many, not now, or the process was killed (502, 504): the same request may be sent again.
                // A 500 would be a fault that the API does not know; nothing here may cause one.
                Ok(answer) if matches!(answer.status, 409 | 429 | 502..=504) => answer.text,
                Ok(answer) => panic!("{key} was refused with {}: {}", answer.status, answer.text),
                Err(error) => error.to_string(),
            };
            assert!(Instant::now() < deadline, "{key} was not accepted within {LIMIT:?}: {said}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Sends a request and hangs up before its answer.
    fn give_up_on(&self, path: &str, key: &str, body: &Value) {
        let authority = self.api.trim_start_matches("http://");
        let Ok(mut stream) = TcpStream::connect(authority) else { return };
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             x-module-id: {}\r\nx-api-key: {}\r\nidempotency-key: {key}\r\n\r\n",
            body.len(),
            self.module.id,
            self.module.key
        );
        // It may be refused, or done: that is the point.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        std::thread::sleep(HANG_UP_AFTER);
    }
}

/// How many requests [`Connectors::hand_in`] makes of these.
pub fn requests_of(first: u64, urls: &[String]) -> usize {
    requests(first, urls).len()
}

/// Every other request is a batch; the last first, as they are popped.
fn requests(first: u64, urls: &[String]) -> Vec<HandIn> {
    let mut hand_ins = Vec::new();
    let mut rest = urls;
    for number in first.. {
        if rest.is_empty() {
            break;
        }
        let count = if number % 2 == 0 { 1 } else { BATCH.min(rest.len()) };
        let (urls, others) = rest.split_at(count);
        hand_ins.push(HandIn { number, urls: urls.to_vec() });
        rest = others;
    }
    hand_ins.reverse();
    hand_ins
}
