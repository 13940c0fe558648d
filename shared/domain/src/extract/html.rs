//! The html layer: headings, labelled terms, links and main text of a page without markup.

use std::sync::LazyLock;

use jiff::civil::Date;

use super::dates::{self, Moment, NoDate, SlashOrder};
use super::dom::{Dom, NodeId, local_name};
use super::head::Head;
use super::labels::{self, APPLY_WORDS, BY_WORDS, DEADLINE_PHRASES, Labelled, NOT_A_DEADLINE, Term};
use super::segments::{Line, Segment};
use super::structured::job_posting::{label, organization_name, spread_first_location, warn_of_date};
use super::structured::money::salary_in_text;
use super::structured::place::location_in_line;
use super::text::block_text;
use super::warnings::Warnings;
use super::words::{Phrases, fold};
use super::{country, employment, phrases, title};
use crate::posting::limits::*;
use crate::posting::{Location, PostingFields};
use crate::text::truncate_chars;

/// Characters of a line in which a deadline is looked for: longer ones are paragraphs, in which
/// it stands behind its phrase.
const SENTENCE_CHARS_MAX: usize = 2_000;

/// Lines with a phrase that are searched for a date.
const SENTENCES_MAX: usize = 60;

/// Characters that a description must have to be one.
const DESCRIPTION_CHARS_MIN: usize = 60;

/// Bytes within which the heading stands that a description begins below.
const HEADING_BYTES_MAX: usize = 2_000;

/// What the visible page says.
#[derive(Debug, Default)]
pub(crate) struct Visible {
    /// The fields of the layer.
    pub(crate) fields: PostingFields,
    /// Every labelled deadline on the page, in order.
    pub(crate) deadlines: Vec<Moment>,
    /// Whether a link leads to an application.
    pub(crate) has_apply_link: bool,
}

/// Reads the layer.
pub(crate) fn read(
    dom: &Dom,
    head: &Head,
    segments: &[Segment],
    lines: &[Line],
    order: SlashOrder,
    warnings: &mut Warnings,
) -> Visible {
    let labelled = labels::read(segments);
    let mut fields = PostingFields::default();
    let names: Vec<&str> = head.metas("og:site_name").iter().map(String::as_str).collect();
    fields.title = heading_title(lines, &names);
    read_terms(&labelled, order, &mut fields, warnings);
    let deadlines = deadlines(&labelled, lines, order, warnings);
    if let Some(first) = deadlines.first() {
        fields.deadline = Some(first.instant);
        fields.deadline_date = Some(first.date);
    }
    let apply = apply_link(dom, head);
    let has_apply_link = apply.is_some() || has_apply_button(dom);
    fields.application_url = apply;
    fields.description_text = main_text(dom).and_then(|text| below_heading(&text, lines));
    fields.language.clone_from(&head.language);
    Visible { fields, deadlines, has_apply_link }
}

/// The first heading of the highest level that can be a title.
fn heading_title(lines: &[Line], names: &[&str]) -> Option<String> {
    (1..=2).find_map(|level| {
        lines
            .iter()
            .filter(|line| line.heading == level && !line.is_chrome)
            .take(8)
            .filter(|line| !phrases::is_closed_notice(&line.text) && !phrases::is_not_found(&line.text))
            .find_map(|line| title::from_plain(&line.text, names))
            // Second headings are sections as a rule: only one that names a kind is a title.
            .filter(|title| level == 1 || super::kind::kind_of_title(title).is_some())
    })
}

