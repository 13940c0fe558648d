//! The way out: one URL, followed to its end.

use crate::address::Class;
use crate::body::{self, Coding, Overflow};
use crate::config::{FetchConfig, PRODUCT_TOKEN};
use crate::connect::{self, Connect, TcpConnect, Tls};
use crate::error::{FetchError, RedirectFault, WaitReason};
use crate::exchange::{self, Answer};
use crate::hosts::{HostRecord, Hosts, MemoryHosts};
use crate::judge::{JudgedAddr, Target};
use crate::limits::{
    FEED_BODY_MAX_BYTES, PAGE_BODY_MAX_BYTES, PAGE_HOPS_MAX, RESOLVE_HOPS_MAX, ROBOTS_HOPS_MAX,
    ROBOTS_MAX_BYTES, URL_MAX_CHARS,
};
use crate::measure;
use crate::pace::{self, MemoryPace, Pace, SeamError};
use crate::permit::{self, Held};
use crate::request::{Hop, Request, RequestKind, Response};
use crate::resolve::{Resolve, SystemResolver};
use crate::retry_after;
use crate::robots::{self, Robots, RobotsAnswer, RobotsState};
use bytes::Bytes;
use http::{Method, header};
use jiff::Timestamp;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use telemetry::label::RobotsVerdict;
use telemetry::metric;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;
use url::{Position, Url};
use uuid::Uuid;

/// What the fetcher needs from outside itself.
#[derive(Clone)]
pub struct Seams {
    /// Names to addresses.
    pub resolver: Arc<dyn Resolve>,
    /// Judged addresses to connections.
    pub connector: Arc<dyn Connect>,
    /// Permits and turns.
    pub pace: Arc<dyn Pace>,
    /// Policies and robots.txt.
    pub hosts: Arc<dyn Hosts>,
}

/// The only way out to addresses that came from outside. Cloning shares it.
#[derive(Clone)]
pub struct Fetcher {
    inner: Arc<Inner>,
}

struct Inner {
    config: FetchConfig,
    user_agent: String,
    tls: Tls,
    seams: Seams,
}

impl Inner {
    fn tls<'a>(&'a self, target: &'a Target) -> Option<(&'a Tls, &'a str)> {
        target.is_https().then(|| (&self.tls, target.host()))
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// Opens nothing.
    #[must_use]
    pub fn new(config: FetchConfig, seams: Seams) -> Self {
        let (user_agent, tls) = (config.user_agent(), Tls::new(config.extra_roots.clone()));
        Self { inner: Arc::new(Inner { config, user_agent, tls, seams }) }
    }

    /// With the machine's resolver and sockets, and the pace and hosts given.
    #[must_use]
    pub fn with(config: FetchConfig, pace: Arc<dyn Pace>, hosts: Arc<dyn Hosts>) -> Self {
        let seams =
            Seams { resolver: Arc::new(SystemResolver), connector: Arc::new(TcpConnect), pace, hosts };
        Self::new(config, seams)
    }

    /// With pace and robots kept in this process only.
    #[must_use]
    pub fn in_memory(config: FetchConfig) -> Self {
        Self::with(config, Arc::new(MemoryPace::default()), Arc::new(MemoryHosts::default()))
    }

    /// Asks for a URL and follows it to its end, politely: one round trip to the hosts' records and two to the pace for
    /// each host of the chain. The permit is given back before it returns; a dropped call gives it back as well, as far
    /// as there is a runtime to do it.
    ///
    /// # Errors
    /// [`FetchError`], by what to do about it.
    pub async fn get(&self, request: &Request) -> Result<Response, FetchError> {
        let mut chain = Chain {
            inner: &self.inner,
            request,
            visited: HashSet::new(),
            hops: Vec::new(),
            downgraded: false,
            clock: Clock::new(self.inner.config.limits.total, request.deadline),
            host: None,
        };
        let started = std::time::Instant::now();
        let first = Target::parse(&request.url, &self.inner.config.allow);
        let is_listed = first.as_ref().is_ok_and(Target::is_allowed);
        let span = measure::span(request, is_listed);
        let result = async {
            let result = chain.run(first?).await;
            chain.leave().await;
            result
        }
        .instrument(span.clone())
        .await;
        measure::ended(&span, started.elapsed(), is_listed, &result);
        result
    }
}

