//! Export by the shipped `api` binary under a runtime that freezes, thaws, terminates and kills it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use acceptance::{binary, state_of};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use telemetry_proofs::{Behaviour, Collector, Runtime, request_event};

const TIME: Duration = Duration::from_secs(10);
/// What an answer takes at most with the SDK's defaults: 5 s for spans and 10 s for metrics, with room.
const LONG: Duration = Duration::from_secs(40);
/// Every event is followed by an export.
const EACH: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "0");

/// A number that `name` may set higher than the test command's own.
fn count(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn healthz() -> Value {
    request_event("GET", "/healthz", &[("host", "proof.example.org")])
}

struct Place {
    directory: tempfile::TempDir,
    starts: usize,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), starts: 0 }
    }

    /// A process with a log of its own.
    fn start(&mut self, function: &str, environment: &[(&str, &str)]) -> Runtime {
        self.starts += 1;
        let log: PathBuf = self.directory.path().join(format!("{}.log", self.starts));
        Runtime::start(&binary(function), &log, environment)
    }
}

/// What the last lines of a process say became of its spans: made, sent, dropped.
fn totals(lines: &[Value]) -> (u64, u64, u64) {
    let line =
        lines.iter().rev().find(|line| line["message"] == "telemetry ended" && line["signal"] == "traces");
    let line = line.unwrap_or_else(|| panic!("no totals in {lines:?}"));
    let number = |name: &str| line[name].as_u64().unwrap();
    (number("made"), number("sent"), number("dropped"))
}

fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

/// Sockets of a process that are TCP: descriptors whose inode is in its tables.
fn tcp_sockets(pid: u32) -> usize {
    let tables =
        ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap());
    let inodes: BTreeSet<String> = tables
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .filter_map(|line| line.split_whitespace().nth(9).map(str::to_owned))
        .collect();
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    links
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .filter(|inode| inodes.contains(inode))
        .count()
}

#[test]
fn without_an_endpoint_or_disabled_there_is_no_socket_no_thread_and_no_warning() {
    let collector = Collector::start();
    let mut place = Place::new();
    let cases: [&[(&str, &str)]; 3] = [
        &[],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()), ("OTEL_SDK_DISABLED", "TRUE"), EACH],
        &[("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
    ];
    let mut seen = Vec::new();
    for environment in cases {
        let runtime = place.start("api", environment);
        for _ in 0..3 {
            assert!(runtime.invoke(&healthz(), TIME).is_some());
        }
        // The one connection is the runtime's own.
        assert_eq!(tcp_sockets(runtime.pid()), 1, "{environment:?}");
        seen.push(threads(runtime.pid()));
        let lines = runtime.kill();
        let warnings: Vec<_> =
            lines.iter().filter(|line| line["level"] == "WARN" || line["level"] == "ERROR").collect();
        assert_eq!(warnings, Vec::<&Value>::new(), "{environment:?}");
        assert!(lines.iter().any(|line| line.get("_aws").is_some()), "embedded metrics are written");
        let request = lines.iter().find(|line| line["message"] == "request answered").unwrap();
        for field in [
            "timestamp",
            "level",
            "service",
            "function",
            "version",
            "request_id",
            "trace_id",
            "span_id",
            "cold_start",
        ] {
            assert!(!request[field].is_null(), "{field} in {request}");
        }
    }
    let exporting = place.start("api", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()), EACH]);
    assert!(exporting.invoke(&healthz(), TIME).is_some());
    seen.push(threads(exporting.pid()));
    assert!(seen.iter().all(|threads| *threads == seen[0]), "no thread is telemetry's: {seen:?}");
    assert!(collector.requests() > 0);
}

#[test]
fn a_lone_invocation_arrives_before_its_answer_is_given() {
    let collector = Collector::start();
    let mut place = Place::new();
    let runtime = place.start("api", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())]);
    let reply = runtime.invoke(&healthz(), TIME).unwrap();
    runtime.freeze();
    assert!(reply.body.contains("200"), "{}", reply.body);
    assert_eq!(collector.span_count(), 1);
    let span = &collector.spans()[0];
    assert_eq!((span.name.as_str(), span.kind, span.function.as_str()), ("GET /healthz", 2, "api"));
    assert_eq!(span.attributes["http.route"], "/healthz");
    assert_eq!(span.attributes["faas.coldstart"], "true");
    assert_eq!(span.attributes["http.response.status_code"], "200");
    let resource = &collector.resources()[0];
    assert_eq!(
        (&*resource["service.name"], &*resource["telemetry.sdk.name"]),
        ("callboard", "opentelemetry")
    );
    assert!(collector.logs().iter().any(|record| !record.trace_id.is_empty()));
    assert!(collector.metrics().keys().any(|name| name.starts_with("faas.coldstarts")));
}

