//! Reads a request's JSON: strictly, and telling everything that is wrong at once.
//!
//! [`parse`] refuses what other parsers pass over in silence (a member given twice, deep nesting). A handler then takes
//! members out of the object with a [`Reader`], which collects an error with a JSON Pointer for each that does not fit,
//! and for each member that nobody asked for: a typo never silently loosens a policy.

use crate::problem::{FieldError, MALFORMED_JSON, Problem};
use domain::text;
use jiff::Timestamp;
use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;
use uuid::Uuid;

/// Containers inside one another, at most (http-api.md §1).
pub const DEPTH_MAX: usize = 32;
/// A request with more errors than this is told the first ones: the answer stays small.
const ERRORS_MAX: usize = 100;

/// Reads one JSON value.
///
/// # Errors
/// `malformed-json` if the bytes are not one JSON value in UTF-8, name a member twice, or nest deeper than [`DEPTH_MAX`].
pub fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    let malformed =
        |error: serde_json::Error| Problem::new(MALFORMED_JSON, format!("The body is not JSON: {error}."));
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut deserializer).map_err(malformed)?;
    deserializer.end().map_err(malformed)?;
    Ok(value)
}

struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: de::Error>(&self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self.deeper()?)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        self.deeper::<A::Error>()?;
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(de::Error::custom(format!("the member {name:?} is given twice")));
            }
            object.insert(name, members.next_value_seed(self.deeper()?)?);
        }
        Ok(Value::Object(object))
    }
}

/// Everything that is wrong with a request, in the order it was found.
#[derive(Debug, Default)]
pub struct Errors(Vec<FieldError>);

impl Errors {
    /// Adds one.
    pub fn add(&mut self, pointer: impl Into<String>, code: &str, detail: impl Into<String>) {
        if self.0.len() < ERRORS_MAX {
            self.0.push(FieldError { pointer: pointer.into(), code: code.into(), detail: detail.into() });
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value, if nothing was wrong and there is one.
    ///
    /// # Errors
    /// `validation` with everything that was added.
    pub fn check<T>(self, value: Option<T>) -> Result<T, Problem> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            None if self.is_empty() => Err(Problem::internal(&"a reader found nothing and no error")),
            _ => Err(Problem::validation(self.0)),
        }
    }
}

