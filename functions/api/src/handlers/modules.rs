//! Modules (http-api.md §8): the machines that hand in discoveries or work on jobs.

use crate::app::App;
use crate::auth::human::{Human, HumanScope};
use crate::body::JsonBody;
use crate::conditional::{check_if_match, version_tag, with_version};
use crate::cursor::Binding;
use crate::front::RequestContext;
use crate::idempotency::Idempotent;
use crate::json::{Errors, Reader};
use crate::params::Params;
use crate::path::PathParts;
use crate::problem::{ALREADY_EXISTS, Problem};
use crate::reply::Reply;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::ids::ModuleDbId;
use domain::state::{IntakeMode, ModuleKind, TrustLevel};
use domain::trust::is_source_key;
use http::header::{ETAG, LOCATION};
use http::{HeaderMap, StatusCode, Uri};
use jiff::Timestamp;
use kinds::Kinds;
use ledger::module_leases_end;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::events::{NewEvent, event_insert};
use store::module_keys::{ModuleKey, module_keys_list};
use store::modules::{
    Module, ModuleFilter, ModuleIngest, module_find, module_insert, module_lock, module_update,
    modules_ingest, modules_list,
};
use telemetry::db::GenericClient;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// http-api.md §1, "Paging": admin lists.
pub const ADMIN_LIMIT_DEFAULT: i64 = 50;
/// http-api.md §1, "Paging": admin lists.
pub const ADMIN_LIMIT_MAX: i64 = 200;
const NAME_CHARS_MAX: usize = 200;
const REASON_CHARS_MAX: usize = 1_000;
const SOURCE_KEYS_MAX: usize = 50;
const SOURCE_KEY_CHARS_MAX: usize = 200;
const JOB_KINDS_MAX: usize = 50;
const CONFIG_BYTES_MAX: usize = 16 * 1024;
/// A quota beyond this is no quota.
const INGEST_PER_MINUTE_MAX: u64 = 1_000_000;
const CONNECTOR_SCOPES: [&str; 2] = ["discoveries:write", "evidence:write"];
const PROCESSOR_SCOPES: [&str; 2] = ["jobs:read", "jobs:write"];

/// A module to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the document's shape; the members are read one by one, to tell every error")]
pub struct ModuleIn {
    /// `^[a-z0-9][a-z0-9._-]{1,62}$`
    module_id: String,
    /// 1 to 200 characters.
    name: String,
    /// `connector` or `processor`.
    kind: String,
    /// `api`, `rss`, `scrape`, `webhook`, `telegram` or `manual`.
    intake_mode: Option<String>,
    /// Of a connector: `discoveries:write`, `evidence:write`; of a processor: `jobs:read`, `jobs:write`.
    scopes: Vec<String>,
    /// `untrusted` (the default), `semi_trusted` or `trusted`.
    trust_level: Option<String>,
    /// ≤ 50 keys that it may name.
    source_keys: Option<Vec<String>>,
    /// The kinds of jobs that it may claim.
    job_kinds: Option<Vec<String>>,
    /// ≤ 16 KiB; read: `ingest_per_minute`.
    #[schema(value_type = Option<Object>)]
    config: Option<Value>,
}

/// What a person changes of a module; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the document's shape")]
pub struct ModulePatchIn {
    name: Option<String>,
    /// `false` is the kill switch: 401 within 5 seconds, leases ended.
    enabled: Option<bool>,
    /// ≤ 1,000 characters, or null.
    disabled_reason: Option<String>,
    scopes: Option<Vec<String>>,
    trust_level: Option<String>,
    source_keys: Option<Vec<String>>,
    job_kinds: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    config: Option<Value>,
}

/// A live or expired key, without its secret.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ModuleKeyOut {
    /// The public part.
    key_id: String,
    label: String,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
}

/// A module, its keys, and what it handed in.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModuleOut {
    id: Uuid,
    module_id: String,
    name: String,
    kind: String,
    intake_mode: Option<String>,
    enabled: bool,
    disabled_reason: Option<String>,
    scopes: Vec<String>,
    trust_level: String,
    source_keys: Vec<String>,
    job_kinds: Vec<String>,
    #[schema(value_type = Object)]
    config: Value,
    keys: Vec<ModuleKeyOut>,
    /// Accepted discoveries, ever.
    ingested_count: i64,
    /// Accepted discoveries of the last 24 hours.
    ingested_24h: i64,
    last_ingested_at: Option<Timestamp>,
    last_ingest_error_at: Option<Timestamp>,
    /// The slug of the last refusal.
    last_ingest_error: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// A page of modules.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModulesOut {
    items: Vec<ModuleOut>,
    /// Where the list goes on; null at its end.
    next_cursor: Option<String>,
}

