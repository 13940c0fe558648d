//! A page as a small tree: html5ever's tokenizer, and a tree construction of our own.
//!
//! The standard's tree construction is exponential in nothing but quadratic in much: a page of
//! open formatting elements is copied into each paragraph, and every block start walks the stack
//! of open elements. 2 MiB of such a page cost gigabytes. Reading a posting needs none of the
//! copies, so this builder keeps the parts that decide what belongs to what (end tags that are
//! implied, scopes, raw text) in linear time and bounded memory, and leaves the rest.
//!
//! The tree is an arena: dropping it is flat, whatever the depth.

mod build;

use std::ops::Range;

use html5ever::LocalName;
pub(crate) use html5ever::local_name;

use super::warnings::Warnings;

/// A node's place in the arena. The document itself is [`Dom::ROOT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u32);

#[derive(Debug)]
struct Node {
    parent: u32,
    first_child: u32,
    last_child: u32,
    next: u32,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Root,
    Element { name: LocalName, attributes_start: u32, attributes: u16 },
    Text { start: u32, end: u32 },
}

#[derive(Debug)]
struct Attribute {
    name: LocalName,
    value: Range<u32>,
}

/// A parsed page.
#[derive(Debug)]
pub(crate) struct Dom {
    nodes: Vec<Node>,
    attributes: Vec<Attribute>,
    /// All text, each text node a range of it.
    text: String,
    /// All values of attributes.
    values: String,
}

/// A step of a walk through the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A node, before its children.
    Enter(NodeId),
    /// An element, behind its children.
    Leave(NodeId),
}

impl Dom {
    /// The document node.
    pub(crate) const ROOT: NodeId = NodeId(0);

    /// Parses a page. Never fails: what is too much is left out with a remark.
    pub(crate) fn parse(page: &str, warnings: &mut Warnings) -> Self {
        build::parse(page, warnings)
    }

    /// An element's name in lower case; none for text.
    pub(crate) fn name(&self, node: NodeId) -> Option<&LocalName> {
        match &self.node(node).data {
            Data::Element { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Whether the node is an element of that name.
    pub(crate) fn is(&self, node: NodeId, wanted: &LocalName) -> bool {
        self.name(node) == Some(wanted)
    }

    /// The text of a text node.
    pub(crate) fn text(&self, node: NodeId) -> Option<&str> {
        match self.node(node).data {
            Data::Text { start, end } => self.text.get(start as usize..end as usize),
            _ => None,
        }
    }

    /// The value of an attribute, as far as [`build`] keeps it.
    pub(crate) fn attribute(&self, node: NodeId, wanted: &str) -> Option<&str> {
        let Data::Element { attributes_start, attributes, .. } = self.node(node).data else {
            return None;
        };
        let start = attributes_start as usize;
        let found = self
            .attributes
            .get(start..start + usize::from(attributes))?
            .iter()
            .find(|attribute| &*attribute.name == wanted)?;
        self.values.get(found.value.start as usize..found.value.end as usize)
    }

    /// The parent; none for the document.
    pub(crate) fn parent(&self, node: NodeId) -> Option<NodeId> {
        (node != Self::ROOT).then(|| NodeId(self.node(node).parent))
    }

    /// The next sibling.
    pub(crate) fn next(&self, node: NodeId) -> Option<NodeId> {
        link(self.node(node).next)
    }

    /// The children in order.
    pub(crate) fn children(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let first = link(self.node(node).first_child);
        std::iter::successors(first, |child| self.next(*child))
    }

    /// The nodes that contain this one, from the inside out.
    pub(crate) fn ancestors(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        std::iter::successors(self.parent(node), |parent| self.parent(*parent))
    }

    /// Every node below one, in document order, without the node itself.
    pub(crate) fn descendants(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let mut at = link(self.node(node).first_child);
        std::iter::from_fn(move || {
            let found = at?;
            at = link(self.node(found).first_child).or_else(|| self.next_outside(found, node));
            Some(found)
        })
    }

    /// The elements of one name below a node, in document order.
    pub(crate) fn elements(&self, below: NodeId, name: LocalName) -> impl Iterator<Item = NodeId> + '_ {
        self.descendants(below).filter(move |node| self.is(*node, &name))
    }

    /// Walks through a node and all below it; `visit` says of each entered node whether to go into
    /// it. A node that is not gone into is not left either.
    pub(crate) fn walk(&self, node: NodeId, mut visit: impl FnMut(Step) -> bool) {
        let mut at = node;
        loop {
            let is_open = visit(Step::Enter(at));
            if is_open && let Some(child) = link(self.node(at).first_child) {
                at = child;
                continue;
            }
            if is_open {
                visit(Step::Leave(at));
            }
            loop {
                if at == node {
                    return;
                }
                if let Some(next) = self.next(at) {
                    at = next;
                    break;
                }
                at = NodeId(self.node(at).parent);
                visit(Step::Leave(at));
            }
        }
    }

    /// The concatenated text of all text nodes below, up to about `bytes_max`.
    pub(crate) fn raw_text(&self, node: NodeId, bytes_max: usize) -> String {
        let mut text = String::new();
        for child in self.descendants(node) {
            if let Some(part) = self.text(child) {
                text.push_str(part);
                if text.len() > bytes_max {
                    break;
                }
            }
        }
        text
    }

    fn next_outside(&self, node: NodeId, limit: NodeId) -> Option<NodeId> {
        let mut at = node;
        loop {
            if at == limit {
                return None;
            }
            if let Some(next) = self.next(at) {
                return Some(next);
            }
            at = NodeId(self.node(at).parent);
        }
    }

    fn node(&self, node: NodeId) -> &Node {
        // Ids are made by this arena only, and nothing is ever removed from it.
        &self.nodes[node.0 as usize]
    }
}

/// A link of a node: 0 is the document, which is nobody's child, and stands for none.
fn link(index: u32) -> Option<NodeId> {
    (index != 0).then_some(NodeId(index))
}

#[cfg(test)]
mod tests;
