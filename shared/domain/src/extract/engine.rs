//! The order of things: from a page to its verdict.

use jiff::Timestamp;
use serde_json::Value;
use url::Url;

use super::dates::{Moment, SlashOrder};
use super::dom::Dom;
use super::head::{Head, header};
use super::html::{self, Visible};
use super::kind::{kind_of, kind_of_title};
use super::layer::{FREE_TEXT_HINTS, Layer, Merged, structured_hints};
use super::links::{self, Canonical, Discovered};
use super::result::{ClosedBy, Conflict, ExtractedPosting, Extraction, Verdict};
use super::segments::{self, Line};
use super::structured::job_posting::{Reading, organization_name};
use super::structured::layers::{self, Own, Structured};
use super::warnings::Warnings;
use super::words::{clean_line, clean_text, cut, fold};
use super::{ExtractContext, Page, charset, opengraph, phrases, title};
use crate::posting::limits::*;
use crate::posting::{PostingFields, Via};
use crate::text::truncate_chars;
use crate::url::normalize;

/// Links to postings from which on a page without other signs is a list.
const LISTING_LINKS_MIN: usize = 4;

/// Words of postings from which on a text is one, if its title does not say so already.
const POSTING_WORDS_MIN: usize = 3;

/// Characters of text in which such words are looked for.
const POSTING_TEXT_CHARS: usize = 20_000;

/// Reads a page: see [`super::extract`].
pub(super) fn extract(page: &Page<'_>, context: &ExtractContext<'_>) -> Extraction {
    let mut warnings = Warnings::default();
    let content_type = page.content_type.or_else(|| header(page.headers, "content-type").next());
    let mut extraction = if is_html(content_type, page.body) {
        let text = charset::decode(page.body, content_type, &mut warnings);
        let dom = Dom::parse(&text, &mut warnings);
        drop(text);
        Reader::new(page, context, &dom).read(&mut warnings)
    } else {
        warnings.push(
            "not_html",
            format!("the page is {}, which is not read", content_type.unwrap_or("of no known type")),
        );
        let dom = Dom::parse("", &mut warnings);
        Reader::new(page, context, &dom).read(&mut warnings)
    };
    extraction.warnings = warnings.into_list();
    extraction
}

/// Whether a body is HTML: by its type, or without one by its beginning.
pub(super) fn is_html(content_type: Option<&str>, body: &[u8]) -> bool {
    let essence =
        content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "text/html" | "application/xhtml+xml" => true,
        ""
        | "text/plain"
        | "application/octet-stream"
        | "unknown/unknown"
        | "application/unknown"
        | "*/*"
        | "text/xml"
        | "application/xml" => {
            let head = body.get(..1_024).unwrap_or(body).to_ascii_lowercase();
            let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head);
            let contains = |tag: &[u8]| head.windows(tag.len()).any(|window| window == tag);
            contains(b"<!doctype html") || contains(b"<html") || contains(b"<head") || contains(b"<body")
                // Without any type, a tag at the beginning is enough.
                || (essence.is_empty() && head.trim_ascii_start().starts_with(b"<") && !head.trim_ascii_start().starts_with(b"<?xml"))
        }
        _ => false,
    }
}

struct Reader<'a> {
    page: &'a Page<'a>,
    context: &'a ExtractContext<'a>,
    dom: &'a Dom,
    head: Head,
    lines: Vec<Line>,
    segments: Vec<segments::Segment>,
}

/// What the titles and headings of a page say of it.
#[derive(Debug, Default)]
struct Signs {
    is_closed: bool,
    is_not_found: bool,
    is_form: bool,
    is_listing: bool,
    heading: Option<String>,
}

impl<'a> Reader<'a> {
    fn new(page: &'a Page<'a>, context: &'a ExtractContext<'a>, dom: &'a Dom) -> Self {
        let segments = segments::read(dom);
        Self {
            page,
            context,
            dom,
            head: Head::read(dom, page.url, page.headers),
            lines: segments::lines(&segments),
            segments,
        }
    }

