//! The limits of §8, shared by extraction (which cuts or drops) and by the API (which refuses).
//! Lengths are counted in Unicode scalar values.

/// Characters of a title.
pub const TITLE_CHARS_MAX: usize = 300;
/// Characters of an organisation's name.
pub const ORGANIZATION_CHARS_MAX: usize = 200;
/// Characters of any URL that is stored.
pub const URL_CHARS_MAX: usize = 2_048;
/// Characters of a description and of a connector's `text_hint`.
pub const DESCRIPTION_CHARS_MAX: usize = 50_000;
/// Characters of a summary.
pub const SUMMARY_CHARS_MAX: usize = 280;
/// Places of one posting.
pub const LOCATIONS_MAX: usize = 20;
/// Characters of a region or a city: the longest place names are under 90.
pub const PLACE_CHARS_MAX: usize = 120;
/// Countries that applicants may live in.
pub const APPLICANT_COUNTRIES_MAX: usize = 50;
/// Employment types: schema.org's list has eight.
pub const EMPLOYMENT_TYPES_MAX: usize = 8;
/// Tags of one posting.
pub const TAGS_MAX: usize = 30;
/// Characters of a tag.
pub const TAG_CHARS_MAX: usize = 50;
/// Research areas of one posting.
pub const AREAS_MAX: usize = 20;
/// Characters of a research area.
pub const AREA_CHARS_MAX: usize = 80;
/// Characters of an identifier, of a sector and of a degree level.
pub const LABEL_CHARS_MAX: usize = 200;
/// Characters of a language tag: RFC 5646 section 4.4.1 has 35 as what is needed in practice.
pub const LANGUAGE_CHARS_MAX: usize = 35;
/// No salary is above this in any currency; more is a misread phone or account number.
pub const SALARY_MAX: f64 = 1.0e9;
/// URLs found on a listing.
pub const DISCOVERED_URLS_MAX: usize = 200;
/// Warnings of one extraction.
pub const WARNINGS_MAX: usize = 50;
/// Fields of one extraction that can be in conflict, and values of each.
pub const CONFLICTS_MAX: usize = 20;
