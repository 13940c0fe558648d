//! People: a JWT of the configured OIDC issuer, verified here (http-api.md §1.2).
//!
//! The issuer is asked for its keys at most every 10 minutes, and once a minute for a key that is not known. While it does
//! not answer, the keys that it gave are used for up to 24 hours; without any, the answer is 503 and not 401.

use crate::app::App;
use crate::auth::{API_KEY_HEADER, MODULE_ID_HEADER};
use crate::problem::Problem;
use axum::extract::FromRequestParts;
use domain::state::Actor;
use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::request::Parts;
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

/// Keys are asked for again after this long.
const FRESH_S: i64 = 600;
/// Keys are used for this long while the issuer does not answer.
const STALE_S: i64 = 24 * 3600;
/// A key id that is not known, or an issuer that failed, leads to one question in this time.
const REFETCH_S: i64 = 60;
/// How far the issuer's clock may be off.
const LEEWAY_S: i64 = 60;
/// A longer one is no token of an issuer but an attempt to make us work.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// The signatures that are taken. HMAC would take a public key for a secret, and `none` is no signature.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// Who signs people in.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// `iss`, and where its discovery document is.
    pub issuer: String,
    /// `aud`: this service.
    pub audience: String,
    /// The claim with the roles: a string or a list of strings.
    pub roles_claim: String,
}

/// Where an issuer's keys come from.
pub trait KeySource: Send + Sync + 'static {
    /// Asks the issuer for its keys, within 2 seconds.
    fn fetch<'a>(&'a self, issuer: &'a str) -> BoxFuture<'a, Result<JwkSet, String>>;
}

/// What a person may do; the highest role that the token has counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads, and hands in what it found.
    Reader,
    /// Also decides on what waits.
    Moderator,
    /// Also administers.
    Admin,
}

/// What an operation asks of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HumanScope {
    /// `catalog:read`
    CatalogRead,
    /// `submission:write`
    SubmissionWrite,
    /// `moderation:read`
    ModerationRead,
    /// `moderation:write`
    ModerationWrite,
    /// `admin:read`
    AdminRead,
    /// `admin:write`
    AdminWrite,
}

impl HumanScope {
    fn as_str(self) -> &'static str {
        match self {
            Self::CatalogRead => "catalog:read",
            Self::SubmissionWrite => "submission:write",
            Self::ModerationRead => "moderation:read",
            Self::ModerationWrite => "moderation:write",
            Self::AdminRead => "admin:read",
            Self::AdminWrite => "admin:write",
        }
    }

    fn least_role(self) -> Role {
        match self {
            Self::CatalogRead | Self::SubmissionWrite => Role::Reader,
            Self::ModerationRead | Self::ModerationWrite => Role::Moderator,
            Self::AdminRead | Self::AdminWrite => Role::Admin,
        }
    }
}

/// A person whose token was verified.
#[derive(Debug, Clone)]
pub struct Human {
    subject: String,
    role: Option<Role>,
}

impl Human {
    /// `sub`.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Who did it, for events.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::human(&self.subject)
    }

    /// The principal of their idempotency keys and their bucket.
    #[must_use]
    pub fn principal(&self) -> String {
        format!("human:{}", self.subject)
    }

    /// # Errors
    /// `insufficient-scope` naming it.
    pub fn require(&self, scope: HumanScope) -> Result<(), Problem> {
        if self.role >= Some(scope.least_role()) {
            return Ok(());
        }
        Err(Problem::insufficient_scope(scope.as_str()))
    }
}

impl FromRequestParts<App> for Human {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if parts.headers.contains_key(MODULE_ID_HEADER) || parts.headers.contains_key(API_KEY_HEADER) {
            return Err(Problem::invalid_token(
                "This operation is for people; a module's key does not open it.",
            ));
        }
        let token = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| {
                Problem::invalid_token("Send Authorization: Bearer with a token of the issuer.")
            })?;
        let human = app.tokens.verify(token, app.now()).await?;
        app.limiter.take(&human.principal(), app.now())?;
        Ok(human)
    }
}

