//! What holds for every operation (http-api.md §1 and §2).

use crate::support::{Api, Credentials, pointers};
use axum::body::Body;
use http::{Method, Request};
use jiff::SignedDuration;
use serde_json::json;
use testdb::TestDb;

#[tokio::test]
async fn whatever_goes_wrong_is_a_problem() {
    let api = Api::new().await;
    let nobody = Credentials::none();
    let problem = api.get("/nowhere", &nobody).await.problem("not-found");
    assert_eq!(problem["instance"], "/nowhere");
    assert_eq!(problem["status"], 404);

    let answer = api.call(Method::PUT, "/discoveries", &nobody, None).await;
    answer.problem("method-not-allowed");
    assert_eq!(answer.header("allow"), Some("POST"));
    let answer = api.call(Method::POST, "/healthz", &nobody, None).await;
    answer.problem("method-not-allowed");
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));

    let connector = api.connector("acme-feed", "trusted").await;
    let send = |content_type: &str, body: Vec<u8>| {
        let mut request = Request::post("/discoveries").header("content-type", content_type);
        for (name, value) in &connector.0 {
            request = request.header(name, value);
        }
        request.body(Body::from(body)).unwrap()
    };
    let json = "application/json; charset=utf-8";
    api.send(send("text/plain", b"{}".to_vec())).await.problem("unsupported-media-type");
    api.send(send(json, vec![b' '; 1024 * 1024 + 1])).await.problem("too-large");
    for malformed in ["", "{", "{\"a\":1,\"a\":2}", "{\"a\":NaN}", &"[".repeat(33)] {
        api.send(send(json, malformed.as_bytes().to_vec())).await.problem("malformed-json");
    }
    let problem = api.send(send(json, b"[]".to_vec())).await.problem("validation");
    assert_eq!(pointers(&problem), [""]);
    api.get("/discoveries/NOT-AN-ID", &connector).await.problem("not-found");
    api.get("/discoveries/%ff", &connector).await.problem("not-found");
}

#[tokio::test]
async fn a_request_id_is_echoed_if_it_is_tame_and_made_otherwise() {
    let api = Api::new().await;
    let with = |id: &str| Credentials::none().with("x-request-id", id);
    assert_eq!(api.get("/healthz", &with("a-B_9.")).await.header("x-request-id"), Some("a-B_9."));
    let made = api.get("/healthz", &with("with space")).await;
    assert_ne!(made.header("x-request-id"), Some("with space"));
    assert!(made.header("x-request-id").is_some());
}

#[tokio::test]
async fn public_answers_are_cached_by_their_tag_and_others_are_not() {
    let api = Api::new().await;
    let nobody = Credentials::none();
    let first = api.get("/", &nobody).await;
    assert_eq!(first.expect(200)["service"], "callboard");
    let tag = first.header("etag").unwrap().to_owned();
    assert_eq!(first.header("cache-control"), Some("public, max-age=60, stale-while-revalidate=300"));
    let again = api.get("/", &nobody.clone().with("if-none-match", &tag)).await;
    assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""));
    assert_eq!(api.get("/healthz", &nobody).await.header("cache-control"), Some("no-store"));
    assert_eq!(api.get("/admin/jobs", &api.person("admin")).await.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let api = Api::new().await;
    let answer = api.call(Method::HEAD, "/", &Credentials::none(), None).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
    assert!(answer.header("etag").is_some());
    let missing = api.call(Method::HEAD, "/nowhere", &Credentials::none(), None).await;
    assert_eq!((missing.status.as_u16(), missing.text.as_str()), (404, ""));
}

#[tokio::test]
async fn any_origin_reads_what_is_public_and_only_known_ones_the_rest() {
    let api = Api::new().await;
    let from = |origin: &str| Credentials::none().with("origin", origin);
    let allowed =
        |answer: &crate::support::Answer| answer.header("access-control-allow-origin").map(str::to_owned);
    assert_eq!(allowed(&api.get("/", &from("https://any.example")).await).as_deref(), Some("*"));
    assert_eq!(allowed(&api.get("/admin/jobs", &from("https://any.example")).await), None);
    let known = api.get("/admin/jobs", &from("https://moderate.example")).await;
    assert_eq!(allowed(&known).as_deref(), Some("https://moderate.example"));
    assert_eq!(known.header("vary"), Some("Origin"));
    let preflight = from("https://moderate.example").with("access-control-request-method", "PATCH");
    let answer = api.call(Method::OPTIONS, "/admin/modules/x", &preflight, None).await;
    assert_eq!(answer.status, 204);
    assert!(answer.header("access-control-allow-methods").unwrap().contains("PATCH"));
    let preflight = from("https://any.example").with("access-control-request-method", "PATCH");
    let answer = api.call(Method::OPTIONS, "/admin/modules/x", &preflight, None).await;
    assert_eq!(answer.header("access-control-allow-methods"), None);
}

