//! The administrator's overrides of the normal form, one a domain (`url_normalization_overrides`).

use serde::{Deserialize, Serialize};

/// Longest domain, in characters (RFC 1035 §2.3.4 less the root).
const DOMAIN_LENGTH_MAX: usize = 253;
/// Longest token, in characters.
const TOKEN_LENGTH_MAX: usize = 64;
/// Most tokens in one list.
const TOKENS_MAX: usize = 100;

/// What is different about the addresses of a domain and the domains below it.
///
/// Its stripped names stand in the place of the built-in system's own; the names that are stripped everywhere
/// (`utm_…`, `fbclid`, …) still are, except those it keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// The domain, an A-label of at least two labels.
    #[serde(default)]
    pub domain: String,
    /// Names dropped from the query, compared without case.
    #[serde(default)]
    pub strip_query_params: Vec<String>,
    /// Beginnings of names dropped from the query.
    #[serde(default)]
    pub strip_query_prefixes: Vec<String>,
    /// Names that are kept whatever else says otherwise.
    #[serde(default)]
    pub keep_query_params: Vec<String>,
    /// Drop a leading `www.` of the host.
    #[serde(default)]
    pub strip_www: bool,
    /// `http` on its default port becomes `https`.
    #[serde(default)]
    pub force_https: bool,
    /// A disabled override is as good as none.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

/// One thing wrong with an override.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {detail}")]
pub struct OverrideError {
    /// JSON Pointer to the member, such as `/strip_query_params/3`.
    pub pointer: String,
    /// Stable code.
    pub code: &'static str,
    /// What to do about it.
    pub detail: String,
}

impl Override {
    /// The override as it is stored: domain as a lower-case A-label, each list sorted and without doubles.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn checked(mut self) -> Result<Self, Vec<OverrideError>> {
        let mut errors = Vec::new();
        match check_domain(&self.domain) {
            Ok(domain) => self.domain = domain,
            Err(error) => errors.push(error),
        }
        for (name, list) in [
            ("strip_query_params", &mut self.strip_query_params),
            ("strip_query_prefixes", &mut self.strip_query_prefixes),
            ("keep_query_params", &mut self.keep_query_params),
        ] {
            if list.len() > TOKENS_MAX {
                errors.push(OverrideError {
                    pointer: format!("/{name}"),
                    code: "too_many",
                    detail: format!("at most {TOKENS_MAX} names"),
                });
            }
            for (index, token) in list.iter().enumerate() {
                if !is_token(token) {
                    errors.push(OverrideError {
                        pointer: format!("/{name}/{index}"),
                        code: "invalid_token",
                        detail: format!(
                            "must match ^[a-z0-9][a-z0-9._-]*$ and have at most {TOKEN_LENGTH_MAX} characters"
                        ),
                    });
                }
            }
            list.sort_unstable();
            list.dedup();
        }
        if errors.is_empty() { Ok(self) } else { Err(errors) }
    }

    pub(super) fn keeps(&self, name: &str) -> bool {
        self.keep_query_params.iter().any(|keep| keep == name)
    }

    pub(super) fn strips(&self, name: &str) -> bool {
        self.strip_query_params.iter().any(|strip| strip == name)
            || self.strip_query_prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }
}

fn is_token(text: &str) -> bool {
    let is_start = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= TOKEN_LENGTH_MAX
        && text.bytes().next().is_some_and(is_start)
        && text.bytes().all(|byte| is_start(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

/// A domain as an override stores it: IDNA to A-labels, lower-case, no trailing dot, at least two labels.
///
/// # Errors
/// At pointer `/domain`, with what is expected.
pub fn check_domain(text: &str) -> Result<String, OverrideError> {
    let error = |code, detail: &str| OverrideError { pointer: "/domain".into(), code, detail: detail.into() };
    let invalid = || error("invalid_domain", "must be a domain name such as example.org");
    let ::url::Host::Domain(domain) = ::url::Host::parse(text.trim()).map_err(|_| invalid())? else {
        return Err(error("invalid_domain", "must be a domain name, not an IP address"));
    };
    let domain = domain.strip_suffix('.').unwrap_or(&domain).to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if !domain.split('.').all(is_label) {
        return Err(invalid());
    }
    if domain.len() > DOMAIN_LENGTH_MAX {
        return Err(error("too_long", "at most 253 characters"));
    }
    if !domain.contains('.') {
        return Err(error("invalid_domain", "must have at least two labels, such as example.org"));
    }
    Ok(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_stored_as_a_label() {
        for (text, domain) in [
            ("Example.ORG", "example.org"),
            ("www.müller.de.", "www.xn--mller-kva.de"),
            (" jobs.example.org ", "jobs.example.org"),
        ] {
            assert_eq!(check_domain(text).as_deref(), Ok(domain), "{text}");
        }
        for text in
            ["", "localhost", "1.2.3.4", "[::1]", "a..b", "a b.c", "http://x.y", "x.y/z", &"a.".repeat(130)]
        {
            assert!(check_domain(text).is_err(), "{text}");
        }
    }

    #[test]
    fn everything_wrong_is_reported_at_once() {
        let entry = Override {
            domain: "localhost".into(),
            strip_query_params: vec!["ok".into(), "Bad".into()],
            keep_query_params: vec![String::new(), "-x".into(), "a".repeat(65)],
            strip_query_prefixes: vec!["x".into(); 101],
            ..Override::default()
        };
        let pointers: Vec<String> =
            entry.checked().unwrap_err().into_iter().map(|error| error.pointer).collect();
        assert_eq!(
            pointers,
            [
                "/domain",
                "/strip_query_params/1",
                "/strip_query_prefixes",
                "/keep_query_params/0",
                "/keep_query_params/1",
                "/keep_query_params/2"
            ]
        );
    }

    #[test]
    fn lists_are_stored_sorted_and_once() {
        let entry = Override {
            domain: "example.org".into(),
            strip_query_params: vec!["b".into(), "a".into(), "b".into()],
            ..Override::default()
        };
        assert_eq!(entry.checked().unwrap().strip_query_params, ["a", "b"]);
    }
}
