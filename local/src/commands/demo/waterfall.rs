//! The way of one discovery, with times: the lines of the functions' logs that carry its trace id.

use super::outcome::Outcome;
use super::report::{Ink, Style, shortened};
use super::{HandedIn, logs};
use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Value;
use std::path::Path;

/// Characters of the time line.
const BAR_CHARS: usize = 40;
const TEXT_CHARS_MAX: usize = 60;

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) at: Timestamp,
    /// The function, or `client`.
    pub(super) who: String,
    pub(super) what: String,
}

/// Reads the steps of a discovery, in the order of their times.
pub(super) fn read(directory: &Path, item: &HandedIn<'_>, outcome: &Outcome) -> anyhow::Result<Vec<Step>> {
    let client = |at, what: String| Step { at, who: "client".into(), what };
    let mut steps = vec![
        client(item.posted_at, format!("POST /discoveries  {}", item.page.path)),
        client(item.answered_at, "202 received".into()),
    ];
    for (function, path) in logs(directory) {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        steps.extend(text.lines().filter_map(|line| step(function, line, &item.trace_id)));
    }
    steps.sort_by_key(|step| step.at);
    // What comes later (a check of the posting's freshness, the enrichment) is another story.
    if let Some(posting_id) = &outcome.posting
        && let Some(last) = steps.iter().rposition(|step| step.what.starts_with("job settled"))
    {
        steps.truncate(last + 1);
        tracing::debug!(posting_id, "waterfall read");
    }
    Ok(steps)
}

/// A log line of the trace; its message with the fields that say the most.
fn step(function: &str, line: &str, trace_id: &str) -> Option<Step> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["trace_id"] != trace_id {
        return None;
    }
    let at = line["timestamp"].as_str()?.parse().ok()?;
    let mut what = line["message"].as_str()?.to_owned();
    for field in ["kind", "attempt", "status", "outcome"] {
        match &line[field] {
            Value::String(value) => what.push_str(&format!("  {field} {value}")),
            Value::Number(value) => what.push_str(&format!("  {field} {value}")),
            _ => {}
        }
    }
    Some(Step { at, who: function.to_owned(), what })
}

/// Prints the steps, with the time since the first and where that is on a line.
pub(super) fn print(style: Style, item: &HandedIn<'_>, steps: &[Step]) {
    style.heading(&format!("The way of one discovery, trace {}", item.trace_id));
    println!();
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return };
    let total_ms = milliseconds(first.at, last.at).max(0.001);
    let mut previous = 0;
    for step in steps {
        let ms = milliseconds(first.at, step.at);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the bar's length"
        )]
        let position = ((ms / total_ms) * (BAR_CHARS - 1) as f64).round() as usize;
        let bar = bar(previous, position);
        previous = position;
        println!(
            "  {:>9}  {}  {:<8}  {}",
            format!("{ms:.1} ms"),
            style.paint(Ink::Good, &bar),
            style.paint(Ink::Quiet, &format!("{:<8}", step.who)).trim_end(),
            shortened(&step.what, TEXT_CHARS_MAX),
        );
    }
}

fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1_000.0
}

/// The time from the step before to this one.
fn bar(from: usize, to: usize) -> String {
    (0..BAR_CHARS)
        .map(|at| match at {
            at if at == to => '█',
            at if at >= from && at < to => '─',
            _ => ' ',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_the_trace_are_steps() {
        let line = r#"{"timestamp":"2026-11-25T22:00:00.123456Z","message":"job started","kind":"extract","attempt":1,"trace_id":"a"}"#;
        let step = step("worker", line, "a").unwrap();
        assert_eq!(
            (step.who.as_str(), step.what.as_str()),
            ("worker", "job started  kind extract  attempt 1")
        );
        assert_eq!(super::step("worker", line, "b"), None);
        assert_eq!(super::step("worker", "not json", "a"), None);
    }

    #[test]
    fn a_bar_runs_from_the_step_before_to_this_one() {
        assert_eq!(bar(1, 3).trim_end(), " ──█");
        assert_eq!(bar(0, 0).trim_end(), "█");
        assert_eq!(bar(39, 39).chars().count(), BAR_CHARS);
    }
}