/// Events under a runtime that freezes and thaws an environment in between and ends it now and then: by SIGTERM, then `ended`
/// is told its last lines; or, if `kills`, by SIGKILL, as after a time-out of another event.
fn live(
    place: &mut Place,
    environment: &[(&str, &str)],
    events: usize,
    kills: bool,
    mut ended: impl FnMut(&[Value]),
) {
    let mut number: u64 = 1;
    let mut runtime = place.start("api", environment);
    for _ in 0..events {
        // A sequence that is the same every time (Knuth's LCG), so that a failure can be seen again.
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        assert!(runtime.invoke(&healthz(), TIME).is_some());
        if (number >> 33).is_multiple_of(4) {
            runtime.freeze();
            while state_of(runtime.pid()) != Some('T') {
                std::thread::yield_now();
            }
            runtime.thaw();
        }
        match (number >> 40) % 200 {
            0 => ended(&std::mem::replace(&mut runtime, place.start("api", environment)).terminate()),
            1 if kills => drop(std::mem::replace(&mut runtime, place.start("api", environment)).kill()),
            _ => {}
        }
    }
    ended(&runtime.terminate());
}

/// 100,000 with `CALLBOARD_INVOCATIONS=100000`.
#[test]
fn every_span_arrives_once_through_freezing_thawing_ending_and_killing() {
    let collector = Collector::start();
    let url = collector.url();
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), EACH];
    let wanted = count("CALLBOARD_INVOCATIONS", 300);
    live(&mut Place::new(), &environment, wanted, true, |lines| {
        let (made, sent, dropped) = totals(lines);
        assert_eq!((made, dropped), (sent, 0));
    });
    let spans = collector.spans();
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
    assert_eq!((spans.len(), ids.len()), (wanted, wanted), "each once");
}

#[test]
fn a_busy_environments_last_spans_are_sent_when_it_is_ended() {
    let collector = Collector::start();
    let mut place = Place::new();
    let runtime = place.start("api", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())]);
    for _ in 0..50 {
        assert!(runtime.invoke(&healthz(), TIME).is_some());
    }
    let before = collector.span_count();
    assert!((3..50).contains(&before), "a busy environment sends seldom: {before}");
    let (made, sent, dropped) = totals(&runtime.terminate());
    assert_eq!((made, sent, dropped), (50, 50, 0));
    assert_eq!(collector.span_count(), 50);
}

#[test]
fn a_handler_near_its_time_out_has_its_elders_spans_sent_before_it_is_killed() {
    let collector = Collector::start();
    let mut place = Place::new();
    // A database that takes connections and never says a word: the handler hangs until it is killed.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let database = format!("postgres://a@{}/none", silent.local_addr().unwrap());
    let runtime =
        place.start("api", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()), ("DATABASE_URL", &database)]);
    for _ in 0..10 {
        assert!(runtime.invoke(&healthz(), TIME).is_some());
    }
    assert!(collector.span_count() < 10, "a busy environment sends seldom");
    let hanging = request_event("GET", "/postings", &[("host", "proof.example.org")]);
    assert!(runtime.invoke(&hanging, Duration::from_millis(1_500)).is_none(), "it hangs");
    let lines = runtime.kill();
    assert_eq!(collector.span_count(), 10, "the elders' spans");
    assert!(
        lines.iter().any(|line| line["message"].as_str().is_some_and(|m| m.contains("near its time-out")))
    );
}

/// 100,000 with `CALLBOARD_INVOCATIONS=100000`, a sixth by each way to fail.
#[test]
fn with_a_failing_collector_what_was_made_is_sent_or_dropped_to_the_unit() {
    let behaviours = [
        Behaviour::Status(503),
        Behaviour::Status(400),
        Behaviour::Reset,
        Behaviour::Garbage,
        Behaviour::EverySecond,
        Behaviour::Huge,
    ];
    let events = count("CALLBOARD_INVOCATIONS", 360).div_ceil(behaviours.len());
    for behaviour in behaviours {
        let collector = Collector::start();
        collector.behave(behaviour);
        let environment =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url()), EACH, ("OTEL_BSP_MAX_QUEUE_SIZE", "20")];
        let (mut made, mut sent, mut dropped) = (0, 0, 0);
        live(&mut Place::new(), &environment, events, false, |lines| {
            let of_environment = totals(lines);
            assert_eq!(of_environment.0, of_environment.1 + of_environment.2, "{behaviour:?}");
            made += of_environment.0;
            sent += of_environment.1;
            dropped += of_environment.2;
            let warnings = lines
                .iter()
                .filter(|line| line["message"].as_str().is_some_and(|m| m.contains("could not be exported")))
                .count();
            assert!(warnings <= 1, "a dead collector does not flood the log");
        });
        assert_eq!(made, events as u64, "{behaviour:?}");
        match behaviour {
            Behaviour::EverySecond => {
                let arrived: BTreeSet<String> =
                    collector.spans().into_iter().map(|span| span.span_id).collect();
                assert_eq!(arrived.len() as u64, sent, "nothing twice, nothing lost");
                assert_eq!(collector.span_count() as u64, sent);
            }
            Behaviour::Huge => assert_eq!(sent, made, "its status took them"),
            _ => assert_eq!((sent, dropped), (0, made), "{behaviour:?}"),
        }
    }
}

