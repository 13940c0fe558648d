//! The structured layers of a page, and which of their postings is the page's own.

use serde_json::{Map, Value};
use url::Url;

use super::attributes::{self, Syntax};
use super::graph::Graph;
use super::job_posting::{self, Reading, StructuredPosting};
use super::json_ld;
use crate::extract::dom::Dom;
use crate::extract::warnings::Warnings;
use crate::extract::words::fold;
use crate::posting::Via;
use crate::text::title_similarity;
use crate::url::{Rules, normalize};

/// Postings of one page that are read in full; the rest only for their address.
const POSTINGS_READ_MAX: usize = 60;

/// Similarity from which on a title and the page's heading are the same.
const SAME_TITLE: f64 = 0.8;

/// What tells the page's own posting from others on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own<'a> {
    /// Addresses of the page: canonical, final, submitted.
    pub(crate) urls: &'a [&'a str],
    /// The page's heading.
    pub(crate) heading: Option<&'a str>,
    /// Whether heading or title is that of a list.
    pub(crate) is_listing: bool,
    /// How URLs are compared.
    pub(crate) rules: &'a Rules,
}

/// All that structured data says.
#[derive(Debug, Default)]
pub(crate) struct Structured {
    /// The page's own posting by layer, the best first.
    pub(crate) own: Vec<(Via, StructuredPosting)>,
    /// Addresses of other postings.
    pub(crate) others: Vec<Url>,
    /// Whether several postings, or a list, stand on the page and none is its own.
    pub(crate) is_list: bool,
}

/// Reads JSON-LD, microdata and RDFa.
pub(crate) fn read(dom: &Dom, own: Own<'_>, reading: Reading<'_>, warnings: &mut Warnings) -> Structured {
    let mut structured = Structured::default();
    let json_ld = json_ld::read(dom, warnings);
    let microdata = attributes::read(dom, Syntax::Microdata);
    let rdfa = attributes::read(dom, Syntax::Rdfa);
    let mut is_list = false;
    for (via, values) in [(Via::JsonLd, &json_ld), (Via::Microdata, &microdata), (Via::Rdfa, &rdfa)] {
        let graph = Graph::new(values);
        let mut postings: Vec<(&Map<String, Value>, StructuredPosting)> = Vec::new();
        for object in graph.postings.iter().take(POSTINGS_READ_MAX) {
            let read = job_posting::read(&graph, object, reading, warnings);
            // One posting is often given twice, in full and as a part of something.
            let same = postings.iter().position(|(_, known)| is_same(known, &read));
            match same {
                Some(at) if postings[at].0.len() < object.len() => postings[at] = (object, read),
                Some(_) => {}
                None => postings.push((object, read)),
            }
        }
        let chosen = choose(&postings, own, graph.listed.len());
        is_list |= chosen.is_none() && (postings.len() > 1 || graph.listed.len() > 1);
        for (index, (_, posting)) in postings.into_iter().enumerate() {
            if Some(index) == chosen {
                structured.own.push((via, posting));
            } else {
                structured.others.extend(posting.urls.into_iter().next());
            }
        }
        structured.others.extend(graph.listed.iter().filter_map(|url| reading.head.resolve(url)));
    }
    structured.is_list = is_list && structured.own.is_empty();
    structured
}

fn is_same(a: &StructuredPosting, b: &StructuredPosting) -> bool {
    let same_title = match (&a.fields.title, &b.fields.title) {
        (Some(a), Some(b)) => fold(a) == fold(b),
        _ => false,
    };
    let shares_url = a.urls.iter().any(|url| b.urls.contains(url));
    let is_bare = a.urls.is_empty() || b.urls.is_empty();
    let same_identifier = a.fields.identifier == b.fields.identifier;
    same_title && same_identifier && (shares_url || is_bare)
}

/// The one posting that is the page's own, by address, then by heading; a single one that nothing
/// speaks against is it too.
fn choose(
    postings: &[(&Map<String, Value>, StructuredPosting)],
    own: Own<'_>,
    listed: usize,
) -> Option<usize> {
    let normal = |url: &str| Some(normalize(url, own.rules).ok()?.as_str().to_owned());
    let own_urls: Vec<String> = own.urls.iter().filter_map(|url| normal(url)).collect();
    let by_url = |(_, posting): &(&Map<String, Value>, StructuredPosting)| {
        posting.urls.iter().any(|url| normal(url.as_str()).is_some_and(|url| own_urls.contains(&url)))
    };
    let by_heading = |(_, posting): &(&Map<String, Value>, StructuredPosting)| {
        matches!((own.heading, &posting.fields.title), (Some(heading), Some(title))
            if fold(heading) == fold(title) || title_similarity(heading, title) >= SAME_TITLE)
    };
    let matches_url: Vec<usize> = positions(postings, by_url);
    let matches_heading: Vec<usize> = positions(postings, by_heading);
    match (postings.len(), matches_url.as_slice(), matches_heading.as_slice()) {
        (0, _, _) => None,
        // All items of a list may carry the list's own address; then it says nothing.
        (_, [one], _) => Some(*one),
        (_, _, [one]) => Some(*one),
        (1, _, _) => (!(own.is_listing || listed > 1)).then_some(0),
        (_, several, headed) if several.len() < postings.len() => {
            several.iter().find(|index| headed.contains(index)).copied()
        }
        _ => None,
    }
}

fn positions<T>(items: &[T], wanted: impl Fn(&T) -> bool) -> Vec<usize> {
    items.iter().enumerate().filter(|(_, item)| wanted(item)).map(|(index, _)| index).collect()
}
