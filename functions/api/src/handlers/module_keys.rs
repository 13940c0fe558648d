//! Keys of modules (http-api.md §8): two may be live, so that one can be rotated without a gap.

use crate::app::App;
use crate::auth::human::{Human, HumanScope};
use crate::body::JsonBody;
use crate::front::RequestContext;
use crate::handlers::modules::record;
use crate::idempotency::Idempotent;
use crate::json::{Errors, Reader};
use crate::params::Params;
use crate::path::PathParts;
use crate::problem::{ALREADY_EXISTS, LAST_KEY, Problem};
use crate::reply::Reply;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri};
use jiff::Timestamp;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::module_keys::{LIVE_KEYS_MAX, ModuleKey, module_key_insert, module_key_revoke, module_keys_list};
use store::modules::module_lock;
use tokio_postgres::Transaction;
use utoipa::ToSchema;

const LABEL_CHARS_MAX: usize = 80;
/// Enough that two never meet by chance among any number of keys.
const KEY_ID_BYTES: usize = 8;
/// A random secret of this length needs no slow hash (domain.md §2).
const SECRET_BYTES: usize = 32;

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the document's shape; the members are read one by one, to tell every error")]
pub struct ModuleKeyIn {
    /// ≤ 80 characters.
    label: String,
    /// When it ends by itself.
    expires_at: Option<Timestamp>,
}

/// A new key. It is shown once.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewKeyOut {
    /// The public part.
    key_id: String,
    /// What goes into `X-API-Key`; null where the answer is given again.
    key: Option<String>,
    expires_at: Option<Timestamp>,
}

/// Makes a key.
#[utoipa::path(
    post, path = "/admin/modules/{module_id}/keys", tag = "administration", security(("token" = [])),
    params(("module_id" = String, Path)),
    request_body = ModuleKeyIn, responses((status = 201, body = NewKeyOut))
)]
pub async fn create(
    State(app): State<App>,
    context: RequestContext,
    human: Human,
    PathParts(module_id): PathParts<String>,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    human.require(HumanScope::AdminWrite)?;
    let idempotent = Idempotent::read(&headers, human.principal(), &context.path, body.digest)?;
    let now = app.now();
    let mut errors = Errors::default();
    let read = Reader::new(&body.value, "", &mut errors).and_then(|reader| read_new(reader, now));
    let (label, expires_at) = errors.check(read)?;
    let reply: Reply = transact!(app, |tx| {
        if let Some(known) = idempotent.begin(&*tx).await? {
            return Ok(known);
        }
        let module = module_lock(&*tx, &module_id).await?;
        if live_keys(tx, module.id, now).await?.len() >= LIVE_KEYS_MAX {
            let detail = format!("The module has {LIVE_KEYS_MAX} live keys already; delete one first.");
            return Err(Problem::new(ALREADY_EXISTS, detail));
        }
        let key_id = base32(&rand::rng().random::<[u8; KEY_ID_BYTES]>());
        let secret = base32(&rand::rng().random::<[u8; SECRET_BYTES]>());
        let hash: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        module_key_insert(&*tx, module.id, &key_id, &hash, &label, expires_at).await?;
        let after =
            json!({"module_id": module_id, "key_id": key_id, "label": label, "expires_at": expires_at});
        record(&*tx, &context, &human, "module_keys", &key_id, Value::Null, after).await?;
        let key = format!("cb_{key_id}_{secret}");
        let out = NewKeyOut { key_id: key_id.clone(), key: Some(key), expires_at };
        let stored = NewKeyOut { key_id, key: None, expires_at };
        let reply = Reply::json(StatusCode::CREATED, &out)?.stored_as(&stored)?;
        idempotent.store(&*tx, &reply).await?;
        Ok(reply)
    })?;
    app.machines.forget(&module_id);
    Ok(reply.into_response())
}

fn read_new(mut reader: Reader<'_, '_>, now: Timestamp) -> Option<(String, Option<Timestamp>)> {
    let label = reader.required_text("label", 1, LABEL_CHARS_MAX);
    let expires_at = reader.time("expires_at");
    if expires_at.is_some_and(|at| at <= now) {
        reader.error("expires_at", "range", "This must lie in the future.");
    }
    reader.finish();
    Some((label?, expires_at))
}

async fn live_keys(
    tx: &Transaction<'_>,
    module: domain::ids::ModuleDbId,
    now: Timestamp,
) -> Result<Vec<ModuleKey>, Problem> {
    let keys = module_keys_list(tx, &[module]).await?;
    Ok(keys.into_iter().filter(|key| key.expires_at.is_none_or(|at| at > now)).collect())
}

/// Revokes a key: it is dead everywhere within 5 seconds.
#[utoipa::path(
    delete, path = "/admin/modules/{module_id}/keys/{key_id}", tag = "administration", security(("token" = [])),
    params(
        ("module_id" = String, Path), ("key_id" = String, Path),
        ("force" = Option<bool>, Query, description = "Also the last live key of an enabled module")
    ),
    responses((status = 204))
)]
pub async fn delete(
    State(app): State<App>,
    context: RequestContext,
    human: Human,
    PathParts((module_id, key_id)): PathParts<(String, String)>,
    uri: Uri,
) -> Result<Response, Problem> {
    human.require(HumanScope::AdminWrite)?;
    let mut params = Params::new(&uri);
    // A bare `?force` is meant as well.
    let is_bare = uri.query().is_some_and(|query| query == "force" || query == "force=");
    let force = if is_bare { true } else { params.bool("force").unwrap_or(false) };
    if !is_bare {
        params.finish()?;
    }
    let now = app.now();
    transact!(app, |tx| {
        let module = module_lock(&*tx, &module_id).await?;
        let live = live_keys(tx, module.id, now).await?;
        let is_last = live.len() == 1 && live[0].key_id == key_id;
        if module.enabled && is_last && !force {
            let detail =
                "This is the last live key of an enabled module; use force=true to leave it without.";
            return Err(Problem::new(LAST_KEY, detail));
        }
        let label = module_key_revoke(&*tx, module.id, &key_id).await?;
        let before = json!({"module_id": module_id, "key_id": key_id, "label": label});
        record(&*tx, &context, &human, "module_keys", &key_id, before, Value::Null).await?;
        Ok(())
    })?;
    app.machines.forget(&module_id);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// RFC 4648 §6 in lower case, without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut buffer, mut bits) = (0_u32, 0_u32);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(buffer >> bits) as usize & 31]));
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(buffer << (5 - bits)) as usize & 31]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_is_that_of_rfc_4648() {
        let cases = [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("foobar", "mzxw6ytboi"),
        ];
        for (bytes, text) in cases {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }
}
