//! Addresses: the page's canonical one, and those of other postings that it leads to.

use std::collections::HashSet;

use url::Url;

use super::dom::{Dom, NodeId, local_name};
use super::head::Head;
use super::kind::kind_of_title;
use super::warnings::Warnings;
use super::words::{clean_line, fold};
use crate::posting::Via;
use crate::posting::limits::DISCOVERED_URLS_MAX;
use crate::url::{Rules, normalize, same_registrable_domain};

/// Links of a page that are looked at.
const LINKS_MAX: usize = 5_000;

/// Claimed canonical addresses kept of a page.
const CLAIMED_MAX: usize = 10;

/// Where a posting lives by the page's own word.
#[derive(Debug, Default)]
pub(crate) struct Canonical {
    /// The address.
    pub(crate) url: String,
    /// Which of the page's words it is; none for the address that was fetched.
    pub(crate) via: Option<Via>,
    /// Addresses on other domains that the page claims as its own.
    pub(crate) claimed: Vec<String>,
}

/// The canonical address (§8): `rel=canonical` or `og:url` if on the same registrable domain as
/// the page, not its root, and only one; else the final address, unless that is a downgrade; else
/// the submitted one.
pub(crate) fn canonical(
    head: &Head,
    final_url: &str,
    submitted_url: &str,
    others: &[Url],
    warnings: &mut Warnings,
) -> Canonical {
    let Ok(page) = Url::parse(final_url) else {
        return Canonical { url: submitted_url.to_owned(), ..Canonical::default() };
    };
    let mut canonical = Canonical::default();
    let og: Vec<Url> = head.metas("og:url").iter().filter_map(|url| head.resolve(url)).collect();
    for url in head.canonical.iter().chain(&og).chain(others) {
        if !is_same_site(url, &page) && !is_root(url) && canonical.claimed.len() < CLAIMED_MAX {
            let claimed = without_fragment(url);
            if !canonical.claimed.contains(&claimed) {
                canonical.claimed.push(claimed);
            }
        }
    }
    for (urls, via) in [(&head.canonical, Via::Html), (&og, Via::Opengraph)] {
        let mut distinct: Vec<&Url> = Vec::new();
        for url in urls {
            if !distinct.contains(&url) {
                distinct.push(url);
            }
        }
        match distinct.as_slice() {
            [url] if is_same_site(url, &page) && !is_root(url) && !is_downgrade(&page, url) => {
                canonical.url = without_fragment(url);
                canonical.via = Some(via);
                return canonical;
            }
            [] | [_] => {}
            _ => warnings.push(
                "canonical_ambiguous",
                "the page names more than one canonical address; none was taken",
            ),
        }
    }
    canonical.url = match Url::parse(submitted_url) {
        Ok(submitted) if is_downgrade(&submitted, &page) => submitted.into(),
        _ => page.into(),
    };
    canonical
}

fn is_same_site(a: &Url, b: &Url) -> bool {
    match (a.host_str(), b.host_str()) {
        // Of an address by number, or of a laptop, the port is part of the name.
        (Some(host), Some(other)) => {
            same_registrable_domain(host, other)
                && (a.port_or_known_default() == b.port_or_known_default()
                    || crate::url::registrable_domain(host).is_some())
        }
        _ => false,
    }
}

fn is_root(url: &Url) -> bool {
    url.path() == "/" && url.query().is_none() && !url.fragment().is_some_and(is_route)
}

fn is_downgrade(from: &Url, to: &Url) -> bool {
    from.scheme() == "https" && to.scheme() == "http"
}

/// A fragment that is a route of a page made by script, and so part of the address (§7.1).
fn is_route(fragment: &str) -> bool {
    fragment.starts_with('/') || fragment.starts_with('!')
}

fn without_fragment(url: &Url) -> String {
    let mut url = url.clone();
    if !url.fragment().is_some_and(is_route) {
        url.set_fragment(None);
    }
    url.into()
}

/// Collects addresses, each once by its normal form, without the page's own.
#[derive(Debug)]
pub(crate) struct Discovered<'a> {
    rules: &'a Rules,
    seen: HashSet<String>,
    urls: Vec<String>,
}

