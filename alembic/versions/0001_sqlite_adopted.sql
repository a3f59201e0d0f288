-- What a retry would take now, under the default policy. No table of yours is asked, so it stands in the way of none.
CREATE VIEW jobs_needing_retry AS
SELECT job_id, enrichment, error_type, attempts, budget_used, completed_at AS failed_at
FROM enrichment_status
WHERE state = 'failed' AND retryable AND due_at <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
  AND (deaths > 0 OR budget_used - grants < coalesce(max_attempts, cap, 5));
