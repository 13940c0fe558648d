//! One discovery is one trace, as a real collector gets it; batches of every kind of message; and every metric of the
//! registry from a running system.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use acceptance::{Instance, Site, binary, eventually, posting_page};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use telemetry_proofs::{Collector, Runtime, Span};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
/// An address that may be fetched from, where nobody listens.
const GONE: &str = "127.0.0.7:4";
const QUEUE: &str = "arn:aws:sqs:us-east-1:123456789012:JobsQueue";

/// Options of an instance that exports after every event.
fn options<'a>(url: &'a str, site: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    const EACH: [&str; 6] = [
        "api.OTEL_BSP_SCHEDULE_DELAY=0",
        "api.OTEL_METRIC_EXPORT_INTERVAL=0",
        "dispatch.OTEL_BSP_SCHEDULE_DELAY=0",
        "dispatch.OTEL_METRIC_EXPORT_INTERVAL=0",
        "worker.OTEL_BSP_SCHEDULE_DELAY=0",
        "worker.OTEL_METRIC_EXPORT_INTERVAL=0",
    ];
    let mut options = vec!["--no-site", "--allow-fetch", site, "--otlp", url];
    for variable in EACH {
        options.extend(["--env", variable]);
    }
    options.extend_from_slice(more);
    options
}

fn discovery(module_id: &str, url: &str) -> Value {
    json!({ "origin_module_id": module_id, "url": url, "discovered_at": jiff::Timestamp::now().to_string() })
}

/// The spans below `parent` as lines; statements are left out, since they change with every release.
fn tree(spans: &[Span], parent: &str, depth: usize, out: &mut Vec<String>) {
    let mut children: Vec<&Span> = spans.iter().filter(|span| span.parent_id == parent).collect();
    children.sort_by_key(|span| span.started_ns);
    for span in children {
        if !span.attributes.contains_key("db.system.name") {
            let kind = ["-", "internal", "server", "client", "producer", "consumer"]
                [usize::try_from(span.kind).unwrap()];
            let links =
                if span.links.is_empty() { String::new() } else { format!(" links {}", span.links.len()) };
            let failed =
                if span.failed { format!(" error {}", span.attributes["error.type"]) } else { String::new() };
            out.push(format!("{}{} {kind} {}{links}{failed}", "  ".repeat(depth), span.function, span.name));
        }
        tree(spans, &span.span_id, depth + 1, out);
    }
}

