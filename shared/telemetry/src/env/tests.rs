//! Each variable: unset, empty, valid, invalid, in upper case, and a signal's own beside the one for all.
#![cfg(test)]

use super::*;
use std::collections::BTreeMap;

const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318";

fn settings(text: &str) -> Settings {
    let variables: BTreeMap<String, String> = text
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Settings::read(&|name| variables.get(name).cloned())
}

/// The variables beside [`BASE`], what is looked at, what it should be, and how many warnings there are.
fn check(variables: &str, look: fn(&Settings) -> String, expected: &str, warnings: usize) {
    let settings = settings(&format!("{BASE} {variables}"));
    assert_eq!(look(&settings), expected, "{variables}");
    assert_eq!(settings.warnings.len(), warnings, "{variables}: {:?}", settings.warnings);
}

fn on(settings: &Settings) -> String {
    let on: Vec<_> =
        Signal::ALL.into_iter().filter(|s| settings.target(*s).is_some()).map(Signal::as_str).collect();
    on.join(" ")
}

fn urls(settings: &Settings) -> String {
    let urls: Vec<_> =
        Signal::ALL.into_iter().filter_map(|s| settings.target(s)).map(|t| t.url.to_string()).collect();
    urls.join(" ")
}

fn traces(settings: &Settings) -> &Target {
    settings.traces.as_ref().unwrap()
}

#[test]
fn nothing_set_is_off_without_a_warning() {
    let settings = settings("");
    assert!(!settings.exports());
    assert_eq!(settings.warnings, Vec::<String>::new());
    assert_eq!(settings.sampler, Sampler::default());
    assert_eq!(settings.temporality, Temporality::Delta);
}

#[test]
fn disabling_takes_the_word_true_in_any_case_and_warns_of_others() {
    for (value, expected, warnings) in [
        ("", "traces metrics logs", 0),
        ("OTEL_SDK_DISABLED=", "traces metrics logs", 0),
        ("OTEL_SDK_DISABLED=true", "", 0),
        ("OTEL_SDK_DISABLED=TRUE", "", 0),
        ("OTEL_SDK_DISABLED=false", "traces metrics logs", 0),
        ("OTEL_SDK_DISABLED=1", "traces metrics logs", 1),
        ("OTEL_SDK_DISABLED=yes", "traces metrics logs", 1),
    ] {
        check(value, on, expected, warnings);
    }
}

#[test]
fn exporters_choose_the_signals() {
    for (variables, expected, warnings) in [
        ("OTEL_TRACES_EXPORTER=otlp", "traces metrics logs", 0),
        ("OTEL_TRACES_EXPORTER=none", "metrics logs", 0),
        ("OTEL_TRACES_EXPORTER=NONE", "metrics logs", 0),
        ("OTEL_TRACES_EXPORTER=", "traces metrics logs", 0),
        ("OTEL_TRACES_EXPORTER=zipkin", "traces metrics logs", 1),
        ("OTEL_METRICS_EXPORTER=console", "traces logs", 0),
        ("OTEL_METRICS_EXPORTER=none OTEL_LOGS_EXPORTER=none", "traces", 0),
        ("OTEL_LOGS_EXPORTER=syslog", "traces metrics logs", 1),
    ] {
        check(variables, on, expected, warnings);
    }
    assert_eq!(on(&settings("OTEL_TRACES_EXPORTER=otlp")), "", "no endpoint, no exporter");
}

#[test]
fn the_endpoint_for_all_gets_the_signals_paths_and_a_signals_own_is_used_as_it_is() {
    let cases = [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318",
            "http://c:4318/v1/traces http://c:4318/v1/metrics http://c:4318/v1/logs",
            0,
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT=https://c/base/",
            "https://c/base/v1/traces https://c/base/v1/metrics https://c/base/v1/logs",
            0,
        ),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=HTTP://C/", "http://c/", 0),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://c OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=http://d/x",
            "http://c/v1/traces http://c/v1/metrics http://d/x",
            0,
        ),
        ("OTEL_EXPORTER_OTLP_ENDPOINT=", "", 0),
        ("OTEL_EXPORTER_OTLP_ENDPOINT=c:4318", "", 1),
        ("OTEL_EXPORTER_OTLP_ENDPOINT=unix:///tmp/s", "", 1),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://c OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=nonsense",
            "http://c/v1/traces http://c/v1/metrics http://c/v1/logs",
            1,
        ),
    ];
    for (variables, expected, warnings) in cases {
        let settings = settings(variables);
        assert_eq!(urls(&settings), expected, "{variables}");
        assert_eq!(settings.warnings.len(), warnings, "{variables}: {:?}", settings.warnings);
    }
}