fn read_terms(labelled: &[Labelled], order: SlashOrder, fields: &mut PostingFields, warnings: &mut Warnings) {
    let mut country = None;
    for Labelled { term, value } in labelled {
        match term {
            // A sentence is no name.
            Term::Organization
                if fields.organization_name.is_none()
                    && value.chars().count() <= ORGANIZATION_CHARS_MAX
                    && !value.contains(". ") =>
            {
                fields.organization_name = organization_name(value);
            }
            Term::Location if fields.locations.is_empty() => {
                for part in value.split([';', '|']).take(LOCATIONS_MAX) {
                    if let Some(location) = location_in_line(part)
                        && !fields.locations.contains(&location)
                    {
                        fields.locations.push(location);
                    }
                }
            }
            Term::Country if country.is_none() => country = country::code_of(value).map(str::to_owned),
            Term::Salary if fields.salary.is_none() => fields.salary = salary_in_text(value),
            Term::Employment => {
                for word in employment::words_in(value) {
                    if !fields.employment_type.iter().any(|known| known == word) {
                        fields.employment_type.push(word.to_owned());
                    }
                }
            }
            Term::Identifier if fields.identifier.is_none() => {
                fields.identifier = label(value).filter(|text| {
                    text.bytes().any(|byte| byte.is_ascii_digit()) && text.split(' ').count() <= 4
                });
            }
            Term::Posted if fields.date_posted.is_none() => match dates::find_in_text(value, order) {
                Ok(moment) => fields.date_posted = Some(moment.date),
                Err(error) => warn_of_date("date_posted", value, error, warnings),
            },
            Term::Degree if fields.degree_level.is_none() => fields.degree_level = label(value),
            Term::Sector if fields.sector.is_none() => fields.sector = label(value),
            Term::Area if fields.areas.is_empty() => {
                fields.areas = value
                    .split([',', ';', '|', '»', '›'])
                    .map(str::trim)
                    .filter(|area| !area.is_empty() && area.chars().count() <= AREA_CHARS_MAX)
                    .take(AREAS_MAX)
                    .map(str::to_owned)
                    .collect();
            }
            _ => {}
        }
    }
    match (&country, fields.locations.first_mut()) {
        (Some(code), Some(first)) if first.country.is_none() => first.country = Some(code.clone()),
        (Some(code), None) => {
            fields.locations.push(Location { country: Some(code.clone()), ..Location::default() });
        }
        _ => {}
    }
    spread_first_location(fields);
}

/// Every day that the page calls a deadline: labelled terms first, then sentences.
fn deadlines(
    labelled: &[Labelled],
    lines: &[Line],
    order: SlashOrder,
    warnings: &mut Warnings,
) -> Vec<Moment> {
    let mut found: Vec<Moment> = Vec::new();
    let mut offer = |text: &str, read: Result<Moment, NoDate>| match read {
        Ok(moment) if !found.iter().any(|known| known.date == moment.date) && found.len() < 8 => {
            found.push(moment)
        }
        Ok(_) => {}
        Err(error) => warn_of_date("deadline", text, error, warnings),
    };
    for term in labelled.iter().filter(|term| term.term == Term::Deadline) {
        offer(&term.value, dates::find_in_text(&term.value, order));
    }
    let sentences = lines.iter().filter(|line| !line.is_chrome).filter_map(|line| {
        let folded = fold(truncate_chars(&line.text, SENTENCE_CHARS_MAX));
        date_text(&folded).map(str::to_owned)
    });
    let has_labels = labelled.iter().any(|term| term.term == Term::Deadline);
    for text in sentences.take(SENTENCES_MAX) {
        // In a sentence only a date that is near its phrase is of it.
        let near = truncate_chars(&text, 70);
        match dates::find_in_text(near, order) {
            // A labelled line is a sentence too, and its bad date was remarked already.
            Err(_) if has_labels => {}
            read => offer(near, read),
        }
    }
    found
}

/// The rest of a folded line in which a deadline's date must stand: behind its phrase, or behind
/// "by" in a sentence about applying.
fn date_text(folded: &str) -> Option<&str> {
    if !folded.bytes().any(|byte| byte.is_ascii_digit()) || OTHER.are_in(folded) {
        return None;
    }
    if let Some((end, _)) = DEADLINE.matches(folded).next() {
        return Some(&folded[end..]);
    }
    if !APPLY.are_in(folded) {
        return None;
    }
    BY.matches(folded).find_map(|(end, _)| {
        // The day follows at once, at most behind its name and a time.
        let near = truncate_chars(&folded[end..], 40);
        near.bytes().any(|byte| byte.is_ascii_digit()).then_some(near)
    })
}

