//! The function as CloudFormation sees it: an event in, an answer PUT to a URL.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};
use store::PoolConfig;
use testdb::TestDb;

fn config(url: String) -> PoolConfig {
    PoolConfig { url, tls: false, iam: false, size: 1, ca_bundle: None }
}

/// Takes one PUT, answers 200, and returns the body.
fn answers_taken_at() -> (String, std::thread::JoinHandle<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/answer?signature=x", listener.local_addr().unwrap());
    let taken = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut length = 0;
        let mut first = String::new();
        reader.read_line(&mut first).unwrap();
        assert!(first.starts_with("PUT /answer?signature=x "), "{first}");
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let lower = line.to_ascii_lowercase();
            assert!(!lower.starts_with("content-type"), "the URL was signed without a content type");
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        serde_json::from_slice(&body).unwrap()
    });
    (url, taken)
}

fn event(request_type: &str, url: &str) -> Value {
    json!({
        "RequestType": request_type, "ResponseURL": url, "StackId": "stack", "RequestId": "request",
        "LogicalResourceId": "Schema", "ResourceType": "Custom::Migration",
        "ResourceProperties": { "Code": "arn:1", "Configuration": { "LogLevel": "info", "Subnets": ["a", "b"] } },
    })
}

fn in_a_minute() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test]
async fn create_migrates_an_empty_database_and_answers_success_with_its_version() {
    let db = TestDb::empty().await;
    let (url, taken) = answers_taken_at();
    migrate::handle(&config(db.owner_url()), event("Create", &url), in_a_minute()).await.unwrap();
    let answer = taken.join().unwrap();
    assert_eq!(answer["Status"], "SUCCESS", "{answer}");
    assert_eq!(answer["PhysicalResourceId"], "callboard-schema");
    assert_eq!(
        (&answer["StackId"], &answer["RequestId"], &answer["LogicalResourceId"]),
        (&json!("stack"), &json!("request"), &json!("Schema"))
    );
    assert_eq!(answer["Data"]["Version"], store::migrations::newest_version());
    assert_eq!(answer["Data"]["Configuration"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn a_failure_is_told_to_cloudformation_with_its_reason_and_no_password() {
    let (url, taken) = answers_taken_at();
    let nobody = config("postgres://owner:hunter2@127.0.0.1:1/none".into());
    migrate::handle(&nobody, event("Update", &url), in_a_minute()).await.unwrap();
    let answer = taken.join().unwrap();
    assert_eq!(answer["Status"], "FAILED", "{answer}");
    let reason = answer["Reason"].as_str().unwrap();
    assert!(reason.contains("does not answer") && !reason.contains("hunter2"), "{reason}");
}

#[tokio::test]
async fn delete_keeps_the_data() {
    let db = TestDb::new().await;
    let (url, taken) = answers_taken_at();
    migrate::handle(&config(db.owner_url()), event("Delete", &url), in_a_minute()).await.unwrap();
    assert_eq!(taken.join().unwrap()["Status"], "SUCCESS");
    assert_eq!(
        store::migrations::schema_version(&db.app().await).await.unwrap(),
        Some(store::migrations::newest_version())
    );
}

/// As a later release leaves it.
async fn newer_by_one(db: &TestDb) {
    let owner = db.owner().await;
    let statement = "INSERT INTO schema_migrations (version, name, checksum, duration_ms)
        SELECT max(version) + 1, 'a_later_release.sql', '', 0 FROM schema_migrations";
    owner.execute(statement, &[]).await.unwrap();
}

#[tokio::test]
async fn an_update_to_an_earlier_release_leaves_the_schema_and_succeeds() {
    let db = TestDb::new().await;
    newer_by_one(&db).await;
    let (url, taken) = answers_taken_at();
    migrate::handle(&config(db.owner_url()), event("Update", &url), in_a_minute()).await.unwrap();
    let answer = taken.join().unwrap();
    assert_eq!(answer["Status"], "SUCCESS", "{answer}");
    assert_eq!(answer["Data"]["Version"], store::migrations::newest_version() + 1);
}

#[tokio::test]
async fn a_new_stack_refuses_the_database_of_a_later_release() {
    let db = TestDb::new().await;
    newer_by_one(&db).await;
    let (url, taken) = answers_taken_at();
    migrate::handle(&config(db.owner_url()), event("Create", &url), in_a_minute()).await.unwrap();
    let answer = taken.join().unwrap();
    assert_eq!(answer["Status"], "FAILED", "{answer}");
    assert!(answer["Reason"].as_str().unwrap().contains("newer"), "{answer}");
}

#[test]
fn the_hash_of_the_configuration_differs_with_each_value_and_not_with_the_order() {
    let hash = |configuration: Value| {
        let properties = json!({ "Code": "arn:1", "Configuration": configuration });
        serde_json::from_value::<migrate::Properties>(properties).unwrap().configuration_hash()
    };
    let one = hash(json!({ "LogLevel": "info", "Subnets": ["a", "b"] }));
    assert_eq!(one, hash(json!({ "Subnets": ["a", "b"], "LogLevel": "info" })));
    assert_ne!(one, hash(json!({ "LogLevel": "debug", "Subnets": ["a", "b"] })));
    assert_ne!(one, hash(json!({ "LogLevel": "info", "Subnets": ["b", "a"] })));
    assert!(one.len() == 64 && one.bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
}

#[tokio::test]
async fn called_by_hand_it_answers_with_what_it_applied_and_a_second_call_applies_nothing() {
    let db = TestDb::empty().await;
    let first = migrate::handle(&config(db.owner_url()), json!({}), in_a_minute()).await.unwrap();
    assert_eq!(
        first["applied"].as_array().unwrap().len(),
        usize::try_from(store::migrations::newest_version()).unwrap()
    );
    let second = migrate::handle(&config(db.owner_url()), json!({}), in_a_minute()).await.unwrap();
    assert_eq!(second["applied"], json!([]));
}

#[tokio::test]
async fn without_time_left_nothing_is_begun_and_the_caller_is_told() {
    let db = TestDb::empty().await;
    let error = migrate::handle(&config(db.owner_url()), json!({}), Instant::now()).await.unwrap_err();
    assert!(matches!(error, migrate::Error::Deadline), "{error}");
}
