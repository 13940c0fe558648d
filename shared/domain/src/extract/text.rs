//! The text that a reader sees: of a subtree with a newline between blocks, and of the page as
//! lines that know where they stand.

use html5ever::LocalName;

use super::dom::{Dom, NodeId, Step, local_name};
use super::warnings::Warnings;
use super::words::clean_text;
use crate::text::truncate_chars;

/// Bytes of text that are gathered for one field before it is cut to its limit.
const TEXT_BYTES_MAX: usize = 256 << 10;

/// The visible text below a node, in plain lines: blocks and line breaks become newlines, cells
/// are set apart by a space, and what is no text (scripts, forms' fields, hidden elements) is left
/// out.
pub(crate) fn block_text(dom: &Dom, node: NodeId) -> String {
    let mut text = String::new();
    dom.walk(node, |step| {
        if text.len() > TEXT_BYTES_MAX {
            return false;
        }
        match step {
            Step::Enter(at) => {
                if let Some(part) = dom.text(at) {
                    let room = TEXT_BYTES_MAX.saturating_sub(text.len());
                    push_collapsed(&mut text, truncate_chars(part, room));
                    return false;
                }
                if at != node && !is_visible(dom, at) {
                    return false;
                }
                mark(&mut text, dom.name(at));
            }
            Step::Leave(at) => {
                if dom.name(at).is_some_and(|name| *name != local_name!("br")) {
                    mark(&mut text, dom.name(at));
                }
            }
        }
        true
    });
    clean_text(&text)
}

/// Text as markup or not: what stands in JSON-LD or in a `content` attribute may be HTML. Tags
/// are taken out, entities decoded once.
pub(crate) fn markup_text(text: &str) -> String {
    if !text.contains(['<', '&']) {
        return clean_text(text);
    }
    // A newline in the source of markup is a space, but with no tags at all it is meant.
    if !text.contains('<') && text.contains('\n') {
        let decoded: Vec<String> = text.split('\n').map(decode_entities).collect();
        return clean_text(&decoded.join("\n"));
    }
    let dom = Dom::parse(text, &mut Warnings::default());
    block_text(&dom, Dom::ROOT)
}

/// Markup whose tags are themselves escaped (`&lt;p&gt;`), as many systems put it into JSON-LD:
/// decoded once more, so that no tags are left in a description.
pub(crate) fn description_text(text: &str) -> String {
    let is_escaped = !text.contains("</")
        && ["&lt;/", "&lt;p", "&lt;br", "&lt;div", "&lt;ul", "&lt;li"].iter().any(|tag| text.contains(tag));
    if is_escaped { markup_text(&decode_entities(text)) } else { markup_text(text) }
}

/// Decodes character references once; text without any is unchanged.
pub(crate) fn decode_entities(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    // The tokenizer decodes; a textarea keeps it from seeing tags.
    let page = format!("<textarea>\n{}</textarea>", text.replace("</", "&lt;/"));
    let dom = Dom::parse(&page, &mut Warnings::default());
    let decoded = dom.raw_text(Dom::ROOT, TEXT_BYTES_MAX);
    decoded.strip_prefix('\n').map(str::to_owned).unwrap_or(decoded)
}

/// White space is one space, as in rendering; newlines are only those of blocks.
pub(crate) fn push_collapsed(text: &mut String, part: &str) {
    for c in part.chars() {
        if c.is_whitespace() {
            if !text.ends_with([' ', '\n']) {
                text.push(' ');
            }
        } else {
            text.push(c);
        }
    }
}