static OTHER: LazyLock<Phrases> = LazyLock::new(|| Phrases::new(NOT_A_DEADLINE));
static DEADLINE: LazyLock<Phrases> = LazyLock::new(|| Phrases::new(DEADLINE_PHRASES));
static APPLY: LazyLock<Phrases> = LazyLock::new(|| Phrases::new(APPLY_WORDS));
static BY: LazyLock<Phrases> = LazyLock::new(|| Phrases::new(BY_WORDS));

fn apply_link(dom: &Dom, head: &Head) -> Option<String> {
    dom.elements(Dom::ROOT, local_name!("a"))
        .take(5_000)
        .filter(|link| {
            let text = dom.raw_text(*link, 200);
            phrases::is_apply_link(&text)
                || dom.attribute(*link, "aria-label").is_some_and(phrases::is_apply_link)
                || dom.attribute(*link, "title").is_some_and(phrases::is_apply_link)
        })
        .filter_map(|link| dom.attribute(link, "href"))
        .filter(|href| !href.trim_start().starts_with('#'))
        .find_map(|href| head.resolve(href))
        .map(String::from)
}

fn has_apply_button(dom: &Dom) -> bool {
    let is_apply = |node: NodeId| phrases::is_apply_link(&dom.raw_text(node, 200));
    dom.elements(Dom::ROOT, local_name!("button")).take(500).any(is_apply)
        || dom
            .elements(Dom::ROOT, local_name!("input"))
            .take(500)
            .any(|input| dom.attribute(input, "value").is_some_and(phrases::is_apply_link))
        || dom.elements(Dom::ROOT, local_name!("a")).take(5_000).any(is_apply)
}

/// The text of what the page is about: its main element, or the article, or the body without
/// navigation.
fn main_text(dom: &Dom) -> Option<String> {
    let is_main = |node: &NodeId| {
        dom.is(*node, &local_name!("main"))
            || dom.is(*node, &local_name!("article"))
            || dom.attribute(*node, "role") == Some("main")
            || dom.attribute(*node, "id").is_some_and(|id| matches!(id, "content" | "main" | "main-content"))
    };
    let root = dom
        .descendants(Dom::ROOT)
        .find(is_main)
        .or_else(|| dom.elements(Dom::ROOT, local_name!("body")).next())
        .unwrap_or(Dom::ROOT);
    let mut text = String::new();
    // Each part that is no navigation, in order.
    for part in dom.children(root) {
        let is_chrome = dom.name(part).is_some_and(|name| {
            matches!(
                *name,
                local_name!("nav")
                    | local_name!("footer")
                    | local_name!("aside")
                    | local_name!("header")
                    | local_name!("form")
            )
        });
        if is_chrome || !super::text::is_visible(dom, part) {
            continue;
        }
        let part = match dom.text(part) {
            Some(text) => super::words::clean_text(text),
            None => block_text(dom, part),
        };
        if !part.is_empty() {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&part);
        }
        if text.len() > 8 * DESCRIPTION_CHARS_MAX {
            break;
        }
    }
    (!text.is_empty()).then_some(text)
}

/// The text below the page's heading: what stands above it are crumbs and menus, and the heading
/// itself is the title.
fn below_heading(text: &str, lines: &[Line]) -> Option<String> {
    let heading =
        lines.iter().find(|line| line.heading == 1 && !line.is_chrome).map(|line| line.text.as_str());
    let mut below = text;
    if let Some(heading) = heading
        && let Some(at) = text.find(heading)
        && at <= HEADING_BYTES_MAX
    {
        below = text[at + heading.len()..].trim_start();
    }
    let is_long = |text: &str| text.chars().count() >= DESCRIPTION_CHARS_MIN;
    let text = if is_long(below) { below } else { text };
    let text = truncate_chars(text, DESCRIPTION_CHARS_MAX).trim_end();
    is_long(text).then(|| text.to_owned())
}

