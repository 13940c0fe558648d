//! The OpenGraph layer: what a page gives to those who make cards of it.

use super::head::Head;
use super::structured::job_posting::organization_name;
use super::text::markup_text;
use super::title;
use crate::posting::PostingFields;
use crate::posting::limits::DESCRIPTION_CHARS_MAX;
use crate::text::truncate_chars;
use crate::url::registrable_domain;

/// Sites that carry postings of others: their name is no employer's. Registrable domains.
#[rustfmt::skip]
const AGGREGATORS: &[&str] = &[
    "linkedin.com", "indeed.com", "glassdoor.com", "monster.com", "stepstone.de", "stepstone.com", "xing.com", "ziprecruiter.com", "adzuna.com", "jooble.org", "talent.com",
    "europa.eu", "jobs.ac.uk", "academicpositions.com", "academicpositions.de", "academicpositions.eu", "findaphd.com", "findapostdoc.com", "jobrxiv.org", "nature.com", "science.org", "sciencecareers.org", "newscientist.com",
    "researchgate.net", "academics.de", "academics.com", "higheredjobs.com", "timeshighereducation.com", "inomics.com", "academictransfer.com", "academictransfer.nl", "jobbnorge.no", "varbi.com", "mathjobs.org", "academicjobsonline.org",
    "scholarshipdb.net", "phdportal.com", "mastersportal.com", "daad.de", "euroscience.org", "hyperspace.com", "interfolio.com", "inspirehep.net", "researchjobs.cz", "emploi-recherche.fr", "abg.asso.fr", "adum.fr", "apec.fr", "welcometothejungle.com",
    "greenhouse.io", "lever.co", "myworkdayjobs.com", "myworkdaysite.com", "workday.com", "ashbyhq.com", "smartrecruiters.com", "personio.de", "personio.com", "teamtailor.com", "recruitee.com", "workable.com", "bamboohr.com", "jobvite.com", "icims.com",
    "successfactors.com", "successfactors.eu", "taleo.net", "breezy.hr", "jazzhr.com", "applytojob.com", "softgarden.io", "rexx-systems.com", "onlyfy.jobs", "factorial.co", "pinpointhq.com", "reachmee.com", "hr-manager.net", "easycruit.com", "jobylon.com",
    "facebook.com", "twitter.com", "x.com", "medium.com", "github.io", "notion.site", "google.com", "wordpress.com", "blogspot.com", "wixsite.com",
];

/// Whether a host carries the postings of others.
pub(crate) fn is_aggregator(host: &str) -> bool {
    registrable_domain(host).is_some_and(|domain| AGGREGATORS.contains(&domain.as_str()))
}

/// Title, organisation and description from `meta` elements.
pub(crate) fn read(head: &Head, host: &str) -> PostingFields {
    let site_name = head.meta("og:site_name").map(markup_text).filter(|name| !name.is_empty());
    let names: Vec<&str> = site_name.iter().map(String::as_str).collect();
    let metas = |names: &'static [&'static str]| names.iter().flat_map(|name| head.metas(name));
    PostingFields {
        title: metas(&["og:title", "twitter:title"]).find_map(|text| title::read(text, &names)),
        organization_name: site_name
            .as_deref()
            .filter(|_| !is_aggregator(host))
            .and_then(organization_name)
            // A site that is called like its host says nothing of who runs it.
            .filter(|name| !name.contains("://") && !name.eq_ignore_ascii_case(host)),
        description_text: metas(&["og:description", "twitter:description", "description"])
            .map(|text| markup_text(text))
            .find(|text| !text.is_empty())
            .map(|text| truncate_chars(&text, DESCRIPTION_CHARS_MAX).trim_end().to_owned()),
        ..PostingFields::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::dom::Dom;
    use crate::extract::warnings::Warnings;

    fn fields(page: &str, url: &str) -> PostingFields {
        let dom = Dom::parse(page, &mut Warnings::default());
        let host = url::Url::parse(url).unwrap().host_str().unwrap().to_owned();
        read(&Head::read(&dom, url, &[]), &host)
    }

    #[test]
    fn the_sites_name_is_an_organisation_unless_it_is_an_aggregators() {
        let page = "<meta property=og:title content='Postdoc in X | Lindenau &amp;amp; Co'>\
            <meta property=og:site_name content='Lindenau &amp;amp; Co'><meta name=description content='Text'>";
        let own = fields(page, "https://lindenau.example/x");
        assert_eq!(own.title.as_deref(), Some("Postdoc in X"));
        assert_eq!(own.organization_name.as_deref(), Some("Lindenau & Co"));
        assert_eq!(own.description_text.as_deref(), Some("Text"));
        for url in [
            "https://www.linkedin.com/jobs/1",
            "https://boards.greenhouse.io/a/jobs/1",
            "https://euraxess.ec.europa.eu/jobs/1",
        ] {
            assert_eq!(fields(page, url).organization_name, None, "{url}");
        }
    }
}