/// Which modules.
#[derive(Debug, Serialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ModulesQuery {
    module_id: Option<String>,
    /// `connector` or `processor`.
    kind: Option<String>,
    enabled: Option<bool>,
    trust_level: Option<String>,
    /// 1 to 200, 50 by default.
    #[serde(skip)]
    limit: Option<i64>,
    #[serde(skip)]
    cursor: Option<String>,
}

impl ModulesQuery {
    fn read(uri: &Uri) -> Result<Self, Problem> {
        let mut params = Params::new(uri);
        let kind = params.parsed("kind", |word| word.parse::<ModuleKind>().ok(), "connector or processor");
        let trust = params.parsed(
            "trust_level",
            |word| word.parse::<TrustLevel>().ok(),
            "trusted, semi_trusted or untrusted",
        );
        let query = Self {
            module_id: params.text("module_id", 63),
            kind: kind.map(|kind| kind.as_str().to_owned()),
            enabled: params.bool("enabled"),
            trust_level: trust.map(|trust| trust.as_str().to_owned()),
            limit: Some(params.limit(ADMIN_LIMIT_DEFAULT, ADMIN_LIMIT_MAX)),
            cursor: params.cursor(),
        };
        params.finish()?;
        Ok(query)
    }
}

/// Modules, by module id.
#[utoipa::path(
    get, path = "/admin/modules", tag = "administration", security(("token" = [])), params(ModulesQuery),
    responses((status = 200, body = ModulesOut))
)]
pub async fn list(State(app): State<App>, human: Human, uri: Uri) -> Result<Response, Problem> {
    human.require(HumanScope::AdminRead)?;
    let query = ModulesQuery::read(&uri)?;
    let binding = Binding::new("/admin/modules", &query);
    let after: Option<String> = match &query.cursor {
        Some(cursor) => Some(app.cursors.open(&app.pool, app.now(), &binding, cursor).await?),
        None => None,
    };
    let limit = query.limit.unwrap_or(ADMIN_LIMIT_DEFAULT);
    let filter = ModuleFilter {
        module_id: query.module_id.as_deref(),
        kind: query.kind.as_deref(),
        enabled: query.enabled,
        trust_level: query.trust_level.as_deref(),
        after: after.as_deref(),
    };
    let client = app.pool.get().await?;
    // One more than wanted tells whether there are more.
    let mut modules = modules_list(&**client, &filter, limit + 1).await?;
    let has_more = modules.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    modules.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = modules.last().map(|module| module.module_id.clone());
    let items = with_details(&**client, modules).await?;
    drop(client);
    let next_cursor = match last.filter(|_| has_more) {
        Some(last) => Some(app.cursors.seal(&app.pool, app.now(), &binding, last).await?),
        None => None,
    };
    Ok(Json(ModulesOut { items, next_cursor }).into_response())
}

async fn with_details(client: &impl GenericClient, modules: Vec<Module>) -> Result<Vec<ModuleOut>, Problem> {
    let ids: Vec<ModuleDbId> = modules.iter().map(|module| module.id).collect();
    let (keys, mut ingest) = tokio::try_join!(module_keys_list(client, &ids), modules_ingest(client, &ids))
        .map_err(Problem::from)?;
    Ok(modules
        .into_iter()
        .map(|module| {
            let id = module.id;
            let keys = keys.iter().filter(|key| key.module_db_id == id).cloned();
            let at = ingest.iter().position(|(of, _)| *of == id);
            let ingest = at.map(|at| ingest.swap_remove(at).1).unwrap_or_default();
            module_out(module, keys, ingest)
        })
        .collect())
}

