//! `callboard token`: a JWT of the running local issuer.

use crate::instance::Instance;
use crate::issuer::Signer;
use std::path::Path;
use std::time::Duration;

/// Who a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Reads the catalogue and submits.
    Reader,
    /// Decides on candidates.
    Moderator,
    /// Administers.
    Admin,
}

impl Role {
    /// As the claim says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Moderator => "moderator",
            Self::Admin => "admin",
        }
    }
}

/// Mints a token of the instance in `data_dir`.
///
/// # Errors
/// If no instance runs there.
pub fn mint(data_dir: &Path, role: Role, subject: &str, lifetime: Duration) -> anyhow::Result<String> {
    Instance::find(data_dir)?;
    Signer::load(data_dir)?.token(role.as_str(), subject, lifetime)
}
