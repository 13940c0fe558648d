//! Tree construction over html5ever's tokens.

use std::cell::RefCell;
use std::collections::HashMap;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{
    BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};
use html5ever::{LocalName, local_name};

use super::{Attribute, Data, Dom, Node};
use crate::extract::guard::guard;
use crate::extract::warnings::Warnings;

/// Nodes of one page. Long real listings have some 30,000; the arena takes about 40 bytes each.
const NODES_MAX: usize = 120_000;

/// Elements open at a time. Real pages stay below 60; what is nested deeper is read as if it were
/// not nested further.
const DEPTH_MAX: usize = 200;

/// Bytes of one attribute's value; `content` may hold a whole description.
const VALUE_BYTES_MAX: usize = 4_096;
const CONTENT_BYTES_MAX: usize = 128 << 10;

/// Bytes of all values together.
const VALUES_BYTES_MAX: usize = 1 << 20;

/// Bytes given to the tokenizer at a time: it copies what it is given.
const CHUNK_BYTES: usize = 16 << 10;

/// The attributes that reading a posting looks at.
const KEPT: [&str; 33] = [
    "about",
    "alt",
    "aria-label",
    "charset",
    "class",
    "content",
    "data",
    "datatype",
    "datetime",
    "hidden",
    "href",
    "http-equiv",
    "id",
    "itemid",
    "itemprop",
    "itemref",
    "itemscope",
    "itemtype",
    "lang",
    "name",
    "prefix",
    "property",
    "rel",
    "resource",
    "rev",
    "role",
    "src",
    "style",
    "title",
    "type",
    "typeof",
    "value",
    "vocab",
];

pub(super) fn parse(page: &str, warnings: &mut Warnings) -> Dom {
    let guarded = guard(page, warnings);
    let tokenizer = Tokenizer::new(Builder::new(), TokenizerOpts::default());
    let queue = BufferQueue::default();
    let mut rest: &str = &guarded;
    while !rest.is_empty() {
        let mut end = rest.len().min(CHUNK_BYTES);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        queue.push_back(StrTendril::from_slice(&rest[..end]));
        rest = &rest[end..];
        while let html5ever::TokenizerResult::Script(()) = tokenizer.feed(&queue) {}
        if tokenizer.sink.0.borrow().is_full {
            warnings.push("page_cut", "the page has more elements than are read");
            break;
        }
    }
    tokenizer.end();
    let state = tokenizer.sink.0.into_inner();
    if state.was_deep {
        warnings.push("page_flattened", "elements nested deeper than 200 were read as siblings");
    }
    state.dom
}

/// The sink is shared by reference with the tokenizer, hence the cell.
struct Builder(RefCell<State>);

struct State {
    dom: Dom,
    /// Open elements from the outside in, as indices into the arena.
    open: Vec<u32>,
    /// How many elements of each name are open: most end tags and most starts close nothing, and
    /// the stack need not be walked to learn it.
    open_names: HashMap<LocalName, u32>,
    /// Starts that were not opened because of [`DEPTH_MAX`].
    unopened: usize,
    /// Inside of an element whose text nobody reads: style, or a script that is no data.
    is_muted: bool,
    is_full: bool,
    was_deep: bool,
}

impl Builder {
    fn new() -> Self {
        let root = Node { parent: 0, first_child: 0, last_child: 0, next: 0, data: Data::Root };
        let dom =
            Dom { nodes: vec![root], attributes: Vec::new(), text: String::new(), values: String::new() };
        Self(RefCell::new(State {
            dom,
            open: vec![0],
            open_names: HashMap::new(),
            unopened: 0,
            is_muted: false,
            is_full: false,
            was_deep: false,
        }))
    }
}

impl TokenSink for Builder {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut state = self.0.borrow_mut();
        if state.is_full {
            return TokenSinkResult::Continue;
        }
        match token {
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => state.start(&tag),
            Token::TagToken(tag) => {
                state.end(&tag.name);
                TokenSinkResult::Continue
            }
            Token::CharacterTokens(text) => {
                state.text(&text);
                TokenSinkResult::Continue
            }
            _ => TokenSinkResult::Continue,
        }
    }
}