    fn read(&self, warnings: &mut Warnings) -> Extraction {
        let signs = self.signs();
        let order = SlashOrder::of_language(self.head.language.as_deref());
        let first = links::canonical(
            &self.head,
            self.page.url,
            self.page.submitted_url,
            &[],
            &mut Warnings::default(),
        );
        let own_urls = [first.url.as_str(), self.page.url, self.page.submitted_url];
        let own = Own {
            urls: &own_urls,
            heading: signs.heading.as_deref(),
            is_listing: signs.is_listing,
            rules: self.context.rules,
        };
        let structured = layers::read(self.dom, own, Reading { head: &self.head, order }, warnings);
        let visible = html::read(self.dom, &self.head, &self.segments, &self.lines, order, warnings);
        let posting_urls: Vec<Url> =
            structured.own.iter().flat_map(|(_, posting)| posting.urls.clone()).collect();
        let canonical =
            links::canonical(&self.head, self.page.url, self.page.submitted_url, &posting_urls, warnings);
        let mut discovered =
            Discovered::new(self.context.rules, &[&canonical.url, self.page.url, self.page.submitted_url]);
        structured.others.iter().for_each(|url| discovered.add(url));

        let hints = self.hint_layers();
        let has_hints = hints.iter().any(|layer| layer.fields.title.is_some());
        let verdict = self.judge(&signs, &structured, &visible, has_hints, &mut discovered);
        let mut extraction = Extraction {
            discovered_urls: discovered.into_urls(),
            noindex: self.head.noindex,
            noarchive: self.head.noarchive,
            ..Extraction::bare(verdict)
        };
        if matches!(verdict, Verdict::Listing | Verdict::NotAPosting) {
            return extraction;
        }
        let mut merged = self.merge(&structured, &visible, &hints);
        extraction.conflicts = conflicts(&structured, &visible);
        extraction.closed_by = self.closed_by(&signs, &merged, extraction.conflicts.is_empty());
        if extraction.closed_by.is_some() {
            extraction.verdict = Verdict::Closed;
        }
        let posting = self.finish(&mut merged, canonical);
        if posting.fields.title.is_some() {
            extraction.postings.push(posting);
        } else if extraction.verdict == Verdict::Posting {
            warnings.push("no_title", "the page looks like a posting, but has no title");
            extraction.verdict = Verdict::NotAPosting;
        }
        extraction
    }

    fn signs(&self) -> Signs {
        let headings =
            self.lines.iter().filter(|line| (1..=3).contains(&line.heading) && !line.is_chrome).take(40);
        let h1 = self
            .lines
            .iter()
            .filter(|line| line.heading == 1 && !line.is_chrome)
            .map(|line| line.text.as_str())
            .take(8);
        // Some pages have an h1 for the site's name and another for the posting.
        let site = self.head.meta("og:site_name").map(fold);
        let h1: Vec<&str> = h1.filter(|text| Some(fold(text)) != site).collect();
        let title = self.head.title.as_deref().or(self.head.meta("og:title"));
        let top: Vec<&str> =
            title.into_iter().chain(self.head.meta("og:title")).chain(h1.iter().copied()).collect();
        let statuses = self.lines.iter().filter(|line| line.is_status && line.text.chars().count() <= 300);
        // A status beside an item of a list is about the item.
        let statuses = statuses.take(40).map(|line| line.text.as_str());
        let is_closed = top
            .iter()
            .copied()
            .chain(headings.map(|line| line.text.as_str()))
            .chain(statuses)
            .any(phrases::is_closed);
        let heading = h1.iter().find(|text| !title::is_generic(text)).map(|text| (*text).to_owned());
        Signs {
            is_closed,
            is_not_found: top.iter().any(|text| phrases::is_not_found(text)),
            is_form: top.iter().all(|text| phrases::is_form(text)) && !top.is_empty(),
            is_listing: match h1.first() {
                Some(_) => h1.iter().any(|text| phrases::is_listing(text)),
                None => top.iter().any(|text| phrases::is_listing(text)),
            },
            heading,
        }
    }

    /// The verdict, apart from being closed.
    fn judge(
        &self,
        signs: &Signs,
        structured: &Structured,
        visible: &Visible,
        has_hints: bool,
        discovered: &mut Discovered<'_>,
    ) -> Verdict {
        let is_own = !structured.own.is_empty();
        if self.page.status >= 400 {
            let is_gone = matches!(self.page.status, 404 | 410) && is_own;
            return if is_gone { Verdict::Closed } else { Verdict::NotAPosting };
        }
        if is_own {
            return Verdict::Posting;
        }
        if signs.is_closed && !structured.is_list && !signs.is_listing {
            return Verdict::Closed;
        }
        if signs.is_not_found {
            return Verdict::NotAPosting;
        }
        let mut posting_links = links::posting_links(self.dom, &self.head, self.context.rules);
        let mut distinct: Vec<String> = posting_links.iter().map(|link| link.url.to_string()).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let top_title = signs.heading.as_deref().or(self.head.title.as_deref()).unwrap_or_default();
        let names_kind = kind_of_title(top_title).is_some();
        let named_links = posting_links.iter().filter(|link| link.names_kind).count();
        let has_terms = !visible.deadlines.is_empty() || visible.has_apply_link;
        let is_list = structured.is_list
            || signs.is_listing
            || (distinct.len() >= LISTING_LINKS_MIN
                && named_links >= LISTING_LINKS_MIN
                && !names_kind
                && !visible.has_apply_link)
            || (distinct.len() >= 2 * LISTING_LINKS_MIN
                && named_links >= 2 * LISTING_LINKS_MIN
                && !visible.has_apply_link);
        if is_list {
            posting_links.iter_mut().for_each(|link| discovered.add(&link.url));
            return Verdict::Listing;
        }
        if signs.is_form && !has_hints {
            return Verdict::NotAPosting;
        }
        if has_hints || self.is_posting_text(names_kind, has_terms) {
            Verdict::Posting
        } else {
            Verdict::NotAPosting
        }
    }

