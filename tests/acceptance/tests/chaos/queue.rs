//! Stands between the functions and the queue's endpoint: loses, doubles, delays, reorders and refuses messages, and breaks
//! calls, as the plan says. It speaks just enough of the SQS JSON protocol for that; all else is passed on.
//!
//! What consumers receive and delete goes through the runner's own mapping, not through here. For late and repeated
//! deliveries of that kind a run shortens the queues' visibility instead, so that what a killed worker had is redelivered.

use crate::plan::{CallFault, MessageFault, Plan};
use crate::tally::Tally;
use acceptance::{Answer, Client};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

const CONTENT_TYPE: &str = "application/x-amz-json-1.0";
/// A message that is to be overtaken goes on after this long, whether others came or not.
const OVERTAKEN_MAX: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The running proxy. Cloning shares it.
#[derive(Debug, Clone)]
pub struct QueueProxy {
    endpoint: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    plan: Plan,
    tally: Tally,
    target: OnceLock<String>,
    is_calm: AtomicBool,
    calls: AtomicU64,
    messages: AtomicU64,
    held: Mutex<Held>,
}

/// Messages that are on their way still.
#[derive(Debug, Default)]
struct Held {
    /// By due time and a number, as two may be due at once.
    delayed: BTreeMap<(Instant, u64), Message>,
    overtaken: Vec<Overtaken>,
    next: u64,
    /// Taken out and being sent.
    in_flight: usize,
}

#[derive(Debug)]
struct Overtaken {
    left: usize,
    until: Instant,
    message: Message,
}

/// A message as `SendMessage` takes it.
#[derive(Debug, Clone, PartialEq)]
struct Message {
    queue_url: String,
    entry: Value,
}

/// What becomes of the messages of one call.
#[derive(Debug, Default)]
struct Sorted {
    pass: Vec<Value>,
    /// Entries that the caller is told were taken, although they were not passed on yet, or never will be.
    swallowed: Vec<Value>,
    refused: Vec<Value>,
}