impl State {
    fn current(&self) -> u32 {
        self.open.last().copied().unwrap_or(0)
    }

    fn name_of(&self, index: u32) -> Option<&LocalName> {
        match &self.dom.nodes[index as usize].data {
            Data::Element { name, .. } => Some(name),
            _ => None,
        }
    }

    fn start(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        let name = &tag.name;
        self.close_implied(name);
        let element = self.append(Data::Element {
            name: name.clone(),
            attributes_start: u32::try_from(self.dom.attributes.len()).unwrap_or(u32::MAX),
            attributes: 0,
        });
        let Some(element) = element else {
            return TokenSinkResult::Continue;
        };
        self.keep_attributes(element, tag);
        let closes_itself = tag.self_closing && self.is_foreign();
        if !is_void(name) && !closes_itself {
            if self.open.len() < DEPTH_MAX {
                self.open.push(element);
                *self.open_names.entry(name.clone()).or_default() += 1;
            } else {
                self.unopened += 1;
                self.was_deep = true;
            }
        }
        self.raw_text(tag)
    }

    /// Tells the tokenizer how to read what an element contains.
    fn raw_text(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        match tag.name {
            local_name!("script") => {
                let is_data = tag.attrs.iter().any(|attribute| {
                    attribute.name.local == local_name!("type")
                        && attribute.value.to_ascii_lowercase().contains("json")
                });
                self.is_muted = !is_data;
                TokenSinkResult::RawData(RawKind::ScriptData)
            }
            local_name!("style")
            | local_name!("iframe")
            | local_name!("xmp")
            | local_name!("noembed")
            | local_name!("noframes") => {
                self.is_muted = true;
                TokenSinkResult::RawData(RawKind::Rawtext)
            }
            local_name!("title") if self.is_foreign() => TokenSinkResult::Continue,
            local_name!("title") | local_name!("textarea") => TokenSinkResult::RawData(RawKind::Rcdata),
            local_name!("plaintext") => TokenSinkResult::Plaintext,
            _ => TokenSinkResult::Continue,
        }
    }

    fn keep_attributes(&mut self, element: u32, tag: &Tag) {
        let mut kept: u16 = 0;
        for attribute in &tag.attrs {
            let name = &*attribute.name.local;
            let name = if name == "xml:lang" { "lang" } else { name };
            if !KEPT.contains(&name) {
                continue;
            }
            let bytes_max = if name == "content" { CONTENT_BYTES_MAX } else { VALUE_BYTES_MAX };
            let room = VALUES_BYTES_MAX.saturating_sub(self.dom.values.len()).min(bytes_max);
            let mut end = attribute.value.len().min(room);
            while !attribute.value.is_char_boundary(end) {
                end -= 1;
            }
            let start = self.dom.values.len();
            self.dom.values.push_str(&attribute.value[..end]);
            self.dom.attributes.push(Attribute {
                name: LocalName::from(name),
                value: start as u32..self.dom.values.len() as u32,
            });
            kept += 1;
        }
        if let Data::Element { attributes, .. } = &mut self.dom.nodes[element as usize].data {
            *attributes = kept;
        }
    }

    fn text(&mut self, text: &str) {
        if self.is_muted || text.is_empty() {
            return;
        }
        let start = self.dom.text.len();
        let last = self.dom.nodes[self.current() as usize].last_child;
        self.dom.text.push_str(text);
        let end = self.dom.text.len() as u32;
        if last != 0
            && let Data::Text { end: last_end, .. } = &mut self.dom.nodes[last as usize].data
            && *last_end as usize == start
        {
            *last_end = end;
            return;
        }
        self.append(Data::Text { start: start as u32, end });
    }

