//! What is secret, and what belongs to strangers, is in no signal and no log: canaries go in by every way there is, and are
//! looked for in everything that comes out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use acceptance::{Instance, Site, binary, eventually, posting_page};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;
use telemetry_proofs::{Collector, Runtime, request_event};

const CANARY: &str = "c4n4ry";
/// It may be fetched from, and nobody listens.
const GONE: &str = "127.0.0.7:4";
const QUEUE: &str = "arn:aws:sqs:us-east-1:123456789012:JobsQueue";
const TIME: Duration = Duration::from_secs(60);
/// Whatever a message's body can be but a message.
const BODIES: [&str; 6] = [
    "c4n4ry",
    r#""c4n4ry""#,
    r#"{"c4n4ry":"c4n4ry"}"#,
    r#"{"job_id":"c4n4ry","attempt":0}"#,
    r#"{"job_id":"00000000-0000-7000-8000-000000000000","attempt":"c4n4ry"}"#,
    r#"{"job_ids":["c4n4ry"]}"#,
];
const ATTRIBUTES: [(&str, &str); 2] = [("traceparent", "c4n4ry"), ("tracestate", "c4n4ry=c4n4ry")];

/// `text` holds neither a canary nor one of the secrets.
fn is_silent(place: &str, text: &str, secrets: &[&str]) {
    let text = text.to_lowercase();
    for secret in secrets.iter().copied().chain([CANARY]) {
        if let Some(at) = text.find(&secret.to_lowercase()) {
            let around: String = text[..at].chars().rev().take(300).collect();
            let before: String = around.chars().rev().collect();
            let after: String = text[at..].chars().take(200).collect();
            panic!("{place} tells {secret}: …{before}{after}…");
        }
    }
}

fn nothing_is_exported_of(collector: &Collector, secrets: &[&str]) {
    assert!(collector.span_count() > 0 && !collector.logs().is_empty() && !collector.metrics().is_empty());
    is_silent("an exported message", &String::from_utf8_lossy(&collector.raw()), secrets);
}

/// A page about somebody.
fn page() -> String {
    posting_page("Doctoral student with C4n4ry Lindqvist", "C4n4ry University").replace(
        "</body>",
        "<p>C4n4ry Lindqvist, <a href='mailto:c4n4ry@example.org'>c4n4ry@example.org</a></p></body>",
    )
}

