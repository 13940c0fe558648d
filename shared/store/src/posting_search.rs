//! `GET /postings`: every filter, sort and page of the public catalogue (§11).
//!
//! One statement a sort and direction, each with every filter in it: an absent filter is a null parameter. Statements
//! are unnamed, so that each execution is planned with its parameters' values and the absent filters are folded away
//! before an index is chosen.

use crate::sql::Word;
use crate::{Error, Statement};
use domain::ids::PostingId;
use domain::posting::OpportunityKind;
use domain::state::PostingStatus;
use domain::text::fold;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use telemetry::db::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// Folded organisations shorter than this are matched from the beginning only: no trigram would help.
const SUBSTRING_CHARS_MIN: usize = 3;

/// What is asked for. An empty list or `None` does not filter; within a list any value will do. All are
/// compared without case.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PostingFilter {
    /// Words as a person types them: quotes, `or` and `-` mean what they do in web searches.
    pub q: Option<String>,
    /// A part of the organisation's folded name; its beginning if shorter than three characters.
    pub organization_name: Option<String>,
    /// ISO codes.
    pub countries: Vec<String>,
    /// As the publisher writes it.
    pub region: Option<String>,
    /// As the publisher writes it.
    pub city: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Research areas.
    pub areas: Vec<String>,
    /// Words of [`OpportunityKind`].
    pub opportunity_kinds: Vec<String>,
    /// As the publisher writes it.
    pub degree_level: Option<String>,
    /// As the publisher writes it.
    pub sector: Option<String>,
    /// schema.org's word.
    pub employment_type: Option<String>,
    /// Remote work, or none of it.
    pub remote: Option<bool>,
    /// Never empty: nothing has no status.
    pub statuses: Vec<PostingStatus>,
    /// On this day or later, or not before this instant. Postings without deadline have none that is later.
    pub deadline_after: Option<When>,
    /// Before this day, or before this instant.
    pub deadline_before: Option<When>,
    /// Not before this instant.
    pub published_after: Option<Timestamp>,
    /// Known from a discovery of this module (its text id).
    pub source: Option<String>,
}

/// A bound of deadlines: a day is compared with the publisher's calendar day, an instant with the instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Whole days.
    Day(Date),
    /// To the microsecond.
    Instant(Timestamp),
}

/// What a list is sorted by; ties by id, in the same direction. Nulls come last in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Tier, rank, `published_at`. Only with words.
    Relevance,
    /// When the row was made.
    CreatedAt,
    /// Its last change.
    UpdatedAt,
    /// The instant after which applications are late.
    Deadline,
    /// When it was published.
    PublishedAt,
}

/// Which end comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Smallest first.
    Asc,
    /// Greatest first.
    Desc,
}

/// Where a page ended: the next begins behind it. A position of one sort means nothing in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// Sorted by an instant.
    Instant {
        /// The last row's; null among those without deadline.
        at: Option<Timestamp>,
        /// The last row.
        id: PostingId,
    },
    /// Sorted by relevance.
    Relevance {
        /// When the newest match of the first page's window was published: what was published later stays out of
        /// the walk, or it would push others out of the window between two pages.
        as_of: Timestamp,
        /// The last row's tier.
        tier: i32,
        /// The last row's `ts_rank_cd` in ten-thousandths.
        rank: i32,
        /// The last row's.
        published_at: Timestamp,
        /// The last row.
        id: PostingId,
    },
}