#[test]
fn headers_are_decoded_and_never_repeated_in_a_warning() {
    let look = |settings: &Settings| format!("{:?}", traces(settings).headers);
    for (variables, expected, warnings) in [
        ("", "[]", 0),
        ("OTEL_EXPORTER_OTLP_HEADERS=", "[]", 0),
        ("OTEL_EXPORTER_OTLP_HEADERS=api-key=a%20b,x=1", r#"[("api-key", "a b"), ("x", "1")]"#, 0),
        ("OTEL_EXPORTER_OTLP_HEADERS=a=1 OTEL_EXPORTER_OTLP_TRACES_HEADERS=b=2", r#"[("b", "2")]"#, 0),
        ("OTEL_EXPORTER_OTLP_HEADERS=s3cret", "[]", 1),
        ("OTEL_EXPORTER_OTLP_HEADERS=a=s3cret%0d%0aX:1", "[]", 1),
    ] {
        check(variables, look, expected, warnings);
        assert!(!format!("{:?}", settings(variables).warnings).contains("s3cret"));
    }
    let secret = settings("OTEL_EXPORTER_OTLP_ENDPOINT=ftp://user:s3cret@c/");
    assert!(!format!("{:?}", secret.warnings).contains("s3cret"));
}

#[test]
fn protocol_compression_timeout_and_insecure() {
    let gzip = |settings: &Settings| traces(settings).gzip.to_string();
    let timeout = |settings: &Settings| traces(settings).timeout.as_millis().to_string();
    for (variables, look, expected, warnings) in [
        ("", gzip as fn(&Settings) -> String, "false", 0),
        ("OTEL_EXPORTER_OTLP_COMPRESSION=gzip", gzip, "true", 0),
        ("OTEL_EXPORTER_OTLP_COMPRESSION=GZIP", gzip, "true", 0),
        ("OTEL_EXPORTER_OTLP_COMPRESSION=zstd", gzip, "false", 1),
        ("OTEL_EXPORTER_OTLP_COMPRESSION=gzip OTEL_EXPORTER_OTLP_TRACES_COMPRESSION=none", gzip, "false", 0),
        ("", timeout, "10000", 0),
        ("OTEL_EXPORTER_OTLP_TIMEOUT=250", timeout, "250", 0),
        ("OTEL_EXPORTER_OTLP_TIMEOUT=250 OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=100", timeout, "100", 0),
        ("OTEL_EXPORTER_OTLP_TIMEOUT=soon", timeout, "10000", 1),
        ("OTEL_EXPORTER_OTLP_TIMEOUT=-1", timeout, "10000", 1),
        ("OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", gzip, "false", 0),
        ("OTEL_EXPORTER_OTLP_PROTOCOL=HTTP/PROTOBUF", gzip, "false", 0),
        ("OTEL_EXPORTER_OTLP_PROTOCOL=grpc", gzip, "false", 1),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL=http/json", gzip, "false", 1),
        ("OTEL_EXPORTER_OTLP_INSECURE=TRUE", gzip, "false", 0),
        ("OTEL_EXPORTER_OTLP_INSECURE=maybe", gzip, "false", 1),
    ] {
        check(variables, look, expected, warnings);
    }
}

#[test]
fn certificates_come_as_files_and_a_key_needs_its_certificate() {
    let look = |settings: &Settings| {
        format!("{:?} {:?}", traces(settings).certificate, traces(settings).client.is_some())
    };
    for (variables, expected, warnings) in [
        ("", "None false", 0),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE=/ca", r#"Some("/ca") false"#, 0),
        (
            "OTEL_EXPORTER_OTLP_CERTIFICATE=/ca OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE=/t",
            r#"Some("/t") false"#,
            0,
        ),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY=/k OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=/c", "None true", 0),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY=/k", "None false", 1),
    ] {
        check(variables, look, expected, warnings);
    }
}

#[test]
fn propagators_are_chosen_by_name() {
    let look = |settings: &Settings| {
        let Propagators { w3c, xray, xray_http } = settings.propagators;
        format!("{w3c} {xray} {xray_http}")
    };
    for (variables, expected, warnings) in [
        ("", "true true false", 0),
        ("OTEL_PROPAGATORS=", "true true false", 0),
        ("OTEL_PROPAGATORS=tracecontext,baggage", "true false false", 0),
        ("OTEL_PROPAGATORS=TraceContext", "true false false", 0),
        ("OTEL_PROPAGATORS=xray", "false true true", 0),
        ("OTEL_PROPAGATORS=tracecontext,xray-lambda", "true true false", 0),
        ("OTEL_PROPAGATORS=none", "false false false", 0),
        ("OTEL_PROPAGATORS=b3", "true true false", 1),
        ("OTEL_PROPAGATORS=b3,tracecontext", "true false false", 1),
        ("OTEL_PROPAGATORS=xray,xray-lambda", "true true false", 1),
    ] {
        check(variables, look, expected, warnings);
    }
}

#[test]
fn samplers_decide_by_the_trace_id_and_the_parent() {
    let half = u128::from(u64::MAX / 2 - 1);
    // A low trace id, a high one, then with a parent that was not and one that was sampled.
    let look = |settings: &Settings| {
        let s = |id, parent| u8::from(settings.sampler.samples(id, parent));
        let half = u128::from(u64::MAX / 2 - 1);
        format!("{}{}{}{}", s(1, None), s(u128::MAX, None), s(1, Some(false)), s(half, Some(true)))
    };
    for (variables, expected, warnings) in [
        ("", "1101", 0),
        ("OTEL_TRACES_SAMPLER=", "1101", 0),
        ("OTEL_TRACES_SAMPLER=always_on", "1111", 0),
        ("OTEL_TRACES_SAMPLER=ALWAYS_OFF", "0000", 0),
        ("OTEL_TRACES_SAMPLER=parentbased_always_off", "0001", 0),
        ("OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=0.5", "1011", 0),
        ("OTEL_TRACES_SAMPLER=parentbased_traceidratio OTEL_TRACES_SAMPLER_ARG=0.5", "1001", 0),
        ("OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=2", "1111", 1),
        ("OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=nan", "1111", 1),
        ("OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=x", "1111", 1),
        ("OTEL_TRACES_SAMPLER=xray", "1101", 1),
        ("OTEL_TRACES_SAMPLER=jaeger_remote", "1101", 1),
    ] {
        check(variables, look, expected, warnings);
    }
    assert!(settings("").sampler.samples(half, None));
}

#[test]
fn queues_intervals_and_temporality() {
    let spans = |settings: &Settings| {
        let queue = settings.span_queue;
        format!("{} {} {:?}", queue.items_max, queue.batch_max, queue.every.map(|every| every.as_millis()))
    };
    let metrics = |settings: &Settings| {
        let every = settings.metrics_every.map(|every| every.as_millis());
        format!("{every:?} {} {:?}", settings.metrics_timeout.as_millis(), settings.temporality)
    };
    for (variables, look, expected, warnings) in [
        ("", spans as fn(&Settings) -> String, "2048 512 None", 0),
        ("OTEL_BSP_MAX_QUEUE_SIZE=100", spans, "100 100 None", 0),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE=7 OTEL_BSP_SCHEDULE_DELAY=0", spans, "2048 7 Some(0)", 0),
        ("OTEL_BSP_MAX_QUEUE_SIZE=0", spans, "2048 512 None", 0),
        ("OTEL_BSP_MAX_QUEUE_SIZE=many OTEL_BSP_SCHEDULE_DELAY=1s", spans, "2048 512 None", 2),
        ("OTEL_BLRP_MAX_QUEUE_SIZE=x OTEL_BLRP_EXPORT_TIMEOUT=x", spans, "2048 512 None", 2),
        ("", metrics, "None 30000 Delta", 0),
        ("OTEL_METRIC_EXPORT_INTERVAL=5000 OTEL_METRIC_EXPORT_TIMEOUT=70", metrics, "Some(5000) 70 Delta", 0),
        ("OTEL_METRIC_EXPORT_INTERVAL=x", metrics, "None 30000 Delta", 1),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=CUMULATIVE", metrics, "None 30000 Cumulative", 0),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=lowmemory", metrics, "None 30000 Delta", 0),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=both", metrics, "None 30000 Delta", 1),
        ("OTEL_METRICS_EXEMPLAR_FILTER=trace_based", metrics, "None 30000 Delta", 0),
        ("OTEL_METRICS_EXEMPLAR_FILTER=some", metrics, "None 30000 Delta", 1),
    ] {
        check(variables, look, expected, warnings);
    }
}