#[tokio::test]
async fn who_asks_too_much_is_told_when_to_come_back() {
    let api = Api::with_rate(api::limits::Rate { burst: 3.0, per_second: 0.5 }).await;
    let nobody = Credentials::none().with("x-forwarded-for", "203.0.113.9, 198.51.100.7");
    for _ in 0..3 {
        api.get("/healthz", &nobody).await.expect(200);
    }
    let answer = api.get("/healthz", &nobody).await;
    answer.problem("rate-limited");
    assert_eq!(answer.header("retry-after"), Some("2"));
    let other = Credentials::none().with("x-forwarded-for", "198.51.100.8");
    api.get("/healthz", &other).await.expect(200);
    api.advance(SignedDuration::from_secs(2));
    api.get("/healthz", &nobody).await.expect(200);
}

#[tokio::test]
async fn without_its_database_the_service_says_so() {
    let db = TestDb::new().await;
    let nowhere = "postgres://callboard_app@127.0.0.1:9/none".to_owned();
    let pool = testdb::pool_of(nowhere, 2);
    let api = Api::on(db, pool, api::limits::Rate::default(), None);
    let machine = Credentials::machine("acme-feed", "cb_a_b");
    let body = api.discovery("acme-feed", "https://example.org/1");
    for answer in [
        api.post("/discoveries", &machine, &body).await,
        api.get("/admin/modules", &api.person("admin")).await,
        api.get("/readyz", &Credentials::none()).await,
    ] {
        let problem = answer.problem("unavailable");
        assert_eq!(answer.header("retry-after"), Some("2"));
        assert!(!problem.to_string().contains("127.0.0.1"), "{problem}");
    }
    api.get("/healthz", &Credentials::none()).await.expect(200);
    api.get("/", &Credentials::none()).await.expect(200);
}

#[tokio::test]
async fn the_service_tells_whether_it_is_ready_and_for_which_schema() {
    let api = Api::new().await;
    let nobody = Credentials::none();
    let ready = api.get("/readyz", &nobody).await.expect(200);
    assert_eq!(ready["schema_version"], store::migrations::newest_version());
    api.execute("DELETE FROM schema_migrations WHERE version = (SELECT max(version) FROM schema_migrations)")
        .await;
    let problem = api.get("/readyz", &nobody).await.problem("unavailable");
    assert_eq!(problem["checks"], json!({"database": "ok", "schema": "old"}));
}

#[tokio::test]
async fn every_problem_is_explained_to_a_person() {
    let api = Api::new().await;
    for kind in api::problem::TYPES {
        let answer = api.get(&format!("/problems/{}", kind.slug), &Credentials::none()).await;
        assert_eq!(answer.status, 200);
        assert!(answer.text.contains(kind.title));
    }
    api.get("/problems/none", &Credentials::none()).await.problem("not-found");
    assert!(
        api.get("/openapi.json", &Credentials::none()).await.expect(200)["paths"]["/discoveries"].is_object()
    );
}

#[tokio::test]
async fn a_cursor_leads_on_and_is_refused_when_it_is_changed_old_or_of_another_list() {
    let api = Api::new().await;
    let admin = api.person("admin");
    for name in ["feed-a", "feed-b", "feed-c"] {
        api.connector(name, "untrusted").await;
    }
    let page = api.get("/admin/modules?limit=2&kind=connector", &admin).await.expect(200);
    let ids = |page: &serde_json::Value| -> Vec<String> {
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["module_id"].as_str().unwrap().into())
            .collect()
    };
    assert_eq!(ids(&page), ["feed-a", "feed-b"]);
    let cursor = page["next_cursor"].as_str().unwrap().to_owned();
    // What comes in before the cursor does not move what follows it.
    api.connector("feed-aa", "untrusted").await;
    let next = format!("/admin/modules?limit=2&kind=connector&cursor={cursor}");
    let page = api.get(&next, &admin).await.expect(200);
    assert_eq!(ids(&page), ["feed-c", "human-submissions"]);
    assert!(page["next_cursor"].is_null());
    // The limit may change; the filters may not.
    api.get(&format!("/admin/modules?limit=1&kind=connector&cursor={cursor}"), &admin).await.expect(200);
    let other = format!("/admin/modules?kind=processor&cursor={cursor}");
    api.get(&other, &admin).await.problem("invalid-cursor");
    api.get(&format!("/admin/jobs?cursor={cursor}"), &admin).await.problem("invalid-cursor");
    for index in [0, cursor.len() / 2, cursor.len() - 2] {
        let mut bytes = cursor.clone().into_bytes();
        bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        let path = format!("/admin/modules?kind=connector&cursor={changed}");
        api.get(&path, &admin).await.problem("invalid-cursor");
    }
    for broken in ["x", ".", "e30.e30"] {
        api.get(&format!("/admin/modules?cursor={broken}"), &admin).await.problem("invalid-cursor");
    }
    api.advance(SignedDuration::from_hours(24));
    let admin = api.person("admin");
    api.get(&next, &admin).await.problem("invalid-cursor");
}

#[tokio::test]
async fn a_limit_out_of_range_and_an_unknown_filter_are_told_together() {
    let api = Api::new().await;
    let answer = api.get("/admin/modules?limit=201&knid=connector&enabled=maybe", &api.person("admin")).await;
    let problem = answer.problem("validation");
    let mut found = pointers(&problem);
    found.sort_unstable();
    assert_eq!(found, ["#/query/enabled", "#/query/knid", "#/query/limit"]);
}
