//! The service itself (http-api.md §2): is it there, is it ready, what does it offer, what do its problems mean.

use crate::app::App;
use crate::conditional::{public, public_json};
use crate::openapi;
use crate::path::PathParts;
use crate::problem::{self, Problem};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use serde::Serialize;
use serde_json::json;
use std::time::Duration;
use store::migrations::{newest_version, schema_version};
use utoipa::ToSchema;

/// http-api.md §2: a database that does not answer within a second is not there.
const READY_LIMIT: Duration = Duration::from_secs(1);

/// `GET /`
#[derive(Debug, Serialize, ToSchema)]
pub struct RootOut {
    /// `ok`
    status: &'static str,
    /// `callboard`
    service: &'static str,
    /// The release.
    version: &'static str,
}

/// The service is there.
#[utoipa::path(get, path = "/", tag = "service", responses((status = 200, body = RootOut)))]
pub async fn root(headers: HeaderMap) -> Result<Response, Problem> {
    let body = RootOut { status: "ok", service: telemetry::SERVICE, version: env!("CARGO_PKG_VERSION") };
    public_json(&headers, &body)
}

/// `GET /healthz`
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthOut {
    /// `ok`
    status: &'static str,
}

/// The process answers. Touches nothing.
#[utoipa::path(get, path = "/healthz", tag = "service", responses((status = 200, body = HealthOut)))]
pub async fn healthz() -> Json<HealthOut> {
    Json(HealthOut { status: "ok" })
}

/// `GET /readyz`
#[derive(Debug, Serialize, ToSchema)]
pub struct ReadyOut {
    /// `ready`
    status: &'static str,
    /// The newest migration that the database has.
    schema_version: i32,
}

/// The database answers within a second, and has the schema that this release needs.
#[utoipa::path(get, path = "/readyz", tag = "service", responses((status = 200, body = ReadyOut)))]
pub async fn readyz(State(app): State<App>) -> Result<Response, Problem> {
    let unready = |detail: &str, database: &str, schema: &str| {
        Problem::unavailable(detail).with_member("checks", json!({"database": database, "schema": schema}))
    };
    let asked = tokio::time::timeout(READY_LIMIT, async {
        let client = app.pool.get().await?;
        schema_version(&**client).await
    })
    .await;
    match asked {
        Ok(Ok(Some(version))) if version >= newest_version() => {
            Ok(Json(ReadyOut { status: "ready", schema_version: version }).into_response())
        }
        Ok(Ok(_)) => Err(unready("The schema is older than this release needs: run migrate.", "ok", "old")),
        Ok(Err(error)) => {
            tracing::warn!(error = problem::chain(&error), "the database is not ready");
            Err(unready("The database does not answer.", "unavailable", "unknown"))
        }
        Err(_) => Err(unready("The database does not answer within a second.", "unavailable", "unknown")),
    }
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "service", responses((status = 200, body = Object)))]
pub async fn openapi(headers: HeaderMap) -> Result<Response, Problem> {
    public_json(&headers, &openapi::document())
}

/// What a problem means, for a person.
#[utoipa::path(
    get, path = "/problems/{slug}", tag = "service",
    params(("slug" = String, Path, description = "The last part of a problem's `type`")),
    responses((status = 200, body = String, content_type = "text/plain"))
)]
pub async fn explain(headers: HeaderMap, PathParts(slug): PathParts<String>) -> Result<Response, Problem> {
    let kind = problem::find(&slug).ok_or_else(Problem::not_found)?;
    let text = format!("{} ({} {})\n\n{}\n", kind.title, kind.status, kind.slug, kind.text);
    Ok(public(&headers, "text/plain; charset=utf-8", text.into_bytes()))
}
