//! robots.txt as RFC 9309 reads it, and how long a copy serves.
//!
//! [`Robots::parse`] and [`Robots::allows`] are the rules, [`state`] and [`after`] the life of the copy; both are pure.

use crate::hosts::{RobotsRecord, RobotsStatus};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// A copy is asked for again after this long (RFC 9309, section 2.4).
const FRESH_FOR: SignedDuration = SignedDuration::from_hours(24);
/// An old copy serves this long while the site does not answer.
const STALE_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);
/// When a robots.txt that failed is asked for again. The specification allows an hour; a failure is mostly shorter, and
/// jobs wait for it.
const UNREACHABLE_RETRY: Duration = Duration::from_secs(5 * 60);
/// The wait after a 429 without `Retry-After`.
const WAIT_DEFAULT: Duration = Duration::from_secs(60);

/// The rules of one robots.txt that hold for one crawler.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Robots {
    rules: Vec<Rule>,
    /// The wish of the same group, in the unofficial field that most sites write.
    pub crawl_delay: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    allow: bool,
    pattern: String,
}

impl Robots {
    /// Reads the groups of `product`, merged, or those of `*` if it has none. Whatever cannot be read is skipped: every
    /// text is a robots.txt.
    #[must_use]
    pub fn parse(text: &str, product: &str) -> Self {
        let mut own = Self::default();
        let mut everyone = Self::default();
        let (mut in_own, mut in_everyone, mut has_own) = (false, false, false);
        let mut after_agent = false;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for line in text.split(['\n', '\r']) {
            let line = line.split('#').next().unwrap_or_default();
            let Some((name, value)) = line.split_once(':') else { continue };
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
            let rule = |allow| Rule { allow, pattern: normalize_pattern(value) };
            match name.as_str() {
                "user-agent" => {
                    if !after_agent {
                        (in_own, in_everyone) = (false, false);
                    }
                    after_agent = true;
                    if value == "*" || value.starts_with("* ") {
                        in_everyone = true;
                    } else if product_token(value).eq_ignore_ascii_case(product) {
                        (in_own, has_own) = (true, true);
                    }
                }
                "allow" | "disallow" => {
                    after_agent = false;
                    // An empty path matches nothing (section 2.2.2).
                    if value.is_empty() {
                        continue;
                    }
                    let allow = name == "allow";
                    if in_own {
                        own.rules.push(rule(allow));
                    }
                    if in_everyone {
                        everyone.rules.push(rule(allow));
                    }
                }
                // No part of the standard, and so it must not end a list of user agents (section 2.2.4).
                "crawl-delay" => {
                    let Some(delay) = parse_delay(value) else { continue };
                    if in_own {
                        own.crawl_delay = own.crawl_delay.max(Some(delay));
                    }
                    if in_everyone {
                        everyone.crawl_delay = everyone.crawl_delay.max(Some(delay));
                    }
                }
                _ => {}
            }
        }
        if has_own { own } else { everyone }
    }

    /// Whether a URL's path with its query may be fetched: the longest matching pattern decides, `Allow` on a tie, and what
    /// nothing matches is allowed. `/robots.txt` always is (section 2.2.2).
    #[must_use]
    pub fn allows(&self, path_and_query: &str) -> bool {
        if path_and_query == "/robots.txt" {
            return true;
        }
        let path = normalize_path(path_and_query);
        let mut best: Option<(usize, bool)> = None;
        for rule in &self.rules {
            if matches(&rule.pattern, &path) {
                // `true` orders after `false`: on equal lengths Allow wins.
                best = best.max(Some((rule.pattern.len(), rule.allow)));
            }
        }
        best.is_none_or(|(_, allow)| allow)
    }
}

/// The leading characters that a product token may have (section 2.2.1): `callboard/1.0` names `callboard`.
fn product_token(value: &str) -> &str {
    let end = value.find(|c: char| !(c.is_ascii_alphabetic() || c == '_' || c == '-')).unwrap_or(value.len());
    &value[..end]
}

fn parse_delay(value: &str) -> Option<Duration> {
    let number = value.split_whitespace().next()?;
    Duration::try_from_secs_f64(number.parse().ok()?).ok()
}

/// Escapes what is not ASCII, upper-cases escapes and decodes those of unreserved characters, so that `/ö`, `/%c3%b6` and
/// `/%C3%B6` are one path, and `%2F` is not `/` (section 2.2.2).
fn normalize(text: &str, out: &mut String) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == b'%'
            && let Some(hex) = bytes.get(at + 1..at + 3)
            && let (Some(high), Some(low)) = (hex_value(hex[0]), hex_value(hex[1]))
        {
            let value = high * 16 + low;
            if value.is_ascii_alphanumeric() || matches!(value, b'-' | b'.' | b'_' | b'~') {
                out.push(char::from(value));
            } else {
                push_escape(out, value);
            }
            at += 3;
            continue;
        }
        if byte.is_ascii_graphic() {
            out.push(char::from(byte));
        } else {
            push_escape(out, byte);
        }
        at += 1;
    }
}