fn module_out(module: Module, keys: impl Iterator<Item = ModuleKey>, ingest: ModuleIngest) -> ModuleOut {
    ModuleOut {
        id: module.id.0,
        module_id: module.module_id,
        name: module.name,
        kind: module.kind,
        intake_mode: module.intake_mode,
        enabled: module.enabled,
        disabled_reason: module.disabled_reason,
        scopes: module.scopes,
        trust_level: module.trust_level,
        source_keys: module.source_keys,
        job_kinds: module.job_kinds,
        config: module.config,
        keys: keys
            .map(|key| ModuleKeyOut {
                key_id: key.key_id,
                label: key.label,
                created_at: key.created_at,
                expires_at: key.expires_at,
                last_used_at: key.last_used_at,
            })
            .collect(),
        ingested_count: ingest.ingested_count,
        ingested_24h: ingest.ingested_24h,
        last_ingested_at: ingest.last_ingested_at,
        last_ingest_error_at: ingest.last_ingest_error_at,
        last_ingest_error: ingest.last_ingest_error,
        created_at: module.created_at,
        updated_at: module.updated_at,
    }
}

async fn detail(client: &impl GenericClient, module: Module) -> Result<ModuleOut, Problem> {
    let mut details = with_details(client, vec![module]).await?;
    details.pop().ok_or_else(Problem::not_found)
}

/// One module.
#[utoipa::path(
    get, path = "/admin/modules/{module_id}", tag = "administration", security(("token" = [])),
    params(("module_id" = String, Path)), responses((status = 200, body = ModuleOut))
)]
pub async fn get(
    State(app): State<App>,
    human: Human,
    PathParts(module_id): PathParts<String>,
) -> Result<Response, Problem> {
    human.require(HumanScope::AdminRead)?;
    let client = app.pool.get().await?;
    let module = module_find(&**client, &module_id).await?;
    let version = module.version;
    Ok(with_version(Json(detail(&**client, module).await?).into_response(), version))
}

/// Makes a module. It has no key yet, so that nobody can use it.
#[utoipa::path(
    post, path = "/admin/modules", tag = "administration", security(("token" = [])),
    request_body = ModuleIn, responses((status = 201, body = ModuleOut))
)]
pub async fn create(
    State(app): State<App>,
    context: RequestContext,
    human: Human,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    human.require(HumanScope::AdminWrite)?;
    let idempotent = Idempotent::read(&headers, human.principal(), &context.path, body.digest)?;
    let mut errors = Errors::default();
    let new = Reader::new(&body.value, "", &mut errors).and_then(|reader| read_new(reader, &app.kinds));
    let new = errors.check(new)?;
    let reply: Reply = transact!(app, |tx| {
        if let Some(known) = idempotent.begin(&*tx).await? {
            return Ok(known);
        }
        let module = module_insert(&*tx, &new).await.map_err(|error| match error {
            store::Error::Conflict { constraint } if constraint == "modules_module_id_key" => {
                Problem::new(ALREADY_EXISTS, "There is a module of this id.")
            }
            other => other.into(),
        })?;
        record(&*tx, &context, &human, "modules", &module.module_id, Value::Null, settings(&module)).await?;
        let location = format!("/admin/modules/{}", module.module_id);
        let tag = version_tag(module.version);
        let reply = Reply::json(StatusCode::CREATED, &detail(&*tx, module).await?)?
            .with_header(&LOCATION, location)
            .with_header(&ETAG, tag);
        idempotent.store(&*tx, &reply).await?;
        Ok(reply)
    })?;
    Ok(reply.into_response())
}

/// Changes a module. `enabled: false` is the kill switch.
#[utoipa::path(
    patch, path = "/admin/modules/{module_id}", tag = "administration", security(("token" = [])),
    params(("module_id" = String, Path)),
    request_body = ModulePatchIn, responses((status = 200, body = ModuleOut))
)]
pub async fn patch(
    State(app): State<App>,
    context: RequestContext,
    human: Human,
    PathParts(module_id): PathParts<String>,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    human.require(HumanScope::AdminWrite)?;
    let (out, version, wake) = transact!(app, |tx| {
        let before = module_lock(&*tx, &module_id).await?;
        check_if_match(&headers, before.version)?;
        let mut errors = Errors::default();
        let wanted = Reader::new(&body.value, "", &mut errors)
            .and_then(|reader| read_patch(reader, before.clone(), &app.kinds));
        let wanted = errors.check(wanted)?;
        if wanted == before {
            let version = before.version;
            return Ok((detail(&*tx, before).await?, version, Vec::new()));
        }
        let after = module_update(&*tx, &wanted).await?;
        let mut wake = Vec::new();
        if before.enabled && !after.enabled {
            // Its results are refused from now on; its jobs go back to the queue, uncharged.
            let ended = module_leases_end(&*tx, app.kinds.registry(), after.id.0).await?;
            wake.extend(ended.iter().filter_map(|transition| transition.wake));
        }
        record(&*tx, &context, &human, "modules", &module_id, settings(&before), settings(&after)).await?;
        let version = after.version;
        Ok((detail(&*tx, after).await?, version, wake))
    })?;
    app.machines.forget(&module_id);
    app.wake.wake(&wake).await;
    Ok(with_version(Json(out).into_response(), version))
}

