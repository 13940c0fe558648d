//! Checks a discovery as it was sent, and brings its URL into normal form.

use crate::auth::machine::Machine;
use crate::json::{Errors, Reader, check_characters, nfc};
use crate::problem::{FieldError, INVALID_URL, ORIGIN_MISMATCH, Problem};
use domain::ids::{DiscoveryId, EvidenceId};
use domain::posting::Hints;
use domain::url::{Rules, URL_LENGTH_MAX, normalize};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use store::discoveries::NewDiscovery;

/// A module's clock may be ahead by this much.
const FUTURE_MAX: SignedDuration = SignedDuration::from_mins(5);
/// What was found longer ago is no discovery: sightings are not kept longer either.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(400 * 24);
const EXTERNAL_ID_CHARS_MAX: usize = 256;
const METADATA_BYTES_MAX: usize = 16 * 1024;
const EVIDENCE_REFS_MAX: usize = 50;

/// A discovery that may be stored.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// What is stored.
    pub discovery: kinds::ingest::Submitted,
    /// The pointer of the discovery in its request's body, for errors that are found later.
    pub pointer: String,
}

/// Reads the discovery at `pointer` of a request's body.
///
/// # Errors
/// `origin-mismatch` if it names another module; `invalid-url` if nothing but its URL is wrong; `validation` with
/// everything that is wrong.
pub fn read(
    value: &Value,
    pointer: &str,
    machine: &Machine,
    rules: &Rules,
    now: Timestamp,
) -> Result<Submitted, Problem> {
    let named = value.get("origin_module_id").and_then(Value::as_str);
    if named.is_some_and(|named| named != machine.module_id()) {
        return Err(Problem::new(
            ORIGIN_MISMATCH,
            "origin_module_id must be the module that sends the request.",
        ));
    }
    let mut errors = Errors::default();
    let mut url_error = None;
    let submitted = Reader::new(value, pointer, &mut errors)
        .and_then(|reader| read_members(reader, pointer, machine, rules, now, &mut url_error));
    match url_error {
        // Only the URL: a client that checks the type alone learns what is wrong.
        Some(error) if errors.is_empty() => {
            Err(Problem::new(INVALID_URL, error.detail.clone()).with_errors(vec![error]))
        }
        Some(error) => {
            errors.add(error.pointer, &error.code, error.detail);
            errors.check(submitted)
        }
        None => errors.check(submitted),
    }
}

fn read_members(
    mut reader: Reader<'_, '_>,
    pointer: &str,
    machine: &Machine,
    rules: &Rules,
    now: Timestamp,
    url_error: &mut Option<FieldError>,
) -> Option<Submitted> {
    let origin = reader.required_text("origin_module_id", 1, 63);
    reader.require("url");
    let url = reader.verbatim("url", 1, URL_LENGTH_MAX);
    let normalized = url.as_deref().and_then(|url| match normalize(url, rules) {
        Ok(normalized) => Some(normalized),
        Err(error) => {
            *url_error = Some(FieldError {
                pointer: reader.pointer("url"),
                code: error.code().to_owned(),
                detail: sentence(&error.to_string()),
            });
            None
        }
    });
    reader.require("discovered_at");
    let discovered_at = reader.time("discovered_at").filter(|at| {
        let problem = if at.duration_since(now) > FUTURE_MAX {
            Some("This lies more than 5 minutes in the future.")
        } else if now.duration_since(*at) > AGE_MAX {
            Some("This lies more than 400 days in the past.")
        } else {
            None
        };
        if let Some(problem) = problem {
            reader.error("discovered_at", "range", problem);
        }
        problem.is_none()
    });
    let external_id = reader.text("external_id", 1, EXTERNAL_ID_CHARS_MAX);
    let hints = read_hints(&mut reader, pointer);
    let evidence_refs = read_evidence_refs(&mut reader);
    let metadata = reader.object("metadata", METADATA_BYTES_MAX).unwrap_or_default();
    let (source_key, resolve_redirects) = read_metadata(&mut reader, &metadata);
    reader.finish();

    origin?;
    let (url, normalized, discovered_at, hints) = (url?, normalized?, discovered_at?, hints?);
    let new = NewDiscovery {
        id: DiscoveryId::new(),
        external_id,
        discovered_at,
        url,
        normalized_url: normalized.as_str().to_owned(),
        canonical_hash: normalized.hash().0,
        title_hint: hints.title_hint,
        organization_hint: hints.organization_hint,
        text_hint: hints.text_hint,
        hints: hints.hints.map_or_else(|| json!({}), Value::Object),
        metadata: Value::Object(metadata),
        // One that is not the module's to name is ignored; its candidate is flagged from the metadata.
        source_key: source_key.filter(|key| machine.source_keys().contains(key)),
    };
    let discovery = kinds::ingest::Submitted { new, evidence_refs: evidence_refs?, resolve_redirects };
    Some(Submitted { discovery, pointer: pointer.to_owned() })
}

/// The four members that the domain reads together.
fn read_hints(reader: &mut Reader<'_, '_>, pointer: &str) -> Option<Hints> {
    let mut members = Map::new();
    for name in ["title_hint", "organization_hint", "text_hint", "hints"] {
        if let Some(value) = reader.raw(name) {
            members.insert(name.to_owned(), value.clone());
        }
    }
    let members = Value::Object(members);
    let hints: Hints = crate::json::decode(nfc(&members), pointer, reader.errors())?;
    let found = hints.validate();
    if found.is_empty() {
        // `extra` is free-form, and not read by the domain.
        check_characters(&members, pointer, reader.errors());
        return Some(hints);
    }
    for error in found {
        reader.errors().add(format!("{pointer}{}", error.pointer), error.code, sentence(&error.detail));
    }
    None
}

fn read_evidence_refs(reader: &mut Reader<'_, '_>) -> Option<Vec<EvidenceId>> {
    let Some(items) = reader.array("evidence_refs", EVIDENCE_REFS_MAX) else {
        return (!reader.has("evidence_refs") || reader.raw("evidence_refs").is_none()).then(Vec::new);
    };
    let mut ids: Vec<EvidenceId> = Vec::with_capacity(items.len());
    let mut is_fit = true;
    for (index, item) in items.iter().enumerate() {
        let pointer = format!("{}/{index}", reader.pointer("evidence_refs"));
        match item.as_str().and_then(crate::json::parse_id).map(EvidenceId) {
            Some(id) if ids.contains(&id) => {
                is_fit = false;
                reader.errors().add(pointer, "duplicate", "This item is given twice.");
            }
            Some(id) => ids.push(id),
            None => {
                is_fit = false;
                reader.errors().add(pointer, "format", "This must be a lower-case UUID.");
            }
        }
    }
    is_fit.then_some(ids)
}

fn read_metadata(reader: &mut Reader<'_, '_>, metadata: &Map<String, Value>) -> (Option<String>, bool) {
    let mut wrong = |name: &str, expected: &str| {
        let pointer = format!("{}/{name}", reader.pointer("metadata"));
        reader.errors().add(pointer, "type", format!("This must be {expected}."));
    };
    let source_key = match metadata.get("source_key") {
        None | Some(Value::Null) => None,
        Some(Value::String(key)) => Some(key.clone()),
        Some(_) => {
            wrong("source_key", "a string");
            None
        }
    };
    let resolve_redirects = match metadata.get("resolve_redirects") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(wanted)) => *wanted,
        Some(_) => {
            wrong("resolve_redirects", "true or false");
            false
        }
    };
    (source_key, resolve_redirects)
}

/// The domain's messages are clauses.
fn sentence(clause: &str) -> String {
    let mut chars = clause.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if clause.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}
