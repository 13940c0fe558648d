//! From a URL to the addresses that may be connected to.
//!
//! [`Target::parse`] judges what the URL says, [`Target::resolve`] what its name leads to. The connector takes only
//! [`JudgedAddr`], and only this file can make one: the address that was judged is the address that is connected to.

use crate::address::{self, Class};
use crate::error::FetchError;
use crate::limits::{ADDRESSES_MAX, URL_MAX_CHARS};
use crate::name;
use crate::resolve::Resolve;
use std::net::{IpAddr, SocketAddr};
use url::{Host, Url};

/// An address that was judged and passed, with its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JudgedAddr(SocketAddr);

impl JudgedAddr {
    /// What to connect to.
    #[must_use]
    pub fn socket(self) -> SocketAddr {
        self.0
    }
}

/// A host and port that may be reached although it is private: `--allow-fetch`, and the bundled site. Matched against the
/// host that stands in the URL, never against what a name resolves to, so that no name can lead there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// The IP address as it stands in a URL.
    pub address: SocketAddr,
    /// Whether the host's pace holds. Only the bundled site has none.
    pub paced: bool,
}

/// What may be reached beyond ports 80 and 443 of the public web.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reach<'a> {
    /// The operator's allow list.
    pub allow: &'a [Allowed],
    /// The ports of the host's policy row.
    pub extra_ports: &'a [u16],
}

/// A URL whose scheme, host and port passed; its name is not resolved yet.
#[derive(Debug, Clone)]
pub struct Target {
    url: Url,
    host: String,
    port: u16,
    literal: Option<IpAddr>,
    allowed: bool,
    paced: bool,
}

impl Target {
    /// Parses and judges a URL as far as it goes without DNS and without the host's policy: the port is judged by
    /// [`Target::judge_port`] once the policy row is known.
    ///
    /// # Errors
    /// The [`Class`] of the refusal.
    pub fn parse(input: &str, allow: &[Allowed]) -> Result<Self, Class> {
        if input.len() > URL_MAX_CHARS * 4 || input.chars().count() > URL_MAX_CHARS {
            return Err(Class::InvalidUrl);
        }
        let url = Url::parse(input).map_err(|_| Class::InvalidUrl)?;
        Self::from_url(url, allow)
    }

