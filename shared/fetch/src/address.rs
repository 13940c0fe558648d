//! Which addresses may be reached: the IANA special-purpose registries as code.
//!
//! Start at [`verdict`]. An address passes only if it is global unicast: for IPv4 everything that no row of the registry
//! takes away, for IPv6 only `2000::/3` less its special rows. An IPv4 address that travels inside an IPv6 one (mapped,
//! NAT64, 6to4, ISATAP) is judged as the IPv4 address that would be reached in the end.
//!
//! Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190), RFC 4291, RFC 6052, RFC 3056,
//! RFC 5214; the guest-agent addresses are the cloud vendors' own documentation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a URL or an address is refused. The names are public (events, `fetch-check`), the address never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The URL cannot be parsed or is longer than a URL may be.
    InvalidUrl,
    /// Another scheme than http and https.
    Scheme,
    /// A user name or password in the URL.
    Credentials,
    /// Neither 80 nor 443, nor a port of the host's policy.
    Port,
    /// A name of a single label, which only a search domain or a hosts file could answer.
    SingleLabel,
    /// A name of special use (RFC 6761 and the IANA registry): `localhost`, `.local`, `.internal`, `.onion` …
    SpecialUseName,
    /// A suffix that only names things inside somebody's network: `.lan`, `.corp`, `.svc` …
    InsideName,
    /// A name that DNS cannot hold: an empty or over-long label, or over 253 characters.
    InvalidName,
    /// An administrator switched the host off.
    HostDisabled,
    /// More addresses than a name of a real site has.
    TooManyAddresses,
    /// `0.0.0.0/8`, `::`.
    Unspecified,
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// RFC 1918.
    Private,
    /// `100.64.0.0/10`, shared by a carrier's customers (RFC 6598).
    Shared,
    /// `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// `fc00::/7` (RFC 4193).
    UniqueLocal,
    /// `fec0::/10`, deprecated by RFC 3879.
    SiteLocal,
    /// The address of a cloud's guest agent or metadata service.
    CloudMetadata,
    /// `192.0.0.0/24`, `2001::/23`: protocol assignments, among them anycast services inside the access network.
    ProtocolAssignment,
    /// `192.0.2.0/24` and the other addresses of examples.
    Documentation,
    /// `198.18.0.0/15` (RFC 2544); `2001:2::/48` falls under the protocol assignments.
    Benchmarking,
    /// `192.88.99.0/24`, the deprecated anycast of 6to4 relays (RFC 7526).
    RelayAnycast,
    /// `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// `240.0.0.0/4`.
    Reserved,
    /// `255.255.255.255`.
    Broadcast,
    /// `100::/64` and its neighbour (RFC 6666, RFC 9780).
    DiscardOnly,
    /// `2001::/32`: the address inside may be anything (RFC 4380).
    Teredo,
    /// `64:ff9b:1::/48`: translated to addresses that only the local network knows (RFC 8215).
    LocalTranslation,
    /// `::/96`, deprecated by RFC 4291.
    Ipv4Compatible,
    /// An IPv6 address outside global unicast that no row names.
    NotGlobal,
}

impl Class {
    /// Every class, for tests and documentation.
    pub const ALL: [Self; 30] = [
        Self::InvalidUrl,
        Self::Scheme,
        Self::Credentials,
        Self::Port,
        Self::SingleLabel,
        Self::SpecialUseName,
        Self::InsideName,
        Self::InvalidName,
        Self::HostDisabled,
        Self::TooManyAddresses,
        Self::Unspecified,
        Self::Loopback,
        Self::Private,
        Self::Shared,
        Self::LinkLocal,
        Self::UniqueLocal,
        Self::SiteLocal,
        Self::CloudMetadata,
        Self::ProtocolAssignment,
        Self::Documentation,
        Self::Benchmarking,
        Self::RelayAnycast,
        Self::Multicast,
        Self::Reserved,
        Self::Broadcast,
        Self::DiscardOnly,
        Self::Teredo,
        Self::LocalTranslation,
        Self::Ipv4Compatible,
        Self::NotGlobal,
    ];

