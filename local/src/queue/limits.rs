//! What AWS refuses and the emulator takes (AWS, "Amazon SQS quotas" and the errors of each action).

use axum::body::Bytes;
use serde_json::{Value, json};

/// Entries in one batch.
pub(super) const BATCH_ENTRIES_MAX: usize = 10;
/// A message, or all messages of a batch together, with their attributes.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
const DELAY_SECONDS_MAX: i64 = 900;
const RECEIVE_MESSAGES_MAX: i64 = 10;

/// An error of the whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// What becomes of a request.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Pass,
    Refuse(Refusal),
    /// Some entries of a batch are refused by themselves; the others go on.
    Part {
        rest: Value,
        failed: Vec<Value>,
    },
}

/// Judges a request before the emulator sees it.
pub(super) fn check(action: &str, input: &Value) -> Verdict {
    match action {
        "SendMessage" => message(input).map_or(Verdict::Pass, Verdict::Refuse),
        "SendMessageBatch" => batch(input).map_or_else(|| send_batch(input), Verdict::Refuse),
        "DeleteMessageBatch" | "ChangeMessageVisibilityBatch" => {
            batch(input).map_or(Verdict::Pass, Verdict::Refuse)
        }
        "ReceiveMessage" => match input["MaxNumberOfMessages"].as_i64() {
            Some(count) if !(1..=RECEIVE_MESSAGES_MAX).contains(&count) => Verdict::Refuse(Refusal::new(
                "InvalidParameterValue",
                format!(
                    "Value {count} for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided."
                ),
            )),
            _ => Verdict::Pass,
        },
        _ => Verdict::Pass,
    }
}

fn batch(input: &Value) -> Option<Refusal> {
    let entries = input["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    if entries.is_empty() {
        return Some(Refusal::new("EmptyBatchRequest", "There should be at least one entry in the request."));
    }
    if entries.len() > BATCH_ENTRIES_MAX {
        return Some(Refusal::new(
            "TooManyEntriesInBatchRequest",
            format!(
                "Maximum number of entries per request are {BATCH_ENTRIES_MAX}. You have sent {}.",
                entries.len()
            ),
        ));
    }
    let mut ids: Vec<&str> = entries.iter().filter_map(|entry| entry["Id"].as_str()).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Some(Refusal::new("BatchEntryIdsNotDistinct", "Two or more entries have the same Id."));
    }
    None
}

fn send_batch(input: &Value) -> Verdict {
    let entries = input["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let bytes: usize = entries.iter().map(size).sum();
    if bytes > MESSAGE_BYTES_MAX {
        return Verdict::Refuse(Refusal::new(
            "BatchRequestTooLong",
            format!(
                "Batch requests cannot be longer than {MESSAGE_BYTES_MAX} bytes. You have sent {bytes} bytes."
            ),
        ));
    }
    let (mut rest, mut failed) = (Vec::new(), Vec::new());
    for entry in entries {
        match message(entry) {
            None => rest.push(entry.clone()),
            Some(refusal) => failed.push(json!({
                "Id": entry["Id"], "SenderFault": true, "Code": refusal.code, "Message": refusal.message,
            })),
        }
    }
    if failed.is_empty() {
        return Verdict::Pass;
    }
    if rest.is_empty() {
        // Nothing is left for the emulator: what is wrong with the first stands for all.
        let first = entries.iter().find_map(message);
        return first.map_or(Verdict::Pass, Verdict::Refuse);
    }
    let mut input = input.clone();
    input["Entries"] = rest.into();
    Verdict::Part { rest: input, failed }
}

fn message(entry: &Value) -> Option<Refusal> {
    let body = entry["MessageBody"].as_str().unwrap_or_default();
    if body.is_empty() {
        return Some(Refusal::new(
            "InvalidParameterValue",
            "The request must contain the parameter MessageBody.",
        ));
    }
    if size(entry) > MESSAGE_BYTES_MAX {
        return Some(Refusal::new(
            "InvalidParameterValue",
            format!(
                "One or more parameters are invalid. Reason: Message must be shorter than {MESSAGE_BYTES_MAX} bytes."
            ),
        ));
    }
    if let Some(bad) = body.chars().find(|c| !is_allowed(*c)) {
        return Some(Refusal::new(
            "InvalidMessageContents",
            format!(
                "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF; found {:#x}.",
                u32::from(bad)
            ),
        ));
    }
    match entry["DelaySeconds"].as_i64() {
        Some(seconds) if !(0..=DELAY_SECONDS_MAX).contains(&seconds) => Some(Refusal::new(
            "InvalidParameterValue",
            format!(
                "Value {seconds} for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900."
            ),
        )),
        _ => None,
    }
}

/// The characters of XML 1.0, which are what a message may hold.
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

fn size(entry: &Value) -> usize {
    let attributes = entry["MessageAttributes"].as_object().into_iter().flatten().map(|(name, value)| {
        let text = |member: &str| value[member].as_str().map_or(0, str::len);
        name.len() + text("DataType") + text("StringValue") + text("BinaryValue") / 4 * 3
    });
    entry["MessageBody"].as_str().map_or(0, str::len) + attributes.sum::<usize>()
}

/// Adds the entries that were refused here to the emulator's answer.
pub(super) fn add_failed(body: &Bytes, failed: Vec<Value>) -> Bytes {
    let Ok(mut answer) = serde_json::from_slice::<Value>(body) else { return body.clone() };
    match answer.get_mut("Failed").and_then(Value::as_array_mut) {
        Some(list) => list.extend(failed),
        None => answer["Failed"] = failed.into(),
    }
    answer.to_string().into()
}
