//! Labelled terms: "Deadline: 31 December", in eleven languages.

mod table;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::segments::Segment;
use super::words::fold;

pub(crate) use table::{APPLY_WORDS, BY_WORDS};
pub(crate) use table::{DEADLINE_PHRASES, NOT_A_DEADLINE};

/// Characters of the longest label.
const LABEL_CHARS_MAX: usize = 70;

/// Characters of a value that are gathered.
const VALUE_CHARS_MAX: usize = 300;

static TERMS: LazyLock<HashMap<&str, Term>> = LazyLock::new(|| {
    let mut terms = HashMap::new();
    for (term, labels) in table::LABELS {
        for label in *labels {
            terms.entry(*label).or_insert(*term);
        }
    }
    terms
});

/// What a label stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Term {
    Deadline,
    Organization,
    Location,
    Country,
    Salary,
    Employment,
    Identifier,
    Posted,
    Degree,
    Area,
    Sector,
    /// A known label whose value nobody reads: it ends the value before it.
    Other,
}

/// A label with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Labelled {
    /// What the label stands for.
    pub(crate) term: Term,
    /// The value: one line, not empty.
    pub(crate) value: String,
}

/// Every labelled term of a page outside of navigation and footer, in document order.
pub(crate) fn read(segments: &[Segment]) -> Vec<Labelled> {
    let mut found = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        if segment.is_chrome {
            continue;
        }
        if let Some(term) = term_of(&segment.text) {
            if term != Term::Other
                && let Some(value) = value_behind(&segments[index + 1..])
            {
                found.push(Labelled { term, value });
            }
        } else if let Some((term, rest)) = split(&segment.text)
            && term != Term::Other
        {
            // The value goes on in the segments of the same line, as around a link.
            let mut value = rest.to_owned();
            for next in segments[index + 1..].iter().take_while(|next| !next.starts_line).take(8) {
                if value.chars().count() > VALUE_CHARS_MAX || term_of(&next.text).is_some() {
                    break;
                }
                value.push(' ');
                value.push_str(&next.text);
            }
            found.push(Labelled { term, value });
        }
    }
    found
}

/// The term that a text is the label of, with or without a colon.
fn term_of(text: &str) -> Option<Term> {
    if text.chars().nth(LABEL_CHARS_MAX).is_some() {
        return None;
    }
    let folded = fold(text);
    let mut label = folded.trim_end_matches(|c: char| !c.is_alphanumeric() && c != ')').trim();
    // "Deadline (AoE)": what stands in brackets at the end only explains.
    if label.ends_with(')')
        && let Some((head, _)) = label.rsplit_once(" (")
    {
        label = head;
    }
    TERMS.get(label.trim_matches(|c: char| !c.is_alphanumeric())).copied()
}

/// A label and its value in one text, parted by a colon or a dash.
fn split(text: &str) -> Option<(Term, &str)> {
    [":", " – ", " - ", " — ", "："].into_iter().find_map(|separator| {
        let (label, value) = text.split_once(separator)?;
        let value = value.trim();
        let term = term_of(label)?;
        (!value.is_empty()).then_some((term, value))
    })
}

/// The text behind a label: the rest of its line, or if the label ends the line, the next line.
fn value_behind(segments: &[Segment]) -> Option<String> {
    let mut value = String::new();
    for (index, segment) in segments.iter().take(12).enumerate() {
        let ends = index > 0 && segment.starts_line;
        if ends
            || segment.is_chrome
            || term_of(&segment.text).is_some()
            || value.chars().count() > VALUE_CHARS_MAX
        {
            break;
        }
        // A lone colon stands between label and value.
        let text = segment.text.trim_start_matches([':', ' ']);
        if text.is_empty() {
            continue;
        }
        if !value.is_empty() && !text.starts_with([',', '.', ';', ')']) {
            value.push(' ');
        }
        value.push_str(text);
    }
    (!value.is_empty() && split(&value).is_none()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::dom::Dom;
    use crate::extract::segments;
    use crate::extract::warnings::Warnings;

    fn show(page: &str) -> Vec<(Term, String)> {
        let dom = Dom::parse(page, &mut Warnings::default());
        read(&segments::read(&dom)).into_iter().map(|found| (found.term, found.value)).collect()
    }

    #[test]
    fn labels_are_found_in_every_usual_layout() {
        let deadline = vec![(Term::Deadline, "31 December 2026".to_owned())];
        for page in [
            "<dl><dt>Application deadline</dt><dd>31 December 2026</dd></dl>",
            "<dl><dt>Application deadline:<dd><time>31 December 2026</time></dl>",
            "<table><tr><th>Closing date</th><td>31 December 2026</td></tr></table>",
            "<table><tr><td><b>Closing date:</b></td><td>31 December 2026</td></tr></table>",
            "<p>Deadline: 31 December 2026</p>",
            "<p><strong>Deadline:</strong> 31 December 2026</p>",
            "<p><strong>Deadline</strong>: 31 December 2026</p>",
            "<h3>Deadline</h3><p>31 December 2026</p>",
            "<div><span>Deadline</span><span>31 December 2026</span></div>",
            "<ul><li>Deadline – 31 December 2026</li></ul>",
            "<p>Deadline (AoE): 31 December 2026<br>Other text</p>",
        ] {
            assert_eq!(show(page), deadline, "{page}");
        }
    }

    #[test]
    fn labels_are_known_in_many_languages() {
        for (label, term) in [
            ("Bewerbungsfrist", Term::Deadline),
            ("Bewerbungsschluss", Term::Deadline),
            ("Date limite de candidature", Term::Deadline),
            ("Fecha límite", Term::Deadline),
            ("Scadenza", Term::Deadline),
            ("Prazo de candidatura", Term::Deadline),
            ("Sollicitatiedeadline", Term::Deadline),
            ("Sista ansökningsdag", Term::Deadline),
            ("Ansøgningsfrist", Term::Deadline),
            ("Søknadsfrist", Term::Deadline),
            ("Hakuaika päättyy", Term::Deadline),
            ("Arbeitsort", Term::Location),
            ("Établissement", Term::Organization),
            ("Kennziffer", Term::Identifier),
            ("Gehalt", Term::Salary),
        ] {
            assert_eq!(show(&format!("<p>{label}: x1</p>")), [(term, "x1".to_owned())], "{label}");
        }
    }

    #[test]
    fn what_follows_no_label_or_another_label_is_no_value() {
        for page in [
            "<p>Our deadlines are strict: be there</p>",
            "<table><tr><th>Deadline<th>Location<tr><td>x<td>y</table>",
            "<nav>Deadline: 1 May 2027</nav>",
            "<p>Deadline:</p>",
        ] {
            let deadlines = show(page).into_iter().filter(|(term, _)| *term == Term::Deadline).count();
            assert_eq!(deadlines, 0, "{page}");
        }
    }
}
