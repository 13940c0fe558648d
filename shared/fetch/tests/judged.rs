//! The address that is judged is the address that is connected to, whatever the spelling and the resolver.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use fetch::address::verdict;
use fetch::check::{ScriptedResolver, Verdict, check, run};
use fetch::hosts::{HostPolicy, HostRecord, Hosts, RobotsRecord};
use fetch::pace::{NoPace, SeamError};
use fetch::{Class, FetchConfig, Fetcher, Request, RequestKind, Seams};
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use support::{Names, Site, Wires, World, ok, redirect};

/// How many random URLs are followed.
const ROUNDS: usize = 120_000;

/// Hosts whose robots.txt is set aside, so that the only connection is the page's.
struct Unruled;

impl Hosts for Unruled {
    fn get<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, Result<HostRecord, SeamError>> {
        let policy = HostPolicy { obeys_robots: false, ..HostPolicy::default() };
        Box::pin(async move { Ok(HostRecord { policy, robots: None }) })
    }

    fn put_robots<'a>(
        &'a self,
        _host: &'a str,
        _record: &'a RobotsRecord,
    ) -> BoxFuture<'a, Result<(), SeamError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Networks that must never be reached, written down again from the registries and apart from the code's table.
const INSIDE: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "168.63.129.16/32",
];

fn is_inside4(address: Ipv4Addr) -> bool {
    INSIDE.iter().any(|network| {
        let (base, length) = network.split_once('/').unwrap();
        let (base, length): (Ipv4Addr, u32) = (base.parse().unwrap(), length.parse().unwrap());
        let shift = 32 - length;
        u64::from(address.to_bits()) >> shift == u64::from(base.to_bits()) >> shift
    })
}

/// A second opinion on every address.
fn is_inside(address: IpAddr) -> bool {
    let address = match address {
        IpAddr::V4(address) => return is_inside4(address),
        IpAddr::V6(address) => address,
    };
    let s = address.segments();
    let low = Ipv4Addr::new((s[6] >> 8) as u8, s[6] as u8, (s[7] >> 8) as u8, s[7] as u8);
    match s {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => is_inside4(low),
        [0x2002, a, b, ..] => {
            let inner = Ipv4Addr::new((a >> 8) as u8, a as u8, (b >> 8) as u8, b as u8);
            is_inside4(inner) || (matches!(s[4], 0 | 0x200) && s[5] == 0x5efe && is_inside4(low))
        }
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => true,
        [0x3fff, second, ..] if second < 0x1000 => true,
        [first, ..] if !(0x2000..0x4000).contains(&first) => true,
        _ => matches!(s[4], 0 | 0x200) && s[5] == 0x5efe && is_inside4(low),
    }
}

/// Addresses near the edges of the registries more often than chance would.
fn any4(rng: &mut StdRng) -> Ipv4Addr {
    match rng.random_range(0..4) {
        0 => Ipv4Addr::from_bits(rng.random()),
        1 => {
            let base: Ipv4Addr =
                INSIDE[rng.random_range(0..INSIDE.len())].split_once('/').unwrap().0.parse().unwrap();
            Ipv4Addr::from_bits(base.to_bits().wrapping_add(rng.random_range(0..600)).wrapping_sub(300))
        }
        2 => {
            let first = [0, 10, 100, 127, 169, 172, 192, 198, 203, 224, 240, 255, 168, 8, 93];
            let first = first[rng.random_range(0..first.len())];
            Ipv4Addr::new(first, rng.random(), rng.random(), rng.random())
        }
        _ => Ipv4Addr::new(93, 184, rng.random(), rng.random()),
    }
}

fn any6(rng: &mut StdRng) -> Ipv6Addr {
    let inner = any4(rng).to_bits();
    let low: u128 = inner.into();
    let noise: u128 = rng.random();
    Ipv6Addr::from_bits(match rng.random_range(0..10) {
        0 => noise,
        1 => 0xffff_0000_0000 | low,
        2 => (0x64_ff9b << 96) | low,
        3 => (0x2002 << 112) | (low << 80) | (noise & 0xffff),
        4 => low,
        5 => (0x2001 << 112) | (noise >> 16),
        6 => (0x2a00 << 112) | (noise & (0xffff_ffff_ffff << 64)) | (0x5efe << 32) | low,
        7 => (0x64_ff9b_0001 << 80) | low,
        8 => {
            let first: u128 = [0x2000, 0x2606, 0x3fff, 0xfc00, 0xfd00, 0xfe80, 0xfec0, 0xff02, 0x100, 0x4000]
                [rng.random_range(0..10)];
            (first << 112) | (noise >> 16)
        }
        _ => noise & 0xffff,
    })
}

