//! Addresses: their normal form, its hash, and the posting they name (§7.1).
//!
//! [`normalize`] is the only way to a [`NormalizedUrl`], so that two spellings of an address cannot become two
//! postings. Start there; [`Rules`] holds what may differ by domain.

mod normal;
mod overrides;
mod scripts;
mod systems;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt, str::FromStr};

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

pub use self::{
    normal::normalize,
    overrides::{Override, OverrideError, check_domain},
};

/// Longest address that is read, in characters, and longest normal form, in bytes.
pub const URL_LENGTH_MAX: usize = 2_048;

/// The flag of a host with a label of mixed scripts: it may imitate another.
pub const FLAG_MIXED_SCRIPT_HOST: &str = "mixed_script_host";

/// Why an address has no normal form. The caller answers 422 `invalid-url` with [`UrlError::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Nothing but white space.
    #[error("the URL is empty")]
    Empty,
    /// More than [`URL_LENGTH_MAX`] characters.
    #[error("the URL is longer than 2,048 characters")]
    TooLong,
    /// A relative reference.
    #[error("the URL is not absolute: it must begin with http:// or https://")]
    NotAbsolute,
    /// Another scheme than http and https.
    #[error("only http and https URLs are accepted")]
    UnsupportedScheme,
    /// A user name or a password before the host.
    #[error("the URL holds a user name or a password before the host; leave it out")]
    HasUserinfo,
    /// No host.
    #[error("the URL has no host")]
    NoHost,
    /// The host is no domain name and no IP address by the URL Standard.
    #[error("the host of the URL is neither a valid domain name nor a valid IP address")]
    InvalidHost,
    /// The port is no number up to 65535.
    #[error("the port of the URL is not a number from 0 to 65535")]
    InvalidPort,
    /// Anything else that the URL Standard refuses.
    #[error("the text is not a URL by the WHATWG URL Standard")]
    Malformed,
    /// The normal form has more than [`URL_LENGTH_MAX`] bytes.
    #[error("the URL's normal form is longer than 2,048 bytes")]
    NormalFormTooLong,
}

impl UrlError {
    /// The stable code of the validation error.
    pub fn code(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLong => "too_long",
            Self::NotAbsolute => "not_absolute",
            Self::UnsupportedScheme => "unsupported_scheme",
            Self::HasUserinfo => "has_userinfo",
            Self::NoHost => "no_host",
            Self::InvalidHost => "invalid_host",
            Self::InvalidPort => "invalid_port",
            Self::Malformed => "malformed",
            Self::NormalFormTooLong => "normal_form_too_long",
        }
    }
}

/// An address in normal form, with what can be told from it alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NormalizedUrl {
    normal: String,
    host: String,
    path_start: usize,
    flags: Vec<&'static str>,
    source_identity: Option<String>,
}

impl NormalizedUrl {
    /// The normal form; at most [`URL_LENGTH_MAX`] bytes of ASCII.
    pub fn as_str(&self) -> &str {
        &self.normal
    }

    /// The host: an A-label domain without trailing dot, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Path, query and fragment, from the first `/` on.
    pub fn path_and_rest(&self) -> &str {
        &self.normal[self.path_start..]
    }

    /// The path alone; never empty.
    pub fn path(&self) -> &str {
        let rest = self.path_and_rest();
        rest.split(['?', '#']).next().unwrap_or(rest)
    }

    /// Whether the path is `/`: the address of a site, not of a page on it.
    pub fn is_root(&self) -> bool {
        self.path() == "/"
    }

    /// SHA-256 of the normal form: the row's identity.
    pub fn hash(&self) -> UrlHash {
        UrlHash::of(&self.normal)
    }

    /// `<system>:<tenant>:<id>` or `<system>:<id>` if the address is a posting of a known applicant system or
    /// board.
    pub fn source_identity(&self) -> Option<&str> {
        self.source_identity.as_deref()
    }

