//! A router on a database of its own, with a clock, an issuer and a queue that the test holds in its hands.

use api::app::{App, Config};
use api::auth::human::{Issuer, KeySource};
use api::limits::Rate;
use api::router::router;
use axum::body::Body;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kinds::{Kind, Kinds};
use ledger::sqs::WakeQueue;
use ledger::{JobId, KindPolicy, Route, TerminalJob};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::Pool;
use testdb::TestDb;
use tower::ServiceExt as _;

pub(crate) const ISSUER: &str = "https://id.example";
pub(crate) const AUDIENCE: &str = "callboard";
/// An Ed25519 key that only tests use.
const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIHvWL0xEJjI/XrQzKJ5bE2iyaM0u7FvSRYKLzpuqiJLN
-----END PRIVATE KEY-----";
pub(crate) const KEY_ID: &str = "test-1";

/// A kind of job that nothing here runs.
struct Idle(&'static str, Route);

impl Kind for Idle {
    fn policy(&self) -> KindPolicy {
        KindPolicy {
            kind: self.0,
            route: self.1,
            max_failures: 5,
            lease: Duration::from_secs(120),
            base: Duration::from_secs(30),
            cap: Duration::from_secs(3_600),
            priority: 10,
        }
    }

    fn on_terminal<'a>(
        &'a self,
        _: &'a store::pipelined::Tx<'a>,
        _: &'a TerminalJob,
    ) -> BoxFuture<'a, Result<(), store::Error>> {
        Box::pin(async { Ok(()) })
    }
}

pub(crate) fn test_kinds() -> Kinds {
    let kinds: Vec<Box<dyn Kind>> = vec![
        Box::new(Idle("extract", Route::Internal)),
        Box::new(Idle("resolve_url_redirects", Route::Internal)),
        Box::new(Idle("enrich", Route::External)),
    ];
    Kinds::new(kinds).unwrap()
}

/// The issuer, whose answer and reachability the test decides.
#[derive(Clone)]
pub(crate) struct TestIssuer {
    pub(crate) keys: Arc<Mutex<Option<JwkSet>>>,
    pub(crate) asked: Arc<AtomicUsize>,
}

impl Default for TestIssuer {
    fn default() -> Self {
        Self { keys: Arc::new(Mutex::new(Some(key_set(KEY_ID)))), asked: Arc::default() }
    }
}

pub(crate) fn signing_key() -> EncodingKey {
    EncodingKey::from_ed_pem(PRIVATE_KEY.as_bytes()).unwrap()
}

pub(crate) fn key_set(kid: &str) -> JwkSet {
    let mut jwk = Jwk::from_encoding_key(&signing_key(), Algorithm::EdDSA).unwrap();
    jwk.common.key_id = Some(kid.to_owned());
    JwkSet { keys: vec![jwk] }
}

impl KeySource for TestIssuer {
    fn fetch<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<JwkSet, String>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let keys = self.keys.lock().unwrap().clone();
        Box::pin(async move { keys.ok_or_else(|| "away".to_owned()) })
    }
}

#[derive(Clone, Default)]
pub(crate) struct TestQueue(pub(crate) Arc<Mutex<Vec<Vec<JobId>>>>);

impl WakeQueue for TestQueue {
    fn wake<'a>(&'a self, ids: &'a [JobId]) -> BoxFuture<'a, ()> {
        if !ids.is_empty() {
            self.0.lock().unwrap().push(ids.to_vec());
        }
        Box::pin(async {})
    }
}

pub(crate) struct Api {
    pub(crate) db: TestDb,
    pub(crate) router: axum::Router,
    pub(crate) issuer: TestIssuer,
    pub(crate) queue: TestQueue,
    now: Arc<Mutex<SignedDuration>>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The body, if the status is as expected.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()
    }

    /// The problem, if it is of that type.
    #[track_caller]
    pub(crate) fn problem(&self, slug: &str) -> Value {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{} {}",
            self.status,
            self.text
        );
        let body = self.json();
        assert_eq!(body["type"], format!("/problems/{slug}"), "{body}");
        assert_eq!(body["status"], self.status.as_u16());
        assert_eq!(self.header("x-request-id"), body["request_id"].as_str());
        body
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(crate) fn sha256_hex(text: &str) -> String {
    use sha2::{Digest, Sha256};
    api::json::hex(&Sha256::digest(text.as_bytes()))
}

/// The pointers of a problem's errors.
pub(crate) fn pointers(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect()
}

#[derive(Clone)]
pub(crate) struct Credentials(pub(crate) Vec<(String, String)>);