impl<'a> Discovered<'a> {
    /// Begins with the addresses that are the page itself.
    pub(crate) fn new(rules: &'a Rules, own: &[&str]) -> Self {
        let seen =
            own.iter().filter_map(|url| Some(normalize(url, rules).ok()?.as_str().to_owned())).collect();
        Self { rules, seen, urls: Vec::new() }
    }

    /// Adds an address if it is new and there is room.
    pub(crate) fn add(&mut self, url: &Url) {
        if self.urls.len() >= DISCOVERED_URLS_MAX {
            return;
        }
        let url = without_fragment(url);
        if let Ok(normal) = normalize(&url, self.rules)
            && self.seen.insert(normal.as_str().to_owned())
        {
            self.urls.push(url);
        }
    }

    /// The addresses in the order in which they were added.
    pub(crate) fn into_urls(self) -> Vec<String> {
        self.urls
    }
}

/// A link to what is probably a posting.
#[derive(Debug)]
pub(crate) struct PostingLink {
    /// Its address.
    pub(crate) url: Url,
    /// Whether its text names a kind of opportunity.
    pub(crate) names_kind: bool,
}

/// The links on a page whose text or address looks like a posting's, outside of navigation.
pub(crate) fn posting_links(dom: &Dom, head: &Head, rules: &Rules) -> Vec<PostingLink> {
    let page = head.base.as_ref();
    let mut found: Vec<PostingLink> = Vec::new();
    for link in dom.elements(Dom::ROOT, local_name!("a")).take(LINKS_MAX) {
        let Some(url) = dom
            .attribute(link, "href")
            .filter(|href| !href.starts_with('#'))
            .and_then(|href| head.resolve(href))
        else {
            continue;
        };
        if is_root(&url) || is_in_chrome(dom, link) {
            continue;
        }
        let text = clean_line(&dom.raw_text(link, 400));
        let names_kind = text.split(' ').count() >= 2
            && kind_of_title(&text).is_some()
            && !super::phrases::is_listing(&text);
        let is_known = normalize(url.as_str(), rules).is_ok_and(|url| url.source_identity().is_some());
        let is_own = page.is_some_and(|page| is_same_site(&url, page));
        let has_path = is_own && is_posting_path(&url) && text.split(' ').count() >= 2;
        if !(names_kind || is_known || has_path) || super::phrases::is_apply_link(&text) {
            continue;
        }
        found.push(PostingLink { url, names_kind });
    }
    found
}

fn is_in_chrome(dom: &Dom, node: NodeId) -> bool {
    dom.ancestors(node).any(|ancestor| {
        dom.name(ancestor).is_some_and(|name| {
            matches!(*name, local_name!("nav") | local_name!("footer") | local_name!("aside"))
        }) || matches!(dom.attribute(ancestor, "role"), Some("navigation" | "contentinfo" | "complementary"))
    })
}

/// Folders under which sites keep postings, folded.
#[rustfmt::skip]
const FOLDERS: &[&str] = &[
    "job", "jobs", "vacancy", "vacancies", "position", "positions", "career", "careers", "opening", "openings", "opportunity", "opportunities", "call", "calls", "fellowship", "fellowships", "grant", "grants", "phd", "postdoc",
    "stelle", "stellen", "stellenangebot", "stellenangebote", "stellenausschreibung", "stellenausschreibungen", "karriere", "ausschreibung", "ausschreibungen", "offre", "offres", "emploi", "emplois", "recrutement", "these", "theses", "appel", "appels",
    "empleo", "empleos", "convocatoria", "convocatorias", "vacante", "vacantes", "plaza", "plazas", "bando", "bandi", "concorsi", "lavoro", "vaga", "vagas", "concurso", "concursos", "vacature", "vacatures", "jobb", "lediga-jobb", "stilling", "stillinger", "ledige-stillinger", "tyopaikat", "avoimet-tyopaikat",
];

