//! `Retry-After` (RFC 9110, section 10.2.3): seconds or a date.

use crate::limits::RETRY_AFTER_MAX;
use jiff::Timestamp;
use std::time::{Duration, UNIX_EPOCH};

/// How long a site wants to be left alone, counted from `now`, at most [`RETRY_AFTER_MAX`]. None for what is neither a
/// number nor a date; zero for a date that is past.
#[must_use]
pub fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a very long time.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let at = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
        let now = Duration::try_from(now.as_duration()).ok()?;
        at.saturating_sub(now)
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_capped() {
        let now: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
        for (value, expected) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 120 ", Some(120)),
            ("999999", Some(21_600)),
            ("99999999999999999999999999", Some(21_600)),
            ("Wed, 25 Nov 2026 12:01:00 GMT", Some(60)),
            ("Wednesday, 25-Nov-26 12:01:00 GMT", Some(60)),
            ("Wed Nov 25 12:01:00 2026", Some(60)),
            ("Wed, 25 Nov 2026 11:00:00 GMT", Some(0)),
            ("Fri, 25 Nov 2033 11:00:00 GMT", Some(21_600)),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parse(value, now), expected.map(Duration::from_secs), "{value}");
        }
    }
}
