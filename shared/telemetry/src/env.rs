//! What the standard `OTEL_*` variables say, read in one place and once.
//!
//! A variable that is empty counts as unset (OpenTelemetry specification, "Environment Variable Specification", 1.5x: "The
//! SDK MUST interpret an empty value of an environment variable the same way as when the variable is unset"). A bad value
//! is one warning and the default: it never stops a function from starting. Words are read in any case. Warnings repeat a
//! value only where it can hold no secret.

mod read;
mod sampler;
mod tests;

pub(crate) use opentelemetry_sdk::metrics::Temporality;
pub(crate) use sampler::Sampler;

use crate::label::Signal;
use read::Reader;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// Where one signal is sent, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// http or https, with its path.
    pub url: Url,
    /// Further fields of each request, such as a key of the receiver. Never logged.
    pub headers: Vec<(String, String)>,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// The most that one request may take; the invocation's own budget is shorter by default.
    pub timeout: Duration,
    /// PEM file of the authorities that are trusted in place of the public ones.
    pub certificate: Option<PathBuf>,
    /// PEM files of the key and the certificate that the client shows.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Which formats of trace context are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Propagators {
    /// W3C `traceparent` and `tracestate`.
    pub w3c: bool,
    /// X-Ray's `AWSTraceHeader` of messages, where there is no W3C context.
    pub xray: bool,
    /// X-Ray's header of HTTP requests: only when it is asked for by name, since API Gateway adds one to every request.
    pub xray_http: bool,
}

impl Propagators {
    const NONE: Self = Self { w3c: false, xray: false, xray_http: false };
}

impl Default for Propagators {
    fn default() -> Self {
        Self { w3c: true, xray: true, xray_http: false }
    }
}

/// Bounds of one item's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Attributes of a span or log record.
    pub attributes: usize,
    /// Characters of an attribute's text.
    pub value_chars: usize,
    /// Links of a span.
    pub links: usize,
}

/// A signal's waiting room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queue {
    /// Items that wait at most; what comes beyond is dropped, and counted.
    pub items_max: usize,
    /// Items of one request at most.
    pub batch_max: usize,
    /// Between exports of a busy environment; `None`: [`crate::flush`]'s own policy.
    pub every: Option<Duration>,
    /// The most that one export may take.
    pub timeout: Duration,
}

/// Everything that the variables say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// `service.name`.
    pub service_name: Option<String>,
    /// Further attributes of the resource.
    pub resource: Vec<(String, String)>,
    /// Formats of trace context.
    pub propagators: Propagators,
    /// Which traces that begin here are recorded.
    pub sampler: Sampler,
    /// Where spans go; `None`: nowhere.
    pub traces: Option<Target>,
    /// Where metrics go beside standard output.
    pub metrics: Option<Target>,
    /// Where logs go beside standard output.
    pub logs: Option<Target>,
    /// Whether sums and histograms start over after each export (an environment that is gone leaves nothing open), or count from
    /// the start of the process.
    pub temporality: Temporality,
    /// Of spans.
    pub span_limits: Limits,
    /// Of log records.
    pub log_limits: Limits,
    /// Spans that wait.
    pub span_queue: Queue,
    /// Log records that wait.
    pub log_queue: Queue,
    /// Between exports of metrics in a busy environment; `None`: the policy's own.
    pub metrics_every: Option<Duration>,
    /// The most that one export of metrics may take.
    pub metrics_timeout: Duration,
    /// Whether this crate's own warnings are logged (`OTEL_LOG_LEVEL`).
    pub warns: bool,
    /// A line for each value that could not be used.
    pub warnings: Vec<String>,
}

/// OTLP's default for one request (OpenTelemetry Protocol Exporter, "Configuration Options").
const OTLP_TIMEOUT: Duration = Duration::from_secs(10);

impl Settings {
    /// Reads the process's variables.
    #[must_use]
    pub(crate) fn from_env() -> Self {
        Self::read(&|name| std::env::var(name).ok())
    }