/// A row of the list.
#[derive(Debug, Clone, PartialEq)]
pub struct PostingItem {
    /// Key.
    pub id: PostingId,
    /// Title.
    pub title: String,
    /// Organisation.
    pub organization_name: String,
    /// The posting's own address.
    pub canonical_url: String,
    /// Where one applies.
    pub application_url: Option<String>,
    /// §6.
    pub status: PostingStatus,
    /// ISO code.
    pub country: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// City.
    pub city: Option<String>,
    /// Whether remote.
    pub remote: bool,
    /// Tags.
    pub tags: Vec<String>,
    /// Research areas.
    pub areas: Vec<String>,
    /// Kind.
    pub opportunity_kind: Option<OpportunityKind>,
    /// Degree.
    pub degree_level: Option<String>,
    /// The instant after which applications are late.
    pub deadline: Option<Timestamp>,
    /// The publisher's calendar day.
    pub deadline_date: Option<Date>,
    /// When it was published.
    pub published_at: Timestamp,
    /// Its last change.
    pub updated_at: Timestamp,
    /// When the row was made.
    pub created_at: Timestamp,
    /// When it was last confirmed to be open.
    pub last_confirmed_at: Option<Timestamp>,
    /// At most 280 characters.
    pub summary: Option<String>,
}

/// A page of the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// In order.
    pub items: Vec<PostingItem>,
    /// Where the next page begins, if there is one.
    pub next: Option<Position>,
}

macro_rules! english {
    () => {
        "websearch_to_tsquery('pg_catalog.english', search_unaccent($1))"
    };
}

macro_rules! simple {
    () => {
        "websearch_to_tsquery('pg_catalog.simple', search_unaccent($1))"
    };
}

