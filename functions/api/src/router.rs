//! The table of contents.

use crate::app::App;
use crate::front::front;
use crate::handlers::{catalogue, discoveries, evidence, service};
use crate::problem::Problem;
use crate::routes::Routes;
use axum::Router;
use axum::middleware::from_fn_with_state;
use std::sync::Arc;

/// Every operation, in the order of http-api.md.
#[must_use]
pub fn routes() -> Routes {
    Routes::new()
        // §2 Service
        .public("/", service::root)
        .public("/healthz", service::healthz)
        .public("/readyz", service::readyz)
        .public("/openapi.json", service::openapi)
        .public("/problems/{slug}", service::explain)
        // §3 Public catalogue
        .public("/postings", catalogue::list::list)
        .public("/postings/{id}", catalogue::detail::detail)
        // §4 Ingest
        .post("/discoveries", discoveries::create)
        .post("/discoveries/batch", discoveries::create_batch)
        .get("/discoveries/{id}", discoveries::get)
        .post("/evidence", evidence::create)
        .post("/evidence/batch", evidence::create_batch)
}

/// The router, ready to serve.
#[must_use]
pub fn router(app: App) -> Router {
    let (router, public) = routes().into_parts();
    router
        .fallback(|| async { Problem::not_found() })
        .layer(from_fn_with_state((app.clone(), Arc::new(public)), front))
        .with_state(app)
}