/// Whether a path leads below such a folder, to a name or number.
pub(crate) fn is_posting_path(url: &Url) -> bool {
    let Some(segments) = url.path_segments() else {
        return false;
    };
    let segments: Vec<String> = segments.filter(|segment| !segment.is_empty()).map(fold).collect();
    let Some(folder) = segments.iter().position(|segment| FOLDERS.contains(&segment.as_str())) else {
        return false;
    };
    let below = &segments[folder + 1..];
    let has_id = url.query_pairs().any(|(name, value)| {
        matches!(fold(&name).as_str(), "id" | "jobid" | "job_id" | "job" | "vacancy" | "gh_jid" | "posting")
            && !value.is_empty()
    });
    has_id
        || below.last().is_some_and(|name| {
            !FOLDERS.contains(&name.as_str())
                && (name.contains('-') || name.bytes().any(|byte| byte.is_ascii_digit()) || name.len() >= 12)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical_of(
        head: &str,
        final_url: &str,
        submitted_url: &str,
    ) -> (String, Option<Via>, Vec<String>, usize) {
        let mut warnings = Warnings::default();
        let dom = Dom::parse(head, &mut warnings);
        let head = Head::read(&dom, final_url, &[]);
        let canonical = canonical(&head, final_url, submitted_url, &[], &mut warnings);
        (canonical.url, canonical.via, canonical.claimed, warnings.into_list().len())
    }

    #[test]
    fn the_canonical_address_is_the_pages_word_only_where_it_can_be_believed() {
        let page = "https://jobs.a.example/x?id=1";
        let own = || (page.to_owned(), None, vec![], 0);
        for (head, expected) in [
            ("", own()),
            (
                "<link rel=canonical href='/jobs/1'>",
                ("https://jobs.a.example/jobs/1".to_owned(), Some(Via::Html), vec![], 0),
            ),
            (
                "<link rel=canonical href='https://www.a.example/jobs/1#top'>",
                ("https://www.a.example/jobs/1".to_owned(), Some(Via::Html), vec![], 0),
            ),
            (
                "<meta property=og:url content='/jobs/1'>",
                ("https://jobs.a.example/jobs/1".to_owned(), Some(Via::Opengraph), vec![], 0),
            ),
            (
                "<link rel=canonical href='https://b.example/jobs/1'>",
                (page.to_owned(), None, vec!["https://b.example/jobs/1".to_owned()], 0),
            ),
            ("<link rel=canonical href='/'>", own()),
            ("<link rel=canonical href='http://jobs.a.example/jobs/1'>", own()),
            (
                "<link rel=canonical href='/a'><link rel=canonical href='/b'>",
                (page.to_owned(), None, vec![], 1),
            ),
            (
                "<link rel=canonical href='/a'><link rel=canonical href='/a'>",
                ("https://jobs.a.example/a".to_owned(), Some(Via::Html), vec![], 0),
            ),
        ] {
            assert_eq!(canonical_of(head, page, page), expected, "{head}");
        }
        // A downgrade on the way is followed, but the submitted address stays the canonical one.
        assert_eq!(canonical_of("", "http://a.example/x", "https://a.example/y").0, "https://a.example/y");
    }

    #[test]
    fn links_to_postings_are_told_from_others() {
        let dom = Dom::parse(
            "<nav><a href=/jobs/phd-1>PhD position one</a></nav><a href=/jobs/phd-2>PhD position two</a><a href=/jobs/4711>Gardener at campus</a>\
             <a href=/about>About us all</a><a href=/jobs>All jobs here</a><a href='#x'>PhD position</a><a href=/apply/2>Apply now</a>\
             <a href=https://boards.greenhouse.io/acme/jobs/5123456>Details</a><a href='mailto:a@b'>PhD position mail</a>",
            &mut Warnings::default(),
        );
        let head = Head::read(&dom, "https://a.example/jobs", &[]);
        let found: Vec<_> = posting_links(&dom, &head, &Rules::builtin())
            .iter()
            .map(|link| link.url.path().to_owned())
            .collect();
        assert_eq!(found, ["/jobs/phd-2", "/jobs/4711", "/acme/jobs/5123456"]);
    }
}
