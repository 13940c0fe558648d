-- The job ledger: pending jobs, what became of them, and what an admin may change about a kind.
-- Previous release: there is none.

-- Pending jobs only. A row is updated a few times and deleted: half of each page is kept free so that claim,
-- heartbeat and hint stay on their page (HOT), and nothing that they write stands in an index or a predicate.
CREATE TABLE jobs (
    id uuid NOT NULL,
    kind text NOT NULL,
    target_type text NOT NULL,
    target_id uuid NOT NULL,
    inputs_json jsonb NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'queued',
    route text NOT NULL,
    priority smallint NOT NULL,
    next_run_at timestamptz NOT NULL DEFAULT now(),
    attempt integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    max_failures integer NOT NULL,
    deferrals integer NOT NULL DEFAULT 0,
    lease_token uuid,
    lease_expires_at timestamptz,
    claimed_at timestamptz,
    locked_by_module_id uuid,
    hinted_until timestamptz,
    report_token uuid,
    report_digest bytea,
    last_error jsonb,
    rerun boolean NOT NULL DEFAULT false,
    requeues integer NOT NULL DEFAULT 0,
    trace_context text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version bigint NOT NULL DEFAULT 1,
    CONSTRAINT jobs_pkey PRIMARY KEY (id),
    CONSTRAINT jobs_one_pending_a_target UNIQUE (kind, target_type, target_id),
    CONSTRAINT jobs_status_is_pending CHECK (status IN ('queued', 'claimed')),
    CONSTRAINT jobs_route_is_known CHECK (route IN ('internal', 'external')),
    CONSTRAINT jobs_priority_is_known CHECK (priority IN (0, 5, 10, 12, 20)),
    CONSTRAINT jobs_claim_has_its_lease CHECK (
        (status = 'claimed') = (lease_token IS NOT NULL)
        AND (lease_token IS NULL) = (lease_expires_at IS NULL)
        AND (lease_token IS NULL) = (claimed_at IS NULL)
    ),
    CONSTRAINT jobs_lease_is_bounded CHECK (lease_expires_at <= claimed_at + interval '15 minutes'),
    CONSTRAINT jobs_holder_has_a_claim CHECK (locked_by_module_id IS NULL OR status = 'claimed'),
    CONSTRAINT jobs_hint_is_for_queued CHECK (hinted_until IS NULL OR status = 'queued'),
    CONSTRAINT jobs_rerun_is_of_claimed CHECK (NOT rerun OR status = 'claimed'),
    CONSTRAINT jobs_report_is_whole CHECK (
        (report_token IS NULL) = (report_digest IS NULL)
        AND octet_length(report_digest) = 32
    ),
    CONSTRAINT jobs_max_failures_is_bounded CHECK (max_failures BETWEEN 1 AND 20),
    CONSTRAINT jobs_failures_leave_a_try CHECK (failures >= 0 AND failures < max_failures),
    CONSTRAINT jobs_counts_are_not_negative CHECK (attempt >= 0 AND deferrals >= 0 AND requeues >= 0)
) WITH (
    fillfactor = 50,
    -- A queue's dead rows are swept by the page, not by the share of a table that was once large.
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05
);

-- The order of work. One probe a priority; claimed rows keep the instant at which they were due, so that the reaper
-- finds them in the same, due part.
CREATE INDEX jobs_ready ON jobs (route, priority, next_run_at, id);

