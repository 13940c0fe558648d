//! Repairs of broken JSON in JSON-LD blocks.
//!
//! Only what has one reading is repaired, each kind is reported, and a block that parses is never
//! touched. What is met in the wild: a semicolon or commas at the end, raw newlines and other
//! control characters in strings, wrappers (`CDATA`, HTML and script comments), quotes inside of
//! strings without a backslash, quotes as `&quot;`.

/// A kind of repair that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repair {
    Wrapper,
    EntityQuotes,
    TrailingComma,
    TrailingText,
    RawNewline,
    ControlCharacter,
    BadEscape,
    InnerQuote,
}

impl Repair {
    /// What was done, for a person.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Wrapper => "a comment or CDATA wrapper round a block was removed",
            Self::EntityQuotes => "quotes written as &quot; were decoded",
            Self::TrailingComma => "a comma before a closing bracket was removed",
            Self::TrailingText => "a semicolon or comma behind a block was removed",
            Self::RawNewline => "a raw newline in a string was escaped",
            Self::ControlCharacter => "a control character was removed",
            Self::BadEscape => "a backslash that escapes nothing was removed",
            Self::InnerQuote => "a quote inside of a string was escaped",
        }
    }
}

/// The text with everything repaired that safely can be, and what that was, each kind once.
pub(super) fn repair(text: &str) -> (String, Vec<Repair>) {
    let mut repairs = Vec::new();
    let mut text = text.to_owned();
    let unwrapped = unwrap(&text);
    if unwrapped != text.trim().trim_start_matches('\u{feff}') {
        note(&mut repairs, Repair::Wrapper);
    }
    text = unwrapped;
    if has_entity_quotes(&text) {
        note(&mut repairs, Repair::EntityQuotes);
        text = decode_entity_quotes(&text);
    }
    let trimmed = text.trim_end_matches(|c: char| matches!(c, ';' | ',') || c.is_whitespace() || c == '\0');
    if trimmed.len() != text.trim_end().len() {
        note(&mut repairs, Repair::TrailingText);
    }
    (
        Scanner { rest: trimmed, out: String::with_capacity(trimmed.len() + 64), repairs: &mut repairs }
            .run(),
        repairs,
    )
}

fn note(repairs: &mut Vec<Repair>, repair: Repair) {
    if !repairs.contains(&repair) {
        repairs.push(repair);
    }
}

