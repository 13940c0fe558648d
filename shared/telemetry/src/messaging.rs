//! Spans of messages (semantic conventions, "Messaging spans", and facts on SQS and Lambda in `docs/telemetry.md`).
//!
//! A batch has as many producers as messages, and a span has one parent. So the batch's span stands under its invocation
//! and links to every message, and a message's own span stands in the trace of what it is about and links to the batch.

use crate::carrier::{AWS_TRACE_HEADER, TRACEPARENT, TRACESTATE, incoming_message};
use crate::label::Queue;
use crate::registry::metric;
use crate::span::{SpanBuilder, SpanKind, count};
use crate::trace::TraceContext;
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use tracing::Span;

/// `messaging.system`.
const SYSTEM: &str = "aws_sqs";

/// A batch as it came from its queue.
#[derive(Debug)]
pub struct ReceivedBatch {
    /// Of its queue; empty if the event names none.
    pub queue_arn: String,
    /// Of its messages, in their order.
    pub contexts: Vec<Option<TraceContext>>,
    /// Its processing, under its invocation, linked to its messages.
    pub span: Span,
}

/// Counts an event's messages, reads their contexts, and begins the batch's span.
#[must_use]
pub fn receive(event: &SqsEvent, queue: Queue) -> ReceivedBatch {
    let received = u64::try_from(event.records.len()).unwrap_or(0);
    metric::MESSAGING_CLIENT_CONSUMED_MESSAGES.add(received, queue);
    let contexts: Vec<_> = event.records.iter().map(context_of).collect();
    let first = event.records.first();
    let queue_arn = first.and_then(|message| message.event_source_arn.clone()).unwrap_or_default();
    let span = process_batch(&queue_arn, &contexts).inner();
    ReceivedBatch { queue_arn, contexts, span }
}

/// Its own attributes first, then the queue's.
fn context_of(message: &SqsMessage) -> Option<TraceContext> {
    let attribute =
        |name| message.message_attributes.get(name).and_then(|attribute| attribute.string_value.as_deref());
    let system = message.attributes.get(AWS_TRACE_HEADER).map(String::as_str);
    incoming_message(attribute(TRACEPARENT), attribute(TRACESTATE), system)
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

fn process_batch(queue_arn: &str, contexts: &[Option<TraceContext>]) -> SpanBuilder {
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