/// Adds an error for each string and name below `value` that has NUL, bidi overrides or other control characters.
pub fn check_characters(value: &Value, pointer: &str, errors: &mut Errors) {
    match value {
        Value::String(text) => check_text(text, pointer, errors),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check_characters(item, &format!("{pointer}/{index}"), errors);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let pointer = format!("{pointer}/{}", escape(name));
                check_text(name, &pointer, errors);
                check_characters(member, &pointer, errors);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn check_text(value: &str, pointer: &str, errors: &mut Errors) {
    if let Err(error) = text::check_input(value) {
        errors.add(pointer, "forbidden_character", error.to_string());
    }
}

/// A member's name as a part of a JSON Pointer (RFC 6901 §3). Control characters are shown escaped.
#[must_use]
pub fn escape(name: &str) -> String {
    name.replace('~', "~0")
        .replace('/', "~1")
        .chars()
        .flat_map(|c| {
            let shown: Box<dyn Iterator<Item = char>> =
                if c.is_control() { Box::new(c.escape_unicode()) } else { Box::new(std::iter::once(c)) };
            shown
        })
        .collect()
}

/// Takes the members of one object, and remembers which were asked for.
pub struct Reader<'v, 'e> {
    members: &'v Map<String, Value>,
    pointer: String,
    known: Vec<&'static str>,
    errors: &'e mut Errors,
}

impl<'v, 'e> Reader<'v, 'e> {
    /// Reads the object `value`, which stands at `pointer` (empty for the body itself). Anything else than an object is
    /// an error of its own, and `None`.
    pub fn new(value: &'v Value, pointer: &str, errors: &'e mut Errors) -> Option<Self> {
        match value {
            Value::Object(members) => {
                Some(Self { members, pointer: pointer.to_owned(), known: Vec::new(), errors })
            }
            _ => {
                errors.add(pointer, "type", "This must be an object.");
                None
            }
        }
    }

    /// The pointer of a member.
    #[must_use]
    pub fn pointer(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, escape(name))
    }

    /// Adds an error about a member.
    pub fn error(&mut self, name: &str, code: &str, detail: impl Into<String>) {
        let pointer = self.pointer(name);
        self.errors.add(pointer, code, detail);
    }

    /// Where this reader puts its errors, for what reads a part of it on its own.
    pub fn errors(&mut self) -> &mut Errors {
        self.errors
    }

    /// Whether the member is there at all, `null` included: a patch tells "leave it" from "clear it".
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// The member, unless absent or `null`.
    pub fn raw(&mut self, name: &'static str) -> Option<&'v Value> {
        self.known.push(name);
        self.members.get(name).filter(|value| !value.is_null())
    }

    /// Adds `required` unless the member is there.
    pub fn require(&mut self, name: &'static str) {
        if self.members.get(name).is_none_or(Value::is_null) {
            self.error(name, "required", "This member is obligatory.");
        }
    }

    /// A string exactly as it was sent: for what is not prose, such as a URL.
    pub fn verbatim(&mut self, name: &'static str, min: usize, max: usize) -> Option<String> {
        let value = self.raw(name)?;
        let Some(text) = value.as_str() else {
            self.error(name, "type", "This must be a string.");
            return None;
        };
        let length = text.chars().count();
        if length < min || length > max {
            self.error(
                name,
                "length",
                format!("This must have {min} to {max} characters, and has {length}."),
            );
            return None;
        }
        if let Err(error) = text::check_input(text) {
            self.error(name, "forbidden_character", error.to_string());
            return None;
        }
        Some(text.to_owned())
    }

    /// A string in NFC (domain.md, opening). Lengths count characters.
    pub fn text(&mut self, name: &'static str, min: usize, max: usize) -> Option<String> {
        self.verbatim(name, min, max).map(|text| text::nfc(&text))
    }

    /// As [`Reader::text`], and obligatory.
    pub fn required_text(&mut self, name: &'static str, min: usize, max: usize) -> Option<String> {
        self.require(name);
        self.text(name, min, max)
    }

    /// `true` or `false`.
    pub fn bool(&mut self, name: &'static str) -> Option<bool> {
        let value = self.raw(name)?;
        if value.as_bool().is_none() {
            self.error(name, "type", "This must be true or false.");
        }
        value.as_bool()
    }

    /// A whole number from `min` to `max`.
    pub fn integer(&mut self, name: &'static str, min: i64, max: i64) -> Option<i64> {
        let value = self.raw(name)?;
        match value.as_i64() {
            Some(number) if (min..=max).contains(&number) => Some(number),
            Some(_) => {
                self.error(name, "range", format!("This must be from {min} to {max}."));
                None
            }
            None => {
                self.error(name, "type", "This must be a whole number.");
                None
            }
        }
    }

    /// An instant as RFC 3339 with an offset.
    pub fn time(&mut self, name: &'static str) -> Option<Timestamp> {
        let value = self.raw(name)?;
        let parsed = value.as_str().and_then(parse_time);
        if parsed.is_none() {
            self.error(
                name,
                "format",
                "This must be an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z.",
            );
        }
        parsed
    }

    /// A UUID.
    pub fn id(&mut self, name: &'static str) -> Option<Uuid> {
        let value = self.raw(name)?;
        let parsed = value.as_str().and_then(parse_id);
        if parsed.is_none() {
            self.error(name, "format", "This must be a lower-case UUID.");
        }
        parsed
    }

    /// A SHA-256 as 64 hex digits.
    pub fn sha256(&mut self, name: &'static str) -> Option<[u8; 32]> {
        let value = self.raw(name)?;
        let parsed = value.as_str().and_then(parse_sha256);
        if parsed.is_none() {
            self.error(name, "format", "This must be 64 hex digits.");
        }
        parsed
    }

    /// One word of a fixed list; `parse` knows it.
    pub fn word<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        allowed: &[&str],
    ) -> Option<T> {
        let value = self.raw(name)?;
        let parsed = value.as_str().and_then(parse);
        if parsed.is_none() {
            self.error(name, "value", format!("This must be one of {}.", allowed.join(", ")));
        }
        parsed
    }

    /// An object whose members are free, in NFC, at most `max_bytes` long as JSON.
    pub fn object(&mut self, name: &'static str, max_bytes: usize) -> Option<Map<String, Value>> {
        let value = self.raw(name)?;
        let Value::Object(members) = value else {
            self.error(name, "type", "This must be an object.");
            return None;
        };
        let bytes = value.to_string().len();
        if bytes > max_bytes {
            self.error(name, "length", format!("This must have at most {max_bytes} bytes, and has {bytes}."));
            return None;
        }
        let pointer = self.pointer(name);
        check_characters(value, &pointer, self.errors);
        Some(members.iter().map(|(name, value)| (text::nfc(name), nfc(value))).collect())
    }

    /// An array of at most `max` items.
    pub fn array(&mut self, name: &'static str, max: usize) -> Option<&'v [Value]> {
        let value = self.raw(name)?;
        let Value::Array(items) = value else {
            self.error(name, "type", "This must be an array.");
            return None;
        };
        if items.len() > max {
            self.error(
                name,
                "length",
                format!("This must have at most {max} items, and has {}.", items.len()),
            );
            return None;
        }
        Some(items)
    }

    /// An array of at most `max` strings of 1 to `length_max` characters that `is_fit` accepts.
    pub fn strings(
        &mut self,
        name: &'static str,
        max: usize,
        length_max: usize,
        is_fit: impl Fn(&str) -> bool,
        expected: &str,
    ) -> Option<Vec<String>> {
        let items = self.array(name, max)?;
        let mut strings: Vec<String> = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let pointer = format!("{}/{index}", self.pointer(name));
            match item.as_str() {
                Some(text) if (1..=length_max).contains(&text.chars().count()) && is_fit(text) => {
                    if strings.iter().any(|known| known == text) {
                        self.errors.add(pointer, "duplicate", "This item is given twice.");
                    } else {
                        strings.push(text.to_owned());
                    }
                }
                _ => self.errors.add(pointer, "value", format!("This must be {expected}.")),
            }
        }
        Some(strings)
    }

    /// A member that another type reads by itself. What it refuses is told with its pointer: unknown members and wrong
    /// types one after the other, until what is left fits.
    pub fn decode<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        let value = self.raw(name)?;
        let pointer = self.pointer(name);
        check_characters(value, &pointer, self.errors);
        decode(nfc(value), &pointer, self.errors)
    }

    /// Adds `unknown_field` for each member that was not asked for.
    pub fn finish(self) {
        for name in self.members.keys() {
            if !self.known.contains(&name.as_str()) {
                let pointer = format!("{}/{}", self.pointer, escape(name));
                self.errors.add(pointer, "unknown_field", "There is no such member.");
            }
        }
    }
}

