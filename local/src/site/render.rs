//! Fills in what a page of the bundled site cannot know when it is written: where the site runs, and what day it is.
//!
//! Two placeholders, in double braces: `{{base}}` is the site's origin (`http://127.0.0.1:PORT`, without a slash at the
//! end), and `{{in:DAYS:FORMAT}}` or `{{in:DAYS:FORMAT:LANGUAGE}}` is the day that is `DAYS` from now in UTC, such as
//! `{{in:+45d:%Y-%m-%d}}` or `{{in:-3d:%-d %B %Y:fr}}`. `FORMAT` is strftime's and holds no colon; with a `LANGUAGE`
//! the month `%B` is written in it. A placeholder that cannot be read stays as it is, so that a test can find it.
//!
//! Pages are bytes, not text: one of them is in windows-1252.

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

/// A day further away than this is a typing error in a page.
const DAYS_MAX: i64 = 36_500;

/// The page with every placeholder replaced.
pub fn render(page: &[u8], base: &str, now: Timestamp) -> Vec<u8> {
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let mut rendered = Vec::with_capacity(page.len());
    let mut rest = page;
    while let Some(start) = find(rest, b"{{") {
        let Some(length) = find(&rest[start + 2..], b"}}") else {
            break;
        };
        let inner = &rest[start + 2..start + 2 + length];
        let after = start + 2 + length + 2;
        match std::str::from_utf8(inner).ok().and_then(|inner| value(inner, base, today)) {
            Some(value) => {
                rendered.extend_from_slice(&rest[..start]);
                rendered.extend_from_slice(value.as_bytes());
                rest = &rest[after..];
            }
            None => {
                rendered.extend_from_slice(&rest[..start + 2]);
                rest = &rest[start + 2..];
            }
        }
    }
    rendered.extend_from_slice(rest);
    rendered
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn value(placeholder: &str, base: &str, today: Date) -> Option<String> {
    if placeholder == "base" {
        return Some(base.to_owned());
    }
    let mut parts = placeholder.strip_prefix("in:")?.splitn(3, ':');
    let days: i64 = parts.next()?.strip_suffix('d')?.parse().ok()?;
    let format = parts.next()?;
    if days.abs() > DAYS_MAX {
        return None;
    }
    let date = today.checked_add(days.days()).ok()?;
    let format = match parts.next() {
        Some(language) => format.replace("%B", month(language, date)?),
        None => format.to_owned(),
    };
    jiff::fmt::strtime::format(&format, date).ok()
}

fn month(language: &str, date: Date) -> Option<&'static str> {
    let names = match language {
        "de" => [
            "Januar",
            "Februar",
            "März",
            "April",
            "Mai",
            "Juni",
            "Juli",
            "August",
            "September",
            "Oktober",
            "November",
            "Dezember",
        ],
        "fr" => [
            "janvier",
            "février",
            "mars",
            "avril",
            "mai",
            "juin",
            "juillet",
            "août",
            "septembre",
            "octobre",
            "novembre",
            "décembre",
        ],
        _ => return None,
    };
    names.get(usize::try_from(date.month()).ok()?.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_the_origin_and_days_relative_to_now() {
        let now = "2026-11-25T22:00:00Z".parse().unwrap();
        for (page, rendered) in [
            ("<a href=\"{{base}}/x\">", "<a href=\"http://site/x\">"),
            ("{{in:+45d:%Y-%m-%d}}", "2027-01-09"),
            ("{{in:-3d:%d.%m.%Y}}!", "22.11.2026!"),
            ("{{in:+0d:%-d %B %Y}}", "25 November 2026"),
            ("{{in:+10d:%-d %B %Y:fr}}", "5 décembre 2026"),
            ("{{in:+10d:%-d. %B %Y:de}}", "5. Dezember 2026"),
            ("{{in:+10d:%-d %B:xx}} {{other}} {{base", "{{in:+10d:%-d %B:xx}} {{other}} {{base"),
            ("if (a) {{ b() }} {{base}}", "if (a) {{ b() }} http://site"),
        ] {
            assert_eq!(String::from_utf8(render(page.as_bytes(), "http://site", now)).unwrap(), rendered);
        }
        assert_eq!(render(b"\xfc {{base}}", "b", now), b"\xfc b");
    }
}
