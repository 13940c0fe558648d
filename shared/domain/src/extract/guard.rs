//! What has to be cut from a page before any HTML tokenizer sees it.
//!
//! A tokenizer compares each attribute of a tag with all the earlier ones, as the standard asks
//! (a repeat is dropped): a tag with half a million attributes costs minutes. So tags are cut to
//! [`ATTRIBUTES_MAX`] attributes here, by one pass over the text that tracks only what it must:
//! tags and their quotes, comments, and the elements whose content is no markup.

use std::borrow::Cow;

use super::warnings::Warnings;

/// Attributes of one tag. The richest real elements have some forty.
const ATTRIBUTES_MAX: usize = 128;

/// Bytes of an attribute's or a tag's name. Longer ones are nobody's, and a name is interned.
const NAME_BYTES_MAX: usize = 256;

/// Elements whose content runs to their own end tag, whatever stands in between.
const RAW_TEXT: [&str; 8] = ["script", "style", "textarea", "title", "iframe", "xmp", "noembed", "noframes"];

/// The page, with overlong tags cut short. Borrowed where there is nothing to cut.
pub(crate) fn guard<'a>(page: &'a str, warnings: &mut Warnings) -> Cow<'a, str> {
    let bytes = page.as_bytes();
    let mut guarded: Option<String> = None;
    let mut copied = 0;
    let mut at = 0;
    while let Some(offset) = find(&bytes[at..], b"<") {
        let start = at + offset;
        let rest = &bytes[start..];
        if rest.starts_with(b"<!--") {
            at = start + 4 + find(&rest[4..], b"-->").map_or(rest.len() - 4, |end| end + 3);
            continue;
        }
        let is_end = rest.get(1) == Some(&b'/');
        let name_start = start + 1 + usize::from(is_end);
        if !bytes.get(name_start).is_some_and(u8::is_ascii_alphabetic) {
            at = start + 1;
            continue;
        }
        let tag = scan_tag(bytes, name_start);
        if let Some(cut) = tag.cut {
            let out = guarded.get_or_insert_with(|| String::with_capacity(page.len()));
            out.push_str(&page[copied..cut]);
            out.push('>');
            copied = tag.end;
            warnings.push("tag_cut", "a tag with more attributes than any page needs was cut");
        }
        at = tag.end;
        if !is_end && let Some(name) = raw_text_name(bytes, name_start) {
            at = end_of_raw_text(bytes, at, name);
        }
    }
    match guarded {
        Some(mut guarded) => {
            guarded.push_str(&page[copied..]);
            Cow::Owned(guarded)
        }
        None => Cow::Borrowed(page),
    }
}

struct Tag {
    /// The byte behind the closing `>`, or the end of the text.
    end: usize,
    /// Where the tag must be cut off, if it must.
    cut: Option<usize>,
}

/// Scans a tag from its name on: names, `=`, and values with or without quotes.
fn scan_tag(bytes: &[u8], name_start: usize) -> Tag {
    let mut at = name_start;
    let mut cut = None;
    let mut attributes = 0;
    // The tag's own name counts as the first of the names.
    loop {
        let word_start = at;
        while at < bytes.len() && !matches!(bytes[at], b'>' | b'=' | b'/') && !is_space(bytes[at]) {
            at += 1;
        }
        if at - word_start > NAME_BYTES_MAX {
            cut.get_or_insert(boundary(bytes, word_start + NAME_BYTES_MAX));
        }
        if at > word_start {
            attributes += 1;
            if attributes > ATTRIBUTES_MAX {
                cut.get_or_insert(word_start);
            }
        }
        while at < bytes.len() && (is_space(bytes[at]) || bytes[at] == b'/') {
            at += 1;
        }
        match bytes.get(at) {
            None => return Tag { end: bytes.len(), cut },
            Some(b'>') => return Tag { end: at + 1, cut },
            Some(b'=') => at = skip_value(bytes, at + 1),
            Some(_) => {}
        }
    }
}

fn skip_value(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && is_space(bytes[at]) {
        at += 1;
    }
    match bytes.get(at) {
        Some(quote @ (b'"' | b'\'')) => {
            let rest = &bytes[at + 1..];
            at + 1 + find(rest, &[*quote]).map_or(rest.len(), |end| end + 1)
        }
        _ => {
            while at < bytes.len() && bytes[at] != b'>' && !is_space(bytes[at]) {
                at += 1;
            }
            at
        }
    }
}

fn raw_text_name(bytes: &[u8], name_start: usize) -> Option<&'static str> {
    RAW_TEXT.into_iter().find(|name| {
        let end = name_start + name.len();
        bytes.get(name_start..end).is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
            && bytes.get(end).is_none_or(|byte| is_space(*byte) || matches!(byte, b'>' | b'/'))
    })
}

/// Where the end tag of a raw text element begins.
fn end_of_raw_text(bytes: &[u8], mut at: usize, name: &str) -> usize {
    while let Some(offset) = find(&bytes[at..], b"</") {
        let start = at + offset;
        let end = start + 2 + name.len();
        if bytes.get(start + 2..end).is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
            && bytes.get(end).is_none_or(|byte| is_space(*byte) || matches!(byte, b'>' | b'/'))
        {
            return start;
        }
        at = start + 2;
    }
    bytes.len()
}

fn boundary(bytes: &[u8], mut at: usize) -> usize {
    // A byte 10xxxxxx continues a character.
    while at > 0 && bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80) {
        at -= 1;
    }
    at
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    match needle {
        [byte] => bytes.iter().position(|found| found == byte),
        [first, ..] => {
            let mut at = 0;
            while let Some(offset) = bytes[at..].iter().position(|found| found == first) {
                if bytes[at + offset..].starts_with(needle) {
                    return Some(at + offset);
                }
                at += offset + 1;
            }
            None
        }
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded(page: &str) -> (String, usize) {
        let mut warnings = Warnings::default();
        let text = guard(page, &mut warnings).into_owned();
        (text, warnings.into_list().len())
    }

    #[test]
    fn usual_pages_pass_untouched() {
        for page in [
            "",
            "a < b <",
            "<p class='a > b' id=x>text</p><br/>",
            "<!-- <p a b c> --><p>",
            "<script>if (a <b) { c('</p>') }</script>",
            "<img alt=\"",
            "<p>日本語 <b a=\"ü\">",
        ] {
            assert_eq!(guarded(page), (page.to_owned(), 0), "{page}");
        }
    }

    #[test]
    fn a_tag_of_many_attributes_is_cut_and_the_page_goes_on() {
        let many: String = (0..1_000).map(|index| format!(" a{index}='>'")).collect();
        let (text, warnings) = guarded(&format!("<p{many}>one</p><p{many}>two"));
        assert_eq!(text.matches('=').count(), 2 * (ATTRIBUTES_MAX - 1));
        assert!(text.contains(">one</p>") && text.ends_with(">two"), "{text}");
        assert_eq!(warnings, 1);
    }

    #[test]
    fn words_in_a_script_are_no_attributes() {
        let words = "w ".repeat(1_000);
        for page in [
            format!("<script type=x>{{\"a\": \"<b {words}>\"}}</script>"),
            format!("<!-- <b {words}> -->"),
            format!("<title><b {words}</title>"),
        ] {
            assert_eq!(guarded(&page), (page.clone(), 0));
        }
    }

    #[test]
    fn an_endless_name_is_cut_between_characters() {
        let (text, _) = guarded(&format!("<p {}>x", "ü".repeat(1_000)));
        assert!(text.len() < 300 && text.ends_with(">x"), "{text}");
    }
}
