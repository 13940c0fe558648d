//! `callboard fetch-check`: what the fetcher would decide about URLs, without opening a connection.

use crate::address::Class;
use crate::error::FetchError;
use crate::judge::Target;
use crate::name;
use crate::resolve::Resolve;
use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The input as it came.
    pub url: String,
    /// What the fetcher would do.
    pub verdict: Verdict,
    /// Why not: a [`Class`], or `dns` for a name without an address. Null if allowed.
    pub class: Option<String>,
    /// What the name leads to, or the address in the URL; empty if it was refused unresolved.
    pub addresses: Vec<IpAddr>,
}

/// What the fetcher would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Connect to the first address that answers.
    Allow,
    /// Refuse, for good.
    Block,
    /// Try again later: the name has no address now.
    Retry,
}

/// Judges one URL as [`crate::Fetcher::get`] does for a host without a policy row, with one look-up at most.
pub async fn check(url: &str, resolver: &dyn Resolve) -> Checked {
    let answer = |verdict, class: Option<String>, addresses| Checked {
        url: url.to_owned(),
        verdict,
        class,
        addresses,
    };
    let block = |class: Class, addresses| answer(Verdict::Block, Some(class.to_string()), addresses);
    let target = match Target::parse(url, &[]) {
        Ok(target) => target,
        Err(class) => return block(class, literal(url)),
    };
    if let Err(class) = target.judge_port(&[]) {
        return block(class, target.literal().into_iter().collect());
    }
    let recorder = Recorder { inner: resolver, seen: std::sync::Mutex::default() };
    let result = target.resolve(&recorder).await;
    let mut addresses = recorder.seen.into_inner().unwrap_or_default();
    addresses.extend(target.literal());
    match result {
        Ok(_) => answer(Verdict::Allow, None, addresses),
        Err(FetchError::Refused { class }) => block(class, addresses),
        Err(error) => answer(Verdict::Retry, Some(error.code().to_owned()), addresses),
    }
}

/// Reads URLs, a line each, and writes a JSON line for each, in order. A line that begins with `"` is a JSON string; empty
/// lines are answered too, so that line numbers match.
///
/// # Errors
/// Only those of reading and writing.
pub async fn run(input: impl BufRead, mut output: impl Write, resolver: &dyn Resolve) -> io::Result<()> {
    for line in input.split(b'\n') {
        let line = line?;
        let text = String::from_utf8_lossy(&line);
        let text = text.strip_suffix('\r').unwrap_or(&text);
        let url = if text.starts_with('"') {
            serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_owned())
        } else {
            text.to_owned()
        };
        let checked = check(&url, resolver).await;
        serde_json::to_writer(&mut output, &checked)?;
        output.write_all(b"\n")?;
    }
    output.flush()
}

/// The address that stands in a URL, also in one that is refused.
fn literal(url: &str) -> Vec<IpAddr> {
    match url::Url::parse(url).ok().and_then(|url| url.host().map(|host| host.to_owned())) {
        Some(url::Host::Ipv4(address)) => vec![IpAddr::V4(address)],
        Some(url::Host::Ipv6(address)) => vec![IpAddr::V6(address)],
        _ => Vec::new(),
    }
}

struct Recorder<'r> {
    inner: &'r dyn Resolve,
    seen: std::sync::Mutex<Vec<IpAddr>>,
}

impl Resolve for Recorder<'_> {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let addresses = self.inner.lookup(name).await?;
            if let Ok(mut seen) = self.seen.lock() {
                seen.clone_from(&addresses);
            }
            Ok(addresses)
        })
    }
}

/// Answers names from a file in place of DNS; a name that is not in it has no address.
#[derive(Debug, Default)]
pub struct ScriptedResolver {
    answers: HashMap<String, (Vec<Vec<IpAddr>>, AtomicUsize)>,
}

/// The file of `--resolver` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// It is not JSON.
    #[error("the resolver file is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is not an object of lists.
    #[error(
        "the resolver file must be an object of host names, each with a list of addresses or a list of such lists; \
         {host:?} is not"
    )]
    Shape {
        /// The host whose value is wrong; empty for the file itself.
        host: String,
    },
    /// Not an IP address.
    #[error("the resolver file gives {host:?} the address {address:?}, which is none")]
    Address {
        /// The host.
        host: String,
        /// What stands there.
        address: String,
    },
}

impl ScriptedResolver {
    /// Reads `{"host": ["address", …], "host": [["first look-up", …], ["second", …]], …}`. The last answer repeats.
    ///
    /// # Errors
    /// [`ScriptError`] with the host.
    pub fn from_json(text: &str) -> Result<Self, ScriptError> {
        let shape = |host: &str| ScriptError::Shape { host: host.to_owned() };
        let value: Value = serde_json::from_str(text)?;
        let object = value.as_object().ok_or_else(|| shape(""))?;
        let mut answers = HashMap::new();
        for (host, value) in object {
            let list = value.as_array().ok_or_else(|| shape(host))?;
            let lookups = if list.iter().any(Value::is_array) {
                list.iter()
                    .map(|one| addresses(host, one.as_array().ok_or_else(|| shape(host))?))
                    .collect::<Result<Vec<_>, _>>()?
            } else {
                vec![addresses(host, list)?]
            };
            // As the URL parser writes it, so that a U-label in the file answers its A-label.
            let key = match url::Host::parse(host) {
                Ok(url::Host::Domain(domain)) => name::key(&domain).to_owned(),
                _ => name::key(host).to_ascii_lowercase(),
            };
            answers.insert(key, (lookups, AtomicUsize::new(0)));
        }
        Ok(Self { answers })
    }
}

fn addresses(host: &str, list: &[Value]) -> Result<Vec<IpAddr>, ScriptError> {
    list.iter()
        .map(|value| {
            let text = value.as_str().ok_or_else(|| ScriptError::Shape { host: host.to_owned() })?;
            text.parse().map_err(|_| ScriptError::Address { host: host.to_owned(), address: text.to_owned() })
        })
        .collect()
}

impl Resolve for ScriptedResolver {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            Ok(match self.answers.get(name) {
                Some((lookups, next)) => {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    lookups.get(index).or(lookups.last()).cloned().unwrap_or_default()
                }
                None => Vec::new(),
            })
        })
    }
}
