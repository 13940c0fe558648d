//! `callboard module create`: a machine identity, made through the admin API as any other client would.

use super::token::{self, Role};
use crate::client::{self, Call};
use crate::instance::Instance;
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// The subject of the tokens that the commands mint for themselves.
const SUBJECT: &str = "local-runner";
const TOKEN_LIFETIME: Duration = Duration::from_secs(300);

/// A machine identity.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Identity {
    /// Goes into `X-Module-Id`.
    pub module_id: String,
    /// Goes into `X-API-Key`.
    pub key: String,
}

/// Makes a module and a key for it. Its kind follows from its scopes.
///
/// # Errors
/// If no instance runs, or the API refuses: the message is the API's.
pub async fn create(
    data_dir: &Path,
    name: &str,
    scopes: &[String],
    trust: Option<&str>,
) -> anyhow::Result<Identity> {
    let instance = Instance::find(data_dir)?;
    let token = token::mint(data_dir, Role::Admin, SUBJECT, TOKEN_LIFETIME)?;
    let bearer = format!("Bearer {token}");
    let mut module = json!({"module_id": name, "name": name, "kind": kind(scopes)?, "scopes": scopes});
    if let Some(trust) = trust {
        module["trust_level"] = trust.into();
    }
    let made = post(&format!("{}/admin/modules", instance.api), &bearer, &module)
        .await
        .with_context(|| format!("cannot make the module {name}"))?;
    let module_id = made["module_id"].as_str().unwrap_or(name).to_owned();
    let keys = format!("{}/admin/modules/{module_id}/keys", instance.api);
    let made = post(&keys, &bearer, &json!({"label": "local"}))
        .await
        .with_context(|| format!("cannot make a key for the module {name}"))?;
    let key = made["key"].as_str().context("the API answered without a key")?.to_owned();
    Ok(Identity { module_id, key })
}

async fn post(url: &str, bearer: &str, body: &Value) -> anyhow::Result<Value> {
    let answer = client::send(Call::post(url, body).header("authorization", bearer)).await?;
    if !answer.status.is_success() {
        bail!("{}", answer.problem());
    }
    Ok(answer.json())
}

/// A connector hands in, a processor works on jobs; nobody does both.
fn kind(scopes: &[String]) -> anyhow::Result<&'static str> {
    let ingests =
        scopes.iter().any(|scope| scope.starts_with("discoveries:") || scope.starts_with("evidence:"));
    let processes = scopes.iter().any(|scope| scope.starts_with("jobs:"));
    match (ingests, processes) {
        (true, true) => bail!("a module cannot have ingest scopes and job scopes: make two"),
        (false, true) => Ok("processor"),
        _ => Ok("connector"),
    }
}

#[cfg(test)]
mod tests {

    #[test]
    fn the_kind_follows_from_the_scopes() {
        let kind =
            |scopes: &[&str]| super::kind(&scopes.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).ok();
        assert_eq!(kind(&["discoveries:write", "evidence:write"]), Some("connector"));
        assert_eq!(kind(&["jobs:read", "jobs:write"]), Some("processor"));
        assert_eq!(kind(&["jobs:read", "discoveries:write"]), None);
    }
}
