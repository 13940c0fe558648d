//! Putting jobs into the ledger: one round trip for any number of rows.

use crate::Statement;
use crate::error::Error;
use crate::policy::{PRIORITIES, Registry};
use crate::row;
use crate::types::JobId;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use telemetry::db::GenericClient;
use telemetry::label::JobTransition;
use telemetry::metric;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// Inputs are references and parameters, not payloads: the JSON text of one job's is at most this long.
pub const INPUTS_BYTES_MAX: usize = 64 * 1024;

/// A job to be enqueued.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob<'a> {
    /// A registered kind.
    pub kind: &'a str,
    /// What the target is, such as `discovery`.
    pub target_type: &'a str,
    /// Which one.
    pub target_id: Uuid,
    /// What the handler gets, at most [`INPUTS_BYTES_MAX`] as JSON text.
    pub inputs: Value,
    /// One of [`PRIORITIES`]; `None`: the kind's.
    pub priority: Option<i16>,
    /// When it may run; `None`: now.
    pub run_at: Option<Timestamp>,
    /// The W3C `traceparent` of what caused it.
    pub trace_context: Option<String>,
}

/// The pending job of a target, made now or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueued {
    /// The pending job's id.
    pub id: JobId,
    /// Its kind.
    pub kind: String,
    /// `false`: it was pending already (a queued one may run sooner now, a claimed one will be run again).
    pub inserted: bool,
    /// Internal, queued, unhinted and due within a minute: name it in a wake message after the commit.
    pub due_soon: bool,
}

/// `ledger_enqueue` (`migrations/0004`), rows in key order.
const ENQUEUE: &str = "\
SELECT id, kind, target_type, target_id, due_soon
FROM ledger_enqueue($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// `ledger_enqueue_one_2` (`migrations/0006`), for the one job that nearly every transaction enqueues. Answers a text.
const ENQUEUE_ONE: &str = "SELECT ledger_enqueue_one_2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement {
        name: "job_enqueue_one",
        sql: ENQUEUE_ONE,
        types: &[
            Type::UUID,
            Type::TEXT,
            Type::TEXT,
            Type::UUID,
            Type::TEXT,
            Type::TEXT,
            Type::INT2,
            Type::TIMESTAMPTZ,
            Type::INT4,
            Type::TEXT,
        ],
    },
    Statement {
        name: "job_enqueue",
        sql: ENQUEUE,
        types: &[
            Type::UUID_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::UUID_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::INT2_ARRAY,
            Type::TIMESTAMPTZ_ARRAY,
            Type::INT4_ARRAY,
            Type::TEXT_ARRAY,
        ],
    },
];

type Key<'a> = (&'a str, &'a str, Uuid);

struct Wanted<'a> {
    id: Uuid,
    inputs: String,
    priority: i16,
    run_at: Option<Timestamp>,
    trace_context: Option<&'a str>,
}

/// Enqueues jobs, at most one pending per kind and target. Answers in the given order.
///
/// A target that has a queued job keeps it, with the earlier instant and the higher priority; one whose job is claimed
/// gets another run after it. Two of the given jobs with one key count as one. It should be the last statement of its
/// transaction that locks: jobs come last in the order of locks. An empty list costs nothing, any other one
/// round trip.
///
/// # Errors
/// [`Error::UnknownKind`], [`Error::TooLarge`], [`Error::Invalid`] (a priority that does not exist), and the database's.
pub async fn job_enqueue(
    tx: &impl GenericClient,
    registry: &Registry,
    jobs: &[NewJob<'_>],
) -> Result<Vec<Enqueued>, Error> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let mut wanted: BTreeMap<Key<'_>, Wanted<'_>> = BTreeMap::new();
    for job in jobs {
        let policy = registry.get(job.kind)?;
        let priority = job.priority.unwrap_or(policy.priority);
        if !PRIORITIES.contains(&priority) {
            return Err(Error::Invalid(format!("{priority} is not a priority; there are {PRIORITIES:?}")));
        }
        if row::has_nul(&job.inputs) {
            return Err(Error::Invalid("inputs hold a NUL character, which the database cannot keep".into()));
        }
        let inputs = job.inputs.to_string();
        if inputs.len() > INPUTS_BYTES_MAX {
            return Err(Error::TooLarge {
                what: "inputs",
                bytes: inputs.len(),
                limit_bytes: INPUTS_BYTES_MAX,
            });
        }
        wanted
            .entry((job.kind, job.target_type, job.target_id))
            .and_modify(|first| {
                first.priority = first.priority.max(priority);
                // `None` is now, which is as early as it gets in one transaction.
                first.run_at = match (first.run_at, job.run_at) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    _ => None,
                };
            })
            .or_insert_with(|| Wanted {
                id: JobId::new().0,
                inputs,
                priority,
                run_at: job.run_at,
                trace_context: job.trace_context.as_deref(),
            });
    }
    let found = match wanted.first_key_value() {
        Some((key, row)) if wanted.len() == 1 => {
            BTreeMap::from([(*key, enqueue_one(tx, registry, key, row).await?)])
        }
        _ => enqueue_many(tx, registry, &wanted).await?,
    };
    let inserted = found.values().filter(|enqueued| enqueued.inserted).count();
    metric::JOBS_TRANSITIONS.add(u64::try_from(inserted).unwrap_or(0), JobTransition::Enqueued);
    jobs.iter()
        .map(|job| found.get(&(job.kind, job.target_type, job.target_id)).cloned().ok_or_else(unanswered))
        .collect()
}