/// What is left of a request's time: the network's share, which waiting for a turn does not use up, and the caller's.
#[derive(Debug, Clone, Copy)]
struct Clock {
    left: Duration,
    deadline: Option<Instant>,
}

impl Clock {
    fn new(total: Duration, deadline: Option<std::time::Instant>) -> Self {
        Self { left: total, deadline: deadline.map(Instant::from_std) }
    }

    /// Runs a piece of network work within what is left, and takes its time off.
    async fn run<T>(&mut self, work: impl Future<Output = Result<T, FetchError>>) -> Result<T, FetchError> {
        let started = Instant::now();
        let to_deadline = self.deadline.map(|at| at.saturating_duration_since(started));
        let limit = to_deadline.map_or(self.left, |length| length.min(self.left));
        let result = timeout(limit, work).await;
        self.left = self.left.saturating_sub(started.elapsed());
        result.unwrap_or_else(|_| Err(FetchError::transient("timeout")))
    }
}

/// The host of the chain's present hop, with what is known of it and its permit.
struct HostHeld {
    host: String,
    record: HostRecord,
    permit: Option<Held>,
}

/// One call of [`Fetcher::get`] on its way.
struct Chain<'a> {
    inner: &'a Inner,
    request: &'a Request,
    visited: HashSet<String>,
    hops: Vec<Hop>,
    downgraded: bool,
    clock: Clock,
    host: Option<HostHeld>,
}

/// The end of a hop.
enum Step {
    Redirect(Url),
    End(Box<Response>),
}

