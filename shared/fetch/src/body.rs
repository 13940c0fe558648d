//! The body of an answer, decoded and counted as it arrives.

use crate::error::FetchError;
use crate::limits::{RATIO_GRACE_BYTES, RATIO_MAX};
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use http_body_util::BodyExt;
use std::io::{self, Write};

/// A content coding (RFC 9110, section 8.4.1) that is asked for and understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// gzip (RFC 1952), also under its old name `x-gzip`.
    Gzip,
    /// zlib (RFC 1950), or the bare deflate stream (RFC 1951) that some servers mean by it.
    Deflate,
}

impl Coding {
    /// What `Accept-Encoding` says.
    pub const ACCEPTED: &'static str = "gzip, deflate";

    /// Reads `Content-Encoding`; the list may hold one coding beside `identity`.
    ///
    /// # Errors
    /// [`FetchError::UnsupportedEncoding`] for others, and for codings upon codings.
    pub fn parse(value: &str) -> Result<Self, FetchError> {
        let mut coding = Self::Identity;
        for name in value.split(',').map(|name| name.trim().to_ascii_lowercase()) {
            let next = match name.as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Self::Gzip,
                "deflate" => Self::Deflate,
                _ => return Err(FetchError::UnsupportedEncoding),
            };
            if coding != Self::Identity {
                return Err(FetchError::UnsupportedEncoding);
            }
            coding = next;
        }
        Ok(coding)
    }
}

/// What happens to a body that goes on beyond its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// It is too large.
    Refuse,
    /// The rest is not read (robots.txt).
    Cut,
}

/// Reads a body to its end.
///
/// # Errors
/// [`FetchError::TooLarge`]; `truncated` if it ends early, `decode` if it is not what its coding says.
pub async fn read<B>(body: B, coding: Coding, limit: usize, overflow: Overflow) -> Result<Bytes, FetchError>
where
    B: hyper::body::Body<Data = Bytes, Error = hyper::Error>,
{
    let mut body = std::pin::pin!(body);
    let mut decoder = Decoder::new(coding, limit);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| crate::exchange::classify(&error))?;
        if let Some(data) = frame.data_ref() {
            match decoder.push(data) {
                Ok(()) => {}
                Err(Fault::Full) if overflow == Overflow::Cut => return Ok(decoder.into_decoded()),
                Err(fault) => return Err(fault.into()),
            }
        }
    }
    match decoder.finish() {
        Ok(decoded) => Ok(decoded),
        Err(fault) => Err(fault.into()),
    }
}

/// Decodes a gzip file that came as a body of its own (`sitemap.xml.gz`), under the same limits.
///
/// # Errors
/// As [`read`].
pub fn gunzip(bytes: &[u8], limit: usize) -> Result<Bytes, FetchError> {
    let mut decoder = Decoder::new(Coding::Gzip, limit);
    decoder.push(bytes)?;
    Ok(decoder.finish()?)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Full,
    Ratio,
    Corrupt,
    Truncated,
}

impl From<Fault> for FetchError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full => Self::TooLarge { what: "body" },
            Fault::Ratio => Self::TooLarge { what: "ratio" },
            Fault::Corrupt => Self::transient("decode"),
            Fault::Truncated => Self::transient("truncated"),
        }
    }
}

/// Decoded bytes, counted against the limit and against what was received for them.
#[derive(Debug)]
struct Sink {
    decoded: Vec<u8>,
    limit: usize,
    received: usize,
    fault: Option<Fault>,
}

impl Sink {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let room = self.limit - self.decoded.len();
        self.decoded.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let fault = if bytes.len() > room {
            Fault::Full
        } else if self.decoded.len() > RATIO_GRACE_BYTES
            && self.decoded.len() > self.received.saturating_mul(RATIO_MAX)
        {
            Fault::Ratio
        } else {
            return Ok(());
        };
        self.fault = Some(fault);
        Err(fault)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.put(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::Error::other("the sink is full")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Decoder {
    Identity(Sink),
    Gzip(Box<MultiGzDecoder<Sink>>),
    Deflate { state: Option<Decompress>, start: Vec<u8>, is_over: bool, sink: Sink },
}

/// Room for one step of inflation.
const STEP_BYTES: usize = 32 * 1024;

impl Decoder {
    fn new(coding: Coding, limit: usize) -> Self {
        let sink = Sink { decoded: Vec::new(), limit, received: 0, fault: None };
        match coding {
            Coding::Identity => Self::Identity(sink),
            Coding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(sink))),
            Coding::Deflate => Self::Deflate { state: None, start: Vec::new(), is_over: false, sink },
        }
    }

    fn push(&mut self, data: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Identity(sink) => {
                sink.received += data.len();
                sink.put(data)
            }
            Self::Gzip(decoder) => {
                decoder.get_mut().received += data.len();
                decoder.write_all(data).map_err(|_| decoder.get_ref().fault.unwrap_or(Fault::Corrupt))
            }
            Self::Deflate { state, start, is_over, sink } => {
                sink.received += data.len();
                let joined;
                let mut input = data;
                if state.is_none() {
                    // The two bytes of a zlib header (RFC 1950, section 2.2) tell it from a bare stream.
                    start.extend_from_slice(data);
                    let [first, second, ..] = start.as_slice() else { return Ok(()) };
                    let is_zlib = first & 0x0f == 8
                        && (u16::from(*first) * 256 + u16::from(*second)).is_multiple_of(31);
                    *state = Some(Decompress::new(is_zlib));
                    joined = std::mem::take(start);
                    input = &joined;
                }
                let Some(state) = state else { return Ok(()) };
                inflate(state, input, is_over, sink)
            }
        }
    }

    fn finish(self) -> Result<Bytes, Fault> {
        match self {
            Self::Gzip(mut decoder) if decoder.get_ref().received > 0 => match decoder.try_finish() {
                Ok(()) => Ok(Self::Gzip(decoder).into_decoded()),
                Err(_) => Err(decoder.get_ref().fault.unwrap_or(Fault::Truncated)),
            },
            Self::Deflate { is_over: false, sink, .. } if sink.received > 0 => Err(Fault::Truncated),
            // A coding around no bytes at all is what some servers send with an empty body.
            other => Ok(other.into_decoded()),
        }
    }

    fn into_decoded(self) -> Bytes {
        match self {
            Self::Identity(sink) | Self::Deflate { sink, .. } => sink.decoded.into(),
            Self::Gzip(mut decoder) => std::mem::take(&mut decoder.get_mut().decoded).into(),
        }
    }
}

