//! The event that a batch becomes, and what the function's answer says about it.

use crate::queue::{Message, arn};
use crate::template::REGION;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Which messages of a batch failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    None,
    Some(HashSet<String>),
    All,
}

/// The event of a batch (AWS, "Using Lambda with Amazon SQS", example message event).
pub(super) fn event(queue: &str, batch: &[Message]) -> Value {
    let records: Vec<Value> = batch.iter().map(|message| record(queue, message)).collect();
    json!({ "Records": records })
}

fn record(queue: &str, message: &Message) -> Value {
    let attributes: Map<String, Value> = message
        .message_attributes
        .iter()
        .map(|(name, attribute)| {
            let mut out = json!({
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": attribute["DataType"],
            });
            for (from, to) in [("StringValue", "stringValue"), ("BinaryValue", "binaryValue")] {
                if let Some(value) = attribute.get(from).filter(|value| !value.is_null()) {
                    out[to] = value.clone();
                }
            }
            (name.clone(), out)
        })
        .collect();
    json!({
        "messageId": message.message_id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": message.attributes,
        "messageAttributes": attributes,
        "md5OfBody": message.md5_of_body,
        "eventSource": "aws:sqs",
        "eventSourceARN": arn(queue),
        "awsRegion": REGION,
    })
}

/// Reads `batchItemFailures`. An answer that cannot be read, an empty id and an id that is not of this batch fail the whole
/// batch; nothing, null and an empty list fail nothing.
pub(super) fn failed(answer: &[u8], batch: &[Message]) -> Failed {
    if answer.is_empty() {
        return Failed::None;
    }
    let list = match serde_json::from_slice(answer) {
        Ok(Value::Null) => return Failed::None,
        Ok(Value::Object(mut answer)) => answer.remove("batchItemFailures").unwrap_or(Value::Null),
        _ => return Failed::All,
    };
    let list = match list {
        Value::Null => return Failed::None,
        Value::Array(list) if list.is_empty() => return Failed::None,
        Value::Array(list) => list,
        _ => return Failed::All,
    };
    let known: HashSet<&str> = batch.iter().map(|message| message.message_id.as_str()).collect();
    let mut ids = HashSet::new();
    for item in &list {
        match item["itemIdentifier"].as_str() {
            Some(id) if known.contains(id) => ids.insert(id.to_owned()),
            _ => return Failed::All,
        };
    }
    Failed::Some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> Message {
        Message {
            message_id: id.into(),
            receipt_handle: format!("handle-{id}"),
            body: "{}".into(),
            md5_of_body: "99914b932bd37a50b983c5e7c90ae93b".into(),
            attributes: json!({"ApproximateReceiveCount": "1", "SentTimestamp": "1700000000000"})
                .as_object()
                .unwrap()
                .clone(),
            message_attributes: json!({"traceparent": {"DataType": "String", "StringValue": "00-a-b-01"}})
                .as_object()
                .unwrap()
                .clone(),
        }
    }

    #[test]
    fn a_record_has_the_shape_that_the_events_crate_reads() {
        let event = event("JobsQueue", &[message("a")]);
        assert_eq!(
            event,
            json!({"Records": [{
                "messageId": "a",
                "receiptHandle": "handle-a",
                "body": "{}",
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1700000000000"},
                "messageAttributes": {"traceparent": {
                    "stringListValues": [], "binaryListValues": [], "dataType": "String", "stringValue": "00-a-b-01",
                }},
                "md5OfBody": "99914b932bd37a50b983c5e7c90ae93b",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:JobsQueue",
                "awsRegion": "us-east-1",
            }]})
        );
    }

    #[test]
    fn answers_are_read_as_aws_reads_them() {
        let batch = [message("a"), message("b")];
        let some = |id: &str| Failed::Some(HashSet::from([id.to_owned()]));
        let cases = [
            ("", Failed::None),
            ("null", Failed::None),
            ("{}", Failed::None),
            (r#"{"batchItemFailures": null}"#, Failed::None),
            (r#"{"batchItemFailures": []}"#, Failed::None),
            (r#"{"batchItemFailures": [{"itemIdentifier": "a"}]}"#, some("a")),
            (r#"{"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "a"}]}"#, some("a")),
            (r#"{"batchItemFailures": [{"itemIdentifier": ""}]}"#, Failed::All),
            (r#"{"batchItemFailures": [{"itemIdentifier": null}]}"#, Failed::All),
            (r#"{"batchItemFailures": [{"id": "a"}]}"#, Failed::All),
            (r#"{"batchItemFailures": [{"itemIdentifier": "c"}]}"#, Failed::All),
            (r#"{"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "c"}]}"#, Failed::All),
            (r#"{"batchItemFailures": "a"}"#, Failed::All),
            ("\"done\"", Failed::All),
            ("{", Failed::All),
        ];
        for (answer, expected) in cases {
            assert_eq!(failed(answer.as_bytes(), &batch), expected, "{answer}");
        }
    }
}
