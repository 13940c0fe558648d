//! Every metric, a line each: instruments, embedded metrics, OTLP and `docs/telemetry.md` follow from this list.
//!
//! To add one, add its line (and a label's type in [`crate::label`] if it needs one) and record it where it happens:
//!
//! ```
//! use telemetry::label::{RouteGroup, StatusClass};
//!
//! telemetry::metric::HTTP_SERVER_REQUEST_DURATION
//!     .record(0.012, (RouteGroup::Catalogue, StatusClass::Success));
//! ```
//!
//! Names and units follow the semantic conventions where there is one; ours begin with `callboard.`. What the
//! environment of one function says of itself carries that function as a dimension; what the system did does not.

use crate::label::*;
use crate::meter::{Counter, Gauge, Histogram};
use std::fmt::Write as _;

/// A function of callboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// HTTP.
    Api,
    /// Ledger to queue.
    Dispatch,
    /// Queue to handlers.
    Worker,
    /// The schema.
    Migrate,
}

impl Function {
    /// Its short name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Dispatch => "dispatch",
            Self::Worker => "worker",
            Self::Migrate => "migrate",
        }
    }
}

/// How values of a metric come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They add up.
    Counter,
    /// The last one holds.
    Gauge,
    /// They are distributed.
    Histogram,
}

/// A unit, in UCUM and in CloudWatch's words (Embedded metric format, "unit").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `s`.
    Seconds,
    /// `By`.
    Bytes,
    /// `{…}`, a number of things.
    Of(&'static str),
}

impl Unit {
    /// In UCUM, as OTLP has it.
    #[must_use]
    pub const fn ucum(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Bytes => "By",
            Self::Of(things) => things,
        }
    }

    /// As CloudWatch has it.
    #[must_use]
    pub const fn cloudwatch(self) -> &'static str {
        match self {
            Self::Seconds => "Seconds",
            Self::Bytes => "Bytes",
            Self::Of(_) => "Count",
        }
    }
}

/// What is known of a metric before anything is recorded.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Its name in every signal.
    pub name: &'static str,
    /// How values come together.
    pub kind: Kind,
    /// Of its values.
    pub unit: Unit,
    /// What it is split by.
    pub labels: &'static [LabelList],
    /// Whether the function is a dimension too.
    pub per_function: bool,
    /// Who records it.
    pub functions: &'static [Function],
    /// What it says.
    pub description: &'static str,
    /// Which SLO, alarm or runbook reads it.
    pub used_by: &'static str,
}

impl Definition {
    /// Combinations of its labels' values.
    #[must_use]
    pub fn combinations(&self) -> usize {
        self.labels.iter().map(|label| label.values.len()).product()
    }

    /// Series that it can have at most.
    #[must_use]
    pub fn series(&self) -> usize {
        self.combinations() * if self.per_function { self.functions.len() } else { 1 }
    }

    /// Keys and values of one combination.
    pub(crate) fn pairs(&self, mut index: usize) -> Vec<(&'static str, &'static str)> {
        let mut pairs: Vec<_> = self
            .labels
            .iter()
            .rev()
            .map(|label| {
                let at = index % label.values.len();
                index /= label.values.len();
                (label.key, label.values[at])
            })
            .collect();
        pairs.reverse();
        pairs
    }
}

macro_rules! registry {
    ($($name:ident: $kind:ident<$labels:ty>, $text:literal, $unit:expr, $scope:ident [$($function:ident),+],
        $description:literal, $used_by:literal;)+) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "named as the constants beside it")]
        enum Index { $($name),+ }

        /// Each metric of [`crate::registry`], to be recorded.
        pub mod metric {
            use super::*;
            $(
                #[doc = $description]
                pub const $name: $kind<$labels> = $kind::at(Index::$name as u8);
            )+
        }

        /// Every metric, in the order of the documentation.
        pub static METRICS: &[Definition] = &[$(Definition {
            name: $text,
            kind: Kind::$kind,
            unit: $unit,
            labels: <$labels as Labels>::LISTS,
            per_function: registry!(@$scope),
            functions: &[$(Function::$function),+],
            description: $description,
            used_by: $used_by,
        }),+];
    };
    (@each) => { true };
    (@all) => { false };
}

use Unit::{Bytes, Of, Seconds};

