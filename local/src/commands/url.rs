//! `callboard url`: the normal form of each URL on standard input.

use super::line_value;
use domain::url::{Rules, normalize};
use serde_json::{Value, json};
use std::io::{BufRead, Write};

/// Writes a JSON line for each line of `input`, in order.
///
/// # Errors
/// Only those of reading and writing; a bad URL is an answer.
pub fn run(input: impl BufRead, mut output: impl Write) -> std::io::Result<()> {
    let rules = Rules::builtin();
    for line in input.split(b'\n') {
        let line = line?;
        let text = String::from_utf8_lossy(&line);
        let text = text.strip_suffix('\r').unwrap_or(&text);
        serde_json::to_writer(&mut output, &answer(text, &rules))?;
        output.write_all(b"\n")?;
    }
    output.flush()
}

fn answer(line: &str, rules: &Rules) -> Value {
    let input = match line_value(line) {
        Ok(input) => input,
        Err(error) => return json!({"input": line, "error": format!("not a JSON string: {error}")}),
    };
    match normalize(&input, rules) {
        Ok(url) => json!({
            "input": input,
            "normalized": url.as_str(),
            "hash": url.hash().to_string(),
            "source_identity": url.source_identity(),
            "flags": url.flags(),
        }),
        Err(error) => json!({"input": input, "error": error.code()}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_answered_in_order_and_echoed() {
        let input = "https://Example.org/a?utm_source=x\r\n\"mailto:a\\u0000b\"\n\"open\nnot a url\n";
        let mut output = Vec::new();
        run(input.as_bytes(), &mut output).unwrap();
        let lines: Vec<Value> = String::from_utf8(output)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0]["input"], "https://Example.org/a?utm_source=x");
        assert_eq!(lines[0]["normalized"], "https://example.org/a");
        assert_eq!(lines[0]["hash"].as_str().unwrap().len(), 64);
        assert_eq!(lines[1]["input"], "mailto:a\u{0}b");
        for line in &lines[1..] {
            assert!(line["error"].is_string(), "{line}");
        }
    }
}
