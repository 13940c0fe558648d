//! What comes back: bodies within their limits, conditions, redirects, and statuses by what to do about them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use fetch::limits::TimeLimits;
use fetch::pace::NoPace;
use fetch::{AttemptHint, Class, FetchConfig, FetchError, RedirectFault, Request, RequestKind};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::time::{Duration, Instant};
use support::{Act, Site, World, ok, redirect, reply, status};
use tokio::io::AsyncWriteExt;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One site under `a.example`, asked once for `/`.
async fn ask(acts: Vec<Act>) -> Result<fetch::Response, FetchError> {
    ask_within(support::ROOMY, acts).await
}

async fn ask_within(limits: TimeLimits, acts: Vec<Act>) -> Result<fetch::Response, FetchError> {
    let site = Site::start(move |seen| (seen.target == "/").then(|| acts.clone())).await;
    let world = World::limited(limits);
    world.place("a.example", &site);
    world.page("http://a.example/").await
}

fn code(result: Result<fetch::Response, FetchError>) -> String {
    result.map(|response| response.status).unwrap_err().code().to_owned()
}

#[tokio::test]
async fn a_page_comes_with_its_fields_and_the_request_says_who_asks_and_nothing_else() {
    let site = Site::start(|seen| {
        (seen.target == "/jobs/1?x=%20a").then(|| {
            ok(
                "Content-Type: text/html; charset=utf-8\nETag: \"1\"\nSet-Cookie: a=b\nX-Name: \u{fc}",
                "<p>job",
            )
        })
    })
    .await;
    let world = World::new();
    world.place("a.example", &site);
    let response = world.page("http://A.example./jobs/1?x= a#part").await.unwrap();
    assert_eq!((response.status, &response.body[..]), (200, &b"<p>job"[..]));
    assert_eq!(response.final_url, "http://a.example./jobs/1?x=%20a");
    assert_eq!(response.content_type.as_deref(), Some("text/html; charset=utf-8"));
    assert_eq!((response.header("etag"), response.header("x-name")), (Some("\"1\""), Some("ü")));
    assert_eq!(response.hops.len(), 1);
    assert!(!response.not_modified && !response.downgraded);
    let seen = site.last();
    let names: Vec<_> = seen
        .head
        .lines()
        .skip(1)
        .filter_map(|line| line.split(':').next())
        .filter(|n| !n.is_empty())
        .collect();
    assert_eq!(names, ["host", "user-agent", "connection", "accept", "accept-encoding"]);
    assert_eq!(seen.field("host").as_deref(), Some("a.example"));
    assert_eq!(seen.field("accept-encoding").as_deref(), Some("gzip, deflate"));
    assert!(seen.field("user-agent").unwrap().starts_with("callboard/"));
    assert_eq!(site.targets(), ["GET /robots.txt", "GET /jobs/1?x=%20a"]);
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit_and_not_beyond() {
    const MIB: usize = 1 << 20;
    let noise: Vec<u8> = (0..11 * MIB as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let site = Site::start({
        let noise = noise.clone();
        move |seen| {
            let (coding, size) = seen.target.strip_prefix('/')?.split_once('/')?;
            let body = &noise[..size.parse().ok()?];
            Some(match coding {
                "plain" => ok("", body),
                "gzip" => ok("Content-Encoding: gzip", gzip(body)),
                // Without a length: only counting tells.
                "close" => reply([b"HTTP/1.1 200 X\r\n\r\n", body].concat()),
                _ => return None,
            })
        }
    })
    .await;
    let world = World::new();
    world.place("a.example", &site);
    for (kind, limit) in [(RequestKind::Page, 2 * MIB), (RequestKind::Feed, 10 * MIB)] {
        for coding in ["plain", "gzip", "close"] {
            let url = |size| format!("http://a.example/{coding}/{size}");
            let fits = world.fetcher.get(&Request::new(url(limit), kind)).await.unwrap();
            assert!(fits.body[..] == noise[..limit], "{kind:?} {coding}");
            let error = world.fetcher.get(&Request::new(url(limit + 1), kind)).await.unwrap_err();
            assert_eq!(error, FetchError::TooLarge { what: "body" }, "{kind:?} {coding}");
            assert!(error.is_permanent());
        }
    }
}

#[tokio::test]
async fn bombs_floods_and_broken_answers_each_have_their_error() {
    let flood = |count: usize| format!("HTTP/1.1 200 X\r\n{}\r\n", "X-A: b\r\n".repeat(count));
    let long = |bytes: usize| format!("HTTP/1.1 200 X\r\nX-A: {}\r\n\r\n", "b".repeat(bytes));
    let chunked = |rest: &str| format!("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n{rest}");
    let half = gzip("text ".repeat(10_000).as_bytes());
    for (name, acts, expected) in [
        ("bomb", ok("Content-Encoding: gzip", gzip(&vec![0; 64 << 20])), "too_large"),
        ("101 fields", reply(flood(101)), "too_large"),
        ("long field", reply(long(70_000)), "too_large"),
        (
            "endless head",
            vec![Act::Send(b"HTTP/1.1 200 X\r\nX: ".to_vec()), Act::Send(vec![b'a'; 1 << 20])],
            "too_large",
        ),
        ("short body", reply("HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\nshort"), "truncated"),
        ("short chunks", reply(chunked("5\r\nhello\r\n")), "truncated"),
        ("short gzip", ok("Content-Encoding: gzip", &half[..half.len() / 2]), "truncated"),
        ("no gzip", ok("Content-Encoding: gzip", "<p>plain text</p>"), "decode"),
        ("brotli", ok("Content-Encoding: br", "x"), "unsupported_encoding"),
        ("no answer", vec![], "truncated"),
        ("no http", reply("SSH-2.0-OpenSSH_9.9\r\n\r\n"), "protocol"),
        ("http/0.9", reply("<html>"), "protocol"),
        ("bad chunk", reply(chunked("zz\r\nhello\r\n")), "protocol"),
        ("bad length", reply("HTTP/1.1 200 X\r\nContent-Length: nine\r\n\r\n"), "protocol"),
    ] {
        let result = ask(acts).await.map(|response| (response.status, response.headers.len()));
        assert_eq!(result.as_ref().map_err(FetchError::code), Err(expected), "{name}");
    }
    let odd = "HTTP/1.1 200 X\r\nBad Name: a\r\nX-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\nok";
    let response = ask(reply(odd)).await.unwrap();
    assert_eq!((&response.body[..], response.headers.len()), (&b"ok"[..], 2), "what browsers forgive");
    assert_eq!(ask(reply(flood(100))).await.unwrap().headers.len(), 100);
    assert_eq!(ask(reply(long(60_000))).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_site_that_drips_or_holds_costs_no_more_than_its_time() {
    for (name, acts) in [
        ("silence", vec![Act::Hold]),
        ("dripping head", vec![Act::Send(b"HTTP/1.1 200 X\r\nX-A: ".to_vec()), Act::Drip(b'a')]),
        ("dripping body", vec![Act::Send(b"HTTP/1.1 200 X\r\n\r\n".to_vec()), Act::Drip(b'a')]),
        ("held body", vec![Act::Send(b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n".to_vec()), Act::Hold]),
    ] {
        let started = Instant::now();
        let result = ask_within(support::SHORT, acts).await;
        // On a machine that is busy for longer than the limit, robots.txt fails before the page.
        assert!(matches!(code(result).as_str(), "timeout" | "robots_unreachable"), "{name}");
        assert!(started.elapsed() < Duration::from_secs(20), "{name}");
    }
}

#[tokio::test]
async fn the_callers_deadline_ends_a_request_before_its_own_limit() {
    let site = Site::start(|seen| (seen.target == "/").then(|| vec![Act::Hold])).await;
    let world = World::new();
    world.place("a.example", &site);
    let mut request = Request::new("http://a.example/", RequestKind::Page);
    let started = Instant::now();
    request.deadline = Some(started + Duration::from_millis(300));
    assert_eq!(world.fetcher.get(&request).await.unwrap_err().code(), "timeout");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test]
async fn conditions_are_sent_and_304_counts_only_as_an_answer_to_them() {
    let site = Site::start(|seen| {
        let known = seen.field("if-none-match").as_deref() == Some("\"1\"")
            || seen.field("if-modified-since").is_some();
        (seen.target != "/robots.txt").then(|| match (seen.target.as_str(), known) {
            ("/always", _) | (_, true) => status(304, "ETag: \"1\"", ""),
            _ => ok("ETag: \"1\"", "new"),
        })
    })
    .await;
    let world = World::new();
    world.place("a.example", &site);
    let mut request = Request::new("http://a.example/", RequestKind::Page);
    assert_eq!(&world.fetcher.get(&request).await.unwrap().body[..], b"new");
    request.if_none_match = Some("\"1\"".into());
    let response = world.fetcher.get(&request).await.unwrap();
    assert_eq!((response.status, response.not_modified, response.body.len()), (304, true, 0));
    request.if_none_match = Some("\"2\"".into());
    assert!(!world.fetcher.get(&request).await.unwrap().not_modified);
    request.if_none_match = Some("\"2\"\r\nX-Injected: yes".into());
    assert!(!world.fetcher.get(&request).await.unwrap().not_modified);
    assert_eq!(site.last().field("x-injected"), None);
    request.if_none_match = None;
    request.if_modified_since = Some("Wed, 25 Nov 2026 12:00:00 GMT".into());
    assert!(world.fetcher.get(&request).await.unwrap().not_modified);
    assert_eq!(code(world.page("http://a.example/always").await), "unexpected_304");
}

#[tokio::test]
async fn statuses_are_answers_or_worth_a_retry() {
    for (number, expected) in [
        (200, None),
        (203, None),
        (401, None),
        (403, None),
        (404, None),
        (410, None),
        (451, None),
        (300, None),
        (302, None),
        (408, Some("http_408")),
        (425, Some("http_425")),
        (429, Some("http_429")),
        (500, Some("http_500")),
        (503, Some("http_503")),
    ] {
        let result = ask(status(number, "Retry-After: 120", "body")).await;
        match (result, expected) {
            (Ok(response), None) => assert_eq!((response.status, &response.body[..]), (number, &b"body"[..])),
            (Err(error), Some(code)) => {
                assert_eq!(error.code(), code);
                let after = Some(Duration::from_secs(120));
                assert_eq!(error.attempt_hint(), AttemptHint::Retry { after });
            }
            (other, _) => panic!("{number}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn redirects_are_followed_up_to_their_limit_and_never_in_circles() {
    let site = Site::start(|seen| {
        Some(match seen.target.as_str() {
            "/robots.txt" => return None,
            "/end" => ok("", "end"),
            "/self" => redirect("/self"),
            "/ping" => redirect("/pong"),
            "/pong" => redirect("ping#again"),
            "/relative" => redirect("?a=1"),
            "/relative?a=1" => redirect("//a.example/end"),
            "/bad" => redirect("http://[:::1]/"),
            "/long" => redirect(&format!("/{}", "a".repeat(2_048))),
            "/scheme" => redirect("file:///etc/passwd"),
            "/inside" => redirect("http://169.254.169.254/latest/meta-data/"),
            "/credentials" => redirect("http://user:pw@a.example/end"),
            "/port" => redirect("http://a.example:8080/"),
            "/umlaut" => redirect("/\u{f6}"),
            "/%C3%B6" => ok("", "end"),
            path => match path.strip_prefix('/')?.parse::<u32>().ok()? {
                0 => ok("", "end"),
                left => redirect(&format!("/{}", left - 1)),
            },
        })
    })
    .await;
    let world = World::new();
    world.place("a.example", &site);
    let get = |kind, path: &str| {
        let request = Request::new(format!("http://a.example/{path}"), kind);
        let fetcher = world.fetcher.clone();
        async move { fetcher.get(&request).await }
    };
    let too_many = FetchError::Redirects { reason: RedirectFault::TooMany };
    for (kind, limit) in [(RequestKind::Page, 5), (RequestKind::Feed, 5), (RequestKind::Resolve, 10)] {
        let response = get(kind, &limit.to_string()).await.unwrap();
        assert_eq!(response.hops.len(), limit + 1, "{kind:?}");
        assert_eq!(response.final_url, "http://a.example/0");
        assert_eq!(get(kind, &(limit + 1).to_string()).await.unwrap_err(), too_many, "{kind:?}");
    }
    for path in ["self", "ping"] {
        let error = get(RequestKind::Page, path).await.unwrap_err();
        assert_eq!(error, FetchError::Redirects { reason: RedirectFault::Loop }, "{path}");
    }
    for path in ["bad", "long"] {
        let error = get(RequestKind::Page, path).await.unwrap_err();
        assert_eq!(error, FetchError::Redirects { reason: RedirectFault::BadLocation }, "{path}");
    }
    for (path, class) in [
        ("scheme", Class::Scheme),
        ("inside", Class::CloudMetadata),
        ("credentials", Class::Credentials),
        ("port", Class::Port),
    ] {
        assert_eq!(get(RequestKind::Page, path).await.unwrap_err().class(), Some(class), "{path}");
    }
    let hops = get(RequestKind::Page, "relative").await.unwrap().hops;
    let urls: Vec<_> = hops.iter().map(|hop| (hop.url.as_str(), hop.status)).collect();
    assert_eq!(
        urls,
        [
            ("http://a.example/relative", 302),
            ("http://a.example/relative?a=1", 302),
            ("http://a.example/end", 200)
        ]
    );
    assert_eq!(get(RequestKind::Page, "umlaut").await.unwrap().final_url, "http://a.example/%C3%B6");
}

#[tokio::test]
async fn resolving_asks_by_head_and_by_a_byte_where_head_is_not_understood() {
    let site = Site::start(|seen| {
        let is_head = seen.method == "HEAD";
        Some(match (seen.target.as_str(), is_head) {
            ("/good", true) => reply("HTTP/1.1 200 X\r\nContent-Length: 5000\r\n\r\n"),
            ("/no-head", true) => status(405, "", ""),
            ("/hangs-up", true) => vec![],
            ("/lies", true) => status(404, "", ""),
            ("/no-head" | "/hangs-up", false) => status(206, "Content-Range: bytes 0-0/9", "x"),
            ("/lies", false) => redirect("/good"),
            ("/gone", _) => status(410, "", ""),
            ("/empty", true) => status(501, "", ""),
            ("/empty", false) => status(416, "", ""),
            ("/busy", _) => status(429, "", ""),
            _ => return None,
        })
    })
    .await;
    let world = World::new();
    world.place("a.example", &site);
    for (path, expected) in [
        ("good", Ok(200)),
        ("no-head", Ok(200)),
        ("hangs-up", Ok(200)),
        ("lies", Ok(200)),
        ("gone", Ok(410)),
        ("empty", Ok(200)),
        ("busy", Err("http_429")),
    ] {
        let request = Request::new(format!("http://a.example/{path}"), RequestKind::Resolve);
        let result = world.fetcher.get(&request).await;
        let result = result.as_ref().map(|r| r.status).map_err(FetchError::code);
        assert_eq!(result, expected, "{path}");
    }
    let ranged = site.seen.lock().unwrap().iter().filter(|seen| seen.field("range").is_some()).count();
    assert_eq!(ranged, 5, "a byte is asked for only where HEAD failed");
}

#[tokio::test]
async fn a_plain_server_on_an_encrypted_port_and_a_missing_name_are_transient() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let world = World::new();
    world.place("a.example", &Site { address, seen: std::sync::Arc::default() });
    assert_eq!(code(world.page("https://a.example/").await), "robots_unreachable");
    world.policy("a.example", fetch::hosts::HostPolicy { obeys_robots: false, ..Default::default() });
    assert_eq!(code(world.page("https://a.example/").await), "tls");
    assert_eq!(code(world.page("https://nobody.example/").await), "dns");
    world.names.set("empty.example", &[&[]]);
    assert_eq!(code(world.page("https://empty.example/").await), "dns");
    world.names.set("down.example", &[&["93.184.216.99", "2606:4700::1", "93.184.216.98"]]);
    world.policy("down.example", fetch::hosts::HostPolicy { obeys_robots: false, ..Default::default() });
    assert_eq!(code(world.page("https://down.example/").await), "connect");
}

#[tokio::test]
async fn an_encrypted_site_is_known_by_its_name_and_a_downgrade_is_told() {
    let secure = Site::start_tls(|seen| {
        Some(match seen.target.as_str() {
            "/robots.txt" => return None,
            "/down" => redirect("http://c.example/"),
            _ => ok("", "secure"),
        })
    })
    .await;
    let plain = Site::start(|seen| {
        Some(match seen.target.as_str() {
            "/up" => redirect("https://a.example/"),
            "/" => ok("", "plain"),
            _ => return None,
        })
    })
    .await;
    let extra_roots = vec![include_bytes!("tls/ca.der").to_vec()];
    let config = FetchConfig { limits: support::ROOMY, extra_roots, ..FetchConfig::default() };
    let world = World::with(std::sync::Arc::new(NoPace), config);
    for (name, site) in [("a.example", &secure), ("wrong.example", &secure), ("c.example", &plain)] {
        world.place(name, site);
    }
    let response = world.page("https://a.example/").await.unwrap();
    assert_eq!((&response.body[..], response.downgraded), (&b"secure"[..], false));
    let response = world.page("https://a.example/down").await.unwrap();
    assert_eq!((&response.body[..], response.downgraded), (&b"plain"[..], true));
    let response = world.page("http://c.example/up").await.unwrap();
    assert_eq!((&response.body[..], response.downgraded), (&b"secure"[..], false));
    // The certificate names another host, and without the test's root nobody vouches for it.
    let unruled = || fetch::hosts::HostPolicy { obeys_robots: false, ..Default::default() };
    world.policy("wrong.example", unruled());
    assert_eq!(code(world.page("https://wrong.example/").await), "tls");
    let strict = World::new();
    strict.place("a.example", &secure);
    strict.policy("a.example", unruled());
    assert_eq!(code(strict.page("https://a.example/").await), "tls");
}