fn inflate(
    state: &mut Decompress,
    mut input: &[u8],
    is_over: &mut bool,
    sink: &mut Sink,
) -> Result<(), Fault> {
    let mut step = vec![0; STEP_BYTES];
    while !*is_over {
        let (read_before, written_before) = (state.total_in(), state.total_out());
        let status = state.decompress(input, &mut step, FlushDecompress::None).map_err(|_| Fault::Corrupt)?;
        let read = usize::try_from(state.total_in() - read_before).map_err(|_| Fault::Corrupt)?;
        let written = usize::try_from(state.total_out() - written_before).map_err(|_| Fault::Corrupt)?;
        input = input.get(read..).unwrap_or_default();
        sink.put(step.get(..written).unwrap_or_default())?;
        *is_over = status == Status::StreamEnd;
        if read == 0 && written == 0 {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bare(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(coding: Coding, coded: &[u8], limit: usize, chunk: usize) -> Result<Bytes, Fault> {
        let mut decoder = Decoder::new(coding, limit);
        for piece in coded.chunks(chunk) {
            decoder.push(piece)?;
        }
        decoder.finish()
    }

    #[test]
    fn every_coding_gives_the_bytes_back_in_whatever_pieces_they_come() {
        let text = "callboard ".repeat(5_000).into_bytes();
        for (coding, coded) in [
            (Coding::Identity, text.clone()),
            (Coding::Gzip, gzip(&text)),
            (Coding::Gzip, [gzip(&text[..100]), gzip(&text[100..])].concat()),
            (Coding::Deflate, zlib(&text)),
            (Coding::Deflate, bare(&text)),
        ] {
            for chunk in [1, 2, 7, 100_000] {
                assert_eq!(
                    decode(coding, &coded, text.len(), chunk).as_deref(),
                    Ok(&text[..]),
                    "{coding:?} {chunk}"
                );
            }
            assert_eq!(decode(coding, &coded, text.len() - 1, 64), Err(Fault::Full), "{coding:?}");
        }
    }

    #[test]
    fn a_coded_body_that_ends_early_is_truncated() {
        let text: Vec<u8> =
            (0..20_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for (coding, coded) in
            [(Coding::Gzip, gzip(&text)), (Coding::Deflate, zlib(&text)), (Coding::Deflate, bare(&text))]
        {
            for cut in [3, coded.len() / 2, coded.len() - 5, coded.len() - 1] {
                let result = decode(coding, &coded[..cut], 1 << 20, 512);
                assert_eq!(result, Err(Fault::Truncated), "{coding:?} {cut} of {}", coded.len());
            }
        }
    }

    #[test]
    fn a_body_that_is_not_what_it_says_is_an_error_and_an_empty_one_is_empty() {
        assert_eq!(decode(Coding::Gzip, b"<html>not gzip at all</html>", 1_000, 9), Err(Fault::Corrupt));
        assert_eq!(decode(Coding::Deflate, &[0xff; 40], 1_000, 9), Err(Fault::Corrupt));
        let mut damaged = gzip(&b"callboard".repeat(100));
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xff;
        assert!(decode(Coding::Gzip, &damaged, 10_000, 64).is_err());
        assert_eq!(decode(Coding::Gzip, b"", 10, 1).as_deref(), Ok(&b""[..]));
        assert_eq!(decode(Coding::Deflate, b"", 10, 1).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn a_bomb_is_refused_by_its_ratio_before_it_reaches_the_limit() {
        let bomb = vec![b' '; 8 << 20];
        for (coding, coded) in [(Coding::Gzip, gzip(&bomb)), (Coding::Deflate, zlib(&bomb))] {
            assert_eq!(decode(coding, &coded, 10 << 20, 4_096), Err(Fault::Ratio), "{coding:?}");
        }
        // A small page of blanks is none.
        let blanks = vec![b' '; RATIO_GRACE_BYTES];
        assert!(decode(Coding::Gzip, &gzip(&blanks), 10 << 20, 4_096).is_ok());
    }

    #[test]
    fn a_bomb_never_holds_more_than_its_limit() {
        let bomb = gzip(&vec![0; 64 << 20]);
        let mut decoder = Decoder::new(Coding::Gzip, 1_000);
        assert_eq!(decoder.push(&bomb), Err(Fault::Full));
        assert_eq!(decoder.into_decoded().len(), 1_000);
    }

    #[test]
    fn only_what_was_asked_for_is_understood() {
        for (value, expected) in [
            ("", Some(Coding::Identity)),
            ("identity", Some(Coding::Identity)),
            ("GZIP", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("deflate", Some(Coding::Deflate)),
            ("identity, gzip", Some(Coding::Gzip)),
            ("br", None),
            ("zstd", None),
            ("gzip, gzip", None),
            ("gzip, br", None),
            ("compress", None),
        ] {
            assert_eq!(Coding::parse(value).ok(), expected, "{value}");
        }
    }
}
