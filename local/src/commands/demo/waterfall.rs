//! The way of one discovery, with times: the spans of its trace, as the functions exported them.

use super::HandedIn;
use super::report::{Ink, Style, shortened};
use crate::spans::{Span, Spans};
use std::time::{Duration, Instant};

/// Characters of the time line.
const BAR_CHARS: usize = 40;
const NAME_CHARS_MAX: usize = 36;
/// The span of the worker's processing is the last that is exported; it comes with the answer to its event.
const WAIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One line: a span that is no statement, and the statements right below it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line<'a> {
    span: &'a Span,
    depth: usize,
    statements: usize,
}

/// Waits until the trace has reached the worker, and reads it.
pub(super) async fn read(spans: &Spans, item: &HandedIn<'_>) -> Vec<Span> {
    let deadline = Instant::now() + WAIT;
    loop {
        let found = spans.of_trace(&item.trace_id);
        let is_there =
            found.iter().any(|span| span.function == "worker" && span.name.starts_with("process "));
        if is_there || Instant::now() >= deadline {
            return found;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The spans in the order of a walk through the tree; a span whose parent is not among them is a root.
fn lines(spans: &[Span]) -> Vec<Line<'_>> {
    fn below<'a>(spans: &'a [Span], parent: &Span, depth: usize, out: &mut Vec<Line<'a>>) {
        for span in spans.iter().filter(|span| span.parent_id == parent.span_id && !span.is_statement) {
            out.push(Line { span, depth, statements: statements(spans, span) });
            below(spans, span, depth + 1, out);
        }
    }
    let is_root = |span: &&Span| spans.iter().all(|other| other.span_id != span.parent_id);
    let mut out = Vec::new();
    for root in spans.iter().filter(is_root).filter(|span| !span.is_statement) {
        out.push(Line { span: root, depth: 0, statements: statements(spans, root) });
        below(spans, root, 1, &mut out);
    }
    out
}

fn statements(spans: &[Span], parent: &Span) -> usize {
    spans.iter().filter(|span| span.is_statement && span.parent_id == parent.span_id).count()
}

/// Prints the spans, each with its start since the first and its length, and where that is on a line.
pub(super) fn print(style: Style, item: &HandedIn<'_>, spans: &[Span]) {
    style.heading(&format!("The way of one discovery, trace {}  ({})", item.trace_id, item.page.path));
    println!();
    let first_ns = spans.iter().map(|span| span.started_ns).min().unwrap_or_default();
    let last_ns = spans.iter().map(|span| span.ended_ns).max().unwrap_or_default();
    let total_ns = last_ns.saturating_sub(first_ns).max(1);
    for line in lines(spans) {
        let (from_ns, to_ns) = (line.span.started_ns - first_ns, line.span.ended_ns.saturating_sub(first_ns));
        let name = shortened(&format!("{}{}", "  ".repeat(line.depth), line.span.name), NAME_CHARS_MAX);
        let statements = match line.statements {
            0 => String::new(),
            1 => "  1 statement".to_owned(),
            count => format!("  {count} statements"),
        };
        println!(
            "  {:>9} {:>9}  {}  {:<8}  {name}{}",
            format!("{:.1} ms", milliseconds(from_ns)),
            format!("{:.1} ms", milliseconds(to_ns - from_ns)),
            style.paint(Ink::Good, &bar(from_ns, to_ns, total_ns)),
            line.span.function,
            style.paint(Ink::Quiet, &statements),
        );
    }
}

#[allow(clippy::cast_precision_loss, reason = "a time that a person reads")]
fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1_000_000.0
}

/// The time from start to end on a line of the whole; at least one character.
fn bar(from_ns: u64, to_ns: u64, total_ns: u64) -> String {
    let at = |ns: u64| {
        let place = u128::from(ns) * BAR_CHARS as u128 / u128::from(total_ns);
        usize::try_from(place).unwrap_or(BAR_CHARS).min(BAR_CHARS)
    };
    let start = at(from_ns).min(BAR_CHARS - 1);
    let end = at(to_ns).max(start + 1);
    (0..BAR_CHARS).map(|place| if (start..end).contains(&place) { '█' } else { ' ' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: u8, parent: u8, name: &str, is_statement: bool) -> Span {
        Span {
            trace_id: vec![1],
            span_id: vec![id],
            parent_id: vec![parent],
            function: "api".into(),
            name: name.into(),
            is_statement,
            started_ns: u64::from(id),
            ended_ns: 100,
        }
    }

    #[test]
    fn the_tree_is_walked_from_its_root_and_statements_are_counted_where_they_were_run() {
        let spans = [
            span(1, 99, "POST /discoveries", false),
            span(2, 1, "enqueue", true),
            span(3, 1, "send WakeQueue", false),
            span(4, 3, "process", false),
            span(5, 1, "fence", true),
        ];
        let lines: Vec<_> = lines(&spans)
            .into_iter()
            .map(|line| (line.span.name.as_str(), line.depth, line.statements))
            .collect();
        assert_eq!(lines, [("POST /discoveries", 0, 2), ("send WakeQueue", 1, 0), ("process", 2, 0)]);
    }

    #[test]
    fn a_bar_lies_where_its_span_lies() {
        assert_eq!(bar(0, 100, 100).chars().filter(|c| *c == '█').count(), BAR_CHARS);
        assert_eq!(bar(50, 50, 100).chars().position(|c| c == '█'), Some(20));
        assert_eq!(bar(100, 100, 100).chars().position(|c| c == '█'), Some(39));
    }
}