fn hex_value(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn push_escape(out: &mut String, byte: u8) {
    use std::fmt::Write as _;
    // Writing to a String cannot fail.
    let _ = write!(out, "%{byte:02X}");
}

/// In a path, `*` and `$` are themselves, which a pattern writes escaped.
fn normalize_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    normalize(path, &mut out);
    if out.contains(['*', '$']) { out.replace('*', "%2A").replace('$', "%24") } else { out }
}

/// In a pattern, `*` is any run of characters, and `$` is the end where it stands last.
fn normalize_pattern(pattern: &str) -> String {
    let (body, end) = match pattern.strip_suffix('$') {
        Some(body) => (body, "$"),
        None => (pattern, ""),
    };
    let mut out = String::with_capacity(pattern.len());
    normalize(body, &mut out);
    if out.contains('$') {
        out = out.replace('$', "%24");
    }
    out.push_str(end);
    out
}

/// Greedy from the left, which is enough for patterns whose only wildcard is `*`: time is linear in the path for each
/// piece between the wildcards, so that no pattern makes it explode.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, anchored) = match pattern.strip_suffix('$') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = path.strip_prefix(first) else { return false };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return !anchored || rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if anchored && pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    true
}

/// What a kept record means for a request now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RobotsState<'a> {
    /// These rules hold.
    Rules(&'a str),
    /// Ask for robots.txt first.
    Ask,
    /// The site wants to be left alone until then.
    Wait(Timestamp),
    /// All is disallowed until it is asked for again.
    Unreachable(Timestamp),
}

/// What a kept record means at `now`.
#[must_use]
pub fn state(record: Option<&RobotsRecord>, now: Timestamp) -> RobotsState<'_> {
    let Some(record) = record else { return RobotsState::Ask };
    let age = record.fetched_at.map(|at| now.duration_since(at));
    let text = record.text.as_deref().unwrap_or_default();
    let retry_at = record.retry_at.filter(|at| *at > now);
    match (record.status, retry_at) {
        (RobotsStatus::Fetched | RobotsStatus::None, _) if age.is_some_and(|age| age < FRESH_FOR) => {
            RobotsState::Rules(text)
        }
        (RobotsStatus::Wait, Some(at)) => RobotsState::Wait(at),
        (RobotsStatus::Unreachable, Some(_)) if age.is_some_and(|age| age < STALE_FOR) => {
            RobotsState::Rules(text)
        }
        (RobotsStatus::Unreachable, Some(at)) => RobotsState::Unreachable(at),
        _ => RobotsState::Ask,
    }
}

/// How a request for robots.txt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RobotsAnswer {
    /// 2xx with at most [`crate::limits::ROBOTS_MAX_BYTES`] of its text.
    Text(String),
    /// 4xx, or more redirects than are followed: there are no rules.
    None,
    /// 429.
    Wait(Option<Duration>),
    /// 5xx, a network error, or a redirect to where callboard does not go.
    Unreachable(Option<Duration>),
}

