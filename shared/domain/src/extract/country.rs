//! Countries: ISO 3166-1 codes and names in several languages, to the alpha-2 code.
//!
//! A country is only ever read from what a publisher wrote, never from a top-level domain.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::words::fold;

/// The table: a line a country.
const TABLE: &str = include_str!("countries.txt");

/// Characters of the longest text that is looked up: longer than every name in the table.
const NAME_CHARS_MAX: usize = 80;

static CODES: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let mut codes = HashMap::new();
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.splitn(3, ' ');
        let (Some(alpha2), Some(alpha3), Some(names)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        for name in [alpha2, alpha3].into_iter().chain(names.split('|')) {
            codes.entry(fold(name)).or_insert(alpha2);
        }
    }
    codes
});

/// The alpha-2 code of a country given as alpha-2, alpha-3 or name, in any case, with or without
/// accents and the word "the".
pub fn code_of(text: &str) -> Option<&'static str> {
    if text.chars().nth(NAME_CHARS_MAX).is_some() {
        return None;
    }
    let folded = fold(text);
    let name = folded.trim_matches(|c: char| !c.is_alphanumeric() && c != '.' && c != ')');
    let codes = &*CODES;
    codes
        .get(name)
        .or_else(|| codes.get(name.strip_prefix("the ")?))
        .or_else(|| codes.get(name.trim_end_matches('.')))
        .copied()
}

/// The code of a country named in running text such as a location line: as [`code_of`], but codes
/// count only in capitals, so that the words "in", "de" and "is" name no country, and names that
/// are also those of another place or of people (Georgia, Jordan) are left out.
pub fn code_in_text(text: &str) -> Option<&'static str> {
    let text = text.trim();
    if ["Georgia", "Jordan"].iter().any(|name| text.eq_ignore_ascii_case(name)) {
        return None;
    }
    if text.chars().count() <= 3 && text.chars().any(char::is_lowercase) {
        return None;
    }
    code_of(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_has_codes_and_a_name() {
        let lines: Vec<_> = TABLE.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines.len(), 249, "ISO 3166-1 has 249 countries");
        for line in lines {
            let parts: Vec<_> = line.splitn(3, ' ').collect();
            assert_eq!(parts[0].len(), 2, "{line}");
            assert_eq!(parts[1].len(), 3, "{line}");
            assert!(!parts[2].is_empty(), "{line}");
            assert_eq!(code_of(parts[0]), Some(parts[0]), "{line}");
            assert_eq!(code_of(parts[1]), Some(parts[0]), "{line}");
            for name in parts[2].split('|') {
                assert_eq!(code_of(name), Some(parts[0]), "{name}");
            }
        }
    }

    #[test]
    fn names_are_read_in_many_languages_and_forms() {
        for (text, code) in [
            ("Germany", Some("DE")),
            ("DEUTSCHLAND", Some("DE")),
            ("allemagne", Some("DE")),
            (" The Netherlands ", Some("NL")),
            ("Österreich", Some("AT")),
            ("Osterreich", Some("AT")),
            ("U.S.", Some("US")),
            ("usa", Some("US")),
            ("España", Some("ES")),
            ("Georgia", Some("GE")),
            ("Atlantis", None),
            ("", None),
            ("X", None),
        ] {
            assert_eq!(code_of(text), code, "{text:?}");
        }
        assert_eq!(code_in_text("in"), None);
        assert_eq!(code_in_text("IN"), Some("IN"));
        assert_eq!(code_in_text("Georgia"), None);
    }
}
