-- One pass: each event's JSON is opened once, one sort by stream, the latest of each kind by window functions.
WITH parsed AS (
    SELECT e.stream_id, e.version, e.part, e.type, e.content, f.*
    FROM enrichlog.events e, json_to_record(e.facts::json) AS f(
        occurred_at timestamptz, why text, "grant" int, max_attempts int, batch text, attempt_id text, attempt int,
        request_model text, prompt_hash text, schema_hash text, input_hash text, worker text, lease_seconds int,
        reserved_microdollars bigint, response_model text, called bool, input_tokens bigint, output_tokens bigint,
        cost_microdollars bigint, error_type text, retryable bool, counts bool, cap int, max_deferrals int,
        max_deferred_seconds int, wait_ms bigint)
    WHERE left(e.stream_id, 1) <> '$'
), placed AS (
    SELECT *,
        max(version) FILTER (WHERE type = 'EnrichmentRequested') OVER w AS asked,
        max(version) FILTER (WHERE type = 'EnrichmentStarted') OVER w AS begun,
        max(version) FILTER (WHERE type IN ('EnrichmentSucceeded', 'EnrichmentFailed')) OVER w AS ended,
        max(version) FILTER (WHERE type = 'EnrichmentSucceeded') OVER w AS well,
        max(version) FILTER (WHERE type = 'EnrichmentSucceeded' OR why IN ('new', 'changed', 'force')) OVER w AS fresh,
        max(version) FILTER (WHERE type IN ('EnrichmentSucceeded', 'EnrichmentRequested')) OVER w AS undeferred
    FROM parsed WINDOW w AS (PARTITION BY stream_id)
), told AS (
    SELECT stream_id, max(part) AS part, max(version) AS version, max(asked) AS asked, max(begun) AS begun,
        max(ended) AS ended, max(well) AS well, max(fresh) AS fresh,
        count(*) FILTER (WHERE type = 'EnrichmentStarted') AS attempts,
        count(*) FILTER (WHERE counts AND version > fresh) AS budget_used,
        coalesce(sum("grant") FILTER (WHERE why NOT IN ('new', 'changed', 'force') AND version > fresh), 0) AS grants,
        count(*) FILTER (WHERE type = 'EnrichmentFailed' AND version > fresh) AS failures,
        count(*) FILTER (WHERE NOT counts AND max_deferrals IS NOT NULL AND version > undeferred) AS deferrals,
        min(occurred_at) FILTER (WHERE NOT counts AND coalesce(max_deferrals, max_deferred_seconds) IS NOT NULL
            AND version > undeferred) AS deferred_since,
        count(*) FILTER (WHERE type = 'EnrichmentSucceeded') AS successes,
        coalesce(sum(input_tokens), 0) AS input_tokens, coalesce(sum(output_tokens), 0) AS output_tokens,
        coalesce(sum(cost_microdollars), 0) AS cost_microdollars,
        count(*) FILTER (WHERE called AND cost_microdollars IS NULL) AS unpriced_calls,
        max(occurred_at) FILTER (WHERE version = asked) AS asked_at,
        max(max_attempts) FILTER (WHERE version = asked) AS max_attempts,
        max(batch) FILTER (WHERE version = asked) AS batch,
        max(input_hash) FILTER (WHERE version = asked) AS asked_hash,
        max(occurred_at) FILTER (WHERE version = begun) AS begun_at,
        max(attempt_id) FILTER (WHERE version = begun) AS attempt_id,
        max(worker) FILTER (WHERE version = begun) AS worker,
        max(lease_seconds) FILTER (WHERE version = begun) AS lease_seconds,
        max(reserved_microdollars) FILTER (WHERE version = begun) AS reserved_microdollars,
        max(request_model) FILTER (WHERE version = begun) AS request_model,
        max(prompt_hash) FILTER (WHERE version = begun) AS prompt_hash,
        max(schema_hash) FILTER (WHERE version = begun) AS schema_hash,
        max(input_hash) FILTER (WHERE version = begun) AS begun_hash,
        max(occurred_at) FILTER (WHERE version = ended) AS ended_at,
        max(error_type) FILTER (WHERE version = ended) AS error_type,
        bool_or(retryable) FILTER (WHERE version = ended) AS retryable,
        bool_or(counts) FILTER (WHERE version = ended) AS counted,
        max(cap) FILTER (WHERE version = ended) AS cap,
        max(max_deferrals) FILTER (WHERE version = ended AND NOT counts) AS max_deferrals,
        max(max_deferred_seconds) FILTER (WHERE version = ended) AS max_deferred_seconds,
        max(wait_ms) FILTER (WHERE version = ended) AS wait_ms,
        max(content) FILTER (WHERE version = ended AND error_type IS NOT NULL) AS failed_content,
        max(content) FILTER (WHERE version = well) AS result_content,
        max(coalesce(response_model, request_model)) FILTER (WHERE version = well) AS answered_by
    FROM placed GROUP BY stream_id
), folded AS MATERIALIZED (
    SELECT *, split_part(stream_id, '-', 1) AS enrichment, substr(stream_id, strpos(stream_id, '-') + 1) AS job_id,
        CASE WHEN begun > coalesce(ended, 0) THEN 'running' WHEN asked > coalesce(begun, 0) THEN 'pending'
            WHEN ended = well THEN 'succeeded' ELSE 'failed' END AS state,
        error_type IS NOT NULL AND asked > ended AS awaiting
    FROM told
), statuses AS (
    INSERT INTO enrichlog.enrichment_status (
        stream_id, enrichment, job_id, part, fold_version, version, state, attempts, budget_used, grants, failures,
        deferrals, deferred_since, deaths, successes, max_attempts, attempt_id, worker, rerun, awaiting, error_type,
        counted, retryable, cap, max_deferrals, due_at, completed_at, batch, before_batch, request_model, prompt_hash,
        schema_hash, input_hash, bases, input_tokens, output_tokens, cost_microdollars, unpriced_calls,
        reserved_microdollars, erased_attempts)
    SELECT stream_id, enrichment, job_id, part, :fold_version, version, state, attempts, budget_used, grants, failures,
        deferrals, deferred_since, 0, successes, CASE WHEN state <> 'succeeded' THEN max_attempts END, attempt_id,
        CASE WHEN state = 'running' THEN worker END, state = 'running' AND asked > begun, awaiting, error_type, counted,
        retryable, cap, max_deferrals,
        CASE state WHEN 'pending' THEN asked_at WHEN 'running' THEN begun_at + lease_seconds * interval '1 second'
            WHEN 'failed' THEN CASE WHEN retryable AND NOT (coalesce(deferrals >= max_deferrals, false)
                OR coalesce(ended_at - deferred_since >= max_deferred_seconds * interval '1 second', false))
                THEN ended_at + coalesce(wait_ms, 0) * interval '1 millisecond' END END,
        ended_at, batch, NULL, request_model, prompt_hash, schema_hash,
        CASE WHEN asked > coalesce(begun, 0) THEN coalesce(asked_hash, begun_hash) ELSE begun_hash END,
        CASE WHEN begun > fresh THEN left(encode(sha256(convert_to(request_model, 'UTF8') || '\x00'::bytea
            || convert_to(prompt_hash, 'UTF8') || '\x00'::bytea || convert_to(schema_hash, 'UTF8')), 'hex'), 8) END,
        input_tokens, output_tokens, cost_microdollars, unpriced_calls,
        CASE WHEN state = 'running' THEN coalesce(reserved_microdollars, 0) ELSE 0 END, 0
    FROM folded
)
INSERT INTO llm_enrichment (
    job_posting_id, enrichment, result, enrichment_error, enrichment_completed_at, enrichment_model_version)
SELECT job_id, enrichment, result_content::jsonb -> 'result',
    CASE WHEN error_type IS NOT NULL THEN left(coalesce(failed_content::json ->> 'message', error_type), 2000) END,
    CASE WHEN NOT awaiting THEN ended_at END, answered_by
FROM folded
WHERE ended IS NOT NULL;