    fn append(&mut self, data: Data) -> Option<u32> {
        if self.dom.nodes.len() >= NODES_MAX {
            self.is_full = true;
            return None;
        }
        let parent = self.current();
        let index = self.dom.nodes.len() as u32;
        let last = self.dom.nodes[parent as usize].last_child;
        if last == 0 {
            self.dom.nodes[parent as usize].first_child = index;
        } else {
            self.dom.nodes[last as usize].next = index;
        }
        self.dom.nodes[parent as usize].last_child = index;
        self.dom.nodes.push(Node { parent, first_child: 0, last_child: 0, next: 0, data });
        Some(index)
    }

    fn end(&mut self, name: &LocalName) {
        self.is_muted = false;
        if is_void(name) || matches!(*name, local_name!("html") | local_name!("body")) {
            return;
        }
        if self.unopened > 0 {
            self.unopened -= 1;
            return;
        }
        if is_heading(name) {
            return self.close_up_to(is_heading, is_cell_boundary);
        }
        if !self.is_open(name) {
            return;
        }
        let is_it = |open: &LocalName| open == name;
        if is_table_part(name) {
            self.close_up_to(is_it, |open| *open == local_name!("table") && *name != local_name!("table"));
        } else if is_special(name) {
            self.close_up_to(is_it, is_cell_boundary);
        } else {
            self.close_up_to(is_it, is_special);
        }
    }

    /// Closes everything inside of the innermost open element that is `wanted`, and it too, unless
    /// a `boundary` lies in between.
    fn close_up_to(&mut self, wanted: impl Fn(&LocalName) -> bool, boundary: impl Fn(&LocalName) -> bool) {
        for position in (1..self.open.len()).rev() {
            let Some(name) = self.name_of(self.open[position]) else {
                return;
            };
            if wanted(name) {
                while self.open.len() > position {
                    self.close_innermost();
                }
                return;
            }
            if boundary(name) {
                return;
            }
        }
    }

    fn close_innermost(&mut self) {
        let Some(index) = self.open.pop() else {
            return;
        };
        let name = self.name_of(index).cloned();
        if let Some(count) = name.and_then(|name| self.open_names.get_mut(&name)) {
            *count = count.saturating_sub(1);
        }
    }

    fn is_open(&self, name: &LocalName) -> bool {
        self.open_names.get(name).is_some_and(|count| *count > 0)
    }

    /// Closes what the start of an element ends: a paragraph before a block, an item before the
    /// next (WHATWG HTML section 13.1.2.4, "Optional tags").
    fn close_implied(&mut self, name: &LocalName) {
        match *name {
            local_name!("li") if self.is_open(name) => self.close_up_to(
                |open| *open == local_name!("li"),
                |open| {
                    matches!(*open, local_name!("ul") | local_name!("ol") | local_name!("menu"))
                        || is_cell_boundary(open)
                },
            ),
            local_name!("dt") | local_name!("dd") => self.close_up_to(
                |open| matches!(*open, local_name!("dt") | local_name!("dd")),
                |open| *open == local_name!("dl") || is_cell_boundary(open),
            ),
            local_name!("option") | local_name!("optgroup") => self.close_up_to(
                |open| *open == local_name!("option"),
                |open| *open == local_name!("select") || is_special(open),
            ),
            local_name!("td") | local_name!("th") => self.close_up_to(
                |open| matches!(*open, local_name!("td") | local_name!("th")),
                |open| matches!(*open, local_name!("table") | local_name!("tr")),
            ),
            local_name!("tr") => {
                self.close_up_to(|open| *open == local_name!("tr"), |open| *open == local_name!("table"))
            }
            local_name!("tbody") | local_name!("thead") | local_name!("tfoot") => self.close_up_to(
                |open| matches!(*open, local_name!("tbody") | local_name!("thead") | local_name!("tfoot")),
                |open| *open == local_name!("table"),
            ),
            local_name!("a") if self.is_open(name) => {
                self.close_up_to(|open| *open == local_name!("a"), is_special)
            }
            local_name!("body") => self.close_up_to(|open| *open == local_name!("head"), |_| false),
            _ => {}
        }
        if closes_paragraph(name) && self.is_open(&local_name!("p")) {
            self.close_up_to(|open| *open == local_name!("p"), is_paragraph_boundary);
        }
        if is_heading(name)
            && let Some(current) = self.name_of(self.current())
            && is_heading(current)
        {
            self.close_innermost();
        }
        // A head that is never closed ends where content begins.
        if self.name_of(self.current()) == Some(&local_name!("head")) && !belongs_in_head(name) {
            self.close_innermost();
        }
    }

