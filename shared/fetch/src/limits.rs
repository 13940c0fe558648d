//! Every bound of a request, in one place (domain specification, section 7.2).

use std::time::Duration;

/// Redirects followed for a page or a feed.
pub const PAGE_HOPS_MAX: usize = 5;
/// Redirects followed where resolving them is the job.
pub const RESOLVE_HOPS_MAX: usize = 10;
/// Redirects followed for robots.txt (RFC 9309, section 2.3.1.2).
pub const ROBOTS_HOPS_MAX: usize = 5;
/// Decoded bytes of a page.
pub const PAGE_BODY_MAX_BYTES: usize = 2 * 1024 * 1024;
/// Decoded bytes of a feed or a sitemap.
pub const FEED_BODY_MAX_BYTES: usize = 10 * 1024 * 1024;
/// Bytes of robots.txt that are read; the rest is ignored (RFC 9309, section 2.5).
pub const ROBOTS_MAX_BYTES: usize = 500 * 1024;
/// Fields of a response's head.
pub const HEADERS_MAX: usize = 100;
/// Bytes of a response's head, and the most that is buffered of an answer at once.
pub const HEAD_MAX_BYTES: usize = 64 * 1024;
/// Characters of a URL, that of a `Location` too (section 7.1).
pub const URL_MAX_CHARS: usize = 2_048;
/// Addresses of one name.
pub const ADDRESSES_MAX: usize = 32;
/// Addresses of one name that are tried before giving up: more only spend the time limit on a dead host.
pub const ADDRESSES_TRIED_MAX: usize = 4;
/// Decoded bytes per received byte. Pages reach 20 : 1, a long run of one byte 1,000 : 1.
pub const RATIO_MAX: usize = 200;
/// Decoded bytes before the ratio counts: a small page of blanks is no bomb.
pub const RATIO_GRACE_BYTES: usize = 256 * 1024;
/// The longest `Retry-After` that is believed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(6 * 3_600);

/// The time limits of one request. [`Default`] gives those of the specification; tests shorten them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// TCP and TLS together, over all addresses that are tried.
    pub connect: Duration,
    /// From the request to the end of the answer's head.
    pub first_byte: Duration,
    /// The whole chain of redirects with its body. robots.txt has a limit of the same length of its own.
    pub total: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            first_byte: Duration::from_secs(5),
            total: Duration::from_secs(10),
        }
    }
}