fn mark(text: &mut String, name: Option<&LocalName>) {
    let Some(name) = name else {
        return;
    };
    if is_paragraph(name) {
        while text.ends_with(' ') {
            text.pop();
        }
        if !text.is_empty() && !text.ends_with("\n\n") {
            text.push_str(if text.ends_with('\n') { "\n" } else { "\n\n" });
        }
    } else if is_block(name) || *name == local_name!("br") {
        while text.ends_with(' ') {
            text.pop();
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
    } else if matches!(*name, local_name!("td") | local_name!("th")) && !text.ends_with([' ', '\n']) {
        text.push(' ');
    }
}

/// Whether an element is shown at all.
pub(crate) fn is_visible(dom: &Dom, node: NodeId) -> bool {
    let Some(name) = dom.name(node) else {
        return true;
    };
    if matches!(
        *name,
        local_name!("script")
            | local_name!("style")
            | local_name!("template")
            | local_name!("noscript")
            | local_name!("head")
            | local_name!("title")
            | local_name!("iframe")
            | local_name!("object")
            | local_name!("svg")
            | local_name!("math")
            | local_name!("select")
            | local_name!("textarea")
            | local_name!("datalist")
    ) {
        return false;
    }
    if dom.attribute(node, "hidden").is_some_and(|value| !value.eq_ignore_ascii_case("until-found")) {
        return false;
    }
    let Some(style) = dom.attribute(node, "style") else {
        return true;
    };
    let style: String = style.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    !(style.contains("display:none") || style.contains("visibility:hidden"))
}

/// Blocks with space round them.
fn is_paragraph(name: &LocalName) -> bool {
    matches!(
        *name,
        local_name!("p")
            | local_name!("h1")
            | local_name!("h2")
            | local_name!("h3")
            | local_name!("h4")
            | local_name!("h5")
            | local_name!("h6")
            | local_name!("ul")
            | local_name!("ol")
            | local_name!("dl")
            | local_name!("table")
            | local_name!("blockquote")
            | local_name!("section")
            | local_name!("article")
            | local_name!("pre")
            | local_name!("hr")
    )
}

/// Elements that begin a line of their own.
pub(crate) fn is_block(name: &LocalName) -> bool {
    is_paragraph(name)
        || matches!(
            *name,
            local_name!("address")
                | local_name!("aside")
                | local_name!("body")
                | local_name!("caption")
                | local_name!("center")
                | local_name!("dd")
                | local_name!("details")
                | local_name!("div")
                | local_name!("dt")
                | local_name!("fieldset")
                | local_name!("figcaption")
                | local_name!("figure")
                | local_name!("footer")
                | local_name!("form")
                | local_name!("header")
                | local_name!("legend")
                | local_name!("li")
                | local_name!("main")
                | local_name!("nav")
                | local_name!("option")
                | local_name!("summary")
                | local_name!("tbody")
                | local_name!("thead")
                | local_name!("tfoot")
                | local_name!("tr")
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_newlines_and_inactive_content_is_left_out() {
        for (markup, text) in [
            ("<p>One</p><p>two<br>three</p>", "One\n\ntwo\nthree"),
            ("a <b>b</b>\n c", "a b c"),
            ("<ul><li>x<li>y</ul>z", "x\ny\n\nz"),
            ("<div>a</div><div>b</div>", "a\nb"),
            ("<table><tr><td>a<td>b<tr><td>c</table>", "a b\nc"),
            ("x<script>alert(1)</script><style>p{}</style>y", "xy"),
            ("a<span hidden>b</span><span style='display: none'>c</span>d", "ad"),
            ("R&amp;D &amp;amp; more", "R&D &amp; more"),
            ("plain\ntext", "plain\ntext"),
            ("A &amp; B\nC", "A & B\nC"),
            ("p < 0.05 and q > 1", "p < 0.05 and q > 1"),
            ("<p>unclosed", "unclosed"),
            ("", ""),
        ] {
            assert_eq!(markup_text(markup), text, "{markup}");
        }
    }

    #[test]
    fn escaped_markup_of_a_description_is_read_as_markup() {
        assert_eq!(
            description_text("&lt;p&gt;One &amp;amp; two&lt;/p&gt;&lt;p&gt;three&lt;/p&gt;"),
            "One & two\n\nthree"
        );
        assert_eq!(description_text("if a &lt; b"), "if a < b");
    }
}