registry! {
    HTTP_SERVER_REQUEST_DURATION: Histogram<(RouteGroup, StatusClass)>, "http.server.request.duration", Seconds,
        all [Api], "Time from a request's arrival to its answer", "SLOs of availability and latency";
    FAAS_INVOKE_DURATION: Histogram<()>, "faas.invoke_duration", Seconds, each [Api, Dispatch, Worker, Migrate],
        "Time that a handler takes for one event, without telemetry's own", "capacity: time-outs and cost";
    FAAS_INIT_DURATION: Histogram<()>, "faas.init_duration", Seconds, each [Api, Dispatch, Worker, Migrate],
        "Time from the start of main to readiness for the first event", "cold starts";
    FAAS_COLDSTARTS: Counter<()>, "faas.coldstarts", Of("{coldstart}"), each [Api, Dispatch, Worker, Migrate],
        "First events of an environment", "cold starts";
    FAAS_ERRORS: Counter<()>, "faas.errors", Of("{error}"), each [Api, Dispatch, Worker, Migrate],
        "Events that a handler answered with an error of its own", "alarm on failing functions";
    DB_CLIENT_OPERATION_DURATION: Histogram<StatementOutcome>, "db.client.operation.duration", Seconds,
        all [Api, Dispatch, Worker, Migrate], "Time of one statement, from its sending to its last row",
        "runbook on the database";
    DB_CONNECTIONS: Counter<ConnectOutcome>, "callboard.db.connections", Of("{connection}"),
        all [Api, Dispatch, Worker], "Connections that were opened, or could not be", "runbook on the database";
    MESSAGING_CLIENT_SENT_MESSAGES: Counter<(Queue, SendOutcome)>, "messaging.client.sent.messages", Of("{message}"),
        all [Api, Dispatch, Worker], "Messages that a queue was given, and whether it took them", "runbook on the queues";
    MESSAGING_CLIENT_CONSUMED_MESSAGES: Counter<Queue>, "messaging.client.consumed.messages", Of("{message}"),
        all [Dispatch, Worker], "Messages that arrived with events, and dead letters that were fetched",
        "runbook on the queues";
    MESSAGING_PROCESS_DURATION: Histogram<Queue>, "messaging.process.duration", Seconds, all [Dispatch, Worker],
        "Time of one message's processing: a job's attempt, a wake batch", "SLO of the time to a posting";
    MESSAGES_MALFORMED: Counter<Queue>, "callboard.messages.malformed", Of("{message}"), all [Dispatch, Worker],
        "Messages that could not be read and were dropped", "alarm: nobody but callboard writes to its queues";
    MESSAGES_RETURNED: Counter<Queue>, "callboard.messages.returned", Of("{message}"), all [Dispatch, Worker],
        "Messages given back as batch item failures: their end could not be recorded", "alarm on the database or the loop";
    JOBS_TRANSITIONS: Counter<JobTransition>, "callboard.jobs.transitions", Of("{job}"),
        all [Api, Dispatch, Worker], "Committed transitions of the ledger", "SLO of the time to a posting; alarm on the dead";
    JOB_DURATION: Histogram<JobKind>, "callboard.job.duration", Seconds, all [Worker],
        "Time of one handler, without its settling", "capacity: leases and time-outs";
    JOB_ATTEMPTS: Counter<AttemptOutcome>, "callboard.job.attempts", Of("{attempt}"), all [Worker],
        "Attempts by how their handler ended", "alarm on panics and time-outs";
    LEASES_LOST: Counter<()>, "callboard.leases.lost", Of("{attempt}"), all [Api, Worker],
        "Attempts that came after their lease: the fence held and nothing was changed", "runbook on leases";
    DEAD_LETTERS: Counter<()>, "callboard.dead_letters", Of("{message}"), all [Dispatch],
        "Messages drained from the dead-letter queue", "alarm on dead letters";
    SWEEP_FAILURES: Counter<SweepStep>, "callboard.sweep.failures", Of("{failure}"), all [Dispatch],
        "Steps of a sweep that failed; the next sweep tries again", "alarm on the sweep";
    LEDGER_JOBS: Gauge<JobState>, "callboard.ledger.jobs", Of("{job}"), all [Dispatch],
        "Jobs in the ledger, as the sweep found them", "dashboard of the ledger";
    LEDGER_OLDEST_READY_AGE: Gauge<()>, "callboard.ledger.oldest_ready_age", Seconds, all [Dispatch],
        "How long the oldest job that could run has waited", "SLO of the time to a posting";
    QUEUE_MESSAGES: Gauge<Queue>, "callboard.queue.messages", Of("{message}"), all [Dispatch],
        "Messages that wait to be received, as SQS estimates them", "runbook on the queues";
    FETCH_DURATION: Histogram<(HostClass, FetchOutcome)>, "callboard.fetch.duration", Seconds, all [Worker],
        "Time of one fetch with its redirects, robots.txt and waiting for a turn", "runbook on fetching";
    FETCH_BYTES: Counter<()>, "callboard.fetch.bytes", Bytes, all [Worker],
        "Decoded bytes of fetched bodies", "cost";
    FETCH_REFUSALS: Counter<Refusal>, "callboard.fetch.refusals", Of("{fetch}"), all [Worker],
        "Addresses that may not be fetched", "runbook on hostile input";
    FETCH_ROBOTS: Counter<RobotsVerdict>, "callboard.fetch.robots", Of("{fetch}"), all [Worker],
        "What robots.txt said about what was to be fetched", "runbook on fetching";
    EXTRACTION_VERDICTS: Counter<ExtractionVerdict>, "callboard.extraction.verdicts", Of("{page}"), all [Api, Worker],
        "What pages were judged to be", "dashboard of the catalogue";
    PUBLICATION_DECISIONS: Counter<PublicationReason>, "callboard.publication.decisions", Of("{decision}"),
        all [Api, Worker], "Decisions about candidates by their reason", "dashboard of the catalogue";
    DISCOVERIES: Counter<IngestOutcome>, "callboard.discoveries", Of("{discovery}"), all [Api],
        "Discoveries that were handed in", "SLO of the time to a posting";
    TELEMETRY_EXPORTS: Counter<(Signal, ExportOutcome)>, "callboard.telemetry.exports", Of("{request}"),
        all [Api, Dispatch, Worker, Migrate], "Requests to the collector", "alarm: configured, but nothing arrives";
    TELEMETRY_ITEMS: Counter<(Signal, Fate)>, "callboard.telemetry.items", Of("{item}"),
        all [Api, Dispatch, Worker, Migrate], "Spans, data points and log records that left, one way or the other",
        "alarm: configured, but nothing arrives";
    TELEMETRY_FLUSH_DURATION: Histogram<()>, "callboard.telemetry.flush_duration", Seconds,
        all [Api, Dispatch, Worker, Migrate], "Time that an answer waited for the collector", "alarm: a slow collector";
}