/// The rows that a filter lets through; `$1…$20` in the order of [`PostingFilter`], days of deadlines last.
///
/// Each language is asked in its own configuration: a word that English drops or stems must not be looked for (or,
/// negated, be missed) in the words of another. Words that are all stop words match as the beginning of a title or
/// an organisation.
macro_rules! matches_filter {
    () => {
        concat!(
            "visible
        AND (
            $1::text IS NULL
            OR (search_config(language) = 'pg_catalog.english'::regconfig AND search @@ ",
            english!(),
            ")
            OR (search_config(language) <> 'pg_catalog.english'::regconfig AND search @@ ",
            simple!(),
            ")
            OR (numnode(",
            english!(),
            ") = 0 AND (title_fold LIKE $2 OR organization_fold LIKE $2))
        )
        AND ($3::text IS NULL OR organization_fold LIKE $3)
        AND ($4::text[] IS NULL OR country = ANY ($4))
        AND ($5::text IS NULL OR lower(region) = lower($5))
        AND ($6::text IS NULL OR lower(city) = lower($6))
        AND ($7::text[] IS NULL OR lower_all(tags) && lower_all($7))
        AND ($8::text[] IS NULL OR lower_all(areas) && lower_all($8))
        AND ($9::text[] IS NULL OR opportunity_kind = ANY ($9))
        AND ($10::text IS NULL OR lower(degree_level) = lower($10))
        AND ($11::text IS NULL OR lower(sector) = lower($11))
        AND ($12::text IS NULL OR lower($12) = ANY (lower_all(employment_type)))
        AND ($13::boolean IS NULL OR remote = $13)
        AND status = ANY ($14)
        AND ($15::timestamptz IS NULL OR deadline >= $15)
        AND ($16::timestamptz IS NULL OR deadline < $16)
        AND ($17::timestamptz IS NULL OR published_at >= $17)
        AND (
            $18::text IS NULL
            OR EXISTS (
                SELECT
                FROM candidate_discoveries AS link
                JOIN discoveries AS discovery ON discovery.id = link.discovery_id
                JOIN modules AS module ON module.id = discovery.origin_module_id
                WHERE link.candidate_id = postings.candidate_id
                    AND module.module_id = $18
                    AND discovery.status <> 'withdrawn'
            )
        )
        AND ($19::date IS NULL OR coalesce(deadline_date, (deadline AT TIME ZONE 'UTC')::date) >= $19)
        AND ($20::date IS NULL OR coalesce(deadline_date, (deadline AT TIME ZONE 'UTC')::date) < $20)"
        )
    };
}

macro_rules! item_columns {
    () => {
        "posting.id, posting.title, posting.organization_name, posting.canonical_url, posting.application_url,
    posting.status, posting.country, posting.region, posting.city, posting.remote, posting.tags, posting.areas,
    posting.opportunity_kind, posting.degree_level, posting.deadline, posting.deadline_date, posting.published_at,
    posting.updated_at, posting.created_at, freshness.last_confirmed_at, left(posting.summary, 280) AS summary"
    };
}

/// `$21` limit, `$22` and `$23` the last row's instant and id. Counts on the index of the sort, read from there on.
macro_rules! by_instant {
    ($column:literal, $order:literal, $beyond:literal) => {
        concat!(
            "\
WITH page AS (
    SELECT id
    FROM postings
    WHERE ",
            matches_filter!(),
            "
        AND ($22::timestamptz IS NULL OR (",
            $column,
            ", id) ",
            $beyond,
            " ($22, $23))
    ORDER BY ",
            $column,
            " ",
            $order,
            ", id ",
            $order,
            "
    LIMIT $21
)
SELECT
    ",
            item_columns!(),
            "
FROM page
JOIN postings AS posting ON posting.id = page.id
LEFT JOIN posting_checks AS freshness ON freshness.posting_id = page.id
ORDER BY posting.",
            $column,
            " ",
            $order,
            ", posting.id ",
            $order
        )
    };
}

/// `$21` limit, `$22` and `$23` the last row's deadline and id; an id without deadline is among those without one.
/// Two halves, because a row comparison reads an index from its place on, and an `OR` with nulls would not.
macro_rules! by_deadline {
    ($order:literal, $beyond:literal) => {
        concat!(
            "\
WITH page AS (
    (
        SELECT id, deadline
        FROM postings
        WHERE ",
            matches_filter!(),
            "
        AND deadline IS NOT NULL
        AND ($23::uuid IS NULL OR (deadline, id) ",
            $beyond,
            " ($22, $23))
        ORDER BY deadline ",
            $order,
            ", id ",
            $order,
            "
        LIMIT $21
    )
    UNION ALL
    (
        SELECT id, deadline
        FROM postings
        WHERE ",
            matches_filter!(),
            "
        AND deadline IS NULL
        AND ($23::uuid IS NULL OR $22::timestamptz IS NOT NULL OR id ",
            $beyond,
            " $23)
        ORDER BY id ",
            $order,
            "
        LIMIT $21
    )
    ORDER BY deadline ",
            $order,
            " NULLS LAST, id ",
            $order,
            "
    LIMIT $21
)
SELECT
    ",
            item_columns!(),
            "
FROM page
JOIN postings AS posting ON posting.id = page.id
LEFT JOIN posting_checks AS freshness ON freshness.posting_id = page.id
ORDER BY posting.deadline ",
            $order,
            " NULLS LAST, posting.id ",
            $order
        )
    };
}

/// `$21` limit, `$22` the instant of the first page, `$23` the folded words, `$24…$27` the last row's tier, rank,
/// `published_at` and id. What a page costs is bounded by the window, however common a word is: the newest 500
/// matches, and the newest 100 each whose title or organisation is what was typed.
macro_rules! by_relevance {
    ($order:literal, $beyond:literal) => {
        concat!(
            "\
WITH near AS (
    (
        SELECT id
        FROM postings
        WHERE ",
            matches_filter!(),
            "
        AND published_at <= $22
        ORDER BY published_at DESC, id DESC
        LIMIT 500
    )
    UNION
    (
        SELECT id
        FROM postings
        WHERE ",
            matches_filter!(),
            "
        AND published_at <= $22
        AND title_fold = $23
        ORDER BY published_at DESC, id DESC
        LIMIT 100
    )
    UNION
    (
        SELECT id
        FROM postings
        WHERE ",
            matches_filter!(),
            "
        AND published_at <= $22
        AND organization_fold = $23
        ORDER BY published_at DESC, id DESC
        LIMIT 100
    )
),
ranked AS (
    SELECT
        postings.id,
        postings.published_at,
        CASE
            WHEN title_fold = $23 THEN 600
            WHEN starts_with(title_fold, $23) THEN 500
            WHEN strpos(title_fold, $23) > 0 THEN 400
            WHEN organization_fold = $23 THEN 300
            WHEN starts_with(organization_fold, $23) THEN 250
            WHEN strpos(organization_fold, $23) > 0 THEN 200
            ELSE 100
        END AS tier,
        round(
            10000 * CASE
                WHEN search_config(language) = 'pg_catalog.english'::regconfig THEN ts_rank_cd(search, ",
            english!(),
            ")
                ELSE ts_rank_cd(search, ",
            simple!(),
            ")
            END
        )::integer AS rank
    FROM near
    JOIN postings ON postings.id = near.id
),
page AS (
    SELECT id, published_at, tier, rank
    FROM ranked
    WHERE $24::integer IS NULL OR (tier, rank, published_at, id) ",
            $beyond,
            " ($24, $25, $26, $27)
    ORDER BY tier ",
            $order,
            ", rank ",
            $order,
            ", published_at ",
            $order,
            ", id ",
            $order,
            "
    LIMIT $21
)
SELECT
    ",
            item_columns!(),
            ",
    page.tier,
    page.rank,
    (SELECT max(published_at) FROM ranked) AS newest_at
FROM page
JOIN postings AS posting ON posting.id = page.id
LEFT JOIN posting_checks AS freshness ON freshness.posting_id = page.id
ORDER BY page.tier ",
            $order,
            ", page.rank ",
            $order,
            ", page.published_at ",
            $order,
            ", page.id ",
            $order
        )
    };
}

const BY_PUBLISHED_DESC: &str = by_instant!("published_at", "DESC", "<");
const BY_PUBLISHED_ASC: &str = by_instant!("published_at", "ASC", ">");
const BY_CREATED_DESC: &str = by_instant!("created_at", "DESC", "<");
const BY_CREATED_ASC: &str = by_instant!("created_at", "ASC", ">");
const BY_UPDATED_DESC: &str = by_instant!("updated_at", "DESC", "<");
const BY_UPDATED_ASC: &str = by_instant!("updated_at", "ASC", ">");
const BY_DEADLINE_DESC: &str = by_deadline!("DESC", "<");
const BY_DEADLINE_ASC: &str = by_deadline!("ASC", ">");
const BY_RELEVANCE_DESC: &str = by_relevance!("DESC", "<");
const BY_RELEVANCE_ASC: &str = by_relevance!("ASC", ">");

macro_rules! types {
    ($($more:expr),*) => {
        &[
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT_ARRAY,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::BOOL,
            Type::TEXT_ARRAY,
            Type::TIMESTAMPTZ,
            Type::TIMESTAMPTZ,
            Type::TIMESTAMPTZ,
            Type::TEXT,
            Type::DATE,
            Type::DATE,
            Type::INT8,
            $($more),*
        ]
    };
}

const INSTANT_TYPES: &[Type] = types!(Type::TIMESTAMPTZ, Type::UUID);
const RELEVANCE_TYPES: &[Type] =
    types!(Type::TIMESTAMPTZ, Type::TEXT, Type::INT4, Type::INT4, Type::TIMESTAMPTZ, Type::UUID);

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "postings_by_published_desc", sql: BY_PUBLISHED_DESC, types: INSTANT_TYPES },
    Statement { name: "postings_by_published_asc", sql: BY_PUBLISHED_ASC, types: INSTANT_TYPES },
    Statement { name: "postings_by_created_desc", sql: BY_CREATED_DESC, types: INSTANT_TYPES },
    Statement { name: "postings_by_created_asc", sql: BY_CREATED_ASC, types: INSTANT_TYPES },
    Statement { name: "postings_by_updated_desc", sql: BY_UPDATED_DESC, types: INSTANT_TYPES },
    Statement { name: "postings_by_updated_asc", sql: BY_UPDATED_ASC, types: INSTANT_TYPES },
    Statement { name: "postings_by_deadline_desc", sql: BY_DEADLINE_DESC, types: INSTANT_TYPES },
    Statement { name: "postings_by_deadline_asc", sql: BY_DEADLINE_ASC, types: INSTANT_TYPES },
    Statement { name: "postings_by_relevance_desc", sql: BY_RELEVANCE_DESC, types: RELEVANCE_TYPES },
    Statement { name: "postings_by_relevance_asc", sql: BY_RELEVANCE_ASC, types: RELEVANCE_TYPES },
];

/// The statement of a sort, and the types of its parameters.
fn statement(sort: Sort, direction: Direction) -> (&'static str, &'static [Type]) {
    match (sort, direction) {
        (Sort::PublishedAt, Direction::Desc) => (BY_PUBLISHED_DESC, INSTANT_TYPES),
        (Sort::PublishedAt, Direction::Asc) => (BY_PUBLISHED_ASC, INSTANT_TYPES),
        (Sort::CreatedAt, Direction::Desc) => (BY_CREATED_DESC, INSTANT_TYPES),
        (Sort::CreatedAt, Direction::Asc) => (BY_CREATED_ASC, INSTANT_TYPES),
        (Sort::UpdatedAt, Direction::Desc) => (BY_UPDATED_DESC, INSTANT_TYPES),
        (Sort::UpdatedAt, Direction::Asc) => (BY_UPDATED_ASC, INSTANT_TYPES),
        (Sort::Deadline, Direction::Desc) => (BY_DEADLINE_DESC, INSTANT_TYPES),
        (Sort::Deadline, Direction::Asc) => (BY_DEADLINE_ASC, INSTANT_TYPES),
        (Sort::Relevance, Direction::Desc) => (BY_RELEVANCE_DESC, RELEVANCE_TYPES),
        (Sort::Relevance, Direction::Asc) => (BY_RELEVANCE_ASC, RELEVANCE_TYPES),
    }
}

/// A `LIKE` pattern's wildcards, taken literally.
fn escape_like(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '%' | '_') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn organization_pattern(name: &str) -> String {
    let folded = fold(name);
    let is_prefix = folded.chars().count() < SUBSTRING_CHARS_MIN;
    format!("{}{}%", if is_prefix { "" } else { "%" }, escape_like(&folded))
}

fn any_of(values: &[String]) -> Option<&[String]> {
    (!values.is_empty()).then_some(values)
}

/// One page of the public list: visible postings that `filter` lets through, behind `after`, at most `limit`.
///
/// Nothing published after `now` is in a list by relevance. One round trip.
///
/// # Errors
/// [`Error`], of the database only. A position of another sort begins the list again: who hands out cursors binds
/// them to their sort.
pub async fn postings_search(
    client: &impl GenericClient,
    filter: &PostingFilter,
    sort: Sort,
    direction: Direction,
    after: Option<Position>,
    now: Timestamp,
    limit: i64,
) -> Result<Page, Error> {
    let (sql, types) = statement(sort, direction);
    let folded = filter.q.as_deref().map(fold).unwrap_or_default();
    let prefix = format!("{}%", escape_like(&folded));
    let organization = filter.organization_name.as_deref().map(organization_pattern);
    let countries: Vec<String> = filter.countries.iter().map(|code| code.to_uppercase()).collect();
    let kinds: Vec<String> = filter.opportunity_kinds.iter().map(|kind| kind.to_lowercase()).collect();
    let statuses: Vec<&str> = filter.statuses.iter().map(|status| status.as_str()).collect();
    let instant = |bound: Option<When>| if let Some(When::Instant(at)) = bound { Some(at) } else { None };
    let day = |bound: Option<When>| if let Some(When::Day(day)) = bound { Some(day) } else { None };
    let deadline_instants = (instant(filter.deadline_after), instant(filter.deadline_before));
    let deadline_days = (day(filter.deadline_after), day(filter.deadline_before));
    let one_more = limit.saturating_add(1);
    let (countries, kinds) = (any_of(&countries), any_of(&kinds));
    let (tags, areas) = (any_of(&filter.tags), any_of(&filter.areas));

    let mut values: Vec<&(dyn ToSql + Sync)> = vec![
        &filter.q,
        &prefix,
        &organization,
        &countries,
        &filter.region,
        &filter.city,
        &tags,
        &areas,
        &kinds,
        &filter.degree_level,
        &filter.sector,
        &filter.employment_type,
        &filter.remote,
        &statuses,
        &deadline_instants.0,
        &deadline_instants.1,
        &filter.published_after,
        &filter.source,
        &deadline_days.0,
        &deadline_days.1,
        &one_more,
    ];
    let (at, id) = match after {
        Some(Position::Instant { at, id }) => (at, Some(id.0)),
        _ => (None, None),
    };
    let (as_of, tier, rank, published_at, ranked_id) = match after {
        Some(Position::Relevance { as_of, tier, rank, published_at, id }) => {
            (as_of, Some(tier), Some(rank), Some(published_at), Some(id.0))
        }
        _ => (now, None, None, None, None),
    };
    if sort == Sort::Relevance {
        values.extend([&as_of as &(dyn ToSql + Sync), &folded, &tier, &rank, &published_at, &ranked_id]);
    } else {
        values.extend([&at as &(dyn ToSql + Sync), &id]);
    }
    let params: Vec<(&(dyn ToSql + Sync), Type)> = values.into_iter().zip(types.iter().cloned()).collect();

    let mut rows = client.query_typed(sql, &params).await?;
    let has_more = usize::try_from(limit).is_ok_and(|limit| rows.len() > limit);
    if has_more {
        rows.pop();
    }
    let items = rows.iter().map(item).collect::<Result<Vec<_>, _>>()?;
    let next = match (rows.last(), items.last()) {
        (Some(row), Some(item)) if has_more => Some(match sort {
            Sort::Relevance => Position::Relevance {
                // The same for as long as nothing new matches, so that an unchanged list has an unchanged cursor.
                as_of: row.try_get("newest_at")?,
                tier: row.try_get("tier")?,
                rank: row.try_get("rank")?,
                published_at: item.published_at,
                id: item.id,
            },
            Sort::PublishedAt => Position::Instant { at: Some(item.published_at), id: item.id },
            Sort::CreatedAt => Position::Instant { at: Some(item.created_at), id: item.id },
            Sort::UpdatedAt => Position::Instant { at: Some(item.updated_at), id: item.id },
            Sort::Deadline => Position::Instant { at: item.deadline, id: item.id },
        }),
        _ => None,
    };
    Ok(Page { items, next })
}

fn item(row: &Row) -> Result<PostingItem, Error> {
    Ok(PostingItem {
        id: PostingId(row.try_get::<_, Uuid>("id")?),
        title: row.try_get("title")?,
        organization_name: row.try_get("organization_name")?,
        canonical_url: row.try_get("canonical_url")?,
        application_url: row.try_get("application_url")?,
        status: row.try_get::<_, Word<_>>("status")?.0,
        country: row.try_get("country")?,
        region: row.try_get("region")?,
        city: row.try_get("city")?,
        remote: row.try_get("remote")?,
        tags: row.try_get("tags")?,
        areas: row.try_get("areas")?,
        opportunity_kind: row
            .try_get::<_, Option<&str>>("opportunity_kind")?
            .and_then(OpportunityKind::parse),
        degree_level: row.try_get("degree_level")?,
        deadline: row.try_get("deadline")?,
        deadline_date: row.try_get("deadline_date")?,
        published_at: row.try_get("published_at")?,
        updated_at: row.try_get("updated_at")?,
        created_at: row.try_get("created_at")?,
        last_confirmed_at: row.try_get("last_confirmed_at")?,
        summary: row.try_get("summary")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_organisations_are_prefixes_and_wildcards_are_literal() {
        for (name, pattern) in [
            ("ETH", "%eth%"),
            ("ox", "ox%"),
            (" Zürich ", "%zurich%"),
            ("100%_\\", "%100\\%\\_\\\\%"),
            ("%", "\\%%"),
        ] {
            assert_eq!(organization_pattern(name), pattern, "{name}");
        }
    }
}
