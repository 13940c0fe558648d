//! Text as pages write it: cleaned for storage, folded for comparison with the tables.

use unicode_normalization::UnicodeNormalization;

use crate::text::{self, check_input};

/// Whether [`check_input`] refuses a character, or it is a byte order mark in the middle.
fn is_forbidden(c: char) -> bool {
    c == '\u{feff}' || check_input(c.encode_utf8(&mut [0; 4])).is_err()
}

/// Text of several lines: NFC, forbidden characters dropped, line ends and the spaces round them
/// reduced, at most one empty line in a row.
pub(crate) fn clean_text(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(1 << 16));
    let mut newlines = 0;
    for line in text.split(['\n', '\r', '\u{2028}', '\u{2029}']) {
        let line = clean_line(line);
        if line.is_empty() {
            newlines += 1;
            continue;
        }
        if !clean.is_empty() {
            clean.push_str(if newlines > 0 { "\n\n" } else { "\n" });
        }
        newlines = 0;
        clean.push_str(&line);
    }
    clean
}

/// Text of one line: NFC, forbidden characters dropped, any run of white space one space.
pub(crate) fn clean_line(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut is_spaced = false;
    for c in text.nfc() {
        if c.is_whitespace() || c == '\u{200b}' {
            is_spaced = true;
        } else if !is_forbidden(c) && c != '\u{ad}' {
            if is_spaced && !clean.is_empty() {
                clean.push(' ');
            }
            is_spaced = false;
            clean.push(c);
        }
    }
    clean
}

/// The form in which words are compared with the tables: [`text::fold`], with typographic quotes and
/// dashes made plain.
pub(crate) fn fold(text: &str) -> String {
    let plain: String = text
        .chars()
        .filter(|c| !matches!(c, '\u{ad}' | '\u{200b}' | '\u{feff}'))
        .map(|c| match c {
            '\u{2018}' | '\u{2019}' | '\u{2bc}' | '\u{b4}' | '`' => '\'',
            '\u{201c}' | '\u{201d}' | '\u{201e}' => '"',
            '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
            'º' => 'o',
            c => c,
        })
        .collect();
    text::fold(&plain)
}

/// Whether a folded text holds a folded phrase at word boundaries.
pub(crate) fn has_phrase(folded: &str, phrase: &str) -> bool {
    find_phrase(folded, phrase).is_some()
}

/// The byte offset just behind a folded phrase that stands at word boundaries in a folded text.
pub(crate) fn find_phrase(folded: &str, phrase: &str) -> Option<usize> {
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    folded.match_indices(phrase).map(|(start, _)| (start, start + phrase.len())).find_map(|(start, end)| {
        let before = folded[..start].chars().next_back();
        let after = folded[end..].chars().next();
        (!is_word(before) && !is_word(after)).then_some(end)
    })
}

/// The first `chars_max` characters, cut at a word where one ends in the second half.
pub(crate) fn cut(text: &str, chars_max: usize) -> &str {
    let Some((end, _)) = text.char_indices().nth(chars_max) else {
        return text;
    };
    let head = &text[..end];
    match head.rfind(char::is_whitespace) {
        Some(at) if at >= end / 2 => head[..at].trim_end(),
        _ => head,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_drops_what_may_not_be_stored_and_keeps_words_apart() {
        for (text, line) in [
            ("  a \t\n b\u{a0}c ", "a b c"),
            ("e\u{301}tudiant", "étudiant"),
            ("ab\u{202e}cd\u{0}e\u{7}f", "abcdef"),
            ("Univer\u{ad}sität", "Universität"),
            ("", ""),
        ] {
            assert_eq!(clean_line(text), line, "{text:?}");
        }
        assert_eq!(clean_text("a\r\n\r\n\r\n b  c\nd\n"), "a\n\nb c\nd");
    }

    #[test]
    fn folding_makes_spellings_equal() {
        for (text, folded) in [
            ("Bewerbungsfrist", "bewerbungsfrist"),
            ("Sök  senast", "sok senast"),
            ("Søknadsfrist", "soknadsfrist"),
            ("Date\u{a0}limite d\u{2019}envoi", "date limite d'envoi"),
            ("GROSSE STRAẞE", "grosse strasse"),
        ] {
            assert_eq!(fold(text), folded, "{text:?}");
        }
    }

    #[test]
    fn phrases_are_found_at_word_boundaries_only() {
        assert_eq!(find_phrase("the deadline: 1 may", "deadline"), Some(12));
        assert!(!has_phrase("deadlines", "deadline"));
        assert!(!has_phrase("methodology", "phd"));
    }

    #[test]
    fn a_cut_text_ends_at_a_word() {
        assert_eq!(cut("one two three", 12), "one two");
        assert_eq!(cut("one", 12), "one");
        assert_eq!(cut("abcdefghijkl", 5), "abcde");
    }
}
