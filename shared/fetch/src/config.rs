//! What the operator sets.

use crate::judge::Allowed;
use crate::limits::TimeLimits;
use std::net::SocketAddr;

/// The version in the user agent.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The token that robots.txt rules name (RFC 9309, section 2.2.1).
pub const PRODUCT_TOKEN: &str = "callboard";

/// What the operator sets. Nothing of it comes from outside.
#[derive(Debug, Clone, Default)]
pub struct FetchConfig {
    /// Where a site's operator can complain; in the user agent.
    pub contact_url: Option<String>,
    /// Private addresses that may be reached. Empty in the cloud.
    pub allow: Vec<Allowed>,
    /// Shorter in tests only.
    pub limits: TimeLimits,
    /// Certificates (DER) that are trusted beside the public roots. Empty but in tests.
    pub extra_roots: Vec<Vec<u8>>,
}

/// A variable has a value that it cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} must list ADDRESS:PORT, separated by commas, not {value:?}")]
pub struct ConfigError {
    /// The variable.
    pub name: &'static str,
    /// What it holds.
    pub value: String,
}

impl FetchConfig {
    /// Reads `CONTACT_URL`; `CALLBOARD_ALLOW_FETCH`, the addresses of `--allow-fetch`, which keep pace and robots; and
    /// `CALLBOARD_SITE`, the address of the bundled site, which is allowed and has no pace.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable.
    pub fn from_env() -> Result<Self, ConfigError> {
        let var = |name| std::env::var(name).unwrap_or_default();
        Self::from_values(&var("CONTACT_URL"), &var("CALLBOARD_ALLOW_FETCH"), &var("CALLBOARD_SITE"))
    }

    fn from_values(contact_url: &str, allow: &str, site: &str) -> Result<Self, ConfigError> {
        let mut list = addresses("CALLBOARD_SITE", site, false)?;
        list.extend(addresses("CALLBOARD_ALLOW_FETCH", allow, true)?);
        Ok(Self {
            contact_url: (!contact_url.is_empty()).then(|| contact_url.to_owned()),
            allow: list,
            ..Self::default()
        })
    }

    /// `callboard/<version> (+<contact url>)`; a contact that does not fit into a field's comment is left out.
    #[must_use]
    pub fn user_agent(&self) -> String {
        let fits = |url: &&String| {
            url.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'(' | b')' | b'\\'))
        };
        match self.contact_url.as_ref().filter(fits) {
            Some(url) => format!("{PRODUCT_TOKEN}/{VERSION} (+{url})"),
            None => format!("{PRODUCT_TOKEN}/{VERSION}"),
        }
    }
}

fn addresses(name: &'static str, list: &str, paced: bool) -> Result<Vec<Allowed>, ConfigError> {
    list.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let address: SocketAddr =
                entry.parse().map_err(|_| ConfigError { name, value: entry.to_owned() })?;
            Ok(Allowed { address, paced })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_addresses_are_read_and_the_site_comes_first_without_a_pace() {
        let config = FetchConfig::from_values(
            "https://callboard.example/bot",
            "127.0.0.5:4001, [::1]:80,",
            "127.0.0.1:4000",
        )
        .unwrap();
        let list: Vec<_> = config.allow.iter().map(|a| (a.address.to_string(), a.paced)).collect();
        assert_eq!(
            list,
            [("127.0.0.1:4000".into(), false), ("127.0.0.5:4001".into(), true), ("[::1]:80".into(), true)]
        );
        assert_eq!(config.user_agent(), format!("callboard/{VERSION} (+https://callboard.example/bot)"));
        assert!(FetchConfig::from_values("", "", "").unwrap().allow.is_empty());
        let odd = FetchConfig::from_values("https://b\u{fc}cher.example/\r\nX: y", "", "").unwrap();
        assert_eq!(odd.user_agent(), format!("callboard/{VERSION}"));
        assert_eq!(
            FetchConfig::from_values("", "localhost:1", "").unwrap_err().name,
            "CALLBOARD_ALLOW_FETCH"
        );
    }
}
