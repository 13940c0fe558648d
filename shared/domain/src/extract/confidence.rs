//! How far an extracted posting is believed (§8), computed by callboard for every result.

use super::layer::{FREE_TEXT_HINTS, confidence_of, structured_hints};
use super::result::{Conflict, ExtractedPosting};
use crate::posting::{FieldProvenance, Via};
use crate::state::TrustLevel;

/// Weight of the title's origin; the organisation's has the rest.
const TITLE_WEIGHT: f64 = 0.7;

/// What each of no place, no description, and each conflict costs.
const PENALTY: f64 = 0.05;

/// Conflicts that count.
const CONFLICTS_MAX: usize = 3;

/// Who made a result, and so how far its claims of origin are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultSource {
    /// Callboard's own extraction: the confidence of each field is what extraction set.
    Callboard,
    /// An external processor: only `via` is read, and capped by the lower of the two.
    Processor {
        /// Trust of the processor's module.
        module_trust: TrustLevel,
        /// Effective trust of the discovery.
        discovery_trust: TrustLevel,
    },
}

impl ResultSource {
    /// How far a field of this origin is believed: what extraction set for callboard's own, else what the layer is worth,
    /// at most the cap of the two trusts. Without an origin it counts as a hint in free text.
    #[must_use]
    pub fn believed(self, provenance: Option<&FieldProvenance>) -> f64 {
        let believed = match (provenance, self) {
            (Some(provenance), Self::Callboard) => provenance.confidence,
            (Some(provenance), Self::Processor { discovery_trust, .. }) if provenance.via == Via::Hints => {
                structured_hints(discovery_trust)
            }
            (Some(provenance), Self::Processor { .. }) => confidence_of(provenance.via),
            (None, _) => FREE_TEXT_HINTS,
        };
        believed.min(self.cap())
    }

    /// The most that a field can be believed.
    fn cap(self) -> f64 {
        match self {
            Self::Callboard => 1.0,
            Self::Processor { module_trust, discovery_trust } => {
                match module_trust.rank().min(discovery_trust.rank()) {
                    3 => 0.98,
                    2 => 0.80,
                    _ => 0.50,
                }
            }
        }
    }
}

/// 0.7·m(title) + 0.3·m(organization), minus 0.05 each for no place and not remote, for no
/// description, and for each of up to three conflicts; within [0, 1], to 4 decimals.
pub fn extraction_confidence(
    posting: &ExtractedPosting,
    conflicts: &[Conflict],
    source: ResultSource,
) -> f64 {
    let fields = &posting.fields;
    let m = |field: &str, is_set: bool| {
        if !is_set {
            return 0.0;
        }
        source.believed(posting.field_provenance.get(field))
    };
    let mut confidence = TITLE_WEIGHT * m("title", fields.title.is_some())
        + (1.0 - TITLE_WEIGHT) * m("organization_name", fields.organization_name.is_some());
    let has_place = fields.country.is_some()
        || fields.region.is_some()
        || fields.city.is_some()
        || !fields.locations.is_empty()
        || fields.remote == Some(true);
    if !has_place {
        confidence -= PENALTY;
    }
    if fields.description_text.is_none() {
        confidence -= PENALTY;
    }
    confidence -= PENALTY * conflicts.len().min(CONFLICTS_MAX) as f64;
    (confidence.clamp(0.0, 1.0) * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posting::{FieldProvenance, PostingFields};

    fn posting(title: Option<Via>, organization: Option<Via>, is_full: bool) -> ExtractedPosting {
        let text = |is_set: bool| is_set.then(|| "x".to_owned());
        let mut posting = ExtractedPosting {
            fields: PostingFields {
                title: text(title.is_some()),
                organization_name: text(organization.is_some()),
                city: text(is_full),
                description_text: text(is_full),
                ..PostingFields::default()
            },
            ..ExtractedPosting::default()
        };
        for (field, via) in [("title", title), ("organization_name", organization)] {
            if let Some(via) = via {
                let provenance = FieldProvenance {
                    via,
                    confidence: confidence_of(via),
                    evidence_id: None,
                    discovery_id: None,
                    captured_at: None,
                };
                posting.field_provenance.insert(field.to_owned(), provenance);
            }
        }
        posting
    }

    #[test]
    fn the_formula_of_the_specification_holds() {
        use ResultSource::Callboard;
        let conflict = Conflict { field: "deadline".to_owned(), values: vec![] };
        let processor =
            |module_trust, discovery_trust| ResultSource::Processor { module_trust, discovery_trust };
        let json_ld = posting(Some(Via::JsonLd), Some(Via::JsonLd), true);
        for (posting, conflicts, source, expected) in [
            (json_ld.clone(), 0, Callboard, 0.98),
            (posting(Some(Via::Microdata), Some(Via::Microdata), true), 0, Callboard, 0.95),
            (posting(Some(Via::Html), Some(Via::Opengraph), true), 0, Callboard, 0.7),
            (posting(Some(Via::JsonLd), None, true), 0, Callboard, 0.686),
            (posting(Some(Via::JsonLd), Some(Via::Hints), true), 0, Callboard, 0.836),
            (posting(Some(Via::JsonLd), Some(Via::JsonLd), false), 0, Callboard, 0.88),
            (json_ld.clone(), 1, Callboard, 0.93),
            (json_ld.clone(), 5, Callboard, 0.83),
            (posting(None, None, false), 0, Callboard, 0.0),
            (json_ld.clone(), 0, processor(TrustLevel::Trusted, TrustLevel::SemiTrusted), 0.8),
            (json_ld.clone(), 0, processor(TrustLevel::Trusted, TrustLevel::Trusted), 0.98),
            (json_ld, 0, processor(TrustLevel::Untrusted, TrustLevel::Trusted), 0.5),
        ] {
            let conflicts = vec![conflict.clone(); conflicts];
            assert_eq!(extraction_confidence(&posting, &conflicts, source), expected);
        }
    }

    #[test]
    fn a_processors_own_confidence_is_not_believed() {
        let mut posting = posting(Some(Via::Html), Some(Via::Html), true);
        for provenance in posting.field_provenance.values_mut() {
            provenance.confidence = 1.0;
        }
        let source = ResultSource::Processor {
            module_trust: TrustLevel::Trusted,
            discovery_trust: TrustLevel::Trusted,
        };
        assert_eq!(extraction_confidence(&posting, &[], source), 0.7);
    }
}
