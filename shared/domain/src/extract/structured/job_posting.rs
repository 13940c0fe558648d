//! From a schema.org `JobPosting` to posting fields.

use serde_json::{Map, Value};
use url::Url;

use super::graph::{Graph, each, property};
use super::money::salary_of;
use super::place::location_of;
use crate::extract::country::code_of;
use crate::extract::dates::{self, Moment, NoDate, SlashOrder};
use crate::extract::head::Head;
use crate::extract::text::{description_text, markup_text};
use crate::extract::warnings::Warnings;
use crate::extract::words::{clean_line, cut, fold};
use crate::extract::{employment, language, title};
use crate::posting::limits::*;
use crate::posting::{Location, PostingFields};
use crate::text::truncate_chars;

/// What reading a posting depends on besides its object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// The page, for relative addresses.
    pub(crate) head: &'a Head,
    /// How slashed dates are read.
    pub(crate) order: SlashOrder,
}

/// A posting read from structured data.
#[derive(Debug, Default, Clone)]
pub(crate) struct StructuredPosting {
    /// The fields that have a valid value.
    pub(crate) fields: PostingFields,
    /// The deadline with what was said of its time and offset.
    pub(crate) deadline: Option<Moment>,
    /// The posting's own addresses: `url`, `@id`, `mainEntityOfPage`, `sameAs`.
    pub(crate) urls: Vec<Url>,
}

/// Reads a posting. What is not valid is left out; dates that cannot be are remarked.
pub(crate) fn read<'a>(
    graph: &Graph<'a>,
    posting: &'a Map<String, Value>,
    reading: Reading<'_>,
    warnings: &mut Warnings,
) -> StructuredPosting {
    let mut fields = PostingFields::default();
    let organization = graph.values(posting, "hiringOrganization").find_map(|value| {
        let name = match graph.object(value) {
            Some(object) => graph.text(object, "name").or_else(|| graph.text(object, "legalName")),
            None => graph.text_of(value),
        };
        organization_name(&name?)
    });
    let names: Vec<&str> =
        organization.iter().map(String::as_str).chain(reading.head.meta("og:site_name")).collect();
    fields.title = ["title", "name"].into_iter().find_map(|name| {
        graph.values(posting, name).find_map(|value| title::read(&graph.text_of(value)?, &names))
    });
    fields.organization_name = organization.clone();
    fields.description_text = graph
        .values(posting, "description")
        .filter_map(|value| graph.text_of(value))
        .map(|text| description_text(&text))
        .find(|text| !text.is_empty())
        .map(|text| truncate_chars(&text, DESCRIPTION_CHARS_MAX).trim_end().to_owned());
    read_places(graph, posting, &mut fields);
    fields.salary = salary_of(graph, posting);
    let deadline = ["validThrough", "applicationDeadline"]
        .into_iter()
        .find_map(|name| read_date(graph, posting, name, reading.order, warnings));
    fields.deadline = deadline.map(|moment| moment.instant);
    fields.deadline_date = deadline.map(|moment| moment.date);
    fields.date_posted =
        read_date(graph, posting, "datePosted", reading.order, warnings).map(|moment| moment.date);
    for value in graph.values(posting, "employmentType").take(2 * EMPLOYMENT_TYPES_MAX) {
        for word in graph.text_of(value).iter().flat_map(|text| employment::words_in(text)) {
            if !fields.employment_type.iter().any(|known| known == word) {
                fields.employment_type.push(word.to_owned());
            }
        }
    }
    fields.identifier = graph.values(posting, "identifier").find_map(|value| {
        let text = match graph.object(value) {
            Some(object) => graph.text(object, "value").or_else(|| graph.text(object, "propertyID")),
            None => graph.text_of(value),
        };
        label(&text?)
    });
    fields.language =
        graph.text(posting, "inLanguage").and_then(|text| language::tag_of(&text)).or_else(|| {
            let object = graph.values(posting, "inLanguage").find_map(|value| graph.object(value))?;
            language::tag_of(&graph.text(object, "alternateName")?)
        });
    fields.sector = graph.values(posting, "industry").find_map(|value| label(&graph.text_of(value)?));
    fields.degree_level = graph.values(posting, "educationRequirements").find_map(|value| {
        let text = match graph.object(value) {
            Some(object) => graph.text(object, "credentialCategory").or_else(|| graph.text(object, "name")),
            None => graph.text_of(value),
        };
        label(&text?)
    });
    fields.tags = words(graph, posting, &["keywords", "skills"], TAGS_MAX, TAG_CHARS_MAX);
    fields.application_url = graph
        .values(posting, "applicationContact")
        .filter_map(|value| graph.object(value))
        .filter_map(|contact| graph.text(contact, "url"))
        .find_map(|url| reading.head.resolve(&url))
        .map(String::from);
    let urls = own_urls(posting, reading.head);
    StructuredPosting { fields, deadline, urls }
}

