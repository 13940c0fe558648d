//! The whole attempt of a worker, from the claim to the commit, against a site on loopback.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod common;

use common::{Bench, moved};
use fetch::{Allowed, FetchConfig};
use kinds::Attempt;
use ledger::JobStatus;
use serde_json::json;
use std::collections::HashMap;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Status, extra header lines, body, by path.
type Pages = HashMap<&'static str, (u16, String, String)>;

const POSTING: &str = r#"<html lang="en"><head><title>Doctoral position in soil physics</title>
<script type="application/ld+json">{"@context": "https://schema.org", "@type": "JobPosting",
"title": "Doctoral position in soil physics", "description": "<p>You will measure how water moves through soil.</p>",
"datePosted": "2026-11-01", "validThrough": "2090-01-31",
"hiringOrganization": {"@type": "Organization", "name": "University of Example"},
"jobLocation": {"@type": "Place", "address": {"@type": "PostalAddress", "addressLocality": "Bern", "addressCountry": "CH"}}}
</script></head><body><h1>Doctoral position in soil physics</h1><p>You will measure how water moves through soil.</p>
</body></html>"#;

/// Answers until the test ends.
async fn site(pages: Pages) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or("/");
            let (status, headers, body) = match pages.get(path) {
                Some((status, headers, body)) => (*status, headers.as_str(), body.as_str()),
                None => (404, "", "nothing here"),
            };
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\n\
                 connection: close\r\n{headers}\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

async fn bench(pages: Pages) -> (Bench, SocketAddr) {
    let address = site(pages).await;
    let allow = vec![Allowed { address, paced: false }];
    let config = FetchConfig { allow, ..FetchConfig::default() };
    (Bench::with(|pool| kinds::web::fetcher(pool, config)).await, address)
}

async fn run(bench: &Bench, discovery: domain::ids::DiscoveryId) -> (Attempt, Option<JobStatus>) {
    let job = bench.claim("extract", discovery, json!({})).await;
    let attempt = bench.cx.kinds.get("extract").unwrap().run(&bench.cx, &job).await;
    let status = moved(bench.settle(&job, attempt.clone()).await).transition.status;
    (attempt, Some(status))
}

#[tokio::test]
async fn a_page_with_structured_data_is_a_posting_seconds_after_its_discovery() {
    let pages = Pages::from([
        ("/jobs/42", (200, "etag: \"a\"\r\n".into(), POSTING.into())),
        ("/go", (302, "location: /jobs/42\r\n".into(), String::new())),
    ]);
    let (bench, address) = bench(pages).await;
    let module = bench.module("feed", "trusted").await;
    let discovery = bench.discovery(module, &format!("http://{address}/go")).await;
    let (attempt, status) = run(&bench, discovery).await;
    assert!(matches!(attempt, Attempt::Done(_)), "{attempt:?}");
    assert_eq!(status, Some(JobStatus::Done));
    let candidate = bench.candidate(discovery).await.unwrap();
    assert_eq!(
        (candidate.state.as_str(), candidate.reason.as_deref()),
        ("published", Some("trusted_auto_publish"))
    );
    assert_eq!(candidate.fields["canonical_url"], format!("http://{address}/jobs/42"));
    assert_eq!(candidate.fields["city"], "Bern");
    assert_eq!(candidate.confidence, 0.98);
    let posting = bench.posting(candidate.id).await.unwrap();
    assert_eq!((posting.status.as_str(), posting.visible), ("active", true));
    let text = "SELECT count(*) FROM evidence WHERE inline_text LIKE '%water moves through soil%' AND http ->> 'etag' = '\"a\"'";
    assert_eq!(bench.count(text).await, 1);
    assert_eq!(bench.count("SELECT count(*) FROM posting_checks WHERE etag = '\"a\"'").await, 1);
}

#[tokio::test]
async fn what_the_site_answers_decides_how_the_attempt_ends() {
    for (status, code, ends) in [
        (403, Some("http_403"), JobStatus::Failed),
        (451, Some("http_451"), JobStatus::Failed),
        (404, None, JobStatus::Done),
        (503, Some("http_503"), JobStatus::Queued),
    ] {
        let pages = Pages::from([("/jobs/42", (status, String::new(), "no".into()))]);
        let (bench, address) = bench(pages).await;
        let module = bench.module("feed", "trusted").await;
        let discovery = bench.discovery(module, &format!("http://{address}/jobs/42")).await;
        let (attempt, ended) = run(&bench, discovery).await;
        let said = match &attempt {
            Attempt::Dead { code, .. } | Attempt::Retry { code, .. } => Some(code.as_str()),
            _ => None,
        };
        assert_eq!((said, ended), (code, Some(ends)), "{status}");
        let discovery_status = match ends {
            JobStatus::Failed => ("failed".into(), code.map(str::to_owned)),
            JobStatus::Done => ("unusable".into(), Some("not_a_posting".into())),
            _ => ("received".into(), None),
        };
        assert_eq!(bench.discovery_status(discovery).await, discovery_status);
    }
}

#[tokio::test]
async fn an_address_inside_the_network_is_refused_for_good() {
    let (bench, _) = bench(Pages::new()).await;
    let module = bench.module("feed", "trusted").await;
    let discovery = bench.discovery(module, "http://10.0.0.1/jobs/42").await;
    let (attempt, ended) = run(&bench, discovery).await;
    assert!(
        matches!(&attempt, Attempt::Dead { code, message } if code == "fetch_refused" && !message.contains("10.0"))
    );
    assert_eq!(ended, Some(JobStatus::Failed));
    assert_eq!(bench.discovery_status(discovery).await, ("failed".into(), Some("fetch_refused".into())));
}

#[tokio::test]
async fn the_job_that_only_follows_needs_no_page() {
    let pages = Pages::from([
        ("/jobs/42", (200, String::new(), POSTING.into())),
        ("/go", (301, "location: /jobs/42\r\n".into(), String::new())),
    ]);
    let (bench, address) = bench(pages).await;
    let module = bench.module("feed", "trusted").await;
    let discovery = bench.discovery(module, &format!("http://{address}/go")).await;
    let job = bench.claim("resolve_url_redirects", discovery, json!({})).await;
    let attempt = bench.cx.kinds.get(&job.kind).unwrap().run(&bench.cx, &job).await;
    let settlement = moved(bench.settle(&job, attempt).await);
    assert_eq!(settlement.outcome, json!({"resolution": "applied"}));
}
