-- The ledger's hot statements as functions: a connection plans each once, not at every call. The pooler's sake forbids
-- prepared statements, and planning was up to half of what they cost (docs/decisions/0006).
-- Previous release: does not call them; its own statements are untouched.
--
-- A function is never replaced: a change is a new one with a suffix (ledger_claim_2), which the next release calls; the
-- old one goes when no running release calls it.
--
-- The settings are the functions' own. A cached plan outlives the moment in which the table was small, so scans and
-- joins that are good for small tables only are not to be chosen; and what is forbidden is priced so high that it would
-- set off the compiler.

-- One job whose target has none pending, which is nearly every one; else as ledger_enqueue.
CREATE FUNCTION ledger_enqueue_one(
    job_id uuid, job_kind text, job_target_type text, job_target_id uuid, job_inputs text, job_route text,
    job_priority smallint, job_run_at timestamptz, job_max_failures integer, job_trace_context text
) RETURNS TABLE (id uuid, kind text, target_type text, target_id uuid, due_soon boolean)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    INSERT INTO jobs AS j
        (id, kind, target_type, target_id, inputs_json, route, priority, next_run_at, max_failures, trace_context)
    VALUES (
        job_id, job_kind, job_target_type, job_target_id, job_inputs::jsonb,
        coalesce((SELECT k.route FROM job_kinds AS k WHERE k.kind = job_kind), job_route),
        job_priority, coalesce(job_run_at, now()),
        coalesce((SELECT k.max_failures FROM job_kinds AS k WHERE k.kind = job_kind), job_max_failures),
        job_trace_context
    )
    ON CONFLICT (kind, target_type, target_id) DO NOTHING
    RETURNING j.id, j.kind, j.target_type, j.target_id,
        j.route = 'internal' AND j.next_run_at <= now() + interval '1 minute';
    IF NOT FOUND THEN
        RETURN QUERY
        SELECT e.id, e.kind, e.target_type, e.target_id, e.due_soon
        FROM ledger_enqueue(
            ARRAY[job_id], ARRAY[job_kind], ARRAY[job_target_type], ARRAY[job_target_id], ARRAY[job_inputs],
            ARRAY[job_route], ARRAY[job_priority], ARRAY[job_run_at], ARRAY[job_max_failures], ARRAY[job_trace_context]
        ) AS e;
    END IF;
END
$$;

-- Rows are inserted in the given order, which is key order, so that two transactions that enqueue the same targets wait
-- for one another instead of deadlocking. The conflict target is the unique key over the whole table. What a claimed row
-- keeps: all but rerun.
CREATE FUNCTION ledger_enqueue(
    ids uuid[], kinds text[], target_types text[], target_ids uuid[], inputs text[], routes text[],
    priorities smallint[], run_ats timestamptz[], max_failures integer[], trace_contexts text[]
) RETURNS TABLE (id uuid, kind text, target_type text, target_id uuid, due_soon boolean)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    INSERT INTO jobs AS j
        (id, kind, target_type, target_id, inputs_json, route, priority, next_run_at, max_failures, trace_context)
    SELECT n.id, n.kind, n.target_type, n.target_id, n.inputs::jsonb, coalesce(k.route, n.route), n.priority,
        coalesce(n.run_at, now()), coalesce(k.max_failures, n.max_failures), n.trace_context
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) WITH ORDINALITY
        AS n(id, kind, target_type, target_id, inputs, route, priority, run_at, max_failures, trace_context, place)
    LEFT JOIN job_kinds AS k ON k.kind = n.kind
    ORDER BY n.place
    ON CONFLICT (kind, target_type, target_id) DO UPDATE
    SET rerun = j.rerun OR j.status = 'claimed',
        next_run_at = CASE j.status
            WHEN 'queued' THEN least(j.next_run_at, excluded.next_run_at)
            ELSE j.next_run_at
        END,
        priority = CASE j.status WHEN 'queued' THEN greatest(j.priority, excluded.priority) ELSE j.priority END,
        hinted_until = CASE WHEN excluded.next_run_at < j.next_run_at THEN NULL ELSE j.hinted_until END,
        updated_at = now(),
        version = j.version + 1
    RETURNING j.id, j.kind, j.target_type, j.target_id,
        j.status = 'queued'
            AND j.route = 'internal'
            AND j.next_run_at <= now() + interval '1 minute'
            AND (j.hinted_until IS NULL OR j.hinted_until <= now());
