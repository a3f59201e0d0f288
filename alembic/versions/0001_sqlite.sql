CREATE TABLE events (
    position INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    stream_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    part SMALLINT NOT NULL,
    type TEXT NOT NULL,
    recorded_at TEXT NOT NULL,
    facts TEXT NOT NULL,
    content TEXT,
    salt BLOB,
    content_digest BLOB NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (position),
    CONSTRAINT events_stream_version UNIQUE (stream_id, version),
    CONSTRAINT events_event_id UNIQUE (event_id),
    CONSTRAINT events_numbered_from_one CHECK (position >= 1 AND version >= 1),
    CONSTRAINT events_part CHECK (part >= 0 AND part < 64)
);

CREATE INDEX events_type ON events (type, position);

CREATE TABLE enrichment_status (
    stream_id TEXT NOT NULL,
    enrichment TEXT NOT NULL,
    job_id TEXT NOT NULL,
    part SMALLINT NOT NULL,
    fold_version SMALLINT NOT NULL,
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    budget_used INTEGER NOT NULL,
    grants INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    deferrals INTEGER NOT NULL,
    deferred_since TEXT,
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
    due_at TEXT,
    completed_at TEXT,
    batch TEXT,
    before_batch TEXT,
    request_model TEXT,
    prompt_hash TEXT,
    schema_hash TEXT,
    input_hash TEXT,
    bases TEXT,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_microdollars INTEGER NOT NULL,
    unpriced_calls INTEGER NOT NULL,
    reserved_microdollars INTEGER NOT NULL,
    erased_attempts INTEGER NOT NULL,
    projection_error TEXT,
    untold_result BOOLEAN,
    PRIMARY KEY (stream_id),
    CONSTRAINT enrichment_status_state CHECK (state IN ('pending', 'running', 'succeeded', 'failed', 'dismissed'))
);

CREATE INDEX enrichment_status_alone ON enrichment_status (enrichment, due_at) WHERE deaths > 0 AND due_at IS NOT NULL;

CREATE INDEX enrichment_status_awaiting ON enrichment_status (batch, due_at) WHERE state = 'pending' AND batch IS NOT NULL;

CREATE INDEX enrichment_status_batch ON enrichment_status (batch, stream_id) WHERE before_batch IS NOT NULL;

CREATE INDEX enrichment_status_due ON enrichment_status (enrichment, (budget_used - grants), due_at) WHERE state = 'failed' AND due_at IS NOT NULL;

CREATE INDEX enrichment_status_failed ON enrichment_status (enrichment, completed_at, error_type) WHERE state = 'failed';

CREATE INDEX enrichment_status_not_shown ON enrichment_status (stream_id) WHERE projection_error IS NOT NULL;

CREATE INDEX enrichment_status_pending ON enrichment_status (enrichment, due_at) WHERE state = 'pending';

CREATE INDEX enrichment_status_raised ON enrichment_status (enrichment, due_at) WHERE state = 'failed' AND due_at IS NOT NULL AND max_attempts IS NOT NULL;

CREATE INDEX enrichment_status_retry ON enrichment_status (enrichment, error_type, job_id, retryable, budget_used, grants, max_attempts, cap, deaths, due_at, completed_at, request_model) WHERE state = 'failed';

CREATE INDEX enrichment_status_running ON enrichment_status (enrichment, due_at) WHERE state = 'running';

CREATE TABLE breaker (
    endpoint TEXT NOT NULL,
    request_model TEXT NOT NULL,
    credential TEXT NOT NULL,
    state TEXT NOT NULL,
    failures INTEGER NOT NULL,
    failing TEXT NOT NULL,
    opened_position INTEGER NOT NULL,
    opened_at TEXT,
    open_until TEXT,
    cooldown_seconds INTEGER,
    error_type TEXT,
    error_code TEXT,
    http_status INTEGER,
    actor TEXT,
    probe_id TEXT,
    probe_until TEXT,
    not_before TEXT,
    PRIMARY KEY (endpoint, request_model, credential),
    CONSTRAINT breaker_state CHECK (state IN ('closed', 'open', 'half_open'))
);

