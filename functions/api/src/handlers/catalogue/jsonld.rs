//! A posting as schema.org JobPosting, by Google's rules for job pages: what was not read is left out, never invented.

use domain::posting::{Location, PostingFields, Salary};
use serde_json::{Map, Value, json};
use store::postings::detail::PostingDetail;

/// The media type of JSON-LD (RFC 9264's registry).
pub(super) const MEDIA_TYPE: &str = "application/ld+json";

/// The JobPosting of a posting.
pub(super) fn job_posting(posting: &PostingDetail) -> Value {
    let fields = &posting.fields;
    let mut out = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    put("@context", Some(json!("https://schema.org")));
    put("@type", Some(json!("JobPosting")));
    put("title", fields.title.as_ref().map(|title| json!(title)));
    put("description", fields.description_text.as_deref().map(|text| json!(html(text))));
    let posted = fields.date_posted.map_or_else(|| json!(posting.published_at), |day| json!(day));
    put("datePosted", Some(posted));
    put("validThrough", fields.deadline.map(|at| json!(at)));
    put(
        "hiringOrganization",
        fields.organization_name.as_ref().map(|name| json!({"@type": "Organization", "name": name})),
    );
    put("jobLocation", places(fields));
    if fields.remote == Some(true) {
        put("jobLocationType", Some(json!("TELECOMMUTE")));
    }
    put(
        "applicantLocationRequirements",
        (!fields.applicant_countries.is_empty()).then(|| {
            let country = |code: &String| json!({"@type": "Country", "name": code});
            fields.applicant_countries.iter().map(country).collect()
        }),
    );
    put("employmentType", (!fields.employment_type.is_empty()).then(|| json!(fields.employment_type)));
    put("baseSalary", fields.salary.as_ref().and_then(salary));
    put(
        "identifier",
        fields
            .identifier
            .as_ref()
            .map(|value| json!({"@type": "PropertyValue", "name": fields.organization_name, "value": value})),
    );
    put("industry", fields.sector.as_ref().map(|sector| json!(sector)));
    put("inLanguage", fields.language.as_ref().map(|language| json!(language)));
    put("url", fields.canonical_url.as_ref().map(|url| json!(url)));
    Value::Object(out)
}

fn places(fields: &PostingFields) -> Option<Value> {
    let first = Location {
        country: fields.country.clone(),
        region: fields.region.clone(),
        city: fields.city.clone(),
    };
    let places =
        if fields.locations.is_empty() { std::slice::from_ref(&first) } else { &fields.locations[..] };
    let places: Vec<Value> = places.iter().filter(|place| !place.is_empty()).map(place).collect();
    (!places.is_empty()).then(|| Value::Array(places))
}

fn place(place: &Location) -> Value {
    let mut address = Map::new();
    address.insert("@type".into(), json!("PostalAddress"));
    for (name, value) in [
        ("addressLocality", &place.city),
        ("addressRegion", &place.region),
        ("addressCountry", &place.country),
    ] {
        if let Some(value) = value {
            address.insert(name.into(), json!(value));
        }
    }
    json!({"@type": "Place", "address": address})
}

/// Without a currency a number says nothing.
fn salary(salary: &Salary) -> Option<Value> {
    let currency = salary.currency.as_ref()?;
    let mut value = Map::new();
    value.insert("@type".into(), json!("QuantitativeValue"));
    match (salary.min, salary.max) {
        (Some(min), Some(max)) if min == max => {
            value.insert("value".into(), json!(min));
        }
        (min, max) => {
            for (name, bound) in [("minValue", min), ("maxValue", max)] {
                if let Some(bound) = bound {
                    value.insert(name.into(), json!(bound));
                }
            }
        }
    }
    if let Some(unit) = salary.unit {
        value.insert("unitText".into(), json!(unit));
    }
    Some(json!({"@type": "MonetaryAmount", "currency": currency, "value": value}))
}

/// The description is HTML there: paragraphs, and nothing of what came from outside as markup.
fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    for paragraph in text.split('\n').map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
        out.push_str("<p>");
        for c in paragraph.chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                c => out.push(c),
            }
        }
        out.push_str("</p>");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_paragraphs_of_text() {
        assert_eq!(html("a < b\n\n<script>&"), "<p>a &lt; b</p><p>&lt;script&gt;&amp;</p>");
    }

    #[test]
    fn pay_without_currency_is_left_out() {
        let pay = Salary { min: Some(1.0), ..Salary::default() };
        assert_eq!(salary(&pay), None);
        let pay = Salary { min: Some(1.0), max: Some(1.0), currency: Some("EUR".into()), ..pay };
        assert_eq!(salary(&pay).unwrap()["value"]["value"], 1.0);
    }
}