/// One of the many ways to write an IPv4 address in a URL (WHATWG URL, "ends in a number").
fn spell4(address: Ipv4Addr, rng: &mut StdRng) -> String {
    let number = |value: u32, rng: &mut StdRng| match rng.random_range(0..5) {
        0 => format!("0x{value:x}"),
        1 => format!("0X{value:X}"),
        2 => format!("0{value:o}"),
        3 => format!("0x000{value:x}"),
        _ => value.to_string(),
    };
    let [a, b, c, d] = address.octets().map(u32::from);
    let parts = match rng.random_range(0..5) {
        0 => vec![address.to_bits()],
        1 => vec![a, (b << 16) | (c << 8) | d],
        2 => vec![a, b, (c << 8) | d],
        _ => vec![a, b, c, d],
    };
    let mut text = parts.iter().map(|part| number(*part, rng)).collect::<Vec<_>>().join(".");
    match rng.random_range(0..8) {
        0 => text.push('.'),
        1 => text = text.chars().map(|c| format!("%{:02x}", u32::from(c))).collect(),
        2 => text = text.replace('.', "\u{3002}"),
        3 => {
            let wide = |c: char| c.to_digit(10).and_then(|d| char::from_u32(0xff10 + d)).unwrap_or(c);
            text = text.chars().map(wide).collect();
        }
        _ => {}
    }
    text
}

fn spell6(address: Ipv6Addr, rng: &mut StdRng) -> String {
    let segments = address.segments();
    match rng.random_range(0..3) {
        0 => format!("[{address}]"),
        1 => format!("[{}]", segments.map(|s| format!("{s:04X}")).join(":")),
        _ => {
            let [.., a, b, c, d] = address.octets();
            let head = segments[..6].iter().map(|s| format!("{s:x}")).collect::<Vec<_>>().join(":");
            format!("[{head}:{a}.{b}.{c}.{d}]")
        }
    }
}

#[tokio::test]
async fn no_random_url_reaches_an_address_other_than_the_one_that_was_judged() {
    let seed: u64 = rand::rng().random();
    let mut rng = StdRng::seed_from_u64(seed);
    let (names, wires) = (Arc::<Names>::default(), Arc::<Wires>::default());
    let seams = Seams {
        resolver: Arc::<Names>::clone(&names),
        connector: Arc::<Wires>::clone(&wires),
        pace: Arc::new(NoPace),
        hosts: Arc::new(Unruled),
    };
    let fetcher = Fetcher::new(FetchConfig::default(), seams);
    let (mut reached, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let any =
            |rng: &mut StdRng| -> IpAddr { if rng.random() { any4(rng).into() } else { any6(rng).into() } };
        let (host, addresses): (String, Vec<IpAddr>) = match rng.random_range(0..3) {
            0 => {
                let address = any4(&mut rng);
                (spell4(address, &mut rng), vec![address.into()])
            }
            1 => {
                let address = any6(&mut rng);
                (spell6(address, &mut rng), vec![address.into()])
            }
            _ => {
                let first: Vec<IpAddr> = (0..rng.random_range(1..4)).map(|_| any(&mut rng)).collect();
                let texts =
                    |list: &[IpAddr]| -> Vec<String> { list.iter().map(ToString::to_string).collect() };
                // A resolver that gives something else the second time gains nothing by it.
                let (one, two) = (texts(&first), texts(&[any(&mut rng)]));
                let (one, two): (Vec<_>, Vec<_>) =
                    (one.iter().map(String::as_str).collect(), two.iter().map(String::as_str).collect());
                names.set("rebind.example", &[&one, &two]);
                (["rebind.example", "ReBind.Example.", "r%65bind.example"][round % 3].into(), first)
            }
        };
        for address in &addresses {
            assert_eq!(verdict(*address).is_err(), is_inside(*address), "{address} (seed {seed})");
        }
        let url = format!("http://{host}/{round}");
        let error = fetcher.get(&Request::new(&url, RequestKind::Page)).await.unwrap_err();
        let connected = std::mem::take(&mut *wires.connected.lock().unwrap());
        if addresses.iter().any(|address| is_inside(*address)) {
            assert!(error.class().is_some(), "{url}: {error:?} (seed {seed})");
            assert!(connected.is_empty(), "{url} reached {connected:?} (seed {seed})");
            refused += 1;
        } else {
            assert_eq!(error.code(), "connect", "{url} (seed {seed})");
            let mut judged: Vec<_> = addresses.iter().map(|ip| SocketAddr::new(*ip, 80)).collect();
            let mut connected = connected;
            judged.sort();
            connected.sort();
            assert_eq!(connected, judged, "{url} (seed {seed})");
            reached += 1;
        }
    }
    assert!(reached > ROUNDS / 10 && refused > ROUNDS / 10, "{reached} reached, {refused} refused");
}

