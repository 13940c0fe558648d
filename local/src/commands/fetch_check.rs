//! `callboard fetch-check`: whether the fetcher would go to each URL on standard input, without going.

use anyhow::Context as _;
use fetch::check::{self, ScriptedResolver};
use fetch::{Resolve, SystemResolver};
use std::path::Path;

/// Writes a JSON line for each line of standard input. Names are answered by `resolver_file`, or by the system.
///
/// # Errors
/// If the file cannot be used, or of reading and writing.
pub async fn run(resolver_file: Option<&Path>) -> anyhow::Result<()> {
    let resolver: Box<dyn Resolve> = match resolver_file {
        None => Box::new(SystemResolver),
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            Box::new(ScriptedResolver::from_json(&text)?)
        }
    };
    let (input, output) = (std::io::stdin(), std::io::stdout());
    check::run(std::io::BufReader::new(input), output, resolver.as_ref()).await?;
    Ok(())
}
