//! Posting fields in foreign JSON: a connector's hints, a processor's result.
//!
//! Reading gives both the fields in normal form and everything that is wrong, so that one reader
//! serves the API, which refuses, and extraction, which leaves out.

use jiff::civil::Date;
use serde_json::{Map, Value};

use super::limits::*;
use super::{FieldError, Location, OpportunityKind, PostingFields, Salary, SalaryUnit};
use crate::extract::{country, dates, employment, language, words};
use crate::text::check_input;

/// Reads the posting fields of an object. `free` names further members that are left alone; any
/// other unknown member is an error. Null is the same as absent. `pointer` is the JSON Pointer of
/// the object itself.
pub fn read_fields(
    object: &Map<String, Value>,
    pointer: &str,
    free: &[&str],
    errors: &mut Vec<FieldError>,
) -> PostingFields {
    let mut fields = PostingFields::default();
    for (name, value) in object {
        if free.contains(&name.as_str()) {
            continue;
        }
        let mut at = Reader { pointer: format!("{pointer}/{}", escape(name)), errors };
        if value.is_null() {
            if !FIELD_NAMES.contains(&name.as_str()) {
                at.unknown();
            }
            continue;
        }
        match name.as_str() {
            "title" => fields.title = at.line(value, TITLE_CHARS_MAX),
            "organization_name" => {
                fields.organization_name = at.line(value, ORGANIZATION_CHARS_MAX);
            }
            "canonical_url" => fields.canonical_url = at.url(value),
            "description_text" => fields.description_text = at.text(value, DESCRIPTION_CHARS_MAX),
            "summary" => fields.summary = at.line(value, SUMMARY_CHARS_MAX),
            "country" => fields.country = at.country(value),
            "region" => fields.region = at.line(value, PLACE_CHARS_MAX),
            "city" => fields.city = at.line(value, PLACE_CHARS_MAX),
            "remote" => fields.remote = at.bool(value),
            "locations" => fields.locations = at.list(value, LOCATIONS_MAX, |at, v| at.location(v)),
            "applicant_countries" => {
                fields.applicant_countries =
                    without_repeats(at.list(value, APPLICANT_COUNTRIES_MAX, |at, v| at.country(v)));
            }
            "salary" => fields.salary = at.salary(value),
            "application_url" => fields.application_url = at.url(value),
            "deadline" => {
                if let Some(moment) = at.moment(value) {
                    fields.deadline = Some(moment.instant);
                    fields.deadline_date.get_or_insert(moment.date);
                }
            }
            "deadline_date" => fields.deadline_date = at.date(value).or(fields.deadline_date),
            "date_posted" => fields.date_posted = at.date(value),
            "employment_type" => {
                fields.employment_type =
                    without_repeats(at.list(value, EMPLOYMENT_TYPES_MAX, |at, v| at.employment(v)));
            }
            "identifier" => fields.identifier = at.line(value, LABEL_CHARS_MAX),
            "language" => fields.language = at.language(value),
            "sector" => fields.sector = at.line(value, LABEL_CHARS_MAX),
            "degree_level" => fields.degree_level = at.line(value, LABEL_CHARS_MAX),
            "tags" => {
                fields.tags = without_repeats(at.list(value, TAGS_MAX, |at, v| at.line(v, TAG_CHARS_MAX)));
            }
            "areas" => {
                fields.areas = without_repeats(at.list(value, AREAS_MAX, |at, v| at.line(v, AREA_CHARS_MAX)));
            }
            "opportunity_kind" => fields.opportunity_kind = at.kind(value),
            _ => at.unknown(),
        }
    }
    fields
}

/// The names of all posting fields, in the order of [`PostingFields`].
pub const FIELD_NAMES: [&str; 24] = [
    "title",
    "organization_name",
    "canonical_url",
    "description_text",
    "summary",
    "country",
    "region",
    "city",
    "remote",
    "locations",
    "applicant_countries",
    "salary",
    "application_url",
    "deadline",
    "deadline_date",
    "date_posted",
    "employment_type",
    "identifier",
    "language",
    "sector",
    "degree_level",
    "tags",
    "areas",
    "opportunity_kind",
];

