//! What the demonstration prints for a person: aligned columns, colour only on a terminal.

use super::HandedIn;
use super::outcome::Outcome;
use serde_json::Value;
use std::io::IsTerminal as _;

const TITLE_CHARS_MAX: usize = 46;
const PATH_CHARS_MAX: usize = 34;
const REASON_CHARS_MAX: usize = 34;

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    has_colour: bool,
}

/// A colour, by what it says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ink {
    Good,
    Bad,
    Quiet,
    Strong,
}

impl Style {
    /// Colour on a terminal, unless `NO_COLOR` is set (no-color.org).
    pub(super) fn of_standard_output() -> Self {
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { has_colour: std::io::stdout().is_terminal() && !is_refused }
    }

    pub(super) fn paint(self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Good => "32",
            Ink::Bad => "31;1",
            Ink::Quiet => "2",
            Ink::Strong => "1",
        };
        if self.has_colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub(super) fn heading(self, text: &str) {
        println!("\n{}", self.paint(Ink::Strong, text));
    }
}

/// A page, what became of it, and in which points that is wrong.
pub(super) struct Row<'a> {
    pub(super) item: &'a HandedIn<'a>,
    pub(super) outcome: &'a Outcome,
    pub(super) complaints: Vec<String>,
}

/// What became of each page.
pub(super) fn table(style: Style, module_id: &str, rows: &[Row<'_>]) {
    style.heading(&format!("What became of {} pages, handed in by {module_id}", rows.len()));
    let header = ["page", "discovery", "candidate", "posting", "why"].map(str::to_owned);
    let cells: Vec<[String; 5]> = rows.iter().map(cells).collect();
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let column = cells.iter().chain([&header]).map(|row| row[column].chars().count());
            column.max().unwrap_or(0)
        })
        .collect();
    println!("\n    {}", style.paint(Ink::Quiet, line(&header, &widths).trim_end()));
    for (row, cells) in rows.iter().zip(&cells) {
        let mark = if row.complaints.is_empty() {
            style.paint(Ink::Good, "✓")
        } else {
            style.paint(Ink::Bad, "✗")
        };
        println!("  {mark} {}", line(cells, &widths).trim_end());
        for complaint in &row.complaints {
            println!("      {}", style.paint(Ink::Bad, complaint));
        }
    }
}

fn cells(row: &Row<'_>) -> [String; 5] {
    let outcome = row.outcome;
    let or_dash = |text: Option<&str>| text.filter(|text| !text.is_empty()).unwrap_or("–").to_owned();
    let posting = match (&outcome.title, &outcome.posting_status) {
        (Some(title), Some(status)) if status != "active" => format!("{title} ({status})"),
        (Some(title), Some(_)) => title.clone(),
        // What did not get to be a posting is told by its candidate's state.
        (Some(title), None) => format!("({title})"),
        (None, _) => "–".to_owned(),
    };
    [
        shortened(&row.item.page.path, PATH_CHARS_MAX),
        or_dash(Some(&outcome.discovery)),
        or_dash(outcome.candidate.as_deref()),
        shortened(&posting, TITLE_CHARS_MAX),
        shortened(&or_dash(outcome.reason.as_deref()), REASON_CHARS_MAX),
    ]
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let padded: Vec<String> =
        cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    padded.join("  ")
}

/// At most so many characters; what is cut off is marked.
pub(super) fn shortened(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// What a search found.
pub(super) fn matches(style: Style, words: &str, items: &[Value]) {
    style.heading(&format!("GET /postings?q={}", words.replace(' ', "+")));
    println!();
    if items.is_empty() {
        println!("  {}", style.paint(Ink::Bad, "nothing was found"));
    }
    for item in items {
        let member = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        println!("  {}", style.paint(Ink::Strong, &member("title")));
        let place = [member("city"), member("country")];
        let place: Vec<String> = place.into_iter().filter(|part| !part.is_empty()).collect();
        let deadline = item["deadline_date"].as_str().or(item["deadline"].as_str());
        let facts = [
            member("organization_name"),
            place.join(", "),
            deadline.map_or_else(String::new, |date| format!("apply by {date}")),
        ];
        let facts: Vec<String> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
        println!("  {}", style.paint(Ink::Quiet, &facts.join(" · ")));
    }
}

/// The last line; true if everything became what it should.
pub(super) fn verdict(style: Style, rows: &[Row<'_>]) -> bool {
    let wrong = rows.iter().filter(|row| !row.complaints.is_empty()).count();
    let live = rows.iter().filter(|row| row.outcome.is_live()).count();
    println!();
    if rows.is_empty() {
        println!("{}", style.paint(Ink::Bad, "The site has no page to hand in."));
    } else if wrong == 0 {
        println!(
            "{}",
            style.paint(
                Ink::Good,
                &format!("All {} pages became what they should; {live} are live.", rows.len())
            )
        );
    } else {
        println!(
            "{}",
            style.paint(
                Ink::Bad,
                &format!("{wrong} of {} pages did not become what they should.", rows.len())
            )
        );
    }
    wrong == 0 && !rows.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_in_characters() {
        let cells = ["ä".to_owned(), "b".to_owned()];
        assert_eq!(line(&cells, &[3, 1]), "ä    b");
    }

    #[test]
    fn long_texts_are_cut_and_marked() {
        assert_eq!(shortened("abcdef", 6), "abcdef");
        assert_eq!(shortened("abc defg", 5), "abc…");
    }

    #[test]
    fn nothing_is_coloured_without_a_terminal() {
        let style = Style { has_colour: false };
        assert_eq!(style.paint(Ink::Bad, "x"), "x");
        assert_eq!(Style { has_colour: true }.paint(Ink::Bad, "x"), "\u{1b}[31;1mx\u{1b}[0m");
    }
}