#[test]
fn one_discovery_is_one_trace_from_the_post_to_the_posting() {
    let (collector, site) = (Collector::start(), Site::start());
    let (url, authority) = (collector.url(), site.authority());
    let instance = Instance::start(&options(&url, &authority, &[]));
    let (module, connector) = instance.connector("feed", "trusted");
    site.page("/jobs/1", &posting_page("Doctoral student in traced rivers", "Norrsken University"));
    let connector =
        connector.with("traceparent", &format!("00-{TRACE}-{PARENT}-01")).with("tracestate", "vendor=kept");
    connector.post("/discoveries", &discovery(&module.id, &site.url("/jobs/1"))).expect(202);
    eventually("the spans of all three functions arrive", || {
        let spans = collector.trace(TRACE);
        ["POST /discoveries", "send JobsQueue", "process JobsQueue"]
            .into_iter()
            .all(|name| spans.iter().any(|span| span.name == name))
    });
    let spans = collector.trace(TRACE);
    let mut lines = Vec::new();
    tree(&spans, PARENT, 0, &mut lines);
    assert_eq!(
        lines,
        [
            "api server POST /discoveries",
            "  api producer send WakeQueue",
            "  dispatch producer send JobsQueue links 1",
            "    worker consumer process JobsQueue links 1",
            "      worker internal run extract",
            "        worker client GET",
        ],
        "{spans:#?}"
    );
    // Statements stand in the trace with their names, and nothing else of them.
    let statements: Vec<&Span> =
        spans.iter().filter(|span| span.attributes.contains_key("db.system.name")).collect();
    assert!(
        statements.iter().any(|span| span.name == "fence" && span.function == "worker"),
        "{statements:#?}"
    );
    assert!(statements.iter().all(|span| span.name == span.attributes["db.query.summary"]));
    let process = spans.iter().find(|span| span.name == "process JobsQueue").unwrap();
    for (key, value) in [
        ("messaging.system", "aws_sqs"),
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "JobsQueue"),
        ("callboard.job.kind", "extract"),
        ("callboard.job.outcome", "done"),
        ("cloud.account.id", "123456789012"),
    ] {
        assert_eq!(process.attributes.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert!(process.attributes.contains_key("messaging.message.id"));
    // The link leads to the batch, in its invocation's own trace, which links back to the message.
    let (batch_trace, batch_span) = &process.links[0];
    assert_ne!(batch_trace, TRACE);
    eventually("the batch's span arrives", || {
        collector.spans().iter().any(|span| span.span_id == *batch_span)
    });
    let batch = collector.spans().into_iter().find(|span| span.span_id == *batch_span).unwrap();
    assert_eq!(batch.attributes["messaging.batch.message_count"], "1");
    let sent = spans.iter().find(|span| span.name == "send JobsQueue").unwrap();
    assert_eq!(batch.links, [(TRACE.to_owned(), sent.span_id.clone())]);
    // Other vendors' state is handed on with the job, and told to no collector.
    let carrier = instance.sql_value("SELECT trace_context FROM job_archive LIMIT 1");
    assert!(carrier.starts_with(&format!("00-{TRACE}-")) && carrier.ends_with(" vendor=kept"), "{carrier}");
    assert!(!String::from_utf8_lossy(&collector.raw()).contains("vendor=kept"));
}

/// One message of a batch: what it carries, and in whose trace its span then is.
#[derive(Clone, Copy)]
enum Carried {
    W3c,
    Xray,
    Row,
    Malformed,
    Nothing,
}

#[test]
fn batches_of_one_two_and_ten_are_linked_whatever_their_messages_carry() {
    let (collector, site) = (Collector::start(), Site::start());
    let (url, authority) = (collector.url(), site.authority());
    // Hints lead nowhere: the batches are made here.
    let cut = ["--allow-fetch", GONE, "--env", "dispatch.AWS_ENDPOINT_URL_SQS=http://127.0.0.1:9"];
    let instance = Instance::start(&options(&url, &authority, &cut));
    let (module, connector) = instance.connector("feed", "trusted");
    let mut number = 0;
    for carried in [
        vec![Carried::W3c],
        vec![Carried::Xray, Carried::Nothing],
        vec![
            Carried::W3c,
            Carried::Row,
            Carried::Malformed,
            Carried::Nothing,
            Carried::Xray,
            Carried::W3c,
            Carried::Row,
            Carried::W3c,
            Carried::Row,
            Carried::W3c,
        ],
    ] {
        let mut records = Vec::new();
        let mut expected = BTreeMap::new();
        for one in &carried {
            number += 1;
            let path = format!("/jobs/{number}");
            // The last of the ten fails: its site is gone.
            if number != 13 {
                site.page(
                    &path,
                    &posting_page(&format!("Doctoral student number {number}"), "Norrsken University"),
                );
            }
            let page = if number == 13 { format!("http://{GONE}/gone") } else { site.url(&path) };
            let accepted = connector.post("/discoveries", &discovery(&module.id, &page)).expect(202);
            let job = accepted["jobs"][0]["id"].as_str().unwrap().to_owned();
            let w3c = format!("{:032x}", 0xA000 + number);
            let xray = format!("5759e988{:024x}", 0xB000 + number);
            let row = format!("{:032x}", 0xC000 + number);
            let row_context = match one {
                Carried::Row | Carried::Malformed => format!("'00-{row}-{number:016x}-01'"),
                _ => "NULL".into(),
            };
            let _ =
                instance.sql(&format!("UPDATE jobs SET trace_context = {row_context} WHERE id = '{job}'"));
            let text = |value: String| {
                json!({"traceparent": {"dataType": "String", "stringValue": value,
                "stringListValues": [], "binaryListValues": []}})
            };
            let (attributes, system) = match one {
                Carried::W3c => (text(format!("00-{w3c}-{number:016x}-01")), json!({})),
                Carried::Xray => (
                    json!({}),
                    json!({"AWSTraceHeader": format!("Root=1-5759e988-{:024x};Parent={number:016x};Sampled=1", 0xB000 + number)}),
                ),
                Carried::Malformed => (text("00-nonsense".into()), json!({"AWSTraceHeader": "Root=;;"})),
                Carried::Row | Carried::Nothing => (json!({}), json!({})),
            };
            let trace = match one {
                Carried::W3c => w3c,
                Carried::Xray => xray,
                Carried::Row | Carried::Malformed => row,
                Carried::Nothing => String::new(),
            };
            expected.insert(job.clone(), trace);
            let record = |id: &str| {
                json!({
                    "messageId": id, "receiptHandle": "none", "attributes": system, "messageAttributes": attributes,
                    "body": json!({"job_id": job, "attempt": 0}).to_string(), "md5OfBody": "", "eventSource": "aws:sqs",
                    "eventSourceARN": QUEUE, "awsRegion": "us-east-1",
                })
            };
            records.push(record(&format!("m{number}")));
            if number == 2 {
                // Doubled: the same hint once more, with a message id of its own.
                records.push(record("doubled"));
            }
        }
        let batch_size = records.len();
        let answer = instance.invoke("worker", &json!({ "Records": records }));
        assert_eq!(answer["batchItemFailures"], json!([]), "{answer}");
        let all = || collector.spans();
        let of_job = |job: &str| {
            all()
                .into_iter()
                .find(|s| s.kind == 5 && s.attributes.get("callboard.job.id").is_some_and(|id| id == job))
        };
        eventually("every message's span arrives", || expected.keys().all(|job| of_job(job).is_some()));
        let any = of_job(expected.keys().next().unwrap()).unwrap();
        let batch = all()
            .into_iter()
            // Wake messages come in batches too.
            .rfind(|span| {
                span.name == "process JobsQueue"
                    && span
                        .attributes
                        .get("messaging.batch.message_count")
                        .is_some_and(|n| *n == batch_size.to_string())
            })
            .unwrap();
        let carried_contexts = batch_size
            - carried
                .iter()
                .filter(|one| matches!(one, Carried::Row | Carried::Malformed | Carried::Nothing))
                .count();
        assert_eq!(batch.links.len(), carried_contexts, "a link for each context that came: {batch:#?}");
        assert_eq!((any.name.as_str(), batch.kind), ("process JobsQueue", 5));
        let invocation = all().into_iter().find(|span| span.span_id == batch.parent_id).unwrap();
        assert_eq!((invocation.name.as_str(), invocation.kind), ("worker", 2));
        assert_eq!(invocation.attributes["faas.trigger"], "pubsub");
        for (job, trace) in &expected {
            let span = of_job(job).unwrap();
            if trace.is_empty() {
                assert_eq!((&span.trace_id, &span.parent_id), (&batch.trace_id, &batch.span_id));
                assert_eq!(span.links, []);
            } else {
                assert_eq!(&span.trace_id, trace);
                assert_eq!(span.links, [(batch.trace_id.clone(), batch.span_id.clone())]);
            }
            // One host is asked one thing at a time: most of the ten are put off, which is no failure.
            let is_failed = ["retry", "dead"].contains(&span.attributes["callboard.job.outcome"].as_str());
            assert_eq!(span.failed, is_failed, "{span:#?}");
        }
    }
    // The failed one is tried again: its second attempt links to the batch and to the first attempt.
    let job = instance.sql_value("SELECT id FROM jobs WHERE failures = 1");
    let attempts = || {
        let spans = collector.spans().into_iter();
        spans.filter(|span| span.kind == 5 && span.attributes.get("callboard.job.id") == Some(&job))
    };
    let first = attempts().next().unwrap();
    assert!(first.failed);
    let _ = instance.sql(&format!("UPDATE jobs SET next_run_at = now() WHERE id = '{job}'"));
    let record = json!({
        "messageId": "again", "receiptHandle": "none", "attributes": {}, "body": json!({"job_id": job, "attempt": 1}).to_string(),
        "messageAttributes": {"traceparent": {"dataType": "String", "stringValue": format!("00-{}-{}-01", first.trace_id, first.parent_id),
            "stringListValues": [], "binaryListValues": []}},
        "md5OfBody": "", "eventSource": "aws:sqs", "eventSourceARN": QUEUE, "awsRegion": "us-east-1",
    });
    let _ = instance.invoke("worker", &json!({ "Records": [record] }));
    let second = || attempts().find(|span| span.attributes["callboard.job.attempt"] == "2");
    eventually("the second attempt's span arrives", || second().is_some());
    assert!(
        second().unwrap().links.contains(&(first.trace_id.clone(), first.span_id.clone())),
        "{first:#?} {:#?}",
        second()
    );
}

/// The names of `docs/telemetry.md`'s generated table.
fn registered() -> BTreeSet<String> {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/telemetry.md")).unwrap();
    let table = text.split("<!-- registry").nth(1).unwrap().split("<!-- end of registry").next().unwrap();
    table.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned())).collect()
}

