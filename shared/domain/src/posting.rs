//! The fields of a posting (`domain.md` §8), what a connector may say about them beforehand, and
//! where each of them came from.
//!
//! One shape serves everywhere: extraction fills it, a connector's `hints` are written in it, an
//! external processor answers in it, a candidate stores it. Its limits are the constants of
//! [`limits`], checked for foreign input by [`read::read_fields`], which reports everything that
//! is wrong at once.

mod hints;
pub mod limits;
pub mod read;

pub use hints::Hints;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// What is known of a posting. An absent member is unknown: nothing is ever guessed into it.
///
/// Members are in the order in which the API shows them. Strings are NFC, trimmed, without
/// control characters, and within [`limits`] when they come from extraction or from
/// [`read::read_fields`]; a value deserialized from the database is trusted to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PostingFields {
    /// 1–300 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// 1–200 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_name: Option<String>,
    /// Absolute http(s) URL, ≤ 2,048 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canonical_url: Option<String>,
    /// Plain text, ≤ 50,000 characters, a newline between blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description_text: Option<String>,
    /// The description's beginning or an enrichment, ≤ 280 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// ISO 3166-1 alpha-2, upper case; equal to the first of `locations`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// State, Land, province: as the publisher writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// City or town, as the publisher writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// True only if the publisher says so (schema.org `TELECOMMUTE`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<bool>,
    /// Every place of work, ≤ 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locations: Vec<Location>,
    /// For remote work: the countries that applicants may live in, ISO codes, ≤ 50.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub applicant_countries: Vec<String>,
    /// Pay, where a number is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salary: Option<Salary>,
    /// Absolute http(s) URL where one applies, ≤ 2,048 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_url: Option<String>,
    /// The instant after which applications are late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The publisher's calendar day of the deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_date: Option<Date>,
    /// The day of publication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date_posted: Option<Date>,
    /// schema.org's words (`FULL_TIME`, `PART_TIME`, …), without repeats.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub employment_type: Vec<String>,
    /// The publisher's own reference number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// BCP 47 tag of the text, such as `en` or `pt-BR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Industry or field of the employer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sector: Option<String>,
    /// Degree that is required, as the publisher writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degree_level: Option<String>,
    /// ≤ 30 of ≤ 50 characters each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Research areas, ≤ 20 of ≤ 80 characters each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub areas: Vec<String>,
    /// What kind of opportunity it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opportunity_kind: Option<OpportunityKind>,
}

/// A place of work. At least one member is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Location {
    /// ISO 3166-1 alpha-2, upper case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// State, Land, province.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// City or town.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
}

impl Location {
    /// Whether nothing at all is known of the place.
    pub fn is_empty(&self) -> bool {
        self.country.is_none() && self.region.is_none() && self.city.is_none()
    }
}

/// Pay. A single amount stands in both `min` and `max`; at least one of them is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Salary {
    /// Lower bound in `currency`, ≥ 0.
    pub min: Option<f64>,
    /// Upper bound in `currency`, ≥ `min`.
    pub max: Option<f64>,
    /// ISO 4217 code, upper case.
    pub currency: Option<String>,
    /// The span that the amount is for.
    pub unit: Option<SalaryUnit>,
}

/// The span of time that a salary is for, in schema.org's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SalaryUnit {
    /// Per hour.
    Hour,
    /// Per day.
    Day,
    /// Per week.
    Week,
    /// Per month.
    Month,
    /// Per year.
    Year,
}

/// The kinds of opportunity that callboard tells apart (`domain.md` §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpportunityKind {
    /// A doctoral position.
    Phd,
    /// A position after the doctorate.
    Postdoc,
    /// A personal stipend or fellowship.
    Fellowship,
    /// Money for a project.
    Grant,
    /// A call for papers, proposals, applications.
    Call,
    /// A professorship or lectureship.
    Faculty,
    /// Research assistants, technicians, engineers, scientists.
    ResearchStaff,
    /// An internship or a student job.
    Internship,
    /// Anything else.
    Other,
}

impl OpportunityKind {
    /// Every kind, in the order of the specification.
    pub const ALL: [Self; 9] = [
        Self::Phd,
        Self::Postdoc,
        Self::Fellowship,
        Self::Grant,
        Self::Call,
        Self::Faculty,
        Self::ResearchStaff,
        Self::Internship,
        Self::Other,
    ];

    /// The word used in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Phd => "phd",
            Self::Postdoc => "postdoc",
            Self::Fellowship => "fellowship",
            Self::Grant => "grant",
            Self::Call => "call",
            Self::Faculty => "faculty",
            Self::ResearchStaff => "research_staff",
            Self::Internship => "internship",
            Self::Other => "other",
        }
    }

    /// The kind of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// The layer of §8 that a field's value was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// schema.org JobPosting in a JSON-LD block.
    JsonLd,
    /// schema.org JobPosting in microdata.
    Microdata,
    /// schema.org JobPosting in RDFa.
    Rdfa,
    /// OpenGraph and similar `meta` elements.
    Opengraph,
    /// Headings, labelled terms, links, and the title element of the page.
    Html,
    /// What the connector said.
    Hints,
}

impl Via {
    /// The word used in `field_provenance`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JsonLd => "json-ld",
            Self::Microdata => "microdata",
            Self::Rdfa => "rdfa",
            Self::Opengraph => "opengraph",
            Self::Html => "html",
            Self::Hints => "hints",
        }
    }
}

/// Where one field of a posting came from.
///
/// Extraction sets `via` and `confidence`; whoever stores the result adds the rest, which a page
/// cannot know. A processor's `confidence` is never believed (§0, rule 4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldProvenance {
    /// The layer.
    pub via: Via,
    /// How far the layer is believed, 0–1: the `m` of §8.
    #[serde(default)]
    pub confidence: f64,
    /// The evidence that holds the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_id: Option<uuid::Uuid>,
    /// The discovery that led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery_id: Option<uuid::Uuid>,
    /// When the page was fetched or the hint received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured_at: Option<Timestamp>,
}

/// One thing that is wrong with foreign input, addressed by a JSON Pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON Pointer into the value that was given, such as `/hints/deadline`.
    pub pointer: String,
    /// A stable word: `unknown_field`, `invalid_type`, `empty`, `too_long`, `too_many`,
    /// `invalid_value`, `invalid_url`, or one of [`crate::text::TextError::code`].
    pub code: &'static str,
    /// What is wrong and what is allowed, for a person.
    pub detail: String,
}
