//! `callboard demo`: the main job on real input, from nothing.

use std::path::PathBuf;
use std::process::ExitCode;

/// Runs it.
///
/// # Errors
/// If something cannot be started.
pub async fn run(keep: bool, data: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    anyhow::bail!("{keep} {data:?}")
}
