//! Cursors: where a list goes on. Opaque to clients, signed, bound to the list and its filters, valid for 24 hours.
//!
//! A cursor is `base64url(payload).base64url(HMAC-SHA-256)`. The payload holds the position; the list and its filters
//! are not in it but are part of what is signed, so that a cursor of other filters does not verify.

use crate::problem::{INVALID_CURSOR, Problem};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Mutex;
use std::sync::PoisonError;
use store::Pool;
use store::server_keys::{Purpose, ServerKey, server_keys_list};

/// http-api.md §1: a cursor is valid for 24 hours.
const LIFETIME_S: i64 = 24 * 3600;
/// A key that another environment made is known here after this long, and at once if a cursor names it.
const KEYS_FRESH_S: i64 = 300;
/// A cursor that names an unknown key costs at most one look a minute.
const KEYS_RELOAD_S: i64 = 60;

/// The keys that sign cursors, read from the database once they are needed.
#[derive(Debug, Default)]
pub struct Cursors {
    cached: Mutex<Cached>,
}

#[derive(Debug, Default, Clone)]
struct Cached {
    /// The newest first.
    keys: Vec<ServerKey>,
    loaded_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct Payload<T> {
    /// The key's id.
    k: String,
    /// Seconds since 1970 when it ends.
    e: i64,
    /// The position.
    p: T,
}

/// What a cursor belongs to: the list's path and everything that filters or orders it.
#[derive(Debug, Clone)]
pub struct Binding([u8; 32]);

impl Binding {
    /// `list` is the list's path, `filters` all of its query but `limit` and `cursor`.
    #[must_use]
    pub fn new(list: &str, filters: &impl Serialize) -> Self {
        let filters = serde_json::to_vec(filters).unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update((list.len() as u64).to_be_bytes());
        hash.update(list);
        hash.update(filters);
        Self(hash.finalize().into())
    }
}

impl Cursors {
    /// The cursor of `position`.
    ///
    /// # Errors
    /// `unavailable` if the keys cannot be read, `internal` if there are none: `migrate` makes the first.
    pub async fn seal<T: Serialize>(
        &self,
        pool: &Pool,
        now: Timestamp,
        binding: &Binding,
        position: T,
    ) -> Result<String, Problem> {
        let keys = self.keys(pool, now, KEYS_FRESH_S).await?;
        let Some(key) = keys.first() else {
            return Err(Problem::internal(&"there is no server key for cursors: run migrate"));
        };
        let payload = Payload { k: key.key_id.clone(), e: now.as_second() + LIFETIME_S, p: position };
        let payload = serde_json::to_vec(&payload).map_err(|error| Problem::internal(&error))?;
        let signature = mac(key, binding, &payload).finalize().into_bytes();
        Ok(format!("{}.{}", BASE64.encode(payload), BASE64.encode(signature)))
    }

    /// The position in `cursor`.
    ///
    /// # Errors
    /// `invalid-cursor` if it was changed, is too old, or belongs to another list or other filters.
    pub async fn open<T: DeserializeOwned>(
        &self,
        pool: &Pool,
        now: Timestamp,
        binding: &Binding,
        cursor: &str,
    ) -> Result<T, Problem> {
        let refused = || Problem::new(INVALID_CURSOR, "Begin the list again without the cursor.");
        let (payload, signature) = cursor.split_once('.').ok_or_else(refused)?;
        let payload = BASE64.decode(payload).map_err(|_| refused())?;
        let signature = BASE64.decode(signature).map_err(|_| refused())?;
        // Read before it is verified only to find the key; nothing of it is used unless the signature fits.
        let read: Payload<serde_json::Value> = serde_json::from_slice(&payload).map_err(|_| refused())?;
        let find = |keys: &[ServerKey]| keys.iter().find(|key| key.key_id == read.k).cloned();
        let key = match find(&self.keys(pool, now, KEYS_FRESH_S).await?) {
            Some(key) => key,
            None => find(&self.keys(pool, now, KEYS_RELOAD_S).await?).ok_or_else(refused)?,
        };
        mac(&key, binding, &payload).verify_slice(&signature).map_err(|_| refused())?;
        if read.e <= now.as_second() {
            return Err(refused());
        }
        serde_json::from_value(read.p).map_err(|_| refused())
    }

    async fn keys(&self, pool: &Pool, now: Timestamp, fresh_s: i64) -> Result<Vec<ServerKey>, Problem> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_fresh =
            cached.loaded_at.is_some_and(|at| (0..fresh_s).contains(&(now.as_second() - at.as_second())));
        if is_fresh && !cached.keys.is_empty() {
            return Ok(cached.keys);
        }
        let client = pool.get().await?;
        let keys = server_keys_list(&**client, Purpose::Cursor).await?;
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) =
            Cached { keys: keys.clone(), loaded_at: Some(now) };
        Ok(keys)
    }
}

fn mac(key: &ServerKey, binding: &Binding, payload: &[u8]) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&key.secret).expect("HMAC takes keys of any length (RFC 2104 §2)");
    mac.update(&binding.0);
    mac.update(payload);
    mac
}
