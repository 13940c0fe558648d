//! The visible page as a sequence of short texts that know where they stand.
//!
//! A *segment* is text between two element boundaries; a *line* is the segments between two block
//! boundaries. Labels are found in segments ("Deadline" in its own element, the date in the
//! next), sentences in lines.

use html5ever::LocalName;

use super::dom::{Dom, NodeId, Step, local_name};
use super::text::{is_block, is_visible, push_collapsed};
use super::words::clean_line;
use crate::text::truncate_chars;

/// Segments that are read of a page; a long real posting has some 500.
const SEGMENTS_MAX: usize = 20_000;

/// Bytes of all segments together.
const BYTES_MAX: usize = 256 << 10;

/// Bytes of one segment: a longer text is no label, and no sentence that is looked through.
const SEGMENT_BYTES_MAX: usize = 16 << 10;

/// A piece of visible text.
#[derive(Debug)]
pub(crate) struct Segment {
    /// One line of clean text, never empty.
    pub(crate) text: String,
    /// Whether it begins a line.
    pub(crate) starts_line: bool,
    /// Level of the heading that it is in, or 0.
    pub(crate) heading: u8,
    /// In navigation, footer or a side column: not what the page is about.
    pub(crate) is_chrome: bool,
    /// In an element that shows a status: a banner, a badge, an alert.
    pub(crate) is_status: bool,
}

/// A line of visible text.
#[derive(Debug)]
pub(crate) struct Line {
    /// One line of clean text, never empty.
    pub(crate) text: String,
    /// Level of the heading that it is, or 0.
    pub(crate) heading: u8,
    /// As of its first segment.
    pub(crate) is_chrome: bool,
    /// As of its first segment.
    pub(crate) is_status: bool,
}

/// The segments of a page in document order. Text that is struck out is left out.
pub(crate) fn read(dom: &Dom) -> Vec<Segment> {
    let mut reader = Reader {
        segments: Vec::new(),
        text: String::new(),
        bytes: 0,
        breaks: true,
        stack: vec![Place::default()],
    };
    dom.walk(Dom::ROOT, |step| reader.step(dom, step));
    reader.flush();
    reader.segments
}

/// The lines that segments make up.
pub(crate) fn lines(segments: &[Segment]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for segment in segments {
        match lines.last_mut() {
            Some(line) if !segment.starts_line => {
                let is_joined = segment.text.starts_with([',', '.', ':', ';', ')', '!', '?']);
                if !is_joined {
                    line.text.push(' ');
                }
                line.text.push_str(&segment.text);
            }
            _ => lines.push(Line {
                text: segment.text.clone(),
                heading: segment.heading,
                is_chrome: segment.is_chrome,
                is_status: segment.is_status,
            }),
        }
    }
    lines
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    heading: u8,
    is_chrome: bool,
    is_status: bool,
}

struct Reader {
    segments: Vec<Segment>,
    text: String,
    bytes: usize,
    /// A block began or ended since the last segment.
    breaks: bool,
    stack: Vec<Place>,
}

impl Reader {
    fn step(&mut self, dom: &Dom, step: Step) -> bool {
        match step {
            Step::Enter(node) => {
                if let Some(text) = dom.text(node) {
                    let room = SEGMENT_BYTES_MAX.saturating_sub(self.text.len());
                    push_collapsed(&mut self.text, truncate_chars(text, room));
                    return false;
                }
                let name = dom.name(node);
                let is_struck = name.is_some_and(|name| {
                    matches!(*name, local_name!("s") | local_name!("del") | local_name!("strike"))
                });
                let is_full = self.segments.len() >= SEGMENTS_MAX || self.bytes >= BYTES_MAX;
                if is_full || is_struck || !is_visible(dom, node) {
                    return false;
                }
                self.flush();
                self.breaks |= name.is_some_and(breaks_line);
                let place = self.stack.last().copied().unwrap_or_default();
                self.stack.push(place.inside(dom, node));
                true
            }
            Step::Leave(node) => {
                self.flush();
                self.breaks |= dom.name(node).is_some_and(breaks_line);
                self.stack.pop();
                true
            }
        }
    }

    fn flush(&mut self) {
        let text = clean_line(&self.text);
        self.text.clear();
        if text.is_empty() {
            return;
        }
        let place = self.stack.last().copied().unwrap_or_default();
        self.bytes += text.len();
        self.segments.push(Segment {
            text,
            starts_line: std::mem::take(&mut self.breaks),
            heading: place.heading,
            is_chrome: place.is_chrome,
            is_status: place.is_status,
        });
    }
}

impl Place {
    fn inside(self, dom: &Dom, node: NodeId) -> Self {
        let Some(name) = dom.name(node) else {
            return self;
        };
        let heading = match *name {
            local_name!("h1") => 1,
            local_name!("h2") => 2,
            local_name!("h3") => 3,
            local_name!("h4") => 4,
            local_name!("h5") => 5,
            local_name!("h6") => 6,
            _ => self.heading,
        };
        let role = dom.attribute(node, "role").unwrap_or_default();
        let is_chrome = self.is_chrome
            || matches!(*name, local_name!("nav") | local_name!("footer") | local_name!("aside"))
            || matches!(role, "navigation" | "contentinfo" | "complementary" | "banner" | "search");
        let is_status = self.is_status
            || matches!(role, "alert" | "status")
            || *name == local_name!("output")
            || ["class", "id"]
                .into_iter()
                .filter_map(|name| dom.attribute(node, name))
                .any(|names| names.split([' ', '-', '_']).take(32).any(is_status_word));
        Self { heading, is_chrome, is_status }
    }
}

fn is_status_word(word: &str) -> bool {
    let words = [
        "alert", "status", "notice", "banner", "badge", "expired", "closed", "warning", "message", "ribbon",
        "flag",
    ];
    word.len() <= 16 && words.iter().any(|known| word.eq_ignore_ascii_case(known))
}

fn breaks_line(name: &LocalName) -> bool {
    is_block(name) || matches!(*name, local_name!("br") | local_name!("td") | local_name!("th"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::warnings::Warnings;

    #[test]
    fn segments_and_lines_know_where_they_stand() {
        let page = "<nav>Home</nav><h1>A <b>b</b></h1><p class='job-status'>Closed</p><p><span>Place</span><span>Graz</span>\
            <s>old</s><table><tr><th>Deadline<td>1 May</table><p>x <i>y</i>, z";
        let segments = read(&Dom::parse(page, &mut Warnings::default()));
        let lines = lines(&segments);
        let shown: Vec<String> = lines
            .iter()
            .map(|line| {
                format!(
                    "{}{}{}{}",
                    line.heading,
                    u8::from(line.is_chrome),
                    u8::from(line.is_status),
                    line.text
                )
            })
            .collect();
        assert_eq!(
            shown,
            ["010Home", "100A b", "001Closed", "000Place Graz", "000Deadline", "0001 May", "000x y, z"]
        );
        assert_eq!(segments.iter().filter(|segment| segment.text == "Graz").count(), 1);
    }
}
