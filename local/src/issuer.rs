//! An OpenID Connect issuer of one's own: discovery, keys, and tokens for the three roles.
//!
//! Start at [`Issuer::start`], which serves, or [`Signer::load`], which only signs (`callboard token` needs no more than the
//! data directory). The Ed25519 key is made once a data directory and stays there, readable by its owner only.

use crate::serve::{self, Server};
use anyhow::Context as _;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// PKCS #8 around the 32 bytes of an Ed25519 key (RFC 8410, 7).
const PKCS8_HEADER: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const KEY_FILE: &str = "issuer.pem";
const CLAIMS_FILE: &str = "issuer.json";
/// The name of the one key.
const KEY_ID: &str = "local";

/// What a token of this issuer says beside its subject and role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// The claim that holds the roles.
    pub roles_claim: String,
}

/// Signs tokens.
pub struct Signer {
    key: EncodingKey,
    claims: Claims,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Signer").field("claims", &self.claims).finish_non_exhaustive()
    }
}

/// A running issuer.
#[derive(Debug)]
pub struct Issuer {
    server: Server,
}

impl Issuer {
    /// Serves `/.well-known/openid-configuration` and `/jwks` on a free loopback port.
    ///
    /// # Errors
    /// If nothing can be bound, or the key file is unusable.
    pub async fn start(data_dir: &Path) -> anyhow::Result<Self> {
        let key = load_or_make_key(data_dir)?;
        let mut jwk =
            Jwk::from_encoding_key(&key, Algorithm::EdDSA).context("the issuer's key is unusable")?;
        jwk.common.key_id = Some(KEY_ID.into());
        let listener = tokio::net::TcpListener::bind((serve::LOOPBACK, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let configuration = Arc::new(configuration(&url));
        let keys = Arc::new(json!({ "keys": [jwk] }));
        let router = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(move || std::future::ready(Json(Value::clone(&configuration)))),
            )
            .route("/jwks", get(move || std::future::ready(Json(Value::clone(&keys)))));
        Ok(Self { server: Server::on(listener, router)? })
    }

    /// The value of `iss`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }
}

fn configuration(url: &str) -> Value {
    json!({
        "issuer": url,
        "jwks_uri": format!("{url}/jwks"),
        "id_token_signing_alg_values_supported": ["EdDSA"],
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
    })
}

impl Signer {
    /// The signer of a data directory whose issuer runs or ran.
    ///
    /// # Errors
    /// If no issuer has run there.
    pub fn load(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join(CLAIMS_FILE);
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let claims =
            serde_json::from_slice(&text).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { key: load_or_make_key(data_dir)?, claims })
    }

    /// Keeps for [`Signer::load`] what tokens have to say.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_claims(data_dir: &Path, claims: &Claims) -> anyhow::Result<()> {
        write_private(&data_dir.join(CLAIMS_FILE), serde_json::to_string(claims)?.as_bytes())
    }

    /// A token for `subject` with one role, valid from now for `lifetime`.
    ///
    /// # Errors
    /// If the key cannot sign: it was made by something else.
    pub fn token(&self, role: &str, subject: &str, lifetime: Duration) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut claims = json!({
            "iss": self.claims.issuer,
            "aud": self.claims.audience,
            "sub": subject,
            "iat": now,
            "nbf": now,
            "exp": now.saturating_add(lifetime.as_secs()),
        });
        claims[self.claims.roles_claim.as_str()] = json!([role]);
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(KEY_ID.into());
        jsonwebtoken::encode(&header, &claims, &self.key).context("the issuer's key cannot sign")
    }
}

fn load_or_make_key(data_dir: &Path) -> anyhow::Result<EncodingKey> {
    let path = data_dir.join(KEY_FILE);
    let pem = match std::fs::read(&path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let seed: [u8; 32] = rand::rng().random();
            let der = [PKCS8_HEADER.as_slice(), &seed].concat();
            let pem =
                format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der));
            write_private(&path, pem.as_bytes())?;
            pem.into_bytes()
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    EncodingKey::from_ed_pem(&pem)
        .with_context(|| format!("{} is no Ed25519 key; delete it, and a new one is made", path.display()))
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let part = path.with_extension("part");
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&part)
        .with_context(context)?;
    file.write_all(content).with_context(context)?;
    std::fs::rename(&part, path).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client;
    use jsonwebtoken::{DecodingKey, Validation};

    #[tokio::test]
    async fn a_token_verifies_against_the_served_keys_and_the_key_outlives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let issuer = Issuer::start(directory.path()).await.unwrap();
        let claims =
            Claims { issuer: issuer.url(), audience: "callboard".into(), roles_claim: "roles".into() };
        Signer::save_claims(directory.path(), &claims).unwrap();
        let get = |path: &str| client::get_json(format!("{}{path}", issuer.url()));
        let configuration = get("/.well-known/openid-configuration").await.unwrap();
        assert_eq!(configuration["issuer"], issuer.url());
        let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(get("/jwks").await.unwrap()).unwrap();
        let key = DecodingKey::from_jwk(keys.find(KEY_ID).unwrap()).unwrap();
        for _ in 0..2 {
            let token = Signer::load(directory.path())
                .unwrap()
                .token("moderator", "ada", Duration::from_secs(60))
                .unwrap();
            let mut validation = Validation::new(Algorithm::EdDSA);
            validation.set_audience(&["callboard"]);
            validation.set_issuer(&[issuer.url()]);
            let data = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap();
            assert_eq!((&data.claims["sub"], &data.claims["roles"]), (&json!("ada"), &json!(["moderator"])));
        }
    }

    #[test]
    fn the_key_is_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        load_or_make_key(directory.path()).unwrap();
        let mode = std::fs::metadata(directory.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn without_an_issuer_there_is_no_signer() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Signer::load(directory.path()).is_err());
    }
}