-- Done jobs, by the month in which they ended.
CREATE TABLE job_archive (
    id uuid NOT NULL,
    kind text NOT NULL,
    target_type text NOT NULL,
    target_id uuid NOT NULL,
    inputs_json jsonb NOT NULL,
    status text NOT NULL,
    route text NOT NULL,
    priority smallint NOT NULL,
    next_run_at timestamptz NOT NULL,
    attempt integer NOT NULL,
    failures integer NOT NULL,
    max_failures integer NOT NULL,
    deferrals integer NOT NULL,
    lease_token uuid,
    lease_expires_at timestamptz,
    claimed_at timestamptz,
    locked_by_module_id uuid,
    hinted_until timestamptz,
    report_token uuid,
    report_digest bytea,
    last_error jsonb,
    rerun boolean NOT NULL,
    requeues integer NOT NULL,
    trace_context text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    version bigint NOT NULL,
    result_json jsonb,
    error_json jsonb,
    finished_at timestamptz NOT NULL,
    CONSTRAINT job_archive_pkey PRIMARY KEY (id, finished_at),
    CONSTRAINT job_archive_status_is_done CHECK (status = 'done'),
    CONSTRAINT job_archive_lease_is_over CHECK (lease_token IS NULL AND lease_expires_at IS NULL AND hinted_until IS NULL),
    CONSTRAINT job_archive_has_no_error CHECK (error_json IS NULL)
) PARTITION BY RANGE (finished_at);

CREATE INDEX job_archive_target ON job_archive (target_type, target_id);

-- Failed and dead jobs, until they are requeued or 180 days old.
CREATE TABLE job_dead (
    id uuid NOT NULL,
    kind text NOT NULL,
    target_type text NOT NULL,
    target_id uuid NOT NULL,
    inputs_json jsonb NOT NULL,
    status text NOT NULL,
    route text NOT NULL,
    priority smallint NOT NULL,
    next_run_at timestamptz NOT NULL,
    attempt integer NOT NULL,
    failures integer NOT NULL,
    max_failures integer NOT NULL,
    deferrals integer NOT NULL,
    lease_token uuid,
    lease_expires_at timestamptz,
    claimed_at timestamptz,
    locked_by_module_id uuid,
    hinted_until timestamptz,
    report_token uuid,
    report_digest bytea,
    last_error jsonb,
    rerun boolean NOT NULL,
    requeues integer NOT NULL,
    trace_context text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    version bigint NOT NULL,
    result_json jsonb,
    error_json jsonb NOT NULL,
    finished_at timestamptz NOT NULL,
    CONSTRAINT job_dead_pkey PRIMARY KEY (id),
    CONSTRAINT job_dead_status_is_final CHECK (status IN ('failed', 'dead_letter')),
    CONSTRAINT job_dead_lease_is_over CHECK (lease_token IS NULL AND lease_expires_at IS NULL AND hinted_until IS NULL),
    CONSTRAINT job_dead_has_no_result CHECK (result_json IS NULL)
);

CREATE INDEX job_dead_target ON job_dead (target_type, target_id);

-- What an admin changed about a kind. No row: the constants of the registered kind.
CREATE TABLE job_kinds (
    kind text NOT NULL,
    route text NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    max_failures integer NOT NULL,
    lease_seconds integer NOT NULL,
    base_seconds integer NOT NULL,
    cap_seconds integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version bigint NOT NULL DEFAULT 1,
    CONSTRAINT job_kinds_pkey PRIMARY KEY (kind),
    CONSTRAINT job_kinds_route_is_known CHECK (route IN ('internal', 'external')),
    CONSTRAINT job_kinds_max_failures_is_bounded CHECK (max_failures BETWEEN 1 AND 20),
    CONSTRAINT job_kinds_lease_is_bounded CHECK (lease_seconds BETWEEN 10 AND 900),
    CONSTRAINT job_kinds_base_is_bounded CHECK (base_seconds BETWEEN 1 AND 3600),
    CONSTRAINT job_kinds_cap_is_bounded CHECK (cap_seconds BETWEEN 1 AND 86400)
);

-- Every job wherever it is, for what people read. One statement sees a job exactly once: moves are single transactions.
CREATE VIEW job_all AS
SELECT id, kind, target_type, target_id, inputs_json, status, route, priority, next_run_at, attempt, failures,
    max_failures, deferrals, lease_expires_at, claimed_at, locked_by_module_id, hinted_until, report_token,
    report_digest, last_error, rerun, requeues, trace_context, created_at, updated_at, version,
    NULL::jsonb AS result_json, NULL::jsonb AS error_json, NULL::timestamptz AS finished_at