#[test]
fn a_running_system_tells_nothing_of_what_it_is_given() {
    let (collector, site) = (Collector::start(), Site::start());
    let (url, authority) = (collector.url(), site.authority());
    let mut options = vec!["--no-site", "--allow-fetch", &authority, "--allow-fetch", GONE, "--otlp", &url];
    let variables: Vec<String> = ["api", "dispatch", "worker"]
        .into_iter()
        .flat_map(|function| {
            [
                "OTEL_BSP_SCHEDULE_DELAY=0",
                "OTEL_BLRP_SCHEDULE_DELAY=0",
                "OTEL_METRIC_EXPORT_INTERVAL=0",
                "OTEL_EXPORTER_OTLP_HEADERS=api-key=c4n4ry",
                "RUST_LOG=trace",
            ]
            .map(|variable| format!("{function}.{variable}"))
        })
        .collect();
    for variable in &variables {
        options.extend(["--env", variable]);
    }
    let instance = Instance::start(&options);
    let (module, connector) = instance.connector("feed", "trusted");
    let token = instance.run(&["token", "--role", "admin"]).trim().to_owned();
    let admin = instance.client().with("authorization", &format!("Bearer {token}"));

    site.page("/jobs/1?id=c4n4ry", &page());
    site.page("/jobs/2?id=c4n4ry", "<html><title>C4n4ry</title><p>c4n4ry@example.org was here</p></html>");
    let pages = [
        site.url("/jobs/1?id=c4n4ry"),
        site.url("/jobs/2?id=c4n4ry"),
        site.url("/nothing?id=c4n4ry#c4n4ry"),
        format!("http://{GONE}/?id=c4n4ry"),
        "http://169.254.169.254/latest?token=c4n4ry".to_owned(),
        "http://c4n4ry:c4n4ry@[c4n4ry]/".to_owned(),
    ];
    for (number, page) in pages.into_iter().enumerate() {
        let body = json!({
            "origin_module_id": module.id, "url": page, "discovered_at": jiff::Timestamp::now().to_string(),
            "external_id": format!("c4n4ry-{number}"), "title_hint": "C4n4ry Lindqvist", "organization_hint": "C4n4ry University",
            "text_hint": "c4n4ry@example.org", "hints": {"title": "C4n4ry"}, "metadata": {"c4n4ry": "c4n4ry"},
        });
        let answer = connector
            .clone()
            .with("idempotency-key", &format!("c4n4ry-{number}"))
            .post("/discoveries", &body);
        assert_eq!(answer.status, if page.contains('[') { 422 } else { 202 }, "{}", answer.text);
    }
    let evidence = json!({
        "kind": "url_fetch", "uri": "https://files.example.org/c4n4ry?key=c4n4ry", "content_hash": "0".repeat(64),
        "captured_at": jiff::Timestamp::now().to_string(), "content_type": "text/c4n4ry", "byte_size": 5,
        "metadata": {"person": "C4n4ry Lindqvist"},
    });
    connector.post("/evidence", &evidence).expect(202);
    let made = json!({
        "module_id": "other", "name": "C4n4ry Lindqvist", "kind": "connector", "scopes": ["discoveries:write"],
        "config": {"secret": "c4n4ry"},
    });
    admin.post("/admin/modules", &made).expect(201);
    let label = json!({ "label": "c4n4ry" });
    let key = admin.post("/admin/modules/other/keys", &label).expect(201)["key"].as_str().unwrap().to_owned();
    admin.patch("/admin/modules/other", &json!({"enabled": false, "disabled_reason": "c4n4ry"})).expect(200);
    // What is refused is told no more of than what is taken.
    let stranger = instance.client().with("x-module-id", "c4n4ry").with("x-api-key", "cb_c4n4ry_c4n4ry");
    let _ = stranger.post("/discoveries", &json!({"c4n4ry": "c4n4ry"}));
    let _ = connector.send("POST", "/discoveries", Some(("application/json", b"{\"c4n4ry\": c4n4ry}")));
    let nobody = instance.client().with("authorization", "Bearer c4n4ry.c4n4ry.c4n4ry");
    for path in [
        "/postings?q=c4n4ry",
        "/postings?cursor=c4n4ry",
        "/c4n4ry?c4n4ry",
        "/candidates/c4n4ry",
        "/admin/jobs?kind=c4n4ry",
    ] {
        let _ = nobody.get(path);
        let _ = admin.get(path);
    }
    for body in BODIES {
        for queue in ["wake", "jobs", "dead_letters"] {
            instance.send_message(queue, body, &ATTRIBUTES);
        }
    }
    instance.sweep();
    eventually("all discoveries are settled or put off, and every message has been read", || {
        let metrics = collector.metrics();
        let count = |name: &str| metrics.get(name).copied().unwrap_or_default();
        #[allow(clippy::cast_precision_loss, reason = "a small count")]
        let bodies = BODIES.len() as f64;
        instance.sql_value(
            "SELECT count(*) FROM discoveries WHERE status = 'received' AND url NOT LIKE '%127.0.0.7%'",
        ) == "0"
            && instance.sql_value("SELECT count(*) FROM jobs WHERE failures > 0") != "0"
            && count("callboard.messages.malformed{messaging.destination.name=wake}") >= bodies - 1.0
            && count("callboard.messages.malformed{messaging.destination.name=jobs}") >= bodies - 1.0
            && count("callboard.dead_letters{}") >= bodies
    });
    // They went in.
    for table in ["discoveries", "evidence", "postings", "modules", "module_keys", "idempotency_keys"] {
        let stored = format!("SELECT count(*) FROM {table} it WHERE lower(it::text) LIKE '%c4n4ry%'");
        assert_ne!(instance.sql_value(&stored), "0", "{table}");
    }
    let secrets = [token.as_str(), module.key.as_str(), key.as_str()];
    nothing_is_exported_of(&collector, &secrets);
    for function in ["api", "dispatch", "worker"] {
        let log = instance.data().join("logs").join(format!("{function}.log"));
        is_silent(function, &std::fs::read_to_string(log).unwrap(), &secrets);
    }
}

/// Events for a function, each with canaries wherever something can stand.
fn events(function: &str) -> Vec<Value> {
    let no_event = [json!({"c4n4ry": "c4n4ry"}), json!("c4n4ry"), json!({"Records": "c4n4ry"})];
    let events = match function {
        "api" => requests(),
        "migrate" => [
            "http://127.0.0.1:9/c4n4ry?Signature=c4n4ry",
            "https://c4n4ry:c4n4ry@[c4n4ry]/",
            "ftp://c4n4ry/",
        ]
        .map(|url| {
            json!({
                "RequestType": "Create", "ResponseURL": url, "StackId": "stack", "RequestId": "request",
                "LogicalResourceId": "Schema",
                "ResourceProperties": {"Configuration": {"Secret": "c4n4ry"}, "c4n4ry": "c4n4ry"},
            })
        })
        .into(),
        _ => vec![json!({ "Records": records() }), json!({ "sweep": "c4n4ry" })],
    };
    events.into_iter().chain(no_event).collect()
}