impl Chain<'_> {
    async fn run(&mut self, first: Target) -> Result<Response, FetchError> {
        let hops_max = match self.request.kind {
            RequestKind::Resolve => RESOLVE_HOPS_MAX,
            RequestKind::Page | RequestKind::Feed => PAGE_HOPS_MAX,
        };
        let allow = &self.inner.config.allow;
        let mut target = first;
        loop {
            if !self.visited.insert(target.url().as_str().to_owned()) {
                return Err(FetchError::Redirects { reason: RedirectFault::Loop });
            }
            match self.hop(&target).await? {
                Step::End(response) => return Ok(*response),
                Step::Redirect(_) if self.visited.len() > hops_max => {
                    return Err(FetchError::Redirects { reason: RedirectFault::TooMany });
                }
                Step::Redirect(url) => {
                    let next = Target::from_url(url, allow)?;
                    self.downgraded |= target.is_https() && !next.is_https();
                    target = next;
                }
            }
        }
    }

    /// Judges, waits for the turn, asks robots.txt, and asks for one URL.
    async fn hop(&mut self, target: &Target) -> Result<Step, FetchError> {
        let addresses = self.enter(target).await?;
        let first = match self.request.kind {
            RequestKind::Resolve => Method::HEAD,
            RequestKind::Page | RequestKind::Feed => Method::GET,
        };
        let mut answer = self.ask(target, &addresses, first.clone()).await;
        // Many servers answer HEAD wrongly, or not at all; the first byte of a GET tells the truth.
        let is_unusable = match &answer {
            Ok(answer) => answer.status >= 400 && !matches!(answer.status, 408 | 425 | 429),
            Err(FetchError::Transient { code, .. }) => matches!(code.as_str(), "protocol" | "truncated"),
            Err(_) => false,
        };
        if first == Method::HEAD && is_unusable {
            answer = self.ask(target, &addresses, Method::GET).await;
        }
        let answer = answer?;
        let status = answer.status;
        self.hops.push(Hop { url: target.url().as_str().to_owned(), status });
        if let Some(next) = location(&answer, target.url())? {
            return Ok(Step::Redirect(next));
        }
        if matches!(status, 408 | 425 | 429 | 500..=599) {
            let retry_after = answer
                .header(header::RETRY_AFTER)
                .and_then(|value| retry_after::parse(&value, Timestamp::now()));
            return Err(FetchError::Transient { code: format!("http_{status}"), retry_after });
        }
        self.finish(target, answer).await.map(|response| Step::End(Box::new(response)))
    }

    /// Everything before the request itself: policy, port, addresses, permit, robots.txt.
    async fn enter(&mut self, target: &Target) -> Result<Vec<JudgedAddr>, FetchError> {
        let seams = &self.inner.seams;
        let host = target.host();
        let is_first = self.host.is_none();
        if self.host.as_ref().is_none_or(|held| held.host != host) {
            // The permit of the host before is given back before another is waited for: no two calls wait for each other.
            self.leave().await;
            let record = seams.hosts.get(host).await.map_err(seam)?;
            self.host = Some(HostHeld { host: host.to_owned(), record, permit: None });
        }
        let Some(held) = self.host.as_mut() else { return Err(FetchError::transient("seam")) };
        if !held.record.policy.enabled {
            return Err(Class::HostDisabled.into());
        }
        target.judge_port(&held.record.policy.extra_ports)?;
        let addresses = self.clock.run(target.resolve(seams.resolver.as_ref())).await?;

        let path = &target.url()[Position::BeforePath..Position::AfterQuery];
        // What is known to be forbidden needs no turn.
        let mut rules = judge_robots(&held.record, Timestamp::now())?;
        check_rules(rules.as_ref(), path)?;
        if target.is_paced() && held.permit.is_none() {
            let delay = rules.as_ref().and_then(|rules| rules.crawl_delay);
            let gap = pace::gap(Some(held.record.policy.min_interval), delay);
            let patience = if is_first { permit::FIRST_PATIENCE } else { permit::HOP_PATIENCE };
            let (permit, waited) =
                permit::acquire(&seams.pace, host, gap, self.request.job, patience, self.clock.deadline)
                    .await?;
            held.permit = Some(permit);
            if waited && rules.is_none() {
                held.record = seams.hosts.get(host).await.map_err(seam)?;
                rules = judge_robots(&held.record, Timestamp::now())?;
            }
            if rules.is_none() {
                rules = Some(self.fetch_robots(target, &addresses, gap).await?);
            }
        } else if rules.is_none() {
            rules = Some(self.fetch_robots(target, &addresses, Duration::ZERO).await?);
        }
        check_rules(rules.as_ref(), path)?;
        metric::FETCH_ROBOTS.add(1, RobotsVerdict::Allowed);
        Ok(addresses)
    }

    /// Asks the target's host for robots.txt, under its permit, and keeps what comes.
    async fn fetch_robots(
        &mut self,
        target: &Target,
        addresses: &[JudgedAddr],
        gap: Duration,
    ) -> Result<Robots, FetchError> {
        let seams = &self.inner.seams;
        let mut ask = RobotsAsk {
            inner: self.inner,
            job: self.request.job,
            clock: Clock { left: self.inner.config.limits.total, deadline: self.clock.deadline },
        };
        let answer = ask.follow(target, addresses).await?;
        let Some(held) = self.host.as_mut() else { return Err(FetchError::transient("seam")) };
        let record = robots::after(held.record.robots.as_ref(), answer, Timestamp::now());
        seams.hosts.put_robots(&held.host, &record).await.map_err(seam)?;
        held.record.robots = Some(record);
        // A record that was written just now is never `Ask`.
        let rules = judge_robots(&held.record, Timestamp::now())?.unwrap_or_default();
        if let Some(delay) = rules.crawl_delay
            && let Some(permit) = &held.permit
        {
            let wider = pace::gap(Some(held.record.policy.min_interval), Some(delay));
            if wider > gap {
                seams.pace.stretch(permit.permit(), wider).await.map_err(seam)?;
            }
        }
        Ok(rules)
    }

    async fn ask(
        &mut self,
        target: &Target,
        addresses: &[JudgedAddr],
        method: Method,
    ) -> Result<Answer, FetchError> {
        let kind = self.request.kind;
        let mut fields = vec![(header::ACCEPT, accept(kind))];
        if kind == RequestKind::Resolve {
            fields.push((header::ACCEPT_ENCODING, "identity"));
            if method == Method::GET {
                fields.push((header::RANGE, "bytes=0-0"));
            }
        } else {
            fields.push((header::ACCEPT_ENCODING, Coding::ACCEPTED));
        }
        if let Some(etag) = &self.request.if_none_match {
            fields.push((header::IF_NONE_MATCH, etag));
        }
        if let Some(date) = &self.request.if_modified_since {
            fields.push((header::IF_MODIFIED_SINCE, date));
        }
        let context = measure::outgoing_context(target);
        if let Some(context) = &context {
            fields.push((measure::TRACEPARENT, context));
        }
        let request = exchange::request(method, target.url(), &self.inner.user_agent, &fields, Bytes::new())?;
        let limits = self.inner.config.limits;
        let (connector, tls) = (self.inner.seams.connector.as_ref(), self.inner.tls(target));
        self.clock
            .run(async {
                let stream = connect::open(connector, addresses, tls, limits.connect).await?;
                exchange::send(stream, request, limits.first_byte).await
            })
            .await
    }

    /// Reads the body of the last answer.
    async fn finish(&mut self, target: &Target, answer: Answer) -> Result<Response, FetchError> {
        let kind = self.request.kind;
        let is_conditional = self.request.if_none_match.is_some() || self.request.if_modified_since.is_some();
        let not_modified = answer.status == 304;
        if not_modified && !is_conditional {
            return Err(FetchError::transient("unexpected_304"));
        }
        let headers: Vec<_> = answer
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), exchange::field_text(value.as_bytes())))
            .collect();
        let content_type = answer.header(header::CONTENT_TYPE);
        let status = match (kind, answer.status) {
            // 206 and 416 answer the range of the fall-back, not the question.
            (RequestKind::Resolve, 206 | 416) => 200,
            (_, status) => status,
        };
        let body = if kind == RequestKind::Resolve || not_modified {
            Bytes::new()
        } else {
            let limit = match kind {
                RequestKind::Feed => FEED_BODY_MAX_BYTES,
                RequestKind::Page | RequestKind::Resolve => PAGE_BODY_MAX_BYTES,
            };
            self.clock.run(read_body(answer, limit, Overflow::Refuse)).await?
        };
        Ok(Response {
            final_url: target.url().as_str().to_owned(),
            status,
            headers,
            hops: std::mem::take(&mut self.hops),
            body,
            content_type,
            not_modified,
            downgraded: self.downgraded,
        })
    }

    /// Gives the permit of the present host back.
    async fn leave(&mut self) {
        if let Some(permit) = self.host.take().and_then(|held| held.permit) {
            permit.release().await;
        }
    }
}

