-- The role that the functions connect as. It owns nothing. Its time-outs are defaults of the role, because a
-- statement that SETs them would pin a pooled connection (RDS Proxy) or leak into the next client's (pgbouncer).
-- Previous release: there is none.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'callboard_app') THEN
        CREATE ROLE callboard_app LOGIN;
    END IF;
EXCEPTION
    -- Another database of the same cluster is migrated at this moment.
    WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;

DO $$
DECLARE
    wanted CONSTANT text[] := ARRAY[
        'lock_timeout=3s',
        'statement_timeout=8s',
        'idle_in_transaction_session_timeout=15s'
    ];
BEGIN
    -- Only where they differ: two databases of one cluster that alter the same role at once fail.
    IF (SELECT rolconfig FROM pg_roles WHERE rolname = 'callboard_app') IS DISTINCT FROM wanted THEN
        ALTER ROLE callboard_app SET lock_timeout = '3s';
        ALTER ROLE callboard_app SET statement_timeout = '8s';
        ALTER ROLE callboard_app SET idle_in_transaction_session_timeout = '15s';
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_iam') THEN
        GRANT rds_iam TO callboard_app;
    END IF;
END
$$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO callboard_app;
GRANT SELECT ON schema_migrations TO callboard_app;
