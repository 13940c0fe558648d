//! Text as pages write it: cleaned for storage, folded for comparison with the tables.

use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::text::{self, check_input};

/// Combining marks kept of one letter: as many as the Stream-Safe Text Format allows (UAX #15
/// section 13).
const MARKS_MAX: usize = 30;

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
    for c in bounded_marks(text).nfc() {
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
    if text.is_ascii() {
        return fold_ascii(text);
    }
    let plain: String = bounded_marks(text)
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

/// As [`fold`], for the common case in which there is nothing to decompose.
fn fold_ascii(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut is_spaced = false;
    for c in text.chars() {
        if c.is_whitespace() {
            is_spaced = true;
            continue;
        }
        if is_spaced && !folded.is_empty() {
            folded.push(' ');
        }
        is_spaced = false;
        folded.push(if c == '`' { '\'' } else { c.to_ascii_lowercase() });
    }
    folded
}

/// The characters of a text with at most [`MARKS_MAX`] combining marks in a row: normalising has
/// to hold all marks of a letter at once, and a page can give it a million.
fn bounded_marks(text: &str) -> impl Iterator<Item = char> + '_ {
    let mut marks = 0;
    text.chars().filter(move |c| {
        marks = if is_combining_mark(*c) { marks + 1 } else { 0 };
        marks <= MARKS_MAX
    })
}

/// Phrases that are looked for together: one pass over a text, however many there are.
///
/// Phrases are folded and begin with a letter or digit; they match at word boundaries. A star at
/// the end lets the last word go on; one inside stands for a space.
#[derive(Debug)]
pub(crate) struct Phrases {
    /// Text, whether its end is open, and place in the list; the longest first.
    by_start: HashMap<[u8; 2], Vec<(String, bool, usize)>>,
}

impl Phrases {
    /// Phrases with their place in the list as their number.
    pub(crate) fn new(phrases: &[&str]) -> Self {
        Self::numbered(phrases.iter().enumerate().map(|(index, phrase)| (*phrase, index)))
    }

    /// Phrases with numbers of the caller's.
    pub(crate) fn numbered<'a>(phrases: impl IntoIterator<Item = (&'a str, usize)>) -> Self {
        let mut by_start: HashMap<[u8; 2], Vec<(String, bool, usize)>> = HashMap::new();
        for (phrase, index) in phrases {
            let (text, is_open) = match phrase.strip_suffix('*') {
                Some(stem) => (stem.replace('*', " "), true),
                None => (phrase.replace('*', " "), false),
            };
            if let [first, second, ..] = *text.as_bytes() {
                by_start.entry([first, second]).or_default().push((text, is_open, index));
            }
        }
        for bucket in by_start.values_mut() {
            bucket.sort_by_key(|(text, _, _)| std::cmp::Reverse(text.len()));
        }
        Self { by_start }
    }

    /// Every match in a folded text as the byte offset behind it and the phrase's number, in the
    /// order of their beginnings.
    pub(crate) fn matches<'a>(&'a self, folded: &'a str) -> impl Iterator<Item = (usize, usize)> + 'a {
        let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let mut before = None;
        let starts = folded.char_indices().filter_map(move |(start, c)| {
            let is_start = c.is_alphanumeric() && !is_word(before);
            before = Some(c);
            is_start.then_some(start)
        });
        starts.flat_map(move |start| {
            let rest = &folded[start..];
            let bucket = match rest.as_bytes() {
                [first, second, ..] => self.by_start.get(&[*first, *second]).map(Vec::as_slice),
                _ => None,
            };
            bucket.unwrap_or_default().iter().filter_map(move |(text, is_open, index)| {
                let behind = rest.strip_prefix(text.as_str())?;
                (*is_open || !is_word(behind.chars().next())).then_some((start + text.len(), *index))
            })
        })
    }

    /// Whether any phrase is in a folded text.
    pub(crate) fn are_in(&self, folded: &str) -> bool {
        self.matches(folded).next().is_some()
    }
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
        let phrases = Phrases::new(&["deadline", "deadline is", "phd*", "by"]);
        let found = |text: &str| phrases.matches(text).collect::<Vec<_>>();
        assert_eq!(found("the deadline: 1 may"), [(12, 0)]);
        assert_eq!(found("the deadline is"), [(15, 1), (12, 0)]);
        assert_eq!(found("deadlines, baby, xphd"), []);
        assert_eq!(found("two phds by day"), [(7, 2), (11, 3)]);
        assert!(!phrases.are_in(""));
    }

    #[test]
    fn a_letter_keeps_a_bounded_number_of_marks() {
        let text = format!("a{}b", "\u{301}".repeat(100_000));
        assert!(clean_line(&text).chars().count() <= MARKS_MAX + 2);
        assert_eq!(fold(&text), "ab");
    }

    #[test]
    fn a_cut_text_ends_at_a_word() {
        assert_eq!(cut("one two three", 12), "one two");
        assert_eq!(cut("one", 12), "one");
        assert_eq!(cut("abcdefghijkl", 5), "abcde");
    }
}
