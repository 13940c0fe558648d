//! `GET /postings`

use crate::app::App;
use crate::conditional::public_json;
use crate::cursor::Binding;
use crate::json::parse_time;
use crate::params::Params;
use crate::problem::Problem;
use axum::extract::State;
use axum::response::Response;
use domain::posting::OpportunityKind;
use domain::state::PostingStatus;
use http::header::LINK;
use http::{HeaderMap, HeaderValue, Uri};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, TimestampRound, Unit};
use serde::Serialize;
use store::posting_search::{Direction, PostingFilter, PostingItem, Sort, When, postings_search};
use utoipa::ToSchema;

/// http-api.md §1.
const LIMIT_DEFAULT: i64 = 20;
const LIMIT_MAX: i64 = 100;
/// http-api.md §3: a repeatable filter may be given this often.
const VALUES_MAX: usize = 10;
const VALUE_CHARS_MAX: usize = 100;
const Q_CHARS_MAX: usize = 200;
/// A cursor ends on a full five minutes, so that a list that did not change keeps its ETag that long.
const CURSOR_STEP_MINUTES: i64 = 5;

/// A posting as lists show it.
#[derive(Debug, Serialize, ToSchema)]
pub struct PostingOut {
    #[schema(value_type = uuid::Uuid)]
    id: String,
    title: String,
    organization_name: String,
    /// The posting's own address.
    canonical_url: String,
    /// Where one applies.
    application_url: Option<String>,
    #[schema(value_type = String)]
    status: PostingStatus,
    /// ISO 3166-1 alpha-2.
    country: Option<String>,
    region: Option<String>,
    city: Option<String>,
    remote: bool,
    tags: Vec<String>,
    areas: Vec<String>,
    #[schema(value_type = Option<String>)]
    opportunity_kind: Option<OpportunityKind>,
    degree_level: Option<String>,
    /// The instant after which applications are late.
    #[schema(value_type = Option<String>, format = DateTime)]
    deadline: Option<Timestamp>,
    /// The publisher's calendar day of the deadline.
    #[schema(value_type = Option<String>, format = Date)]
    deadline_date: Option<Date>,
    #[schema(value_type = String, format = DateTime)]
    published_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was last confirmed to be open.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_confirmed_at: Option<Timestamp>,
    /// At most 280 characters.
    summary: Option<String>,
}

impl From<PostingItem> for PostingOut {
    fn from(item: PostingItem) -> Self {
        Self {
            id: item.id.to_string(),
            title: item.title,
            organization_name: item.organization_name,
            canonical_url: item.canonical_url,
            application_url: item.application_url,
            status: item.status,
            country: item.country,
            region: item.region,
            city: item.city,
            remote: item.remote,
            tags: item.tags,
            areas: item.areas,
            opportunity_kind: item.opportunity_kind,
            degree_level: item.degree_level,
            deadline: item.deadline,
            deadline_date: item.deadline_date,
            published_at: item.published_at,
            updated_at: item.updated_at,
            created_at: item.created_at,
            last_confirmed_at: item.last_confirmed_at,
            summary: item.summary,
        }
    }
}

/// A page of postings.
#[derive(Debug, Serialize, ToSchema)]
pub struct PostingsOut {
    items: Vec<PostingOut>,
    /// Where the next page begins; null on the last.
    next_cursor: Option<String>,
}

/// What a list is made by, without `limit` and `cursor`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListQuery {
    /// Which postings.
    pub filter: PostingFilter,
    /// In which order.
    pub sort: Sort,
    /// From which end.
    pub direction: Direction,
}