    /// Whether the innermost open elements are SVG or MathML, where a tag may close itself.
    fn is_foreign(&self) -> bool {
        self.open.iter().rev().take(16).any(|index| {
            self.name_of(*index).is_some_and(|name| matches!(*name, local_name!("svg") | local_name!("math")))
        })
    }
}

fn is_void(name: &LocalName) -> bool {
    matches!(
        *name,
        local_name!("area")
            | local_name!("base")
            | local_name!("br")
            | local_name!("col")
            | local_name!("embed")
            | local_name!("hr")
            | local_name!("img")
            | local_name!("input")
            | local_name!("link")
            | local_name!("meta")
            | local_name!("source")
            | local_name!("track")
            | local_name!("wbr")
            | local_name!("param")
    )
}

fn is_heading(name: &LocalName) -> bool {
    matches!(
        *name,
        local_name!("h1")
            | local_name!("h2")
            | local_name!("h3")
            | local_name!("h4")
            | local_name!("h5")
            | local_name!("h6")
    )
}

fn is_table_part(name: &LocalName) -> bool {
    matches!(
        *name,
        local_name!("table")
            | local_name!("tbody")
            | local_name!("thead")
            | local_name!("tfoot")
            | local_name!("tr")
            | local_name!("td")
            | local_name!("th")
            | local_name!("caption")
    )
}

fn is_cell_boundary(name: &LocalName) -> bool {
    matches!(
        *name,
        local_name!("table")
            | local_name!("td")
            | local_name!("th")
            | local_name!("caption")
            | local_name!("template")
    )
}

fn is_paragraph_boundary(name: &LocalName) -> bool {
    is_cell_boundary(name) || (is_special(name) && *name != local_name!("p"))
}

/// Block elements: an inline end tag does not reach across them.
fn is_special(name: &LocalName) -> bool {
    is_heading(name)
        || is_table_part(name)
        || closes_paragraph(name)
        || matches!(
            *name,
            local_name!("html")
                | local_name!("head")
                | local_name!("body")
                | local_name!("li")
                | local_name!("dd")
                | local_name!("dt")
                | local_name!("select")
                | local_name!("template")
                | local_name!("button")
                | local_name!("object")
                | local_name!("script")
                | local_name!("style")
                | local_name!("title")
                | local_name!("textarea")
                | local_name!("iframe")
                | local_name!("noscript")
        )
}

fn closes_paragraph(name: &LocalName) -> bool {
    is_heading(name)
        || matches!(
            *name,
            local_name!("address")
                | local_name!("article")
                | local_name!("aside")
                | local_name!("blockquote")
                | local_name!("center")
                | local_name!("dd")
                | local_name!("details")
                | local_name!("dialog")
                | local_name!("dir")
                | local_name!("div")
                | local_name!("dl")
                | local_name!("dt")
                | local_name!("fieldset")
                | local_name!("figcaption")
                | local_name!("figure")
                | local_name!("footer")
                | local_name!("form")
                | local_name!("header")
                | local_name!("hr")
                | local_name!("li")
                | local_name!("main")
                | local_name!("menu")
                | local_name!("nav")
                | local_name!("ol")
                | local_name!("p")
                | local_name!("pre")
                | local_name!("section")
                | local_name!("summary")
                | local_name!("table")
                | local_name!("ul")
        )
}

fn belongs_in_head(name: &LocalName) -> bool {
    matches!(
        *name,
        local_name!("base")
            | local_name!("link")
            | local_name!("meta")
            | local_name!("noscript")
            | local_name!("script")
            | local_name!("style")
            | local_name!("template")
            | local_name!("title")
            | local_name!("head")
    )
}