/// Writes the event of a settings table: who changed what from what to what.
///
/// # Errors
/// What [`Problem`] makes of the database's.
pub async fn record(
    tx: &impl GenericClient,
    context: &RequestContext,
    human: &Human,
    table: &str,
    id: &str,
    before: Value,
    after: Value,
) -> Result<(), Problem> {
    let (actor, trace_id) = (human.actor(), context.trace.trace_id().to_string());
    let event = NewEvent {
        entity_type: table,
        entity_id: id.to_owned(),
        event_type: &format!("{table}_changed"),
        actor: &actor,
        request_id: Some(&context.request_id),
        trace_id: Some(&trace_id),
        payload: json!({"before": before, "after": after}),
    };
    event_insert(tx, &[event]).await?;
    Ok(())
}

/// What an event tells of a module.
fn settings(module: &Module) -> Value {
    json!({
        "module_id": module.module_id,
        "name": module.name,
        "kind": module.kind,
        "intake_mode": module.intake_mode,
        "enabled": module.enabled,
        "disabled_reason": module.disabled_reason,
        "scopes": module.scopes,
        "trust_level": module.trust_level,
        "source_keys": module.source_keys,
        "job_kinds": module.job_kinds,
        "config": module.config,
    })
}

fn read_new(mut reader: Reader<'_, '_>, kinds: &Kinds) -> Option<Module> {
    let module_id = reader.required_text("module_id", 2, 63).filter(|id| {
        let is_fit = is_module_id(id);
        if !is_fit {
            reader.error("module_id", "format", "This must match ^[a-z0-9][a-z0-9._-]{1,62}$.");
        }
        is_fit
    });
    let name = reader.required_text("name", 1, NAME_CHARS_MAX);
    reader.require("kind");
    let kind_words: Vec<&str> = ModuleKind::ALL.iter().map(|kind| kind.as_str()).collect();
    let kind: Option<ModuleKind> = reader.word("kind", |word| word.parse().ok(), &kind_words);
    let mode_words: Vec<&str> = IntakeMode::ALL.iter().map(|mode| mode.as_str()).collect();
    let intake_mode: Option<IntakeMode> = reader.word("intake_mode", |word| word.parse().ok(), &mode_words);
    reader.require("scopes");
    let scopes = read_scopes(&mut reader, kind);
    let trust_level = read_trust(&mut reader).unwrap_or(TrustLevel::Untrusted);
    let source_keys = read_source_keys(&mut reader).unwrap_or_default();
    let job_kinds = read_job_kinds(&mut reader, kinds).unwrap_or_default();
    let config = read_config(&mut reader).unwrap_or_else(|| json!({}));
    reader.finish();
    Some(Module {
        // Made when it is stored.
        id: ModuleDbId(Uuid::nil()),
        version: 0,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        module_id: module_id?,
        name: name?,
        kind: kind?.as_str().to_owned(),
        intake_mode: intake_mode.map(|mode| mode.as_str().to_owned()),
        enabled: true,
        disabled_reason: None,
        scopes: scopes?,
        trust_level: trust_level.as_str().to_owned(),
        source_keys,
        job_kinds,
        config,
    })
}

