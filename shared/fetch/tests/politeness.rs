//! robots.txt, the hosts' policies and their pace, on the way to a page.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use fetch::hosts::{HostPolicy, HostRecord, Hosts, RobotsRecord, RobotsStatus};
use fetch::pace::{MemoryPace, Pace, Taken};
use fetch::{Allowed, Class, FetchConfig, FetchError, Request, RequestKind, WaitReason};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Act, ROOMY, SHORT, Site, World, ok, redirect, reply, status};
use uuid::Uuid;

fn paced() -> (World, Arc<MemoryPace>) {
    let pace = Arc::<MemoryPace>::default();
    let config = FetchConfig { limits: ROOMY, ..FetchConfig::default() };
    (World::with(Arc::<MemoryPace>::clone(&pace), config), pace)
}

async fn site(robots: Vec<Act>) -> Site {
    Site::start(move |seen| Some(if seen.target == "/robots.txt" { robots.clone() } else { ok("", "page") }))
        .await
}

#[tokio::test]
async fn robots_is_asked_once_a_day_and_obeyed() {
    let site = site(ok("", "User-agent: *\nDisallow: /\n\nUser-agent: callboard\nDisallow: /no\n")).await;
    let world = World::new();
    world.place("a.example", &site);
    assert_eq!(world.page("http://a.example/yes").await.unwrap().status, 200);
    let error = world.page("http://a.example/no?x").await.unwrap_err();
    assert_eq!((&error, error.code()), (&FetchError::RobotsDisallowed, "robots_disallowed"));
    assert_eq!(site.targets(), ["GET /robots.txt", "GET /yes"]);

    let mut record = world.hosts.get("a.example").await.unwrap();
    let robots = record.robots.as_mut().unwrap();
    robots.fetched_at = Timestamp::now().checked_sub(Duration::from_secs(24 * 3_600 + 1)).ok();
    world.hosts.set("a.example", record);
    world.page("http://a.example/yes").await.unwrap();
    assert_eq!(site.targets()[2..], ["GET /robots.txt", "GET /yes"]);
}

