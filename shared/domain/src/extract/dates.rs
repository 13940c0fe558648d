//! Dates and deadlines: from structured data, and from text in eleven languages.
//!
//! A deadline is an instant and the publisher's calendar day. Without an offset it is read in
//! UTC−12, the last zone in which the day ends, so that nobody is turned away who is still in
//! time; a date alone means its end. A date without year, or one that can be read two ways, is
//! no date.

mod months;

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::temporal::Pieces;
use jiff::tz::{Offset, TimeZone};
use regex::Regex;

use super::words::fold;
use months::month_of;

/// Hours from UTC of the zone in which a day ends last ("anywhere on Earth").
const LAST_ZONE_HOURS: i8 = -12;

/// Years outside of this are typing errors or stand for "open-ended" (9999-12-31).
const YEARS: std::ops::RangeInclusive<i16> = 1990..=2099;

/// Bytes of text that are searched for one date: a labelled date stands at the label.
const TEXT_BYTES_MAX: usize = 400;

/// An instant with the calendar day that its publisher means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The publisher's calendar day.
    pub date: Date,
    /// The instant.
    pub instant: Timestamp,
    /// Whether a time of day was given, not only a date.
    pub has_time: bool,
    /// The offset that was given.
    pub offset: Option<Offset>,
}

/// Why a text that should be a date gave none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoDate {
    /// There is nothing like a date in it, or the year is missing.
    Absent,
    /// It names a day that does not exist, or a year that nobody means.
    Impossible,
    /// Day and month can be read either way.
    Ambiguous,
}

/// Whether `03/04/2026` may be read, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlashOrder {
    /// Day first: the page is in a language that writes so.
    DayFirst,
    /// Month first: the page is in American English.
    MonthFirst,
    /// Unknown: only unmistakable dates are read.
    Unknown,
}

impl SlashOrder {
    /// The order that goes with a language tag. English without a region is unknown.
    pub fn of_language(tag: Option<&str>) -> Self {
        match tag {
            Some("en-US") => Self::MonthFirst,
            Some("en") | None => Self::Unknown,
            Some(_) => Self::DayFirst,
        }
    }
}

impl Moment {
    fn at_end_of(date: Date) -> Option<Self> {
        Self::new(date, None, None)
    }

    fn new(date: Date, time: Option<Time>, offset: Option<Offset>) -> Option<Self> {
        let end_of_day = Time::constant(23, 59, 59, 0);
        let zone = offset.unwrap_or(Offset::constant(LAST_ZONE_HOURS));
        let local = DateTime::from_parts(date, time.unwrap_or(end_of_day));
        Some(Self { date, instant: zone.to_timestamp(local).ok()?, has_time: time.is_some(), offset })
    }

    /// Whether a visible date names another day than this structured moment does.
    ///
    /// A structured time in UTC may be a local midnight that some software turned into UTC; then
    /// the day that begins or ends with this midnight, in any zone of whole hours, is the same.
    pub fn contradicts(&self, visible: Date) -> bool {
        if self.date == visible {
            return false;
        }
        if !self.has_time || self.offset != Some(Offset::UTC) {
            return true;
        }
        let Ok(midnight) = TimeZone::UTC.to_timestamp(visible.at(0, 0, 0, 0)) else {
            return true;
        };
        let hour = 3_600;
        let from_start = self.instant.duration_since(midnight).as_secs();
        let is_zone = |seconds: i64| seconds % hour == 0 && (-14 * hour..=12 * hour).contains(&seconds);
        !(is_zone(from_start) || is_zone(from_start - 24 * hour))
    }
}

/// An RFC 3339 time with its offset, or a date, which stands for its end. Anything else, also a
/// time without offset, is none: this is the strict reading for the API. Without a pattern, so that
/// the API has no engine for them.
pub fn read_rfc3339(text: &str) -> Option<Moment> {
    let text = text.trim();
    if let Ok(date) = text.parse::<Date>()
        && text.len() == 10
    {
        return Moment::at_end_of(date);
    }
    let is_extended = |at: usize, separator: u8| text.as_bytes().get(at) == Some(&separator);
    let pieces = Pieces::parse(text).ok()?;
    let (date, time, offset) = (pieces.date(), pieces.time()?, pieces.to_numeric_offset()?);
    if !(is_extended(4, b'-') && is_extended(7, b'-') && is_extended(13, b':'))
        || pieces.time_zone_annotation().is_some()
        || !YEARS.contains(&date.year())
    {
        return None;
    }
    Moment::new(date, Some(time.with().subsec_nanosecond(0).build().ok()?), Some(offset))
}

