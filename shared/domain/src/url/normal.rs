//! The ordered steps of §7.1. Each keeps the whole idempotent: what it makes, it leaves alone the second time.

use std::borrow::Cow;

use super::{
    FLAG_MIXED_SCRIPT_HOST, NormalizedUrl, Override, Rules, URL_LENGTH_MAX, UrlError, is_ip,
    registrable_domain, scripts,
    systems::{self, System},
};

/// The normal form of an absolute http or https address (§7.1).
///
/// Idempotent, and independent of the order in which different names stand in the query. Two steps read the
/// specification closely: a trailing `//` is kept (dropping one slash would not be idempotent, and `//` is not
/// touched elsewhere), and a `%` that begins no escape becomes `%25` (or `%%341` would change twice).
///
/// # Errors
/// [`UrlError`]; none is worth a retry.
pub fn normalize(input: &str, rules: &Rules) -> Result<NormalizedUrl, UrlError> {
    if input.len() > URL_LENGTH_MAX && input.chars().nth(URL_LENGTH_MAX).is_some() {
        return Err(UrlError::TooLong);
    }
    let trimmed = input.trim_matches(|c: char| c <= ' ' || c.is_whitespace());
    if trimmed.is_empty() {
        return Err(UrlError::Empty);
    }
    let mut url = ::url::Url::parse(trimmed).map_err(from_parser)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlError::UnsupportedScheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::HasUserinfo);
    }
    drop_trailing_dots(&mut url)?;

    let mut host = url.host_str().ok_or(UrlError::NoHost)?.to_owned();
    let mut entry = rules.override_of(&host);
    while entry.is_some_and(|entry| entry.strip_www)
        && let Some(bare) = host.strip_prefix("www.")
        && registrable_domain(bare).is_some()
    {
        host = bare.to_owned();
        entry = rules.override_of(&host);
    }
    let force_https = entry.is_some_and(|entry| entry.force_https) && url.port().is_none();
    let scheme = if force_https { "https" } else { url.scheme() };
    let system = if is_ip(&host) { None } else { systems::system_of(&host) };

    let query = match url.query() {
        Some(query) => normal_query(query, entry, system),
        None => String::new(),
    };
    let mut path = normal_path(url.path());
    let mut identity = None;
    if let Some(system) = system {
        systems::drop_tails(system, &host, &mut path, &query);
        identity = systems::identity(system, &host, &path, &query);
    }

    let mut normal = String::with_capacity(trimmed.len() + 8);
    normal.push_str(scheme);
    normal.push_str("://");
    normal.push_str(&host);
    if let Some(port) = url.port() {
        normal.push(':');
        normal.push_str(&port.to_string());
    }
    let path_start = normal.len();
    normal.push_str(&path);
    if !query.is_empty() {
        normal.push('?');
        normal.push_str(&query);
    }
    if let Some(fragment) = url.fragment()
        && fragment.starts_with(['/', '!'])
    {
        normal.push('#');
        normal.push_str(&normal_escapes(fragment, is_query_char));
    }
    if normal.len() > URL_LENGTH_MAX {
        return Err(UrlError::NormalFormTooLong);
    }
    let flags = if scripts::is_mixed(&host) { vec![FLAG_MIXED_SCRIPT_HOST] } else { Vec::new() };
    Ok(NormalizedUrl { normal, host, path_start, flags, source_identity: identity })
}

fn from_parser(error: ::url::ParseError) -> UrlError {
    use ::url::ParseError as E;
    match error {
        E::RelativeUrlWithoutBase | E::RelativeUrlWithCannotBeABaseBase => UrlError::NotAbsolute,
        E::EmptyHost => UrlError::NoHost,
        E::IdnaError | E::InvalidIpv4Address | E::InvalidIpv6Address | E::InvalidDomainCharacter => {
            UrlError::InvalidHost
        }
        E::InvalidPort => UrlError::InvalidPort,
        _ => UrlError::Malformed,
    }
}

/// `example.org.` is the same host as `example.org`. What is left is parsed again: it may be an IPv4 address.
fn drop_trailing_dots(url: &mut ::url::Url) -> Result<(), UrlError> {
    let Some(host) = url.host_str() else { return Err(UrlError::NoHost) };
    if !host.ends_with('.') {
        return Ok(());
    }
    let bare = host.trim_end_matches('.').to_owned();
    if bare.is_empty() {
        return Err(UrlError::NoHost);
    }
    url.set_host(Some(&bare)).map_err(from_parser)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 §3.3, `pchar` and the slash.
fn is_path_char(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'/' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        )
}