    /// The stable name, snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidUrl => "invalid_url",
            Self::Scheme => "scheme",
            Self::Credentials => "credentials",
            Self::Port => "port",
            Self::SingleLabel => "single_label",
            Self::SpecialUseName => "special_use_name",
            Self::InsideName => "inside_name",
            Self::InvalidName => "invalid_name",
            Self::HostDisabled => "host_disabled",
            Self::TooManyAddresses => "too_many_addresses",
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Shared => "shared",
            Self::LinkLocal => "link_local",
            Self::UniqueLocal => "unique_local",
            Self::SiteLocal => "site_local",
            Self::CloudMetadata => "cloud_metadata",
            Self::ProtocolAssignment => "protocol_assignment",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::RelayAnycast => "relay_anycast",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::Broadcast => "broadcast",
            Self::DiscardOnly => "discard_only",
            Self::Teredo => "teredo",
            Self::LocalTranslation => "local_translation",
            Self::Ipv4Compatible => "ipv4_compatible",
            Self::NotGlobal => "not_global",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A row of the IPv4 table: network, prefix length, class.
type Row4 = (Ipv4Addr, u32, Class);
/// A row of the IPv6 table: network, prefix length, class.
type Row6 = (Ipv6Addr, u32, Class);

/// Guest agents and metadata services that a cloud serves to its machines. The first is in no registry: it looks
/// global. The others lie in refused ranges; they stand here for the clearer class.
const CLOUD4: &[Ipv4Addr] = &[
    Ipv4Addr::new(168, 63, 129, 16),   // Azure's WireServer
    Ipv4Addr::new(169, 254, 169, 254), // AWS, Google Cloud, Azure, DigitalOcean, Oracle …
    Ipv4Addr::new(169, 254, 169, 253), // AWS resolver
    Ipv4Addr::new(169, 254, 169, 123), // AWS time
    Ipv4Addr::new(169, 254, 169, 249), // AWS Windows activation
    Ipv4Addr::new(169, 254, 170, 2),   // AWS container credentials
    Ipv4Addr::new(169, 254, 170, 23),  // AWS EKS pod identity
    Ipv4Addr::new(169, 254, 42, 42),   // Scaleway
    Ipv4Addr::new(169, 254, 0, 23),    // Tencent
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle classic
];

const CLOUD6: &[Ipv6Addr] = &[
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), // AWS metadata
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253), // AWS resolver
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x123), // AWS time
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),  // AWS EKS pod identity
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),  // Google Cloud
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),   // Scaleway
    Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 0x254), // Linode, Vultr style
];

/// The rows of the IPv4 registry that are not globally reachable, narrow before wide. The globally reachable rows inside
/// `192.0.0.0/24` (PCP and TURN anycast, RFC 7723 and RFC 8155) stay refused: what answers there is the access network.
const TABLE4: &[Row4] = &[
    (Ipv4Addr::new(255, 255, 255, 255), 32, Class::Broadcast),
    (Ipv4Addr::new(0, 0, 0, 0), 8, Class::Unspecified),
    (Ipv4Addr::new(10, 0, 0, 0), 8, Class::Private),
    (Ipv4Addr::new(100, 64, 0, 0), 10, Class::Shared),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Class::Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, Class::LinkLocal),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Class::Private),
    (Ipv4Addr::new(192, 0, 0, 0), 24, Class::ProtocolAssignment),
    (Ipv4Addr::new(192, 0, 2, 0), 24, Class::Documentation),
    (Ipv4Addr::new(192, 88, 99, 0), 24, Class::RelayAnycast),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Class::Private),
    (Ipv4Addr::new(198, 18, 0, 0), 15, Class::Benchmarking),
    (Ipv4Addr::new(198, 51, 100, 0), 24, Class::Documentation),
    (Ipv4Addr::new(203, 0, 113, 0), 24, Class::Documentation),
    (Ipv4Addr::new(224, 0, 0, 0), 4, Class::Multicast),
    (Ipv4Addr::new(240, 0, 0, 0), 4, Class::Reserved),
];

/// Refused IPv6 networks, narrow before wide. What is in none of them must still lie in [`GLOBAL_UNICAST`].
const TABLE6: &[Row6] = &[
    (Ipv6Addr::UNSPECIFIED, 128, Class::Unspecified),
    (Ipv6Addr::LOCALHOST, 128, Class::Loopback),
    (Ipv6Addr::UNSPECIFIED, 96, Class::Ipv4Compatible),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, Class::LocalTranslation),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 63, Class::DiscardOnly),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, Class::Teredo),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, Class::ProtocolAssignment),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, Class::Documentation),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, Class::Documentation),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Class::UniqueLocal),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, Class::LinkLocal),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, Class::SiteLocal),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, Class::Multicast),
];