/// A date in structured data: ISO 8601 first, then whatever people write there instead.
pub fn read_structured(text: &str, order: SlashOrder) -> Result<Moment, NoDate> {
    match read_iso(text.trim()) {
        Err(NoDate::Absent) => find_in_text(text, order),
        read => read,
    }
}

static ISO: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?i)(\d{4})-?(\d{2})-?(\d{2})(?:(?:t| +)(\d{1,2}):?(\d{2})(?::?(\d{2})(?:[.,]\d+)?)?)?\s*(z|utc|gmt|[+-]\d{2}(?::?\d{2})?)?$",
    )
});

fn read_iso(text: &str) -> Result<Moment, NoDate> {
    let text = text.get(..TEXT_BYTES_MAX).unwrap_or(text);
    let found = ISO.captures(text).ok_or(NoDate::Absent)?;
    let number = |index: usize| found.get(index).and_then(|part| part.as_str().parse::<i16>().ok());
    let date = date_of(number(1), number(2), number(3))?;
    let time = match number(4) {
        Some(hour) => Some(time_of(hour, number(5).unwrap_or(0), number(6).unwrap_or(0))?),
        None => None,
    };
    let offset = found.get(7).and_then(|part| offset_of(part.as_str()));
    if time.is_none() {
        return Moment::at_end_of(date).ok_or(NoDate::Impossible);
    }
    Moment::new(date, time, offset).ok_or(NoDate::Impossible)
}

fn date_of(year: Option<i16>, month: Option<i16>, day: Option<i16>) -> Result<Date, NoDate> {
    let (Some(year), Some(month), Some(day)) = (year, month, day) else {
        return Err(NoDate::Absent);
    };
    let narrow = |number: i16| i8::try_from(number).map_err(|_| NoDate::Impossible);
    if !YEARS.contains(&year) {
        return Err(NoDate::Impossible);
    }
    Date::new(year, narrow(month)?, narrow(day)?).map_err(|_| NoDate::Impossible)
}

/// The time of day. 24:00 is the last second of the day that it ends.
fn time_of(hour: i16, minute: i16, second: i16) -> Result<Time, NoDate> {
    if (hour, minute, second) == (24, 0, 0) {
        return Ok(Time::constant(23, 59, 59, 0));
    }
    let narrow = |number: i16| i8::try_from(number).map_err(|_| NoDate::Impossible);
    Time::new(narrow(hour)?, narrow(minute)?, narrow(second.min(59))?, 0).map_err(|_| NoDate::Impossible)
}

fn offset_of(text: &str) -> Option<Offset> {
    let text = text.to_ascii_lowercase();
    if matches!(text.as_str(), "z" | "utc" | "gmt") {
        return Some(Offset::UTC);
    }
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let digits = digits.replace(':', "");
    let hours: i32 = digits.get(..2).unwrap_or(&digits).parse().ok()?;
    let minutes: i32 = digits.get(2..).filter(|rest| !rest.is_empty()).unwrap_or("0").parse().ok()?;
    Offset::from_seconds(sign * (hours * 3_600 + minutes * 60)).ok()
}

// The patterns are written for folded text: lower case, plain dashes, single spaces.
static YEAR_FIRST: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})\b"));
static DAY_FIRST: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b(\d{1,2})(?: ?([./-]) ?)(\d{1,2})(?: ?[./-] ?)(\d{4})\b"));
static DAY_MONTH: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"\b(\d{1,2})(?:st|nd|rd|th|er|o|a|e|\.)?[ -]?(?:day )?(?:of |de |di |den )?([a-z]{3,12})\.?,?[ -](?:del? |of )?(\d{4})\b",
    )
});
static MONTH_DAY: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b([a-z]{3,12})\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})\b"));
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"\b(?:(\d{1,2})[:.h](\d{2})(?::\d{2})?|(\d{1,2}))(?: ?h\b)? ?(a\.?m\.?|p\.?m\.?|noon|uhr|heures|hours|hrs)?(?: *\(?(utc|gmt|[a-z]{2,4})?(?: ?([+-]\d{1,2}(?::?\d{2})?))?\)?)?",
    )
});