/// RFC 3986 §3.4 and §3.5.
fn is_query_char(byte: u8) -> bool {
    is_path_char(byte) || byte == b'?'
}

fn hex(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

/// Upper-case escapes, unreserved characters decoded, what may not stand there encoded.
///
/// Only unreserved characters are ever decoded: a byte that is no UTF-8 stays an escape, or two addresses
/// would become one.
fn normal_escapes(text: &str, is_literal: fn(u8) -> bool) -> Cow<'_, str> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if text.bytes().all(is_literal) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(bytes.len() + 8);
    let escape = |out: &mut String, byte: u8| {
        out.push('%');
        out.push(DIGITS[usize::from(byte >> 4)] as char);
        out.push(DIGITS[usize::from(byte & 15)] as char);
    };
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let pair = (bytes.get(at + 1).copied().and_then(hex), bytes.get(at + 2).copied().and_then(hex));
        match (byte, pair) {
            (b'%', (Some(high), Some(low))) => {
                let decoded = high << 4 | low;
                if is_unreserved(decoded) {
                    out.push(decoded as char);
                } else {
                    escape(&mut out, decoded);
                }
                at += 3;
                continue;
            }
            (byte, _) if is_literal(byte) => out.push(byte as char),
            (byte, _) => escape(&mut out, byte),
        }
        at += 1;
    }
    Cow::Owned(out)
}

fn normal_path(path: &str) -> String {
    let mut path = normal_escapes(path, is_path_char).into_owned();
    if path.contains(';') {
        path = without_session_params(&path);
        // "..;jsessionid=1" was no dot segment before, and is one now.
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            path = without_dot_segments(&path);
        }
    }
    if path.len() > 1 && path.ends_with('/') && !path.ends_with("//") {
        path.pop();
    }
    if path.is_empty() {
        path.push('/');
    }
    path
}

/// Drops `;jsessionid=…` from each segment.
fn without_session_params(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        let mut params = segment.split(';');
        let mut kept = params.next().unwrap_or_default().to_owned();
        for param in params {
            let name = param.split('=').next().unwrap_or_default();
            if !name.eq_ignore_ascii_case("jsessionid") {
                kept.push(';');
                kept.push_str(param);
            }
        }
        kept
    });
    segments.collect::<Vec<_>>().join("/")
}

/// RFC 3986 §5.2.4 for an absolute path.
fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

fn normal_query(query: &str, entry: Option<&Override>, system: Option<&System>) -> String {
    let normal = normal_escapes(query, is_query_char);
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for mut pair in normal.split('&') {
        while let Some(head) = pair.get(..4)
            && head.eq_ignore_ascii_case("amp;")
        {
            pair = &pair[4..];
        }
        if pair.is_empty() {
            continue;
        }
        let name = pair.split('=').next().unwrap_or(pair);
        if !is_stripped(name, entry, system) {
            pairs.push((name, pair));
        }
    }
    pairs.sort_by(|a, b| a.0.cmp(b.0));
    let mut out = String::with_capacity(normal.len());
    for (_, pair) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(pair);
    }
    out
}

fn is_stripped(name: &str, entry: Option<&Override>, system: Option<&System>) -> bool {
    let name = name.to_ascii_lowercase();
    match entry {
        Some(entry) if entry.keeps(&name) => false,
        Some(entry) if entry.strips(&name) => true,
        Some(_) => is_stripped_everywhere(&name),
        None => is_stripped_everywhere(&name) || system.is_some_and(|system| system.strips(&name)),
    }
}

/// Names that say where a visitor came from or who is visiting, never what is shown. Broader patterns were
/// tried by others and dropped `campaign`, `source` and `keyword`, which calls for applications use.
fn is_stripped_everywhere(name: &str) -> bool {
    name.starts_with("utm_")
        || name.starts_with("aspsessionid")
        || matches!(
            name,
            "ref"
                | "fbclid"
                | "gclid"
                | "msclkid"
                | "dclid"
                | "yclid"
                | "twclid"
                | "igshid"
                | "wbraid"
                | "gbraid"
                | "mc_cid"
                | "mc_eid"
                | "_hsenc"
                | "_hsmi"
                | "vero_id"
                | "mkt_tok"
                | "oly_enc_id"
                | "s_cid"
                | "_ga"
                | "_gl"
                | "srsltid"
                | "gh_src"
                | "jsessionid"
                | "phpsessid"
        )
}
