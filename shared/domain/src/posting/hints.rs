//! What a connector says of a posting beforehand (`http-api.md` §4).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::limits::{DESCRIPTION_CHARS_MAX, ORGANIZATION_CHARS_MAX, TITLE_CHARS_MAX};
use super::read::{check_text, read_fields};
use super::{FieldError, PostingFields};

/// The hint members of `POST /discoveries`.
///
/// The shape is loose on purpose, so that a request with three mistakes is told of all three:
/// deserializing checks only that the members are the known ones and of their type, and
/// [`Hints::validate`] finds the rest. The member `extra` of `hints` is free-form.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hints {
    /// A title in free text, ≤ 300 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title_hint: Option<String>,
    /// An organisation's name in free text, ≤ 200 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_hint: Option<String>,
    /// A description in free text, ≤ 50,000 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_hint: Option<String>,
    /// Posting fields, in the form and within the limits of [`PostingFields`]; may also be null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hints: Option<Map<String, Value>>,
}

impl Hints {
    /// Everything that is wrong with the hints; empty if they may be stored.
    ///
    /// Pointers are relative to the object that carries the members, so they fit the body of
    /// `POST /discoveries` as they are.
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (pointer, text, chars_max) in [
            ("/title_hint", &self.title_hint, TITLE_CHARS_MAX),
            ("/organization_hint", &self.organization_hint, ORGANIZATION_CHARS_MAX),
            ("/text_hint", &self.text_hint, DESCRIPTION_CHARS_MAX),
        ] {
            if let Some(text) = text {
                check_text(text, chars_max, pointer, &mut errors);
            }
        }
        if let Some(hints) = &self.hints {
            read_fields(hints, "/hints", &["extra"], &mut errors);
        }
        errors
    }

    /// The structured hints that are valid; what is not valid is left out.
    pub fn fields(&self) -> PostingFields {
        let mut ignored = Vec::new();
        self.hints
            .as_ref()
            .map(|hints| read_fields(hints, "/hints", &["extra"], &mut ignored))
            .unwrap_or_default()
    }

    /// Whether nothing at all is said.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(hints: Value) -> Vec<(String, &'static str)> {
        let hints: Hints = serde_json::from_value(hints).unwrap();
        hints.validate().into_iter().map(|error| (error.pointer, error.code)).collect()
    }

    #[test]
    fn every_mistake_is_reported_with_its_pointer() {
        let found = errors(json!({
            "title_hint": "x".repeat(301),
            "organization_hint": "A\u{202e}B",
            "hints": {
                "titel": "a typo",
                "country": "Atlantis",
                "deadline": "2026-12-31T23:59:00",
                "locations": [{"city": "Graz"}, {"town": "Linz"}],
                "salary": {"min": 5, "max": 3},
                "tags": vec!["t"; 31],
                "application_url": "javascript:alert(1)",
                "extra": {"anything": ["goes"]},
            },
        }));
        assert_eq!(
            found,
            [
                ("/title_hint", "too_long"),
                ("/organization_hint", "bidi_character"),
                ("/hints/titel", "unknown_field"),
                ("/hints/country", "invalid_value"),
                ("/hints/deadline", "invalid_value"),
                ("/hints/locations/1/town", "unknown_field"),
                ("/hints/salary/max", "invalid_value"),
                ("/hints/tags", "too_many"),
                ("/hints/application_url", "invalid_url"),
            ]
            .map(|(pointer, code)| (pointer.to_owned(), code))
        );
    }

    #[test]
    fn sound_hints_pass_and_are_read_in_normal_form() {
        let hints: Hints = serde_json::from_value(json!({
            "title_hint": "PhD position",
            "hints": {
                "title": "  PhD   position ",
                "country": "Germany",
                "deadline": "2026-12-31T23:59:00+01:00",
                "employment_type": ["full-time", "FULL_TIME"],
                "summary": null,
                "opportunity_kind": "phd",
            },
        }))
        .unwrap();
        assert_eq!(hints.validate(), []);
        let fields = hints.fields();
        assert_eq!(fields.title.as_deref(), Some("PhD position"));
        assert_eq!(fields.country.as_deref(), Some("DE"));
        assert_eq!(fields.deadline.unwrap().to_string(), "2026-12-31T22:59:00Z");
        assert_eq!(fields.deadline_date.unwrap().to_string(), "2026-12-31");
        assert_eq!(fields.employment_type, ["FULL_TIME"]);
        assert_eq!(fields.summary, None);
    }

    #[test]
    fn a_bad_hint_hides_no_good_one() {
        let hints: Hints = serde_json::from_value(json!({"hints": {"city": 5, "region": "Tirol"}})).unwrap();
        assert_eq!(hints.validate().len(), 1);
        assert_eq!(hints.fields().region.as_deref(), Some("Tirol"));
    }
}
