CREATE TABLE {ours}events (
    position BIGINT NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    stream_id TEXT COLLATE "C" NOT NULL,
    version INTEGER NOT NULL,
    part SMALLINT NOT NULL,
    type TEXT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    facts TEXT NOT NULL,
    content TEXT,
    salt BYTEA,
    content_digest BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY (position),
    CONSTRAINT events_stream_version UNIQUE (stream_id, version),
    CONSTRAINT events_event_id UNIQUE (event_id),
    CONSTRAINT events_numbered_from_one CHECK (position >= 1 AND version >= 1),
    CONSTRAINT events_part CHECK (part >= 0 AND part < 64)
);

CREATE INDEX events_type ON {ours}events (type, position);

CREATE TABLE {ours}enrichment_status (
    stream_id TEXT COLLATE "C" NOT NULL,
    enrichment TEXT COLLATE "C" NOT NULL,
    job_id TEXT COLLATE "C" NOT NULL,
    part SMALLINT NOT NULL,
    fold_version SMALLINT NOT NULL,
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    budget_used INTEGER NOT NULL,
    grants INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    deferrals INTEGER NOT NULL,
    deferred_since TIMESTAMP WITH TIME ZONE,
    deaths INTEGER NOT NULL,
    successes INTEGER NOT NULL,
    max_attempts INTEGER,
    attempt_id TEXT,
    worker TEXT,
    rerun BOOLEAN NOT NULL,
    awaiting BOOLEAN NOT NULL,
    error_type TEXT,
    counted BOOLEAN,
    retryable BOOLEAN,
    cap INTEGER,
    max_deferrals INTEGER,
    due_at TIMESTAMP WITH TIME ZONE,
    completed_at TIMESTAMP WITH TIME ZONE,
    batch TEXT,
    before_batch TEXT,
    request_model TEXT,
    prompt_hash TEXT,
    schema_hash TEXT,
    input_hash TEXT,
    bases TEXT,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cost_microdollars BIGINT NOT NULL,
    unpriced_calls INTEGER NOT NULL,
    reserved_microdollars BIGINT NOT NULL,
    erased_attempts INTEGER NOT NULL,
    projection_error TEXT,
    untold_result BOOLEAN,
    PRIMARY KEY (stream_id),
    CONSTRAINT enrichment_status_state CHECK (state IN ('pending', 'running', 'succeeded', 'failed', 'dismissed'))
);

CREATE INDEX enrichment_status_alone ON {ours}enrichment_status (enrichment, due_at) WHERE deaths > 0 AND due_at IS NOT NULL;

CREATE INDEX enrichment_status_awaiting ON {ours}enrichment_status (batch, due_at) WHERE state = 'pending' AND batch IS NOT NULL;

CREATE INDEX enrichment_status_batch ON {ours}enrichment_status (batch, stream_id) WHERE before_batch IS NOT NULL;

CREATE INDEX enrichment_status_due ON {ours}enrichment_status (enrichment, (budget_used - grants), due_at) WHERE state = 'failed' AND due_at IS NOT NULL;

CREATE INDEX enrichment_status_failed ON {ours}enrichment_status (enrichment, completed_at, error_type) WHERE state = 'failed';

CREATE INDEX enrichment_status_not_shown ON {ours}enrichment_status (stream_id) WHERE projection_error IS NOT NULL;

CREATE INDEX enrichment_status_pending ON {ours}enrichment_status (enrichment, due_at) WHERE state = 'pending';

CREATE INDEX enrichment_status_raised ON {ours}enrichment_status (enrichment, due_at) WHERE state = 'failed' AND due_at IS NOT NULL AND max_attempts IS NOT NULL;

CREATE INDEX enrichment_status_retry ON {ours}enrichment_status (enrichment, error_type, job_id, retryable, budget_used, grants, max_attempts, cap, deaths, due_at, completed_at, request_model) WHERE state = 'failed';

CREATE INDEX enrichment_status_running ON {ours}enrichment_status (enrichment, due_at) WHERE state = 'running';

CREATE TABLE {ours}breaker (
    endpoint TEXT COLLATE "C" NOT NULL,
    request_model TEXT COLLATE "C" NOT NULL,
    credential TEXT COLLATE "C" NOT NULL,
    state TEXT NOT NULL,
    failures INTEGER NOT NULL,
    failing TEXT NOT NULL,
    opened_position BIGINT NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE,
    open_until TIMESTAMP WITH TIME ZONE,
    cooldown_seconds INTEGER,
    error_type TEXT,
    error_code TEXT,
    http_status INTEGER,
    actor TEXT,
    probe_id TEXT,
    probe_until TIMESTAMP WITH TIME ZONE,
    not_before TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (endpoint, request_model, credential),
    CONSTRAINT breaker_state CHECK (state IN ('closed', 'open', 'half_open'))
);

