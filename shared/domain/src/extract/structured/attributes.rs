//! Microdata and RDFa as JSON objects in the shape of JSON-LD.
//!
//! Of RDFa, what is called RDFa Lite (`vocab`, `typeof`, `property`, `resource`, `prefix`) with
//! `about` and `content`; that is what pages use for schema.org. Both syntaxes nest in the same
//! way, so one reader serves both, with the names of the attributes as its only difference.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::extract::dom::{Dom, NodeId, local_name};
use crate::extract::text::block_text;
use crate::extract::words::clean_line;

/// Items (elements with a type) that are read of a page.
const ITEMS_MAX: usize = 1_000;

/// Levels of items within items.
const DEPTH_MAX: usize = 16;

/// Properties of all items together.
const PROPERTIES_MAX: usize = 8_000;

/// Bytes of all values together: text of an item contains that of the items in it.
const BYTES_MAX: usize = 1 << 20;

/// Steps through the tree: `itemref` can lead to the same place again and again.
const STEPS_MAX: usize = 400_000;

/// One of the two syntaxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// `itemscope`, `itemtype`, `itemprop` (WHATWG HTML section 5).
    Microdata,
    /// `typeof`, `property` (W3C RDFa Lite 1.1).
    Rdfa,
}

impl Syntax {
    fn is_item(self, dom: &Dom, node: NodeId) -> bool {
        match self {
            Self::Microdata => {
                dom.attribute(node, "itemscope").is_some() || dom.attribute(node, "itemtype").is_some()
            }
            Self::Rdfa => dom.attribute(node, "typeof").is_some(),
        }
    }

    fn types(self, dom: &Dom, node: NodeId) -> Option<&str> {
        dom.attribute(node, if self == Self::Microdata { "itemtype" } else { "typeof" })
    }

    fn property(self, dom: &Dom, node: NodeId) -> Option<&str> {
        match self {
            Self::Microdata => dom.attribute(node, "itemprop"),
            // OpenGraph's `meta property` is RDFa too, but of no item.
            Self::Rdfa => dom.attribute(node, "property").filter(|name| !name.contains("og:")),
        }
    }

    fn id(self, dom: &Dom, node: NodeId) -> Option<&str> {
        match self {
            Self::Microdata => dom.attribute(node, "itemid"),
            Self::Rdfa => dom.attribute(node, "resource").or_else(|| dom.attribute(node, "about")),
        }
    }
}

/// All items of a page that are no property of another one.
pub(crate) fn read(dom: &Dom, syntax: Syntax) -> Vec<Value> {
    let mut reader = Reader {
        dom,
        syntax,
        ids: None,
        items_left: ITEMS_MAX,
        properties_left: PROPERTIES_MAX,
        bytes_left: BYTES_MAX,
        steps_left: STEPS_MAX,
    };
    let mut found = Vec::new();
    let mut stack = vec![Dom::ROOT];
    let mut top = Vec::new();
    // Items are found from the outside in; what is inside of one is read with it.
    while let Some(node) = stack.pop() {
        for child in dom.children(node) {
            if syntax.is_item(dom, child) {
                top.push(child);
            } else {
                stack.push(child);
            }
        }
    }
    top.sort_unstable();
    for node in top {
        if reader.items_left == 0 {
            break;
        }
        let item = reader.item(node, 0, &mut found);
        found.push(item);
    }
    found
}

struct Reader<'a> {
    dom: &'a Dom,
    syntax: Syntax,
    /// Elements by their id, once one is asked for.
    ids: Option<HashMap<&'a str, NodeId>>,
    items_left: usize,
    properties_left: usize,
    bytes_left: usize,
    steps_left: usize,
}