    /// Risk flags, such as [`FLAG_MIXED_SCRIPT_HOST`].
    pub fn flags(&self) -> &[&'static str] {
        &self.flags
    }

    /// The domain that somebody registered; see [`registrable_domain`].
    pub fn registrable_domain(&self) -> Option<String> {
        registrable_domain(&self.host)
    }
}

impl fmt::Display for NormalizedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.normal)
    }
}

impl Serialize for NormalizedUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.normal)
    }
}

/// SHA-256 of a normal form's UTF-8; 64 lower-case hex digits in the API.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UrlHash(pub [u8; 32]);

impl UrlHash {
    /// The hash of a text that is a normal form already, such as a stored one.
    pub fn of(normal: &str) -> Self {
        Self(Sha256::digest(normal.as_bytes()).into())
    }

    /// The bytes as they are stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// From stored bytes; `None` unless there are 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for UrlHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for UrlHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 64 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 lower-case hexadecimal digits")]
pub struct HashError;

impl FromStr for UrlHash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        fn digit(byte: u8) -> Result<u8, HashError> {
            match byte {
                b'0'..=b'9' => Ok(byte - b'0'),
                b'a'..=b'f' => Ok(byte - b'a' + 10),
                _ => Err(HashError),
            }
        }
        let text: &[u8; 64] = text.as_bytes().try_into().map_err(|_| HashError)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for UrlHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The registrable domain of a host by the Public Suffix List: `cs.ox.ac.uk` → `ox.ac.uk`. `None` for IP
/// addresses, for names of one label and for public suffixes themselves.
pub fn registrable_domain(host: &str) -> Option<String> {
    if is_ip(host) {
        return None;
    }
    psl::domain_str(host.trim_end_matches('.')).map(str::to_owned)
}

/// Whether two hosts belong to the same registrable domain; IP addresses only to themselves.
pub fn same_registrable_domain(a: &str, b: &str) -> bool {
    match (registrable_domain(a), registrable_domain(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// A host in normal form is an address if its last label begins with a digit: no top-level domain does.
fn is_ip(host: &str) -> bool {
    host.starts_with('[')
        || host
            .rsplit('.')
            .next()
            .is_some_and(|label| label.bytes().next().is_some_and(|byte| byte.is_ascii_digit()))
}

/// What may differ by domain: the built-in table of applicant systems and boards, and the administrator's
/// overrides. Cheap to share, made once per `url_rules_version`.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    overrides: HashMap<String, Override>,
    /// `x` for an override of `www.x` that strips `www.`: it rules its own outcome, or a second pass would
    /// find other rules than the first.
    images: HashMap<String, String>,
}

impl Rules {
    /// The built-in table alone.
    pub fn builtin() -> Self {
        Self::default()
    }

    /// The built-in table, changed by the enabled ones of these overrides. A domain given twice: the last
    /// wins.
    pub fn with_overrides(overrides: Vec<Override>) -> Self {
        let mut rules = Self::default();
        for mut entry in overrides.into_iter().filter(|entry| entry.enabled) {
            entry.domain.make_ascii_lowercase();
            if let Some(image) = entry.domain.strip_prefix("www.")
                && entry.strip_www
            {
                rules.images.insert(image.to_owned(), entry.domain.clone());
            }
            rules.overrides.insert(entry.domain.clone(), entry);
        }
        rules
    }

    /// The override of the longest domain that is the host or a parent of it.
    fn override_of(&self, host: &str) -> Option<&Override> {
        if self.overrides.is_empty() || is_ip(host) {
            return None;
        }
        if let Some(entry) = self.overrides.get(host) {
            return Some(entry);
        }
        if let Some(entry) = self.images.get(host).and_then(|domain| self.overrides.get(domain)) {
            return Some(entry);
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(entry) = self.overrides.get(parent) {
                return Some(entry);
            }
            rest = parent;
        }
        None
    }
}
