-- What a retry would take now, under the default policy. No table of yours is asked, so it stands in the way of none.
CREATE VIEW {ours}jobs_needing_retry AS
SELECT job_id, enrichment, error_type, attempts, budget_used, completed_at AS failed_at
FROM {ours}enrichment_status
WHERE state = 'failed' AND retryable AND due_at <= clock_timestamp()
  AND (deaths > 0 OR budget_used - grants < coalesce(max_attempts, cap, 5));

DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN  -- earlier ones read a view as its owner
        ALTER VIEW {ours}jobs_needing_retry SET (security_invoker = true);
    END IF;
END
$$;
