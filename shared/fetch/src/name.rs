//! Host names that are refused without asking DNS.

use crate::address::Class;

/// Suffixes of special use (IANA registry of special-use domain names; RFC 6761, 6762, 7686, 8375, 9476, 9665). The reserved
/// `example` names are not here: they lead nowhere inside.
const SPECIAL_USE: &[&str] = &["localhost", "local", "internal", "onion", "test", "invalid", "alt", "arpa"];

/// Suffixes that are used inside networks and delegated to nobody: cluster and service discovery, what routers hand out,
/// and what ICANN keeps back for collisions (RFC 6762, appendix G; ICANN resolution on `.home`, `.corp`, `.mail`).
const INSIDE: &[&str] = &[
    "lan",
    "corp",
    "svc",
    "home",
    "mail",
    "intranet",
    "private",
    "localdomain",
    "workgroup",
    "consul",
    "docker",
    "kube",
    "belkin",
    "dlink",
    "fritz",
    "router",
];

/// The longest name in presentation form, without the final dot (RFC 1035, section 2.3.4).
const NAME_MAX_BYTES: usize = 253;
const LABEL_MAX_BYTES: usize = 63;

/// The name as it is judged, kept and asked for: without a final dot. The URL parser has lower-cased it and turned it into
/// A-labels.
#[must_use]
pub fn key(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// Judges a name, not its addresses.
///
/// # Errors
/// [`Class::InvalidName`], [`Class::SingleLabel`], [`Class::SpecialUseName`], [`Class::InsideName`].
pub fn verdict(host: &str) -> Result<(), Class> {
    let name = key(host);
    if name.len() > NAME_MAX_BYTES
        || name.split('.').any(|label| label.is_empty() || label.len() > LABEL_MAX_BYTES)
    {
        return Err(Class::InvalidName);
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    if SPECIAL_USE.contains(&last) {
        return Err(Class::SpecialUseName);
    }
    if INSIDE.contains(&last) {
        return Err(Class::InsideName);
    }
    if !name.contains('.') {
        return Err(Class::SingleLabel);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_inside_is_refused_unresolved() {
        use Class::*;
        for (name, expected) in [
            ("example.org", None),
            ("example.org.", None),
            ("jobs.example", None),
            ("localhost.example.org", None),
            ("xn--bcher-kva.example", None),
            ("a_b.example.org", None),
            ("localhost", Some(SpecialUseName)),
            ("localhost.", Some(SpecialUseName)),
            ("a.localhost", Some(SpecialUseName)),
            ("printer.local", Some(SpecialUseName)),
            ("metadata.google.internal", Some(SpecialUseName)),
            ("metadata.google.internal.", Some(SpecialUseName)),
            ("abc.onion", Some(SpecialUseName)),
            ("a.test", Some(SpecialUseName)),
            ("a.invalid", Some(SpecialUseName)),
            ("nas.home.arpa", Some(SpecialUseName)),
            ("1.0.0.127.in-addr.arpa", Some(SpecialUseName)),
            ("nas.lan", Some(InsideName)),
            ("www.corp", Some(InsideName)),
            ("kubernetes.default.svc", Some(InsideName)),
            ("kubernetes.default.svc.cluster.local", Some(SpecialUseName)),
            ("router", Some(InsideName)),
            ("intranet", Some(InsideName)),
            ("jobs", Some(SingleLabel)),
            ("jobs.", Some(SingleLabel)),
            ("a..example.org", Some(InvalidName)),
            (".example.org", Some(InvalidName)),
            ("example.org..", Some(InvalidName)),
            (".", Some(InvalidName)),
        ] {
            assert_eq!(verdict(name).err(), expected, "{name}");
        }
        assert_eq!(verdict(&format!("{}.org", "a".repeat(64))).err(), Some(InvalidName));
        assert_eq!(verdict(&"a.".repeat(128)).err(), Some(InvalidName));
    }
}