/// Postings that match every filter, 20 to a page.
#[utoipa::path(
    get, path = "/postings", tag = "catalogue",
    params(
        ("q" = Option<String>, Query, description = "Words as in a web search: quotes, `or`, `-`; 1 to 200 characters"),
        ("organization_name" = Option<String>, Query, description = "A part of the name, its beginning if shorter than 3 characters; accents and case do not matter"),
        ("country" = Option<Vec<String>>, Query, description = "ISO code; any of up to 10"),
        ("region" = Option<String>, Query, description = "Exact, without case"),
        ("city" = Option<String>, Query, description = "Exact, without case"),
        ("tag" = Option<Vec<String>>, Query, description = "Exact, without case; any of up to 10"),
        ("area" = Option<Vec<String>>, Query, description = "Exact, without case; any of up to 10"),
        ("opportunity_kind" = Option<Vec<String>>, Query, description = "Any of up to 10: phd, postdoc, fellowship, grant, call, faculty, research_staff, internship, other"),
        ("degree_level" = Option<String>, Query, description = "Exact, without case"),
        ("sector" = Option<String>, Query, description = "Exact, without case"),
        ("employment_type" = Option<String>, Query, description = "schema.org's word, such as FULL_TIME"),
        ("remote" = Option<bool>, Query, description = "Remote work, or none of it"),
        ("status" = Option<Vec<String>>, Query, description = "Any of active, stale, archived, closed; active and stale if absent"),
        ("deadline_after" = Option<String>, Query, description = "Deadlines from this day (the publisher's) or this instant on"),
        ("deadline_before" = Option<String>, Query, description = "Deadlines before this day or this instant"),
        ("published_after" = Option<String>, Query, description = "Published since this day (UTC) or this instant"),
        ("source" = Option<String>, Query, description = "Known from this module"),
        ("sort_by" = Option<String>, Query, description = "relevance (only with q, and then the default), created_at, updated_at, deadline, published_at (the default)"),
        ("sort_dir" = Option<String>, Query, description = "asc or desc; desc if absent, asc for deadline. Without deadline comes last in both"),
        ("limit" = Option<i64>, Query, description = "1 to 100; 20 if absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before, with the same filters"),
    ),
    responses(
        (status = 200, body = PostingsOut, description = "`Link: rel=\"next\"` leads to the next page"),
        (status = 304, description = "Nothing changed since `If-None-Match`"),
    )
)]
pub async fn list(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let mut params = Params::new(&uri);
    let query = read_query(&mut params);
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX);
    let cursor = params.cursor();
    params.finish()?;

    let now = app.now();
    let binding = Binding::new("/postings", &query);
    let after = match &cursor {
        Some(cursor) => Some(app.cursors.open(&app.pool, now, &binding, cursor).await?),
        None => None,
    };
    let page = {
        let client = app.pool.get().await?;
        postings_search(&**client, &query.filter, query.sort, query.direction, after, now, limit).await?
    };
    let next_cursor = match page.next {
        Some(next) => Some(app.cursors.seal(&app.pool, cursor_instant(now), &binding, next).await?),
        None => None,
    };
    let link = next_cursor.as_deref().and_then(|cursor| next_link(&uri, cursor));
    let body = PostingsOut { items: page.items.into_iter().map(PostingOut::from).collect(), next_cursor };
    let mut response = public_json(&headers, &body)?;
    if let Some(link) = link {
        response.headers_mut().insert(LINK, link);
    }
    Ok(response)
}

/// Reads everything but `limit` and `cursor`; what is wrong is kept in `params`.
pub fn read_query(params: &mut Params) -> ListQuery {
    let filter = PostingFilter {
        q: words(params, "q", Q_CHARS_MAX),
        organization_name: words(params, "organization_name", VALUE_CHARS_MAX),
        countries: params.many("country", VALUES_MAX, VALUE_CHARS_MAX),
        region: params.text("region", VALUE_CHARS_MAX),
        city: params.text("city", VALUE_CHARS_MAX),
        tags: params.many("tag", VALUES_MAX, VALUE_CHARS_MAX),
        areas: params.many("area", VALUES_MAX, VALUE_CHARS_MAX),
        opportunity_kinds: kinds(params),
        degree_level: params.text("degree_level", VALUE_CHARS_MAX),
        sector: params.text("sector", VALUE_CHARS_MAX),
        employment_type: params.text("employment_type", VALUE_CHARS_MAX),
        remote: params.bool("remote"),
        statuses: statuses(params),
        deadline_after: params.parsed("deadline_after", parse_when, WHEN_EXPECTED),
        deadline_before: params.parsed("deadline_before", parse_when, WHEN_EXPECTED),
        published_after: params.parsed("published_after", parse_when, WHEN_EXPECTED).and_then(start),
        source: params.text("source", VALUE_CHARS_MAX),
    };
    let sort = params.parsed("sort_by", parse_sort, SORT_EXPECTED);
    if sort == Some(Sort::Relevance) && filter.q.is_none() {
        params.error("sort_by", "value", "relevance needs q.");
    }
    let sort = sort.unwrap_or(if filter.q.is_some() { Sort::Relevance } else { Sort::PublishedAt });
    let direction = params.parsed("sort_dir", parse_direction, "asc or desc").unwrap_or(match sort {
        Sort::Deadline => Direction::Asc,
        _ => Direction::Desc,
    });
    ListQuery { filter, sort, direction }
}

