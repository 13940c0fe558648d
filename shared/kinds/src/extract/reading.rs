//! From an extraction to a candidate's content: what the server computes, and never takes from a result (§0, rule 4).

use domain::extract::{Conflict, ExtractedPosting, ResultSource, extraction_confidence};
use domain::ids::EvidenceId;
use domain::posting::{FieldProvenance, PostingFields, Via};
use domain::projection::is_canonical_of;
use domain::state::UrlRole;
use domain::text::{organization_key, title_key};
use domain::trust::EffectivePolicy;
use domain::url::{NormalizedUrl, Rules, UrlHash, normalize};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use store::candidates::CandidateContent;
use store::candidates::links::CandidateUrl;
use store::discovery_jobs::DiscoveryWork;

/// Aliases of one extraction: a page that claims more is not describing itself.
const CLAIMED_URLS_MAX: usize = 20;

/// A source key that the module may not name was ignored.
const FLAG_SOURCE_KEY: &str = "source_key_not_allowed";
/// The publisher asks not to be indexed.
const FLAG_NOINDEX: &str = "noindex";
/// A posting with this hash was once taken down.
pub(super) const FLAG_WITHDRAWN: &str = "withdrawn_before";

/// One extraction of one discovery, with what is known of its circumstances.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'a> {
    /// The discovery.
    pub(super) discovery: &'a DiscoveryWork,
    /// What was read.
    pub(super) posting: &'a ExtractedPosting,
    /// What contradicts itself.
    pub(super) conflicts: &'a [Conflict],
    /// The publisher asks not to be indexed.
    pub(super) noindex: bool,
    /// Whether a posting with the hash was once taken down.
    pub(super) was_withdrawn: bool,
    /// Where the page is: the end of the redirects, as far as it may stand for the discovery.
    pub(super) page_url: &'a NormalizedUrl,
    /// Who read.
    pub(super) source: ResultSource,
    /// The policy in force for the discovery.
    pub(super) policy: &'a EffectivePolicy,
    /// The stored page.
    pub(super) evidence_id: Option<EvidenceId>,
    /// When it was fetched.
    pub(super) captured_at: Timestamp,
    /// How URLs are normalised.
    pub(super) rules: &'a Rules,
}

impl Reading<'_> {
    /// The posting's own address (§8): the page's word if it may stand, else where the page is. Both the text and the
    /// normal form. What was read over https is never named by http (§7.2).
    pub(super) fn canonical(&self) -> (String, NormalizedUrl) {
        if let Some(named) = &self.posting.fields.canonical_url
            && let Ok(normal) = normalize(named, self.rules)
            && (normal == *self.page_url || is_canonical_of(&normal, self.page_url))
            && (is_secure(&normal) || !is_secure(self.page_url))
        {
            return (named.clone(), normal);
        }
        (self.page_url.as_str().to_owned(), self.page_url.clone())
    }

    /// The candidate's content.
    pub(super) fn content(&self) -> CandidateContent {
        let (canonical_url, canonical) = self.canonical();
        let mut fields = self.posting.fields.clone();
        fields.canonical_url = Some(canonical_url.clone());
        CandidateContent {
            field_provenance: self.provenance(&fields),
            conflicts: self.conflicts.to_vec(),
            extraction_confidence: extraction_confidence(self.posting, self.conflicts, self.source),
            risk_flags: self.flags(&canonical).into_iter().collect(),
            canonical_hash: canonical.hash().0,
            normalized_url: canonical.as_str().to_owned(),
            organization_key: fields.organization_name.as_deref().map(organization_key).unwrap_or_default(),
            title_key: fields.title.as_deref().map(title_key).unwrap_or_default(),
            source_identity: self.source_identity(&canonical),
            authority_rank: self.policy.trust_level.rank(),
            authority_module_id: self.discovery.module.id,
            canonical_url,
            fields,
        }
    }

    fn provenance(&self, fields: &PostingFields) -> BTreeMap<String, FieldProvenance> {
        crate::publication::fields_map(fields)
            .keys()
            .filter_map(|field| {
                let read = self.posting.field_provenance.get(field)?;
                let is_hint = read.via == Via::Hints;
                let provenance = FieldProvenance {
                    via: read.via,
                    confidence: self.source.believed(Some(read)),
                    evidence_id: self.evidence_id.filter(|_| !is_hint).map(|id| id.0),
                    discovery_id: Some(self.discovery.id.0),
                    captured_at: Some(if is_hint { self.discovery.created_at } else { self.captured_at }),
                };
                Some((field.clone(), provenance))
            })
            .collect()
    }

    fn flags(&self, canonical: &NormalizedUrl) -> BTreeSet<String> {
        let mut flags: BTreeSet<String> = canonical.flags().iter().map(|flag| (*flag).to_owned()).collect();
        flags.extend(self.page_url.flags().iter().map(|flag| (*flag).to_owned()));
        let names_key = self.discovery.metadata.get("source_key").is_some_and(|key| !key.is_null());
        if names_key && self.discovery.source_key.is_none() {
            flags.insert(FLAG_SOURCE_KEY.to_owned());
        }
        if self.noindex {
            flags.insert(FLAG_NOINDEX.to_owned());
        }
        if self.was_withdrawn {
            flags.insert(FLAG_WITHDRAWN.to_owned());
        }
        flags.extend(self.conflicts.iter().map(|conflict| format!("conflict_{}_sources", conflict.field)));
        flags
    }

    /// A processor may not name it: only an address tells it then.
    fn source_identity(&self, canonical: &NormalizedUrl) -> Option<String> {
        let of_address = canonical.source_identity().or_else(|| self.page_url.source_identity());
        of_address.map(str::to_owned).or_else(|| match self.source {
            ResultSource::Callboard => self.posting.source_identity.clone(),
            ResultSource::Processor { .. } => None,
        })
    }

    /// The addresses that the extraction itself tells of; those of redirects are the chain's.
    pub(super) fn urls(&self, content: &CandidateContent) -> Vec<CandidateUrl> {
        let submitted = CandidateUrl {
            hash: self.discovery.canonical_hash,
            normalized_url: self.discovery.normalized_url.clone(),
            role: UrlRole::Submitted,
        };
        let canonical = CandidateUrl {
            hash: content.canonical_hash,
            normalized_url: content.normalized_url.clone(),
            role: UrlRole::Canonical,
        };
        let claimed = self.posting.claimed_urls.iter().take(CLAIMED_URLS_MAX);
        let others = claimed
            .map(|url| (url, UrlRole::Claimed))
            .chain(content.fields.application_url.iter().map(|url| (url, UrlRole::Application)))
            .filter_map(|(url, role)| {
                let normal = normalize(url, self.rules).ok()?;
                let UrlHash(hash) = normal.hash();
                Some(CandidateUrl { hash, normalized_url: normal.as_str().to_owned(), role })
            });
        [submitted, canonical].into_iter().chain(others).collect()
    }
}