    /// Reads variables by a look-up. Touches nothing else.
    #[must_use]
    pub(crate) fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Self {
        let reader = Reader::new(lookup);
        let disabled = reader.flag("OTEL_SDK_DISABLED");
        let mut targets = Signal::ALL.map(|signal| target(&reader, signal));
        if disabled {
            targets = [None, None, None];
        }
        let [traces, metrics, logs] = targets;
        let mut resource = reader.pairs("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let named = resource.iter().position(|(name, _)| name == "service.name");
        let named = named.map(|at| resource.remove(at).1);
        let all_attributes = reader.number("OTEL_ATTRIBUTE_COUNT_LIMIT").unwrap_or(128);
        let all_chars = reader.number("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT").unwrap_or(usize::MAX);
        // Nothing here has events or attributes of links, so a limit of theirs cannot be reached; a bad one is still told.
        for name in [
            "OTEL_SPAN_EVENT_COUNT_LIMIT",
            "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
        ] {
            let _: Option<usize> = reader.number(name);
        }
        // Exemplars are not made, whatever the filter lets through.
        let _ = reader.word("OTEL_METRICS_EXEMPLAR_FILTER", &["always_on", "always_off", "trace_based"]);
        let _ = reader
            .word("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", &["explicit_bucket_histogram"]);
        let level =
            reader.word("OTEL_LOG_LEVEL", &["none", "error", "warn", "info", "debug", "verbose", "all"]);
        let cumulative = reader
            .word("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", &["delta", "cumulative", "lowmemory"]);
        let settings = Self {
            service_name: reader.text("OTEL_SERVICE_NAME").or(named),
            resource,
            propagators: propagators(&reader),
            sampler: Sampler::read(&reader),
            traces,
            metrics,
            logs,
            temporality: match cumulative.as_deref() {
                Some("cumulative") => Temporality::Cumulative,
                // Low memory is delta for what is counted here: there are no up-down counters.
                _ => Temporality::Delta,
            },
            span_limits: Limits {
                attributes: reader.number("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT").unwrap_or(all_attributes),
                value_chars: reader.number("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT").unwrap_or(all_chars),
                links: reader.number("OTEL_SPAN_LINK_COUNT_LIMIT").unwrap_or(128),
            },
            log_limits: Limits {
                attributes: reader.number("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT").unwrap_or(all_attributes),
                value_chars: reader
                    .number("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT")
                    .unwrap_or(all_chars),
                links: 0,
            },
            span_queue: queue(&reader, "OTEL_BSP"),
            log_queue: queue(&reader, "OTEL_BLRP"),
            metrics_every: reader.millis("OTEL_METRIC_EXPORT_INTERVAL"),
            metrics_timeout: reader
                .millis("OTEL_METRIC_EXPORT_TIMEOUT")
                .unwrap_or(Duration::from_millis(30_000)),
            warns: !matches!(level.as_deref(), Some("none" | "error")),
            warnings: Vec::new(),
        };
        Self { warnings: reader.into_warnings(), ..settings }
    }

    /// The target of a signal.
    #[must_use]
    pub(crate) fn target(&self, signal: Signal) -> Option<&Target> {
        match signal {
            Signal::Traces => self.traces.as_ref(),
            Signal::Metrics => self.metrics.as_ref(),
            Signal::Logs => self.logs.as_ref(),
        }
    }

    /// Whether anything goes by OTLP.
    #[must_use]
    pub(crate) fn exports(&self) -> bool {
        Signal::ALL.into_iter().any(|signal| self.target(signal).is_some())
    }
}

/// The signal's own variable where it is set, else the one for all signals.
fn target(reader: &Reader<'_>, signal: Signal) -> Option<Target> {
    let name = signal.as_str().to_ascii_uppercase();
    let of = |option: &str| {
        [format!("OTEL_EXPORTER_OTLP_{name}_{option}"), format!("OTEL_EXPORTER_OTLP_{option}")]
    };
    let exporters: &[&str] = match signal {
        Signal::Traces => &["otlp", "none"],
        // Standard output has them anyway.
        Signal::Metrics | Signal::Logs => &["otlp", "none", "console"],
    };
    let exporter = reader.word(&format!("OTEL_{name}_EXPORTER"), exporters);
    // Read in any case: a bad value is told whether or not it would be used.
    let [own, shared] = of("ENDPOINT");
    let own = reader.endpoint(&own, None);
    let url = own.or_else(|| reader.endpoint(&shared, Some(signal)));
    let first = |[own, shared]: [String; 2]| {
        let own = reader.text(&own);
        let shared = reader.text(&shared);
        own.or(shared).map(PathBuf::from)
    };
    let [own, shared] = of("HEADERS");
    let headers = reader.pairs(&own).or_else(|| reader.pairs(&shared)).unwrap_or_default();
    let [own, shared] = of("COMPRESSION");
    let compressions = ["none", "gzip"];
    let compression = reader.word(&own, &compressions).or_else(|| reader.word(&shared, &compressions));
    let [own, shared] = of("TIMEOUT");
    let timeout = reader.millis(&own).or_else(|| reader.millis(&shared)).unwrap_or(OTLP_TIMEOUT);
    let [own, shared] = of("PROTOCOL");
    let _ = reader.word(&own, &["http/protobuf"]).or_else(|| reader.word(&shared, &["http/protobuf"]));
    let [own, shared] = of("INSECURE");
    // It is for gRPC: the scheme of the URL says the same here.
    let _ = reader.word(&own, &["true", "false"]).or_else(|| reader.word(&shared, &["true", "false"]));
    let certificate = first(of("CERTIFICATE"));
    let (key, shown) = (first(of("CLIENT_KEY")), first(of("CLIENT_CERTIFICATE")));
    let client = match (key, shown) {
        (Some(key), Some(shown)) => Some((key, shown)),
        (None, None) => None,
        _ => {
            reader.warn(format!(
                "OTEL_EXPORTER_OTLP_CLIENT_KEY and _CLIENT_CERTIFICATE belong together; neither is used for {}",
                signal.as_str()
            ));
            None
        }
    };
    if matches!(exporter.as_deref(), Some("none" | "console")) {
        return None;
    }
    Some(Target {
        url: url?,
        headers,
        gzip: compression.as_deref() == Some("gzip"),
        timeout,
        certificate,
        client,
    })
}

fn propagators(reader: &Reader<'_>) -> Propagators {
    let default = Propagators::default();
    let known = ["tracecontext", "baggage", "xray", "xray-lambda", "none"];
    let Some(words) = reader.words("OTEL_PROPAGATORS", &known) else { return default };
    let has = |word: &str| words.iter().any(|known| known == word);
    if has("xray") && has("xray-lambda") {
        reader.warn("OTEL_PROPAGATORS: xray and xray-lambda exclude each other; the default is used".into());
        return default;
    }
    if has("none") {
        return Propagators::NONE;
    }
    let xray = has("xray") || has("xray-lambda");
    // Baggage is what strangers say: it is accepted as a word and carried nowhere.
    Propagators { w3c: has("tracecontext"), xray, xray_http: has("xray") }
}

/// Batch processor variables, with the specification's defaults.
fn queue(reader: &Reader<'_>, prefix: &str) -> Queue {
    let number = |name: &str| reader.number(&format!("{prefix}_{name}")).filter(|number| *number > 0);
    let items_max = number("MAX_QUEUE_SIZE").unwrap_or(2_048);
    Queue {
        items_max,
        batch_max: number("MAX_EXPORT_BATCH_SIZE").unwrap_or(512).min(items_max),
        every: reader.millis(&format!("{prefix}_SCHEDULE_DELAY")),
        timeout: reader.millis(&format!("{prefix}_EXPORT_TIMEOUT")).unwrap_or(Duration::from_millis(30_000)),
    }
}