/// The only IPv6 space that IANA hands out as global unicast (RFC 4291, section 2.4, and its registry).
const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
const SIX_TO_FOUR: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);

/// Judges one address.
///
/// # Errors
/// The [`Class`] that takes it away. No retry changes it.
pub fn verdict(address: IpAddr) -> Result<(), Class> {
    match address {
        IpAddr::V4(address) => verdict4(address),
        IpAddr::V6(address) => verdict6(address),
    }
}

fn verdict4(address: Ipv4Addr) -> Result<(), Class> {
    if CLOUD4.contains(&address) {
        return Err(Class::CloudMetadata);
    }
    match TABLE4.iter().find(|(network, prefix, _)| within4(address, *network, *prefix)) {
        Some((_, _, class)) => Err(*class),
        None => Ok(()),
    }
}

fn verdict6(address: Ipv6Addr) -> Result<(), Class> {
    if CLOUD6.contains(&address) {
        return Err(Class::CloudMetadata);
    }
    // These networks are no destinations of their own: what counts is where the packet ends.
    if let Some(inner) = address.to_ipv4_mapped() {
        return verdict4(inner);
    }
    if within6(address, NAT64.0, NAT64.1) {
        return verdict4(low_ipv4(address));
    }
    if let Some((_, _, class)) =
        TABLE6.iter().find(|(network, prefix, _)| within6(address, *network, *prefix))
    {
        return Err(*class);
    }
    if !within6(address, GLOBAL_UNICAST.0, GLOBAL_UNICAST.1) {
        return Err(Class::NotGlobal);
    }
    if within6(address, SIX_TO_FOUR.0, SIX_TO_FOUR.1) {
        let [_, _, a, b, c, d, ..] = address.octets();
        verdict4(Ipv4Addr::new(a, b, c, d))?;
    }
    // ISATAP (RFC 5214): the interface identifier `[02]00:5efe` names the IPv4 address behind the tunnel.
    let [.., high, low, _, _] = address.segments();
    if matches!(high, 0 | 0x200) && low == 0x5efe {
        verdict4(low_ipv4(address))?;
    }
    Ok(())
}

