//! Provenance events: what happened to what, by whom. Append-only, written in the transaction of what they tell.

use crate::{Error, Statement};
use domain::state::Actor;
use serde_json::Value;
use telemetry::db::GenericClient;
use tokio_postgres::types::Type;

/// An event to be written. `entity_type` is `discovery`, `candidate`, `posting`, `job`, `source` or a settings table;
/// the names of events are in domain.md §14. Payloads never hold keys, tokens or bodies.
#[derive(Debug, Clone)]
pub struct NewEvent<'a> {
    /// What it happened to.
    pub entity_type: &'a str,
    /// Which one.
    pub entity_id: String,
    /// What happened.
    pub event_type: &'a str,
    /// Who did it.
    pub actor: &'a Actor,
    /// The request's id, where there was one.
    pub request_id: Option<&'a str>,
    /// 32 hex digits.
    pub trace_id: Option<&'a str>,
    /// From, to and reason of a change; whatever tells the event from another of its kind.
    pub payload: Value,
}

/// One round trip for any number; the ids rise in the order that is given.
const INSERT: &str = "
    INSERT INTO provenance_events
        (entity_type, entity_id, event_type, actor_type, actor_id, request_id, trace_id, payload)
    SELECT entity_type, entity_id, event_type, actor_type, actor_id, request_id, trace_id, payload
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[])
        WITH ORDINALITY
        AS new (entity_type, entity_id, event_type, actor_type, actor_id, request_id, trace_id, payload, position)
    ORDER BY position";

/// Newest first; `$3` is how many.
const LIST: &str = "
    SELECT id, event_type, actor_type, actor_id, request_id, trace_id, payload, created_at
    FROM provenance_events
    WHERE entity_type = $1 AND entity_id = $2
    ORDER BY id DESC
    LIMIT $3";

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement {
        name: "event_insert",
        sql: INSERT,
        types: &[
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::JSONB_ARRAY,
        ],
    },
    Statement { name: "events_list_of", sql: LIST, types: &[Type::TEXT, Type::TEXT, Type::INT8] },
];

/// Writes events, in one round trip; none cost none.
///
/// # Errors
/// [`Error`].
pub async fn event_insert(tx: &impl GenericClient, events: &[NewEvent<'_>]) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    let entity_types: Vec<&str> = events.iter().map(|event| event.entity_type).collect();
    let entity_ids: Vec<&str> = events.iter().map(|event| event.entity_id.as_str()).collect();
    let event_types: Vec<&str> = events.iter().map(|event| event.event_type).collect();
    let actor_types: Vec<&str> = events.iter().map(|event| event.actor.actor_type.as_str()).collect();
    let actor_ids: Vec<&str> = events.iter().map(|event| event.actor.actor_id.as_str()).collect();
    let request_ids: Vec<Option<&str>> = events.iter().map(|event| event.request_id).collect();
    let trace_ids: Vec<Option<&str>> = events.iter().map(|event| event.trace_id).collect();
    let payloads: Vec<&Value> = events.iter().map(|event| &event.payload).collect();
    tx.execute_typed(
        INSERT,
        &[
            (&entity_types, Type::TEXT_ARRAY),
            (&entity_ids, Type::TEXT_ARRAY),
            (&event_types, Type::TEXT_ARRAY),
            (&actor_types, Type::TEXT_ARRAY),
            (&actor_ids, Type::TEXT_ARRAY),
            (&request_ids, Type::TEXT_ARRAY),
            (&trace_ids, Type::TEXT_ARRAY),
            (&payloads, Type::JSONB_ARRAY),
        ],
    )
    .await?;
    Ok(())
}

/// An event as it was written.
#[derive(Debug, Clone)]
pub struct Event {
    /// It rises with time.
    pub id: i64,
    /// What happened.
    pub event_type: String,
    /// `machine`, `human` or `system`.
    pub actor_type: String,
    /// Who did it.
    pub actor_id: String,
    /// The request's id, where there was one.
    pub request_id: Option<String>,
    /// 32 hex digits.
    pub trace_id: Option<String>,
    /// See [`NewEvent::payload`].
    pub payload: Value,
    /// When its transaction began.
    pub created_at: jiff::Timestamp,
}

/// The newest `limit` events of one thing, newest first.
///
/// # Errors
/// [`Error`].
pub async fn events_list_of(
    client: &impl GenericClient,
    entity_type: &str,
    entity_id: &str,
    limit: i64,
) -> Result<Vec<Event>, Error> {
    let rows = client
        .query_typed(LIST, &[(&entity_type, Type::TEXT), (&entity_id, Type::TEXT), (&limit, Type::INT8)])
        .await?;
    Ok(rows
        .iter()
        .map(|row| Event {
            id: row.get(0),
            event_type: row.get(1),
            actor_type: row.get(2),
            actor_id: row.get(3),
            request_id: row.get(4),
            trace_id: row.get(5),
            payload: row.get(6),
            created_at: row.get(7),
        })
        .collect())
}