/// Takes off what stands round the JSON, in any order and nesting.
fn unwrap(text: &str) -> String {
    const OPENERS: [&str; 6] =
        ["<!--", "//<![CDATA[", "// <![CDATA[", "/*<![CDATA[*/", "<![CDATA[", "/* <![CDATA[ */"];
    const CLOSERS: [&str; 7] = ["-->", "//]]>", "// ]]>", "/*]]>*/", "]]>", "/* ]]> */", "//-->"];
    let mut text = text.trim().trim_start_matches('\u{feff}').trim();
    loop {
        let before = text;
        for opener in OPENERS {
            text = strip_prefix_ignoring_case(text, opener).unwrap_or(text).trim_start();
        }
        for closer in CLOSERS {
            text = text.strip_suffix(closer).unwrap_or(text).trim_end();
        }
        text = text.strip_suffix("//").unwrap_or(text).trim_end();
        if text == before {
            break;
        }
    }
    // A whole comment in front of the data.
    while let Some(rest) =
        text.strip_prefix("/*").and_then(|rest| rest.split_once("*/")).map(|(_, rest)| rest)
    {
        text = rest.trim_start();
    }
    text.to_owned()
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

/// Whether the first quote of the JSON is an entity: then all quotes of its structure are.
fn has_entity_quotes(text: &str) -> bool {
    let inner = text.trim_start_matches(|c: char| matches!(c, '{' | '[') || c.is_whitespace());
    inner.len() < text.len() && ["&quot;", "&#34;", "&#x22;"].iter().any(|quote| inner.starts_with(quote))
}

fn decode_entity_quotes(text: &str) -> String {
    // The whole block went through one round of escaping, which is undone; the ampersand last, so
    // that what was escaped twice stays escaped once.
    text.replace("&quot;", "\"")
        .replace("&#34;", "\"")
        .replace("&#x22;", "\"")
        .replace("&#39;", "'")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

struct Scanner<'a> {
    rest: &'a str,
    out: String,
    repairs: &'a mut Vec<Repair>,
}

impl Scanner<'_> {
    fn run(mut self) -> String {
        while let Some(c) = self.take() {
            match c {
                '"' => {
                    self.out.push('"');
                    self.string();
                }
                ',' if self.closes_after_commas() => note(self.repairs, Repair::TrailingComma),
                c if c.is_control() && !matches!(c, '\n' | '\r' | '\t') => {
                    note(self.repairs, Repair::ControlCharacter);
                }
                c => self.out.push(c),
            }
        }
        self.out
    }

    fn take(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// Whether only commas and space stand between here and a closing bracket. Looks a bounded way
    /// ahead: nobody writes a thousand commas by mistake.
    fn closes_after_commas(&self) -> bool {
        self.rest
            .chars()
            .take(1_000)
            .find(|c| *c != ',' && !c.is_whitespace())
            .is_some_and(|c| matches!(c, '}' | ']'))
    }

    /// The inside of a string, up to and with its closing quote.
    fn string(&mut self) {
        while let Some(c) = self.take() {
            match c {
                '"' if self.is_end_of_string() => {
                    self.out.push('"');
                    return;
                }
                '"' => {
                    note(self.repairs, Repair::InnerQuote);
                    self.out.push_str("\\\"");
                }
                '\\' => self.escape(),
                '\n' | '\r' => {
                    note(self.repairs, Repair::RawNewline);
                    if c == '\n' || !self.rest.starts_with('\n') {
                        self.out.push_str("\\n");
                    }
                }
                '\t' => {
                    note(self.repairs, Repair::ControlCharacter);
                    self.out.push_str("\\t");
                }
                c if c < ' ' => note(self.repairs, Repair::ControlCharacter),
                c => self.out.push(c),
            }
        }
    }

    fn escape(&mut self) {
        let next = self.rest.chars().next();
        match next {
            Some(c @ ('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't')) => {
                self.take();
                self.out.push('\\');
                self.out.push(c);
            }
            Some('u')
                if self
                    .rest
                    .as_bytes()
                    .get(1..5)
                    .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) =>
            {
                self.out.push('\\');
            }
            _ => note(self.repairs, Repair::BadEscape),
        }
    }

    /// A quote ends a string if what follows continues the structure: a bracket or the end; a
    /// colon before a value; a comma before the next member or item.
    fn is_end_of_string(&self) -> bool {
        let mut following = self.rest.chars().take(1_000).filter(|c| !c.is_whitespace());
        match following.next() {
            None | Some('}' | ']') => true,
            Some(':') => following.next().is_some_and(begins_value),
            Some(',') => following.next().is_none_or(|c| begins_value(c) || matches!(c, '}' | ']' | ',')),
            Some(_) => false,
        }
    }
}

fn begins_value(c: char) -> bool {
    matches!(c, '"' | '{' | '[' | '-' | 't' | 'f' | 'n' | '0'..='9')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_has_one_reading_is_repaired() {
        for (broken, value, repairs) in [
            (r#"{"a": 1};"#, json!({"a": 1}), vec![Repair::TrailingText]),
            (r#"{"a": 1},"#, json!({"a": 1}), vec![Repair::TrailingText]),
            (
                r#"{"a": [1, 2,], "b": {"c": 3,},}"#,
                json!({"a": [1, 2], "b": {"c": 3}}),
                vec![Repair::TrailingComma],
            ),
            ("{\"a\": \"x\ny\r\nz\"}", json!({"a": "x\ny\nz"}), vec![Repair::RawNewline]),
            ("{\"a\": \"x\u{1}y\tz\"}", json!({"a": "xy\tz"}), vec![Repair::ControlCharacter]),
            ("//<![CDATA[\n{\"a\": 1}\n//]]>", json!({"a": 1}), vec![Repair::Wrapper]),
            ("/*<![CDATA[*/{\"a\": 1}/*]]>*/", json!({"a": 1}), vec![Repair::Wrapper]),
            ("<![CDATA[{\"a\": 1}]]>", json!({"a": 1}), vec![Repair::Wrapper]),
            ("<!-- {\"a\": 1} -->", json!({"a": 1}), vec![Repair::Wrapper]),
            ("<!--\n{\"a\": 1};\n//-->", json!({"a": 1}), vec![Repair::Wrapper, Repair::TrailingText]),
            (
                r#"{"a": "the "best" job", "b": "x"}"#,
                json!({"a": "the \"best\" job", "b": "x"}),
                vec![Repair::InnerQuote],
            ),
            (r#"{"a": "say "hi", he said"}"#, json!({"a": "say \"hi\", he said"}), vec![Repair::InnerQuote]),
            (r#"{"a": "it\'s"}"#, json!({"a": "it's"}), vec![Repair::BadEscape]),
            ("{&quot;a&quot;: &quot;R&amp;D&quot;}", json!({"a": "R&D"}), vec![Repair::EntityQuotes]),
            ("\u{feff}{\"a\": 1,}", json!({"a": 1}), vec![Repair::TrailingComma]),
        ] {
            let (repaired, made) = repair(broken);
            let read: Result<Value, _> = serde_json::from_str(&repaired);
            assert_eq!(read.ok(), Some(value), "{broken:?} became {repaired:?}");
            assert_eq!(made, repairs, "{broken:?}");
        }
    }

    #[test]
    fn sound_strings_come_through_unchanged() {
        for text in
            [r#"{"a":"b, \"c\": d","e":"\u00e9\n\\"}"#, r#"{"a":"&quot;x&quot;"}"#, r#"["a",[],{}," ] } ,"]"#]
        {
            assert_eq!(repair(text), (text.to_owned(), vec![]), "{text}");
        }
    }
}
