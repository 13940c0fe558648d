//! `callboard demo`: the main job on real input, from nothing.
//!
//! Everything is started, a connector is registered through the API, the bundled site's pages are handed in as any connector
//! would, and what became of each is asked of the API until it is settled. The waterfall is made of the spans that the
//! functions exported, by the trace id that the demonstration sent along. Nothing printed is made up.

mod outcome;
mod report;
mod waterfall;

use crate::client::{self, Call};
use crate::commands::module::{self, Identity};
use crate::commands::token::{self, Role};
use crate::commands::up::Stop;
use crate::database;
use crate::runner::{Options, Runner};
use crate::site::Site;
use crate::site::manifest::SiteDiscovery;
use crate::spans::Spans;
use anyhow::{Context as _, bail};
use jiff::Timestamp;
use outcome::Outcome;
use rand::RngExt as _;
use report::Style;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const SCOPES: [&str; 2] = ["discoveries:write", "evidence:write"];
/// A page that answers with an error is tried again after seconds; more than this is not waited for.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(40);
const TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);
/// So many matches of the search are shown.
const MATCHES_MAX: usize = 5;

/// One page that was handed in.
struct HandedIn<'a> {
    page: &'a SiteDiscovery,
    discovery_id: String,
    /// `accepted` or `resighted`, from the answer.
    ingest: String,
    trace_id: String,
}

/// Runs it in `data`, or in a directory that is gone afterwards; leaves everything running if `keep`.
///
/// # Errors
/// If something cannot be started, or the API refuses what a connector may do.
pub async fn run(keep: bool, data: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::listen()?;
    let begun = Instant::now();
    // Others may pass through: PostgreSQL, which refuses to run as root, then keeps its data inside too.
    let scratch = tempfile::Builder::new()
        .prefix("callboard-demo-")
        .permissions(std::fs::Permissions::from_mode(0o711))
        .tempdir()?;
    let data_dir = data.unwrap_or_else(|| scratch.path().to_owned());
    let spans = Spans::start().await?;
    // Sent after every event: the demonstration does not wait until its functions are ended.
    let environment = ["api", "dispatch", "worker"]
        .map(|function| (function.to_owned(), "OTEL_BSP_SCHEDULE_DELAY".to_owned(), "0".to_owned()));
    let options = Options {
        data_dir,
        port: 0,
        // From nothing; but a database that is not ours is not emptied unasked.
        fresh: database::given_url().is_none(),
        pooler: false,
        otlp: Some(spans.url()),
        allow_fetch: Vec::new(),
        site: true,
        worker_concurrency: None,
        environment: environment.to_vec(),
    };
    let runner = tokio::select! {
        started = Runner::start(&options, &|step| eprintln!("{step} …")) => started?,
        () = stop.asked() => bail!("stopped before everything was up"),
    };
    eprintln!("everything is up after {:.1} s", begun.elapsed().as_secs_f64());
    let succeeded = tokio::select! {
        shown = show(&runner, &spans) => shown,
        () = stop.asked() => Err(anyhow::anyhow!("stopped before everything was settled")),
    };
    eprintln!("the demonstration took {:.1} s", begun.elapsed().as_secs_f64());
    if keep && succeeded.is_ok() {
        eprintln!(
            "\nstill running: {}/  (data in {}; Ctrl-C stops it)",
            runner.instance().api,
            runner.data_dir().display()
        );
        stop.asked().await;
        eprintln!("stopping …");
    }
    runner.stop().await;
    Ok(if succeeded? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Hands everything in, waits, and prints. True if everything became what it should.
async fn show(runner: &Runner, spans: &Spans) -> anyhow::Result<bool> {
    let site = runner.site().context("the bundled site is not served")?;
    let api = runner.instance().api.as_str();
    let name = format!("demo-{}", Timestamp::now().as_second());
    let scopes = SCOPES.map(str::to_owned);
    let identity = module::create(runner.data_dir(), &name, &scopes, Some("trusted")).await?;
    let token = token::mint(runner.data_dir(), Role::Admin, "demo", TOKEN_LIFETIME)?;
    let bearer = format!("Bearer {token}");

    let pages = &site.manifest().discoveries;
    eprintln!("handing in {} pages as {} …", pages.len(), identity.module_id);
    let mut handed_in = Vec::new();
    for page in pages {
        handed_in.push(hand_in(api, site, page, &identity).await?);
    }
    eprintln!("waiting until each is settled …");
    let outcomes = settle(api, &bearer, &handed_in).await?;
    let first_published = outcomes.iter().position(Outcome::is_live);

    let style = Style::of_standard_output();
    let rows: Vec<report::Row<'_>> = handed_in
        .iter()
        .zip(&outcomes)
        .map(|(item, outcome)| report::Row { item, outcome, complaints: outcome.complaints(item) })
        .collect();
    report::table(style, &identity.module_id, &rows);
    if let Some(index) = first_published {
        search(style, api, &outcomes[index]).await?;
        let trace = waterfall::read(spans, &handed_in[index]).await;
        waterfall::print(style, &handed_in[index], &trace);
    }
    let succeeded = report::verdict(style, &rows);
    Ok(succeeded && first_published.is_some())
}

/// Hands one page in, with a trace of its own.
async fn hand_in<'a>(
    api: &str,
    site: &Site,
    page: &'a SiteDiscovery,
    identity: &Identity,
) -> anyhow::Result<HandedIn<'a>> {
    let (trace, span): (u128, u64) = (rand::rng().random(), rand::rng().random());
    let trace_id = format!("{trace:032x}");
    let traceparent = format!("00-{trace_id}-{span:016x}-01");
    let posted_at = Timestamp::now();
    let mut body = json!({
        "origin_module_id": identity.module_id,
        "url": site.url_of(page),
        "discovered_at": posted_at.to_string(),
    });
    for (member, value) in &page.hints {
        body[member.as_str()] = value.clone();
    }
    let call = Call::post(format!("{api}/discoveries"), &body)
        .header("x-module-id", &identity.module_id)
        .header("x-api-key", &identity.key)
        .header("traceparent", &traceparent);
    let answer = client::send(call).await?;
    if !answer.status.is_success() {
        bail!("{} was not accepted: {}", page.path, answer.problem());
    }
    let said = answer.json();
    let text = |member: &str| said[member].as_str().unwrap_or_default().to_owned();
    Ok(HandedIn { page, discovery_id: text("discovery_id"), ingest: text("outcome"), trace_id })
}