#[tokio::test]
async fn every_hop_is_judged_again_when_its_name_turns_inside() {
    let site = Site::start(|seen| {
        Some(match seen.target.as_str() {
            "/robots.txt" => ok("", ""),
            "/1" => redirect("/2"),
            _ => ok("", "secret"),
        })
    })
    .await;
    let world = World::new();
    world.place("a.example", &site);
    world.names.set("a.example", &[&["93.184.216.1"], &["127.0.0.1"]]);
    let error = world.page("http://a.example/1").await.unwrap_err();
    assert_eq!(error.class(), Some(Class::Loopback));
    assert_eq!(world.connected(), ["93.184.216.1:80"; 2], "robots.txt and the first hop, on one look-up");
}

#[tokio::test]
async fn fetch_check_tells_what_the_fetcher_would_do_in_input_order() {
    let resolver = ScriptedResolver::from_json(
        r#"{
            "jobs.example": ["93.184.216.34", "2606:4700::1"],
            "Bücher.example": ["93.184.216.34"],
            "mixed.example": ["93.184.216.34", "10.0.0.1"],
            "rebind.example": [["93.184.216.34"], ["127.0.0.1"]],
            "gone.example": []
        }"#,
    )
    .unwrap();
    let input = concat!(
        "https://jobs.example/a\r\n",
        "https://b\u{fc}cher.example/\n",
        "https://mixed.example/\n",
        "https://rebind.example/\n",
        "https://rebind.example/\n",
        "https://gone.example/\n",
        "https://unknown.example/\n",
        "http://0x7f.1/\n",
        "http://[::ffff:169.254.169.254]/\n",
        "\"http://127.0.0.1\\t/\"\n",
        "http://localhost/\n",
        "ftp://jobs.example/\n",
        "https://jobs.example:8080/\n",
        "\n",
        "http://8.8.8.8/",
    );
    let mut output = Vec::new();
    run(input.as_bytes(), &mut output, &resolver).await.unwrap();
    let lines: Vec<serde_json::Value> =
        String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let table: Vec<_> = lines
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
            (text("url"), text("verdict"), text("class"), line["addresses"].as_array().unwrap().len())
        })
        .collect();
    let expected = [
        ("https://jobs.example/a", "allow", "-", 2),
        ("https://b\u{fc}cher.example/", "allow", "-", 1),
        ("https://mixed.example/", "block", "private", 2),
        ("https://rebind.example/", "allow", "-", 1),
        ("https://rebind.example/", "block", "loopback", 1),
        ("https://gone.example/", "retry", "dns", 0),
        ("https://unknown.example/", "retry", "dns", 0),
        ("http://0x7f.1/", "block", "loopback", 1),
        ("http://[::ffff:169.254.169.254]/", "block", "cloud_metadata", 1),
        ("http://127.0.0.1\t/", "block", "loopback", 1),
        ("http://localhost/", "block", "special_use_name", 0),
        ("ftp://jobs.example/", "block", "scheme", 0),
        ("https://jobs.example:8080/", "block", "port", 0),
        ("", "block", "invalid_url", 0),
        ("http://8.8.8.8/", "allow", "-", 1),
    ];
    let expected = expected.map(|(url, verdict, class, n)| (url.into(), verdict.into(), class.into(), n));
    assert_eq!(table, expected);
}

#[tokio::test]
async fn fetch_check_and_the_fetcher_agree() {
    for url in
        ["http://a.example/", "http://b.example/", "http://10.1/", "http://nas.lan/", "http://c.example/"]
    {
        let resolver =
            ScriptedResolver::from_json(r#"{"a.example": ["93.184.216.34"], "b.example": ["::1"]}"#).unwrap();
        let verdict = check(url, &resolver).await.verdict;
        let seams = Seams {
            resolver: Arc::new(resolver),
            connector: Arc::<Wires>::default(),
            pace: Arc::new(NoPace),
            hosts: Arc::new(Unruled),
        };
        let fetcher = Fetcher::new(FetchConfig::default(), seams);
        let error = fetcher.get(&Request::new(url, RequestKind::Page)).await.unwrap_err();
        let expected = match error.code() {
            "fetch_refused" => Verdict::Block,
            "dns" => Verdict::Retry,
            _ => Verdict::Allow,
        };
        assert_eq!(verdict, expected, "{url}");
    }
}

#[test]
fn a_resolver_file_that_is_wrong_says_where() {
    for (text, part) in [
        ("[]", "object"),
        ("{", "JSON"),
        (r#"{"a.example": "8.8.8.8"}"#, "a.example"),
        (r#"{"a.example": [["8.8.8.8"], "8.8.8.8"]}"#, "a.example"),
        (r#"{"a.example": ["nine"]}"#, "nine"),
    ] {
        let message = ScriptedResolver::from_json(text).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
