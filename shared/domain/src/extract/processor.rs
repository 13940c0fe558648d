//! Results of external processors: checked member by member before anything is made of them.

use serde_json::{Map, Value};

use super::result::{Conflict, ExtractedPosting, Extraction, Verdict, Warning};
use super::words::clean_line;
use crate::posting::limits::*;
use crate::posting::read::{FIELD_NAMES, check_text, escape, read_fields};
use crate::posting::{FieldError, FieldProvenance};

/// Values of one conflict.
const CONFLICT_VALUES_MAX: usize = 8;

/// Characters of a warning's code and detail.
const WARNING_CHARS_MAX: usize = 500;

impl Extraction {
    /// Reads the `result_json` of a processor: exactly the members of §8, within its limits.
    ///
    /// Members that only the server may set, such as `canonical_hash` or `dedupe_confidence`, are
    /// unknown here and refused like any other.
    ///
    /// # Errors
    /// Everything that is wrong, each with its JSON Pointer into the result.
    pub fn from_processor(result: &Value) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let Some(object) = result.as_object() else {
            return Err(vec![error("", "invalid_type", "must be an object")]);
        };
        let mut extraction = Self::bare(Verdict::NotAPosting);
        let mut has_verdict = false;
        for (name, value) in object {
            let pointer = format!("/{}", escape(name));
            match name.as_str() {
                "verdict" => match serde_json::from_value(value.clone()) {
                    Ok(verdict) => {
                        extraction.verdict = verdict;
                        has_verdict = true;
                    }
                    Err(_) => errors.push(error(
                        &pointer,
                        "invalid_value",
                        "must be posting, listing, closed or not_a_posting",
                    )),
                },
                "postings" => extraction.postings = postings(value, &pointer, &mut errors),
                "discovered_urls" => {
                    extraction.discovered_urls = urls(value, &pointer, DISCOVERED_URLS_MAX, &mut errors)
                }
                "conflicts" => extraction.conflicts = conflicts(value, &pointer, &mut errors),
                "warnings" => extraction.warnings = warnings(value, &pointer, &mut errors),
                "noindex" | "noarchive" => match value.as_bool() {
                    Some(is_set) if name == "noindex" => extraction.noindex = is_set,
                    Some(is_set) => extraction.noarchive = is_set,
                    None => errors.push(error(&pointer, "invalid_type", "must be true or false")),
                },
                _ => errors.push(error(&pointer, "unknown_field", "is not a member of an extraction result")),
            }
        }
        if !has_verdict && !object.contains_key("verdict") {
            errors.push(error("/verdict", "missing", "is obligatory"));
        }
        let needs_posting = extraction.verdict == Verdict::Posting && has_verdict;
        if needs_posting && extraction.postings.is_empty() && errors.is_empty() {
            errors.push(error("/postings", "missing", "must have one item for the verdict posting"));
        }
        if errors.is_empty() { Ok(extraction) } else { Err(errors) }
    }
}

fn error(pointer: &str, code: &'static str, detail: impl Into<String>) -> FieldError {
    FieldError { pointer: pointer.to_owned(), code, detail: detail.into() }
}

/// The items of an array with their pointers; wrong types and lengths are noted.
fn items<'a>(
    value: &'a Value,
    pointer: &str,
    len_max: usize,
    errors: &mut Vec<FieldError>,
) -> Vec<(String, &'a Value)> {
    match value.as_array() {
        Some(values) if values.len() <= len_max => {
            values.iter().enumerate().map(|(index, value)| (format!("{pointer}/{index}"), value)).collect()
        }
        Some(_) => {
            errors.push(error(pointer, "too_many", format!("must have at most {len_max} items")));
            Vec::new()
        }
        None => {
            errors.push(error(pointer, "invalid_type", "must be an array"));
            Vec::new()
        }
    }
}

fn postings(value: &Value, pointer: &str, errors: &mut Vec<FieldError>) -> Vec<ExtractedPosting> {
    items(value, pointer, 1, errors)
        .into_iter()
        .filter_map(|(pointer, value)| {
            let Some(object) = value.as_object() else {
                errors.push(error(&pointer, "invalid_type", "must be an object of posting fields"));
                return None;
            };
            let mut posting = ExtractedPosting {
                fields: read_fields(object, &pointer, &["field_provenance", "claimed_urls"], errors),
                ..ExtractedPosting::default()
            };
            if let Some(value) = object.get("field_provenance") {
                provenance(value, &format!("{pointer}/field_provenance"), &mut posting, errors);
            }
            if let Some(value) = object.get("claimed_urls") {
                posting.claimed_urls = urls(value, &format!("{pointer}/claimed_urls"), 10, errors);
            }
            Some(posting)
        })
        .collect()
}

fn provenance(value: &Value, pointer: &str, posting: &mut ExtractedPosting, errors: &mut Vec<FieldError>) {
    let Some(object) = value.as_object() else {
        errors.push(error(pointer, "invalid_type", "must be an object of fields"));
        return;
    };
    for (field, value) in object {
        let pointer = format!("{pointer}/{}", escape(field));
        if !FIELD_NAMES.contains(&field.as_str()) {
            errors.push(error(&pointer, "unknown_field", "is not a posting field"));
            continue;
        }
        match serde_json::from_value::<FieldProvenance>(value.clone()) {
            Ok(provenance) if (0.0..=1.0).contains(&provenance.confidence) => {
                posting.field_provenance.insert(field.clone(), provenance);
            }
            Ok(_) => errors.push(error(&pointer, "invalid_value", "confidence must be between 0 and 1")),
            Err(cause) => {
                errors.push(error(&pointer, "invalid_value", format!("must be {{via, confidence}}: {cause}")))
            }
        }
    }
}

