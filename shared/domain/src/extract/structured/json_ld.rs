//! The JSON-LD blocks of a page.

use serde_json::Value;

use super::repair::{self, Repair};
use crate::extract::dom::{Dom, local_name};
use crate::extract::warnings::Warnings;

/// Bytes of all blocks of a page together (§8).
const BYTES_MAX: usize = 512 << 10;

/// Levels of nesting (§8).
const DEPTH_MAX: usize = 64;

/// Values in all blocks together: each takes some hundred bytes in memory, so that half a MiB of
/// `[0,0,0…` would become 30 MiB.
const VALUES_MAX: usize = 40_000;

/// Blocks of a page. Real pages have up to a dozen.
const BLOCKS_MAX: usize = 100;

/// Every block that can be read, in order; one that cannot is remarked and loses no other.
pub(crate) fn read(dom: &Dom, warnings: &mut Warnings) -> Vec<Value> {
    let mut bytes_left = BYTES_MAX;
    let mut values_left = VALUES_MAX;
    let mut blocks = Vec::new();
    let scripts = dom.elements(Dom::ROOT, local_name!("script")).filter(|script| {
        dom.attribute(*script, "type").is_some_and(|kind| {
            let kind = kind.split(';').next().unwrap_or(kind).trim();
            kind.eq_ignore_ascii_case("application/ld+json")
                || kind.eq_ignore_ascii_case("application/json+ld")
        })
    });
    for script in scripts.take(BLOCKS_MAX) {
        let text = dom.raw_text(script, bytes_left + 1);
        if text.trim().is_empty() {
            continue;
        }
        if text.len() > bytes_left {
            warnings.push("json_ld_too_large", "JSON-LD beyond 512 KiB was not read");
            continue;
        }
        bytes_left -= text.len();
        blocks.extend(parse(&text, &mut values_left, warnings));
    }
    blocks
}

/// The values of one block: usually one, but blocks with several in a row are met.
fn parse(text: &str, values_left: &mut usize, warnings: &mut Warnings) -> Vec<Value> {
    let (depth, values) = measure(text);
    if depth > DEPTH_MAX {
        warnings.push("json_ld_too_deep", "JSON-LD nested deeper than 64 levels was not read");
        return Vec::new();
    }
    if values > *values_left {
        warnings.push("json_ld_too_large", "JSON-LD with too many values was not read");
        return Vec::new();
    }
    *values_left -= values;
    let error = match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
        Ok(value) => return vec![value],
        Err(error) => error,
    };
    let (repaired, repairs) = repair::repair(text);
    let mut read = Vec::new();
    let mut failed = None;
    for value in serde_json::Deserializer::from_str(&repaired).into_iter::<Value>() {
        match value {
            Ok(value) => read.push(value),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(_) => {
            let place = format!("line {} column {}", error.line(), error.column());
            warnings
                .push("json_ld_unreadable", format!("a JSON-LD block could not be read: error at {place}"));
        }
        None => remark(&repairs, &read, warnings),
    }
    read
}

fn remark(repairs: &[Repair], read: &[Value], warnings: &mut Warnings) {
    for repair in repairs {
        warnings.push("json_ld_repaired", repair.describe());
    }
    if read.len() > 1 {
        warnings.push("json_ld_repaired", "several values in one block were read one by one");
    }
}

/// Depth of nesting and an upper bound of the number of values, counted outside of strings. Broken
/// quoting can only make the counts wrong in blocks that will not parse.
fn measure(text: &str) -> (usize, usize) {
    let (mut depth, mut deepest, mut values) = (0_usize, 0, 1);
    let (mut is_string, mut is_escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            _ if is_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
                values += 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
    }
    (deepest, values)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn blocks(page: &str) -> (Vec<Value>, Vec<String>) {
        let mut warnings = Warnings::default();
        let dom = Dom::parse(page, &mut warnings);
        let values = read(&dom, &mut warnings);
        (values, warnings.into_list().into_iter().map(|warning| warning.code).collect())
    }

    #[test]
    fn one_bad_block_never_loses_the_page() {
        let page = r#"<script type="application/ld+json">{"a": </script>
            <script type="application/ld+json; charset=utf-8">{"b": 1}</script>
            <script type="text/javascript">{"c": 1}</script>
            <script type="APPLICATION/LD+JSON"> [{"d": "</p>"}] </script>"#;
        assert_eq!(
            blocks(page),
            (vec![json!({"b": 1}), json!([{"d": "</p>"}])], vec!["json_ld_unreadable".to_owned()])
        );
    }

    #[test]
    fn depth_size_and_number_are_bounded() {
        let block = |text: &str| format!("<script type=application/ld+json>{text}</script>");
        let (good, bad) = (block(r#"{"a":1}"#), block(&format!("{}{}", "[".repeat(65), "]".repeat(65))));
        assert_eq!(
            blocks(&format!("{bad}{good}")),
            (vec![json!({"a": 1})], vec!["json_ld_too_deep".to_owned()])
        );
        let bad = block(&format!("[{}0]", "0,".repeat(50_000)));
        assert_eq!(
            blocks(&format!("{bad}{good}")),
            (vec![json!({"a": 1})], vec!["json_ld_too_large".to_owned()])
        );
        let bad = block(&format!("\"{}\"", "x".repeat(BYTES_MAX)));
        assert_eq!(
            blocks(&format!("{bad}{good}")),
            (vec![json!({"a": 1})], vec!["json_ld_too_large".to_owned()])
        );
        let deep = block(&format!("{}{}", "[".repeat(64), "]".repeat(64)));
        assert_eq!(blocks(&deep).1, Vec::<String>::new());
    }
}