/// The name of an organisation, unless it is a placeholder.
pub(crate) fn organization_name(text: &str) -> Option<String> {
    let name = clean_line(&markup_text(text));
    let is_placeholder = matches!(
        fold(&name).as_str(),
        "confidential"
            | "company confidential"
            | "n/a"
            | "na"
            | "none"
            | "null"
            | "undefined"
            | "unknown"
            | "company"
            | "employer"
            | "organization"
            | "organisation"
            | "anonymous"
            | "-"
            | "."
            | "tbd"
    );
    let has_letter = name.chars().any(char::is_alphabetic);
    (has_letter && !is_placeholder).then(|| cut(&name, ORGANIZATION_CHARS_MAX).to_owned())
}

/// A short label: one line, not empty, within its limit.
pub(crate) fn label(text: &str) -> Option<String> {
    let label = clean_line(&markup_text(text));
    let is_placeholder =
        matches!(fold(&label).as_str(), "" | "n/a" | "none" | "null" | "undefined" | "-" | "no requirements");
    (!is_placeholder && label.chars().count() <= LABEL_CHARS_MAX).then_some(label)
}

fn read_places<'a>(graph: &Graph<'a>, posting: &'a Map<String, Value>, fields: &mut PostingFields) {
    for value in graph.values(posting, "jobLocation").take(2 * LOCATIONS_MAX) {
        if let Some(location) = location_of(graph, value)
            && !fields.locations.contains(&location)
            && fields.locations.len() < LOCATIONS_MAX
        {
            fields.locations.push(location);
        }
    }
    if graph
        .values(posting, "jobLocationType")
        .filter_map(|value| graph.text_of(value))
        .any(|kind| fold(&kind).contains("telecommute"))
    {
        fields.remote = Some(true);
    }
    for value in graph.values(posting, "applicantLocationRequirements").take(2 * APPLICANT_COUNTRIES_MAX) {
        let code = graph
            .text_of(value)
            .and_then(|text| code_of(&text))
            .map(str::to_owned)
            .or_else(|| location_of(graph, value)?.country);
        if let Some(code) = code
            && !fields.applicant_countries.contains(&code)
            && fields.applicant_countries.len() < APPLICANT_COUNTRIES_MAX
        {
            fields.applicant_countries.push(code);
        }
    }
    // Remote work in one country has that country as its place; in several it has none.
    if fields.locations.is_empty()
        && let [code] = fields.applicant_countries.as_slice()
    {
        fields.locations.push(Location { country: Some(code.clone()), ..Location::default() });
    }
    spread_first_location(fields);
}

/// Puts the first location also into `country`, `region` and `city`.
pub(crate) fn spread_first_location(fields: &mut PostingFields) {
    if let Some(first) = fields.locations.first() {
        fields.country.clone_from(&first.country);
        fields.region.clone_from(&first.region);
        fields.city.clone_from(&first.city);
    }
}

fn read_date<'a>(
    graph: &Graph<'a>,
    posting: &'a Map<String, Value>,
    name: &str,
    order: SlashOrder,
    warnings: &mut Warnings,
) -> Option<Moment> {
    graph.values(posting, name).filter_map(|value| graph.text_of(value)).find_map(|text| {
        match dates::read_structured(&text, order) {
            Ok(moment) => Some(moment),
            Err(error) => {
                warn_of_date(name, &text, error, warnings);
                None
            }
        }
    })
}

/// Remarks a date that was dropped.
pub(crate) fn warn_of_date(name: &str, text: &str, error: NoDate, warnings: &mut Warnings) {
    let text = cut(text, 60);
    match error {
        NoDate::Absent => {}
        NoDate::Impossible => {
            warnings.push("impossible_date", format!("{name}: there is no day such as {text:?}"))
        }
        NoDate::Ambiguous => {
            warnings.push("ambiguous_date", format!("{name}: {text:?} can be read as two different days"));
        }
    }
}

/// Single words or short phrases of properties that hold a list, or a line with commas.
fn words<'a>(
    graph: &Graph<'a>,
    posting: &'a Map<String, Value>,
    names: &[&str],
    count_max: usize,
    chars_max: usize,
) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let values = names.iter().flat_map(|name| graph.values(posting, name).take(2 * count_max));
    for text in values.filter_map(|value| graph.text_of(value)).map(|text| clean_line(&markup_text(&text))) {
        for word in text.split([',', ';', '|']).map(str::trim).take(2 * count_max) {
            let is_short = !word.is_empty() && word.chars().count() <= chars_max;
            if is_short && found.len() < count_max && !found.iter().any(|known| fold(known) == fold(word)) {
                found.push(word.to_owned());
            }
        }
    }
    found
}