fn low_ipv4(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

fn within4(address: Ipv4Addr, network: Ipv4Addr, prefix: u32) -> bool {
    let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
    address.to_bits() & mask == network.to_bits() & mask
}

fn within6(address: Ipv6Addr, network: Ipv6Addr, prefix: u32) -> bool {
    let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
    address.to_bits() & mask == network.to_bits() & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, expected: Option<Class>) {
        let parsed: IpAddr = address.parse().unwrap();
        assert_eq!(verdict(parsed).err(), expected, "{address}");
    }

    #[test]
    fn an_address_is_judged_by_the_registries() {
        use Class::*;
        for (address, expected) in [
            ("8.8.8.8", None),
            ("93.184.216.34", None),
            ("1.1.1.1", None),
            ("223.255.255.255", None),
            ("0.0.0.0", Some(Unspecified)),
            ("0.255.255.255", Some(Unspecified)),
            ("1.0.0.0", None),
            ("9.255.255.255", None),
            ("10.0.0.0", Some(Private)),
            ("10.255.255.255", Some(Private)),
            ("11.0.0.0", None),
            ("100.63.255.255", None),
            ("100.64.0.0", Some(Shared)),
            ("100.127.255.255", Some(Shared)),
            ("100.128.0.0", None),
            ("100.100.100.200", Some(CloudMetadata)),
            ("126.255.255.255", None),
            ("127.0.0.1", Some(Loopback)),
            ("127.255.255.255", Some(Loopback)),
            ("128.0.0.0", None),
            ("168.63.129.15", None),
            ("168.63.129.16", Some(CloudMetadata)),
            ("168.63.129.17", None),
            ("169.253.255.255", None),
            ("169.254.0.0", Some(LinkLocal)),
            ("169.254.169.254", Some(CloudMetadata)),
            ("169.254.170.2", Some(CloudMetadata)),
            ("169.254.255.255", Some(LinkLocal)),
            ("169.255.0.0", None),
            ("172.15.255.255", None),
            ("172.16.0.0", Some(Private)),
            ("172.31.255.255", Some(Private)),
            ("172.32.0.0", None),
            ("192.0.0.0", Some(ProtocolAssignment)),
            ("192.0.0.9", Some(ProtocolAssignment)),
            ("192.0.0.171", Some(ProtocolAssignment)),
            ("192.0.1.0", None),
            ("192.0.2.1", Some(Documentation)),
            ("192.31.196.1", None),
            ("192.52.193.1", None),
            ("192.88.99.1", Some(RelayAnycast)),
            ("192.167.255.255", None),
            ("192.168.0.1", Some(Private)),
            ("192.169.0.0", None),
            ("192.175.48.1", None),
            ("198.17.255.255", None),
            ("198.18.0.0", Some(Benchmarking)),
            ("198.19.255.255", Some(Benchmarking)),
            ("198.20.0.0", None),
            ("198.51.100.7", Some(Documentation)),
            ("203.0.113.255", Some(Documentation)),
            ("224.0.0.1", Some(Multicast)),
            ("239.255.255.255", Some(Multicast)),
            ("240.0.0.1", Some(Reserved)),
            ("255.255.255.254", Some(Reserved)),
            ("255.255.255.255", Some(Broadcast)),
            ("::", Some(Unspecified)),
            ("::1", Some(Loopback)),
            ("::2", Some(Ipv4Compatible)),
            ("::8.8.8.8", Some(Ipv4Compatible)),
            ("::ffff:8.8.8.8", None),
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("::ffff:169.254.169.254", Some(CloudMetadata)),
            ("::ffff:0:8.8.8.8", Some(NotGlobal)),
            ("64:ff9b::8.8.8.8", None),
            ("64:ff9b::10.0.0.1", Some(Private)),
            ("64:ff9b:1::8.8.8.8", Some(LocalTranslation)),
            ("64:ff9b:2::8.8.8.8", Some(NotGlobal)),
            ("100::1", Some(DiscardOnly)),
            ("100:0:0:1::1", Some(DiscardOnly)),
            ("100:0:0:2::1", Some(NotGlobal)),
            ("1fff:ffff::", Some(NotGlobal)),
            ("2000::1", None),
            ("2001::1", Some(Teredo)),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Some(Teredo)),
            ("2001:1::1", Some(ProtocolAssignment)),
            ("2001:2::1", Some(ProtocolAssignment)),
            ("2001:10::1", Some(ProtocolAssignment)),
            ("2001:20::1", Some(ProtocolAssignment)),
            ("2001:1ff:ffff::", Some(ProtocolAssignment)),
            ("2001:200::1", None),
            ("2001:db7:ffff::", None),
            ("2001:db8::1", Some(Documentation)),
            ("2001:db9::", None),
            ("2001:4860:4860::8888", None),
            ("2002:808:808::1", None),
            ("2002:7f00:1::1", Some(Loopback)),
            ("2002:a00:1::", Some(Private)),
            ("2002:a9fe:a9fe::", Some(CloudMetadata)),
            ("2003::1", None),
            ("2606:4700::1111", None),
            ("2a00:1450::5efe:10.0.0.1", Some(Private)),
            ("2a00:1450::200:5efe:10.0.0.1", Some(Private)),
            ("2a00:1450::5efe:8.8.8.8", None),
            ("3fff::1", Some(Documentation)),
            ("3fff:fff:ffff::", Some(Documentation)),
            ("3fff:1000::", None),
            ("4000::", Some(NotGlobal)),
            ("5f00::1", Some(NotGlobal)),
            ("fc00::1", Some(UniqueLocal)),
            ("fd00:ec2::254", Some(CloudMetadata)),
            ("fd20:ce::254", Some(CloudMetadata)),
            ("fdff:ffff::", Some(UniqueLocal)),
            ("fe80::1", Some(LinkLocal)),
            ("febf::1", Some(LinkLocal)),
            ("fec0::1", Some(SiteLocal)),
            ("ff02::1", Some(Multicast)),
        ] {
            check(address, expected);
        }
    }

    #[test]
    fn no_two_classes_share_a_name() {
        let names: std::collections::BTreeSet<_> = Class::ALL.iter().map(|class| class.as_str()).collect();
        assert_eq!(names.len(), Class::ALL.len());
    }
}