#[test]
fn limits_of_one_item() {
    let look = |settings: &Settings| {
        let (span, log) = (settings.span_limits, settings.log_limits);
        format!("{} {} {} {}", span.attributes, span.value_chars, span.links, log.attributes)
    };
    let any = usize::MAX;
    for (variables, expected, warnings) in [
        ("", format!("128 {any} 128 128"), 0),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT=9", format!("9 {any} 128 9"), 0),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT=9 OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=3", format!("3 {any} 128 9"), 0),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT=20", "128 20 128 128".into(), 0),
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT=5 OTEL_SPAN_LINK_COUNT_LIMIT=2", "128 5 2 128".into(), 0),
        ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT=4", format!("128 {any} 128 4"), 0),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT=x OTEL_LINK_ATTRIBUTE_COUNT_LIMIT=-3", format!("128 {any} 128 128"), 2),
    ] {
        check(variables, look, &expected, warnings);
    }
}

#[test]
fn the_resource_and_the_service_name() {
    let look = |settings: &Settings| format!("{:?} {:?}", settings.service_name, settings.resource);
    for (variables, expected, warnings) in [
        ("", "None []", 0),
        ("OTEL_SERVICE_NAME=jobs", r#"Some("jobs") []"#, 0),
        (
            "OTEL_RESOURCE_ATTRIBUTES=service.name=a,deployment.environment.name=t",
            r#"Some("a") [("deployment.environment.name", "t")]"#,
            0,
        ),
        ("OTEL_SERVICE_NAME=b OTEL_RESOURCE_ATTRIBUTES=service.name=a", r#"Some("b") []"#, 0),
        ("OTEL_RESOURCE_ATTRIBUTES=nonsense", "None []", 1),
    ] {
        check(variables, look, expected, warnings);
    }
}

#[test]
fn warnings_of_this_crate_follow_the_log_level() {
    let look = |settings: &Settings| settings.warns.to_string();
    for (variables, expected, warnings) in [
        ("", "true", 0),
        ("OTEL_LOG_LEVEL=ERROR", "false", 0),
        ("OTEL_LOG_LEVEL=none", "false", 0),
        ("OTEL_LOG_LEVEL=debug", "true", 0),
        ("OTEL_LOG_LEVEL=loud", "true", 1),
    ] {
        check(variables, look, expected, warnings);
    }
}

#[test]
fn a_value_in_a_warning_is_short_and_on_one_line() {
    let long = "x".repeat(500);
    let settings = settings(&format!("OTEL_LOG_LEVEL={long}"));
    assert!(settings.warnings[0].len() < 200, "{:?}", settings.warnings);
    let odd = Settings::read(&|name| (name == "OTEL_LOG_LEVEL").then(|| "a\nb".to_owned()));
    assert!(odd.warnings[0].contains("a?b"), "{:?}", odd.warnings);
}
