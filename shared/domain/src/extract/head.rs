//! What a page says of itself in `meta` and `link` elements, and in its headers.

use std::collections::BTreeMap;

use url::Url;

use super::dom::{Dom, local_name};
use super::language;
use super::words::{clean_line, fold};

/// `meta` and `link` elements that are looked at. Real pages have up to some 150.
const ELEMENTS_MAX: usize = 1_000;

/// Addresses kept of one relation.
const LINKS_MAX: usize = 20;

/// The page's own statements.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// The title element's text.
    pub(crate) title: Option<String>,
    /// `content` of `meta` elements by `property` or `name`, folded; all values in order.
    meta: BTreeMap<String, Vec<String>>,
    /// Addresses of `link rel=canonical`, resolved.
    pub(crate) canonical: Vec<Url>,
    /// Base of relative addresses: the page's URL, or what `base` says.
    pub(crate) base: Option<Url>,
    /// Language by `html lang`, a header, or `meta`.
    pub(crate) language: Option<String>,
    /// The publisher asks not to be indexed.
    pub(crate) noindex: bool,
    /// The publisher asks not to be archived.
    pub(crate) noarchive: bool,
}

impl Head {
    /// Reads the head of a page that answered at `url` with `headers`.
    pub(crate) fn read(dom: &Dom, url: &str, headers: &[(String, String)]) -> Self {
        let mut head = Self { base: Url::parse(url).ok(), ..Self::default() };
        if let Some(base) = dom.elements(Dom::ROOT, local_name!("base")).next()
            && let Some(href) = dom.attribute(base, "href")
        {
            head.base = head.resolve(href).or(head.base);
        }
        head.title = dom
            .elements(Dom::ROOT, local_name!("title"))
            .map(|title| clean_line(&dom.raw_text(title, 4_096)))
            .find(|title| !title.is_empty());
        for meta in dom.elements(Dom::ROOT, local_name!("meta")).take(ELEMENTS_MAX) {
            let Some(content) = dom.attribute(meta, "content").filter(|content| !content.trim().is_empty())
            else {
                continue;
            };
            let names = ["property", "name", "http-equiv"].map(|name| dom.attribute(meta, name));
            for name in names.into_iter().flatten() {
                let values = head.meta.entry(fold(name)).or_default();
                if values.len() < LINKS_MAX {
                    values.push(content.trim().to_owned());
                }
            }
        }
        for link in dom.elements(Dom::ROOT, local_name!("link")).take(ELEMENTS_MAX) {
            let is_canonical = dom.attribute(link, "rel").is_some_and(|rel| {
                rel.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("canonical"))
            });
            if is_canonical
                && let Some(url) = dom.attribute(link, "href").and_then(|href| head.resolve(href))
                && !head.canonical.contains(&url)
                && head.canonical.len() < LINKS_MAX
            {
                head.canonical.push(url);
            }
        }
        head.language = head.find_language(dom, headers);
        head.read_robots(headers);
        head
    }

    /// The first value of a `meta` element.
    pub(crate) fn meta(&self, name: &str) -> Option<&str> {
        self.metas(name).first().map(String::as_str)
    }

    /// All values of a `meta` element.
    pub(crate) fn metas(&self, name: &str) -> &[String] {
        self.meta.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// An address on the page made absolute; only http and https, without user or password.
    pub(crate) fn resolve(&self, href: &str) -> Option<Url> {
        let href = href.trim();
        if href.is_empty() {
            return None;
        }
        let url = match &self.base {
            Some(base) => base.join(href).ok()?,
            None => Url::parse(href).ok()?,
        };
        is_web(&url).then_some(url)
    }

    fn find_language(&self, dom: &Dom, headers: &[(String, String)]) -> Option<String> {
        let html = dom.elements(Dom::ROOT, local_name!("html")).next();
        let body = dom.elements(Dom::ROOT, local_name!("body")).next();
        let said = [html, body].into_iter().flatten().filter_map(|node| dom.attribute(node, "lang"));
        said.chain(header(headers, "content-language"))
            .chain(self.meta("content-language"))
            .chain(self.meta("og:locale"))
            .find_map(|tag| language::tag_of(tag.split(',').next()?))
    }

    /// `meta` elements for all robots or for ours, and `X-Robots-Tag` headers alike.
    fn read_robots(&mut self, headers: &[(String, String)]) {
        let metas = ["robots", "callboard"].into_iter().flat_map(|name| self.metas(name));
        let rules: Vec<String> = metas
            .map(String::as_str)
            .chain(header(headers, "x-robots-tag").filter_map(for_us))
            .map(fold)
            .collect();
        for rule in rules.iter().flat_map(|rules| rules.split(',')).map(str::trim) {
            match rule {
                "noindex" => self.noindex = true,
                "noarchive" | "nocache" => self.noarchive = true,
                "none" => self.noindex = true,
                _ => {}
            }
        }
    }
}