    /// Whether a page without markup is a posting: its title names a kind of opportunity and it
    /// is no article about one, or its text is one's.
    fn is_posting_text(&self, names_kind: bool, has_terms: bool) -> bool {
        let page_url = Url::parse(self.page.url).ok();
        let is_known =
            normalize(self.page.url, self.context.rules).is_ok_and(|url| url.source_identity().is_some());
        let is_path = page_url.as_ref().is_some_and(links::is_posting_path);
        let is_root = page_url.as_ref().is_some_and(|url| url.path() == "/" && url.query().is_none());
        let is_article = self.head.meta("og:type").is_some_and(|kind| fold(kind).contains("article"))
            || page_url.as_ref().is_some_and(|url| {
                url.path_segments().is_some_and(|mut segments| {
                    segments.any(|segment| {
                        matches!(
                            segment.to_ascii_lowercase().as_str(),
                            "news" | "blog" | "press" | "aktuelles" | "actualites" | "noticias" | "nyheter"
                        )
                    })
                })
            });
        let mut text = String::new();
        for line in self.lines.iter().filter(|line| !line.is_chrome) {
            text.push_str(&line.text);
            text.push('\n');
            if text.len() > POSTING_TEXT_CHARS {
                break;
            }
        }
        for name in ["og:description", "description"] {
            text.push_str(self.head.meta(name).unwrap_or_default());
            text.push('\n');
        }
        let words = phrases::posting_words(&fold(&text), 2 * POSTING_WORDS_MIN);
        if is_root && !(names_kind && has_terms) {
            return false;
        }
        if is_article {
            return has_terms && words >= POSTING_WORDS_MIN;
        }
        names_kind
            || is_known
            || (has_terms && (is_path || words >= 1))
            || (is_path && words >= 1)
            || words > POSTING_WORDS_MIN
    }

    fn merge(&self, structured: &Structured, visible: &Visible, hints: &[Layer]) -> Merged {
        let host = Url::parse(self.page.url)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default();
        let mut merged = Merged::default();
        for (via, posting) in &structured.own {
            merged.take(&Layer::new(*via, posting.fields.clone()));
        }
        let mut opengraph = opengraph::read(&self.head, &host);
        if opengraph
            .title
            .as_deref()
            .is_some_and(|title| phrases::is_closed_notice(title) || phrases::is_not_found(title))
        {
            opengraph.title = None;
        }
        merged.take(&Layer::new(Via::Opengraph, opengraph));
        merged.take(&Layer::new(Via::Html, visible.fields.clone()));
        for layer in hints {
            merged.take(layer);
        }
        let names: Vec<&str> = merged
            .fields
            .organization_name
            .as_deref()
            .into_iter()
            .chain(self.head.meta("og:site_name"))
            .collect();
        let bare = self
            .head
            .title
            .as_deref()
            .filter(|title| !phrases::is_closed_notice(title) && !phrases::is_not_found(title))
            .and_then(|title| title::bare(title, &names));
        merged.take(&Layer::new(Via::Html, PostingFields { title: bare, ..PostingFields::default() }));
        merged
    }

    fn hint_layers(&self) -> Vec<Layer> {
        let Some(hints) = self.context.hints else {
            return Vec::new();
        };
        let mut structured = hints.fields();
        // Where a posting lives is for the page to say; a hint is kept as a claim.
        structured.canonical_url = None;
        if structured.locations.is_empty() {
            let place = crate::posting::Location {
                country: structured.country.clone(),
                region: structured.region.clone(),
                city: structured.city.clone(),
            };
            structured.locations.extend((!place.is_empty()).then_some(place));
        } else if structured.country.is_none() && structured.region.is_none() && structured.city.is_none() {
            super::structured::job_posting::spread_first_location(&mut structured);
        }
        if let (None, Some(date)) = (structured.deadline, structured.deadline_date) {
            structured.deadline = super::dates::read_rfc3339(&date.to_string()).map(|moment| moment.instant);
        }
        let free = PostingFields {
            title: hints.title_hint.as_deref().and_then(|text| title::from_plain(text, &[])),
            organization_name: hints.organization_hint.as_deref().and_then(organization_name),
            description_text: hints
                .text_hint
                .as_deref()
                .map(clean_text)
                .filter(|text| !text.is_empty())
                .map(|text| truncate_chars(&text, DESCRIPTION_CHARS_MAX).trim_end().to_owned()),
            ..PostingFields::default()
        };
        vec![
            Layer {
                via: Via::Hints,
                confidence: structured_hints(self.context.module_trust),
                fields: structured,
            },
            Layer { via: Via::Hints, confidence: FREE_TEXT_HINTS, fields: free },
        ]
    }