/// Verifies tokens, and keeps the issuer's keys.
pub struct Tokens {
    issuer: Option<Issuer>,
    source: Box<dyn KeySource>,
    /// Held while the issuer is asked, so that it is asked once.
    keys: tokio::sync::Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    set: Option<JwkSet>,
    fetched_at: Option<Timestamp>,
    tried_at: Option<Timestamp>,
}

impl Tokens {
    /// Of that issuer. Asks for nothing yet.
    #[must_use]
    pub fn new(issuer: Option<Issuer>, source: Box<dyn KeySource>) -> Self {
        Self { issuer, source, keys: tokio::sync::Mutex::default() }
    }

    /// Who the token's bearer is.
    ///
    /// # Errors
    /// `invalid-token` if it is none of the issuer's for this service or not valid now; `unavailable` if the issuer's keys
    /// cannot be had.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<Human, Problem> {
        let Some(issuer) = &self.issuer else {
            return Err(Problem::invalid_token("No issuer is configured, so nobody can sign in."));
        };
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Problem::invalid_token("The token is too long."));
        }
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| Problem::invalid_token("The token cannot be read."))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(Problem::invalid_token("The token must be signed with RS256, ES256 or EdDSA."));
        }
        let key = self.key(issuer, header.kid.as_deref(), now).await?;
        let key = key.ok_or_else(|| Problem::invalid_token("The issuer has no such key."))?;
        let refused = || Problem::invalid_token("The token's signature does not fit.");
        let decoding_key = DecodingKey::from_jwk(&key).map_err(|_| refused())?;
        let mut validation = Validation::new(header.alg);
        // The claims are checked below, against the clock that was given.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims =
            jsonwebtoken::decode::<Value>(token, &decoding_key, &validation).map_err(|_| refused())?.claims;
        check_claims(&claims, issuer, now)
    }

    async fn key(&self, issuer: &Issuer, kid: Option<&str>, now: Timestamp) -> Result<Option<Jwk>, Problem> {
        let mut keys = self.keys.lock().await;
        let is_fresh = is_within(keys.fetched_at, now, FRESH_S);
        let is_known = keys.set.as_ref().is_some_and(|set| find(set, kid).is_some());
        let was_tried = is_within(keys.tried_at, now, REFETCH_S);
        let is_enough = is_fresh && is_known;
        if !is_enough && !was_tried {
            keys.tried_at = Some(now);
            match self.source.fetch(&issuer.issuer).await {
                Ok(set) => {
                    keys.set = Some(set);
                    keys.fetched_at = Some(now);
                }
                Err(error) => tracing::warn!(error, "the issuer's keys cannot be had"),
            }
        }
        match &keys.set {
            Some(set) if is_within(keys.fetched_at, now, STALE_S) => Ok(find(set, kid).cloned()),
            _ => {
                // The next request asks again at once: without keys nobody can work.
                keys.tried_at = None;
                Err(Problem::unavailable("The issuer of the token does not answer."))
            }
        }
    }
}

fn is_within(at: Option<Timestamp>, now: Timestamp, seconds: i64) -> bool {
    at.is_some_and(|at| (0..seconds).contains(&(now.as_second() - at.as_second())))
}

/// The key of that id; without one, the only key there is.
fn find<'a>(set: &'a JwkSet, kid: Option<&str>) -> Option<&'a Jwk> {
    match (kid, set.keys.as_slice()) {
        (Some(kid), _) => set.find(kid),
        (None, [only]) => Some(only),
        (None, _) => None,
    }
}