/// Series of all metrics together that CloudWatch may come to bill.
pub const SERIES_MAX: usize = 200;

/// The table of `docs/telemetry.md`, in Markdown.
#[must_use]
pub fn table() -> String {
    let mut out =
        String::from("| metric | kind, unit | labels | from | says | read by |\n|---|---|---|---|---|---|\n");
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|label| format!("`{}`: {}", label.key, label.values.join(", ")))
            .chain(metric.per_function.then(|| "`function`".to_owned()))
            .collect();
        let functions: Vec<&str> = metric.functions.iter().map(|function| function.as_str()).collect();
        let _ = writeln!(
            out,
            "| `{}` | {kind}, `{}` | {} | {} | {} | {} |",
            metric.name,
            metric.unit.ucum(),
            labels.join("; "),
            functions.join(", "),
            metric.description,
            metric.used_by,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn there_are_few_enough_series() {
        let series: usize = METRICS.iter().map(Definition::series).sum();
        assert!(series <= SERIES_MAX, "{series}");
    }

    #[test]
    fn names_are_unique_and_named_as_the_conventions_or_ours() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for name in names {
            let prefixes = ["callboard.", "http.", "faas.", "db.", "messaging."];
            assert!(prefixes.iter().any(|prefix| name.starts_with(prefix)), "{name}");
        }
    }

    #[test]
    fn a_combination_is_found_again_by_its_index() {
        let definition = &METRICS[0];
        let index = Labels::index((RouteGroup::Ingest, StatusClass::ServerError));
        assert_eq!(
            definition.pairs(index),
            [("callboard.http.route_group", "ingest"), ("callboard.http.status_class", "5xx")]
        );
        let all: BTreeSet<_> = (0..definition.combinations()).map(|at| definition.pairs(at)).collect();
        assert_eq!(all.len(), definition.combinations());
    }

    #[test]
    fn an_unknown_word_counts_as_other() {
        assert_eq!(PublicationReason::of("daily_limit"), PublicationReason::DailyLimit);
        assert_eq!(PublicationReason::of("made up"), PublicationReason::Other);
        assert_eq!(RouteGroup::of_route("/admin/jobs/{id}"), RouteGroup::Administration);
        assert_eq!(RouteGroup::of_route("/nowhere"), RouteGroup::Other);
    }

    /// Regenerate with `UPDATE_DOCS=1 cargo test -p telemetry the_documentation`.
    #[test]
    fn the_documentation_has_the_table_of_this_list() {
        const BEGIN: &str = "<!-- registry: generated, do not edit -->\n";
        const END: &str = "<!-- end of registry -->";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/telemetry.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, rest) = text.split_once(BEGIN).unwrap();
        let (now, after) = rest.split_once(END).unwrap();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
            return;
        }
        assert_eq!(now, table(), "run UPDATE_DOCS=1 cargo test -p telemetry the_documentation");
    }
}
