//! Who may call what (http-api.md §1.1, §1.2).

use crate::support::{AUDIENCE, Api, Credentials, ISSUER, KEY_ID, key_set};
use http::Method;
use jiff::{SignedDuration, ToSpan as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

const CACHE: SignedDuration = SignedDuration::from_secs(5);

#[tokio::test]
async fn whatever_is_wrong_with_a_key_gets_one_answer() {
    let api = Api::new().await;
    let admin = api.person("admin");
    let good = api.connector("acme-feed", "trusted").await;
    let other = api.connector("other-feed", "trusted").await;
    let key = |who: &Credentials| who.0[1].1.clone();
    let body = api.discovery("acme-feed", "https://example.org/1");
    api.post("/discoveries", &good, &body).await.expect(202);

    let expiring = {
        let expires_at = api.now().checked_add(60.seconds()).unwrap();
        let body = json!({"label": "short", "expires_at": expires_at.to_string()});
        let made = api.post("/admin/modules/acme-feed/keys", &admin, &body).await.expect(201);
        Credentials::machine("acme-feed", made["key"].as_str().unwrap())
    };
    api.post("/discoveries", &expiring, &body).await.expect(202);
    api.advance(SignedDuration::from_secs(61));

    let mut wrong_secret = key(&good);
    wrong_secret.pop();
    let cases = [
        Credentials::none(),
        Credentials(vec![("x-module-id".into(), "acme-feed".into())]),
        Credentials(vec![("x-api-key".into(), key(&good))]),
        Credentials::machine("nobody", &key(&good)),
        Credentials::machine("acme-feed", &key(&other)),
        Credentials::machine("acme-feed", &wrong_secret),
        Credentials::machine("acme-feed", "cb_unknown_secret"),
        Credentials::machine("acme-feed", "nonsense"),
        Credentials::machine("acme-feed", &"x".repeat(5_000)),
        Credentials::machine("acme-feed\u{7f}", "cb__"),
        expiring,
    ];
    let body = api.discovery("acme-feed", "https://example.org/1");
    let mut answers = Vec::new();
    for who in
        cases.iter().filter(|who| who.0.iter().all(|(_, value)| value.bytes().all(|b| b >= 32 && b != 127)))
    {
        let mut problem = api.post("/discoveries", who, &body).await.problem("invalid-credentials");
        problem["request_id"] = Value::Null;
        answers.push(problem);
    }
    assert_eq!(answers.len(), cases.len() - 1);
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    // A person's token opens no machine's door.
    api.post("/discoveries", &admin, &body).await.problem("invalid-credentials");
}

#[tokio::test]
async fn a_key_takes_effect_and_dies_within_five_seconds() {
    let api = Api::new().await;
    let good = api.connector("acme-feed", "trusted").await;
    let body = api.discovery("acme-feed", "https://example.org/1");
    api.post("/discoveries", &good, &body).await.expect(202);

    // Another environment does it, so that nothing here is told.
    api.execute("UPDATE module_keys SET revoked_at = now()").await;
    api.post("/discoveries", &good, &body).await.expect(202);
    api.advance(CACHE);
    api.post("/discoveries", &good, &body).await.problem("invalid-credentials");
    api.execute("UPDATE module_keys SET revoked_at = NULL").await;
    api.post("/discoveries", &good, &body).await.problem("invalid-credentials");
    api.advance(CACHE);
    api.post("/discoveries", &good, &body).await.expect(202);

    api.execute("UPDATE modules SET enabled = false WHERE module_id = 'acme-feed'").await;
    api.advance(CACHE);
    api.post("/discoveries", &good, &body).await.problem("invalid-credentials");
    let touched = "SELECT count(*) FROM module_keys JOIN modules ON modules.id = module_keys.module_id
        WHERE last_used_at IS NOT NULL AND last_seen_at IS NOT NULL";
    assert_eq!(api.count(touched).await, 1);
    assert_eq!(api.count("SELECT version FROM modules WHERE module_id = 'acme-feed'").await, 1);
}

#[tokio::test]
async fn a_scope_that_is_missing_is_named() {
    let api = Api::new().await;
    let processor = api
        .module(
            "worker-1",
            &json!({
                "module_id": "worker-1", "name": "w", "kind": "processor", "scopes": ["jobs:read"],
            }),
        )
        .await;
    let body = api.discovery("worker-1", "https://example.org/1");
    let problem = api.post("/discoveries", &processor, &body).await.problem("insufficient-scope");
    assert_eq!(problem["required"], "discoveries:write");
    let problem = api.post("/evidence", &processor, &json!({})).await.problem("insufficient-scope");
    assert_eq!(problem["required"], "evidence:write");
}

#[tokio::test]
async fn both_kinds_of_credentials_are_one_too_many() {
    let api = Api::new().await;
    let mut both = api.connector("acme-feed", "trusted").await;
    both.0.extend(api.person("admin").0);
    api.get("/admin/modules", &both).await.problem("ambiguous-credentials");
    api.get("/", &both).await.problem("ambiguous-credentials");
}

#[tokio::test]
async fn roles_open_what_they_should_and_nothing_else() {
    let api = Api::new().await;
    api.connector("acme-feed", "trusted").await;
    let read = "/admin/modules";
    for (role, status) in [("reader", 403), ("moderator", 403), ("admin", 200), ("root", 403), ("user", 403)]
    {
        let answer = api.get(read, &api.person(role)).await;
        assert_eq!(answer.status.as_u16(), status, "{role}");
    }
    let problem = api.get(read, &api.person("moderator")).await.problem("insufficient-scope");
    assert_eq!(problem["required"], "admin:read");
    // The highest role counts, and a string is a list of one.
    let many = api.sign(&claims(&api, json!(["reader", "admin"])));
    assert_eq!(api.get(read, &bearer(&many)).await.status, 200);
    let one = api.sign(&claims(&api, json!("admin")));
    assert_eq!(api.get(read, &bearer(&one)).await.status, 200);
}

fn bearer(token: &str) -> Credentials {
    Credentials(vec![("authorization".into(), format!("Bearer {token}"))])
}

fn claims(api: &Api, roles: Value) -> Value {
    json!({"iss": ISSUER, "aud": [AUDIENCE], "sub": "ada", "exp": api.now().as_second() + 60, "roles": roles})
}

#[tokio::test]
async fn a_token_that_is_not_the_issuers_for_us_now_is_refused() {
    let api = Api::new().await;
    let admin = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims(&api, json!(["admin"]));
        change(&mut claims);
        bearer(&api.sign(&claims))
    };
    let good = claims(&api, json!(["admin"]));
    let hmac_header = Header { kid: Some(KEY_ID.into()), ..Header::new(Algorithm::HS256) };
    let hmac = jsonwebtoken::encode(&hmac_header, &good, &EncodingKey::from_secret(b"public")).unwrap();
    let none = {
        use base64::Engine as _;
        let part = |value: &Value| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(&json!({"alg": "none", "kid": KEY_ID})), part(&good))
    };
    let signed = api.sign(&good);
    let (head, signature) = signed.rsplit_once('.').unwrap();
    let mut broken = signature.to_owned();
    broken.replace_range(0..1, if signature.starts_with('A') { "B" } else { "A" });
    let cases = [
        admin(&|claims| claims["exp"] = json!(api.now().as_second() - 61)),
        admin(&|claims| claims["nbf"] = json!(api.now().as_second() + 65)),
        admin(&|claims| claims["iss"] = json!("https://other.example")),
        admin(&|claims| claims["aud"] = json!("other")),
        admin(&|claims| claims["sub"] = json!("")),
        bearer(&hmac),
        bearer(&none),
        bearer(&format!("{head}.{broken}")),
        bearer("x.y.z"),
        bearer(""),
        Credentials(vec![("authorization".into(), "Basic YTpi".into())]),
        Credentials::none(),
        api.connector("acme-feed", "trusted").await,
    ];
    for who in cases {
        let answer = api.get("/admin/modules", &who).await;
        answer.problem("invalid-token");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
    }
    api.get("/admin/modules", &bearer(&signed)).await.expect(200);
}