impl QueueProxy {
    /// Listens; calm until [`Self::strike`].
    pub fn start(plan: Plan, tally: Tally) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        let shared = Arc::new(Shared::new(plan, tally));
        let (accepting, sending) = (shared.clone(), shared.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = accepting.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        std::thread::spawn(move || {
            loop {
                sending.send_what_is_due();
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Self { endpoint: format!("http://{address}"), shared }
    }

    /// What `AWS_ENDPOINT_URL_SQS` is set to.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where the queues are. Until then every call is answered with 503.
    pub fn lead_to(&self, endpoint: String) {
        // The queues keep their address for their life.
        let _ = self.shared.target.set(endpoint);
    }

    pub fn strike(&self) {
        self.shared.is_calm.store(false, Ordering::SeqCst);
    }

    /// From now on calls and new messages pass. What is held still goes on when it is due.
    pub fn calm(&self) {
        self.shared.is_calm.store(true, Ordering::SeqCst);
    }

    /// Messages that are held and will go on.
    pub fn held(&self) -> usize {
        let held = self.shared.held();
        held.delayed.len() + held.overtaken.len() + held.in_flight
    }
}

impl Shared {
    fn new(plan: Plan, tally: Tally) -> Self {
        Self {
            plan,
            tally,
            target: OnceLock::new(),
            is_calm: AtomicBool::new(true),
            calls: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            held: Mutex::default(),
        }
    }

    fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::SeqCst)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, target: &str, body: &[u8]) -> Option<Answer> {
        let client = Client::new(self.target.get()?.clone()).with("x-amz-target", target);
        client.try_send("POST", "/", Some((CONTENT_TYPE, body))).ok()
    }

    fn call_fault(&self) -> CallFault {
        match self.is_calm() {
            true => CallFault::None,
            false => self.plan.call(self.calls.fetch_add(1, Ordering::SeqCst)),
        }
    }

    fn message_fault(&self) -> MessageFault {
        match self.is_calm() {
            true => MessageFault::None,
            false => self.plan.message(self.messages.fetch_add(1, Ordering::SeqCst)),
        }
    }

    /// Deals each entry its fate.
    fn sort(&self, queue_url: &str, entries: &[Value], now: Instant) -> Sorted {
        let mut sorted = Sorted::default();
        for entry in entries {
            let message = || Message { queue_url: queue_url.to_owned(), entry: entry.clone() };
            match self.message_fault() {
                MessageFault::None => sorted.pass.push(entry.clone()),
                MessageFault::Lost => {
                    let is_wake = queue_url.ends_with("/WakeQueue");
                    self.tally.add(if is_wake { "message: wake lost" } else { "message: hint lost" });
                    sorted.swallowed.push(entry.clone());
                }
                MessageFault::Doubled(pauses) => {
                    self.tally.add_many("message: copy added", pauses.len() as u64);
                    let mut held = self.held();
                    pauses.into_iter().for_each(|pause| held.delay(message(), now + pause));
                    sorted.pass.push(entry.clone());
                }
                MessageFault::Delayed(pause) => {
                    self.tally.add("message: delayed");
                    self.held().delay(message(), now + pause);
                    sorted.swallowed.push(entry.clone());
                }
                MessageFault::Overtaken(left) => {
                    self.tally.add("message: overtaken");
                    let until = now + OVERTAKEN_MAX;
                    self.held().overtaken.push(Overtaken { left, until, message: message() });
                    sorted.swallowed.push(entry.clone());
                    continue;
                }
                MessageFault::Refused => {
                    self.tally.add("message: refused");
                    sorted.refused.push(entry.clone());
                }
            }
            self.held().pass_by(queue_url);
        }
        sorted
    }

    fn send_what_is_due(&self) {
        let due = self.held().take_due(Instant::now());
        for message in &due {
            let mut body = message.entry.clone();
            body["QueueUrl"] = message.queue_url.clone().into();
            if let Some(members) = body.as_object_mut() {
                members.remove("Id");
            }
            // A queue that is gone has no use for it.
            let _ = self.call("AmazonSQS.SendMessage", body.to_string().as_bytes());
        }
        self.held().in_flight -= due.len();
    }

    fn answer(&self, target: &str, body: &[u8]) -> Option<(u16, String)> {
        let fault = self.call_fault();
        match fault {
            CallFault::Unavailable => {
                self.tally.add("call: 503");
                return Some(unavailable());
            }
            CallFault::Slow(pause) => {
                self.tally.add("call: slow");
                std::thread::sleep(pause);
            }
            CallFault::AnswerLost | CallFault::None => {}
        }
        let answer = self.pass(target, body)?;
        if fault == CallFault::AnswerLost {
            self.tally.add("call: answer lost");
            return None;
        }
        Some(answer)
    }

    fn pass(&self, target: &str, body: &[u8]) -> Option<(u16, String)> {
        let whole = |answer: Answer| (answer.status, answer.text);
        let input: Value = serde_json::from_slice(body).ok()?;
        let queue_url = input["QueueUrl"].as_str().unwrap_or_default();
        match target {
            "AmazonSQS.SendMessage" => {
                let entry = without(&input, "QueueUrl");
                let sorted = self.sort(queue_url, &[entry], Instant::now());
                if !sorted.pass.is_empty() {
                    return self.call(target, body).map(whole);
                }
                match sorted.refused.is_empty() {
                    true => Some((200, taken(None).to_string())),
                    false => Some(unavailable()),
                }
            }
            "AmazonSQS.SendMessageBatch" => {
                let entries = input["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
                let sorted = self.sort(queue_url, entries, Instant::now());
                let mut answer = json!({ "Successful": [], "Failed": [] });
                if !sorted.pass.is_empty() {
                    let body = json!({ "QueueUrl": queue_url, "Entries": sorted.pass });
                    let passed = self.call(target, body.to_string().as_bytes())?;
                    if passed.status != 200 {
                        return Some(whole(passed));
                    }
                    answer = serde_json::from_str(&passed.text).ok()?;
                }
                extend(
                    &mut answer,
                    "Successful",
                    sorted.swallowed.iter().map(|entry| taken(entry["Id"].as_str())),
                );
                extend(&mut answer, "Failed", sorted.refused.iter().map(|entry| {
                    json!({ "Id": entry["Id"], "Code": "InternalError", "SenderFault": false, "Message": "refused by the test" })
                }));
                Some((200, answer.to_string()))
            }
            _ => self.call(target, body).map(whole),
        }
    }
}

impl Held {
    fn delay(&mut self, message: Message, until: Instant) {
        self.next += 1;
        self.delayed.insert((until, self.next), message);
    }

    /// One of the queue's messages has gone on: those that wait for that are one nearer.
    fn pass_by(&mut self, queue_url: &str) {
        for overtaken in self.overtaken.iter_mut().filter(|held| held.message.queue_url == queue_url) {
            overtaken.left = overtaken.left.saturating_sub(1);
        }
    }

    fn take_due(&mut self, now: Instant) -> Vec<Message> {
        let later = self.delayed.split_off(&(now, u64::MAX));
        let mut due: Vec<Message> = std::mem::replace(&mut self.delayed, later).into_values().collect();
        let (go, stay): (Vec<_>, Vec<_>) =
            self.overtaken.drain(..).partition(|held| held.left == 0 || held.until <= now);
        self.overtaken = stay;
        due.extend(go.into_iter().map(|held| held.message));
        self.in_flight += due.len();
        due
    }
}

fn without(input: &Value, member: &str) -> Value {
    let mut output = input.clone();
    if let Some(members) = output.as_object_mut() {
        members.remove(member);
    }
    output
}

fn extend(answer: &mut Value, member: &str, more: impl Iterator<Item = Value>) {
    let mut list = answer[member].as_array().cloned().unwrap_or_default();
    list.extend(more);
    answer[member] = list.into();
}

/// As if it had been taken. Nothing in the functions goes by the ids.
fn taken(id: Option<&str>) -> Value {
    let mut taken = json!({
        "MessageId": "00000000-0000-0000-0000-000000000000",
        "MD5OfMessageBody": "00000000000000000000000000000000",
    });
    if let Some(id) = id {
        taken["Id"] = id.into();
    }
    taken
}

fn unavailable() -> (u16, String) {
    (
        503,
        json!({ "__type": "com.amazonaws.sqs#ServiceUnavailable", "message": "struck by the test" })
            .to_string(),
    )
}

/// One request of one connection; without an answer if that is its fate.
fn serve(stream: TcpStream, shared: &Shared) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    let (mut target, mut length) = (String::new(), 0);
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 0 && !line.trim().is_empty() {
        if let Some((name, value)) = line.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "x-amz-target" => target = value.trim().to_owned(),
                "content-length" => length = value.trim().parse().ok()?,
                _ => {}
            }
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (status, text) = match shared.target.get() {
        Some(_) => shared.answer(&target, &body)?,
        None => unavailable(),
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {CONTENT_TYPE}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(text.as_bytes())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(seed: u64) -> Shared {
        let shared = Shared::new(Plan { seed, long_stops: false }, Tally::default());
        shared.is_calm.store(false, Ordering::SeqCst);
        shared
    }

    fn entries(count: usize) -> Vec<Value> {
        (0..count).map(|id| json!({ "Id": id.to_string(), "MessageBody": format!("m{id}") })).collect()
    }

    #[test]
    fn each_message_has_the_fate_of_its_number_and_none_vanishes_unless_it_is_lost() {
        let shared = shared(3);
        let now = Instant::now();
        let all = entries(500);
        let mut passed = Vec::new();
        let (mut lost, mut copies, mut refused) = (0, 0, 0);
        for (number, entry) in all.iter().enumerate() {
            let fate = shared.plan.message(number as u64);
            let sorted = shared.sort("http://q/1/JobsQueue", std::slice::from_ref(entry), now);
            match &fate {
                MessageFault::None => assert_eq!(sorted.pass, std::slice::from_ref(entry)),
                MessageFault::Doubled(pauses) => {
                    copies += pauses.len();
                    assert_eq!(sorted.pass, std::slice::from_ref(entry));
                }
                MessageFault::Refused => {
                    refused += 1;
                    assert_eq!(sorted.refused, std::slice::from_ref(entry));
                }
                MessageFault::Lost => {
                    lost += 1;
                    assert_eq!(sorted.swallowed, std::slice::from_ref(entry));
                }
                MessageFault::Delayed(_) | MessageFault::Overtaken(_) => {
                    assert_eq!(sorted.swallowed, std::slice::from_ref(entry));
                }
            }
            passed.extend(sorted.pass);
        }
        let later = shared.held().take_due(now + Duration::from_secs(60));
        assert_eq!(passed.len() + later.len() + lost + refused, all.len() + copies);
        assert_eq!(shared.tally.of("message: hint lost"), lost as u64);
        assert_eq!(shared.tally.of("message: copy added"), copies as u64);
    }

    #[test]
    fn an_overtaken_message_goes_on_when_enough_others_went_by_or_its_time_is_up() {
        let now = Instant::now();
        let message = |queue: &str| Message { queue_url: queue.into(), entry: Value::Null };
        let mut held = Held::default();
        let until = now + OVERTAKEN_MAX;
        held.overtaken.push(Overtaken { left: 2, until, message: message("a") });
        held.overtaken.push(Overtaken { left: 2, until, message: message("b") });
        held.pass_by("a");
        assert!(held.take_due(now).is_empty());
        held.pass_by("a");
        assert_eq!(held.take_due(now), [message("a")]);
        assert_eq!(held.take_due(until), [message("b")]);
    }

    #[test]
    fn a_calm_proxy_changes_nothing() {
        let shared = shared(3);
        shared.is_calm.store(true, Ordering::SeqCst);
        let sorted = shared.sort("q", &entries(50), Instant::now());
        assert_eq!(sorted.pass, entries(50));
        assert_eq!(shared.tally.total(), 0);
    }
}
