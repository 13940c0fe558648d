//! The rules of callboard, without I/O: no clock, no database, no network; what they need is passed in.
//!
//! Every rule of the specification that is not one SQL statement lives here, so that the pipeline, the API and
//! the laptop tool cannot differ in it. Where to start:
//!
//! - [`url`]: the normal form of an address, its hash, and whose posting it is
//! - [`state`]: enumerations, and who may move a candidate or a posting where
//! - [`extract`]: how a page becomes a posting
//! - [`posting`]: what a posting is, and what a connector may say of one
//! - [`trust`]: may this be published without a moderator?
//! - [`projection`]: what a completed extraction does to a candidate, and what may change a live posting
//! - [`redirects`]: whether a chain of redirects leads to another address of the same page
//! - [`text`]: folding, keys, similarity; what is refused from callers
//!
//! ```
//! use domain::url::{Rules, normalize};
//!
//! let url = normalize("HTTP://Example.org:80/jobs/../call/?utm_source=mail&b=2&a=1#top", &Rules::builtin())?;
//! assert_eq!(url.as_str(), "http://example.org/call?a=1&b=2");
//! # Ok::<(), domain::url::UrlError>(())
//! ```

pub mod extract;
pub mod ids;
pub mod posting;
pub mod projection;
pub mod redirects;
pub mod state;
pub mod text;
pub mod trust;
pub mod url;