fn read_patch(mut reader: Reader<'_, '_>, mut module: Module, kinds: &Kinds) -> Option<Module> {
    // Only the reason may be cleared; null is no value of the others.
    for name in ["name", "enabled", "scopes", "trust_level", "source_keys", "job_kinds", "config"] {
        if reader.has(name) {
            reader.require(name);
        }
    }
    let kind: Option<ModuleKind> = module.kind.parse().ok();
    if let Some(name) = reader.text("name", 1, NAME_CHARS_MAX) {
        module.name = name;
    }
    if let Some(enabled) = reader.bool("enabled") {
        module.enabled = enabled;
        // The reason of an earlier switch-off ends with it.
        if enabled {
            module.disabled_reason = None;
        }
    }
    let reason = reader.text("disabled_reason", 1, REASON_CHARS_MAX);
    if reader.has("disabled_reason") {
        module.disabled_reason = reason;
    }
    if let Some(scopes) = read_scopes(&mut reader, kind) {
        module.scopes = scopes;
    }
    if let Some(trust) = read_trust(&mut reader) {
        module.trust_level = trust.as_str().to_owned();
    }
    if let Some(keys) = read_source_keys(&mut reader) {
        module.source_keys = keys;
    }
    if let Some(job_kinds) = read_job_kinds(&mut reader, kinds) {
        module.job_kinds = job_kinds;
    }
    if let Some(config) = read_config(&mut reader) {
        module.config = config;
    }
    reader.finish();
    Some(module)
}

/// `^[a-z0-9][a-z0-9._-]{1,62}$` (domain.md §2).
fn is_module_id(id: &str) -> bool {
    let is_tame = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (2..=63).contains(&id.len())
        && id.bytes().next().is_some_and(is_tame)
        && id.bytes().all(|byte| is_tame(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

/// A connector cannot be given job scopes, nor a processor ingest scopes (http-api.md §1.1).
fn read_scopes(reader: &mut Reader<'_, '_>, kind: Option<ModuleKind>) -> Option<Vec<String>> {
    let is_known = |scope: &str| CONNECTOR_SCOPES.contains(&scope) || PROCESSOR_SCOPES.contains(&scope);
    let scopes = reader.strings("scopes", 4, 40, is_known, "a known scope")?;
    let fit = match kind {
        Some(ModuleKind::Connector) => CONNECTOR_SCOPES,
        Some(ModuleKind::Processor) => PROCESSOR_SCOPES,
        None => return Some(scopes),
    };
    for (index, scope) in scopes.iter().enumerate().filter(|(_, scope)| !fit.contains(&scope.as_str())) {
        let pointer = format!("{}/{index}", reader.pointer("scopes"));
        let detail = format!("A module of this kind may have {}, and not {scope}.", fit.join(" and "));
        reader.errors().add(pointer, "scope_not_fit", detail);
    }
    Some(scopes)
}

fn read_trust(reader: &mut Reader<'_, '_>) -> Option<TrustLevel> {
    let words: Vec<&str> = TrustLevel::ALL.iter().map(|trust| trust.as_str()).collect();
    reader.word("trust_level", |word| word.parse().ok(), &words)
}

fn read_source_keys(reader: &mut Reader<'_, '_>) -> Option<Vec<String>> {
    let is_fit =
        |key: &str| is_source_key(key) && !key.starts_with("module:") && !key.starts_with("default:");
    let expected = "1 to 200 of [a-z0-9:._/-], and no module: or default: row";
    reader.strings("source_keys", SOURCE_KEYS_MAX, SOURCE_KEY_CHARS_MAX, is_fit, expected)
}

fn read_job_kinds(reader: &mut Reader<'_, '_>, kinds: &Kinds) -> Option<Vec<String>> {
    let is_known = |name: &str| kinds.get(name).is_some();
    reader.strings("job_kinds", JOB_KINDS_MAX, 64, is_known, "a registered kind of job")
}

fn read_config(reader: &mut Reader<'_, '_>) -> Option<Value> {
    let config = reader.object("config", CONFIG_BYTES_MAX)?;
    if let Some(quota) = config.get("ingest_per_minute")
        && quota.as_u64().is_none_or(|quota| quota > INGEST_PER_MINUTE_MAX)
    {
        let pointer = format!("{}/ingest_per_minute", reader.pointer("config"));
        let detail = format!("This must be a whole number from 0 to {INGEST_PER_MINUTE_MAX}.");
        reader.errors().add(pointer, "range", detail);
    }
    Some(Value::Object(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_id_is_what_the_table_takes() {
        let longest = format!("a{}", "b".repeat(62));
        let cases = [
            ("acme-feed", true),
            ("0.a_b-c", true),
            (longest.as_str(), true),
            ("a", false),
            ("", false),
            ("-ab", false),
            ("Acme", false),
            ("acmé", false),
        ];
        for (id, is_fit) in cases {
            assert_eq!(is_module_id(id), is_fit, "{id}");
        }
        assert!(!is_module_id(&format!("{longest}b")));
    }
}
