//! Asks the OIDC issuer for its keys (OpenID Connect Discovery 1.0 §4).

use crate::auth::human::KeySource;
use futures::future::BoxFuture;
use jsonwebtoken::jwk::JwkSet;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// For both documents together (http-api.md §1.2).
const LIMIT: Duration = Duration::from_secs(2);
/// A key set is a few kilobytes.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

/// The issuer over HTTPS.
#[derive(Debug, Default)]
pub struct HttpKeySource;

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl KeySource for HttpKeySource {
    fn fetch<'a>(&'a self, issuer: &'a str) -> BoxFuture<'a, Result<JwkSet, String>> {
        Box::pin(async move {
            tokio::time::timeout(LIMIT, fetch(issuer))
                .await
                .unwrap_or_else(|_| Err("the issuer did not answer within 2 s".into()))
        })
    }
}

async fn fetch(issuer: &str) -> Result<JwkSet, String> {
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let discovery: Discovery = get(&url).await?;
    // §4.3: the document must be the issuer's own.
    if discovery.issuer != issuer {
        return Err(format!("the discovery document is of {:?}", discovery.issuer));
    }
    get(&discovery.jwks_uri).await
}

async fn get<T: DeserializeOwned>(url: &str) -> Result<T, String> {
    let response =
        fetch::trusted_get(url, LIMIT, DOCUMENT_BYTES_MAX).await.map_err(|error| error.to_string())?;
    if response.status != 200 {
        return Err(format!("{url} answered {}", response.status));
    }
    serde_json::from_slice(&response.body).map_err(|error| format!("{url} is not what it should be: {error}"))
}