async fn enqueue_one(
    tx: &impl GenericClient,
    registry: &Registry,
    (kind, target_type, target_id): &Key<'_>,
    row: &Wanted<'_>,
) -> Result<Enqueued, Error> {
    let policy = registry.get(kind)?;
    let answered = tx
        .query_typed(
            ENQUEUE_ONE,
            &[
                (&row.id, Type::UUID),
                (kind, Type::TEXT),
                (target_type, Type::TEXT),
                (target_id, Type::UUID),
                (&row.inputs, Type::TEXT),
                (&policy.route.as_str(), Type::TEXT),
                (&row.priority, Type::INT2),
                (&row.run_at, Type::TIMESTAMPTZ),
                (&policy.max_failures, Type::INT4),
                (&row.trace_context, Type::TEXT),
            ],
        )
        .await?;
    let text: &str = answered.first().ok_or_else(unanswered)?.try_get(0)?;
    let (id, due_soon) = text.strip_suffix(" due").map_or((text, false), |id| (id, true));
    let id = Uuid::try_parse(id).map_err(|_| unanswered())?;
    Ok(Enqueued { id: JobId(id), kind: (*kind).to_owned(), inserted: id == row.id, due_soon })
}

async fn enqueue_many<'a>(
    tx: &impl GenericClient,
    registry: &Registry,
    wanted: &BTreeMap<Key<'a>, Wanted<'a>>,
) -> Result<BTreeMap<Key<'a>, Enqueued>, Error> {
    let mut columns = Columns::default();
    for ((kind, target_type, target_id), row) in wanted {
        let policy = registry.get(kind)?;
        columns.ids.push(row.id);
        columns.kinds.push(kind);
        columns.target_types.push(target_type);
        columns.target_ids.push(*target_id);
        columns.inputs.push(&row.inputs);
        columns.routes.push(policy.route.as_str());
        columns.priorities.push(row.priority);
        columns.run_ats.push(row.run_at);
        columns.max_failures.push(policy.max_failures);
        columns.trace_contexts.push(row.trace_context);
    }
    let rows = columns.insert(tx).await?;
    let mut answered: BTreeMap<Key<'_>, (Uuid, bool)> = BTreeMap::new();
    for row in &rows {
        let key = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        answered.insert(key, (row.try_get(0)?, row.try_get(4)?));
    }
    wanted
        .iter()
        .map(|(key, row)| {
            let (id, due_soon) = *answered.get(key).ok_or_else(unanswered)?;
            let kind = key.0.to_owned();
            Ok((*key, Enqueued { id: JobId(id), kind, inserted: id == row.id, due_soon }))
        })
        .collect()
}

fn unanswered() -> Error {
    Error::Invalid("the database did not answer for each job that was enqueued".into())
}

#[derive(Default)]
struct Columns<'a> {
    ids: Vec<Uuid>,
    kinds: Vec<&'a str>,
    target_types: Vec<&'a str>,
    target_ids: Vec<Uuid>,
    inputs: Vec<&'a str>,
    routes: Vec<&'static str>,
    priorities: Vec<i16>,
    run_ats: Vec<Option<Timestamp>>,
    max_failures: Vec<i32>,
    trace_contexts: Vec<Option<&'a str>>,
}

impl Columns<'_> {
    async fn insert(&self, tx: &impl GenericClient) -> Result<Vec<tokio_postgres::Row>, Error> {
        let rows = tx
            .query_typed(
                ENQUEUE,
                &[
                    (&self.ids, Type::UUID_ARRAY),
                    (&self.kinds, Type::TEXT_ARRAY),
                    (&self.target_types, Type::TEXT_ARRAY),
                    (&self.target_ids, Type::UUID_ARRAY),
                    (&self.inputs, Type::TEXT_ARRAY),
                    (&self.routes, Type::TEXT_ARRAY),
                    (&self.priorities, Type::INT2_ARRAY),
                    (&self.run_ats, Type::TIMESTAMPTZ_ARRAY),
                    (&self.max_failures, Type::INT4_ARRAY),
                    (&self.trace_contexts, Type::TEXT_ARRAY),
                ],
            )
            .await?;
        Ok(rows)
    }
}