CREATE TABLE {ours}batches (
    batch TEXT COLLATE "C" NOT NULL,
    enrichment TEXT COLLATE "C",
    why TEXT,
    actor TEXT,
    requested_at TIMESTAMP WITH TIME ZONE,
    requested INTEGER NOT NULL,
    first_position BIGINT,
    last_position BIGINT,
    freed INTEGER NOT NULL,
    cancelled_at TIMESTAMP WITH TIME ZONE,
    cancelled_by TEXT,
    PRIMARY KEY (batch)
);

CREATE TABLE {ours}enrichment_stats_hourly (
    hour TIMESTAMP WITH TIME ZONE NOT NULL,
    enrichment TEXT COLLATE "C" NOT NULL,
    request_model TEXT COLLATE "C" NOT NULL,
    prompt_version TEXT COLLATE "C" NOT NULL,
    error_type TEXT COLLATE "C" NOT NULL,
    ends BIGINT NOT NULL,
    calls BIGINT NOT NULL,
    late BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cost_microdollars BIGINT NOT NULL,
    unpriced_calls BIGINT NOT NULL,
    latency TEXT NOT NULL,
    succeeded_at TEXT NOT NULL,
    PRIMARY KEY (hour, enrichment, request_model, prompt_version, error_type)
);

CREATE TABLE {ours}checkpoints (
    projection TEXT COLLATE "C" NOT NULL,
    fold_version SMALLINT NOT NULL,
    position BIGINT,
    checked_at TIMESTAMP WITH TIME ZONE,
    checked_position BIGINT,
    drift INTEGER,
    PRIMARY KEY (projection)
);

CREATE TABLE {ours}rebuilds (
    projections TEXT COLLATE "C" NOT NULL,
    share TEXT COLLATE "C" NOT NULL,
    last_stream TEXT COLLATE "C" NOT NULL,
    moved_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (projections, share)
);

CREATE TABLE {ours}workers (
    name TEXT COLLATE "C" NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    place TEXT NOT NULL,
    enrichment TEXT COLLATE "C" NOT NULL,
    request_model TEXT NOT NULL,
    prompt_hash TEXT NOT NULL,
    schema_hash TEXT NOT NULL,
    concurrency INTEGER NOT NULL,
    state TEXT NOT NULL,
    in_flight INTEGER NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL,
    last_seen TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (name),
    CONSTRAINT workers_state CHECK (state IN ('starting', 'idle', 'working', 'waiting', 'away', 'draining'))
);

CREATE TABLE {ours}limits (
    endpoint TEXT COLLATE "C" NOT NULL,
    request_model TEXT COLLATE "C" NOT NULL,
    credential TEXT COLLATE "C" NOT NULL,
    unit TEXT COLLATE "C" NOT NULL,
    own BIGINT NOT NULL,
    amount BIGINT,
    used BIGINT NOT NULL,
    full_at TIMESTAMP WITH TIME ZONE,
    minute TEXT,
    braked_at TIMESTAMP WITH TIME ZONE,
    braked_to INTEGER,
    braked_position BIGINT NOT NULL,
    PRIMARY KEY (endpoint, request_model, credential, unit, own),
    CONSTRAINT limits_unit CHECK (unit IN ('requests', 'tokens', 'microdollars')),
    CONSTRAINT limits_amount CHECK (amount > 0)
);

-- Events are never changed. The one exception: content and salt become null once the stream has a later ContentErased.
CREATE FUNCTION {ours}refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'events is append-only: % is refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;

CREATE FUNCTION {ours}is_erased(stream text, before integer) RETURNS boolean LANGUAGE sql STABLE
SET search_path = pg_catalog AS $$
    SELECT EXISTS (
        SELECT 1 FROM {ours}events WHERE stream_id = stream AND version > before AND type = 'ContentErased'
    )
$$;

CREATE TRIGGER events_refuse_update BEFORE UPDATE ON {ours}events FOR EACH ROW
WHEN (NOT (
    NEW.content IS NULL AND NEW.salt IS NULL
    AND (NEW.position, NEW.event_id, NEW.stream_id, NEW.version, NEW.part, NEW.type, NEW.recorded_at, NEW.facts,
         NEW.content_digest, NEW.hash)
      = (OLD.position, OLD.event_id, OLD.stream_id, OLD.version, OLD.part, OLD.type, OLD.recorded_at, OLD.facts,
         OLD.content_digest, OLD.hash)
    AND {ours}is_erased(OLD.stream_id, OLD.version)
))
EXECUTE FUNCTION {ours}refuse_change();

CREATE TRIGGER events_refuse_delete BEFORE DELETE ON {ours}events FOR EACH ROW EXECUTE FUNCTION {ours}refuse_change();
CREATE TRIGGER events_refuse_truncate BEFORE TRUNCATE ON {ours}events EXECUTE FUNCTION {ours}refuse_change();

-- Also while session_replication_role is replica, as restores and replication set it.
ALTER TABLE {ours}events ENABLE ALWAYS TRIGGER events_refuse_update;
ALTER TABLE {ours}events ENABLE ALWAYS TRIGGER events_refuse_delete;
ALTER TABLE {ours}events ENABLE ALWAYS TRIGGER events_refuse_truncate;