/// Asks for every page until nothing moves any more, or the limit has passed.
async fn settle(api: &str, bearer: &str, handed_in: &[HandedIn<'_>]) -> anyhow::Result<Vec<Outcome>> {
    let deadline = Instant::now() + SETTLE_LIMIT;
    let mut outcomes: Vec<Option<Outcome>> = handed_in.iter().map(|_| None).collect();
    loop {
        for (slot, item) in outcomes.iter_mut().zip(handed_in) {
            if !slot.as_ref().is_some_and(Outcome::is_settled) {
                *slot = Some(Outcome::ask(api, bearer, &item.discovery_id).await?);
            }
        }
        let settled = outcomes.iter().flatten().filter(|outcome| outcome.is_settled()).count();
        if settled == handed_in.len() {
            eprintln!("all {settled} are settled");
            break;
        }
        if Instant::now() >= deadline {
            eprintln!("{settled} of {} are settled after {} s", handed_in.len(), SETTLE_LIMIT.as_secs());
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(outcomes.into_iter().flatten().collect())
}

/// One search, for the words of a posting that was published a moment ago.
async fn search(style: Style, api: &str, published: &Outcome) -> anyhow::Result<()> {
    let words = search_words(published.title.as_deref().unwrap_or_default());
    let query: String = words.replace(' ', "+");
    let found = client::get_json(format!("{api}/postings?q={query}&limit={MATCHES_MAX}")).await?;
    let items = found["items"].as_array().cloned().unwrap_or_default();
    report::matches(style, &words, &items);
    Ok(())
}

/// The two longest plain words of a title.
fn search_words(title: &str) -> String {
    let mut words: Vec<&str> =
        title.split_whitespace().filter(|word| word.bytes().all(|byte| byte.is_ascii_alphabetic())).collect();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words.truncate(2);
    words.join(" ").to_lowercase()
}

/// A member of an answer as text.
fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_takes_the_longest_plain_words() {
        assert_eq!(search_words("PhD position in moss genomics (m/f/d)"), "position genomics");
        assert_eq!(search_words(""), "");
    }
}