const WHEN_EXPECTED: &str = "a day such as 2026-12-31, or an RFC 3339 time with an offset";
const SORT_EXPECTED: &str = "relevance, created_at, updated_at, deadline or published_at";

/// Blanks alone would match everything, as a filter that was dropped.
fn words(params: &mut Params, name: &'static str, chars_max: usize) -> Option<String> {
    let text = params.text(name, chars_max)?;
    if text.trim().is_empty() {
        params.error(name, "value", "This must not be blank.");
        return None;
    }
    Some(text)
}

fn kinds(params: &mut Params) -> Vec<String> {
    let kinds = params.many("opportunity_kind", VALUES_MAX, VALUE_CHARS_MAX);
    let known = |kind: &String| OpportunityKind::parse(&kind.to_lowercase()).is_some();
    if !kinds.iter().all(known) {
        let names = OpportunityKind::ALL.map(OpportunityKind::as_str).join(", ");
        params.error("opportunity_kind", "value", format!("This must be one of {names}."));
    }
    kinds
}

fn statuses(params: &mut Params) -> Vec<PostingStatus> {
    let mut statuses = Vec::new();
    for text in params.many("status", VALUES_MAX, VALUE_CHARS_MAX) {
        match text.to_lowercase().parse() {
            Ok(status) => statuses.push(status),
            Err(_) => params.error("status", "value", "This must be active, stale, archived or closed."),
        }
    }
    if statuses.is_empty() { vec![PostingStatus::Active, PostingStatus::Stale] } else { statuses }
}

fn parse_when(text: &str) -> Option<When> {
    let is_day = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if is_day { text.parse().ok().map(When::Day) } else { parse_time(text).map(When::Instant) }
}

/// The instant, or the beginning of the day in UTC.
fn start(when: When) -> Option<Timestamp> {
    match when {
        When::Instant(at) => Some(at),
        When::Day(day) => day.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp()),
    }
}

fn parse_sort(text: &str) -> Option<Sort> {
    Some(match text {
        "relevance" => Sort::Relevance,
        "created_at" => Sort::CreatedAt,
        "updated_at" => Sort::UpdatedAt,
        "deadline" => Sort::Deadline,
        "published_at" => Sort::PublishedAt,
        _ => return None,
    })
}

fn parse_direction(text: &str) -> Option<Direction> {
    match text {
        "asc" => Some(Direction::Asc),
        "desc" => Some(Direction::Desc),
        _ => None,
    }
}

/// `now`, back to the last full step.
fn cursor_instant(now: Timestamp) -> Timestamp {
    let round = TimestampRound::new()
        .smallest(Unit::Minute)
        .increment(CURSOR_STEP_MINUTES)
        .mode(jiff::RoundMode::Floor);
    now.round(round).unwrap_or(now - SignedDuration::ZERO)
}