/// The record to keep after an answer. A failure keeps the old copy, which serves on for a while.
#[must_use]
pub fn after(old: Option<&RobotsRecord>, answer: RobotsAnswer, now: Timestamp) -> RobotsRecord {
    let later = |wait: Duration| now.checked_add(wait).ok();
    let failed = |status, retry_at| RobotsRecord {
        status,
        text: old.and_then(|old| old.text.clone()),
        fetched_at: old.and_then(|old| old.fetched_at),
        retry_at,
    };
    match answer {
        RobotsAnswer::Text(text) => RobotsRecord {
            status: RobotsStatus::Fetched,
            text: Some(text),
            fetched_at: Some(now),
            retry_at: None,
        },
        RobotsAnswer::None => RobotsRecord {
            status: RobotsStatus::None,
            text: Some(String::new()),
            fetched_at: Some(now),
            retry_at: None,
        },
        RobotsAnswer::Wait(wish) => failed(RobotsStatus::Wait, later(wish.unwrap_or(WAIT_DEFAULT))),
        RobotsAnswer::Unreachable(wish) => {
            let wait = wish.unwrap_or(UNREACHABLE_RETRY).clamp(UNREACHABLE_RETRY, Duration::from_secs(3_600));
            failed(RobotsStatus::Unreachable, later(wait))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, path: &str, expected: bool) {
        let robots = Robots::parse(text, "callboard");
        assert_eq!(robots.allows(path), expected, "{path} by {text:?}");
    }

    #[test]
    fn the_longest_pattern_decides_and_allow_wins_a_tie() {
        for (text, path, expected) in [
            ("", "/", true),
            ("User-agent: *\nDisallow: /", "/", false),
            ("User-agent: *\nDisallow: /", "/robots.txt", true),
            ("User-agent: *\nDisallow:", "/a", true),
            ("User-agent: *\nDisallow: /a\nAllow: /a/b", "/a/b/c", true),
            ("User-agent: *\nDisallow: /a\nAllow: /a/b", "/a/c", false),
            ("User-agent: *\nDisallow: /page\nAllow: /page", "/page", true),
            ("User-agent: *\nAllow: /\nDisallow: /a", "/a", false),
            ("User-agent: *\nDisallow: /fish", "/fishheads/yummy.html", false),
            ("User-agent: *\nDisallow: /fish", "/Fish", true),
            ("User-agent: *\nDisallow: /fish/", "/fish", true),
            ("User-agent: *\nDisallow: /*.php", "/folder/any.php?x=1", false),
            ("User-agent: *\nDisallow: /*.php$", "/folder/any.php?x=1", true),
            ("User-agent: *\nDisallow: /*.php$", "/folder/any.php", false),
            ("User-agent: *\nDisallow: /*.php$", "/a.php.php", false),
            ("User-agent: *\nDisallow: /fish*.php", "/fishheads/catfish.php?id=1", false),
            ("User-agent: *\nDisallow: *", "/a", false),
            ("User-agent: *\nDisallow: /$", "/", false),
            ("User-agent: *\nDisallow: /$", "/a", true),
            ("User-agent: *\nDisallow: /a$b", "/a$b", false),
            ("User-agent: *\nDisallow: /a%24", "/a$", false),
            ("User-agent: *\nDisallow: /a%2Ab", "/a*b", false),
            ("User-agent: *\nDisallow: /a%2Ab", "/axb", true),
            ("User-agent: *\nDisallow: /?", "/?q=1", false),
            ("User-agent: *\nDisallow: a", "/a", true),
            ("User-agent: *\nAllow: /x/page.\nDisallow: /*.ph", "/x/page.php", true),
        ] {
            check(text, path, expected);
        }
    }

    #[test]
    fn escapes_are_compared_decoded_only_where_that_is_safe() {
        for (pattern, path, expected) in [
            ("/ö", "/%C3%B6", false),
            ("/%c3%b6", "/%C3%B6", false),
            ("/%7Ejoe", "/~joe", false),
            ("/~joe", "/%7ejoe", false),
            ("/a%2Fb", "/a/b", true),
            ("/a/b", "/a%2Fb", true),
            ("/%61", "/a", false),
            ("/100%", "/100%", false),
            ("/a b", "/a%20b", false),
        ] {
            check(&format!("User-agent: *\nDisallow: {pattern}"), path, expected);
        }
    }

    #[test]
    fn groups_of_the_same_agent_are_merged_and_the_own_group_replaces_everyones() {
        for (text, path, expected) in [
            ("User-agent: *\nDisallow: /\n\nUser-agent: callboard\nDisallow: /x", "/a", true),
            ("User-agent: *\nDisallow: /\n\nUser-agent: callboard\nDisallow: /x", "/x", false),
            ("user-agent: CallBoard/2.1\ndisallow: /x", "/x", false),
            ("User-agent: callboardbot\nDisallow: /x", "/x", true),
            (
                "User-agent: callboard\nDisallow: /x\nUser-agent: b\nDisallow: /y\nUser-agent: callboard\nDisallow: /z",
                "/z",
                false,
            ),
            (
                "User-agent: callboard\nDisallow: /x\nUser-agent: b\nDisallow: /y\nUser-agent: callboard\nDisallow: /z",
                "/y",
                true,
            ),
            ("User-agent: a\nUser-agent: callboard\nDisallow: /x", "/x", false),
            ("User-agent: a\nCrawl-delay: 5\nUser-agent: callboard\nDisallow: /x", "/x", false),
            (
                "User-agent: a\n\n# remark\nSitemap: https://x/s\n\nUser-agent: callboard\nDisallow: /x",
                "/x",
                false,
            ),
            ("User-agent: callboard\n\nUser-agent: *\nDisallow: /", "/a", false),
            ("User-agent: *\nDisallow: /\nUser-agent: callboard\nAllow: /", "/a", true),
            ("Disallow: /", "/a", true),
            ("User-agent: *\r\nDisallow: /x # why\r\n", "/x", false),
            ("User-agent: *\rDisallow: /x\r", "/x", false),
            ("\u{feff}User-agent: *\nDisallow: /x", "/x", false),
            ("User-agent : *\nDisallow : /x", "/x", false),
            ("User-agent *\nDisallow /x", "/x", true),
            ("<html><body>User-agent: *</body></html>", "/", true),
        ] {
            check(text, path, expected);
        }
    }

    #[test]
    fn a_crawl_delay_is_read_from_the_group_that_holds() {
        let delay = |text: &str| Robots::parse(text, "callboard").crawl_delay;
        assert_eq!(delay("User-agent: *\nCrawl-delay: 10"), Some(Duration::from_secs(10)));
        assert_eq!(delay("User-agent: *\nCrawl-delay: 0.5"), Some(Duration::from_millis(500)));
        assert_eq!(delay("User-agent: *\nCrawl-delay: 10\nUser-agent: callboard\nDisallow:"), None);
        for nonsense in ["-1", "NaN", "inf", "soon", "", "1e300"] {
            assert_eq!(delay(&format!("User-agent: *\nCrawl-delay: {nonsense}")), None, "{nonsense}");
        }
    }

    #[test]
    fn hostile_patterns_take_no_time() {
        let text = format!("User-agent: *\n{}", format!("Disallow: /{}b\n", "a*".repeat(1_000)).repeat(200));
        let robots = Robots::parse(&text, "callboard");
        let started = std::time::Instant::now();
        assert!(robots.allows(&format!("/{}", "a".repeat(2_000))));
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3_600).unwrap()
    }

    #[test]
    fn a_copy_serves_a_day_and_a_month_while_the_site_is_down() {
        let text = || RobotsAnswer::Text("User-agent: *\nDisallow: /x".into());
        assert_eq!(state(None, at(0)), RobotsState::Ask);
        let fresh = after(None, text(), at(0));
        assert!(matches!(state(Some(&fresh), at(23)), RobotsState::Rules(rules) if rules.contains("/x")));
        assert_eq!(state(Some(&fresh), at(24)), RobotsState::Ask);
        let down = after(Some(&fresh), RobotsAnswer::Unreachable(None), at(24));
        assert!(matches!(state(Some(&down), at(24)), RobotsState::Rules(rules) if rules.contains("/x")));
        assert_eq!(state(Some(&down), at(25)), RobotsState::Ask, "asked again within the hour");
        let still_down = after(Some(&down), RobotsAnswer::Unreachable(None), at(30 * 24));
        assert!(matches!(state(Some(&still_down), at(30 * 24)), RobotsState::Unreachable(_)));
        let back = after(Some(&still_down), text(), at(31 * 24));
        assert!(matches!(state(Some(&back), at(31 * 24)), RobotsState::Rules(_)));
    }

    #[test]
    fn a_site_without_a_copy_that_does_not_answer_is_disallowed_and_asked_within_an_hour() {
        for wish in [None, Some(Duration::from_secs(1)), Some(Duration::from_secs(86_400))] {
            let down = after(None, RobotsAnswer::Unreachable(wish), at(0));
            assert!(matches!(state(Some(&down), at(0)), RobotsState::Unreachable(until) if until <= at(1)));
            assert_eq!(state(Some(&down), at(1)), RobotsState::Ask);
        }
    }

    #[test]
    fn a_429_is_waited_for_and_a_4xx_has_no_rules() {
        let wait = after(None, RobotsAnswer::Wait(Some(Duration::from_secs(7_200))), at(0));
        assert_eq!(state(Some(&wait), at(1)), RobotsState::Wait(at(2)));
        assert_eq!(state(Some(&wait), at(2)), RobotsState::Ask);
        let none = after(Some(&wait), RobotsAnswer::None, at(2));
        assert_eq!(state(Some(&none), at(3)), RobotsState::Rules(""));
        assert_eq!(state(Some(&none), at(26)), RobotsState::Ask);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_fail(text in ".{0,400}", path in "/.{0,60}") {
            let robots = Robots::parse(&format!("User-agent: *\nDisallow: {text}\n{text}"), "callboard");
            let _ = robots.allows(&path);
        }

        #[test]
        fn a_pattern_without_wildcards_matches_exactly_its_prefixes(
            pattern in "/[a-c/]{0,6}", path in "/[a-c/]{0,8}",
        ) {
            proptest::prop_assert_eq!(matches(&pattern, &path), path.starts_with(&pattern));
        }

        #[test]
        fn wildcards_match_as_a_slow_matcher_does(pattern in "/[ab*]{0,6}\\$?", path in "/[ab]{0,8}") {
            fn slow(pattern: &[u8], path: &[u8]) -> bool {
                match pattern {
                    [] => true,
                    [b'$'] => path.is_empty(),
                    [b'*', rest @ ..] => (0..=path.len()).any(|at| slow(rest, &path[at..])),
                    [byte, rest @ ..] => path.first() == Some(byte) && slow(rest, &path[1..]),
                }
            }
            proptest::prop_assert_eq!(
                matches(&pattern, &path), slow(pattern.as_bytes(), path.as_bytes()), "{} {}", pattern, path
            );
        }
    }
}
