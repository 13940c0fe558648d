//! `callboard extract`: what the worker would read from a page, without an instance.

/// What to read.
#[derive(Debug, clap::Args)]
pub struct Options {
    page: String,
}

/// Runs it.
///
/// # Errors
/// If something cannot be read.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    anyhow::bail!("{options:?}")
}