/// The values of a header, whatever the case of its name.
pub(crate) fn header<'a>(headers: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// An `X-Robots-Tag` may name the robot that it is for: `otherbot: noindex` is not for us.
fn for_us(value: &str) -> Option<&str> {
    match value.split_once(':') {
        Some((agent, rules)) if !agent.contains(',') => {
            let agent = agent.trim().to_ascii_lowercase();
            match agent.as_str() {
                "callboard" | "*" => Some(rules),
                "unavailable_after" | "max-snippet" | "max-image-preview" | "max-video-preview" => {
                    Some(value)
                }
                _ => None,
            }
        }
        _ => Some(value),
    }
}

/// Whether a URL is one that callboard may store: http or https, a host, no user or password.
pub(crate) fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.as_str().len() <= crate::posting::limits::URL_CHARS_MAX
}

#[cfg(test)]
mod tests {
    use super::super::warnings::Warnings;
    use super::*;

    fn head(page: &str, headers: &[(&str, &str)]) -> Head {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Head::read(&Dom::parse(page, &mut Warnings::default()), "https://a.example/jobs/1", &headers)
    }

    #[test]
    fn robots_rules_come_from_meta_and_header_and_only_for_us() {
        for (page, headers, noindex, noarchive) in [
            ("<meta name=robots content='NOINDEX, follow'>", &[][..], true, false),
            ("<meta name=ROBOTS content=noarchive>", &[], false, true),
            ("<meta name=robots content=none>", &[], true, false),
            ("<meta name=googlebot content=noindex>", &[], false, false),
            ("", &[("X-Robots-Tag", "noindex, noarchive")], true, true),
            ("", &[("x-robots-tag", "otherbot: noindex")], false, false),
            ("", &[("x-robots-tag", "callboard: noindex")], true, false),
            ("<meta name=robots content='index'>", &[], false, false),
        ] {
            let head = head(page, headers);
            assert_eq!((head.noindex, head.noarchive), (noindex, noarchive), "{page} {headers:?}");
        }
    }

    #[test]
    fn addresses_are_resolved_and_only_those_of_the_web_are_kept() {
        let head =
            head("<base href='/b/'><link rel='x Canonical' href=c?d><link rel=canonical href=mailto:x>", &[]);
        assert_eq!(head.canonical.iter().map(Url::as_str).collect::<Vec<_>>(), ["https://a.example/b/c?d"]);
        assert!(head.resolve("javascript:alert(1)").is_none());
        assert!(head.resolve("https://user:pw@a.example/").is_none());
    }

    #[test]
    fn the_language_is_the_first_that_is_said() {
        assert_eq!(head("<html lang=de-at><p>", &[]).language.as_deref(), Some("de-AT"));
        assert_eq!(head("<p>", &[("Content-Language", "fr, en")]).language.as_deref(), Some("fr"));
        assert_eq!(head("<meta property=og:locale content=es_ES>", &[]).language.as_deref(), Some("es-ES"));
        assert_eq!(head("<p>", &[]).language, None);
    }
}
