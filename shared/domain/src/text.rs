//! Text: what is refused from callers, dropped from pages, and how names and titles are compared.

use std::collections::BTreeSet;

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// A character that text from a caller may not hold (spec: domain.md, opening).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// U+0000, which PostgreSQL cannot store.
    #[error("must not contain the NUL character")]
    Nul,
    /// U+202A–202E or U+2066–2069: they make text read otherwise than it is stored.
    #[error("must not contain bidirectional override or isolate characters")]
    Bidi,
    /// Any other control character than line feed and tab.
    #[error("must not contain control characters other than line feed and tab")]
    Control,
}

impl TextError {
    /// The stable code of a validation error.
    pub fn code(self) -> &'static str {
        match self {
            Self::Nul => "nul_character",
            Self::Bidi => "bidi_character",
            Self::Control => "control_character",
        }
    }
}

fn verdict(c: char) -> Result<(), TextError> {
    match c {
        '\n' | '\t' => Ok(()),
        '\0' => Err(TextError::Nul),
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Err(TextError::Bidi),
        c if c.is_control() => Err(TextError::Control),
        _ => Ok(()),
    }
}

/// Judges text from a caller.
///
/// # Errors
/// The first offending character's class; the caller answers 422 with [`TextError::code`].
pub fn check_input(text: &str) -> Result<(), TextError> {
    text.chars().try_for_each(verdict)
}

/// Text from a page: line ends to `\n`, what [`check_input`] refuses dropped, then NFC.
pub fn clean_page(text: &str) -> String {
    let unix = text.replace("\r\n", "\n").replace('\r', "\n");
    unix.chars().filter(|c| verdict(*c).is_ok()).nfc().collect()
}

/// NFC, the only form in which text is stored.
pub fn nfc(text: &str) -> String {
    if is_nfc(text) { text.to_owned() } else { text.nfc().collect() }
}

/// The first `max` characters (not bytes).
pub fn truncate_chars(text: &str, max: usize) -> &str {
    match text.char_indices().nth(max) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// Accents proper. Vowel signs of Indic scripts and the voicing marks of kana are letters' parts and stay.
fn is_accent(c: char) -> bool {
    matches!(c, '\u{0300}'..='\u{036f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// Letters that carry their accent inside, so that decomposition does not find it.
fn plain(c: char) -> Option<&'static str> {
    Some(match c {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'ø' => "o",
        'đ' | 'ð' => "d",
        'ł' => "l",
        'ħ' => "h",
        'ı' => "i",
        'þ' => "th",
        'ŧ' => "t",
        'ŋ' => "n",
        'ς' => "σ",
        _ => return None,
    })
}

/// Lower-case, accents off, white space collapsed (§11): what `title_fold` and `organization_fold` hold.
/// Idempotent.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    if text.is_ascii() {
        folded.push_str(text);
        folded.make_ascii_lowercase();
    } else {
        let lower = text.nfkd().flat_map(char::to_lowercase);
        for c in lower.nfkd().filter(|c| !is_accent(*c)) {
            match plain(c) {
                Some(letters) => folded.push_str(letters),
                None => folded.push(c),
            }
        }
        // Hangul and kana were taken apart above; without this they would not match a typed query.
        folded = folded.nfc().collect();
    }
    collapse(&folded)
}