/// Reads `value` as a `T`. Serde stops at the first thing that is wrong; it is noted and removed, and the rest read
/// again, so that the caller learns of all.
pub fn decode<T: DeserializeOwned>(mut value: Value, pointer: &str, errors: &mut Errors) -> Option<T> {
    let mut failed = false;
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(value.clone()) {
            Ok(decoded) => return (!failed).then_some(decoded),
            Err(error) => error,
        };
        failed = true;
        let mut path: Vec<String> = error
            .path()
            .iter()
            .filter_map(|segment| match segment {
                serde_path_to_error::Segment::Seq { index } => Some(index.to_string()),
                serde_path_to_error::Segment::Map { key } => Some(key.clone()),
                serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => None,
            })
            .collect();
        let message = error.inner().to_string();
        let unknown = message
            .strip_prefix("unknown field `")
            .and_then(|rest| rest.split_once('`'))
            .map(|(name, _)| name);
        if let Some(name) = unknown
            && path.last().map(String::as_str) != Some(name)
        {
            path.push(name.to_owned());
        }
        let place = path.iter().fold(pointer.to_owned(), |place, part| format!("{place}/{}", escape(part)));
        match unknown {
            Some(_) => errors.add(place, "unknown_field", "There is no such member."),
            None => errors.add(place, "type", format!("This does not fit: {message}.")),
        }
        if !remove(&mut value, &path) {
            return None;
        }
    }
}

/// Removes the member at `path`; an item of an array takes its array with it, since the indexes of the others would
/// change. False if nothing was there to remove.
fn remove(value: &mut Value, path: &[String]) -> bool {
    let mut place = &*value;
    let mut depth = 0;
    for part in path {
        let Value::Object(members) = place else { break };
        let Some(member) = members.get(part) else { return false };
        place = member;
        depth += 1;
    }
    let Some((last, parents)) = path[..depth].split_last() else { return false };
    let parent = parents.iter().try_fold(value, |parent, part| parent.get_mut(part));
    parent.and_then(Value::as_object_mut).is_some_and(|members| members.shift_remove(last).is_some())
}

/// The value with every string and name in NFC (domain.md, opening).
#[must_use]
pub fn nfc(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text::nfc(text)),
        Value::Array(items) => Value::Array(items.iter().map(nfc).collect()),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (text::nfc(name), nfc(value))).collect())
        }
        other => other.clone(),
    }
}

/// RFC 3339 with an offset; fractions beyond microseconds are cut, as the database would.
#[must_use]
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    // jiff also reads other forms (a space, an offset of hours only, a zone in brackets); RFC 3339 §5.6 has one.
    let has_shape = bytes.len() >= 20
        && bytes[..19].iter().enumerate().all(|(index, byte)| match index {
            4 | 7 => *byte == b'-',
            10 => matches!(byte, b'T' | b't'),
            13 | 16 => *byte == b':',
            _ => byte.is_ascii_digit(),
        });
    if !has_shape {
        return None;
    }
    let rest = &text[19..];
    let offset = match rest.strip_prefix('.') {
        Some(fraction) => {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            (digits > 0).then(|| &fraction[digits..])?
        }
        None => rest,
    };
    let is_offset = matches!(offset, "Z" | "z")
        || (offset.len() == 6
            && offset.starts_with(['+', '-'])
            && offset.bytes().skip(1).enumerate().all(|(index, byte)| match index {
                2 => byte == b':',
                _ => byte.is_ascii_digit(),
            }));
    if !is_offset {
        return None;
    }
    let instant: Timestamp = text.parse().ok()?;
    Timestamp::from_microsecond(instant.as_microsecond()).ok()
}