fn records() -> Vec<Value> {
    let hint = r#"{"job_id":"00000000-0000-7000-8000-000000000000","attempt":0}"#;
    let wake = r#"{"job_ids":["00000000-0000-7000-8000-000000000000"]}"#;
    let attributes: Value = ATTRIBUTES
        .map(|(name, value)| {
            let attribute = json!({"dataType": "String", "stringValue": value, "stringListValues": [], "binaryListValues": []});
            (name.to_owned(), attribute)
        })
        .into_iter()
        .collect();
    let record = |body: &str| {
        json!({
            "messageId": "m", "receiptHandle": "c4n4ry", "attributes": {"AWSTraceHeader": "Root=c4n4ry"},
            "messageAttributes": attributes, "body": body, "md5OfBody": "c4n4ry", "eventSource": "aws:sqs",
            "eventSourceARN": QUEUE, "awsRegion": "us-east-1",
        })
    };
    BODIES.into_iter().chain([hint, wake]).map(record).collect()
}

fn requests() -> Vec<Value> {
    let fields = [
        ("host", "proof.example.org"),
        ("x-module-id", "c4n4ry-module"),
        ("x-api-key", "cb_c4n4ry_key"),
        ("cookie", "session=c4n4ry"),
        ("user-agent", "c4n4ry"),
        ("referer", "https://example.org/?c4n4ry"),
        ("x-forwarded-for", "c4n4ry, 192.0.2.1"),
        ("traceparent", "c4n4ry"),
        ("tracestate", "c4n4ry=c4n4ry"),
        ("baggage", "c4n4ry=c4n4ry"),
        ("idempotency-key", "c4n4ry"),
        ("if-none-match", "\"c4n4ry\""),
        ("content-type", "application/json"),
    ];
    let bearer = [("host", "proof.example.org"), ("authorization", "Bearer c4n4ry.token.signature")];
    let request = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let mut event = request_event(method, path, headers);
        event["rawQueryString"] = "q=c4n4ry&email=c4n4ry%40example.org".into();
        event["queryStringParameters"] = json!({"q": "c4n4ry", "email": "c4n4ry@example.org"});
        event["body"] = r#"{"url":"https://user:c4n4ry@example.org/?c4n4ry","text_hint":"c4n4ry"}"#.into();
        event
    };
    vec![
        request("GET", "/healthz", &fields),
        request("GET", "/postings", &fields),
        request("POST", "/discoveries", &fields),
        request("GET", "/admin/jobs", &bearer),
        request("PATCH", "/admin/modules/c4n4ry", &bearer),
        request("GET", "/c4n4ry", &fields),
        request("C4N4RY", "/healthz", &fields),
        request("C4N4RY", "/c4n4ry", &fields),
    ]
}

#[test]
fn a_function_that_fails_tells_nothing_of_its_event_or_its_variables() {
    for function in ["api", "dispatch", "worker", "migrate"] {
        let (collector, directory) = (Collector::start(), tempfile::tempdir().unwrap());
        let url = collector.url();
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
            ("OTEL_BSP_SCHEDULE_DELAY", "0"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=c4n4ry"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "c4n4ry"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "ftp://user:c4n4ry@c4n4ry/?key=c4n4ry"),
            ("OTEL_TRACES_SAMPLER_ARG", "c4n4ry"),
            ("DATABASE_URL", "postgres://user:c4n4ry@127.0.0.1:9/none"),
            ("AWS_SECRET_ACCESS_KEY", "c4n4ry"),
            ("AWS_SESSION_TOKEN", "c4n4ry"),
            ("RUST_LOG", "trace"),
        ];
        let runtime = Runtime::start(&binary(function), &directory.path().join("log"), &environment);
        let events = events(function);
        for event in &events {
            assert!(runtime.invoke(event, TIME).is_some(), "{function}: {event}");
        }
        assert!(runtime.lines().iter().any(|line| line["level"] == "ERROR" || line["level"] == "WARN"));
        let _ = runtime.terminate();
        is_silent(function, &std::fs::read_to_string(directory.path().join("log")).unwrap(), &[]);
        nothing_is_exported_of(&collector, &[]);
    }
}

#[test]
fn a_start_that_fails_tells_why_and_no_secret() {
    for function in ["api", "dispatch", "worker", "migrate"] {
        for database in ["postgres://user:c4n4ry@host:c4n4ry/c4n4ry", "host=a password='c4n4ry port=c4n4ry"] {
            let output = Command::new(binary(function))
                .env_clear()
                .env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")
                .env("DATABASE_URL", database)
                .env("OTEL_EXPORTER_OTLP_HEADERS", "c4n4ry")
                .output()
                .unwrap();
            assert!(!output.status.success(), "{function} starts with {database}");
            for text in [output.stdout, output.stderr] {
                is_silent(function, &String::from_utf8_lossy(&text), &[]);
            }
        }
    }
}