fn is_secure(url: &NormalizedUrl) -> bool {
    url.as_str().starts_with("https:")
}

/// Whether a flag is computed anew by each extraction; others (dedupe's, a proposed change's) stay.
pub(super) fn is_of_extraction(flag: &str) -> bool {
    matches!(flag, FLAG_SOURCE_KEY | FLAG_NOINDEX | FLAG_WITHDRAWN)
        || flag == domain::url::FLAG_MIXED_SCRIPT_HOST
        || (flag.starts_with("conflict_") && flag.ends_with("_sources"))
}

/// What stands after an extraction, over what stood before.
///
/// A moderator's locked fields stay. A field that the extraction lacks goes only if it came from the same discovery:
/// another source's word, or an enrichment, is not unsaid by this one's silence; and what a posting cannot be without
/// never goes.
pub(super) fn merge(
    old: &CandidateContent,
    new: &CandidateContent,
    locked: &[String],
    discovery: uuid::Uuid,
) -> CandidateContent {
    let (old_fields, new_fields) =
        (crate::publication::fields_map(&old.fields), crate::publication::fields_map(&new.fields));
    let mut fields = new_fields.clone();
    let mut provenance = new.field_provenance.clone();
    for (name, value) in &old_fields {
        let is_locked = locked.contains(name);
        let is_absent = !new_fields.contains_key(name);
        let is_own = old.field_provenance.get(name).and_then(|from| from.discovery_id) == Some(discovery);
        let is_required = domain::projection::REQUIRED_FIELDS.contains(&name.as_str());
        if is_locked || (is_absent && (!is_own || is_required)) {
            fields.insert(name.clone(), value.clone());
            match old.field_provenance.get(name) {
                Some(from) => provenance.insert(name.clone(), from.clone()),
                None => provenance.remove(name),
            };
        }
    }
    // A locked field that a moderator emptied stays empty.
    for name in locked.iter().filter(|name| !old_fields.contains_key(*name)) {
        fields.remove(name);
        provenance.remove(name);
    }
    let fields: PostingFields =
        serde_json::from_value(serde_json::Value::Object(fields)).unwrap_or_else(|_| old.fields.clone());
    let keeps_identity = locked.iter().any(|name| name == "canonical_url");
    let identity = if keeps_identity { old } else { new };
    let kept = old.risk_flags.iter().filter(|flag| !is_of_extraction(flag));
    let flags: BTreeSet<String> = new.risk_flags.iter().chain(kept).cloned().collect();
    CandidateContent {
        field_provenance: provenance,
        conflicts: new.conflicts.clone(),
        extraction_confidence: new.extraction_confidence,
        risk_flags: flags.into_iter().collect(),
        canonical_hash: identity.canonical_hash,
        canonical_url: identity.canonical_url.clone(),
        normalized_url: identity.normalized_url.clone(),
        organization_key: fields.organization_name.as_deref().map(organization_key).unwrap_or_default(),
        title_key: fields.title.as_deref().map(title_key).unwrap_or_default(),
        source_identity: new.source_identity.clone().or_else(|| old.source_identity.clone()),
        authority_rank: new.authority_rank,
        authority_module_id: new.authority_module_id,
        fields,
    }
}
