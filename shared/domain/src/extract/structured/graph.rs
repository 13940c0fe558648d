//! The objects of a page's structured data, and the postings among them.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Objects that are looked at, of all blocks together.
const OBJECTS_MAX: usize = 20_000;

/// Levels below which nothing is looked for: what [`super::json_ld`] lets through has no more.
const DEPTH_MAX: usize = 80;

/// Postings kept of a page: a listing's are discovered, and no more than 200 of them.
const POSTINGS_MAX: usize = 400;

/// Values of one property that are looked at.
const VALUES_MAX: usize = 400;

/// All objects of a page in one syntax.
#[derive(Debug, Default)]
pub(crate) struct Graph<'a> {
    by_id: HashMap<&'a str, &'a Value>,
    /// The postings, in document order.
    pub(crate) postings: Vec<&'a Map<String, Value>>,
    /// Addresses of the items of every `ItemList`.
    pub(crate) listed: Vec<&'a str>,
    objects: usize,
}

impl<'a> Graph<'a> {
    /// Looks through every value, at any depth.
    pub(crate) fn new(values: &'a [Value]) -> Self {
        let mut graph = Self::default();
        for value in values {
            graph.visit(value, 0);
        }
        graph
    }

    fn visit(&mut self, value: &'a Value, depth: usize) {
        if depth > DEPTH_MAX || self.objects >= OBJECTS_MAX {
            return;
        }
        match value {
            Value::Array(values) => values.iter().for_each(|value| self.visit(value, depth + 1)),
            Value::Object(object) => {
                self.objects += 1;
                // Of several objects with one id, the one that says most is it.
                if let Some(id) = object.get("@id").and_then(Value::as_str) {
                    let known = self.by_id.get(id).and_then(|known| known.as_object());
                    if known.is_none_or(|known| object.len() > known.len()) {
                        self.by_id.insert(id, value);
                    }
                }
                let is_reference = object.keys().all(|key| matches!(key.as_str(), "@id" | "@type"));
                if is_type(object, "jobposting") && !is_reference && self.postings.len() < POSTINGS_MAX {
                    self.postings.push(object);
                }
                if is_type(object, "itemlist") {
                    self.read_list(object);
                }
                object.values().for_each(|value| self.visit(value, depth + 1));
            }
            _ => {}
        }
    }

    fn read_list(&mut self, list: &'a Map<String, Value>) {
        for element in self.values(list, "itemListElement").take(VALUES_MAX) {
            let Value::Object(element) = element else {
                self.listed.extend(element.as_str());
                continue;
            };
            let url = property(element, "url").and_then(Value::as_str);
            let item_url = match property(element, "item") {
                Some(Value::String(url)) => Some(url.as_str()),
                Some(Value::Object(item)) => {
                    property(item, "url").or_else(|| item.get("@id")).and_then(Value::as_str)
                }
                _ => None,
            };
            self.listed.extend(url.or(item_url));
        }
    }

    /// The object that a value is or refers to by `@id`.
    pub(crate) fn object(&self, value: &'a Value) -> Option<&'a Map<String, Value>> {
        let object = value.as_object()?;
        if object.keys().all(|key| matches!(key.as_str(), "@id" | "@type"))
            && let Some(target) = object.get("@id").and_then(Value::as_str).and_then(|id| self.by_id.get(id))
        {
            return target.as_object();
        }
        Some(object)
    }

    /// The values of a property, with arrays opened.
    pub(crate) fn values(
        &self,
        object: &'a Map<String, Value>,
        name: &str,
    ) -> impl Iterator<Item = &'a Value> + use<'a> {
        property(object, name).into_iter().flat_map(|value| match value {
            Value::Array(values) => values.iter().take(VALUES_MAX),
            Value::Null => [].iter().take(0),
            value => std::slice::from_ref(value).iter().take(1),
        })
    }

    /// The first text of a property: of a string, a number, an `@value`, or an object's `name`.
    pub(crate) fn text(&self, object: &'a Map<String, Value>, name: &str) -> Option<String> {
        self.values(object, name).find_map(|value| self.text_of(value))
    }

    /// The text of a value, as for [`Graph::text`].
    pub(crate) fn text_of(&self, value: &'a Value) -> Option<String> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Object(_) => {
                let object = self.object(value)?;
                let inner = object.get("@value").or_else(|| property(object, "name"))?;
                match inner {
                    Value::String(text) => text.clone(),
                    Value::Array(values) => values.iter().find_map(Value::as_str)?.to_owned(),
                    _ => return None,
                }
            }
            _ => return None,
        };
        (!text.trim().is_empty()).then_some(text)
    }
}