/// Whether one of the visible deadlines is the structured one's day; none visible says nothing.
pub(crate) fn contradicting(structured: Moment, visible: &[Moment]) -> Option<Moment> {
    let agrees = |date: Date| !structured.contradicts(date);
    if visible.is_empty() || visible.iter().any(|moment| agrees(moment.date)) {
        return None;
    }
    visible.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::segments;

    fn visible(page: &str) -> (Visible, Vec<String>) {
        let mut warnings = Warnings::default();
        let dom = Dom::parse(page, &mut warnings);
        let head = Head::read(&dom, "https://a.example/jobs/1", &[]);
        let segments = segments::read(&dom);
        let lines = segments::lines(&segments);
        let visible = read(&dom, &head, &segments, &lines, SlashOrder::Unknown, &mut warnings);
        (visible, warnings.into_list().into_iter().map(|warning| warning.code).collect())
    }

    #[test]
    fn deadlines_are_found_in_labels_and_sentences() {
        for page in [
            "<p>The closing date for applications is 31 December 2026.</p>",
            "<p>Please apply by 31 December 2026 with a CV.</p>",
            "<p>Applications should be submitted no later than Thursday, 31 December 2026.</p>",
            "<p>Bitte senden Sie Ihre Bewerbung bis zum 31.12.2026 an uns.</p>",
            "<p>Bewerbungsschluss ist der 31. Dezember 2026.</p>",
            "<p>Les candidatures sont à envoyer avant le 31 décembre 2026.</p>",
            "<p>La domanda va presentata entro il 31 dicembre 2026.</p>",
            "<p>Solicitudes hasta el 31 de diciembre de 2026.</p>",
            "<p>Ansökan ska vara inkommen senast den 31 december 2026.</p>",
            "<p>Solliciteren kan tot en met 31 december 2026.</p>",
            "<dl><dt>Deadline<dd>31 December 2026</dl>",
        ] {
            let (found, warnings) = visible(page);
            let days: Vec<_> = found.deadlines.iter().map(|moment| moment.date.to_string()).collect();
            assert_eq!((days, warnings), (vec!["2026-12-31".to_owned()], vec![]), "{page}");
        }
    }

    #[test]
    fn other_dates_are_no_deadlines() {
        for page in [
            "<p>The position starts on 1 March 2027.</p>",
            "<p>Letters of reference: deadline 31 December 2026.</p>",
            "<p>The project ran until 31 December 2020.</p>",
            "<p>Deadline: 31 December</p>",
            "<p>Deadline: open until filled</p>",
            "<p>Deadline: <s>31 December 2026</s></p>",
            "<footer>Deadline: 31 December 2026</footer>",
        ] {
            let (found, _) = visible(page);
            assert_eq!(found.deadlines.len(), 0, "{page}");
        }
        let (found, warnings) = visible("<p>Deadline: 31 February 2027</p>");
        assert_eq!((found.deadlines.len(), warnings), (0, vec!["impossible_date".to_owned()]));
    }

    #[test]
    fn headings_and_terms_become_fields() {
        let (found, _) = visible(
            "<html lang=en><body><header><h1>Lindenau University</h1></header><meta property=og:site_name content='Lindenau University'>\
            <main><h1>PhD position in Optics</h1><table><tr><th>Location<td>Graz, Austria<tr><th>Salary<td>€ 2,900 per month\
            <tr><th>Working hours<td>Full-time<tr><th>Reference number<td>PHY-2026/11<tr><th>Research field<td>Physics » Optics\
            <tr><th>Employer<td>Institute of Optics</table><p>A text of some length about the work that is to be done.</p>\
            <a href=/apply/1>Apply now</a></main>",
        );
        let fields = found.fields;
        assert_eq!(fields.title.as_deref(), Some("PhD position in Optics"));
        assert_eq!(fields.country.as_deref(), Some("AT"));
        assert_eq!(fields.city.as_deref(), Some("Graz"));
        assert_eq!(fields.salary.unwrap().min, Some(2900.0));
        assert_eq!(fields.employment_type, ["FULL_TIME"]);
        assert_eq!(fields.identifier.as_deref(), Some("PHY-2026/11"));
        assert_eq!(fields.areas, ["Physics", "Optics"]);
        assert_eq!(fields.organization_name.as_deref(), Some("Institute of Optics"));
        assert_eq!(fields.application_url.as_deref(), Some("https://a.example/apply/1"));
        assert_eq!(fields.language.as_deref(), Some("en"));
        assert!(fields.description_text.unwrap().contains("to be done"));
    }
}
