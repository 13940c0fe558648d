//! The rules of URLs as they stand in the database: the built-in table and the enabled overrides.

use domain::url::{Override, Rules};
use telemetry::db::GenericClient;

/// Reads the overrides in force.
///
/// # Errors
/// [`store::Error`], of the database only. An override that this release cannot read is left out and logged: it was
/// checked when it was put.
pub async fn load(client: &impl GenericClient) -> Result<Rules, store::Error> {
    let stored = store::url_overrides::url_overrides_list(client, None, Some(true)).await?;
    let overrides = stored
        .into_iter()
        .map(|row| Override {
            domain: row.domain,
            strip_query_params: row.strip_query_params,
            strip_query_prefixes: row.strip_query_prefixes,
            keep_query_params: row.keep_query_params,
            strip_www: row.strip_www,
            force_https: row.force_https,
            enabled: row.enabled,
        })
        .collect();
    Ok(Rules::with_overrides(overrides))
}
