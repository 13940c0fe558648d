//! Language tags.

use crate::posting::limits::LANGUAGE_CHARS_MAX;

use super::words::fold;

/// Names of the languages that postings are written in, for publishers that give a name where a
/// tag belongs.
const NAMES: &[(&str, &str)] = &[
    ("english", "en"),
    ("englisch", "en"),
    ("anglais", "en"),
    ("ingles", "en"),
    ("inglese", "en"),
    ("engels", "en"),
    ("engelska", "en"),
    ("engelsk", "en"),
    ("german", "de"),
    ("deutsch", "de"),
    ("allemand", "de"),
    ("french", "fr"),
    ("francais", "fr"),
    ("franzosisch", "fr"),
    ("spanish", "es"),
    ("espanol", "es"),
    ("castellano", "es"),
    ("italian", "it"),
    ("italiano", "it"),
    ("portuguese", "pt"),
    ("portugues", "pt"),
    ("dutch", "nl"),
    ("nederlands", "nl"),
    ("swedish", "sv"),
    ("svenska", "sv"),
    ("danish", "da"),
    ("dansk", "da"),
    ("norwegian", "no"),
    ("norsk", "no"),
    ("finnish", "fi"),
    ("suomi", "fi"),
];

/// The tag in the usual case (`pt-BR`, `zh-Hant`), if it is well formed (RFC 5646 section 2.1) or
/// the name of a common language. `en_GB` is read as `en-GB`; `und` and `mul` say nothing.
pub fn tag_of(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() || text.len() > LANGUAGE_CHARS_MAX {
        return None;
    }
    let name = fold(text);
    if let Some((_, tag)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some((*tag).to_owned());
    }
    let mut tag = String::with_capacity(text.len());
    for (index, part) in text.split(['-', '_']).enumerate() {
        let is_alphanumeric = part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_alphanumeric || part.is_empty() || part.len() > 8 {
            return None;
        }
        if index == 0 {
            let is_alphabetic = part.bytes().all(|byte| byte.is_ascii_alphabetic());
            if !is_alphabetic || !(2..=3).contains(&part.len()) {
                return None;
            }
            tag.push_str(&part.to_ascii_lowercase());
            continue;
        }
        tag.push('-');
        match part.len() {
            2 => tag.push_str(&part.to_ascii_uppercase()),
            4 => {
                tag.push_str(&part[..1].to_ascii_uppercase());
                tag.push_str(&part[1..].to_ascii_lowercase());
            }
            _ => tag.push_str(&part.to_ascii_lowercase()),
        }
    }
    (!matches!(tag.as_str(), "und" | "mul" | "zxx")).then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_get_their_usual_case_and_nonsense_is_refused() {
        for (text, tag) in [
            ("en", Some("en")),
            ("EN-us", Some("en-US")),
            ("pt_br", Some("pt-BR")),
            ("zh-hant-tw", Some("zh-Hant-TW")),
            ("Deutsch", Some("de")),
            ("und", None),
            ("x", None),
            ("e n", None),
            ("en-", None),
            ("english and german", None),
            ("", None),
        ] {
            assert_eq!(tag_of(text).as_deref(), tag, "{text:?}");
        }
    }
}