FROM jobs
UNION ALL
SELECT id, kind, target_type, target_id, inputs_json, status, route, priority, next_run_at, attempt, failures,
    max_failures, deferrals, lease_expires_at, claimed_at, locked_by_module_id, hinted_until, report_token,
    report_digest, last_error, rerun, requeues, trace_context, created_at, updated_at, version,
    result_json, error_json, finished_at
FROM job_archive
UNION ALL
SELECT id, kind, target_type, target_id, inputs_json, status, route, priority, next_run_at, attempt, failures,
    max_failures, deferrals, lease_expires_at, claimed_at, locked_by_module_id, hinted_until, report_token,
    report_digest, last_error, rerun, requeues, trace_context, created_at, updated_at, version,
    result_json, error_json, finished_at
FROM job_dead;

-- Makes the partitions of this month and the three that follow, and names those that were missing. Each is created
-- apart and then attached: that blocks nobody who reads or writes the parent.
CREATE FUNCTION partition_ensure(parent text) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET lock_timeout = '1s'
AS $$
DECLARE
    this_month CONSTANT timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    month timestamp;
    partition text;
BEGIN
    IF parent IS NULL OR parent NOT IN ('job_archive', 'sightings') THEN
        RAISE EXCEPTION '% is not a partitioned table', parent USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Two sweeps at once: the second finds them made.
    PERFORM pg_advisory_xact_lock(hashtextextended('partition:' || parent, 0));
    FOR ahead IN 0..3 LOOP
        month := this_month + make_interval(months => ahead);
        partition := format('%s_%s', parent, to_char(month, 'YYYY_MM'));
        CONTINUE WHEN to_regclass(format('public.%I', partition)) IS NOT NULL;
        EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING ALL)', partition, parent);
        EXECUTE format(
            'ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
            parent, partition,
            to_char(month, 'YYYY-MM-DD') || ' 00:00:00+00',
            to_char(month + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00'
        );
        RETURN NEXT partition;
    END LOOP;
END
$$;

-- Drops the partitions whose rows are all past their retention, and names them.
CREATE FUNCTION partition_drop(parent text) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET lock_timeout = '1s'
AS $$
DECLARE
    retention interval;
    partition text;
BEGIN
    CASE parent
        WHEN 'job_archive' THEN retention := interval '30 days';
        WHEN 'sightings' THEN retention := interval '400 days';
        ELSE RAISE EXCEPTION '% is not a partitioned table', parent USING ERRCODE = 'invalid_parameter_value';
    END CASE;
    PERFORM pg_advisory_xact_lock(hashtextextended('partition:' || parent, 0));
    FOR partition IN
        SELECT child.relname
        FROM pg_inherits AS link
        JOIN pg_class AS child ON child.oid = link.inhrelid
        WHERE link.inhparent = to_regclass(format('public.%I', parent))
            AND child.relname ~ ('^' || parent || '_[0-9]{4}_[0-9]{2}$')
            AND to_date(right(child.relname, 7), 'YYYY_MM') + interval '1 month'
                <= (now() AT TIME ZONE 'UTC') - retention
        ORDER BY child.relname
    LOOP
        EXECUTE format('DROP TABLE public.%I', partition);
        RETURN NEXT partition;
    END LOOP;
END
$$;

REVOKE ALL ON FUNCTION partition_ensure(text), partition_drop(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION partition_ensure(text), partition_drop(text) TO callboard_app;

SELECT partition_ensure('job_archive');

GRANT SELECT, INSERT, UPDATE, DELETE ON jobs, job_dead TO callboard_app;
GRANT SELECT, INSERT ON job_archive TO callboard_app;
GRANT SELECT, INSERT, UPDATE ON job_kinds TO callboard_app;
GRANT SELECT ON job_all TO callboard_app;