/// The first date in a text, with the time of day and zone that stand directly at it.
pub fn find_in_text(text: &str, order: SlashOrder) -> Result<Moment, NoDate> {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = fold(&text[..end]);
    let mut first: Option<(usize, usize, Result<Date, NoDate>)> = None;
    let mut offer = |start: usize, end: usize, date: Result<Date, NoDate>| {
        if first.as_ref().is_none_or(|(at, _, _)| start < *at) {
            first = Some((start, end, date));
        }
    };
    for found in YEAR_FIRST.captures_iter(&text).take(1) {
        let number = |index: usize| found[index].parse().ok();
        if let Some(whole) = found.get(0) {
            offer(whole.start(), whole.end(), date_of(number(1), number(2), number(3)));
        }
    }
    for found in DAY_FIRST.captures_iter(&text).take(1) {
        let number = |index: usize| found[index].parse().ok();
        if let Some(whole) = found.get(0) {
            let date = numeric(number(1), number(3), number(4), &found[2], order);
            offer(whole.start(), whole.end(), date);
        }
    }
    for found in DAY_MONTH.captures_iter(&text) {
        if let (Some(month), Some(whole)) = (month_of(&found[2]), found.get(0)) {
            let date = date_of(found[3].parse().ok(), Some(month), found[1].parse().ok());
            offer(whole.start(), whole.end(), date);
            break;
        }
    }
    for found in MONTH_DAY.captures_iter(&text) {
        if let (Some(month), Some(whole)) = (month_of(&found[1]), found.get(0)) {
            let date = date_of(found[3].parse().ok(), Some(month), found[2].parse().ok());
            offer(whole.start(), whole.end(), date);
            break;
        }
    }
    let (start, end, date) = first.ok_or(NoDate::Absent)?;
    let date = date?;
    let behind = time_behind(&text[end..]);
    let (time, offset) = behind.or_else(|| time_before(&text[..start])).unwrap_or((None, None));
    Moment::new(date, time, offset.filter(|_| time.is_some())).ok_or(NoDate::Impossible)
}

/// A date in digits alone. Dots and dashes put the day first everywhere; a slash may not.
fn numeric(
    first: Option<i16>,
    second: Option<i16>,
    year: Option<i16>,
    separator: &str,
    order: SlashOrder,
) -> Result<Date, NoDate> {
    let day_first = date_of(year, second, first);
    if separator != "/" {
        return day_first;
    }
    let month_first = date_of(year, first, second);
    match (day_first, month_first, order) {
        (Ok(date), Ok(other), _) if date == other => Ok(date),
        (Ok(date), Ok(_), SlashOrder::DayFirst) | (Ok(date), Err(_), _) => Ok(date),
        (Ok(_), Ok(date), SlashOrder::MonthFirst) | (Err(_), Ok(date), _) => Ok(date),
        (Ok(_), Ok(_), SlashOrder::Unknown) => Err(NoDate::Ambiguous),
        (Err(error), Err(_), _) => Err(error),
    }
}

type TimeAndZone = (Option<Time>, Option<Offset>);

/// Words that may stand between a date and its time of day.
const BEFORE_TIME: &[&str] = &[
    "at", "um", "a", "alle", "ore", "as", "om", "kl", "klo", "by", "until", "bis", "los", "las", "h", "t",
    "jusqu'a", "before", "before:", "hours", "midday", "klokken",
];

