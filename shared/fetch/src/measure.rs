//! What is counted and told of a fetch. Neither URL nor host nor body: the host's class, how it ended, how much came.

use crate::address::Class;
use crate::error::FetchError;
use crate::judge::Target;
use crate::request::{Request, RequestKind, Response};
use http::HeaderName;
use std::time::Duration;
use telemetry::label::{FetchOutcome, HostClass, Refusal, RobotsVerdict};
use telemetry::{SpanBuilder, SpanExt as _, SpanKind, metric};
use tracing::Span;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The `traceparent` of a request to an address that the operator named. Third parties learn nothing of a trace.
pub(crate) fn outgoing_context(target: &Target) -> Option<String> {
    if !target.is_allowed() {
        return None;
    }
    telemetry::outgoing().map(|context| context.to_traceparent())
}

pub(crate) fn span(request: &Request, is_listed: bool) -> Span {
    let method = match request.kind {
        RequestKind::Resolve => "HEAD",
        RequestKind::Page | RequestKind::Feed => "GET",
    };
    SpanBuilder::new(method, SpanKind::Client)
        .attribute("http.request.method", method)
        .attribute("callboard.fetch.host_class", host_class(is_listed).as_str())
        .inner()
}

pub(crate) fn ended(span: &Span, took: Duration, is_listed: bool, result: &Result<Response, FetchError>) {
    let outcome = match result {
        Ok(response) => {
            span.attribute("http.response.status_code", i64::from(response.status));
            span.attribute("http.response.body.size", telemetry::count(response.body.len()));
            span.attribute("callboard.fetch.hops", telemetry::count(response.hops.len()));
            metric::FETCH_BYTES.add(u64::try_from(response.body.len()).unwrap_or(0), ());
            match response.status {
                304 => FetchOutcome::NotModified,
                400..500 => FetchOutcome::ClientError,
                500.. => FetchOutcome::ServerError,
                _ => FetchOutcome::Ok,
            }
        }
        Err(error) => {
            span.fail(error.code().to_owned());
            outcome_of(error)
        }
    };
    match result {
        Err(FetchError::RobotsDisallowed) => metric::FETCH_ROBOTS.add(1, RobotsVerdict::Disallowed),
        Err(error) if error.code() == "robots_unreachable" => {
            metric::FETCH_ROBOTS.add(1, RobotsVerdict::Unreachable);
        }
        Err(FetchError::Refused { class }) => metric::FETCH_REFUSALS.add(1, refusal(*class)),
        _ => {}
    }
    span.attribute("callboard.fetch.outcome", outcome.as_str());
    metric::FETCH_DURATION.record(took.as_secs_f64(), (host_class(is_listed), outcome));
}

fn host_class(is_listed: bool) -> HostClass {
    if is_listed { HostClass::Listed } else { HostClass::Public }
}

fn outcome_of(error: &FetchError) -> FetchOutcome {
    match error {
        FetchError::Refused { .. } => FetchOutcome::Refused,
        FetchError::RobotsDisallowed => FetchOutcome::Robots,
        FetchError::Redirects { .. } => FetchOutcome::Redirects,
        FetchError::TooLarge { .. } | FetchError::UnsupportedEncoding => FetchOutcome::Unreadable,
        FetchError::Wait { .. } => FetchOutcome::Wait,
        FetchError::Transient { code, .. } if code.starts_with("http_5") => FetchOutcome::ServerError,
        FetchError::Transient { code, .. } if code.starts_with("http_") => FetchOutcome::ClientError,
        FetchError::Transient { code, .. } if code == "robots_unreachable" => FetchOutcome::Robots,
        FetchError::Transient { code, .. } if code == "decode" => FetchOutcome::Unreadable,
        FetchError::Transient { .. } => FetchOutcome::Unreachable,
    }
}

fn refusal(class: Class) -> Refusal {
    match class {
        Class::InvalidUrl | Class::Scheme | Class::Credentials => Refusal::Url,
        Class::Port => Refusal::Port,
        Class::SingleLabel | Class::SpecialUseName | Class::InsideName | Class::InvalidName => Refusal::Name,
        Class::HostDisabled => Refusal::Disabled,
        Class::CloudMetadata => Refusal::Metadata,
        _ => Refusal::Address,
    }
}