impl Credentials {
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn machine(module_id: &str, key: &str) -> Self {
        Self(vec![("x-module-id".into(), module_id.into()), ("x-api-key".into(), key.into())])
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.into(), value.into()));
        self
    }
}

impl Api {
    pub(crate) async fn new() -> Self {
        Self::with_rate(Rate::default()).await
    }

    pub(crate) async fn with_rate(rate: Rate) -> Self {
        let db = TestDb::new().await;
        let pool = testdb::pool_of(db.app_url(), 16);
        Self::on(db, pool, rate, None)
    }

    /// With another queue than the test's own.
    pub(crate) async fn with_queue(wake: Box<dyn WakeQueue>) -> Self {
        let db = TestDb::new().await;
        let pool = db.pool();
        Self::on(db, pool, Rate::default(), Some(wake))
    }

    /// On another pool than that of the database: one that leads nowhere.
    pub(crate) fn on(db: TestDb, pool: Pool, rate: Rate, wake: Option<Box<dyn WakeQueue>>) -> Self {
        let (issuer, queue) = (TestIssuer::default(), TestQueue::default());
        let config = Config {
            issuer: Some(Issuer {
                issuer: ISSUER.into(),
                audience: AUDIENCE.into(),
                roles_claim: "roles".into(),
            }),
            cors_origins: vec!["https://moderate.example".into()],
            rate,
        };
        // The real time, and what the test adds to it.
        let now = Arc::new(Mutex::new(SignedDuration::ZERO));
        let ahead = Arc::clone(&now);
        let app = App::new(
            config,
            pool,
            Arc::new(test_kinds()),
            Box::new(issuer.clone()),
            wake.unwrap_or_else(|| Box::new(queue.clone())),
            Arc::new(move || Timestamp::now() + *ahead.lock().unwrap()),
        );
        Self { db, router: router(app), issuer, queue, now }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now() + *self.now.lock().unwrap()
    }

    /// Sets the API's clock ahead. The database's stays.
    pub(crate) fn advance(&self, by: SignedDuration) {
        *self.now.lock().unwrap() += by;
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        send_to(&self.router, request).await
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        who: &Credentials,
        body: Option<&Value>,
    ) -> Answer {
        call_to(&self.router, method, path, who, body).await
    }

    pub(crate) async fn get(&self, path: &str, who: &Credentials) -> Answer {
        self.call(Method::GET, path, who, None).await
    }

    pub(crate) async fn post(&self, path: &str, who: &Credentials, body: &Value) -> Answer {
        self.call(Method::POST, path, who, Some(body)).await
    }

    /// A token with these roles.
    pub(crate) fn token(&self, roles: &[&str]) -> String {
        let now = self.now().as_second();
        self.sign(&json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": now + 3_600, "nbf": now, "roles": roles,
        }))
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(KEY_ID.into()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, claims, &signing_key()).unwrap()
    }

    pub(crate) fn person(&self, role: &str) -> Credentials {
        Credentials(vec![("authorization".into(), format!("Bearer {}", self.token(&[role])))])
    }

    /// A connector with both ingest scopes, made through the API.
    pub(crate) async fn connector(&self, module_id: &str, trust: &str) -> Credentials {
        self.module(
            module_id,
            &json!({
                "module_id": module_id, "name": module_id, "kind": "connector", "trust_level": trust,
                "scopes": ["discoveries:write", "evidence:write"],
            }),
        )
        .await
    }

    pub(crate) async fn module(&self, module_id: &str, body: &Value) -> Credentials {
        let admin = self.person("admin");
        self.post("/admin/modules", &admin, body).await.expect(201);
        Credentials::machine(module_id, &self.key(module_id).await)
    }

    pub(crate) async fn key(&self, module_id: &str) -> String {
        let path = format!("/admin/modules/{module_id}/keys");
        let made = self.post(&path, &self.person("admin"), &json!({"label": "test"})).await.expect(201);
        made["key"].as_str().unwrap().to_owned()
    }

    pub(crate) fn discovery(&self, module_id: &str, url: &str) -> Value {
        json!({"origin_module_id": module_id, "url": url, "discovered_at": self.now().to_string()})
    }

    /// One number, as the owner sees it.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        let owner = self.db.owner().await;
        owner.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.db.owner().await.batch_execute(sql).await.unwrap();
    }
}

pub(crate) async fn send_to(router: &axum::Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

pub(crate) async fn call_to(
    router: &axum::Router,
    method: Method,
    path: &str,
    who: &Credentials,
    body: Option<&Value>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in &who.0 {
        request = request.header(name, value);
    }
    let request = match body {
        Some(body) => request.header("content-type", "application/json").body(Body::from(body.to_string())),
        None => request.body(Body::empty()),
    };
    send_to(router, request.unwrap()).await
}