#[tokio::test]
async fn the_issuer_is_asked_seldom_and_its_keys_outlive_its_absence_by_a_day() {
    let api = Api::new().await;
    let asked = || api.issuer.asked.load(Ordering::SeqCst);
    let status = async || api.get("/admin/modules", &api.person("admin")).await.status.as_u16();
    *api.issuer.keys.lock().unwrap() = None;
    assert_eq!(status().await, 503);
    *api.issuer.keys.lock().unwrap() = Some(key_set(KEY_ID));
    assert_eq!(status().await, 200);
    let first = asked();
    assert_eq!(status().await, 200);
    assert_eq!(asked(), first, "the keys are kept");

    api.advance(SignedDuration::from_mins(10));
    assert_eq!(status().await, 200);
    assert_eq!(asked(), first + 1, "and asked for again after ten minutes");

    *api.issuer.keys.lock().unwrap() = None;
    api.advance(SignedDuration::from_hours(23));
    assert_eq!(status().await, 200, "the issuer is away");
    assert_eq!(status().await, 200);
    assert_eq!(asked(), first + 2, "and is not asked at every request");
    api.advance(SignedDuration::from_hours(1));
    assert_eq!(status().await, 503);

    // The issuer signs with another key from now on.
    *api.issuer.keys.lock().unwrap() = Some(key_set("other"));
    assert_eq!(status().await, 401);
    let before = asked();
    assert_eq!(status().await, 401);
    assert_eq!(asked(), before, "an unknown key leads to one question a minute");
    *api.issuer.keys.lock().unwrap() = Some(key_set(KEY_ID));
    api.advance(SignedDuration::from_mins(1));
    assert_eq!(status().await, 200);
}

#[tokio::test]
async fn a_public_path_asks_nobody_who_he_is() {
    let api = Api::new().await;
    assert_eq!(api.call(Method::GET, "/", &bearer("nonsense"), None).await.status, 200);
    assert_eq!(api.issuer.asked.load(Ordering::SeqCst), 0);
}