fn time_behind(text: &str) -> Option<TimeAndZone> {
    let mut rest = text.trim_start_matches([' ', ',', '(', '-', ';', '|', '.', ':']);
    for _ in 0..2 {
        if let Some(word) = rest.split([' ', '.']).next()
            && BEFORE_TIME.contains(&word)
        {
            rest = rest[word.len()..].trim_start_matches([' ', '.']);
        }
    }
    for (word, hour, minute) in
        [("midnight", 23, 59), ("noon", 12, 0), ("mitternacht", 23, 59), ("minuit", 23, 59)]
    {
        if let Some(rest) = rest.strip_prefix(word) {
            let time = time_of(hour, minute, 0).ok();
            return Some((time, zone_in(rest)));
        }
    }
    read_time(rest, true)
}

/// "by 17:00 CET on 31 December 2026".
fn time_before(text: &str) -> Option<TimeAndZone> {
    let tail = text.trim_end_matches([' ', ',']);
    let tail = tail.strip_suffix(" on").or_else(|| tail.strip_suffix(" am")).unwrap_or(tail);
    let mut start = tail.len().saturating_sub(24);
    while !tail.is_char_boundary(start) {
        start += 1;
    }
    let window = &tail[start..];
    let found = TIME.find_iter(window).find(|found| found.end() == window.len())?;
    let text = found.as_str();
    read_time(text, true)
}

/// A time of day at the beginning of a folded text. A bare number counts only with "am", "uhr"
/// and the like.
fn read_time(text: &str, at_start: bool) -> Option<TimeAndZone> {
    let found = TIME.captures(text)?;
    if at_start && found.get(0)?.start() != 0 {
        return None;
    }
    let suffix = found.get(4).map(|part| part.as_str().replace('.', ""));
    let (hour, minute) = match (found.get(1), found.get(3)) {
        (Some(hour), _) => (hour.as_str().parse::<i16>().ok()?, found[2].parse::<i16>().ok()?),
        (None, Some(hour)) => {
            suffix.as_ref()?;
            (hour.as_str().parse::<i16>().ok()?, 0)
        }
        (None, None) => return None,
    };
    let hour = match suffix.as_deref() {
        Some("pm") if hour < 12 => hour + 12,
        Some("am") if hour == 12 => 0,
        _ => hour,
    };
    let time = time_of(hour, minute, 0).ok()?;
    let shift = found.get(6).map(|part| part.as_str());
    let zone = match (found.get(5).map(|part| part.as_str()), shift) {
        (Some("utc" | "gmt") | None, Some(shift)) => offset_of(&padded(shift)),
        (Some(name), _) => named_zone(name),
        (None, None) => None,
    };
    Some((Some(time), zone.or_else(|| zone_in(&text[found.get(0)?.end()..]))))
}

/// `+1` as `+01`.
fn padded(shift: &str) -> String {
    match shift.len() {
        2 => format!("{}0{}", &shift[..1], &shift[1..]),
        _ => shift.to_owned(),
    }
}

fn zone_in(text: &str) -> Option<Offset> {
    let text = text.trim_start_matches([' ', '(', ',']);
    if text.starts_with("anywhere on earth") {
        return Some(Offset::constant(LAST_ZONE_HOURS));
    }
    if text.starts_with("central european time") {
        return named_zone("cet");
    }
    named_zone(text.split(|c: char| !c.is_ascii_alphabetic()).next()?)
}

/// Abbreviations that mean one offset only. IST, CST and their like mean several and are left out.
fn named_zone(name: &str) -> Option<Offset> {
    let hours = match name {
        "utc" | "gmt" | "wet" => 0,
        "cet" | "mez" | "bst" | "west" => 1,
        "cest" | "mesz" | "eet" => 2,
        "eest" | "msk" => 3,
        "jst" | "kst" => 9,
        "aest" => 10,
        "aedt" => 11,
        "nzst" => 12,
        "est" => -5,
        "edt" => -4,
        "mst" | "pdt" => -7,
        "pst" => -8,
        "aoe" => LAST_ZONE_HOURS,
        _ => return None,
    };
    Some(Offset::constant(hours))
}

/// A pattern of this file, which is right or caught by the first test that uses it.
fn pattern(text: &str) -> Regex {
    #[expect(clippy::unwrap_used, reason = "the pattern is a constant of this file")]
    Regex::new(text).unwrap()
}

#[cfg(test)]
mod tests;
