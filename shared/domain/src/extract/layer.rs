//! Layers of fields, and how they become one posting: per field, the first valid value wins.

use std::collections::BTreeMap;

use crate::posting::{FieldProvenance, PostingFields, Via};
use crate::state::TrustLevel;

/// How far a layer is believed: the `m` of §8.
pub(crate) const fn confidence_of(via: Via) -> f64 {
    match via {
        Via::JsonLd => 0.98,
        Via::Microdata | Via::Rdfa => 0.95,
        Via::Opengraph | Via::Html => 0.70,
        Via::Hints => FREE_TEXT_HINTS,
    }
}

/// How far a connector's hints in free text are believed.
pub(crate) const FREE_TEXT_HINTS: f64 = 0.50;

/// How far a connector's structured hints are believed.
pub(crate) const fn structured_hints(trust: TrustLevel) -> f64 {
    match trust {
        TrustLevel::Trusted => 0.90,
        TrustLevel::SemiTrusted | TrustLevel::Untrusted => 0.60,
    }
}

/// Fields from one place.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// Where they are from.
    pub(crate) via: Via,
    /// How far they are believed.
    pub(crate) confidence: f64,
    /// The values, all of them valid; absent is absent.
    pub(crate) fields: PostingFields,
}

impl Layer {
    /// A layer believed as its kind is.
    pub(crate) fn new(via: Via, fields: PostingFields) -> Self {
        Self { via, confidence: confidence_of(via), fields }
    }
}

/// A posting in the making.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    /// The fields that are set so far.
    pub(crate) fields: PostingFields,
    /// Where each came from.
    pub(crate) provenance: BTreeMap<String, FieldProvenance>,
}

impl Merged {
    /// Notes where a field came from.
    pub(crate) fn note(&mut self, field: &str, via: Via, confidence: f64) {
        let provenance =
            FieldProvenance { via, confidence, evidence_id: None, discovery_id: None, captured_at: None };
        self.provenance.insert(field.to_owned(), provenance);
    }

    /// Gives a field the origin of another one that it was made from.
    pub(crate) fn note_like(&mut self, field: &str, model: &str) {
        if let Some(provenance) = self.provenance.get(model).cloned() {
            self.provenance.insert(field.to_owned(), provenance);
        }
    }

    /// The layer that a field came from.
    pub(crate) fn via(&self, field: &str) -> Option<Via> {
        self.provenance.get(field).map(|provenance| provenance.via)
    }

    /// Fills in what is not yet set.
    pub(crate) fn take(&mut self, layer: &Layer) {
        let from = &layer.fields;
        let mut taken: Vec<&'static str> = Vec::new();
        macro_rules! take {
            ($($field:ident),* ; $($list:ident),*) => {
                $(if self.fields.$field.is_none() && from.$field.is_some() {
                    self.fields.$field.clone_from(&from.$field);
                    taken.push(stringify!($field));
                })*
                $(if self.fields.$list.is_empty() && !from.$list.is_empty() {
                    self.fields.$list.clone_from(&from.$list);
                    taken.push(stringify!($list));
                })*
            };
        }
        // A deadline's instant and day are of one source, or they would contradict each other.
        let had_deadline = self.fields.deadline.is_some() || self.fields.deadline_date.is_some();
        take!(
            title, organization_name, canonical_url, description_text, summary, country, region, city, remote, salary,
            application_url, date_posted, identifier, language, sector, degree_level, opportunity_kind;
            locations, applicant_countries, employment_type, tags, areas
        );
        if !had_deadline {
            take!(deadline, deadline_date;);
        }
        for field in taken {
            self.note(field, layer.via, layer.confidence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_layer_with_a_value_wins_field_by_field() {
        let fields = |title: Option<&str>, city: Option<&str>, tags: &[&str]| PostingFields {
            title: title.map(str::to_owned),
            city: city.map(str::to_owned),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..PostingFields::default()
        };
        let mut merged = Merged::default();
        merged.take(&Layer::new(Via::JsonLd, fields(Some("a"), None, &[])));
        merged.take(&Layer::new(Via::Microdata, fields(Some("b"), Some("c"), &[])));
        merged.take(&Layer::new(Via::Html, fields(Some("d"), Some("e"), &["f"])));
        assert_eq!(merged.fields, fields(Some("a"), Some("c"), &["f"]));
        let via: Vec<_> = merged.provenance.iter().map(|(field, p)| (field.as_str(), p.via)).collect();
        assert_eq!(via, [("city", Via::Microdata), ("tags", Via::Html), ("title", Via::JsonLd)]);
    }

    #[test]
    fn a_deadline_is_taken_whole() {
        let layer = |deadline: Option<&str>, date: Option<&str>| {
            Layer::new(
                Via::Html,
                PostingFields {
                    deadline: deadline.map(|text| text.parse().unwrap()),
                    deadline_date: date.map(|text| text.parse().unwrap()),
                    ..PostingFields::default()
                },
            )
        };
        let mut merged = Merged::default();
        merged.take(&layer(Some("2026-12-31T12:00:00Z"), None));
        merged.take(&layer(None, Some("2027-01-15")));
        assert_eq!(merged.fields.deadline_date, None);
    }
}