/// A UUID as the API writes it: lower case, with hyphens.
#[must_use]
pub fn parse_id(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|id| id.to_string() == text)
}

/// 64 hex digits.
#[must_use]
pub fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    // `from_str_radix` takes a sign.
    (!text.contains('+')).then_some(bytes)
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pointers(errors: Errors) -> Vec<(String, String)> {
        errors.0.into_iter().map(|error| (error.pointer, error.code)).collect()
    }

    #[test]
    fn what_is_not_one_strict_json_value_is_malformed() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let cases: &[(&str, bool)] = &[
            (r#"{"a": 1}"#, true),
            (r#"{"a": 1, "a": 1}"#, false),
            (r#"{"a": {"b": 1, "\u0062": 2}}"#, false),
            (r#"{"a": NaN}"#, false),
            (r#"{"a": Infinity}"#, false),
            (r#"{"a": 1e999}"#, false),
            (r#"{"a": "\ud800"}"#, false),
            (r#"{} {}"#, false),
            ("", false),
            ("{", false),
        ];
        for (body, is_json) in cases {
            assert_eq!(parse(body.as_bytes()).is_ok(), *is_json, "{body}");
        }
        assert!(parse(deep(32).as_bytes()).is_ok());
        assert!(parse(deep(33).as_bytes()).is_err());
        assert!(parse(&[b'"', 0xff, b'"']).is_err());
    }

    #[test]
    fn every_error_is_told_at_once_with_its_pointer() {
        let body =
            json!({"a": 5, "b": "x".repeat(11), "d/e~f": 1, "g": "a\u{0}b", "h": "2026-01-01T00:00:00"});
        let mut errors = Errors::default();
        let mut reader = Reader::new(&body, "", &mut errors).unwrap();
        reader.text("a", 1, 10);
        reader.text("b", 1, 10);
        reader.required_text("c", 1, 10);
        reader.text("g", 1, 10);
        reader.time("h");
        reader.finish();
        let expected = [
            ("/a", "type"),
            ("/b", "length"),
            ("/c", "required"),
            ("/g", "forbidden_character"),
            ("/h", "format"),
            ("/d~1e~0f", "unknown_field"),
        ];
        let expected: Vec<_> = expected.iter().map(|(p, c)| ((*p).to_owned(), (*c).to_owned())).collect();
        assert_eq!(pointers(errors), expected);
    }

    #[test]
    fn a_decoded_type_tells_all_its_errors_too() {
        #[derive(serde::Deserialize, Debug)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code, reason = "only read")]
        struct Inner {
            a: Option<u8>,
            b: Option<Vec<u8>>,
        }
        let mut errors = Errors::default();
        let value = json!({"x": 1, "a": "s", "b": [1, "t"], "y": 2});
        assert!(decode::<Inner>(value, "/hints", &mut errors).is_none());
        let found = pointers(errors);
        for pointer in ["/hints/x", "/hints/a", "/hints/b/1", "/hints/y"] {
            assert!(found.iter().any(|(place, _)| place == pointer), "{pointer} is not in {found:?}");
        }
    }

    #[test]
    fn only_rfc_3339_with_an_offset_is_a_time() {
        let cases: &[(&str, Option<&str>)] = &[
            ("2026-01-31T12:00:00Z", Some("2026-01-31T12:00:00Z")),
            ("2026-01-31T12:00:00.1234567+02:00", Some("2026-01-31T10:00:00.123456Z")),
            ("2026-01-31T12:00:00", None),
            ("2026-01-31 12:00:00Z", None),
            ("2026-01-31T12:00:00+02", None),
            ("2026-01-31T12:00:00Z[UTC]", None),
            ("2026-02-31T12:00:00Z", None),
            ("2026-01-31", None),
            ("é026-01-31T12:00:00Z", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_time(text).map(|time| time.to_string()).as_deref(), *expected, "{text}");
        }
    }

    #[test]
    fn an_id_is_lower_case_with_hyphens() {
        assert!(parse_id("01890a5d-ac96-774b-bcce-b302099a8057").is_some());
        for text in ["01890A5D-AC96-774B-BCCE-B302099A8057", "01890a5dac96774bbcceb302099a8057", "", "x"] {
            assert!(parse_id(text).is_none(), "{text}");
        }
    }
}