/// The values of an array, or the one value itself.
pub(crate) fn each(value: &Value) -> std::slice::Iter<'_, Value> {
    match value {
        Value::Array(values) => values.iter(),
        value => std::slice::from_ref(value).iter(),
    }
}

/// A property by its schema.org name. Namespaces before the name do not matter, nor does case:
/// of the sites with microdata 8 % misspell a name, mostly by a capital (corpus of 2013).
pub(crate) fn property<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = object.get(name) {
        return Some(value);
    }
    object.iter().find(|(key, _)| local(key).eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Whether an object is of a type, given in lower case; the type may be one of several, with any
/// of the many spellings of the namespace and with a slash at its end.
pub(crate) fn is_type(object: &Map<String, Value>, wanted: &str) -> bool {
    let is_it = |value: &Value| value.as_str().is_some_and(|name| local(name).eq_ignore_ascii_case(wanted));
    match object.get("@type").or_else(|| object.get("type")) {
        Some(Value::Array(types)) => types.iter().take(16).any(is_it),
        Some(value) => is_it(value),
        None => false,
    }
}

fn local(name: &str) -> &str {
    let name = name.trim().trim_end_matches(['/', '#']);
    name.rsplit(['/', '#', ':']).next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn postings_are_found_wherever_they_are() {
        for value in [
            json!({"@type": "JobPosting", "title": "t"}),
            json!([{"@type": ["Thing", "JobPosting"], "title": "t"}]),
            json!({"@context": "x", "@graph": [{"@type": "WebPage"}, {"@type": "JobPosting", "title": "t"}]}),
            json!({"@type": "WebPage", "mainEntity": {"@type": "http://schema.org/JobPosting", "title": "t"}}),
            json!({"@type": "https://schema.org/jobPosting/", "title": "t"}),
            json!({"@type": "schema:JobPosting", "schema:title": "t"}),
        ] {
            let values = [value];
            let graph = Graph::new(&values);
            assert_eq!(graph.postings.len(), 1, "{values:?}");
            assert_eq!(graph.text(graph.postings[0], "title").as_deref(), Some("t"), "{values:?}");
        }
    }

    #[test]
    fn references_lead_to_the_object_also_in_another_block() {
        let values = [
            json!({"@type": "JobPosting", "title": "t", "hiringOrganization": {"@id": "#o"}}),
            json!({"@id": "#o", "@type": "Organization", "name": "Org"}),
            json!({"@id": "#self", "name": {"@id": "#self"}}),
        ];
        let graph = Graph::new(&values);
        assert_eq!(graph.text(graph.postings[0], "hiringOrganization").as_deref(), Some("Org"));
    }

    #[test]
    fn lists_give_the_addresses_of_their_items() {
        let values = [json!({"@type": "ItemList", "itemListElement": [
            {"@type": "ListItem", "position": 1, "url": "/1"},
            {"@type": "ListItem", "item": {"@type": "JobPosting", "url": "/2"}},
            {"@type": "ListItem", "item": "/3"},
            "/4",
            7,
        ]})];
        assert_eq!(Graph::new(&values).listed, ["/1", "/2", "/3", "/4"]);
    }
}
