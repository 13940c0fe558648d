-- ledger_enqueue_one with one value for its answer: a function that answers rows is scanned as a table, which costs a
-- single insert a tenth. The kind's row is read once, not once a column.
-- Previous release: calls ledger_enqueue_one, which is untouched.

-- One job whose target has none pending, which is nearly every one; else as ledger_enqueue. Answers the pending job's id,
-- and ' due' behind it where a wake message should name it.
CREATE FUNCTION ledger_enqueue_one_2(
    job_id uuid, job_kind text, job_target_type text, job_target_id uuid, job_inputs text, job_route text,
    job_priority smallint, job_run_at timestamptz, job_max_failures integer, job_trace_context text
) RETURNS text
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    kind_route text;
    kind_max_failures integer;
    answer text;
BEGIN
    SELECT k.route, k.max_failures INTO kind_route, kind_max_failures FROM job_kinds AS k WHERE k.kind = job_kind;
    INSERT INTO jobs AS j
        (id, kind, target_type, target_id, inputs_json, route, priority, next_run_at, max_failures, trace_context)
    VALUES (
        job_id, job_kind, job_target_type, job_target_id, job_inputs::jsonb, coalesce(kind_route, job_route), job_priority,
        coalesce(job_run_at, now()), coalesce(kind_max_failures, job_max_failures), job_trace_context
    )
    ON CONFLICT (kind, target_type, target_id) DO NOTHING
    RETURNING CASE
        WHEN j.route = 'internal' AND j.next_run_at <= now() + interval '1 minute' THEN j.id::text || ' due'
        ELSE j.id::text
    END
    INTO answer;
    IF NOT FOUND THEN
        SELECT CASE WHEN e.due_soon THEN e.id::text || ' due' ELSE e.id::text END
        INTO answer
        FROM ledger_enqueue(
            ARRAY[job_id], ARRAY[job_kind], ARRAY[job_target_type], ARRAY[job_target_id], ARRAY[job_inputs],
            ARRAY[job_route], ARRAY[job_priority], ARRAY[job_run_at], ARRAY[job_max_failures], ARRAY[job_trace_context]
        ) AS e;
    END IF;
    RETURN answer;
END
$$;

REVOKE ALL ON FUNCTION ledger_enqueue_one_2(
    uuid, text, text, uuid, text, text, smallint, timestamptz, integer, text
) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger_enqueue_one_2(
    uuid, text, text, uuid, text, text, smallint, timestamptz, integer, text
) TO callboard_app;
