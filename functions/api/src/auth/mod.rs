//! Who is calling. Machines show a module id and a key ([`machine`]), people a token of the OIDC issuer ([`human`]).
//!
//! A handler names who may call it by the extractor it takes: [`Machine`](machine::Machine),
//! [`Human`](human::Human), or [`Caller`] for either; and then asks for a scope.

pub mod human;
pub mod issuer;
pub mod machine;

use crate::app::App;
use crate::problem::{AMBIGUOUS_CREDENTIALS, Problem};
use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

/// The header with the module's id.
pub const MODULE_ID_HEADER: &str = "x-module-id";
/// The header with the module's key.
pub const API_KEY_HEADER: &str = "x-api-key";

/// A module or a person.
#[derive(Debug)]
pub enum Caller {
    /// A module.
    Machine(machine::Machine),
    /// A person.
    Human(human::Human),
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if parts.headers.contains_key(AUTHORIZATION) {
            return Ok(Self::Human(human::Human::from_request_parts(parts, app).await?));
        }
        Ok(Self::Machine(machine::Machine::from_request_parts(parts, app).await?))
    }
}

/// Refuses a request with both kinds of credentials: which of them counts would be a guess.
///
/// # Errors
/// `ambiguous-credentials`.
pub fn check_unambiguous(headers: &HeaderMap) -> Result<(), Problem> {
    let is_machine = headers.contains_key(MODULE_ID_HEADER) || headers.contains_key(API_KEY_HEADER);
    if is_machine && headers.contains_key(AUTHORIZATION) {
        return Err(Problem::new(AMBIGUOUS_CREDENTIALS, "Send either a module's key or a bearer token."));
    }
    Ok(())
}
