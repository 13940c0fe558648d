//! From bytes to text: byte order mark, then the header's charset, then the page's own `meta`
//! (WHATWG HTML section 13.2.3.2, "Determining the character encoding").

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::warnings::Warnings;

/// Bytes of a body that are read: the fetch's own limit for pages (§7.2).
pub(crate) const BODY_BYTES_MAX: usize = 2 << 20;

/// Bytes of decoded text that are kept. Single-byte charsets double or treble in UTF-8.
const TEXT_BYTES_MAX: usize = 3 << 20;

/// Bytes in which a `meta` that names the charset is looked for. The standard says 1,024, but
/// pages with long comments or scripts before it are met, and browsers find it later too.
const PRESCAN_BYTES: usize = 4_096;

/// The text of a body. What cannot be decoded becomes U+FFFD, with a remark.
pub(crate) fn decode(body: &[u8], content_type: Option<&str>, warnings: &mut Warnings) -> String {
    let body = match body.get(..BODY_BYTES_MAX) {
        Some(head) if body.len() > BODY_BYTES_MAX => {
            warnings.push("page_cut", "only the first 2 MiB of the page were read");
            head
        }
        _ => body,
    };
    let encoding = encoding_of(body, content_type);
    let (text, _, is_malformed) = encoding.decode(body);
    if is_malformed {
        warnings.push("malformed_bytes", format!("the page is not valid {}", encoding.name()));
    }
    let mut text = text.into_owned();
    if text.len() > TEXT_BYTES_MAX {
        let mut end = TEXT_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        warnings.push("page_cut", "only the first 3 MiB of the decoded page were read");
    }
    text.shrink_to_fit();
    text
}

fn encoding_of(body: &[u8], content_type: Option<&str>) -> &'static Encoding {
    if let Some((encoding, _)) = Encoding::for_bom(body) {
        return encoding;
    }
    if let Some(encoding) = content_type.and_then(charset_parameter) {
        return encoding;
    }
    if let Some(encoding) = declared_in(body) {
        return encoding;
    }
    match std::str::from_utf8(body) {
        Ok(_) => UTF_8,
        // A cut in the middle of a character is no sign against UTF-8.
        Err(error) if error.error_len().is_none() => UTF_8,
        Err(_) => WINDOWS_1252,
    }
}

/// The `charset` of a `Content-Type` value.
fn charset_parameter(value: &str) -> Option<&'static Encoding> {
    let lower = value.to_ascii_lowercase();
    let after = lower[lower.find("charset")? + "charset".len()..].trim_start().strip_prefix('=')?;
    let label = after.trim_start().trim_start_matches(['"', '\'']);
    let label = label.split(['"', '\'', ';', ' ', ',', '>', '/']).next()?;
    Encoding::for_label(label.as_bytes())
}

/// The charset that a `meta` element or an XML declaration at the beginning of the body names. A
/// page that could be read up to here is not in UTF-16, whatever it says.
fn declared_in(body: &[u8]) -> Option<&'static Encoding> {
    let head = body.get(..PRESCAN_BYTES).unwrap_or(body).to_ascii_lowercase();
    let head: String = head.iter().map(|byte| char::from(*byte)).collect();
    let declared = head
        .match_indices("<meta")
        .find_map(|(start, _)| charset_parameter(head[start..].split('>').next()?))
        .or_else(|| {
            let declaration = head.trim_start().strip_prefix("<?xml")?.split("?>").next()?;
            charset_parameter(&declaration.replace("encoding", "charset"))
        })?;
    Some(if declared == UTF_16LE || declared == UTF_16BE { UTF_8 } else { declared })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_charset_comes_from_mark_then_header_then_meta() {
        let meta = b"<meta charset='windows-1252'>M\xfcnchen";
        let http_equiv =
            b"<meta http-equiv=Content-Type content=\"text/html; charset=iso-8859-1\">M\xfcnchen";
        for (body, content_type, text) in [
            (&b"M\xc3\xbcnchen"[..], None, "München"),
            (b"M\xfcnchen", None, "München"),
            (b"M\xfcnchen", Some("text/html; charset=ISO-8859-1"), "München"),
            (b"M\xfcnchen", Some("text/html;charset=\"windows-1252\""), "München"),
            (b"M\xc3\xbcnchen", Some("text/html; charset=utf-8"), "München"),
            (b"\xef\xbb\xbfM\xc3\xbcnchen", Some("text/html; charset=iso-8859-1"), "München"),
            (b"\xff\xfeM\x00\xfc\x00", Some("text/html; charset=utf-8"), "Mü"),
            (b"\x80", Some("text/html; charset=windows-1252"), "€"),
            (b"M\xfcnchen", Some("text/html; charset=no-such"), "München"),
        ] {
            let mut warnings = Warnings::default();
            assert_eq!(decode(body, content_type, &mut warnings), text, "{content_type:?}");
            assert_eq!(warnings.into_list(), []);
        }
        for body in [&meta[..], http_equiv] {
            assert!(decode(body, Some("text/html"), &mut Warnings::default()).ends_with("München"));
        }
        let xml = b"<?xml version='1.0' encoding='iso-8859-15'?>\xa4";
        assert!(decode(xml, None, &mut Warnings::default()).ends_with('€'));
    }

    #[test]
    fn broken_bytes_are_remarked_and_harm_nothing_else() {
        let mut warnings = Warnings::default();
        let text = decode(b"a\xffb", Some("text/html; charset=utf-8"), &mut warnings);
        assert_eq!(text, "a\u{fffd}b");
        assert_eq!(warnings.into_list()[0].code, "malformed_bytes");
    }
}