fn collapse(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Folded words without punctuation. `+` and `#` stay (C++, C#), apostrophes vanish inside a word.
fn words(text: &str) -> Vec<String> {
    let folded = fold(text);
    let joined: String = folded
        .chars()
        .filter(|c| !matches!(c, '\'' | '\u{2019}' | '\u{02bc}'))
        .map(|c| if c.is_alphanumeric() || is_word_mark(c) { c } else { ' ' })
        .collect();
    joined
        .split_whitespace()
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .map(str::to_owned)
        .collect()
}

/// Marks that belong to a word: `+`, `#`, and combining marks other than accents.
fn is_word_mark(c: char) -> bool {
    matches!(c, '+' | '#') || unicode_normalization::char::is_combining_mark(c)
}

/// Legal forms that one source writes and the next leaves out; dropped from the end of a name.
const LEGAL_FORMS: &[&[&str]] = &[
    &["e", "v"],
    &["ev"],
    &["ggmbh"],
    &["gmbh"],
    &["mbh"],
    &["ag"],
    &["kg"],
    &["se"],
    &["inc"],
    &["incorporated"],
    &["ltd"],
    &["limited"],
    &["llc"],
    &["plc"],
    &["corp"],
    &["corporation"],
    &["s", "a"],
    &["b", "v"],
    &["bv"],
    &["nv"],
    &["n", "v"],
    &["oy"],
    &["ab"],
    &["aps"],
    &["a", "s"],
    &["s", "r", "l"],
    &["srl"],
    &["s", "p", "a"],
    &["spa"],
    &["sas"],
];

/// The key under which two spellings of an organisation's name are the same (§10.1): folded words without
/// punctuation, without a leading article and a trailing legal form. Empty if the name has no letter or digit.
pub fn organization_key(name: &str) -> String {
    let all = words(name);
    let mut kept = all.as_slice();
    if let [article, rest @ ..] = kept
        && article == "the"
        && !rest.is_empty()
    {
        kept = rest;
    }
    while let Some(shorter) = LEGAL_FORMS
        .iter()
        .find(|form| kept.len() > form.len() && kept.ends_with_words(form))
        .map(|form| &kept[..kept.len() - form.len()])
    {
        kept = shorter;
    }
    kept.join(" ")
}

trait EndsWithWords {
    fn ends_with_words(&self, tail: &[&str]) -> bool;
}

impl EndsWithWords for &[String] {
    fn ends_with_words(&self, tail: &[&str]) -> bool {
        self.len() >= tail.len() && self[self.len() - tail.len()..].iter().zip(tail).all(|(a, b)| a == b)
    }
}

/// "(m/w/d)" and its kin: they say nothing about the position.
const GENDER_MARKS: &[&str] = &["m", "w", "f", "d", "x", "h", "i", "v", "divers", "all", "genders", "gn"];

/// Drops parenthesised gender marks such as `(m/w/d)`, `(f/m/x)`, `(all genders)`.
fn without_gender_marks(folded: &str) -> String {
    let mut out = String::with_capacity(folded.len());
    let mut rest = folded;
    while let Some(open) = rest.find(['(', '[']) {
        let Some(length) = rest[open..].find([')', ']']) else { break };
        let inner = &rest[open + 1..open + length];
        let marks: Vec<&str> =
            inner.split(|c: char| !c.is_alphanumeric()).filter(|mark| !mark.is_empty()).collect();
        // A single letter in parentheses may be a grade or a group: "(W)" alone is kept.
        if marks.len() >= 2 && marks.iter().all(|mark| GENDER_MARKS.contains(mark)) {
            out.push_str(&rest[..open]);
            out.push(' ');
        } else {
            out.push_str(&rest[..open + length + 1]);
        }
        rest = &rest[open + length + 1..];
    }
    out.push_str(rest);
    out
}

/// The key by which titles are blocked and compared: folded words without punctuation and gender marks.
/// Numbers stay: "PhD position 1 of 3" is not "2 of 3".
pub fn title_key(title: &str) -> String {
    words(&without_gender_marks(&fold(title))).join(" ")
}

/// Words that carry no meaning in a title, in the languages most postings come in (folded).
const STOP_WORDS: &[&str] = &[
    "a", "an", "and", "at", "by", "for", "from", "in", "is", "of", "on", "or", "our", "the", "to", "with",
    "we", "as", "der", "die", "das", "den", "dem", "des", "ein", "eine", "einer", "eines", "fur", "im", "in",
    "mit", "oder", "und", "von", "vom", "zu", "zum", "zur", "am", "an", "bei", "auf", "au", "aux", "avec",
    "dans", "de", "du", "en", "et", "la", "le", "les", "l", "d", "pour", "sur", "un", "une", "con", "del",
    "della", "di", "e", "el", "i", "il", "los", "las", "o", "para", "per", "por", "y", "och", "i", "med",
    "til", "og", "av", "voor", "van", "het", "een", "met", "na", "w", "z", "do", "oraz",
];

/// The words of a title that carry meaning, each once.
pub fn tokens(text: &str) -> BTreeSet<String> {
    title_key(text)
        .split(' ')
        .filter(|word| !word.is_empty() && !STOP_WORDS.contains(word))
        .map(str::to_owned)
        .collect()
}

/// Size of the intersection over size of the union; 0 where both are empty.
pub fn jaccard(a: &BTreeSet<String>, b: &BTreeSet<String>) -> f64 {
    let shared = a.intersection(b).count();
    let union = a.len() + b.len() - shared;
    if union == 0 { 0.0 } else { shared as f64 / union as f64 }
}

/// Jaccard similarity of two titles' tokens with stop words out (§10.1), in [0, 1]. Titles with the same
/// [`title_key`] are 1 even if it consists of stop words only.
pub fn title_similarity(a: &str, b: &str) -> f64 {
    let (left, right) = (title_key(a), title_key(b));
    if !left.is_empty() && left == right {
        return 1.0;
    }
    jaccard(&tokens(a), &tokens(b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn folding_takes_case_accents_and_spaces_away() {
        for (text, folded) in [
            ("", ""),
            ("  PhD   Position\n", "phd position"),
            ("Universität Zürich", "universitat zurich"),
            ("STRASSE Straße", "strasse strasse"),
            ("Łódź Øresund Œuvre", "lodz oresund oeuvre"),
            ("İstanbul ısı", "istanbul isi"),
            ("ﬁne ℌ", "fine h"),
            ("Θεσσαλονίκης", "θεσσαλονικησ"),
            ("한국어", "한국어"),
            ("ポスドク", "ポスドク"),
        ] {
            assert_eq!(fold(text), folded, "{text}");
        }
    }

    #[test]
    fn callers_text_is_refused_for_what_cannot_be_stored_or_deceives() {
        for (text, error) in [
            ("plain\ttext\nwith lines", None),
            ("nul\0", Some(TextError::Nul)),
            ("bidi \u{202e}", Some(TextError::Bidi)),
            ("isolate \u{2066}", Some(TextError::Bidi)),
            ("return\r", Some(TextError::Control)),
            ("c1 \u{85}", Some(TextError::Control)),
            ("عربى", None),
        ] {
            assert_eq!(check_input(text).err(), error, "{text:?}");
        }
    }

    #[test]
    fn page_text_loses_them_and_keeps_its_lines() {
        assert_eq!(clean_page("a\r\nb\rc\0\u{202e}\u{7}d"), "a\nb\ncd");
        assert_eq!(clean_page("e\u{301}"), "é");
    }

    #[test]
    fn organisation_keys_ignore_spelling_and_legal_form() {
        for (a, b) in [
            ("The University of Oxford", "University of Oxford"),
            ("Fraunhofer-Gesellschaft e. V.", "Fraunhofer Gesellschaft e.V."),
            ("Fraunhofer-Gesellschaft e.V.", "fraunhofer gesellschaft"),
            ("ACME GmbH & Co. KG", "acme gmbh & co"),
            ("Max Planck Society", "MAX-PLANCK SOCIETY"),
            ("King's College London", "King’s College London"),
        ] {
            assert_eq!(organization_key(a), organization_key(b));
        }
        assert_ne!(organization_key("University of Oxford"), organization_key("University of Cambridge"));
        assert_eq!(organization_key("AG"), "ag", "a name is never emptied");
        assert_eq!(organization_key("!!"), "");
    }

    #[test]
    fn title_keys_drop_gender_marks_and_keep_numbers() {
        assert_eq!(title_key("Postdoc (m/w/d) in Physics"), "postdoc in physics");
        assert_eq!(title_key("Engineer (all genders)"), "engineer");
        assert_eq!(title_key("PhD position (1 of 3)"), "phd position 1 of 3");
        assert_eq!(title_key("Professor (W3)"), "professor w3");
        assert_eq!(title_key("C++ developer (f/m"), "c++ developer f m");
    }

    #[test]
    fn similarity_ignores_order_and_stop_words() {
        assert_eq!(title_similarity("PhD in Physics", "Physics PhD"), 1.0);
        assert_eq!(title_similarity("PhD in Physics", "Postdoc in Chemistry"), 0.0);
        assert!((title_similarity("PhD in Solar Physics", "PhD in Physics") - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(title_similarity("", ""), 0.0);
        assert_eq!(title_similarity("The", "the"), 1.0);
    }

    #[test]
    fn truncation_counts_characters() {
        assert_eq!(truncate_chars("äöü", 2), "äö");
        assert_eq!(truncate_chars("ab", 5), "ab");
        assert_eq!(truncate_chars("ab", 0), "");
    }

    proptest! {
        #[test]
        fn folding_is_idempotent(text in "\\PC{0,40}") {
            let once = fold(&text);
            prop_assert_eq!(fold(&once), once);
        }

        #[test]
        fn keys_are_idempotent(text in "\\PC{0,40}") {
            let title = title_key(&text);
            prop_assert_eq!(title_key(&title), title);
            let organization = organization_key(&text);
            prop_assert!(organization_key(&organization).len() <= organization.len());
        }

        #[test]
        fn a_cleaned_page_passes_as_input(text in any::<String>()) {
            prop_assert_eq!(check_input(&clean_page(&text)), Ok(()));
        }

        #[test]
        fn similarity_is_symmetric_and_bounded(a in "[a-z ]{0,30}", b in "[a-z ]{0,30}") {
            let forth = title_similarity(&a, &b);
            prop_assert_eq!(forth, title_similarity(&b, &a));
            prop_assert!((0.0..=1.0).contains(&forth));
        }
    }
}