/// Checks a free text: not empty, not longer than `chars_max`, no forbidden characters.
pub(crate) fn check_text(text: &str, chars_max: usize, pointer: &str, errors: &mut Vec<FieldError>) -> bool {
    let mut at = Reader { pointer: pointer.to_owned(), errors };
    if let Err(error) = check_input(text) {
        at.error(error.code(), error.to_string());
    } else if text.trim().is_empty() {
        at.error("empty", "must not be empty; leave it out instead");
    } else if text.chars().count() > chars_max {
        at.error("too_long", format!("must have at most {chars_max} characters"));
    } else {
        return true;
    }
    false
}

/// Escapes a member's name for a JSON Pointer (RFC 6901 section 3).
pub(crate) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn without_repeats(values: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::with_capacity(values.len());
    for value in values {
        if !kept.contains(&value) {
            kept.push(value);
        }
    }
    kept
}

/// Reads one value and notes what is wrong with it under its pointer.
struct Reader<'a> {
    pointer: String,
    errors: &'a mut Vec<FieldError>,
}

impl Reader<'_> {
    fn error(&mut self, code: &'static str, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: self.pointer.clone(), code, detail: detail.into() });
    }

    fn unknown(&mut self) {
        self.error("unknown_field", "is not a posting field");
    }

    fn wrong_type(&mut self, wanted: &str) {
        self.error("invalid_type", format!("must be {wanted}"));
    }

    fn child(&mut self, name: impl std::fmt::Display) -> Reader<'_> {
        Reader { pointer: format!("{}/{name}", self.pointer), errors: self.errors }
    }

    fn str<'v>(&mut self, value: &'v Value, chars_max: usize) -> Option<&'v str> {
        let Some(text) = value.as_str() else {
            self.wrong_type("a string");
            return None;
        };
        check_text(text, chars_max, &self.pointer, self.errors).then_some(text)
    }

    fn text(&mut self, value: &Value, chars_max: usize) -> Option<String> {
        self.str(value, chars_max).map(words::clean_text)
    }

    fn line(&mut self, value: &Value, chars_max: usize) -> Option<String> {
        self.str(value, chars_max).map(words::clean_line)
    }

    fn url(&mut self, value: &Value) -> Option<String> {
        let text = self.str(value, URL_CHARS_MAX)?;
        match url::Url::parse(text.trim()) {
            Ok(url)
                if matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && url.username().is_empty()
                    && url.password().is_none() =>
            {
                Some(url.into())
            }
            _ => {
                self.error("invalid_url", "must be an absolute http or https URL without user");
                None
            }
        }
    }

    fn bool(&mut self, value: &Value) -> Option<bool> {
        if !value.is_boolean() {
            self.wrong_type("true or false");
        }
        value.as_bool()
    }

    fn list<T>(
        &mut self,
        value: &Value,
        len_max: usize,
        read: impl Fn(&mut Reader<'_>, &Value) -> Option<T>,
    ) -> Vec<T> {
        let Some(values) = value.as_array() else {
            self.wrong_type("an array");
            return Vec::new();
        };
        if values.len() > len_max {
            self.error("too_many", format!("must have at most {len_max} items"));
            return Vec::new();
        }
        values.iter().enumerate().filter_map(|(index, value)| read(&mut self.child(index), value)).collect()
    }

    fn country(&mut self, value: &Value) -> Option<String> {
        let code = country::code_of(self.str(value, PLACE_CHARS_MAX)?);
        if code.is_none() {
            self.error("invalid_value", "must be an ISO 3166-1 code or the name of a country");
        }
        code.map(str::to_owned)
    }

    fn location(&mut self, value: &Value) -> Option<Location> {
        let Some(object) = value.as_object() else {
            self.wrong_type("an object of country, region, city");
            return None;
        };
        let mut location = Location::default();
        for (name, value) in object {
            let mut at = self.child(escape(name));
            match name.as_str() {
                "country" | "region" | "city" if value.is_null() => {}
                "country" => location.country = at.country(value),
                "region" => location.region = at.line(value, PLACE_CHARS_MAX),
                "city" => location.city = at.line(value, PLACE_CHARS_MAX),
                _ => at.error("unknown_field", "is not a member of a location"),
            }
        }
        (!location.is_empty()).then_some(location)
    }

    fn salary(&mut self, value: &Value) -> Option<Salary> {
        let Some(object) = value.as_object() else {
            self.wrong_type("an object of min, max, currency, unit");
            return None;
        };
        let errors_before = self.errors.len();
        let mut salary = Salary::default();
        for (name, value) in object {
            let mut at = self.child(escape(name));
            match name.as_str() {
                "min" | "max" | "currency" | "unit" if value.is_null() => {}
                "min" => salary.min = at.amount(value),
                "max" => salary.max = at.amount(value),
                "currency" => salary.currency = at.currency(value),
                "unit" => salary.unit = at.unit(value),
                _ => at.error("unknown_field", "is not a member of a salary"),
            }
        }
        if let (Some(min), Some(max)) = (salary.min, salary.max)
            && min > max
        {
            self.child("max").error("invalid_value", "must not be below min");
        }
        if salary.min.is_none() && salary.max.is_none() && self.errors.len() == errors_before {
            self.error("invalid_value", "must have min or max");
        }
        (self.errors.len() == errors_before).then_some(salary)
    }

    fn amount(&mut self, value: &Value) -> Option<f64> {
        match value.as_f64() {
            Some(amount) if (0.0..=SALARY_MAX).contains(&amount) => Some(amount),
            Some(_) => {
                self.error("invalid_value", "must be between 0 and 1e9");
                None
            }
            None => {
                self.wrong_type("a number");
                None
            }
        }
    }

    fn currency(&mut self, value: &Value) -> Option<String> {
        let text = self.str(value, 3)?;
        if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Some(text.to_owned());
        }
        self.error("invalid_value", "must be an ISO 4217 code such as EUR");
        None
    }

    fn unit(&mut self, value: &Value) -> Option<SalaryUnit> {
        let unit = serde_json::from_value(value.clone()).ok();
        if unit.is_none() {
            self.error("invalid_value", "must be HOUR, DAY, WEEK, MONTH or YEAR");
        }
        unit
    }

    /// An instant with its offset, or a day, which stands for its end.
    fn moment(&mut self, value: &Value) -> Option<dates::Moment> {
        let text = self.str(value, LABEL_CHARS_MAX)?;
        let moment = dates::read_rfc3339(text);
        if moment.is_none() {
            self.error("invalid_value", "must be an RFC 3339 time with an offset, or a date");
        }
        moment
    }

    fn date(&mut self, value: &Value) -> Option<Date> {
        let date = self.str(value, LABEL_CHARS_MAX)?.trim().parse().ok();
        if date.is_none() {
            self.error("invalid_value", "must be a date such as 2026-12-31");
        }
        date
    }

    fn employment(&mut self, value: &Value) -> Option<String> {
        let word = employment::word_of(self.str(value, LABEL_CHARS_MAX)?);
        if word.is_none() {
            self.error(
                "invalid_value",
                "must be one of FULL_TIME, PART_TIME, CONTRACTOR, TEMPORARY, INTERN, VOLUNTEER, PER_DIEM, OTHER",
            );
        }
        word.map(str::to_owned)
    }

    fn language(&mut self, value: &Value) -> Option<String> {
        let tag = language::tag_of(self.str(value, LANGUAGE_CHARS_MAX)?);
        if tag.is_none() {
            self.error("invalid_value", "must be a BCP 47 tag such as en or pt-BR");
        }
        tag
    }

    fn kind(&mut self, value: &Value) -> Option<OpportunityKind> {
        let kind = OpportunityKind::parse(self.str(value, LABEL_CHARS_MAX)?);
        if kind.is_none() {
            let known = OpportunityKind::ALL.map(OpportunityKind::as_str).join(", ");
            self.error("invalid_value", format!("must be one of {known}"));
        }
        kind
    }
}
