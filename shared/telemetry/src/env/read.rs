//! Reading single variables, and keeping what was wrong with them.

use crate::label::Signal;
use std::cell::RefCell;
use std::str::FromStr;
use std::time::Duration;
use url::Url;

/// Characters of a bad value that a warning repeats.
const SHOWN_CHARS_MAX: usize = 40;

/// Looks variables up; an empty one is unset. Each bad value is warned of once, however often it is read.
pub(super) struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    warnings: RefCell<Vec<String>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, warnings: RefCell::default() }
    }

    pub(super) fn into_warnings(self) -> Vec<String> {
        self.warnings.into_inner()
    }

    pub(super) fn warn(&self, warning: String) {
        let mut warnings = self.warnings.borrow_mut();
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// The value without the white space around it.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn bad(&self, name: &str, value: &str, expected: &str) {
        let shown: String =
            value.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect();
        self.warn(format!("{name}={shown} is not used: {expected} is expected"));
    }

    /// Only the word `true` is true; any other word but `false` is warned of, and false.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.word(name, &["true", "false"]).as_deref() == Some("true")
    }

    /// One of `known`, in lower case.
    pub(super) fn word(&self, name: &str, known: &[&str]) -> Option<String> {
        let value = self.text(name)?;
        let lower = value.to_lowercase();
        if known.contains(&lower.as_str()) {
            return Some(lower);
        }
        self.bad(name, &value, &known.join(", "));
        None
    }

    /// A comma-separated list of `known` words; unknown ones are warned of and left out. A list of none but unknown ones
    /// is unset.
    pub(super) fn words(&self, name: &str, known: &[&str]) -> Option<Vec<String>> {
        let value = self.text(name)?;
        let mut words = Vec::new();
        for word in value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let lower = word.to_lowercase();
            if known.contains(&lower.as_str()) {
                words.push(lower);
            } else {
                self.bad(name, word, &known.join(", "));
            }
        }
        (!words.is_empty()).then_some(words)
    }

    /// A number of its type.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Option<T> {
        let value = self.text(name)?;
        let number = value.parse().ok();
        if number.is_none() {
            self.bad(name, &value, "a number that is not negative");
        }
        number
    }

    /// A length in milliseconds.
    pub(super) fn millis(&self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_millis)
    }

    /// `name=value` pairs, separated by commas, values percent-encoded (W3C Baggage). One bad pair spoils the list
    /// (Resource SDK, "Specifying resource information via an environment variable"). The values are not repeated.
    pub(super) fn pairs(&self, name: &str) -> Option<Vec<(String, String)>> {
        let value = self.text(name)?;
        let pairs: Option<Vec<_>> =
            value.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(pair).collect();
        if pairs.is_none() {
            self.warn(format!("{name} is not used: name=value pairs are expected, separated by commas"));
        }
        pairs
    }

    /// A URL. The one for all signals gets the signal's path (OTLP exporter, "Endpoint URLs for OTLP/HTTP"). It is not
    /// repeated: it may hold a password.
    pub(super) fn endpoint(&self, name: &str, path_of: Option<Signal>) -> Option<Url> {
        let value = self.text(name)?;
        let url = Url::parse(&value)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some())
            // The exporter's own type is stricter in a few places.
            .filter(|url| url.as_str().parse::<http::Uri>().is_ok());
        let Some(mut url) = url else {
            self.warn(format!("{name} is not used: an http or https URL is expected"));
            return None;
        };
        if let Some(signal) = path_of {
            let base = url.path().trim_end_matches('/').to_owned();
            url.set_path(&format!("{base}/v1/{}", signal.as_str()));
        }
        Some(url)
    }
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let (name, value) = (name.trim(), decode(value.trim())?);
    let is_token = |byte: u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte);
    (!name.is_empty() && name.bytes().all(is_token) && !value.contains(['\r', '\n', '\0']))
        .then(|| (name.to_owned(), value))
}

/// Percent-decoding; a stray percent sign stands for itself, text that is no UTF-8 is refused.
fn decode(value: &str) -> Option<String> {
    percent_encoding::percent_decode_str(value).decode_utf8().ok().map(Into::into)
}
