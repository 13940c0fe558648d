//! `Idempotency-Key` on any POST (http-api.md §1): the first 2xx answer is stored for 24 hours, in the transaction of its
//! effect, and given again to the byte.
//!
//! A handler calls [`Idempotent::begin`] first in its transaction, and [`Idempotent::store`] last. A problem rolls both
//! back, so that nothing but successes is remembered.

use crate::problem::{IDEMPOTENCY_IN_PROGRESS, IDEMPOTENCY_KEY_REUSED, Problem};
use crate::reply::Reply;
use http::HeaderMap;
use store::idempotency::{Claimed, Identity, idempotency_claim, idempotency_store};
use telemetry::db::GenericClient;

/// The header.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
const KEY_CHARS_MAX: usize = 128;

/// A POST that may carry a key.
#[derive(Debug)]
pub struct Idempotent {
    principal: String,
    op: String,
    key: Option<String>,
    digest: [u8; 32],
}

impl Idempotent {
    /// Reads the header. `digest` is that of the body.
    ///
    /// # Errors
    /// `validation` if the key is not 1 to 128 visible characters.
    pub fn read(
        headers: &HeaderMap,
        principal: String,
        path: &str,
        digest: [u8; 32],
    ) -> Result<Self, Problem> {
        let key = match headers.get(IDEMPOTENCY_KEY) {
            None => None,
            Some(value) => {
                let is_fit = (1..=KEY_CHARS_MAX).contains(&value.len())
                    && value.as_bytes().iter().all(u8::is_ascii_graphic);
                let text = value.to_str().ok().filter(|_| is_fit).ok_or_else(|| {
                    Problem::invalid(
                        "#/header/Idempotency-Key",
                        "format",
                        format!("This must be 1 to {KEY_CHARS_MAX} visible characters."),
                    )
                })?;
                Some(text.to_owned())
            }
        };
        Ok(Self { principal, op: format!("POST {path}"), key, digest })
    }

    /// Whether there is anything to claim and to store.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    fn identity<'a>(&'a self, key: &'a str) -> Identity<'a> {
        Identity { principal: &self.principal, op: &self.op, key }
    }

    /// Claims the key in this transaction. `Some` is the answer that was given before: give it again, and do nothing.
    ///
    /// # Errors
    /// `idempotency-key-reused` if the key came with another body; `idempotency-in-progress` if the first request is still
    /// at work after the role's `lock_timeout` of 3 seconds.
    pub async fn begin(&self, tx: &impl GenericClient) -> Result<Option<Reply>, Problem> {
        let Some(key) = &self.key else { return Ok(None) };
        match idempotency_claim(tx, self.identity(key), &self.digest).await {
            Ok(Claimed::New) => Ok(None),
            Ok(Claimed::Known { request_digest, status, response }) => {
                if request_digest != self.digest {
                    return Err(Problem::new(
                        IDEMPOTENCY_KEY_REUSED,
                        "This Idempotency-Key was used with another body.",
                    ));
                }
                Reply::decode(status, &response).map(Some)
            }
            Err(store::Error::Collision { .. }) => Err(Problem::new(
                IDEMPOTENCY_IN_PROGRESS,
                "The first request with this Idempotency-Key is still being worked on.",
            )),
            Err(other) => Err(other.into()),
        }
    }

    /// Stores the answer, in the transaction of its effect.
    ///
    /// # Errors
    /// What [`Problem`] makes of the database's.
    pub async fn store(&self, tx: &impl GenericClient, reply: &Reply) -> Result<(), Problem> {
        let Some(key) = &self.key else { return Ok(()) };
        idempotency_store(tx, self.identity(key), i32::from(reply.status()), &reply.encode()).await?;
        Ok(())
    }
}
