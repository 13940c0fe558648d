-- ledger_complete, with the expiry of each row judged again after its lock was waited for. FOR UPDATE reads a row again only
-- if it was changed meanwhile: a batch that waited for somebody who rolled back completed leases that had ended.
-- Previous release: calls ledger_complete, which is untouched.

-- Moves done jobs to the archive, by the primary key, in id order. Where is_fenced, the caller's transaction has locked
-- the rows by their fence, and their expiry no longer matters; else each row fences itself, and its expiry is judged
-- again after its lock was waited for. A rerun goes where its kind goes now, which is not where its job went if an admin
-- changed the kind meanwhile.
CREATE FUNCTION ledger_complete_2(
    ids uuid[], attempts integer[], lease_tokens uuid[], results text[], report_tokens uuid[], report_digests bytea[],
    fresh_ids uuid[], is_fenced boolean
) RETURNS TABLE (id uuid, fresh_id uuid, rerun boolean, route text)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH held AS MATERIALIZED (
        SELECT j.id AS held_id, r.result, r.report_token AS new_report_token, r.report_digest AS new_report_digest,
            r.fresh_id, j.lease_expires_at AS held_until
        FROM jobs AS j
        JOIN unnest($1, $2, $3, $4, $5, $6, $7)
            AS r(id, attempt, lease_token, result, report_token, report_digest, fresh_id)
            ON r.id = j.id AND r.attempt = j.attempt AND r.lease_token = j.lease_token
        WHERE j.status = 'claimed'
            AND (is_fenced OR j.lease_expires_at > clock_timestamp())
        ORDER BY j.id
        FOR UPDATE OF j
    ), gone AS (
        DELETE FROM jobs AS j
        USING held AS h
        WHERE j.id = h.held_id
            AND (is_fenced OR h.held_until > clock_timestamp())
        RETURNING j.*, h.result, h.new_report_token, h.new_report_digest, h.fresh_id
    ), archived AS (
        INSERT INTO job_archive
            (id, kind, target_type, target_id, inputs_json, route, priority, next_run_at, attempt, max_failures,
            deferrals, claimed_at, locked_by_module_id, requeues, trace_context, created_at, status, failures,
            report_token, report_digest, last_error, rerun, version, result_json, finished_at)
        SELECT g.id, g.kind, g.target_type, g.target_id, g.inputs_json, g.route, g.priority, g.next_run_at, g.attempt,
            g.max_failures, g.deferrals, g.claimed_at, g.locked_by_module_id, g.requeues, g.trace_context,
            g.created_at, 'done', g.failures, coalesce(g.new_report_token, g.report_token),
            coalesce(g.new_report_digest, g.report_digest), g.last_error, false, g.version + 1, g.result::jsonb, now()
        FROM gone AS g
    ), again AS (
        INSERT INTO jobs
            (id, kind, target_type, target_id, inputs_json, route, priority, max_failures, trace_context)
        SELECT g.fresh_id, g.kind, g.target_type, g.target_id, g.inputs_json, coalesce(k.route, g.route), g.priority,
            coalesce(k.max_failures, g.max_failures), g.trace_context
        FROM gone AS g
        LEFT JOIN job_kinds AS k ON k.kind = g.kind
        WHERE g.rerun
    )
    SELECT g.id, g.fresh_id, g.rerun,
        coalesce((SELECT k.route FROM job_kinds AS k WHERE k.kind = g.kind), g.route)
    FROM gone AS g;
END
$$;

REVOKE ALL ON FUNCTION ledger_complete_2(
    uuid[], integer[], uuid[], text[], uuid[], bytea[], uuid[], boolean
) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger_complete_2(
    uuid[], integer[], uuid[], text[], uuid[], bytea[], uuid[], boolean
) TO callboard_app;
