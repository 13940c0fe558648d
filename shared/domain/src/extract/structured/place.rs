//! Places of work.

use serde_json::Value;

use super::graph::{Graph, is_type};
use crate::extract::country::{code_in_text, code_of};
use crate::extract::text::markup_text;
use crate::extract::words::{clean_line, fold};
use crate::posting::Location;
use crate::posting::limits::PLACE_CHARS_MAX;

/// A schema.org `Place`, `PostalAddress`, or a line such as "Graz, Austria".
pub(crate) fn location_of<'a>(graph: &Graph<'a>, value: &'a Value) -> Option<Location> {
    if let Value::String(text) = value {
        return location_in_line(text);
    }
    let place = graph.object(value)?;
    let mut address = graph.values(place, "address").chain(
        // Some give the address where the place belongs.
        is_type(place, "postaladdress").then_some(value),
    );
    let found = address.find_map(|address| match address {
        Value::String(text) => location_in_line(text),
        _ => {
            let address = graph.object(address)?;
            let location = Location {
                country: graph
                    .text(address, "addressCountry")
                    .and_then(|text| code_of(&markup_text(&text)))
                    .map(str::to_owned),
                region: graph.text(address, "addressRegion").and_then(|text| place_name(&text)),
                city: graph.text(address, "addressLocality").and_then(|text| place_name(&text)),
            };
            (!location.is_empty()).then(|| completed(location))
        }
    });
    found.or_else(|| location_in_line(&graph.text(place, "name")?))
}

/// A locality may hold the whole line, "Graz, Austria"; then it fills what is missing.
fn completed(mut location: Location) -> Location {
    if let Some(city) = &location.city
        && city.contains(',')
        && let Some(line) = location_in_line(city)
    {
        location.city = line.city.or(location.city);
        location.country = location.country.or(line.country);
        location.region = location.region.or(line.region);
    }
    location
}

/// The name of a city or region: not empty, not a placeholder, not overlong.
pub(crate) fn place_name(text: &str) -> Option<String> {
    let name = clean_line(&markup_text(text));
    let name = name.trim_matches(|c: char| matches!(c, ',' | ';' | '-' | '/' | '|')).trim();
    let is_placeholder = matches!(
        fold(name).as_str(),
        "" | "n/a"
            | "na"
            | "none"
            | "null"
            | "undefined"
            | "unknown"
            | "remote"
            | "tbd"
            | "-"
            | "."
            | "various"
            | "multiple locations"
    );
    let has_letter = name.chars().any(char::is_alphabetic);
    let is_short = name.chars().count() <= PLACE_CHARS_MAX;
    (!is_placeholder && has_letter && is_short).then(|| name.to_owned())
}

/// A line such as "Graz, Styria, Austria" or "8010 Graz (Austria)". The country must be named:
/// it is the last part. Of the parts before it, the first is the city and the last the region.
/// A line without a country is a city alone if it has one part; of more, only the first is sure.
pub(crate) fn location_in_line(line: &str) -> Option<Location> {
    let line = markup_text(line);
    let line = clean_line(line.split(['\n', ';', '|']).next().unwrap_or_default());
    if line.is_empty() || line.chars().count() > PLACE_CHARS_MAX {
        return None;
    }
    let line = line.replace(['(', ')'], ",").replace(" - ", ",").replace(" – ", ",").replace(" / ", ",");
    let mut parts: Vec<&str> = line.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    let mut location = Location::default();
    if let Some(code) = parts.last().and_then(|part| code_in_text(part)) {
        location.country = Some(code.to_owned());
        parts.pop();
    }
    let mut names =
        parts.iter().filter(|part| !is_street(part)).filter_map(|part| place_name(without_postcode(part)));
    location.city = names.next();
    if location.country.is_some() {
        location.region = names.next_back();
    }
    (!location.is_empty()).then_some(location)
}

/// A part with a house number behind a word: no city.
fn is_street(part: &str) -> bool {
    let has_number_behind =
        part.split_whitespace().skip(1).any(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    has_number_behind || fold(part).contains("street") || fold(part).contains("strasse")
}

fn without_postcode(part: &str) -> &str {
    match part.split_once(' ') {
        Some((code, rest)) if code.bytes().any(|byte| byte.is_ascii_digit()) => rest.trim(),
        _ => part,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn show(location: Option<Location>) -> String {
        let Some(Location { country, region, city }) = location else {
            return "none".to_owned();
        };
        [city, region, country].map(|part| part.unwrap_or_else(|| "-".to_owned())).join("/")
    }

    #[test]
    fn structured_places_are_read_in_all_their_forms() {
        for (value, expected) in [
            (
                json!({"@type": "Place", "address": {"@type": "PostalAddress", "addressLocality": "Graz",
                    "addressRegion": "Styria", "addressCountry": "AT"}}),
                "Graz/Styria/AT",
            ),
            (
                json!({"address": {"addressLocality": "Lyon", "addressCountry": {"@type": "Country", "name": "France"}}}),
                "Lyon/-/FR",
            ),
            (
                json!({"@type": "PostalAddress", "addressLocality": "Oslo", "addressCountry": "Norge"}),
                "Oslo/-/NO",
            ),
            (json!({"address": {"addressLocality": "Graz, Austria"}}), "Graz/-/AT"),
            (json!({"address": "Graz, Austria"}), "Graz/-/AT"),
            (json!({"name": "Graz"}), "Graz/-/-"),
            (json!("Porto, Portugal"), "Porto/-/PT"),
            (json!({"address": {"addressLocality": "", "addressCountry": null}}), "none"),
            (json!({"address": {"addressLocality": "N/A", "addressCountry": "Atlantis"}}), "none"),
            (json!(5), "none"),
        ] {
            let values = [value];
            assert_eq!(show(location_of(&Graph::new(&[]), &values[0])), expected, "{values:?}");
        }
    }

    #[test]
    fn lines_name_a_place_and_never_a_guessed_country() {
        for (line, expected) in [
            ("Graz", "Graz/-/-"),
            ("Graz, Austria", "Graz/-/AT"),
            ("Graz, Styria, Austria", "Graz/Styria/AT"),
            ("8010 Graz (Österreich)", "Graz/-/AT"),
            ("Hauptstraße 5, 8010 Graz, Austria", "Graz/-/AT"),
            ("Germany", "-/-/DE"),
            ("Springfield, IL, USA", "Springfield/IL/US"),
            ("Paris - France", "Paris/-/FR"),
            ("", "none"),
            ("123", "none"),
        ] {
            assert_eq!(show(location_in_line(line)), expected, "{line}");
        }
    }
}
