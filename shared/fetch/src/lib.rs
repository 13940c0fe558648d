//! The only way out to the web: SSRF-safe, polite, capped, conditional.
//!
//! Start at [`Fetcher::get`]. What it promises for an address that came from outside (domain specification, section 7.2):
//!
//! - A URL is parsed once, its name resolved once, and the connector takes only a [`judge::JudgedAddr`]: what was judged is
//!   what is connected to, at each hop again.
//! - robots.txt is obeyed, a host is asked one request at a time with a gap between starts, by a name it can complain to.
//! - Time, hops, fields and decoded bytes have bounds ([`limits`]); what is too large is not read.
//! - No cookies, credentials, proxies, or meta refresh: nothing of the environment leaks into a request.
//!
//! ```
//! use fetch::{Class, Fetcher, FetchConfig, Request, RequestKind};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let fetcher = Fetcher::in_memory(FetchConfig::default());
//! let inside = Request::new("http://0xa9.254.169.254/latest/meta-data/", RequestKind::Page);
//! let error = fetcher.get(&inside).await.unwrap_err();
//! assert_eq!(error.class(), Some(Class::CloudMetadata));
//! assert!(error.is_permanent());
//! # });
//! ```
//!
//! It never writes to a database itself: pace and robots.txt are kept behind traits ([`pace::Pace`], [`hosts::Hosts`]).
//! Endpoints that the operator configured go through [`trusted_get`] and [`trusted_put`] instead.

pub mod address;
pub mod body;
pub mod check;
pub mod config;
pub mod connect;
pub mod error;
mod exchange;
pub mod fetcher;
pub mod hosts;
pub mod judge;
pub mod limits;
mod measure;
pub mod name;
pub mod pace;
mod permit;
pub mod request;
pub mod resolve;
pub mod retry_after;
pub mod robots;
pub mod trusted;

pub use address::Class;
pub use body::gunzip;
pub use config::FetchConfig;
pub use error::{AttemptHint, FetchError, RedirectFault, WaitReason};
pub use fetcher::{Fetcher, Seams};
pub use judge::Allowed;
pub use request::{Hop, Request, RequestKind, Response};
pub use resolve::{Resolve, SystemResolver};
pub use trusted::{TrustedError, TrustedResponse, trusted_get, trusted_put};