async fn read_body(answer: Answer, limit: usize, overflow: Overflow) -> Result<Bytes, FetchError> {
    let coding = Coding::parse(&answer.header(header::CONTENT_ENCODING).unwrap_or_default())?;
    // A length that says so itself needs no reading. Nothing shrinks when it is decoded.
    let length = answer.header(header::CONTENT_LENGTH).and_then(|value| value.trim().parse::<u64>().ok());
    if overflow == Overflow::Refuse && length.is_some_and(|length| length > limit as u64) {
        return Err(FetchError::TooLarge { what: "body" });
    }
    body::read(answer.into_body(), coding, limit, overflow).await
}

fn accept(kind: RequestKind) -> &'static str {
    match kind {
        RequestKind::Page | RequestKind::Resolve => "text/html, application/xhtml+xml;q=0.9, */*;q=0.5",
        RequestKind::Feed => {
            "application/atom+xml, application/rss+xml, application/feed+json, application/xml;q=0.9, \
             text/xml;q=0.9, application/json;q=0.8, */*;q=0.5"
        }
    }
}

fn seam(error: SeamError) -> FetchError {
    tracing::warn!(%error, "the keeper of hosts does not answer");
    FetchError::transient("seam")
}

/// The rules that hold for a host now; None if robots.txt is to be asked for.
fn judge_robots(record: &HostRecord, now: Timestamp) -> Result<Option<Robots>, FetchError> {
    if !record.policy.obeys_robots {
        return Ok(Some(Robots::default()));
    }
    match robots::state(record.robots.as_ref(), now) {
        RobotsState::Rules(text) => Ok(Some(Robots::parse(text, PRODUCT_TOKEN))),
        RobotsState::Ask => Ok(None),
        RobotsState::Wait(until) => Err(FetchError::Wait { until, reason: WaitReason::Robots }),
        RobotsState::Unreachable(until) => {
            let retry_after = Duration::try_from(until.duration_since(now)).ok();
            Err(FetchError::Transient { code: "robots_unreachable".into(), retry_after })
        }
    }
}

fn check_rules(rules: Option<&Robots>, path: &str) -> Result<(), FetchError> {
    match rules {
        Some(rules) if !rules.allows(path) => Err(FetchError::RobotsDisallowed),
        _ => Ok(()),
    }
}

/// Where a redirect leads.
fn location(answer: &Answer, base: &Url) -> Result<Option<Url>, FetchError> {
    if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(value) = answer.header(header::LOCATION) else { return Ok(None) };
    let bad = FetchError::Redirects { reason: RedirectFault::BadLocation };
    if value.chars().count() > URL_MAX_CHARS {
        return Err(bad);
    }
    base.join(&value).map(Some).map_err(|_| bad)
}

