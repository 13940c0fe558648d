use super::*;
use limits::{Verdict, check};

fn code(action: &str, input: &Value) -> Option<&'static str> {
    match check(action, input) {
        Verdict::Refuse(refusal) => Some(refusal.code),
        _ => None,
    }
}

fn entries(count: usize) -> Value {
    (0..count).map(|index| json!({"Id": index.to_string(), "MessageBody": "x"})).collect()
}

#[test]
fn what_aws_refuses_is_refused() {
    let megabyte = "x".repeat(1024 * 1024);
    let cases = [
        ("SendMessage", json!({"MessageBody": "x"}), None),
        ("SendMessage", json!({"MessageBody": ""}), Some("InvalidParameterValue")),
        ("SendMessage", json!({"MessageBody": megabyte}), None),
        ("SendMessage", json!({"MessageBody": format!("{megabyte}x")}), Some("InvalidParameterValue")),
        ("SendMessage", json!({"MessageBody": "a\u{0}b"}), Some("InvalidMessageContents")),
        ("SendMessage", json!({"MessageBody": "x", "DelaySeconds": 901}), Some("InvalidParameterValue")),
        ("SendMessageBatch", json!({"Entries": entries(10)}), None),
        ("SendMessageBatch", json!({"Entries": entries(11)}), Some("TooManyEntriesInBatchRequest")),
        ("SendMessageBatch", json!({"Entries": []}), Some("EmptyBatchRequest")),
        ("DeleteMessageBatch", json!({"Entries": entries(11)}), Some("TooManyEntriesInBatchRequest")),
        (
            "SendMessageBatch",
            json!({"Entries": [{"Id": "a", "MessageBody": "x"}, {"Id": "a", "MessageBody": "y"}]}),
            Some("BatchEntryIdsNotDistinct"),
        ),
        (
            "SendMessageBatch",
            json!({"Entries": [{"Id": "a", "MessageBody": megabyte}, {"Id": "b", "MessageBody": "y"}]}),
            Some("BatchRequestTooLong"),
        ),
        ("ReceiveMessage", json!({"MaxNumberOfMessages": 11}), Some("InvalidParameterValue")),
        ("ReceiveMessage", json!({"MaxNumberOfMessages": 10}), None),
    ];
    for (action, input, expected) in cases {
        assert_eq!(code(action, &input), expected, "{action} {:.80}", input.to_string());
    }
}

#[test]
fn a_bad_entry_of_a_batch_fails_alone() {
    let input = json!({"Entries": [{"Id": "a", "MessageBody": "x"}, {"Id": "b", "MessageBody": "\u{1}"}]});
    let Verdict::Part { rest, failed } = check("SendMessageBatch", &input) else { panic!("not in part") };
    assert_eq!(rest["Entries"], json!([{"Id": "a", "MessageBody": "x"}]));
    assert_eq!((&failed[0]["Id"], &failed[0]["Code"]), (&json!("b"), &json!("InvalidMessageContents")));
}

fn specs() -> Vec<QueueSpec> {
    let spec = |name: &str, redrive| QueueSpec {
        logical_id: name.into(),
        visibility: Duration::from_secs(1),
        retention: Duration::from_secs(60),
        redrive,
    };
    vec![spec("JobsQueue", Some(("DeadLetterQueue".into(), 1))), spec("DeadLetterQueue", None)]
}

async fn client(queues: &Queues) -> aws_sdk_sqs::Client {
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region(REGION)
        .credentials_provider(aws_credential_types::Credentials::new("local", "local", None, None, "test"))
        .endpoint_url(queues.endpoint())
        .load()
        .await;
    aws_sdk_sqs::Client::new(&config)
}

#[tokio::test]
async fn the_sdk_sends_and_the_poller_side_receives_and_deletes() {
    let queues = Queues::start(&specs()).await.unwrap();
    let client = client(&queues).await;
    let url = client.get_queue_url().queue_name("JobsQueue").send().await.unwrap().queue_url.unwrap();
    assert_eq!(url, queues.url("JobsQueue"));
    let attribute = aws_sdk_sqs::types::MessageAttributeValue::builder()
        .data_type("String")
        .string_value("00-abc")
        .build()
        .unwrap();
    client
        .send_message()
        .queue_url(&url)
        .message_body("hello")
        .message_attributes("traceparent", attribute)
        .send()
        .await
        .unwrap();
    let received = queues.receive("JobsQueue", 10).await.unwrap();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].body, "hello");
    assert_eq!(received[0].message_attributes["traceparent"]["StringValue"], "00-abc");
    queues.delete("JobsQueue", &[&received[0].receipt_handle]).await.unwrap();
    let refused = client.send_message().queue_url(&url).message_body("a\u{0}").send().await.unwrap_err();
    assert!(refused.into_service_error().is_invalid_message_contents());
    let entry = |id: usize| {
        aws_sdk_sqs::types::SendMessageBatchRequestEntry::builder()
            .id(id.to_string())
            .message_body("x")
            .build()
    };
    let eleven: Vec<_> = (0..11).map(|id| entry(id).unwrap()).collect();
    let refused =
        client.send_message_batch().queue_url(&url).set_entries(Some(eleven)).send().await.unwrap_err();
    assert!(refused.into_service_error().is_too_many_entries_in_batch_request());
}

#[tokio::test]
async fn a_message_that_was_received_too_often_is_in_the_dead_letter_queue() {
    let queues = Queues::start(&specs()).await.unwrap();
    let client = client(&queues).await;
    client.send_message().queue_url(queues.url("JobsQueue")).message_body("poison").send().await.unwrap();
    assert_eq!(queues.receive("JobsQueue", 10).await.unwrap().len(), 1);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        assert_eq!(queues.receive("JobsQueue", 10).await.unwrap().len(), 0);
        let dead = queues.receive("DeadLetterQueue", 10).await.unwrap();
        if let Some(message) = dead.first() {
            assert_eq!(message.body, "poison");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "it never arrived");
        queues.has_changed("JobsQueue").await;
    }
}