fn own_urls(posting: &Map<String, Value>, head: &Head) -> Vec<Url> {
    let mut urls: Vec<Url> = Vec::new();
    let id = posting.get("@id").into_iter();
    let values = ["url", "mainEntityOfPage", "sameAs"].into_iter().filter_map(|name| property(posting, name));
    for value in values.chain(id).flat_map(|value| each(value).take(8)) {
        let text = match value {
            Value::String(text) => Some(text.as_str()),
            Value::Object(object) => object.get("@id").and_then(Value::as_str),
            _ => None,
        };
        // A fragment alone names the object, not a page.
        let text = text.filter(|text| !text.starts_with('#') && !text.starts_with("_:"));
        if let Some(url) = text.and_then(|text| head.resolve(text))
            && !urls.contains(&url)
        {
            urls.push(url);
        }
    }
    urls
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(posting: Value) -> (Value, Vec<String>) {
        let mut warnings = Warnings::default();
        let values = [posting];
        let graph = Graph::new(&values);
        let mut head = Head::default();
        head.base = Url::parse("https://a.example/jobs/1").ok();
        let reading = Reading { head: &head, order: SlashOrder::Unknown };
        let read = read(&graph, values[0].as_object().unwrap(), reading, &mut warnings);
        let codes = warnings.into_list().into_iter().map(|warning| warning.code).collect();
        (serde_json::to_value(&read.fields).unwrap(), codes)
    }

    #[test]
    fn a_full_posting_is_read_in_every_field() {
        let (read, warnings) = fields(json!({
            "@type": "JobPosting",
            "title": "PhD position in <i>Soil</i> Physics &amp; Hydrology",
            "description": "<p>We seek a student.</p><ul><li>one</li><li>two</li></ul><script>x()</script>",
            "hiringOrganization": {"@type": "Organization", "name": "Lindenau Institute"},
            "jobLocation": [
                {"@type": "Place", "address": {"addressLocality": "Graz", "addressRegion": "Styria", "addressCountry": "Austria"}},
                {"@type": "Place", "address": {"addressLocality": "Maribor", "addressCountry": "SI"}},
            ],
            "jobLocationType": "TELECOMMUTE",
            "applicantLocationRequirements": [{"@type": "Country", "name": "Austria"}, {"name": "DE"}],
            "baseSalary": {"currency": "EUR", "value": {"minValue": 2900, "maxValue": 3100, "unitText": "MONTH"}},
            "validThrough": "2027-01-31T23:59:00+01:00",
            "datePosted": "2026-11-01T08:00:00Z",
            "employmentType": ["FULL_TIME", "temporary"],
            "identifier": {"@type": "PropertyValue", "name": "Lindenau", "value": 4711},
            "inLanguage": "en_GB",
            "industry": "Research",
            "educationRequirements": {"credentialCategory": "Master's degree"},
            "skills": "Python, soil physics; Python",
            "applicationContact": {"url": "/apply/1"},
        }));
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(
            read,
            json!({
                "title": "PhD position in Soil Physics & Hydrology",
                "organization_name": "Lindenau Institute",
                "description_text": "We seek a student.\n\none\ntwo",
                "country": "AT", "region": "Styria", "city": "Graz", "remote": true,
                "locations": [{"country": "AT", "region": "Styria", "city": "Graz"}, {"country": "SI", "city": "Maribor"}],
                "applicant_countries": ["AT", "DE"],
                "salary": {"min": 2900.0, "max": 3100.0, "currency": "EUR", "unit": "MONTH"},
                "application_url": "https://a.example/apply/1",
                "deadline": "2027-01-31T22:59:00Z", "deadline_date": "2027-01-31", "date_posted": "2026-11-01",
                "employment_type": ["FULL_TIME", "TEMPORARY"],
                "identifier": "4711", "language": "en-GB", "sector": "Research", "degree_level": "Master's degree",
                "tags": ["Python", "soil physics"],
            })
        );
    }

    #[test]
    fn empty_and_impossible_values_are_absent() {
        let (read, warnings) = fields(json!({
            "@type": "JobPosting",
            "title": ["", null, "A title"],
            "hiringOrganization": "Confidential",
            "description": "",
            "validThrough": "2026-02-30",
            "datePosted": "03/04/2026",
            "employmentType": "whenever",
            "identifier": {"value": ""},
            "inLanguage": "the usual one",
            "jobLocation": null,
            "jobLocationType": "ONSITE",
        }));
        assert_eq!(read, json!({"title": "A title"}));
        assert_eq!(warnings, ["impossible_date", "ambiguous_date"]);
    }

    #[test]
    fn remote_work_in_one_country_has_that_country() {
        let remote = |countries: Value| {
            fields(json!({"@type": "JobPosting", "title": "x y z", "jobLocationType": "TELECOMMUTE",
                "applicantLocationRequirements": countries}))
            .0
        };
        assert_eq!(remote(json!({"@type": "Country", "name": "Norway"}))["country"], json!("NO"));
        assert_eq!(remote(json!([{"name": "NO"}, {"name": "SE"}])).get("country"), None);
    }
}
