//! OTLP over TLS by the shipped `api` binary: whom it believes, and what it shows.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use acceptance::binary;
use base64::Engine as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use telemetry_proofs::{Collector, Runtime, request_event};

const CA: &[u8] = include_bytes!("tls/ca.der");
/// Of `localhost`.
const COLLECTOR: &[u8] = include_bytes!("tls/collector.der");
const COLLECTOR_KEY: &[u8] = include_bytes!("tls/collector.key.der");
const FUNCTION: &[u8] = include_bytes!("tls/function.der");
const FUNCTION_KEY: &[u8] = include_bytes!("tls/function.key.der");
/// It signed none of the above.
const OTHER_CA: &[u8] = include_bytes!("../../../shared/fetch/tests/tls/ca.der");

const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
const CLIENT_CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
const CLIENT_KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";
const TIME: Duration = Duration::from_secs(10);
const EVENTS_MAX: usize = 50;
const SIGNALS: usize = 3;

/// A collector that asks for a certificate of the client's, or for none.
fn collector(asks_client: bool) -> Collector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if asks_client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(CA)).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(COLLECTOR_KEY));
    Collector::over_tls(builder.with_single_cert(vec![CertificateDer::from(COLLECTOR)], key).unwrap())
}

/// A directory of PEM files.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        for (name, label, der) in [
            ("ca", "CERTIFICATE", CA),
            ("other-ca", "CERTIFICATE", OTHER_CA),
            ("function", "CERTIFICATE", FUNCTION),
            ("function-key", "PRIVATE KEY", FUNCTION_KEY),
        ] {
            let body = base64::engine::general_purpose::STANDARD.encode(der);
            let text = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
            std::fs::write(files.path(name), text).unwrap();
        }
        std::fs::write(files.path("no-pem"), "nothing of that kind\n").unwrap();
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(format!("{name}.pem")).to_str().unwrap().to_owned()
    }
}

/// What came of a few events, each followed by an export of all three signals.
struct Run {
    answers: Vec<Value>,
    lines: Vec<Value>,
}

impl Run {
    /// Events until it is enough. A handshake of an unoptimised build on a busy machine can need longer than an answer waits;
    /// what it was to carry goes with the next one.
    fn of(url: &str, files: &Files, variables: &[(&str, &str)], is_enough: impl Fn() -> bool) -> Self {
        let mut environment = vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", url),
            ("OTEL_BSP_SCHEDULE_DELAY", "0"),
            ("OTEL_BLRP_SCHEDULE_DELAY", "0"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ];
        let files: Vec<_> = variables.iter().map(|(name, file)| (*name, files.path(file))).collect();
        environment.extend(files.iter().map(|(name, path)| (*name, path.as_str())));
        let log = tempfile::NamedTempFile::new().unwrap();
        let runtime = Runtime::start(&binary("api"), log.path(), &environment);
        let event = request_event("GET", "/healthz", &[("host", "proof.example.org")]);
        let mut answers = Vec::new();
        while answers.is_empty() || !is_enough() {
            assert!(answers.len() < EVENTS_MAX, "{variables:?}: {:?}", runtime.lines());
            let reply = runtime.invoke(&event, TIME).unwrap();
            answers.push(serde_json::from_str::<Value>(&reply.body).unwrap()["body"].clone());
        }
        Self { answers, lines: runtime.terminate() }
    }

    /// Every answer is as it would be without an endpoint.
    fn answered_as_ever(&self) {
        let expected = Self::of("", &Files::new(), &[], || true).answers;
        assert!(self.answers.iter().all(|answer| *answer == expected[0]), "{:?}", self.answers);
    }

    /// Nothing was sent, and one warning says why, whatever the number of exports. Each of them is counted: of every signal, at
    /// every event and once more at the end.
    #[allow(clippy::cast_precision_loss, reason = "small counts")]
    fn failed(&self) -> &str {
        let warnings: Vec<&Value> = self.lines.iter().filter(|line| line["level"] == "WARN").collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let events = self.answers.len();
        let is_total = |line: &&Value| line["message"] == "telemetry ended" && line["signal"] == "traces";
        let total = self.lines.iter().find(is_total).unwrap();
        assert_eq!(
            (&total["made"], &total["sent"], &total["dropped"]),
            (&json!(events), &json!(0), &json!(events))
        );
        assert_eq!(self.exports("failed"), ((events + 1) * SIGNALS) as f64);
        assert_eq!(self.exports("sent"), 0.0);
        warnings[0]["failure"].as_str().unwrap()
    }

