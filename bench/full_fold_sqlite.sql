-- No sort: the index of streams is walked twice, and JSON is opened only where a column comes from that event.
CREATE TEMP TABLE marks(
    stream_id PRIMARY KEY, part, version, asked, begun, ended, well, fresh, undeferred
) WITHOUT ROWID;

INSERT INTO marks
SELECT stream_id, part, max(version) AS version,
    max(version) FILTER (WHERE type = 'EnrichmentRequested') AS asked,
    max(version) FILTER (WHERE type = 'EnrichmentStarted') AS begun,
    max(version) FILTER (WHERE type IN ('EnrichmentSucceeded', 'EnrichmentFailed')) AS ended,
    max(version) FILTER (WHERE type = 'EnrichmentSucceeded') AS well,
    max(version) FILTER (WHERE type = 'EnrichmentSucceeded' OR
        type = 'EnrichmentRequested' AND facts ->> '$.why' IN ('new', 'changed', 'force')) AS fresh,
    max(version) FILTER (WHERE type IN ('EnrichmentSucceeded', 'EnrichmentRequested')) AS undeferred
FROM events WHERE substr(stream_id, 1, 1) <> '$' GROUP BY stream_id;

CREATE TEMP TABLE folded AS
WITH told AS (
    SELECT m.stream_id, m.part, m.version, asked, begun, ended, well, fresh,
        count(*) FILTER (WHERE type = 'EnrichmentStarted') AS attempts,
        count(*) FILTER (WHERE type = 'EnrichmentFailed' AND e.version > fresh AND facts ->> '$.counts') AS budget_used,
        coalesce(sum(facts ->> '$.grant')
            FILTER (WHERE type = 'EnrichmentRequested' AND e.version > fresh), 0) AS grants,
        count(*) FILTER (WHERE type = 'EnrichmentFailed' AND e.version > fresh) AS failures,
        count(*) FILTER (WHERE type = 'EnrichmentFailed' AND e.version > undeferred AND NOT facts ->> '$.counts'
            AND (facts ->> '$.max_deferrals') IS NOT NULL) AS deferrals,
        min(facts ->> '$.occurred_at') FILTER (
            WHERE type = 'EnrichmentFailed' AND e.version > undeferred AND NOT facts ->> '$.counts'
            AND coalesce(facts ->> '$.max_deferrals', facts ->> '$.max_deferred_seconds') IS NOT NULL
        ) AS deferred_since,
        count(*) FILTER (WHERE type = 'EnrichmentSucceeded') AS successes,
        coalesce(sum(facts ->> '$.input_tokens')
            FILTER (WHERE type IN ('EnrichmentSucceeded', 'EnrichmentFailed')), 0) AS input_tokens,
        coalesce(sum(facts ->> '$.output_tokens')
            FILTER (WHERE type IN ('EnrichmentSucceeded', 'EnrichmentFailed')), 0) AS output_tokens,
        coalesce(sum(facts ->> '$.cost_microdollars')
            FILTER (WHERE type IN ('EnrichmentSucceeded', 'EnrichmentFailed')), 0) AS cost_microdollars,
        count(*) FILTER (WHERE type IN ('EnrichmentSucceeded', 'EnrichmentFailed')
            AND facts ->> '$.called' AND (facts ->> '$.cost_microdollars') IS NULL) AS unpriced_calls,
        max(facts ->> '$.occurred_at') FILTER (WHERE e.version = asked) AS asked_at,
        max(facts ->> '$.max_attempts') FILTER (WHERE e.version = asked) AS max_attempts,
        max(facts ->> '$.batch') FILTER (WHERE e.version = asked) AS batch,
        max(facts ->> '$.input_hash') FILTER (WHERE e.version = asked) AS asked_hash,
        max(facts ->> '$.occurred_at') FILTER (WHERE e.version = begun) AS begun_at,
        max(facts ->> '$.attempt_id') FILTER (WHERE e.version = begun) AS attempt_id,
        max(facts ->> '$.worker') FILTER (WHERE e.version = begun) AS worker,
        max(facts ->> '$.lease_seconds') FILTER (WHERE e.version = begun) AS lease_seconds,
        max(facts ->> '$.reserved_microdollars') FILTER (WHERE e.version = begun) AS reserved_microdollars,
        max(facts ->> '$.request_model') FILTER (WHERE e.version = begun) AS request_model,
        max(facts ->> '$.prompt_hash') FILTER (WHERE e.version = begun) AS prompt_hash,
        max(facts ->> '$.schema_hash') FILTER (WHERE e.version = begun) AS schema_hash,
        max(facts ->> '$.input_hash') FILTER (WHERE e.version = begun) AS begun_hash,
        max(facts ->> '$.occurred_at') FILTER (WHERE e.version = ended) AS ended_at,
        max(facts ->> '$.error_type') FILTER (WHERE e.version = ended) AS error_type,
        max(facts ->> '$.retryable') FILTER (WHERE e.version = ended) AS retryable,
        max(facts ->> '$.counts') FILTER (WHERE e.version = ended) AS counted,
        max(facts ->> '$.cap') FILTER (WHERE e.version = ended) AS cap,
        max(facts ->> '$.max_deferrals') FILTER (WHERE e.version = ended AND NOT facts ->> '$.counts') AS max_deferrals,
        max(facts ->> '$.max_deferred_seconds') FILTER (WHERE e.version = ended) AS max_deferred_seconds,
        max(facts ->> '$.wait_ms') FILTER (WHERE e.version = ended) AS wait_ms,
        max(content) FILTER (WHERE e.version = ended AND (facts ->> '$.error_type') IS NOT NULL) AS failed_content,
        max(content) FILTER (WHERE e.version = well) AS result_content,
        max(coalesce(facts ->> '$.response_model', facts ->> '$.request_model'))
            FILTER (WHERE e.version = well) AS answered_by
    FROM events e CROSS JOIN marks m USING (stream_id) GROUP BY e.stream_id
)
SELECT *, substr(stream_id, 1, instr(stream_id, '-') - 1) AS enrichment,
    substr(stream_id, instr(stream_id, '-') + 1) AS job_id,
    CASE WHEN begun > coalesce(ended, 0) THEN 'running' WHEN asked > coalesce(begun, 0) THEN 'pending'
        WHEN ended = well THEN 'succeeded' ELSE 'failed' END AS state,
    error_type IS NOT NULL AND asked > ended AS awaiting