impl Reader<'_> {
    /// An item with its properties. Items inside that are no property of it go to `loose`.
    fn item(&mut self, node: NodeId, depth: usize, loose: &mut Vec<Value>) -> Value {
        let mut object = Map::new();
        if let Some(types) = self.syntax.types(self.dom, node) {
            let types = types.split_ascii_whitespace().take(8).map(Value::from).collect();
            object.insert("@type".to_owned(), Value::Array(types));
        }
        if let Some(id) = self.syntax.id(self.dom, node) {
            object.insert("@id".to_owned(), id.into());
        }
        self.items_left = self.items_left.saturating_sub(1);
        if depth >= DEPTH_MAX {
            return Value::Object(object);
        }
        self.properties(node, depth, &mut object, loose);
        if self.syntax == Syntax::Microdata
            && let Some(references) = self.dom.attribute(node, "itemref")
        {
            for reference in references.split_ascii_whitespace().take(16) {
                let target = self.by_id(reference);
                // An item that refers to something round itself would contain itself.
                if let Some(target) = target
                    && target != node
                    && !self.dom.ancestors(node).any(|ancestor| ancestor == target)
                {
                    self.node(target, depth, &mut object, loose);
                }
            }
        }
        Value::Object(object)
    }

    fn by_id(&mut self, id: &str) -> Option<NodeId> {
        let dom = self.dom;
        let ids = self.ids.get_or_insert_with(|| {
            let mut ids = HashMap::new();
            for node in dom.descendants(Dom::ROOT) {
                if let Some(id) = dom.attribute(node, "id") {
                    ids.entry(id).or_insert(node);
                }
            }
            ids
        });
        ids.get(id).copied()
    }

    fn properties(
        &mut self,
        below: NodeId,
        depth: usize,
        object: &mut Map<String, Value>,
        loose: &mut Vec<Value>,
    ) {
        for child in self.dom.children(below) {
            self.node(child, depth, object, loose);
        }
    }

    /// A node inside of an item: a property, an item of its own, or something round them. Depth of
    /// recursion is bounded by the depth of the tree, which [`Dom`] bounds.
    fn node(&mut self, node: NodeId, depth: usize, object: &mut Map<String, Value>, loose: &mut Vec<Value>) {
        if self.dom.name(node).is_none() || self.steps_left == 0 {
            return;
        }
        self.steps_left -= 1;
        let is_item = self.syntax.is_item(self.dom, node);
        if is_item && self.items_left == 0 {
            return;
        }
        match self.syntax.property(self.dom, node) {
            Some(names) if self.properties_left > 0 => {
                self.properties_left -= 1;
                let value = if is_item { self.item(node, depth + 1, loose) } else { self.value(node) };
                // An item goes to the first name only: copies within copies would grow without bound.
                let names_max = if is_item { 1 } else { 4 };
                for name in names.split_ascii_whitespace().take(names_max) {
                    add(object, local_property(name), value.clone());
                }
                if !is_item {
                    self.properties(node, depth, object, loose);
                }
            }
            _ if is_item => {
                let item = self.item(node, depth + 1, loose);
                loose.push(item);
            }
            _ => self.properties(node, depth, object, loose),
        }
    }

    /// The value of a property that is no item: what the element's name says holds it.
    fn value(&mut self, node: NodeId) -> Value {
        let dom = self.dom;
        if let Some(content) = dom.attribute(node, "content") {
            return self.bounded(content.to_owned());
        }
        let Some(name) = dom.name(node) else {
            return Value::Null;
        };
        let attribute = match *name {
            local_name!("a") | local_name!("link") | local_name!("area") => "href",
            local_name!("img") | local_name!("iframe") | local_name!("embed") | local_name!("source") => {
                "src"
            }
            local_name!("object") => "data",
            local_name!("time") => "datetime",
            local_name!("data") | local_name!("meter") => "value",
            _ => "",
        };
        if let Some(value) = dom.attribute(node, attribute).filter(|value| !value.trim().is_empty()) {
            return self.bounded(value.to_owned());
        }
        if self.syntax == Syntax::Rdfa
            && let Some(resource) = dom.attribute(node, "resource")
        {
            return self.bounded(resource.to_owned());
        }
        if self.bytes_left == 0 {
            return Value::Null;
        }
        let text = block_text(dom, node);
        self.bounded(if text.contains('\n') { text } else { clean_line(&text) })
    }

    fn bounded(&mut self, text: String) -> Value {
        // Even an empty text costs a walk, so that each takes something away.
        match self.bytes_left.checked_sub(text.len() + 16) {
            Some(left) => {
                self.bytes_left = left;
                Value::String(text)
            }
            None => {
                self.bytes_left = 0;
                Value::Null
            }
        }
    }
}

/// `schema:title` and `https://schema.org/title` as `title`.
fn local_property(name: &str) -> &str {
    name.rsplit(['/', '#', ':']).next().unwrap_or(name)
}

fn add(object: &mut Map<String, Value>, name: &str, value: Value) {
    match object.get_mut(name) {
        Some(Value::Array(values)) => values.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
        None => {
            object.insert(name.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::extract::warnings::Warnings;

    fn items(page: &str, syntax: Syntax) -> Value {
        Value::Array(read(&Dom::parse(page, &mut Warnings::default()), syntax))
    }

    #[test]
    fn microdata_becomes_objects() {
        let page = r#"<div itemscope itemtype="http://schema.org/JobPosting"><h1 itemprop=title>A <b>b</b></h1>
            <meta itemprop=datePosted content=2026-01-02><time itemprop=validThrough datetime=2026-02-03>3 Feb</time>
            <div itemprop=jobLocation itemscope itemtype="https://schema.org/Place"><span itemprop=address>Graz</span></div>
            <a itemprop="url sameAs" href=/x>x</a><p itemprop=description>One<br>two</p></div>"#;
        assert_eq!(
            items(page, Syntax::Microdata),
            json!([{
                "@type": ["http://schema.org/JobPosting"], "title": "A b", "datePosted": "2026-01-02",
                "validThrough": "2026-02-03",
                "jobLocation": {"@type": ["https://schema.org/Place"], "address": "Graz"},
                "url": "/x", "sameAs": "/x", "description": "One\ntwo",
            }])
        );
    }

    #[test]
    fn itemref_is_followed_but_not_in_circles() {
        let page = r#"<div id=a itemscope itemtype=JobPosting itemref="b a c"><i itemprop=x>1</i></div>
            <p id=b itemprop=y>2</p><div id=c><b itemprop=z>3</b></div>"#;
        assert_eq!(
            items(page, Syntax::Microdata)[0],
            json!({"@type": ["JobPosting"], "x": "1", "y": "2", "z": "3"})
        );
    }

    #[test]
    fn rdfa_becomes_objects_with_local_names() {
        let page = r##"<div vocab="https://schema.org/" typeof="JobPosting" resource="#j"><h1 property="schema:title">A</h1>
            <span property=hiringOrganization typeof=Organization><b property=name>Org</b></span>
            <meta property=og:title content=no></div><div typeof="Place"></div>"##;
        assert_eq!(
            items(page, Syntax::Rdfa),
            json!([
                {"@type": ["JobPosting"], "@id": "#j", "title": "A",
                 "hiringOrganization": {"@type": ["Organization"], "name": "Org"}},
                {"@type": ["Place"]},
            ])
        );
    }

    #[test]
    fn nested_properties_cost_bounded_memory() {
        let page = format!(
            "<div itemscope itemtype=JobPosting>{}{}",
            "<p itemprop=a><b itemprop=a>".repeat(5_000),
            "x".repeat(20_000)
        );
        let items = items(&page, Syntax::Microdata);
        assert!(items.to_string().len() < 3 * BYTES_MAX);
    }
}
