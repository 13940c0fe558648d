//! Where a chain of redirects leads, and whether that is an address of the same page (§7.2).
//!
//! Publishers send expired pages to their home page and everything else to a login; neither is another name of what
//! was asked for. Both the extraction's own chain and the job `resolve_url_redirects` are judged by [`judge`].

use crate::url::{NormalizedUrl, Rules, normalize};

/// What the end of a chain means for the address that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainEnd {
    /// The same normal form: there is nothing to record.
    Unchanged,
    /// Another address of the same page.
    Moved(NormalizedUrl),
    /// No page of its own.
    NotFinal(NotFinal),
}

/// Why the end of a chain is no page of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFinal {
    /// The last answer was no 2xx.
    Status,
    /// The end has no normal form.
    Address,
    /// https led to http: followed, but never canonical.
    Downgraded,
    /// A root page, although the page asked for was none.
    Root,
    /// A page to sign in.
    Login,
}

/// Path segments, first and last host labels that say "sign in here", folded.
const LOGIN_WORDS: &[&str] = &[
    "login",
    "log-in",
    "logon",
    "signin",
    "sign-in",
    "sign_in",
    "sso",
    "saml",
    "saml2",
    "oauth",
    "oauth2",
    "authorize",
    "anmelden",
    "anmeldung",
    "connexion",
    "acceso",
];

/// Judges a chain that began at `asked` and ended at `end` with the status `status`. `downgraded`: it led from https to
/// http somewhere.
#[must_use]
pub fn judge(asked: &NormalizedUrl, end: &str, status: u16, downgraded: bool, rules: &Rules) -> ChainEnd {
    if !(200..300).contains(&status) {
        return ChainEnd::NotFinal(NotFinal::Status);
    }
    let Ok(end) = normalize(end, rules) else { return ChainEnd::NotFinal(NotFinal::Address) };
    if end == *asked || end.hash() == asked.hash() {
        return ChainEnd::Unchanged;
    }
    if downgraded {
        return ChainEnd::NotFinal(NotFinal::Downgraded);
    }
    match shared_page(asked, &end) {
        Some(reason) => ChainEnd::NotFinal(reason),
        None => ChainEnd::Moved(end),
    }
}

/// Whether an address on the way is another name of the page that was asked for, so that it may be kept as an alias.
#[must_use]
pub fn is_alias(asked: &NormalizedUrl, hop: &NormalizedUrl) -> bool {
    shared_page(asked, hop).is_none()
}

fn shared_page(asked: &NormalizedUrl, end: &NormalizedUrl) -> Option<NotFinal> {
    if end.is_root() && !asked.is_root() {
        Some(NotFinal::Root)
    } else if is_login(end) && !is_login(asked) {
        Some(NotFinal::Login)
    } else {
        None
    }
}

fn is_login(url: &NormalizedUrl) -> bool {
    let first_label = url.host().split('.').next().unwrap_or_default();
    let is_word = |text: &str| LOGIN_WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    is_word(first_label)
        || url.path().split('/').any(|segment| is_word(segment.split('.').next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(asked: &str, end: &str) -> ChainEnd {
        let rules = Rules::builtin();
        judge(&normalize(asked, &rules).unwrap(), end, 200, false, &rules)
    }

    #[test]
    fn the_end_is_recorded_only_if_it_is_a_page_of_its_own() {
        use NotFinal::{Address, Login, Root};
        let asked = "https://uni.example/jobs/42";
        for (end, expected) in [
            ("https://uni.example/jobs/42?utm_source=x", None),
            ("https://uni.example/", Some(Root)),
            ("https://other.example", Some(Root)),
            ("https://uni.example/login?next=/jobs/42", Some(Login)),
            ("https://uni.example/en/Sign-In", Some(Login)),
            ("https://uni.example/login.aspx", Some(Login)),
            ("https://sso.uni.example/start", Some(Login)),
            ("ftp://uni.example/jobs/42", Some(Address)),
        ] {
            let expected = expected.map_or(ChainEnd::Unchanged, ChainEnd::NotFinal);
            assert_eq!(judged(asked, end), expected, "{end}");
        }
        for end in ["https://uni.example/jobs/43", "https://uni.example/jobs/login-researcher"] {
            assert!(matches!(judged(asked, end), ChainEnd::Moved(_)), "{end}");
        }
    }

    #[test]
    fn a_root_or_login_that_was_asked_for_may_lead_to_another() {
        assert!(matches!(judged("https://a.example/", "https://b.example/"), ChainEnd::Moved(_)));
        assert!(matches!(judged("https://a.example/login", "https://b.example/login"), ChainEnd::Moved(_)));
    }

    #[test]
    fn an_error_page_and_a_downgrade_are_never_recorded() {
        let rules = Rules::builtin();
        let asked = normalize("https://uni.example/jobs/42", &rules).unwrap();
        for status in [199, 301, 404, 410, 500] {
            let end = judge(&asked, "https://uni.example/jobs/43", status, false, &rules);
            assert_eq!(end, ChainEnd::NotFinal(NotFinal::Status), "{status}");
        }
        let end = judge(&asked, "http://uni.example/jobs/43", 200, true, &rules);
        assert_eq!(end, ChainEnd::NotFinal(NotFinal::Downgraded));
    }
}
