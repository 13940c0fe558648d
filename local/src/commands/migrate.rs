//! `callboard migrate`: the migrations on any database, by the code that the migrate function runs.

use crate::database;
use crate::instance::Instance;
use anyhow::Context as _;
use std::path::Path;
use store::migrations;

/// Applies the migrations of this release, or of a directory, and prints what it did.
///
/// # Errors
/// Of [`migrations::MigrationError`], in its own words; or that no database is named.
pub async fn run(data_dir: &Path, url: Option<String>, directory: Option<&Path>) -> anyhow::Result<()> {
    let url = match url.or_else(database::given_url) {
        Some(url) => url,
        None => {
            Instance::find(data_dir)
                .context("no database: give --database-url, set DATABASE_URL, or start an instance")?
                .database_url
        }
    };
    let migrations = match directory {
        Some(directory) => migrations::from_directory(directory)?,
        None => migrations::embedded()?,
    };
    let report = database::migrate(&url, &migrations).await?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
