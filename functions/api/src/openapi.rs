//! The OpenAPI 3.1 document, generated from the handlers' own types. A test holds it against the router.

use crate::handlers::{
    candidates, catalogue, discoveries, evidence, job_sweeps, jobs, module_keys, modules, service, stats,
};
use crate::problem::{FieldError, ProblemOut};
use std::sync::OnceLock;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, OpenApi as Document, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "callboard",
        description = "A public catalogue of research opportunities, with the provenance of every field.",
    ),
    paths(
        service::root,
        service::healthz,
        service::readyz,
        service::openapi,
        service::explain,
        catalogue::list::list,
        catalogue::detail::detail,
        stats::stats,
        discoveries::create,
        discoveries::create_batch,
        discoveries::get,
        evidence::create,
        evidence::create_batch,
        candidates::get,
        modules::list,
        modules::create,
        modules::get,
        modules::patch,
        module_keys::create,
        module_keys::delete,
        jobs::list,
        jobs::get,
        jobs::retry,
        jobs::cancel,
        job_sweeps::requeue_dead_letters,
        job_sweeps::reap_expired,
        jobs::kinds_list,
        jobs::kind_put,
    ),
    components(schemas(ProblemOut, FieldError)),
    tags(
        (name = "service", description = "The service itself"),
        (name = "catalogue", description = "What is public"),
        (name = "ingest", description = "What modules hand in"),
        (name = "moderation", description = "What waits for people"),
        (name = "administration", description = "Modules, keys, jobs"),
    ),
    modifiers(&Problems, &Credentials),
)]
struct Api;

/// The document; built once.
pub fn document() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(Api::openapi)
}

/// Every operation may answer with a problem.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut Document) {
        let problem = ResponseBuilder::new()
            .description("What went wrong: its `type` names the kind (RFC 9457)")
            .content(
                "application/problem+json",
                ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemOut"))).build(),
            )
            .build();
        for item in document.paths.paths.values_mut() {
            let operations =
                [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                operation.responses.responses.insert("default".into(), RefOr::T(problem.clone()));
            }
        }
    }
}

/// How machines and people show who they are.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_with(Components::new);
        let header =
            |name, text| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, text)));
        components
            .add_security_scheme("module_id", header("X-Module-Id", "The module's id; with module_key"));
        components.add_security_scheme("module_key", header("X-API-Key", "A live key of the module"));
        components.add_security_scheme(
            "token",
            SecurityScheme::Http(
                HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build(),
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::routes;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_and_the_router_have_the_same_operations() {
        let routed: BTreeSet<(String, String)> =
            routes().list().iter().map(|(method, path)| (method.to_string(), (*path).to_owned())).collect();
        let mut documented = BTreeSet::new();
        for (path, item) in &document().paths.paths {
            let operations = [
                ("GET", &item.get),
                ("POST", &item.post),
                ("PUT", &item.put),
                ("PATCH", &item.patch),
                ("DELETE", &item.delete),
            ];
            for (method, operation) in operations {
                if operation.is_some() {
                    documented.insert((method.to_owned(), path.clone()));
                }
            }
        }
        assert_eq!(routed, documented);
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let json = serde_json::to_value(document()).unwrap();
        let mut pending = vec![&json];
        while let Some(value) = pending.pop() {
            match value {
                serde_json::Value::Object(members) => {
                    if let Some(reference) = members.get("$ref").and_then(|value| value.as_str()) {
                        let pointer = reference.trim_start_matches('#');
                        assert!(json.pointer(pointer).is_some(), "{reference}");
                    }
                    pending.extend(members.values());
                }
                serde_json::Value::Array(items) => pending.extend(items),
                _ => {}
            }
        }
    }

    #[test]
    fn it_is_openapi_3_1() {
        let json = serde_json::to_value(document()).unwrap();
        assert!(json["openapi"].as_str().unwrap().starts_with("3.1"));
    }
}