#[test]
fn a_failed_batch_goes_first_the_next_time() {
    let collector = Collector::start();
    collector.behave(Behaviour::Status(503));
    let mut place = Place::new();
    let runtime = place.start("api", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()), EACH]);
    for _ in 0..3 {
        assert!(runtime.invoke(&healthz(), TIME).is_some());
    }
    assert_eq!(collector.span_count(), 0);
    collector.behave(Behaviour::Healthy);
    assert!(runtime.invoke(&healthz(), TIME).is_some());
    assert_eq!(collector.span_count(), 4);
    let starts: Vec<u64> = collector.spans().iter().map(|span| span.started_ns).collect();
    assert!(starts.is_sorted(), "{starts:?}");
}

/// How long answers took, in milliseconds, sorted.
struct Times(Vec<f64>);

impl Times {
    /// Of so many answers, or of those that came within `limit`; one at least. And the last of the answers.
    fn of(runtime: &Runtime, invocations: usize, limit: Duration) -> (Self, Value) {
        let started = Instant::now();
        let (mut times, mut body) = (Vec::new(), String::new());
        while times.len() < invocations && (times.is_empty() || started.elapsed() < limit) {
            let reply = runtime.invoke(&healthz(), LONG).unwrap();
            body = reply.body;
            times.push(reply.took.as_secs_f64() * 1_000.0);
        }
        times.sort_by(f64::total_cmp);
        (Self(times), serde_json::from_str(&body).unwrap())
    }

    fn p50(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    fn p99(&self) -> f64 {
        self.0[(self.0.len() * 99).div_ceil(100).clamp(1, self.0.len()) - 1]
    }
}

/// A collector that behaves so, and its address; none: a port where nobody listens.
fn collector_that(behaviour: Option<Behaviour>) -> (Collector, String) {
    let collector = Collector::start();
    let url = match behaviour {
        Some(behaviour) => {
            collector.behave(behaviour);
            collector.url()
        }
        None => "http://127.0.0.1:9".to_owned(),
    };
    (collector, url)
}

/// The time of an answer by collector: callboard's, and that of a function with the SDK's defaults; medians and 99th
/// percentiles. `CALLBOARD_INVOCATIONS` sets the number of invocations a row; one of the SDK's defaults ends earlier after
/// `CALLBOARD_SDK_SECONDS`. The table is printed.
#[test]
fn a_dead_collector_costs_an_answer_its_budget_at_most_and_less_than_the_sdks_defaults() {
    let mut place = Place::new();
    let per_row = count("CALLBOARD_INVOCATIONS", 12).min(2_000);
    let mut measure = |environment: &[(&str, &str)]| {
        let runtime = place.start("api", environment);
        let _ = Times::of(&runtime, 3, LONG);
        let (times, answer) = Times::of(&runtime, per_row, Duration::MAX);
        // The ids differ; the answer does not.
        (times, answer["body"].to_string())
    };
    let (base, expected) = measure(&[]);
    let rows = [
        ("healthy", Some(Behaviour::Healthy), 40.0),
        ("refused", None, 40.0),
        ("503", Some(Behaviour::Status(503)), 40.0),
        ("slow, 2 s", Some(Behaviour::Slow(Duration::from_secs(2))), 400.0),
        ("hung", Some(Behaviour::Hung), 400.0),
        ("reset", Some(Behaviour::Reset), 400.0),
        ("garbage", Some(Behaviour::Garbage), 400.0),
        ("10 MB answer", Some(Behaviour::Huge), 400.0),
    ];
    let ours: Vec<Times> = rows
        .iter()
        .map(|(name, behaviour, bar)| {
            let (_collector, url) = collector_that(*behaviour);
            let (times, body) = measure(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &url), EACH]);
            assert_eq!(body, expected, "{name}");
            // Of the median, with room: the tail of a short run on a shared machine says little. The table has the figures.
            let (p50, base) = (times.p50(), base.p50());
            assert!(p50 - base <= *bar, "{name}: {p50:.1} ms beside {base:.1} ms");
            times
        })
        .collect();
    let limit = Duration::from_secs(count("CALLBOARD_SDK_SECONDS", 5) as u64);
    // At the same time, since they mostly wait.
    let sdks = std::thread::scope(|scope| {
        let row = |behaviour, place: &mut Place| {
            let (collector, url) = collector_that(behaviour);
            let runtime = place.start("sdk_defaults", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]);
            scope.spawn(move || {
                let (times, answer) = Times::of(&runtime, per_row, limit);
                (times, answer, collector.span_count())
            })
        };
        let started: Vec<_> = rows.iter().map(|(_, behaviour, _)| row(*behaviour, &mut place)).collect();
        started.into_iter().map(|row| row.join().unwrap()).collect::<Vec<_>>()
    });
    println!("| collector | p50 ms | p99 ms | added p50 ms | SDK p50 ms | SDK p99 ms | SDK answers |");
    println!("|---|---|---|---|---|---|---|");
    println!("| no endpoint | {:.2} | {:.2} | | | | |", base.p50(), base.p99());
    for (((name, ..), times), (sdk, ..)) in rows.iter().zip(&ours).zip(&sdks) {
        println!(
            "| {name} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
            times.p50(),
            times.p99(),
            times.p50() - base.p50(),
            sdk.p50(),
            sdk.p99(),
            sdk.0.len()
        );
    }
    let (healthy, answer, arrived) = &sdks[0];
    assert_eq!(*answer, json!({"spans": true, "metrics": true}), "the SDK's own export works");
    assert_eq!(*arrived, healthy.0.len(), "a span an event");
    for (((name, ..), times), (sdk, ..)) in rows.iter().zip(&ours).zip(&sdks).skip(1) {
        assert!(times.p50() < sdk.p50(), "{name}: {:.1} ms beside {:.1} ms", times.p50(), sdk.p50());
    }
}

