//! Reads a query string: repeated names, ranges and unknown names are told as `validation`, all at once.

use crate::json::{Errors, parse_id, parse_time};
use crate::problem::Problem;
use domain::text;
use http::Uri;
use jiff::Timestamp;
use url::form_urlencoded;
use uuid::Uuid;

/// The most pairs of a query; a link that a person shares has far fewer.
const PAIRS_MAX: usize = 200;

/// The pairs of a query, taken out by name.
pub struct Params {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    errors: Errors,
}

impl Params {
    /// Reads the query of `uri`.
    #[must_use]
    pub fn new(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned().take(PAIRS_MAX).collect();
        Self { pairs, known: Vec::new(), errors: Errors::default() }
    }

    /// Adds an error about a parameter.
    pub fn error(&mut self, name: &str, code: &str, detail: impl Into<String>) {
        self.errors.add(format!("#/query/{name}"), code, detail);
    }

    /// All values of a parameter that may be repeated, at most `max`, of 1 to `length_max` characters each, in NFC.
    pub fn many(&mut self, name: &'static str, max: usize, length_max: usize) -> Vec<String> {
        self.known.push(name);
        let values: Vec<String> =
            self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect();
        if values.len() > max {
            let detail = if max == 1 {
                "This may be given once.".to_owned()
            } else {
                format!("This may be given {max} times.")
            };
            self.error(name, "count", detail);
            return Vec::new();
        }
        let mut kept = Vec::with_capacity(values.len());
        for value in values {
            let length = value.chars().count();
            if !(1..=length_max).contains(&length) {
                self.error(name, "length", format!("This must have 1 to {length_max} characters."));
            } else if let Err(error) = text::check_input(&value) {
                self.error(name, "forbidden_character", error.to_string());
            } else {
                kept.push(text::nfc(&value));
            }
        }
        kept
    }

    /// The value of a parameter of 1 to `length_max` characters that is given once at most.
    pub fn text(&mut self, name: &'static str, length_max: usize) -> Option<String> {
        self.many(name, 1, length_max).pop()
    }

    /// A value that `parse` understands; `expected` tells what that is.
    pub fn parsed<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        expected: &str,
    ) -> Option<T> {
        let value = self.text(name, 200)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.error(name, "value", format!("This must be {expected}."));
        }
        parsed
    }

    /// `true` or `false`.
    pub fn bool(&mut self, name: &'static str) -> Option<bool> {
        self.parsed(name, |text| text.parse().ok(), "true or false")
    }

    /// A UUID.
    pub fn id(&mut self, name: &'static str) -> Option<Uuid> {
        self.parsed(name, parse_id, "a lower-case UUID")
    }

    /// An instant with an offset.
    pub fn time(&mut self, name: &'static str) -> Option<Timestamp> {
        self.parsed(name, parse_time, "an RFC 3339 time with an offset")
    }

    /// `limit`: `default` if absent, else 1 to `max`.
    pub fn limit(&mut self, default: i64, max: i64) -> i64 {
        let expected = format!("a number from 1 to {max}");
        self.parsed("limit", |text| text.parse().ok().filter(|n| (1..=max).contains(n)), &expected)
            .unwrap_or(default)
    }

    /// `cursor`, as it was sent; [`crate::cursor::Cursors::open`] reads it.
    pub fn cursor(&mut self) -> Option<String> {
        self.text("cursor", 2_000)
    }

    /// Ends the reading: a name that nobody asked for is an error too, so that no filter is dropped in silence.
    ///
    /// # Errors
    /// `validation` with everything that is wrong.
    pub fn finish(mut self) -> Result<(), Problem> {
        let unknown: Vec<String> = self
            .pairs
            .iter()
            .map(|(name, _)| name.clone())
            .filter(|name| !self.known.contains(&name.as_str()))
            .collect();
        for name in unknown {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
            self.error(&shown, "unknown_parameter", "There is no such parameter.");
        }
        self.errors.check(Some(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::new(&format!("/x?{query}").parse().unwrap())
    }

    #[test]
    fn escapes_and_plus_signs_are_read_as_forms_write_them() {
        let mut params = params("q=a+b%20c%C3%A9&&tag=x&tag=y%26=&empty=%zz&bytes=%ff&=%");
        assert_eq!(params.text("q", 20).as_deref(), Some("a b cé"));
        assert_eq!(params.many("tag", 10, 10), ["x", "y&="]);
        assert_eq!(params.text("empty", 10).as_deref(), Some("%zz"));
        assert_eq!(params.text("bytes", 10).as_deref(), Some("\u{fffd}"));
        assert_eq!(params.text("", 10).as_deref(), Some("%"));
        assert!(params.finish().is_ok());
    }

    #[test]
    fn what_does_not_fit_is_told_with_the_parameters_name() {
        let mut params = params("limit=0&q=&twice=1&twice=2&typo=1&flag=yes");
        assert_eq!(params.limit(20, 100), 20);
        assert_eq!(params.text("q", 10), None);
        assert_eq!(params.text("twice", 10), None);
        assert_eq!(params.bool("flag"), None);
        let body = params.finish().unwrap_err().to_json("/x", "r");
        let places: Vec<_> = body["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["pointer"].as_str().unwrap())
            .collect();
        assert_eq!(places, ["#/query/limit", "#/query/q", "#/query/twice", "#/query/flag", "#/query/typo"]);
    }
}