    /// As [`Target::parse`], for a URL that the same parser has read.
    ///
    /// # Errors
    /// The [`Class`] of the refusal.
    pub fn from_url(mut url: Url, allow: &[Allowed]) -> Result<Self, Class> {
        url.set_fragment(None);
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Class::Scheme);
        }
        if url.as_str().len() > URL_MAX_CHARS * 4 {
            return Err(Class::InvalidUrl);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Class::Credentials);
        }
        let port = url.port_or_known_default().ok_or(Class::Port)?;
        let (host, literal) = match url.host().ok_or(Class::InvalidUrl)? {
            Host::Domain(domain) => (name::key(domain).to_owned(), None),
            Host::Ipv4(address) => (address.to_string(), Some(IpAddr::V4(address))),
            Host::Ipv6(address) => (address.to_string(), Some(IpAddr::V6(address))),
        };
        let entry =
            literal.and_then(|ip| allow.iter().find(|entry| entry.address == SocketAddr::new(ip, port)));
        if entry.is_none() {
            match literal {
                Some(address) => address::verdict(address)?,
                None => name::verdict(&host)?,
            }
        }
        let paced = entry.is_none_or(|entry| entry.paced);
        Ok(Self { allowed: entry.is_some(), url, host, port, literal, paced })
    }

    /// Judges the port: 80, 443, one of the host's policy, or of the allow list.
    ///
    /// # Errors
    /// [`Class::Port`].
    pub fn judge_port(&self, extra_ports: &[u16]) -> Result<(), Class> {
        if self.allowed || matches!(self.port, 80 | 443) || extra_ports.contains(&self.port) {
            Ok(())
        } else {
            Err(Class::Port)
        }
    }

    /// Resolves the name once and judges every address.
    ///
    /// # Errors
    /// [`FetchError::Refused`] if any address is; [`FetchError::Transient`] `dns` if there is none now.
    pub async fn resolve(&self, resolver: &dyn Resolve) -> Result<Vec<JudgedAddr>, FetchError> {
        let addresses = match self.literal {
            Some(address) => vec![address],
            None => match resolver.lookup(&self.host).await {
                Ok(addresses) if !addresses.is_empty() => addresses,
                _ => return Err(FetchError::transient("dns")),
            },
        };
        self.judge(&addresses).map_err(FetchError::from)
    }

    /// Judges every address of an answer: one that is refused takes all away.
    ///
    /// # Errors
    /// The [`Class`] of the first that is refused.
    pub fn judge(&self, addresses: &[IpAddr]) -> Result<Vec<JudgedAddr>, Class> {
        if addresses.len() > ADDRESSES_MAX {
            return Err(Class::TooManyAddresses);
        }
        addresses
            .iter()
            .map(|&ip| {
                // An allowed URL holds the address itself: there is nothing that DNS could change.
                if !self.allowed {
                    address::verdict(ip)?;
                }
                Ok(JudgedAddr(SocketAddr::new(ip, self.port)))
            })
            .collect()
    }

    /// The URL, without its fragment.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The key under which pace, robots and policy are kept: the name without a final dot, or the address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address that stands in the URL in place of a name.
    #[must_use]
    pub fn literal(&self) -> Option<IpAddr> {
        self.literal
    }

    /// Whether the operator named the address: one that is not a third party's.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// Whether the host's pace holds.
    #[must_use]
    pub fn is_paced(&self) -> bool {
        self.paced
    }

    /// Whether the connection is to be encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: Result<&str, Class>) {
        let got = Target::parse(input, &[]).and_then(|target| {
            target.judge_port(&[])?;
            Ok(target.host)
        });
        assert_eq!(got.as_deref().map_err(|class| *class), expected, "{input}");
    }

    #[test]
    fn a_url_is_judged_by_scheme_host_and_port() {
        use Class::*;
        for (input, expected) in [
            ("https://example.org/a", Ok("example.org")),
            ("HTTPS://EXAMPLE.ORG", Ok("example.org")),
            ("http://example.org:443/", Ok("example.org")),
            ("https://example.org:80/", Ok("example.org")),
            ("  https://example.org/\n", Ok("example.org")),
            ("https:\\\\example.org\\a", Ok("example.org")),
            ("ht\ttps://exam\nple.org/", Ok("example.org")),
            ("https://example.org./", Ok("example.org")),
            ("https://bücher.example/", Ok("xn--bcher-kva.example")),
            ("https://example.org:8080/", Err(Port)),
            ("https://example.org:22/", Err(Port)),
            ("https://example.org:0/", Err(Port)),
            ("https://example.org:99999/", Err(InvalidUrl)),
            ("ftp://example.org/", Err(Scheme)),
            ("file:///etc/passwd", Err(Scheme)),
            ("gopher://example.org/", Err(Scheme)),
            ("javascript:alert(1)", Err(Scheme)),
            ("data:text/html,x", Err(Scheme)),
            ("//example.org/", Err(InvalidUrl)),
            ("/a", Err(InvalidUrl)),
            ("", Err(InvalidUrl)),
            ("https://", Err(InvalidUrl)),
            ("https://user@example.org/", Err(Credentials)),
            ("https://user:pw@example.org/", Err(Credentials)),
            ("https://example.org@127.0.0.1/", Err(Credentials)),
            ("http://8.8.8.8/", Ok("8.8.8.8")),
            ("http://[2606:4700::1111]/", Ok("2606:4700::1111")),
            ("http://127.0.0.1/", Err(Loopback)),
            ("http://127.1/", Err(Loopback)),
            ("http://2130706433/", Err(Loopback)),
            ("http://0x7f000001/", Err(Loopback)),
            ("http://0x7f.1/", Err(Loopback)),
            ("http://0177.0.0.1/", Err(Loopback)),
            ("http://017700000001/", Err(Loopback)),
            ("http://127.0.0.1./", Err(Loopback)),
            ("http://１２７.０.０.１/", Err(Loopback)),
            ("http://①②⑦.0.0.1/", Err(Loopback)),
            ("http://127。0。0。1/", Err(Loopback)),
            ("http://%31%32%37.0.0.1/", Err(Loopback)),
            ("http://0/", Err(Unspecified)),
            ("http://0x/", Err(Unspecified)),
            ("http://256.0.0.1/", Err(InvalidUrl)),
            ("http://1.2.3.4.5/", Err(InvalidUrl)),
            ("http://0xa9fea9fe/", Err(CloudMetadata)),
            ("http://[::1]/", Err(Loopback)),
            ("http://[::]/", Err(Unspecified)),
            ("http://[0:0:0:0:0:ffff:7f00:1]/", Err(Loopback)),
            ("http://[::ffff:127.0.0.1]/", Err(Loopback)),
            ("http://[64:ff9b::7f00:1]/", Err(Loopback)),
            ("http://[fe80::1%25eth0]/", Err(InvalidUrl)),
            ("http://[fe80::1]/", Err(LinkLocal)),
            ("http://localhost/", Err(SpecialUseName)),
            ("http://LOCALHOST./", Err(SpecialUseName)),
            ("http://loc%61lhost/", Err(SpecialUseName)),
            ("http://ⓛocalhost/", Err(SpecialUseName)),
            ("http://jobs/", Err(SingleLabel)),
            ("http://exam ple.org/", Err(InvalidUrl)),
            ("http://example.org\\@127.0.0.1/", Ok("example.org")),
            ("http://example.org#@127.0.0.1/", Ok("example.org")),
        ] {
            check(input, expected);
        }
        check(&format!("https://example.org/{}", "a".repeat(2_048)), Err(InvalidUrl));
    }

    #[test]
    fn an_allowed_address_is_reached_only_by_its_own_port_and_its_own_spelling_in_the_url() {
        let allow = [Allowed { address: "127.0.0.5:4001".parse().unwrap(), paced: true }];
        let target = Target::parse("http://127.0.0.5:4001/", &allow).unwrap();
        assert_eq!(target.judge_port(&[]), Ok(()));
        assert_eq!(target.judge(&["127.0.0.5".parse().unwrap()]).unwrap().len(), 1);
        assert!(target.is_paced() && target.is_allowed());
        assert_eq!(Target::parse("http://127.0.0.5:4002/", &allow).unwrap_err(), Class::Loopback);
        assert_eq!(Target::parse("http://127.0.0.6:4001/", &allow).unwrap_err(), Class::Loopback);
        // A name that resolves to the allowed address is refused all the same.
        let named = Target::parse("http://rebind.example:4001/", &allow).unwrap();
        assert_eq!(named.judge(&["127.0.0.5".parse().unwrap()]).unwrap_err(), Class::Loopback);
        assert!(!named.is_allowed());
    }

    #[test]
    fn only_an_address_that_the_operator_named_is_allowed() {
        let allow = [
            Allowed { address: "127.0.0.5:4001".parse().unwrap(), paced: true },
            Allowed { address: "[::1]:80".parse().unwrap(), paced: true },
        ];
        for (url, expected) in [
            ("http://127.0.0.5:4001/jobs", true),
            ("http://[::1]/", true),
            ("http://127.0.0.5:4002/", false),
            ("http://127.0.0.5/", false),
            ("https://example.org/", false),
            ("https://example.org:4001/", false),
            ("nonsense", false),
        ] {
            let is_allowed = Target::parse(url, &allow).is_ok_and(|target| target.is_allowed());
            assert_eq!(is_allowed, expected, "{url}");
        }
    }

    #[test]
    fn one_refused_address_takes_the_whole_name_away() {
        let target = Target::parse("https://example.org/", &[]).unwrap();
        let answer = |texts: &[&str]| -> Vec<IpAddr> { texts.iter().map(|t| t.parse().unwrap()).collect() };
        assert_eq!(target.judge(&answer(&["8.8.8.8", "2606:4700::1"])).unwrap().len(), 2);
        assert_eq!(target.judge(&answer(&["8.8.8.8", "10.0.0.1"])).unwrap_err(), Class::Private);
        assert_eq!(target.judge(&answer(&["::ffff:10.0.0.1", "8.8.8.8"])).unwrap_err(), Class::Private);
        assert_eq!(target.judge(&vec!["8.8.8.8".parse().unwrap(); 33]).unwrap_err(), Class::TooManyAddresses);
        assert_eq!(target.judge(&vec!["8.8.8.8".parse().unwrap(); 32]).unwrap().len(), 32);
    }
}