/// 10,000 with `CALLBOARD_EVENTS=10000`.
#[test]
fn embedded_metrics_and_otlp_count_the_same() {
    let collector = Collector::start();
    let mut place = Place::new();
    let runtime = place.start("api", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())]);
    let events = count("CALLBOARD_EVENTS", 200);
    for number in 0..events {
        let path = ["/healthz", "/", "/nowhere", "/problems/none"][number % 4];
        assert!(runtime.invoke(&request_event("GET", path, &[("host", "h")]), TIME).is_some());
    }
    let lines = runtime.terminate();
    let mut embedded = std::collections::BTreeMap::<String, f64>::new();
    for object in lines.iter().filter(|line| line.get("_aws").is_some()) {
        let directive = &object["_aws"]["CloudWatchMetrics"][0];
        let mut pairs: Vec<String> = directive["Dimensions"][0]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| {
                format!("{}={}", name.as_str().unwrap(), object[name.as_str().unwrap()].as_str().unwrap())
            })
            .collect();
        pairs.sort();
        for metric in directive["Metrics"].as_array().unwrap() {
            let name = metric["Name"].as_str().unwrap();
            // A histogram counts its values, a counter adds them.
            let is_histogram = name.ends_with("duration");
            let values = match &object[name] {
                Value::Array(values) => values.clone(),
                value => vec![value.clone()],
            };
            #[allow(clippy::cast_precision_loss, reason = "small counts")]
            let value = if is_histogram {
                values.len() as f64
            } else {
                values.iter().filter_map(Value::as_f64).sum()
            };
            *embedded.entry(format!("{name}{{{}}}", pairs.join(","))).or_default() += value;
        }
    }
    let exported = collector.metrics();
    let requests: f64 =
        exported.iter().filter(|(name, _)| name.starts_with("http.server")).map(|(_, n)| n).sum();
    #[allow(clippy::cast_precision_loss, reason = "small counts")]
    let expected = events as f64;
    assert_eq!(requests, expected);
    for (name, value) in &embedded {
        // What the last export says of itself is too late for that export.
        if !name.starts_with("callboard.telemetry") {
            assert_eq!(exported.get(name), Some(value), "{name}");
        }
    }
    assert!(exported.keys().all(|name| embedded.contains_key(name)), "{exported:?} {embedded:?}");
}

#[test]
fn at_trace_level_exports_tell_nothing_of_themselves() {
    let collector = Collector::start();
    let mut place = Place::new();
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url()),
        EACH,
        ("OTEL_BLRP_SCHEDULE_DELAY", "0"),
        ("RUST_LOG", "trace"),
    ];
    let runtime = place.start("api", &environment);
    let mut per_event = Vec::new();
    for _ in 0..6 {
        let before = collector.logs().len();
        assert!(runtime.invoke(&healthz(), TIME).is_some());
        per_event.push(collector.logs().len() - before);
    }
    // From the second event on each brings as many records as the one before: nothing grows.
    assert!(per_event[2..].iter().all(|count| *count == per_event[2]), "{per_event:?}");
    let idle = collector.requests();
    std::thread::sleep(Duration::from_secs(count("CALLBOARD_IDLE_SECONDS", 1) as u64));
    assert_eq!(collector.requests(), idle, "an idle environment sends nothing");
}
