//! One error, by what to do about it: refuse, wait, retry, give up.
//!
//! Nothing here names an address: messages end in events that moderators and modules read.

use crate::address::Class;
use jiff::Timestamp;
use std::time::Duration;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The URL, or where it leads, must not be reached. Permanent.
    #[error("the address is refused ({class})")]
    Refused {
        /// What takes it away.
        class: Class,
    },
    /// The site's robots.txt forbids the path to callboard. Permanent.
    #[error("robots.txt of the site does not allow this page")]
    RobotsDisallowed,
    /// The redirects lead nowhere. Permanent.
    #[error("the redirects lead nowhere ({reason})")]
    Redirects {
        /// In which way.
        reason: RedirectFault,
    },
    /// The answer is larger than may be read. Permanent.
    #[error("the answer is too large ({what})")]
    TooLarge {
        /// Which bound it broke: `body`, `headers`, `ratio`.
        what: &'static str,
    },
    /// The body is coded in a way that was not asked for and cannot be read. Permanent.
    #[error("the answer has a content coding that cannot be read")]
    UnsupportedEncoding,
    /// The host's turn has not come, or its robots.txt answers 429. Uncharged.
    #[error("the host is to be asked again at {until}")]
    Wait {
        /// When.
        until: Timestamp,
        /// For what.
        reason: WaitReason,
    },
    /// It may work later.
    #[error("the site cannot be read now ({code})")]
    Transient {
        /// `dns`, `connect`, `tls`, `timeout`, `truncated`, `protocol`, `decode`, `robots_unreachable`, `unexpected_304`,
        /// `seam`, or `http_<status>`.
        code: String,
        /// The site's own wish, at most [`crate::limits::RETRY_AFTER_MAX`]; a floor for the back-off.
        retry_after: Option<Duration>,
    },
}

/// What is wrong with a chain of redirects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectFault {
    /// A URL came twice.
    Loop,
    /// More hops than allowed.
    TooMany,
    /// A `Location` that is no URL.
    BadLocation,
}

impl std::fmt::Display for RedirectFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Loop => "loop",
            Self::TooMany => "too_many",
            Self::BadLocation => "bad_location",
        })
    }
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReason {
    /// The host's pace: the job's turn is booked and kept.
    Pace,
    /// robots.txt answered 429.
    Robots,
}

/// What the ledger should make of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptHint {
    /// Never again: `Dead`.
    Permanent,
    /// Defer the job; `counted` says whether `deferrals` grows.
    Wait {
        /// When it is due again.
        until: Timestamp,
        /// False for the pace (section 7.2).
        counted: bool,
    },
    /// A failed attempt.
    Retry {
        /// The floor of the back-off.
        after: Option<Duration>,
    },
}

impl FetchError {
    /// A transient error without a wish of the site.
    #[must_use]
    pub fn transient(code: impl Into<String>) -> Self {
        Self::Transient { code: code.into(), retry_after: None }
    }

    /// The stable code, as events and `last_error` hold it.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { .. } => "fetch_refused",
            Self::RobotsDisallowed => "robots_disallowed",
            Self::Redirects { .. } => "redirects",
            Self::TooLarge { .. } => "too_large",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::Wait { reason: WaitReason::Pace, .. } => "pace",
            Self::Wait { reason: WaitReason::Robots, .. } => "robots_wait",
            Self::Transient { code, .. } => code,
        }
    }

    /// The class of a refusal.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::Refused { class } => Some(*class),
            _ => None,
        }
    }

    /// Whether no later attempt can succeed.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self.attempt_hint(), AttemptHint::Permanent)
    }

    /// What the ledger should make of it.
    #[must_use]
    pub fn attempt_hint(&self) -> AttemptHint {
        match self {
            Self::Refused { .. }
            | Self::RobotsDisallowed
            | Self::Redirects { .. }
            | Self::TooLarge { .. }
            | Self::UnsupportedEncoding => AttemptHint::Permanent,
            Self::Wait { until, reason } => {
                AttemptHint::Wait { until: *until, counted: *reason != WaitReason::Pace }
            }
            Self::Transient { retry_after, .. } => AttemptHint::Retry { after: *retry_after },
        }
    }
}

impl From<Class> for FetchError {
    fn from(class: Class) -> Self {
        Self::Refused { class }
    }
}