fn urls(value: &Value, pointer: &str, len_max: usize, errors: &mut Vec<FieldError>) -> Vec<String> {
    items(value, pointer, len_max, errors)
        .into_iter()
        .filter_map(|(pointer, value)| {
            let url =
                value.as_str().and_then(|text| url::Url::parse(text.trim()).ok()).filter(super::head::is_web);
            if url.is_none() {
                errors.push(error(
                    &pointer,
                    "invalid_url",
                    "must be an absolute http or https URL without user",
                ));
            }
            url.map(String::from)
        })
        .collect()
}

fn conflicts(value: &Value, pointer: &str, errors: &mut Vec<FieldError>) -> Vec<Conflict> {
    items(value, pointer, CONFLICTS_MAX, errors)
        .into_iter()
        .filter_map(|(pointer, value)| match serde_json::from_value::<Conflict>(value.clone()) {
            Ok(conflict)
                if FIELD_NAMES.contains(&conflict.field.as_str())
                    && conflict.values.len() <= CONFLICT_VALUES_MAX
                    && conflict.values.iter().all(|value| value.to_string().len() <= 4 * LABEL_CHARS_MAX) =>
            {
                Some(conflict)
            }
            Ok(_) => {
                errors.push(error(
                    &pointer,
                    "invalid_value",
                    "must name a posting field and at most 8 short values",
                ));
                None
            }
            Err(cause) => {
                errors.push(error(&pointer, "invalid_value", format!("must be {{field, values}}: {cause}")));
                None
            }
        })
        .collect()
}

/// A warning of a processor: an object of code and detail, or a plain text.
fn warnings(value: &Value, pointer: &str, errors: &mut Vec<FieldError>) -> Vec<Warning> {
    items(value, pointer, WARNINGS_MAX, errors)
        .into_iter()
        .filter_map(|(pointer, value)| {
            let warning = match value {
                Value::String(text) => Warning { code: "processor".to_owned(), detail: text.clone() },
                value => match serde_json::from_value::<Warning>(Value::Object(
                    value.as_object().cloned().unwrap_or_else(Map::new),
                )) {
                    Ok(warning) => warning,
                    Err(cause) => {
                        errors.push(error(
                            &pointer,
                            "invalid_value",
                            format!("must be {{code, detail}}: {cause}"),
                        ));
                        return None;
                    }
                },
            };
            let is_sound = check_text(&warning.code, WARNING_CHARS_MAX, &pointer, errors)
                && check_text(&warning.detail, WARNING_CHARS_MAX, &pointer, errors);
            is_sound.then(|| Warning { code: clean_line(&warning.code), detail: clean_line(&warning.detail) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sound_result_is_read() {
        let result = json!({
            "verdict": "posting",
            "postings": [{
                "title": "PhD position", "country": "Germany", "deadline": "2027-01-31",
                "field_provenance": {"title": {"via": "html", "confidence": 0.9}},
            }],
            "discovered_urls": ["https://a.example/x"],
            "conflicts": [{"field": "deadline", "values": ["2027-01-31", "2027-02-01"]}],
            "warnings": ["text", {"code": "c", "detail": "d"}],
        });
        let extraction = Extraction::from_processor(&result).unwrap();
        assert_eq!(extraction.postings[0].fields.country.as_deref(), Some("DE"));
        assert_eq!(extraction.postings[0].fields.deadline_date.unwrap().to_string(), "2027-01-31");
        assert_eq!(extraction.warnings.len(), 2);
    }

    #[test]
    fn what_a_processor_may_not_say_is_refused_by_name() {
        let result = json!({
            "verdict": "posting",
            "dedupe_confidence": 1,
            "postings": [{"title": "x", "canonical_hash": "00", "status": "active", "trust_level": "trusted"}],
            "discovered_urls": ["javascript:alert(1)"],
            "conflicts": [{"field": "nothing", "values": []}],
        });
        let errors = Extraction::from_processor(&result).unwrap_err();
        let found: Vec<_> = errors.iter().map(|error| (error.pointer.as_str(), error.code)).collect();
        assert_eq!(
            found,
            [
                ("/dedupe_confidence", "unknown_field"),
                ("/postings/0/canonical_hash", "unknown_field"),
                ("/postings/0/status", "unknown_field"),
                ("/postings/0/trust_level", "unknown_field"),
                ("/discovered_urls/0", "invalid_url"),
                ("/conflicts/0", "invalid_value"),
            ]
        );
        for (result, pointer) in [
            (json!([]), ""),
            (json!({}), "/verdict"),
            (json!({"verdict": "open"}), "/verdict"),
            (json!({"verdict": "posting"}), "/postings"),
            (json!({"verdict": "posting", "postings": [{}, {}]}), "/postings"),
        ] {
            assert_eq!(Extraction::from_processor(&result).unwrap_err()[0].pointer, pointer, "{result}");
        }
    }
}
