//! Titles: cleaned, without the site's name behind them, and told from what is no title.

use super::text::markup_text;
use super::words::{clean_line, fold};
use crate::posting::limits::TITLE_CHARS_MAX;
use crate::text::truncate_chars;

/// What separates a title from the site's name.
const SEPARATORS: [&str; 9] = [" | ", " – ", " — ", " - ", " :: ", " » ", " · ", " • ", " @ "];

/// Headings and titles that name a kind of page, not a posting (folded).
const GENERIC: &[&str] = &[
    "job",
    "jobs",
    "job details",
    "job detail",
    "job description",
    "job posting",
    "job offer",
    "job offers",
    "vacancy",
    "vacancies",
    "vacancy details",
    "position",
    "positions",
    "open positions",
    "careers",
    "career",
    "home",
    "homepage",
    "welcome",
    "news",
    "apply",
    "apply now",
    "overview",
    "details",
    "description",
    "opportunities",
    "opportunity",
    "funding",
    "calls",
    "call",
    "current vacancies",
    "work with us",
    "join us",
    "untitled",
    "untitled document",
    "index",
    "search",
    "search results",
    "menu",
    "stellenangebot",
    "stellenangebote",
    "stellenausschreibung",
    "stellenausschreibungen",
    "stellenanzeige",
    "karriere",
    "startseite",
    "offre d'emploi",
    "offres d'emploi",
    "offre",
    "emploi",
    "recrutement",
    "accueil",
    "carrieres",
    "appel",
    "appels",
    "empleo",
    "ofertas de empleo",
    "oferta de empleo",
    "inicio",
    "convocatoria",
    "convocatorias",
    "vacante",
    "vacantes",
    "lavora con noi",
    "offerte di lavoro",
    "bando",
    "bandi",
    "concorsi",
    "vagas",
    "vaga",
    "emprego",
    "concursos",
    "vacature",
    "vacatures",
    "werken bij",
    "lediga jobb",
    "ledig stilling",
    "ledige stillinger",
    "ledige stillingar",
    "stillinger",
    "avoimet tyopaikat",
    "tyopaikat",
    "etusivu",
    "null",
    "undefined",
    "n/a",
    "title",
    "no title",
    "none",
];

/// A title from text that may be markup: tags out, entities decoded once, one line, cut to the
/// limit; none if nothing is left or it is only the kind of the page.
pub(crate) fn read(text: &str, names: &[&str]) -> Option<String> {
    from_plain(&markup_text(text), names)
}

/// The same of text that was decoded already.
pub(crate) fn from_plain(text: &str, names: &[&str]) -> Option<String> {
    let title = without_site(&clean_line(text), names);
    let title = truncate_chars(&title, TITLE_CHARS_MAX).trim().to_owned();
    (is_title(&title) && !names.iter().any(|name| fold(name) == fold(&title))).then_some(title)
}

/// The title of a bare `title` element: behind a bar stands the site, whether its name is known or
/// not; behind a dash only if it is known.
pub(crate) fn bare(text: &str, names: &[&str]) -> Option<String> {
    let text = clean_line(text);
    let mut title = without_site(&text, names);
    for separator in [" | ", " :: ", " » "] {
        if let Some((head, _)) = title.split_once(separator)
            && is_title(head.trim())
        {
            title = head.trim().to_owned();
        }
    }
    from_plain(&title, names)
}

fn is_title(text: &str) -> bool {
    text.chars().filter(|c| c.is_alphabetic()).count() >= 3
        && !GENERIC.contains(&fold(text).trim_matches(['.', ':', '!', ' ']))
}

/// Whether a text names a kind of page only.
pub(crate) fn is_generic(text: &str) -> bool {
    !is_title(text)
}

/// Removes trailing parts that are the site's or the employer's name.
fn without_site(text: &str, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| fold(name)).filter(|name| name.len() > 1).collect();
    let mut title = text;
    while let Some((at, length)) =
        SEPARATORS.iter().filter_map(|separator| Some((title.rfind(separator)?, separator.len()))).max()
    {
        let (head, tail) = (title[..at].trim(), fold(&title[at + length..]));
        let is_site = names.contains(&tail)
            || names
                .iter()
                .any(|name| tail.strip_suffix(" careers").or(tail.strip_suffix(" jobs")) == Some(name));
        if !is_site || head.is_empty() {
            break;
        }
        title = head;
    }
    title.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_lose_tags_entities_and_the_sites_name() {
        let names = ["University of Graz", "example.org"];
        for (text, title) in [
            ("PhD <b>position</b>", Some("PhD position")),
            ("R&amp;D Engineer", Some("R&D Engineer")),
            ("A &amp;amp; B", Some("A &amp; B")),
            ("PhD position | University of Graz", Some("PhD position")),
            ("PhD position - Physics - university of graz", Some("PhD position - Physics")),
            ("PhD position – Physics", Some("PhD position – Physics")),
            ("University of Graz", None),
            ("Job details", None),
            ("  ", None),
            ("42", None),
        ] {
            assert_eq!(read(text, &names).as_deref(), title, "{text}");
        }
        assert_eq!(read(&"ab ".repeat(200), &[]).unwrap().chars().count(), 299);
    }

    #[test]
    fn a_bare_title_element_ends_at_the_bar() {
        assert_eq!(bare("Postdoc in X | Jobs | Some Site", &[]).as_deref(), Some("Postdoc in X"));
        assert_eq!(bare("Postdoc in X - Y", &[]).as_deref(), Some("Postdoc in X - Y"));
        assert_eq!(bare("Jobs | Some Site", &[]).as_deref(), Some("Jobs | Some Site"));
    }
}
