//! The table of contents.

use crate::app::App;
use crate::front::front;
use crate::handlers::{
    candidates, catalogue, discoveries, evidence, job_sweeps, jobs, module_keys, modules, service, stats,
};
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
        .get("/admin/stats", stats::stats)
        // §4 Ingest
        .post("/discoveries", discoveries::create)
        .post("/discoveries/batch", discoveries::create_batch)
        .get("/discoveries/{id}", discoveries::get)
        .post("/evidence", evidence::create)
        .post("/evidence/batch", evidence::create_batch)
        // §6 Moderation
        .get("/candidates/{id}", candidates::get)
        // §8 Administration
        .get("/admin/modules", modules::list)
        .post("/admin/modules", modules::create)
        .get("/admin/modules/{module_id}", modules::get)
        .patch("/admin/modules/{module_id}", modules::patch)
        .post("/admin/modules/{module_id}/keys", module_keys::create)
        .delete("/admin/modules/{module_id}/keys/{key_id}", module_keys::delete)
        .get("/admin/jobs", jobs::list)
        .get("/admin/jobs/{id}", jobs::get)
        .post("/admin/jobs/{id}/retry", jobs::retry)
        .post("/admin/jobs/{id}/cancel", jobs::cancel)
        .post("/admin/jobs/requeue-dead-letters", job_sweeps::requeue_dead_letters)
        .post("/admin/jobs/reap-expired", job_sweeps::reap_expired)
        .get("/admin/job-kinds", jobs::kinds_list)
        .put("/admin/job-kinds/{kind}", jobs::kind_put)
}

/// The router, ready to serve.
pub fn router(app: App) -> Router {
    let (router, public) = routes().into_parts();
    router
        .fallback(|| async { Problem::not_found() })
        .layer(from_fn_with_state((app.clone(), Arc::new(public)), front))
        .with_state(app)
}
