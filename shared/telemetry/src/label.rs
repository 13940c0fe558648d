//! Labels of metrics, as types: a value that is not listed here cannot be recorded.
//!
//! What comes from outside or from another crate as text goes through `of`, which counts an unknown word as `other`. So no
//! input can make a new series, and [`crate::registry`] can add up how many there are.

/// A label: its key, and all values that it can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelList {
    /// Its key, an attribute's name.
    pub key: &'static str,
    /// Its values.
    pub values: &'static [&'static str],
}

/// One label's value.
pub trait Label: Copy {
    /// Its key and values.
    const LIST: LabelList;
    /// Its place among the values.
    fn index(self) -> usize;
}

/// The labels of a metric: none, one or two.
pub trait Labels: Copy {
    /// Their keys and values.
    const LISTS: &'static [LabelList];
    /// The place among all combinations, the last label running fastest.
    fn index(self) -> usize;
}

impl Labels for () {
    const LISTS: &'static [LabelList] = &[];

    fn index(self) -> usize {
        0
    }
}

impl<A: Label> Labels for A {
    const LISTS: &'static [LabelList] = &[A::LIST];

    fn index(self) -> usize {
        Label::index(self)
    }
}

impl<A: Label, B: Label> Labels for (A, B) {
    const LISTS: &'static [LabelList] = &[A::LIST, B::LIST];

    fn index(self) -> usize {
        self.0.index() * B::LIST.values.len() + self.1.index()
    }
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident $key:literal { $($variant:ident = $text:literal),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the values say it")]
        pub enum $name { $($variant),+ }

        impl $name {
            /// The value in every signal.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The value of that text.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl Label for $name {
            const LIST: LabelList = LabelList { key: $key, values: &[$($text),+] };

            fn index(self) -> usize {
                self as usize
            }
        }
    )+};
}

/// Labels whose values come as text from elsewhere.
macro_rules! open {
    ($($name:ident),+) => {$(
        impl $name {
            /// The value of that text; `other` if it is not listed.
            #[must_use]
            pub fn of(text: &str) -> Self {
                Self::parse(text).unwrap_or(Self::Other)
            }
        }
    )+};
}