fn check_claims(claims: &Value, issuer: &Issuer, now: Timestamp) -> Result<Human, Problem> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    // RFC 7519 §2: a NumericDate may have a fraction.
    #[allow(clippy::cast_possible_truncation, reason = "whole seconds are meant; huge values saturate")]
    let seconds = |name: &str| claims.get(name).and_then(Value::as_f64).map(|value| value as i64);
    if text("iss") != Some(&issuer.issuer) {
        return Err(Problem::invalid_token("The token is of another issuer."));
    }
    let is_for_us = match claims.get("aud") {
        Some(Value::String(audience)) => *audience == issuer.audience,
        Some(Value::Array(audiences)) => {
            audiences.iter().any(|audience| audience.as_str() == Some(&issuer.audience))
        }
        _ => false,
    };
    if !is_for_us {
        return Err(Problem::invalid_token("The token is for another service."));
    }
    let now = now.as_second();
    if seconds("exp").is_none_or(|exp| exp.saturating_add(LEEWAY_S) <= now) {
        return Err(Problem::invalid_token("The token has expired."));
    }
    let is_early = match claims.get("nbf") {
        None => false,
        Some(_) => seconds("nbf").is_none_or(|nbf| nbf.saturating_sub(LEEWAY_S) > now),
    };
    if is_early {
        return Err(Problem::invalid_token("The token is not valid yet."));
    }
    let subject = text("sub").filter(|subject| {
        (1..=255).contains(&subject.chars().count()) && domain::text::check_input(subject).is_ok()
    });
    let Some(subject) = subject else {
        return Err(Problem::invalid_token("The token names nobody."));
    };
    let role = match claims.get(&issuer.roles_claim) {
        Some(Value::String(role)) => read_role(role),
        Some(Value::Array(roles)) => roles.iter().filter_map(|role| read_role(role.as_str()?)).max(),
        _ => None,
    };
    Ok(Human { subject: subject.to_owned(), role })
}

/// Unknown roles are other services' and mean nothing here.
fn read_role(role: &str) -> Option<Role> {
    match role {
        "reader" | "user" => Some(Role::Reader),
        "moderator" => Some(Role::Moderator),
        "admin" => Some(Role::Admin),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn issuer() -> Issuer {
        Issuer {
            issuer: "https://id.example".into(),
            audience: "callboard".into(),
            roles_claim: "roles".into(),
        }
    }

    fn claims() -> Value {
        json!({"iss": "https://id.example", "aud": "callboard", "exp": 1_000, "sub": "ada", "roles": ["x", "moderator", "reader"]})
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_highest_known_role_counts_and_unknown_ones_mean_nothing() {
        let human = check_claims(&claims(), &issuer(), at(0)).unwrap();
        assert!(human.require(HumanScope::ModerationWrite).is_ok());
        assert!(human.require(HumanScope::AdminRead).is_err());
        let mut nobody = claims();
        nobody["roles"] = json!(["root"]);
        assert!(check_claims(&nobody, &issuer(), at(0)).unwrap().require(HumanScope::CatalogRead).is_err());
    }

    #[test]
    fn a_claim_that_does_not_fit_refuses_the_token() {
        let cases = [
            ("iss", json!("https://other.example")),
            ("iss", Value::Null),
            ("aud", json!("other")),
            ("aud", json!(["other"])),
            ("aud", Value::Null),
            ("exp", Value::Null),
            ("exp", json!("1000")),
            ("nbf", json!(1_000)),
            ("nbf", json!("0")),
            ("sub", json!("")),
            ("sub", Value::Null),
        ];
        for (claim, value) in cases {
            let mut changed = claims();
            changed[claim] = value.clone();
            assert!(check_claims(&changed, &issuer(), at(0)).is_err(), "{claim}={value}");
        }
    }

    #[test]
    fn the_leeway_is_a_minute_on_both_sides() {
        assert!(check_claims(&claims(), &issuer(), at(1_059)).is_ok());
        assert!(check_claims(&claims(), &issuer(), at(1_060)).is_err());
        let mut early = claims();
        early["nbf"] = json!(500);
        assert!(check_claims(&early, &issuer(), at(440)).is_ok());
        assert!(check_claims(&early, &issuer(), at(439)).is_err());
    }
}