    /// What the embedded metrics count of requests with that outcome.
    fn exports(&self, outcome: &str) -> f64 {
        let of_outcome = self.lines.iter().filter(|line| line["callboard.telemetry.outcome"] == outcome);
        let counts = of_outcome.map(|line| match &line["callboard.telemetry.exports"] {
            Value::Array(counts) => counts.iter().filter_map(Value::as_f64).sum(),
            count => count.as_f64().unwrap(),
        });
        counts.sum()
    }
}

fn has_all_signals(collector: &Collector) -> bool {
    collector.span_count() > 0 && !collector.logs().is_empty() && !collector.metrics().is_empty()
}

#[test]
fn a_collector_of_the_configured_authority_gets_all_three_signals() {
    let (collector, files) = (collector(false), Files::new());
    let run = Run::of(&collector.url(), &files, &[(CERTIFICATE, "ca")], || has_all_signals(&collector));
    run.answered_as_ever();
}

#[test]
fn a_collector_that_asks_for_the_functions_certificate_is_shown_it() {
    let (collector, files) = (collector(true), Files::new());
    let shown = [(CERTIFICATE, "ca"), (CLIENT_CERTIFICATE, "function"), (CLIENT_KEY, "function-key")];
    Run::of(&collector.url(), &files, &shown, || has_all_signals(&collector)).answered_as_ever();
}

#[test]
fn a_signals_own_authority_is_believed_for_that_signal_only() {
    let (collector, files) = (collector(false), Files::new());
    let variables = [("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "ca")];
    Run::of(&collector.url(), &files, &variables, || {
        collector.span_count() > 0 && collector.broken_handshakes().len() >= SIGNALS - 1
    });
    assert!(collector.logs().is_empty() && collector.metrics().is_empty());
}

#[test]
fn a_collector_that_is_not_believed_or_does_not_believe_is_a_counted_failure_and_no_other_answer() {
    let files = Files::new();
    let by_name = |collector: &Collector| collector.url();
    let by_address = |collector: &Collector| collector.url().replace("localhost", "127.0.0.1");
    type Case<'a> = (bool, fn(&Collector) -> String, &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 4] = [
        (false, by_name, &[(CERTIFICATE, "other-ca")], "UnknownCA"),
        // The public authorities.
        (false, by_name, &[], "UnknownCA"),
        // The certificate is of a name.
        (false, by_address, &[(CERTIFICATE, "ca")], "BadCertificate"),
        (true, by_name, &[(CERTIFICATE, "ca")], "peer sent no certificates"),
    ];
    for (asks_client, url, variables, why) in cases {
        let collector = collector(asks_client);
        let is_told = || collector.broken_handshakes().iter().any(|handshake| handshake.contains(why));
        let run = Run::of(&url(&collector), &files, variables, is_told);
        run.failed();
        run.answered_as_ever();
        assert_eq!(collector.requests(), 0, "{variables:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_one_warning_and_no_failed_start() {
    let (collector, files) = (collector(false), Files::new());
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[(CERTIFICATE, "missing")], "the authorities' certificates"),
        (&[(CERTIFICATE, "no-pem")], "the authorities' certificates"),
        (
            &[(CERTIFICATE, "ca"), (CLIENT_CERTIFICATE, "missing"), (CLIENT_KEY, "function-key")],
            "the client's certificate",
        ),
        (
            &[(CERTIFICATE, "ca"), (CLIENT_CERTIFICATE, "no-pem"), (CLIENT_KEY, "function-key")],
            "the client's certificate",
        ),
        (
            &[(CERTIFICATE, "ca"), (CLIENT_CERTIFICATE, "function"), (CLIENT_KEY, "missing")],
            "the client's key",
        ),
        (
            &[(CERTIFICATE, "ca"), (CLIENT_CERTIFICATE, "function"), (CLIENT_KEY, "no-pem")],
            "the client's key",
        ),
    ];
    for (variables, why) in cases {
        let run = Run::of(&collector.url(), &files, variables, || true);
        assert!(run.failed().contains(why), "{}", run.failed());
        run.answered_as_ever();
    }
    assert_eq!(collector.requests(), 0);
}