/// The same query with another cursor, as a link relative to the origin.
fn next_link(uri: &Uri, cursor: &str) -> Option<HeaderValue> {
    let mut pairs: Vec<&str> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && *pair != "cursor" && !pair.starts_with("cursor="))
        .collect();
    let cursor = format!("cursor={cursor}");
    pairs.push(&cursor);
    HeaderValue::try_from(format!("<{}?{}>; rel=\"next\"", uri.path(), pairs.join("&"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn read(query: &str) -> Result<ListQuery, Value> {
        let mut params = Params::new(&format!("/postings?{query}").parse().unwrap());
        let read = read_query(&mut params);
        params.finish().map(|()| read).map_err(|problem| problem.to_json("/postings", "r"))
    }

    #[test]
    fn the_defaults_are_live_postings_the_newest_first() {
        let query = read("").unwrap();
        assert_eq!(query.filter.statuses, [PostingStatus::Active, PostingStatus::Stale]);
        assert_eq!((query.sort, query.direction), (Sort::PublishedAt, Direction::Desc));
        let query = read("q=x").unwrap();
        assert_eq!((query.sort, query.direction), (Sort::Relevance, Direction::Desc));
        let query = read("sort_by=deadline").unwrap();
        assert_eq!((query.sort, query.direction), (Sort::Deadline, Direction::Asc));
        let query = read("q=x&sort_by=deadline&sort_dir=desc").unwrap();
        assert_eq!((query.sort, query.direction), (Sort::Deadline, Direction::Desc));
    }

    #[test]
    fn every_filter_is_read() {
        let query = read(
            "q=x&organization_name=o&country=de&country=FR&region=r&city=c&tag=a&tag=b&area=d&opportunity_kind=PhD\
             &degree_level=e&sector=s&employment_type=FULL_TIME&remote=true&status=closed&deadline_after=2026-12-01\
             &deadline_before=2026-12-31T00:00:00Z&published_after=2026-11-01&source=m",
        )
        .unwrap();
        let text = |value: &str| Some(value.to_owned());
        let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            query.filter,
            PostingFilter {
                q: text("x"),
                organization_name: text("o"),
                countries: list(&["de", "FR"]),
                region: text("r"),
                city: text("c"),
                tags: list(&["a", "b"]),
                areas: list(&["d"]),
                opportunity_kinds: list(&["PhD"]),
                degree_level: text("e"),
                sector: text("s"),
                employment_type: text("FULL_TIME"),
                remote: Some(true),
                statuses: vec![PostingStatus::Closed],
                deadline_after: Some(When::Day("2026-12-01".parse().unwrap())),
                deadline_before: Some(When::Instant("2026-12-31T00:00:00Z".parse().unwrap())),
                published_after: Some("2026-11-01T00:00:00Z".parse().unwrap()),
                source: text("m"),
            }
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_and_never_dropped() {
        let long = format!("q={}", "x".repeat(201));
        let many = format!("tag=x{}", "&tag=x".repeat(10));
        for (query, pointer) in [
            ("sort_by=relevance", "sort_by"),
            ("sort_by=title", "sort_by"),
            ("sort_dir=down", "sort_dir"),
            ("q=", "q"),
            ("q=%20%20", "q"),
            ("organization_name=%20", "organization_name"),
            (&long, "q"),
            (&many, "tag"),
            ("status=live", "status"),
            ("opportunity_kind=job", "opportunity_kind"),
            ("remote=yes", "remote"),
            ("deadline_after=tomorrow", "deadline_after"),
            ("deadline_before=2026-02-30", "deadline_before"),
            ("published_after=2026-01-01T00:00:00", "published_after"),
            ("region=a&region=b", "region"),
            ("order=asc", "order"),
        ] {
            let body = read(query).unwrap_err();
            assert_eq!(body["status"], 422, "{query}");
            assert_eq!(body["errors"][0]["pointer"], format!("#/query/{pointer}"), "{query}");
        }
    }

    #[test]
    fn the_next_link_keeps_the_query_and_changes_the_cursor() {
        let link = |uri: &str| next_link(&uri.parse().unwrap(), "new").unwrap();
        assert_eq!(link("/postings"), "</postings?cursor=new>; rel=\"next\"");
        assert_eq!(
            link("/postings?q=a+b&cursor=old&tag=%C3%A9"),
            "</postings?q=a+b&tag=%C3%A9&cursor=new>; rel=\"next\""
        );
    }

    #[test]
    fn cursors_end_on_full_steps() {
        let at = |text: &str| cursor_instant(text.parse().unwrap()).to_string();
        assert_eq!(at("2026-11-25T22:04:59.999999Z"), "2026-11-25T22:00:00Z");
        assert_eq!(at("2026-11-25T22:05:00Z"), "2026-11-25T22:05:00Z");
    }
}