FROM told;

INSERT INTO enrichment_status (
    stream_id, enrichment, job_id, part, fold_version, version, state, attempts, budget_used, grants, failures,
    deferrals, deferred_since, deaths, successes, max_attempts, attempt_id, worker, rerun, awaiting, error_type,
    counted, retryable, cap, max_deferrals, due_at, completed_at, batch, before_batch, request_model, prompt_hash,
    schema_hash, input_hash, bases, input_tokens, output_tokens, cost_microdollars, unpriced_calls,
    reserved_microdollars, erased_attempts)
SELECT stream_id, enrichment, job_id, part, :fold_version, version, state, attempts, budget_used, grants, failures,
    deferrals, deferred_since, 0, successes, CASE WHEN state <> 'succeeded' THEN max_attempts END, attempt_id,
    CASE WHEN state = 'running' THEN worker END, state = 'running' AND asked > begun, awaiting, error_type, counted,
    retryable, cap, max_deferrals,
    CASE state WHEN 'pending' THEN asked_at
        WHEN 'running' THEN
            strftime('%Y-%m-%dT%H:%M:%S', begun_at, lease_seconds || ' seconds') || substr(begun_at, 20)
        WHEN 'failed' THEN CASE WHEN retryable AND NOT (coalesce(deferrals >= max_deferrals, false)
            OR coalesce(unixepoch(ended_at) - unixepoch(deferred_since) >= max_deferred_seconds, false))
            THEN strftime('%Y-%m-%dT%H:%M:%f', ended_at, (coalesce(wait_ms, 0) / 1000.0) || ' seconds') || '000Z'
            END END,
    ended_at, batch, NULL, request_model, prompt_hash, schema_hash,
    CASE WHEN asked > coalesce(begun, 0) THEN coalesce(asked_hash, begun_hash) ELSE begun_hash END,
    CASE WHEN begun > fresh THEN basis(request_model, prompt_hash, schema_hash) END,
    input_tokens, output_tokens, cost_microdollars, unpriced_calls,
    CASE WHEN state = 'running' THEN coalesce(reserved_microdollars, 0) ELSE 0 END, 0
FROM folded;

INSERT INTO llm_enrichment (
    job_posting_id, enrichment, result, enrichment_error, enrichment_completed_at, enrichment_model_version)
SELECT job_id, enrichment, result_content -> '$.result',
    CASE WHEN error_type IS NOT NULL THEN substr(coalesce(failed_content ->> '$.message', error_type), 1, 2000) END,
    CASE WHEN NOT awaiting THEN ended_at END, answered_by
FROM folded
WHERE ended IS NOT NULL;

DROP TABLE folded;
DROP TABLE marks;