/// One request for robots.txt, over redirects of its own that are judged as every other.
struct RobotsAsk<'a> {
    inner: &'a Inner,
    job: Option<Uuid>,
    clock: Clock,
}

enum RobotsHop {
    Redirect(Url),
    End(RobotsAnswer),
}

impl RobotsAsk<'_> {
    /// robots.txt of the target's host, whose addresses and permit the caller has.
    ///
    /// # Errors
    /// Only [`FetchError::Wait`] for the turn of another host that a redirect leads to.
    async fn follow(
        &mut self,
        target: &Target,
        addresses: &[JudgedAddr],
    ) -> Result<RobotsAnswer, FetchError> {
        let mut url = target.url().clone();
        url.set_path("/robots.txt");
        url.set_query(None);
        for _ in 0..=ROBOTS_HOPS_MAX {
            match self.hop(&url, target.host(), addresses).await {
                Ok(RobotsHop::Redirect(next)) => url = next,
                Ok(RobotsHop::End(answer)) => return Ok(answer),
                Err(error @ FetchError::Wait { .. }) => return Err(error),
                Err(FetchError::Transient { retry_after, .. }) => {
                    return Ok(RobotsAnswer::Unreachable(retry_after));
                }
                Err(_) => return Ok(RobotsAnswer::Unreachable(None)),
            }
        }
        // More redirects than are followed count as no rules (RFC 9309, section 2.3.1.2).
        Ok(RobotsAnswer::None)
    }

    async fn hop(
        &mut self,
        url: &Url,
        home: &str,
        addresses: &[JudgedAddr],
    ) -> Result<RobotsHop, FetchError> {
        let seams = &self.inner.seams;
        let target = Target::from_url(url.clone(), &self.inner.config.allow)?;
        let host = target.host();
        let record = seams.hosts.get(host).await.map_err(seam)?;
        if !record.policy.enabled {
            return Err(Class::HostDisabled.into());
        }
        target.judge_port(&record.policy.extra_ports)?;
        // The port is part of a judged address: the same host on another port is judged anew.
        let known = host == home && addresses.iter().all(|address| address.socket().port() == target.port());
        if known {
            return self.ask(&target, addresses).await;
        }
        let addresses = self.clock.run(target.resolve(seams.resolver.as_ref())).await?;
        if host == home || !target.is_paced() {
            return self.ask(&target, &addresses).await;
        }
        let gap = pace::gap(Some(record.policy.min_interval), None);
        let patience = permit::HOP_PATIENCE;
        let (held, _) =
            permit::acquire(&seams.pace, host, gap, self.job, patience, self.clock.deadline).await?;
        let result = self.ask(&target, &addresses).await;
        held.release().await;
        result
    }

    async fn ask(&mut self, target: &Target, addresses: &[JudgedAddr]) -> Result<RobotsHop, FetchError> {
        let Inner { config, user_agent, seams, .. } = self.inner;
        let fields = [(header::ACCEPT, "text/plain, */*;q=0.5"), (header::ACCEPT_ENCODING, Coding::ACCEPTED)];
        let request = exchange::request(Method::GET, target.url(), user_agent, &fields, Bytes::new())?;
        let limits = config.limits;
        let (connector, tls) = (seams.connector.as_ref(), self.inner.tls(target));
        self.clock
            .run(async {
                let stream = connect::open(connector, addresses, tls, limits.connect).await?;
                let answer = exchange::send(stream, request, limits.first_byte).await?;
                if let Some(next) = location(&answer, target.url())? {
                    return Ok(RobotsHop::Redirect(next));
                }
                let wish = answer
                    .header(header::RETRY_AFTER)
                    .and_then(|value| retry_after::parse(&value, Timestamp::now()));
                Ok(RobotsHop::End(match answer.status {
                    200..=299 => {
                        let body = read_body(answer, ROBOTS_MAX_BYTES, Overflow::Cut).await?;
                        // The database's text holds no NUL, and no rule needs one.
                        RobotsAnswer::Text(String::from_utf8_lossy(&body).replace('\0', ""))
                    }
                    429 => RobotsAnswer::Wait(wish),
                    300..=499 => RobotsAnswer::None,
                    _ => RobotsAnswer::Unreachable(wish),
                }))
            })
            .await
    }
}
