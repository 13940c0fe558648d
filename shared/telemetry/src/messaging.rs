//! Spans of messages (semantic conventions, "Messaging spans", and facts on SQS and Lambda in `docs/telemetry.md`).
//!
//! A batch has as many producers as messages, and a span has one parent. So the batch's span stands under its invocation
//! and links to every message, and a message's own span stands in the trace of what it is about and links to the batch.

use crate::carrier::{AWS_TRACE_HEADER, TRACEPARENT, TRACESTATE, incoming_message};
use crate::span::{SpanBuilder, SpanKind, count};
use crate::trace::TraceContext;

/// `messaging.system`.
const SYSTEM: &str = "aws_sqs";

/// The context of a message, by look-ups of its own attributes and of the queue's.
#[must_use]
pub fn context_of<'a>(
    attribute: impl Fn(&'static str) -> Option<&'a str>,
    system: impl Fn(&'static str) -> Option<&'a str>,
) -> Option<TraceContext> {
    incoming_message(attribute(TRACEPARENT), attribute(TRACESTATE), system(AWS_TRACE_HEADER))
}

/// The queue's name in its ARN or URL.
#[must_use]
pub fn queue_name(arn_or_url: &str) -> &str {
    arn_or_url.rsplit([':', '/']).next().unwrap_or_default()
}

fn span(operation: &'static str, kind: SpanKind, queue: &str) -> SpanBuilder {
    SpanBuilder::new(format!("{operation} {queue}"), kind)
        .attribute("messaging.system", SYSTEM)
        .attribute("messaging.operation.name", operation)
        .attribute("messaging.operation.type", operation)
        .attribute("messaging.destination.name", queue.to_owned())
}

/// A message that is handed to a queue.
#[must_use]
pub fn send(queue_url: &str) -> SpanBuilder {
    span("send", SpanKind::Producer, queue_name(queue_url))
}

/// The processing of a batch, under its invocation, linked to its messages.
#[must_use]
pub fn process_batch(queue_arn: &str, contexts: &[Option<TraceContext>]) -> SpanBuilder {
    let builder = of_account(span("process", SpanKind::Consumer, queue_name(queue_arn)), queue_arn)
        .attribute("messaging.batch.message_count", count(contexts.len()));
    contexts.iter().flatten().fold(builder, |builder, context| builder.link(context.clone()))
}

/// The processing of one message of a batch, in the trace of what it is about, linked to the batch.
#[must_use]
pub fn process(
    queue_arn: &str,
    message_id: &str,
    about: Option<TraceContext>,
    batch: &TraceContext,
) -> SpanBuilder {
    let builder = of_account(span("process", SpanKind::Consumer, queue_name(queue_arn)), queue_arn)
        .attribute("messaging.message.id", message_id.to_owned());
    match about {
        Some(about) => builder.parent(Some(about)).link(batch.clone()),
        None => builder.parent(Some(batch.clone())),
    }
}

/// The account is an ARN's fifth part.
fn of_account(builder: SpanBuilder, arn: &str) -> SpanBuilder {
    match arn.split(':').nth(4) {
        Some(account) if arn.starts_with("arn:") => builder.attribute("cloud.account.id", account.to_owned()),
        _ => builder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_named_alike_by_its_arn_and_its_url() {
        for text in
            ["arn:aws:sqs:eu-central-1:123456789012:Jobs", "http://127.0.0.1:9/123456789012/Jobs", "Jobs"]
        {
            assert_eq!(queue_name(text), "Jobs");
        }
    }
}
