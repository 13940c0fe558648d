//! One file a command. Each prints its result on standard output and what a person should know on standard error.

pub mod demo;
pub mod extract;
pub mod fetch_check;
pub mod invoke;
pub mod migrate;
pub mod module;
pub mod token;
pub mod up;
pub mod url;

use std::io::Read as _;
use std::path::Path;

/// The text of a file, or of standard input for `-`.
fn read_input(path: &Path) -> anyhow::Result<Vec<u8>> {
    use anyhow::Context as _;
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
        return Ok(bytes);
    }
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A line of standard input is a URL as it is, or a JSON string if it begins with a quotation mark: so that any character can
/// be written.
///
/// # Errors
/// What is wrong with the JSON.
fn line_value(line: &str) -> Result<String, serde_json::Error> {
    if line.starts_with('"') { serde_json::from_str(line) } else { Ok(line.to_owned()) }
}