END
$$;

-- By the primary key. Rows are taken in id order and waited for: one that an enqueue holds for a moment would otherwise
-- lose its hint. Writes no indexed column.
CREATE FUNCTION ledger_claim(ids uuid[], attempts integer[], lease_s double precision) RETURNS SETOF jobs
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    RETURN QUERY
    WITH held AS MATERIALIZED (
        SELECT j.id
        FROM jobs AS j
        JOIN unnest(ids, attempts) AS h(id, attempt) ON h.id = j.id AND h.attempt = j.attempt
        WHERE j.status = 'queued'
            AND j.route = 'internal'
            AND j.next_run_at <= clock_timestamp() + interval '1 second'
            AND j.kind <> ALL (ARRAY(SELECT k.kind FROM job_kinds AS k WHERE NOT k.enabled))
        ORDER BY j.id
        FOR UPDATE OF j
    )
    UPDATE jobs AS j
    SET status = 'claimed',
        attempt = j.attempt + 1,
        lease_token = gen_random_uuid(),
        lease_expires_at = now() + lease_s * interval '1 second',
        claimed_at = now(),
        locked_by_module_id = NULL,
        hinted_until = NULL,
        updated_at = now(),
        version = j.version + 1
    FROM held AS h
    WHERE j.id = h.id
    RETURNING j.*;
END
$$;

-- Moves done jobs to the archive, by the primary key, in id order. Where is_fenced, the caller's transaction has locked
-- the rows by their fence, and their expiry no longer matters; else each row fences itself. A rerun goes where its kind
-- goes now, which is not where its job went if an admin changed the kind meanwhile.
CREATE FUNCTION ledger_complete(
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
            r.fresh_id
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

-- By the primary key. The expiry is judged again after the lock was waited for: FOR UPDATE reads a row again only if it
-- was changed meanwhile. On the instant of expiry the lease is over.
CREATE FUNCTION ledger_fence(job_id uuid, job_attempt integer, token uuid)
RETURNS TABLE (job jobs, current_route text, base_seconds integer, cap_seconds integer, fenced_at timestamptz)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH held AS MATERIALIZED (
        SELECT j AS job, j.lease_expires_at, coalesce(k.route, j.route) AS current_route, k.base_seconds,
            k.cap_seconds, clock_timestamp() AS fenced_at
        FROM jobs AS j
        LEFT JOIN job_kinds AS k ON k.kind = j.kind
        WHERE j.id = job_id
            AND j.attempt = job_attempt
            AND j.lease_token = token
            AND j.status = 'claimed'
            AND j.lease_expires_at > clock_timestamp()
        FOR UPDATE OF j
    )
    SELECT h.job, h.current_route, h.base_seconds, h.cap_seconds, h.fenced_at
    FROM held AS h
    WHERE h.lease_expires_at > clock_timestamp();
END
$$;

-- By the primary key. A row that is locked is being claimed, or changed by somebody who wakes for it again.
CREATE FUNCTION ledger_mark(ids uuid[], horizon_s double precision) RETURNS SETOF jobs
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    RETURN QUERY
    WITH picked AS MATERIALIZED (
        SELECT j.id
        FROM jobs AS j
        WHERE j.id = ANY (ids)
            AND j.route = 'internal'
            AND j.next_run_at <= now() + horizon_s * interval '1 second'
            AND j.status = 'queued'
            AND (j.hinted_until IS NULL OR j.hinted_until <= now())
            AND j.kind <> ALL (ARRAY(SELECT k.kind FROM job_kinds AS k WHERE NOT k.enabled))
        ORDER BY j.id
        FOR UPDATE OF j SKIP LOCKED
    )
    UPDATE jobs AS j
    SET hinted_until = greatest(now(), j.next_run_at) + interval '2 minutes',
        updated_at = now(),
        version = j.version + 1
    FROM picked AS p
    WHERE j.id = p.id
    RETURNING j.*;
END
$$;

DO $$
DECLARE
    signature regprocedure;
BEGIN
    FOR signature IN
        SELECT p.oid::regprocedure FROM pg_proc AS p
        WHERE p.pronamespace = current_schema()::regnamespace AND p.proname LIKE 'ledger\_%'
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', signature);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO callboard_app', signature);
    END LOOP;
END
$$;
