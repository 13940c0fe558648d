-- Everything but the job ledger: modules, discoveries, evidence, candidates, postings, provenance, policies.
-- Columns and rules: the domain's specification, section 2. Every constraint is named, because the code tells a
-- caller what was refused by that name. An enumeration is text with a check: a value is added by a new check,
-- NOT VALID first, then validated.
-- Previous release: it has no catalogue and touches none of these tables.

CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public;
CREATE EXTENSION IF NOT EXISTS unaccent WITH SCHEMA public;

-- ---------------------------------------------------------------------------------------------------------------
-- Functions of the search document. PostgreSQL calls to_tsvector(regconfig, …) immutable, but unaccent and
-- array_to_string only stable; these wrappers name everything that the result depends on. Changing a body means
-- rewriting the column that is generated from it.

CREATE FUNCTION search_config(language text) RETURNS regconfig
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN language IS NULL OR lower(split_part(language, '-', 1)) = 'en' THEN 'pg_catalog.english'::regconfig
        ELSE 'pg_catalog.simple'::regconfig
    END;

-- Applied to both sides: to the document below, and to what a reader types.
CREATE FUNCTION search_unaccent(input text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN public.unaccent('public.unaccent'::regdictionary, input);

CREATE FUNCTION lower_all(input text[]) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN ARRAY(SELECT lower(item) FROM unnest(input) AS item);

-- Weights A title, B organisation, C tags, areas and kind, D the first 5,000 characters of the description:
-- ranking reads the whole vector, so its length is what a search costs.
CREATE FUNCTION search_document(
    language text,
    title text,
    organization_name text,
    tags text[],
    areas text[],
    opportunity_kind text,
    description_text text
) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN
        setweight(to_tsvector(search_config(language), search_unaccent(coalesce(title, ''))), 'A')
        || setweight(to_tsvector(search_config(language), search_unaccent(coalesce(organization_name, ''))), 'B')
        || setweight(
            to_tsvector(
                search_config(language),
                search_unaccent(
                    array_to_string(tags, ' ') || ' ' || array_to_string(areas, ' ')
                    || ' ' || replace(coalesce(opportunity_kind, ''), '_', ' ')
                )
            ),
            'C'
        )
        || setweight(
            to_tsvector(search_config(language), search_unaccent(left(coalesce(description_text, ''), 5000))),
            'D'
        );

-- ---------------------------------------------------------------------------------------------------------------
-- Who may hand in and who may process.

CREATE TABLE modules (
    id uuid NOT NULL,
    module_id text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    intake_mode text,
    enabled boolean NOT NULL DEFAULT true,
    disabled_reason text,
    scopes text[] NOT NULL DEFAULT '{}',
    trust_level text NOT NULL DEFAULT 'untrusted',
    source_keys text[] NOT NULL DEFAULT '{}',
    job_kinds text[] NOT NULL DEFAULT '{}',
    config jsonb NOT NULL DEFAULT '{}',
    last_seen_at timestamptz,
    ingested_count bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT modules_pkey PRIMARY KEY (id),
    CONSTRAINT modules_module_id_key UNIQUE (module_id),
    CONSTRAINT modules_module_id_form CHECK (module_id ~ '^[a-z0-9][a-z0-9._-]{1,62}$'),
    CONSTRAINT modules_kind_known CHECK (kind IN ('connector', 'processor')),
    CONSTRAINT modules_intake_mode_known
        CHECK (intake_mode IN ('api', 'rss', 'scrape', 'webhook', 'telegram', 'manual')),
    CONSTRAINT modules_trust_level_known CHECK (trust_level IN ('trusted', 'semi_trusted', 'untrusted')),
    CONSTRAINT modules_scopes_known
        CHECK (scopes <@ ARRAY['discoveries:write', 'evidence:write', 'jobs:read', 'jobs:write']),
    CONSTRAINT modules_scopes_fit_kind CHECK (
        CASE kind
            WHEN 'connector' THEN NOT scopes && ARRAY['jobs:read', 'jobs:write']
            ELSE NOT scopes && ARRAY['discoveries:write', 'evidence:write']
        END
    ),
    CONSTRAINT modules_ingested_count_range CHECK (ingested_count >= 0)
);

CREATE TABLE module_keys (
    id uuid NOT NULL,
    module_id uuid NOT NULL,
    key_id text NOT NULL,
    key_hash bytea NOT NULL,
    label text NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT module_keys_pkey PRIMARY KEY (id),
    CONSTRAINT module_keys_module_id_fkey FOREIGN KEY (module_id) REFERENCES modules (id),
    CONSTRAINT module_keys_key_id_key UNIQUE (key_id),
    CONSTRAINT module_keys_key_hash_length CHECK (octet_length(key_hash) = 32)
);

CREATE INDEX module_keys_module_id ON module_keys (module_id);

-- The accepted, resighted and rejected of a minute in eight rows, so that no ingest waits for another's row.
CREATE TABLE ingest_counters (
    module_id uuid NOT NULL,
    minute timestamptz NOT NULL,
    slot smallint NOT NULL,
    accepted integer NOT NULL DEFAULT 0,
    resighted integer NOT NULL DEFAULT 0,
    rejected integer NOT NULL DEFAULT 0,
    last_at timestamptz NOT NULL,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ingest_counters_pkey PRIMARY KEY (module_id, minute, slot),
    CONSTRAINT ingest_counters_module_id_fkey FOREIGN KEY (module_id) REFERENCES modules (id),
    CONSTRAINT ingest_counters_slot_range CHECK (slot BETWEEN 0 AND 7)
) WITH (fillfactor = 50);

CREATE INDEX ingest_counters_minute ON ingest_counters (minute);

-- ---------------------------------------------------------------------------------------------------------------
-- Candidates: what is known of one opportunity, published or not.

CREATE TABLE posting_candidates (
    id uuid NOT NULL,
    state text NOT NULL,
    state_reason text,
    fields jsonb NOT NULL DEFAULT '{}',
    field_provenance jsonb NOT NULL DEFAULT '{}',
    conflicts jsonb NOT NULL DEFAULT '[]',
    entities jsonb NOT NULL DEFAULT '{}',
    extraction_confidence numeric(5, 4) NOT NULL,
    dedupe_confidence numeric(5, 4),
    risk_flags text[] NOT NULL DEFAULT '{}',
    canonical_hash bytea NOT NULL,
    canonical_url text NOT NULL,
    normalized_url text NOT NULL,
    organization_key text NOT NULL,
    title_key text NOT NULL,
    source_identity text,
    authority_rank smallint NOT NULL,
    authority_module_id uuid NOT NULL,
    locked_fields text[] NOT NULL DEFAULT '{}',
    moderation_route text,
    policy jsonb NOT NULL DEFAULT '{}',
    merged_into_id uuid,
    state_changed_at timestamptz NOT NULL DEFAULT now(),
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT posting_candidates_pkey PRIMARY KEY (id),
    CONSTRAINT posting_candidates_state_known CHECK (state IN (
        'discovered', 'processed', 'publishable', 'published', 'rejected', 'closed', 'archived', 'needs_review',
        'merged'
    )),
    CONSTRAINT posting_candidates_merged_has_target CHECK ((state = 'merged') = (merged_into_id IS NOT NULL)),
    CONSTRAINT posting_candidates_not_merged_into_itself CHECK (merged_into_id <> id),
    CONSTRAINT posting_candidates_extraction_confidence_range CHECK (extraction_confidence BETWEEN 0 AND 1),
    CONSTRAINT posting_candidates_dedupe_confidence_range CHECK (dedupe_confidence BETWEEN 0 AND 1),
    CONSTRAINT posting_candidates_canonical_hash_length CHECK (octet_length(canonical_hash) = 32),
    CONSTRAINT posting_candidates_authority_rank_range CHECK (authority_rank BETWEEN 1 AND 4),
    CONSTRAINT posting_candidates_merged_into_id_fkey
        FOREIGN KEY (merged_into_id) REFERENCES posting_candidates (id),
    CONSTRAINT posting_candidates_authority_module_id_fkey
        FOREIGN KEY (authority_module_id) REFERENCES modules (id)
);

CREATE INDEX posting_candidates_queue ON posting_candidates (state, state_changed_at DESC, id DESC);
CREATE INDEX posting_candidates_canonical_hash ON posting_candidates (canonical_hash);
CREATE INDEX posting_candidates_source_identity ON posting_candidates (source_identity)
    WHERE source_identity IS NOT NULL;
CREATE INDEX posting_candidates_organization_key
    ON posting_candidates (organization_key, updated_at DESC, id DESC);
CREATE INDEX posting_candidates_title_key ON posting_candidates USING gin (title_key gin_trgm_ops);
CREATE INDEX posting_candidates_merged_into_id ON posting_candidates (merged_into_id)
    WHERE merged_into_id IS NOT NULL;

CREATE TABLE candidate_urls (
    candidate_id uuid NOT NULL,
    url_hash bytea NOT NULL,
    normalized_url text NOT NULL,
    role text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT candidate_urls_pkey PRIMARY KEY (candidate_id, url_hash, role),
    CONSTRAINT candidate_urls_candidate_id_fkey FOREIGN KEY (candidate_id) REFERENCES posting_candidates (id),
    CONSTRAINT candidate_urls_url_hash_length CHECK (octet_length(url_hash) = 32),
    CONSTRAINT candidate_urls_role_known
        CHECK (role IN ('submitted', 'resolved', 'canonical', 'claimed', 'application'))
);

CREATE INDEX candidate_urls_url_hash ON candidate_urls (url_hash);

-- ---------------------------------------------------------------------------------------------------------------
-- Discoveries: what was handed in. The submitted url … canonical_hash never change: the functions' role may not
-- update those columns.

CREATE TABLE discoveries (
    id uuid NOT NULL,
    origin_module_id uuid NOT NULL,
    external_id text,
    discovered_at timestamptz NOT NULL,
    url text NOT NULL,
    normalized_url text NOT NULL,
    canonical_hash bytea NOT NULL,
    title_hint text,
    organization_hint text,
    text_hint text,
    hints jsonb NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    source_key text,
    depth smallint NOT NULL DEFAULT 0,
    status text NOT NULL DEFAULT 'received',
    status_reason text,
    candidate_id uuid,
    resolved_url text,
    resolved_normalized_url text,
    resolved_canonical_hash bytea,
    resolved_at timestamptz,
    trace_context text,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT discoveries_pkey PRIMARY KEY (id),
    CONSTRAINT discoveries_origin_module_id_fkey FOREIGN KEY (origin_module_id) REFERENCES modules (id),
    CONSTRAINT discoveries_candidate_id_fkey FOREIGN KEY (candidate_id) REFERENCES posting_candidates (id),
    CONSTRAINT discoveries_canonical_hash_length CHECK (octet_length(canonical_hash) = 32),
    CONSTRAINT discoveries_resolved_canonical_hash_length CHECK (octet_length(resolved_canonical_hash) = 32),
    CONSTRAINT discoveries_resolved_whole CHECK (
        num_nulls(resolved_url, resolved_normalized_url, resolved_canonical_hash, resolved_at) IN (0, 4)
    ),
    CONSTRAINT discoveries_depth_range CHECK (depth IN (0, 1)),
    CONSTRAINT discoveries_status_known
        CHECK (status IN ('received', 'extracted', 'unusable', 'failed', 'withdrawn'))
);

CREATE UNIQUE INDEX discoveries_external_id_key ON discoveries (origin_module_id, external_id)
    WHERE external_id IS NOT NULL;
CREATE UNIQUE INDEX discoveries_url_key ON discoveries (origin_module_id, canonical_hash)
    WHERE external_id IS NULL;
CREATE INDEX discoveries_canonical_hash ON discoveries (canonical_hash);
CREATE INDEX discoveries_resolved_canonical_hash ON discoveries (resolved_canonical_hash)
    WHERE resolved_canonical_hash IS NOT NULL;
CREATE INDEX discoveries_module_created ON discoveries (origin_module_id, created_at DESC, id DESC);
CREATE INDEX discoveries_created ON discoveries (created_at DESC, id DESC);
CREATE INDEX discoveries_candidate_id ON discoveries (candidate_id) WHERE candidate_id IS NOT NULL;

-- By month of receipt; partitions are made and dropped by the functions of the ledger's migration.
CREATE TABLE sightings (
    discovery_id uuid NOT NULL,
    module_id uuid NOT NULL,
    seen_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    url text NOT NULL,
    content_hash bytea,
    CONSTRAINT sightings_discovery_id_fkey FOREIGN KEY (discovery_id) REFERENCES discoveries (id),
    CONSTRAINT sightings_module_id_fkey FOREIGN KEY (module_id) REFERENCES modules (id),
    CONSTRAINT sightings_content_hash_length CHECK (octet_length(content_hash) = 32)
) PARTITION BY RANGE (received_at);

CREATE INDEX sightings_discovery ON sightings (discovery_id, seen_at DESC);

SELECT partition_ensure('sightings');

CREATE TABLE evidence (
    id uuid NOT NULL,
    discovery_id uuid,
    module_id uuid,
    kind text NOT NULL,
    uri text,
    object_key text,
    content_hash bytea NOT NULL,
    captured_at timestamptz NOT NULL,
    content_type text NOT NULL,
    byte_size bigint NOT NULL,
    inline_text text,
    http jsonb,
    metadata jsonb NOT NULL DEFAULT '{}',
    purged_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT evidence_pkey PRIMARY KEY (id),
    CONSTRAINT evidence_discovery_id_fkey FOREIGN KEY (discovery_id) REFERENCES discoveries (id),
    CONSTRAINT evidence_module_id_fkey FOREIGN KEY (module_id) REFERENCES modules (id),
    CONSTRAINT evidence_kind_known CHECK (kind IN (
        'url_fetch', 'html_snapshot', 'screenshot', 'text', 'rss_item', 'social_post', 'telegram_message', 'other'
    )),
    CONSTRAINT evidence_has_content
        CHECK (uri IS NOT NULL OR object_key IS NOT NULL OR inline_text IS NOT NULL),
    CONSTRAINT evidence_content_hash_length CHECK (octet_length(content_hash) = 32),
    CONSTRAINT evidence_byte_size_range CHECK (byte_size >= 0),
    CONSTRAINT evidence_content_key UNIQUE NULLS NOT DISTINCT (module_id, discovery_id, kind, content_hash)
);

CREATE INDEX evidence_content_hash ON evidence (content_hash);
CREATE INDEX evidence_discovery_id ON evidence (discovery_id) WHERE discovery_id IS NOT NULL;

CREATE TABLE candidate_discoveries (
    candidate_id uuid NOT NULL,
    discovery_id uuid NOT NULL,
    via_merge_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT candidate_discoveries_pkey PRIMARY KEY (candidate_id, discovery_id),
    CONSTRAINT candidate_discoveries_candidate_id_fkey
        FOREIGN KEY (candidate_id) REFERENCES posting_candidates (id),
    CONSTRAINT candidate_discoveries_discovery_id_fkey FOREIGN KEY (discovery_id) REFERENCES discoveries (id)
);

CREATE INDEX candidate_discoveries_discovery_id ON candidate_discoveries (discovery_id);

CREATE TABLE candidate_evidence (
    candidate_id uuid NOT NULL,
    evidence_id uuid NOT NULL,
    via_merge_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT candidate_evidence_pkey PRIMARY KEY (candidate_id, evidence_id),
    CONSTRAINT candidate_evidence_candidate_id_fkey FOREIGN KEY (candidate_id) REFERENCES posting_candidates (id),
    CONSTRAINT candidate_evidence_evidence_id_fkey FOREIGN KEY (evidence_id) REFERENCES evidence (id)
);

CREATE INDEX candidate_evidence_evidence_id ON candidate_evidence (evidence_id);

-- ---------------------------------------------------------------------------------------------------------------
-- Postings: what the public sees. A row exists only from the first publication on.

CREATE TABLE postings (
    id uuid NOT NULL,
    candidate_id uuid NOT NULL,
    title text NOT NULL,
    canonical_url text NOT NULL,
    normalized_url text NOT NULL,
    canonical_hash bytea NOT NULL,
    organization_name text NOT NULL,
    sector text,
    degree_level text,
    opportunity_kind text,
    country text,
    region text,
    city text,
    remote boolean NOT NULL DEFAULT false,
    locations jsonb NOT NULL DEFAULT '[]',
    applicant_countries text[] NOT NULL DEFAULT '{}',
    tags text[] NOT NULL DEFAULT '{}',
    areas text[] NOT NULL DEFAULT '{}',
    employment_type text[] NOT NULL DEFAULT '{}',
    salary jsonb,
    description_text text,
    summary text,
    application_url text,
    identifier text,
    date_posted date,
    deadline timestamptz,
    deadline_date date,
    language text,
    source_refs jsonb NOT NULL DEFAULT '[]',
    status text NOT NULL,
    status_reason text NOT NULL,
    visible boolean NOT NULL,
    withdrawn_at timestamptz,
    published_at timestamptz NOT NULL,
    superseded_by uuid,
    title_fold text NOT NULL,
    organization_fold text NOT NULL,
    search tsvector NOT NULL GENERATED ALWAYS AS (
        search_document(language, title, organization_name, tags, areas, opportunity_kind, description_text)
    ) STORED,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT postings_pkey PRIMARY KEY (id),
    CONSTRAINT postings_candidate_id_key UNIQUE (candidate_id),
    CONSTRAINT postings_candidate_id_fkey FOREIGN KEY (candidate_id) REFERENCES posting_candidates (id),
    CONSTRAINT postings_superseded_by_fkey FOREIGN KEY (superseded_by) REFERENCES postings (id),
    CONSTRAINT postings_not_superseded_by_itself CHECK (superseded_by <> id),
    CONSTRAINT postings_superseded_is_hidden CHECK (superseded_by IS NULL OR NOT visible),
    CONSTRAINT postings_withdrawn_is_hidden CHECK (withdrawn_at IS NULL OR NOT visible),
    CONSTRAINT postings_status_known CHECK (status IN ('active', 'stale', 'archived', 'closed')),
    CONSTRAINT postings_live_is_visible CHECK (visible OR status NOT IN ('active', 'stale')),
    CONSTRAINT postings_canonical_hash_length CHECK (octet_length(canonical_hash) = 32),
    CONSTRAINT postings_opportunity_kind_known CHECK (opportunity_kind IN (
        'phd', 'postdoc', 'fellowship', 'grant', 'call', 'faculty', 'research_staff', 'internship', 'other'
    )),
    CONSTRAINT postings_country_form CHECK (country ~ '^[A-Z]{2}$')
);

CREATE UNIQUE INDEX postings_visible_hash_key ON postings (canonical_hash) WHERE visible;
CREATE INDEX postings_canonical_hash ON postings (canonical_hash);
CREATE INDEX postings_superseded_by ON postings (superseded_by) WHERE superseded_by IS NOT NULL;
CREATE INDEX postings_deadline ON postings (deadline) WHERE status IN ('active', 'stale');
-- What a module published today, for the daily limit: hidden ones count.
CREATE INDEX postings_published_at ON postings USING brin (published_at);
CREATE INDEX postings_search ON postings USING gin (search) WHERE visible;
CREATE INDEX postings_title_prefix ON postings (title_fold text_pattern_ops) WHERE visible;
CREATE INDEX postings_organization_prefix ON postings (organization_fold text_pattern_ops) WHERE visible;
CREATE INDEX postings_organization_part ON postings USING gin (organization_fold gin_trgm_ops) WHERE visible;
-- Filters do not mind case, so the index holds folded values.
CREATE INDEX postings_tags ON postings USING gin (lower_all(tags)) WHERE visible;
CREATE INDEX postings_areas ON postings USING gin (lower_all(areas)) WHERE visible;
CREATE INDEX postings_by_published ON postings (published_at DESC, id DESC) WHERE visible;
CREATE INDEX postings_by_created ON postings (created_at DESC, id DESC) WHERE visible;
CREATE INDEX postings_by_updated ON postings (updated_at DESC, id DESC) WHERE visible;
-- Nulls come last in both directions: one index cannot be read both ways.
CREATE INDEX postings_by_deadline_asc ON postings (deadline, id) WHERE visible;
CREATE INDEX postings_by_deadline_desc ON postings (deadline DESC NULLS LAST, id DESC) WHERE visible;

-- Apart from postings, so that a daily check rewrites a narrow row and no search index.
CREATE TABLE posting_checks (
    posting_id uuid NOT NULL,
    is_live boolean NOT NULL,
    last_confirmed_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    next_check_at timestamptz NOT NULL,
    check_failures integer NOT NULL DEFAULT 0,
    closed_strikes integer NOT NULL DEFAULT 0,
    etag text,
    last_modified text,
    page_hash bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT posting_checks_pkey PRIMARY KEY (posting_id),
    CONSTRAINT posting_checks_posting_id_fkey FOREIGN KEY (posting_id) REFERENCES postings (id),
    CONSTRAINT posting_checks_check_failures_range CHECK (check_failures >= 0),
    CONSTRAINT posting_checks_closed_strikes_range CHECK (closed_strikes >= 0),
    CONSTRAINT posting_checks_page_hash_length CHECK (octet_length(page_hash) = 32)
) WITH (fillfactor = 80);

CREATE INDEX posting_checks_due ON posting_checks (next_check_at, posting_id) WHERE is_live;
CREATE INDEX posting_checks_unconfirmed ON posting_checks (last_confirmed_at) WHERE is_live;

CREATE TABLE posting_revisions (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    posting_id uuid,
    candidate_id uuid NOT NULL,
    discovery_id uuid,
    fields jsonb NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    actor_type text NOT NULL,
    actor_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT posting_revisions_pkey PRIMARY KEY (id),
    CONSTRAINT posting_revisions_posting_id_fkey FOREIGN KEY (posting_id) REFERENCES postings (id),
    CONSTRAINT posting_revisions_candidate_id_fkey FOREIGN KEY (candidate_id) REFERENCES posting_candidates (id),
    CONSTRAINT posting_revisions_discovery_id_fkey FOREIGN KEY (discovery_id) REFERENCES discoveries (id),
    CONSTRAINT posting_revisions_state_known CHECK (state IN ('applied', 'proposed', 'dismissed')),
    CONSTRAINT posting_revisions_actor_type_known CHECK (actor_type IN ('machine', 'human', 'system'))
);

CREATE INDEX posting_revisions_candidate ON posting_revisions (candidate_id, id DESC);
CREATE INDEX posting_revisions_proposed ON posting_revisions (candidate_id, id DESC) WHERE state = 'proposed';

-- ---------------------------------------------------------------------------------------------------------------
-- Merges. Decisions are append-only; a merge can be undone.

CREATE TABLE candidate_merge_decisions (
    id uuid NOT NULL,
    primary_candidate_id uuid NOT NULL,
    secondary_candidate_id uuid NOT NULL,
    decision text NOT NULL,
    confidence numeric(5, 4),
    decided_by text NOT NULL,
    rationale text,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT candidate_merge_decisions_pkey PRIMARY KEY (id),
    CONSTRAINT candidate_merge_decisions_primary_fkey
        FOREIGN KEY (primary_candidate_id) REFERENCES posting_candidates (id),
    CONSTRAINT candidate_merge_decisions_secondary_fkey
        FOREIGN KEY (secondary_candidate_id) REFERENCES posting_candidates (id),
    CONSTRAINT candidate_merge_decisions_two_candidates CHECK (primary_candidate_id <> secondary_candidate_id),
    CONSTRAINT candidate_merge_decisions_decision_known
        CHECK (decision IN ('auto_merged', 'manual_merged', 'rejected', 'needs_review', 'unmerged')),
    CONSTRAINT candidate_merge_decisions_confidence_range CHECK (confidence BETWEEN 0 AND 1)
);

CREATE INDEX candidate_merge_decisions_primary
    ON candidate_merge_decisions (primary_candidate_id, created_at DESC);
CREATE INDEX candidate_merge_decisions_secondary
    ON candidate_merge_decisions (secondary_candidate_id, created_at DESC);

CREATE TABLE candidate_merges (
    id uuid NOT NULL,
    primary_candidate_id uuid NOT NULL,
    secondary_candidate_id uuid NOT NULL,
    decision_id uuid NOT NULL,
    undo jsonb NOT NULL,
    reversed_at timestamptz,
    reversed_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT candidate_merges_pkey PRIMARY KEY (id),
    CONSTRAINT candidate_merges_primary_fkey
        FOREIGN KEY (primary_candidate_id) REFERENCES posting_candidates (id),
    CONSTRAINT candidate_merges_secondary_fkey
        FOREIGN KEY (secondary_candidate_id) REFERENCES posting_candidates (id),
    CONSTRAINT candidate_merges_decision_id_fkey
        FOREIGN KEY (decision_id) REFERENCES candidate_merge_decisions (id),
    CONSTRAINT candidate_merges_two_candidates CHECK (primary_candidate_id <> secondary_candidate_id),
    CONSTRAINT candidate_merges_reversal_whole CHECK ((reversed_at IS NULL) = (reversed_by IS NULL))
);

CREATE UNIQUE INDEX candidate_merges_standing_key ON candidate_merges (secondary_candidate_id)
    WHERE reversed_at IS NULL;
CREATE INDEX candidate_merges_primary ON candidate_merges (primary_candidate_id, created_at DESC);

-- Links that a merge copied say so; the undo deletes exactly those.
ALTER TABLE candidate_discoveries ADD CONSTRAINT candidate_discoveries_via_merge_id_fkey
    FOREIGN KEY (via_merge_id) REFERENCES candidate_merges (id);
ALTER TABLE candidate_evidence ADD CONSTRAINT candidate_evidence_via_merge_id_fkey
    FOREIGN KEY (via_merge_id) REFERENCES candidate_merges (id);
CREATE INDEX candidate_discoveries_via_merge_id ON candidate_discoveries (via_merge_id)
    WHERE via_merge_id IS NOT NULL;
CREATE INDEX candidate_evidence_via_merge_id ON candidate_evidence (via_merge_id)
    WHERE via_merge_id IS NOT NULL;

-- ---------------------------------------------------------------------------------------------------------------
-- Provenance: what happened, for ever. Refused twice: the functions' role lacks the right, and a trigger stops the
-- owner's slips too.

CREATE TABLE provenance_events (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    entity_type text NOT NULL,
    entity_id text NOT NULL,
    event_type text NOT NULL,
    actor_type text NOT NULL,
    actor_id text NOT NULL,
    request_id text,
    trace_id text,
    payload jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT provenance_events_pkey PRIMARY KEY (id),
    CONSTRAINT provenance_events_actor_type_known CHECK (actor_type IN ('machine', 'human', 'system')),
    CONSTRAINT provenance_events_actor_named CHECK (actor_id <> '')
);

CREATE INDEX provenance_events_entity ON provenance_events (entity_type, entity_id, id DESC);
CREATE INDEX provenance_events_actor ON provenance_events (actor_id, id DESC);
CREATE INDEX provenance_events_created ON provenance_events USING brin (created_at);

CREATE FUNCTION refuse_change() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER provenance_events_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON provenance_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER candidate_merge_decisions_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON candidate_merge_decisions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- ---------------------------------------------------------------------------------------------------------------
-- Policies and settings.

CREATE TABLE source_trust_policy (
    id uuid NOT NULL,
    source_key text NOT NULL,
    trust_level text NOT NULL,
    auto_publish boolean NOT NULL,
    requires_moderation boolean NOT NULL,
    rules_json jsonb NOT NULL DEFAULT '{}',
    enabled boolean NOT NULL DEFAULT true,
    allow_elevation boolean NOT NULL DEFAULT false,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT source_trust_policy_pkey PRIMARY KEY (id),
    CONSTRAINT source_trust_policy_source_key_key UNIQUE (source_key),
    CONSTRAINT source_trust_policy_source_key_form CHECK (source_key ~ '^[a-z0-9:._/-]{1,200}$'),
    CONSTRAINT source_trust_policy_trust_level_known
        CHECK (trust_level IN ('trusted', 'semi_trusted', 'untrusted')),
    CONSTRAINT source_trust_policy_rules_object CHECK (jsonb_typeof(rules_json) = 'object')
);

CREATE TABLE url_normalization_overrides (
    id uuid NOT NULL,
    domain text NOT NULL,
    strip_query_params text[] NOT NULL DEFAULT '{}',
    strip_query_prefixes text[] NOT NULL DEFAULT '{}',
    keep_query_params text[] NOT NULL DEFAULT '{}',
    strip_www boolean NOT NULL DEFAULT false,
    force_https boolean NOT NULL DEFAULT false,
    enabled boolean NOT NULL DEFAULT true,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT url_normalization_overrides_pkey PRIMARY KEY (id),
    CONSTRAINT url_normalization_overrides_domain_key UNIQUE (domain),
    CONSTRAINT url_normalization_overrides_domain_length CHECK (char_length(domain) BETWEEN 3 AND 253),
    CONSTRAINT url_normalization_overrides_lists_length CHECK (
        cardinality(strip_query_params) <= 100
        AND cardinality(strip_query_prefixes) <= 100
        AND cardinality(keep_query_params) <= 100
    )
);

CREATE TABLE url_rules_version (
    is_the_row boolean NOT NULL DEFAULT true,
    version bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT url_rules_version_pkey PRIMARY KEY (is_the_row),
    CONSTRAINT url_rules_version_single CHECK (is_the_row)
);

CREATE TABLE idempotency_keys (
    principal text NOT NULL,
    op text NOT NULL,
    key text NOT NULL,
    request_digest bytea NOT NULL,
    response bytea,
    status integer,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (principal, op, key),
    CONSTRAINT idempotency_keys_response_whole CHECK ((response IS NULL) = (status IS NULL))
);

CREATE INDEX idempotency_keys_expires_at ON idempotency_keys (expires_at);

CREATE TABLE host_policies (
    host text NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    extra_ports integer[] NOT NULL DEFAULT '{}',
    min_interval_ms integer NOT NULL DEFAULT 1000,
    robots text NOT NULL DEFAULT 'obey',
    reason text,
    robots_txt text,
    robots_status text,
    robots_fetched_at timestamptz,
    robots_retry_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT host_policies_pkey PRIMARY KEY (host),
    CONSTRAINT host_policies_extra_ports_length CHECK (cardinality(extra_ports) <= 5),
    CONSTRAINT host_policies_extra_ports_range CHECK (1 <= ALL (extra_ports) AND 65535 >= ALL (extra_ports)),
    CONSTRAINT host_policies_min_interval_range CHECK (min_interval_ms BETWEEN 0 AND 300000),
    CONSTRAINT host_policies_robots_known CHECK (robots IN ('obey', 'ignore_with_reason')),
    CONSTRAINT host_policies_robots_status_known
        CHECK (robots_status IN ('fetched', 'none', 'wait', 'unreachable')),
    CONSTRAINT host_policies_robots_reason CHECK (robots = 'obey' OR reason IS NOT NULL)
);

-- Rewritten at each request to a host: no secondary index, room for HOT updates.
CREATE TABLE host_permits (
    host text NOT NULL,
    token uuid,
    expires_at timestamptz,
    next_at timestamptz NOT NULL,
    started_at timestamptz,
    CONSTRAINT host_permits_pkey PRIMARY KEY (host),
    CONSTRAINT host_permits_holder_whole CHECK ((token IS NULL) = (expires_at IS NULL))
) WITH (fillfactor = 50);

-- The turn that a job has booked: it comes back for it and does not book again.
CREATE TABLE host_turns (
    host text NOT NULL,
    job_id uuid NOT NULL,
    turn_at timestamptz NOT NULL,
    CONSTRAINT host_turns_pkey PRIMARY KEY (host, job_id)
);

CREATE TABLE server_keys (
    key_id text NOT NULL,
    purpose text NOT NULL,
    secret bytea NOT NULL,
    retired_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT server_keys_pkey PRIMARY KEY (key_id),
    CONSTRAINT server_keys_purpose_known CHECK (purpose IN ('cursor', 'object_link')),
    CONSTRAINT server_keys_secret_length CHECK (octet_length(secret) = 32)
);

CREATE TABLE submissions (
    id uuid NOT NULL,
    submitted_by text NOT NULL,
    discovery_id uuid NOT NULL,
    status text NOT NULL DEFAULT 'queued',
    notes text,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT submissions_pkey PRIMARY KEY (id),
    CONSTRAINT submissions_discovery_id_fkey FOREIGN KEY (discovery_id) REFERENCES discoveries (id),
    CONSTRAINT submissions_status_known CHECK (status IN ('queued', 'approved', 'rejected'))
);

CREATE INDEX submissions_submitted_by ON submissions (submitted_by, created_at DESC);
CREATE INDEX submissions_discovery_id ON submissions (discovery_id);

-- ---------------------------------------------------------------------------------------------------------------
-- Rows that the rules rely on. No module key is ever seeded.

INSERT INTO modules (id, module_id, name, kind, intake_mode, trust_level)
VALUES (
    '01930000-0000-7000-8000-000000000001', 'human-submissions', 'Submissions by people', 'connector', 'manual',
    'untrusted'
);

-- The built-in values of each trust level, there to be changed.
INSERT INTO source_trust_policy (id, source_key, trust_level, auto_publish, requires_moderation, rules_json)
VALUES
    (
        '01930000-0000-7000-8000-000000000011', 'default:trusted', 'trusted', true, false,
        '{"min_confidence": 0.70}'
    ),
    (
        '01930000-0000-7000-8000-000000000012', 'default:semi_trusted', 'semi_trusted', true, true,
        '{"min_confidence": 0.85, "allow_if_no_conflicts": true}'
    ),
    ('01930000-0000-7000-8000-000000000013', 'default:untrusted', 'untrusted', false, true, '{}');

INSERT INTO url_rules_version (version) VALUES (1);

-- 244 random bits each: gen_random_uuid reads the system's strong source.
INSERT INTO server_keys (key_id, purpose, secret)
SELECT
    purpose || '-1',
    purpose,
    sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
FROM unnest(ARRAY['cursor', 'object_link']) AS purpose;

-- ---------------------------------------------------------------------------------------------------------------
-- What the functions may do: read everything here, write what some statement of theirs writes.

GRANT SELECT ON
    modules, module_keys, ingest_counters, posting_candidates, candidate_urls, discoveries, sightings, evidence,
    candidate_discoveries, candidate_evidence, postings, posting_checks, posting_revisions,
    candidate_merge_decisions, candidate_merges, provenance_events, source_trust_policy,
    url_normalization_overrides, url_rules_version, idempotency_keys, host_policies, host_permits, host_turns,
    server_keys, submissions
TO callboard_app;

GRANT INSERT ON
    modules, module_keys, ingest_counters, posting_candidates, candidate_urls, discoveries, sightings, evidence,
    candidate_discoveries, candidate_evidence, postings, posting_checks, posting_revisions,
    candidate_merge_decisions, candidate_merges, provenance_events, source_trust_policy,
    url_normalization_overrides, idempotency_keys, host_policies, host_permits, host_turns, submissions
TO callboard_app;

GRANT UPDATE ON
    modules, module_keys, ingest_counters, posting_candidates, postings, posting_checks, posting_revisions,
    source_trust_policy, url_normalization_overrides, url_rules_version, idempotency_keys, host_policies,
    host_permits, host_turns, submissions
TO callboard_app;

-- What was submitted and what was captured stay as they are.
GRANT UPDATE (
    status, status_reason, candidate_id, resolved_url, resolved_normalized_url, resolved_canonical_hash,
    resolved_at, trace_context, version, updated_at
) ON discoveries TO callboard_app;
GRANT UPDATE (discovery_id, object_key, inline_text, purged_at) ON evidence TO callboard_app;
GRANT UPDATE (reversed_at, reversed_by) ON candidate_merges TO callboard_app;

GRANT DELETE ON
    ingest_counters, candidate_urls, candidate_discoveries, candidate_evidence, source_trust_policy,
    url_normalization_overrides, idempotency_keys, host_permits, host_turns
TO callboard_app;