fn embedded(lines: &[Value], into: &mut BTreeSet<String>) {
    for line in lines {
        for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().into_iter().flatten() {
            into.insert(metric["Name"].as_str().unwrap().to_owned());
        }
    }
}

#[test]
fn a_running_system_emits_every_metric_of_the_registry_and_no_other() {
    let (collector, site) = (Collector::start(), Site::start());
    let (url, authority) = (collector.url(), site.authority());
    let instance = Instance::start(&options(&url, &authority, &["--worker-concurrency", "2"]));
    let (module, connector) = instance.connector("feed", "trusted");
    site.page("/jobs/1", &posting_page("Doctoral student in counted rivers", "Norrsken University"));
    // A posting, a page that is none, an address that may not be fetched.
    for page in [site.url("/jobs/1"), site.url("/nothing"), "http://169.254.169.254/latest".to_owned()] {
        connector.post("/discoveries", &discovery(&module.id, &page)).expect(202);
    }
    connector.post("/discoveries", &json!({"url": 5})).expect(422);
    eventually("all are settled", || {
        instance.sql_value("SELECT count(*) FROM discoveries WHERE status = 'received'") == "0"
    });
    // A lease that is lost in the middle of a fetch.
    let gate =
        site.gated_page("/jobs/2", &posting_page("Doctoral student in late rivers", "Norrsken University"));
    let late = connector.post("/discoveries", &discovery(&module.id, &site.url("/jobs/2"))).expect(202);
    eventually("the page is asked for", || site.asked("/jobs/2") == 1);
    instance.expire_leases();
    instance.sweep();
    gate.open();
    let job = late["jobs"][0]["id"].as_str().unwrap();
    eventually("the lease is found lost", || {
        instance.log("worker").iter().any(|line| {
            line["job_id"] == job && line["message"].as_str().is_some_and(|m| m.contains("lost its lease"))
        })
    });
    // A message that is no hint, a dead letter, an event that is none.
    instance.send_message("jobs", "nonsense", &[]);
    instance.send_message("dead_letters", "nonsense", &[]);
    instance.sweep();
    let broken = instance.local()["logs"].as_str().map(std::path::PathBuf::from).unwrap().join("event.json");
    std::fs::write(&broken, r#"{"Records": 5}"#).unwrap();
    let _ = acceptance::callboard_output(
        broken.parent().unwrap().parent().unwrap(),
        &["invoke", "dispatch", "--event", &broken.to_string_lossy()],
        "",
    );
    // A worker and a dispatch whose database is gone.
    let directory = tempfile::tempdir().unwrap();
    let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str())];
    let worker = Runtime::start(&binary("worker"), &directory.path().join("worker.log"), &endpoint);
    let record = json!({
        "messageId": "m", "receiptHandle": "none", "attributes": {}, "messageAttributes": {}, "md5OfBody": "",
        "body": json!({"job_id": job, "attempt": 0}).to_string(), "eventSource": "aws:sqs", "eventSourceARN": QUEUE, "awsRegion": "us-east-1",
    });
    let answer = worker.invoke(&json!({"Records": [record]}), Duration::from_secs(60)).unwrap();
    assert!(answer.body.contains("itemIdentifier"), "{}", answer.body);
    let dispatch = Runtime::start(&binary("dispatch"), &directory.path().join("dispatch.log"), &endpoint);
    let _ = dispatch.invoke(&json!({"sweep": true}), Duration::from_secs(30));
    let mut seen = BTreeSet::new();
    embedded(&worker.terminate(), &mut seen);
    embedded(&dispatch.terminate(), &mut seen);
    let registered = registered();
    assert!(registered.len() > 20);
    // What an export says of itself is written with the next event.
    eventually("every metric is written, and exported, and no other", || {
        let _ = instance.client().get("/healthz");
        for function in ["api", "dispatch", "worker"] {
            embedded(&instance.log(function), &mut seen);
        }
        let metrics = collector.metrics();
        let exported: BTreeSet<String> =
            metrics.keys().map(|name| name.split('{').next().unwrap().to_owned()).collect();
        seen == registered && exported == registered
    });
}