#[tokio::test]
async fn what_robots_answers_decides_what_may_be_asked() {
    for (name, robots, expected) in [
        ("404", status(404, "", "no"), Ok(200)),
        ("403", status(403, "", "no"), Ok(200)),
        ("410", status(410, "", "User-agent: *\nDisallow: /"), Ok(200)),
        ("empty", ok("", ""), Ok(200)),
        ("html", ok("Content-Type: text/html", "<h1>Disallow: /</h1>"), Ok(200)),
        ("circle", redirect("/robots.txt"), Ok(200)),
        ("rule", ok("", "User-agent: *\nDisallow: /"), Err("robots_disallowed")),
        ("429", status(429, "Retry-After: 60", ""), Err("robots_wait")),
        ("500", status(500, "", ""), Err("robots_unreachable")),
        ("503", status(503, "Retry-After: 60", ""), Err("robots_unreachable")),
        ("cut off", reply("HTTP/1.1 200 X\r\nContent-Length: 99\r\n\r\nUser"), Err("robots_unreachable")),
        ("silent", vec![Act::Hold], Err("robots_unreachable")),
        ("inside", redirect("http://127.0.0.1/robots.txt"), Err("robots_unreachable")),
    ] {
        let site = site(robots).await;
        let world = World::limited(if name == "silent" { SHORT } else { ROOMY });
        world.place("a.example", &site);
        for ask in ["first", "second, from the copy"] {
            let result = world.page("http://a.example/").await;
            let result = result.as_ref().map(|r| r.status).map_err(FetchError::code);
            assert_eq!(result, expected, "{name}, {ask}");
        }
        let asked = site.targets().iter().filter(|target| *target == "GET /robots.txt").count();
        assert_eq!(asked, if name == "circle" { 6 } else { 1 }, "{name}");
        let is_asked = site.targets().contains(&"GET /".to_owned());
        assert_eq!(is_asked, expected.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn an_unreachable_robots_is_a_retry_within_the_hour_and_an_old_copy_serves_meanwhile() {
    let site = site(status(500, "", "")).await;
    let world = World::new();
    world.place("a.example", &site);
    match world.page("http://a.example/").await.unwrap_err() {
        FetchError::Transient { retry_after: Some(after), .. } => {
            assert!(after <= Duration::from_secs(3_600), "{after:?}");
        }
        other => panic!("{other:?}"),
    }
    for (days, text, expected) in [
        (29, "User-agent: *\nDisallow: /no", Ok(200)),
        (29, "User-agent: *\nDisallow: /", Err("robots_disallowed")),
        (31, "", Err("robots_unreachable")),
    ] {
        let record = RobotsRecord {
            status: RobotsStatus::Fetched,
            text: Some(text.into()),
            fetched_at: Timestamp::now().checked_sub(Duration::from_secs(days * 86_400)).ok(),
            retry_at: None,
        };
        let policy = HostPolicy::default();
        world.hosts.set("a.example", HostRecord { policy, robots: Some(record) });
        let result = world.page("http://a.example/").await;
        let result = result.as_ref().map(|r| r.status).map_err(FetchError::code);
        assert_eq!(result, expected, "{days} days, {text:?}");
    }
}

#[tokio::test]
async fn robots_is_read_up_to_500_kib_and_follows_five_redirects() {
    let padding = "# padding padding padding padding padding padding padding pad\n".repeat(8_000);
    assert!(padding.len() < 500 * 1024);
    let text = format!("User-agent: *\nDisallow: /early\n{padding}{padding}Disallow: /late\n");
    let site = Site::start(move |seen| {
        Some(match seen.target.as_str() {
            "/robots.txt" => redirect("/r5"),
            "/r1" => ok("", &text),
            path => match path.strip_prefix("/r").and_then(|number| number.parse::<u32>().ok()) {
                Some(number) => redirect(&format!("/r{}", number - 1)),
                None => ok("", "page"),
            },
        })
    })
    .await;
    let world = World::new();
    world.place("a.example", &site);
    assert_eq!(world.page("http://a.example/early").await.unwrap_err(), FetchError::RobotsDisallowed);
    assert_eq!(world.page("http://a.example/late").await.unwrap().status, 200);
}

#[tokio::test]
async fn each_hop_obeys_the_robots_of_its_own_host() {
    let a = Site::start(|seen| (seen.target == "/").then(|| redirect("http://b.example/no"))).await;
    let b = site(ok("", "User-agent: *\nDisallow: /no")).await;
    let (world, _) = paced();
    world.place("a.example", &a);
    world.place("b.example", &b);
    assert_eq!(world.page("http://a.example/").await.unwrap_err(), FetchError::RobotsDisallowed);
    assert_eq!(b.targets(), ["GET /robots.txt"]);
}

#[tokio::test]
async fn a_policy_switches_a_host_off_opens_a_port_and_sets_robots_aside() {
    let site = site(ok("", "User-agent: *\nDisallow: /")).await;
    let world = World::new();
    world.place("a.example", &site);
    world.policy("a.example", HostPolicy { enabled: false, ..HostPolicy::default() });
    let error = world.page("http://a.example/").await.unwrap_err();
    assert_eq!(error.class(), Some(Class::HostDisabled));
    assert!(site.targets().is_empty());
    let open = HostPolicy { obeys_robots: false, extra_ports: vec![8_443], ..HostPolicy::default() };
    world.policy("a.example", open);
    assert_eq!(world.page("http://a.example:8443/").await.unwrap().status, 200);
    let error = world.page("http://a.example:8444/").await.unwrap_err();
    assert_eq!(error.class(), Some(Class::Port));
    assert_eq!(world.connected(), ["93.184.216.1:8443"]);
}

#[tokio::test]
async fn a_second_job_books_a_turn_and_a_third_the_next_while_a_permit_is_held() {
    let (world, pace) = paced();
    let site = site(status(404, "", "")).await;
    world.place("a.example", &site);
    let gap = Duration::from_secs(5);
    let Taken::Permit(permit) = pace.take("a.example", gap, None, false).await.unwrap() else {
        panic!("no permit")
    };
    let mut untils = Vec::new();
    for _ in 0..2 {
        let mut request = Request::new("http://a.example/", RequestKind::Page);
        request.job = Some(Uuid::new_v4());
        match world.fetcher.get(&request).await.unwrap_err() {
            FetchError::Wait { until, reason: WaitReason::Pace } => untils.push(until),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(untils[1].duration_since(untils[0]), jiff::SignedDuration::from_secs(1));
    assert!(site.targets().is_empty() && world.connected().is_empty());
    pace.give_back(&permit).await.unwrap();
}

#[tokio::test]
async fn a_permit_is_given_back_after_success_failure_and_cancellation() {
    let (world, pace) = paced();
    let site = Site::start(|seen| match seen.target.as_str() {
        "/hold" => Some(vec![Act::Hold]),
        "/fail" => Some(status(500, "", "")),
        _ => None,
    })
    .await;
    world.place("a.example", &site);
    let is_free = || async {
        // Free, if a caller without a booking need only wait for the gap and not for a holder: then it takes it.
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            match pace.take("a.example", Duration::ZERO, None, false).await.unwrap() {
                Taken::Permit(permit) => {
                    pace.give_back(&permit).await.unwrap();
                    return true;
                }
                Taken::Turn { after, .. } => tokio::time::sleep(after.max(Duration::from_millis(5))).await,
            }
        }
        false
    };
    world.page("http://a.example/").await.unwrap();
    assert!(is_free().await);
    world.page("http://a.example/fail").await.unwrap_err();
    assert!(is_free().await);
    let (fetcher, request) =
        (world.fetcher.clone(), Request::new("http://a.example/hold", RequestKind::Page));
    let call = tokio::spawn(async move { fetcher.get(&request).await });
    while !site.targets().contains(&"GET /hold".to_owned()) {
        tokio::task::yield_now().await;
    }
    call.abort();
    assert!(is_free().await, "a cancelled call gives its permit back");
}

#[tokio::test]
async fn a_hop_to_another_host_waits_in_place_for_its_turn() {
    let a = Site::start(|seen| (seen.target == "/").then(|| redirect("http://b.example/"))).await;
    let (world, pace) = paced();
    let b = site(status(404, "", "")).await;
    world.place("a.example", &a);
    world.place("b.example", &b);
    let Taken::Permit(permit) = pace.take("b.example", Duration::from_secs(1), None, false).await.unwrap()
    else {
        panic!("no permit")
    };
    pace.give_back(&permit).await.unwrap();
    let started = Instant::now();
    assert_eq!(world.page("http://a.example/").await.unwrap().final_url, "http://b.example/");
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    // The first host's permit was not kept meanwhile: only its gap lasts.
    match pace.take("a.example", Duration::from_secs(1), None, false).await.unwrap() {
        Taken::Permit(_) => {}
        Taken::Turn { after, .. } => assert!(after <= Duration::from_secs(1), "{after:?}"),
    }
}

#[tokio::test]
async fn a_crawl_delay_learned_on_the_way_holds_for_the_next() {
    let (world, pace) = paced();
    let site = site(ok("", "User-agent: *\nCrawl-delay: 30")).await;
    world.place("a.example", &site);
    world.page("http://a.example/").await.unwrap();
    let mut request = Request::new("http://a.example/2", RequestKind::Page);
    request.job = Some(Uuid::new_v4());
    match world.fetcher.get(&request).await.unwrap_err() {
        FetchError::Wait { until, reason: WaitReason::Pace } => {
            assert!(until.duration_since(Timestamp::now()) > jiff::SignedDuration::from_secs(28));
        }
        other => panic!("{other:?}"),
    }
    drop(pace);
}

#[tokio::test]
async fn an_allowed_address_is_reached_with_its_pace_and_the_bundled_site_without() {
    let robots = "User-agent: *\nDisallow: /no";
    let (site_a, site_b) = (
        Site::start_on("127.0.0.1:0", move |seen| (seen.target == "/robots.txt").then(|| ok("", robots)))
            .await,
        Site::start_on("127.0.0.2:0", move |seen| (seen.target == "/robots.txt").then(|| ok("", robots)))
            .await,
    );
    let config = FetchConfig {
        allow: vec![
            Allowed { address: site_a.address, paced: false },
            Allowed { address: site_b.address, paced: true },
        ],
        ..FetchConfig::default()
    };
    let fetcher = fetch::Fetcher::in_memory(config);
    let get = |address: std::net::SocketAddr, path: &str| {
        let (fetcher, mut request) =
            (fetcher.clone(), Request::new(format!("http://{address}{path}"), RequestKind::Page));
        request.job = Some(Uuid::new_v4());
        async move { fetcher.get(&request).await }
    };
    let started = Instant::now();
    for _ in 0..5 {
        assert_eq!(get(site_a.address, "/").await.unwrap().status, 404);
    }
    // With one, the other four would wait a second each.
    assert!(started.elapsed() < Duration::from_millis(3_900), "no pace: {:?}", started.elapsed());
    assert_eq!(get(site_a.address, "/no").await.unwrap_err(), FetchError::RobotsDisallowed);
    let started = Instant::now();
    for _ in 0..2 {
        assert_eq!(get(site_b.address, "/").await.unwrap().status, 404);
    }
    assert!(started.elapsed() >= Duration::from_millis(900), "a pace: {:?}", started.elapsed());
    let error = fetcher.get(&Request::new("http://127.0.0.3:1/", RequestKind::Page)).await.unwrap_err();
    assert_eq!(error.class(), Some(Class::Loopback));
}