CREATE TABLE batches (
    batch TEXT NOT NULL,
    enrichment TEXT,
    why TEXT,
    actor TEXT,
    requested_at TEXT,
    requested INTEGER NOT NULL,
    first_position INTEGER,
    last_position INTEGER,
    freed INTEGER NOT NULL,
    cancelled_at TEXT,
    cancelled_by TEXT,
    PRIMARY KEY (batch)
);

CREATE TABLE enrichment_stats_hourly (
    hour TEXT NOT NULL,
    enrichment TEXT NOT NULL,
    request_model TEXT NOT NULL,
    prompt_version TEXT NOT NULL,
    error_type TEXT NOT NULL,
    ends INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    late INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_microdollars INTEGER NOT NULL,
    unpriced_calls INTEGER NOT NULL,
    latency TEXT NOT NULL,
    succeeded_at TEXT NOT NULL,
    PRIMARY KEY (hour, enrichment, request_model, prompt_version, error_type)
);

CREATE TABLE checkpoints (
    projection TEXT NOT NULL,
    fold_version SMALLINT NOT NULL,
    position INTEGER,
    checked_at TEXT,
    checked_position INTEGER,
    drift INTEGER,
    PRIMARY KEY (projection)
);

CREATE TABLE rebuilds (
    projections TEXT NOT NULL,
    share TEXT NOT NULL,
    last_stream TEXT NOT NULL,
    moved_at TEXT NOT NULL,
    PRIMARY KEY (projections, share)
);

CREATE TABLE workers (
    name TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    place TEXT NOT NULL,
    enrichment TEXT NOT NULL,
    request_model TEXT NOT NULL,
    prompt_hash TEXT NOT NULL,
    schema_hash TEXT NOT NULL,
    concurrency INTEGER NOT NULL,
    state TEXT NOT NULL,
    in_flight INTEGER NOT NULL,
    since TEXT NOT NULL,
    last_seen TEXT NOT NULL,
    PRIMARY KEY (name),
    CONSTRAINT workers_state CHECK (state IN ('starting', 'idle', 'working', 'waiting', 'away', 'draining'))
);

CREATE TABLE limits (
    endpoint TEXT NOT NULL,
    request_model TEXT NOT NULL,
    credential TEXT NOT NULL,
    unit TEXT NOT NULL,
    own INTEGER NOT NULL,
    amount INTEGER,
    used INTEGER NOT NULL,
    full_at TEXT,
    minute TEXT,
    braked_at TEXT,
    braked_to INTEGER,
    braked_position INTEGER NOT NULL,
    PRIMARY KEY (endpoint, request_model, credential, unit, own),
    CONSTRAINT limits_unit CHECK (unit IN ('requests', 'tokens', 'microdollars')),
    CONSTRAINT limits_amount CHECK (amount > 0)
);

-- Events are never changed. The one exception: content and salt become null once the stream has a later ContentErased.
CREATE TRIGGER events_refuse_update BEFORE UPDATE ON events
WHEN NOT (
    NEW.content IS NULL AND NEW.salt IS NULL
    AND NEW.position IS OLD.position AND NEW.event_id IS OLD.event_id AND NEW.stream_id IS OLD.stream_id
    AND NEW.version IS OLD.version AND NEW.part IS OLD.part AND NEW.type IS OLD.type
    AND NEW.recorded_at IS OLD.recorded_at AND NEW.facts IS OLD.facts
    AND NEW.content_digest IS OLD.content_digest AND NEW.hash IS OLD.hash
    AND EXISTS (
        SELECT 1 FROM events AS later
        WHERE later.stream_id = OLD.stream_id AND later.version > OLD.version AND later.type = 'ContentErased'
    )
)
BEGIN
    SELECT RAISE(ABORT, 'events is append-only: UPDATE is refused');
END;

CREATE TRIGGER events_refuse_delete BEFORE DELETE ON events
BEGIN
    SELECT RAISE(ABORT, 'events is append-only: DELETE is refused');
END;

-- INSERT OR REPLACE deletes without firing the trigger above.
CREATE TRIGGER events_refuse_replace BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE position = NEW.position)
    OR EXISTS (SELECT 1 FROM events WHERE event_id = NEW.event_id)
    OR EXISTS (SELECT 1 FROM events WHERE stream_id = NEW.stream_id AND version = NEW.version)
BEGIN
    SELECT RAISE(ABORT, 'events is append-only: this position, event id or version is taken');
END;
