//! Which of two representations a client would rather have (RFC 9110 §12.5.1).

use http::HeaderMap;
use http::header::ACCEPT;

/// Whether `Accept` names `wanted` and prefers it to, or likes it as much as, `usual`.
pub(super) fn prefers(headers: &HeaderMap, wanted: &str, usual: &str) -> bool {
    let quality = |wanted: &[&str]| {
        ranges(headers)
            .filter(|(range, _)| wanted.iter().any(|name| range.eq_ignore_ascii_case(name)))
            .map(|(_, quality)| quality)
            .fold(0.0, f32::max)
    };
    let for_wanted = quality(&[wanted]);
    for_wanted > 0.0 && for_wanted >= quality(&[usual])
}

/// Media ranges with their quality; one that cannot be read counts as 1, as if it were absent.
fn ranges(headers: &HeaderMap) -> impl Iterator<Item = (&str, f32)> {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let range = parts.next().unwrap_or_default();
            let quality = parts
                .filter_map(|part| part.split_once('='))
                .find(|(name, _)| name.eq_ignore_ascii_case("q"))
                .and_then(|(_, value)| value.parse().ok())
                .unwrap_or(1.0);
            (range, quality)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_names_it_gets_it() {
        for (accept, expected) in [
            ("application/ld+json", true),
            ("Application/LD+JSON", true),
            ("application/ld+json, */*;q=0.1", true),
            ("application/json;q=0.9, application/ld+json", true),
            ("application/ld+json;q=0.5, application/json", false),
            ("application/ld+json;q=0", false),
            ("application/ld+json; profile=\"x\"; q=0.8", true),
            ("application/json", false),
            ("*/*", false),
            ("application/*", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            assert_eq!(prefers(&headers, "application/ld+json", "application/json"), expected, "{accept}");
        }
        assert!(!prefers(&HeaderMap::new(), "application/ld+json", "application/json"));
    }
}