labels! {
    /// Routes of the API by who they are for; a template each would be a series each.
    RouteGroup "callboard.http.route_group" {
        Service = "service", Catalogue = "catalogue", Ingest = "ingest", Processing = "processing",
        Moderation = "moderation", Submissions = "submissions", Administration = "administration", Other = "other",
    }
    /// The first digit of an answer's status.
    StatusClass "callboard.http.status_class" {
        Success = "2xx", Redirect = "3xx", ClientError = "4xx", ServerError = "5xx",
    }
    /// How a statement ended, by what its caller may do.
    StatementOutcome "callboard.db.outcome" {
        Ok = "ok", Unavailable = "unavailable", Collision = "collision", Error = "error",
    }
    /// How an attempt to connect ended.
    ConnectOutcome "callboard.db.connect_outcome" { Opened = "opened", Failed = "failed" }
    /// A queue.
    Queue "messaging.destination.name" { Wake = "wake", Jobs = "jobs", DeadLetters = "dead_letters" }
    /// Whether the queue took a message.
    SendOutcome "callboard.messaging.outcome" { Ok = "ok", Failed = "failed" }
    /// What happened to a job in the ledger (`spec/ledger.md`, Transitions).
    JobTransition "callboard.job.transition" {
        Enqueued = "enqueued", Claimed = "claimed", Done = "done", RetryScheduled = "retry_scheduled",
        LeaseRequeued = "lease_requeued", Deferred = "deferred", Failed = "failed", DeadLettered = "dead_lettered",
        Cancelled = "cancelled", Requeued = "requeued",
    }
    /// How a handler ended.
    AttemptOutcome "callboard.job.outcome" {
        Done = "done", Retry = "retry", Defer = "defer", Dead = "dead", Panicked = "panicked", TimedOut = "timed_out",
        Released = "released",
    }
    /// A kind of job.
    JobKind "callboard.job.kind" {
        Extract = "extract", ResolveUrlRedirects = "resolve_url_redirects", Other = "other",
    }
    /// A state of jobs that are counted by the sweep.
    JobState "callboard.job.status" {
        Queued = "queued", Claimed = "claimed", Failed = "failed", DeadLetter = "dead_letter",
    }
    /// A step of the sweep.
    SweepStep "callboard.sweep.step" {
        Reap = "reap", DeadLetters = "dead_letters", Hints = "hints", Upkeep = "upkeep", TerminalEffect = "terminal_effect",
        Observe = "observe",
    }
    /// Whether a host is one of the operator's own list or any host of the web.
    HostClass "callboard.fetch.host_class" { Listed = "listed", Public = "public" }
    /// How a fetch ended.
    FetchOutcome "callboard.fetch.outcome" {
        Ok = "ok", NotModified = "not_modified", ClientError = "client_error", ServerError = "server_error",
        Refused = "refused", Robots = "robots", Redirects = "redirects", Unreadable = "unreadable", Wait = "wait",
        Unreachable = "unreachable",
    }
    /// Why an address was refused, by what the URL's owner could change.
    Refusal "callboard.fetch.refusal" {
        Url = "url", Name = "name", Port = "port", Address = "address", Metadata = "metadata", Disabled = "disabled",
    }
    /// What robots.txt said about a path.
    RobotsVerdict "callboard.fetch.robots_verdict" {
        Allowed = "allowed", Disallowed = "disallowed", Unreachable = "unreachable",
    }
    /// What a page was judged to be.
    ExtractionVerdict "callboard.extraction.verdict" {
        Posting = "posting", Listing = "listing", Closed = "closed", NotAPosting = "not_a_posting", Other = "other",
    }
    /// Why a candidate was published or not (`domain::trust`, Reason).
    PublicationReason "callboard.publication.reason" {
        TrustedAutoPublish = "trusted_auto_publish", SemiTrustedAutoPublish = "semi_trusted_auto_publish",
        PolicyAutoPublishDisabled = "policy_auto_publish_disabled", PolicyRequiresModeration = "policy_requires_moderation",
        PolicyDisabled = "policy_disabled", BelowMinConfidence = "below_min_confidence",
        RuleRequiresHumanReview = "rule_requires_human_review", ConflictFlag = "conflict_flag",
        UntrustedRequiresModeration = "untrusted_requires_moderation",
        InsufficientProjectionData = "insufficient_projection_data", DedupeReviewRequired = "dedupe_review_required",
        DedupeAutoMerged = "dedupe_auto_merged", DedupeRejected = "dedupe_rejected", DailyLimit = "daily_limit",
        PostingExists = "posting_exists", Other = "other",
    }
    /// What became of a discovery that was handed in.
    IngestOutcome "callboard.discovery.outcome" {
        Accepted = "accepted", Resighted = "resighted", Refused = "refused",
    }
    /// A signal that goes by OTLP.
    Signal "callboard.telemetry.signal" { Traces = "traces", Metrics = "metrics", Logs = "logs" }
    /// How an export ended.
    ExportOutcome "callboard.telemetry.outcome" { Sent = "sent", Failed = "failed" }
    /// What became of a span, data point or log record.
    Fate "callboard.telemetry.fate" { Sent = "sent", Dropped = "dropped" }
}

open!(RouteGroup, JobKind, ExtractionVerdict, PublicationReason);

impl Signal {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];
}

impl RouteGroup {
    /// The group of a route's template, such as `/postings/{id}`.
    #[must_use]
    pub fn of_route(route: &str) -> Self {
        match route.split('/').nth(1).unwrap_or_default() {
            "" | "healthz" | "readyz" | "openapi.json" | "problems" => Self::Service,
            "postings" | "feeds" | "facets" | "organizations" | "sitemap.xml" | "sitemaps" | "robots.txt" => {
                Self::Catalogue
            }
            "discoveries" | "evidence" => Self::Ingest,
            "jobs" => Self::Processing,
            "candidates" | "moderation" => Self::Moderation,
            "submissions" => Self::Submissions,
            "admin" => Self::Administration,
            _ => Self::Other,
        }
    }
}

impl StatusClass {
    /// The class of an HTTP status; what is below 300 counts as success.
    #[must_use]
    pub const fn of(status: u16) -> Self {
        match status {
            0..300 => Self::Success,
            300..400 => Self::Redirect,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}
