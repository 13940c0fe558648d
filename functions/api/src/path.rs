//! Reads the variable parts of a path. A part that can be no id is 404, as an id that does not exist (http-api.md §1).

use crate::json::parse_id;
use crate::problem::Problem;
use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// The one UUID of a path.
#[derive(Debug, Clone, Copy)]
pub struct PathId(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let PathParts(text) = PathParts::<String>::from_request_parts(parts, state).await?;
        parse_id(&text).map(Self).ok_or_else(Problem::not_found)
    }
}

/// The text, or texts, of a path.
#[derive(Debug, Clone)]
pub struct PathParts<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathParts<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(value) =
            Path::<T>::from_request_parts(parts, state).await.map_err(|_| Problem::not_found())?;
        Ok(Self(value))
    }
}