    fn closed_by(&self, signs: &Signs, merged: &Merged, dates_agree: bool) -> Option<ClosedBy> {
        if matches!(self.page.status, 404 | 410) {
            return Some(ClosedBy::Gone);
        }
        let deadline: Option<Timestamp> = merged.fields.deadline;
        if dates_agree && deadline.is_some_and(|deadline| deadline < self.context.now) {
            return Some(match merged.via("deadline") {
                Some(Via::JsonLd | Via::Microdata | Via::Rdfa) => ClosedBy::StructuredDeadline,
                _ => ClosedBy::VisibleDeadline,
            });
        }
        signs.is_closed.then_some(ClosedBy::Phrase)
    }

    /// Adds what is made from other fields, and what belongs to the posting besides its fields.
    fn finish(&self, merged: &mut Merged, canonical: Canonical) -> ExtractedPosting {
        let source_identity = self.source_identity(merged, &canonical.url);
        let via = canonical.via.unwrap_or(Via::Html);
        merged.fields.canonical_url = Some(canonical.url);
        merged.note("canonical_url", via, super::layer::confidence_of(via));
        if merged.fields.application_url == merged.fields.canonical_url {
            merged.fields.application_url = None;
            merged.provenance.remove("application_url");
        }
        if merged.fields.summary.is_none()
            && let Some(description) = &merged.fields.description_text
        {
            merged.fields.summary = Some(summary_of(description));
            merged.note_like("summary", "description_text");
        }
        if let Some(title) = &merged.fields.title
            && let Some(kind) = kind_of(title, &merged.fields.employment_type)
            && (merged.fields.opportunity_kind.is_none()
                || merged.via("opportunity_kind") == Some(Via::Hints))
        {
            let model = if kind_of_title(title).is_some() { "title" } else { "employment_type" };
            merged.fields.opportunity_kind = Some(kind);
            merged.note_like("opportunity_kind", model);
        }
        let mut claimed_urls = canonical.claimed;
        let hinted = self.context.hints.and_then(|hints| hints.fields().canonical_url);
        if let Some(url) = hinted
            .filter(|url| Some(url) != merged.fields.canonical_url.as_ref() && !claimed_urls.contains(url))
        {
            claimed_urls.push(url);
        }
        ExtractedPosting {
            fields: std::mem::take(&mut merged.fields),
            field_provenance: std::mem::take(&mut merged.provenance),
            claimed_urls,
            source_identity,
        }
    }

    /// The publisher's own key: by an address of a known system, else by a structured identifier
    /// on the page's registrable domain.
    fn source_identity(&self, merged: &Merged, canonical_url: &str) -> Option<String> {
        let rules = self.context.rules;
        let addresses = [
            Some(canonical_url),
            Some(self.page.url),
            Some(self.page.submitted_url),
            merged.fields.application_url.as_deref(),
        ];
        let by_system = addresses
            .into_iter()
            .flatten()
            .find_map(|url| normalize(url, rules).ok()?.source_identity().map(str::to_owned));
        by_system.or_else(|| {
            let is_structured =
                matches!(merged.via("identifier"), Some(Via::JsonLd | Via::Microdata | Via::Rdfa));
            let identifier = merged.fields.identifier.as_deref().filter(|_| is_structured)?;
            let domain = normalize(canonical_url, rules).ok()?.registrable_domain()?;
            Some(format!("{domain}:{identifier}"))
        })
    }
}

/// The structured deadline against those that the page shows.
fn conflicts(structured: &Structured, visible: &Visible) -> Vec<Conflict> {
    let Some(moment): Option<Moment> = structured.own.iter().find_map(|(_, posting)| posting.deadline) else {
        return Vec::new();
    };
    match html::contradicting(moment, &visible.deadlines) {
        Some(other) => vec![Conflict {
            field: "deadline".to_owned(),
            values: [moment, other].map(|moment| Value::String(moment.instant.to_string())).to_vec(),
        }],
        None => Vec::new(),
    }
}

/// The beginning of a description, one line, cut at a sentence's or word's end.
fn summary_of(description: &str) -> String {
    let head = clean_line(truncate_chars(description, 2 * SUMMARY_CHARS_MAX));
    if head.chars().count() <= SUMMARY_CHARS_MAX {
        return head;
    }
    let mut summary =
        cut(&head, SUMMARY_CHARS_MAX - 1).trim_end_matches([',', ';', ':', '-', ' ']).to_owned();
    if !summary.ends_with(['.', '!', '?']) {
        summary.push('…');
    }
    summary
}
