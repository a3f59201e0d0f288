CREATE TABLE job_postings (
    id TEXT NOT NULL,
    title TEXT NOT NULL,
    company TEXT,
    location TEXT,
    description TEXT NOT NULL,
    url TEXT,
    language TEXT,
    input_hash TEXT NOT NULL,
    imported_at TEXT NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE llm_enrichment (
    job_posting_id TEXT NOT NULL,
    enrichment TEXT DEFAULT 'job' NOT NULL,
    result JSON,
    enrichment_error TEXT,
    enrichment_completed_at TEXT,
    enrichment_model_version TEXT,
    PRIMARY KEY (job_posting_id, enrichment)
);

CREATE INDEX llm_enrichment_awaiting ON llm_enrichment (job_posting_id) WHERE enrichment_error IS NOT NULL AND enrichment_completed_at IS NULL;

CREATE INDEX llm_enrichment_failed ON llm_enrichment (enrichment_completed_at DESC) WHERE enrichment_error IS NOT NULL;

-- What a retry would take now, under the default policy.
CREATE VIEW jobs_needing_retry AS
SELECT status.job_id, status.enrichment, posting.title, posting.company, status.error_type,
       shown.enrichment_error, status.attempts, status.budget_used, status.completed_at AS failed_at
FROM enrichment_status AS status
LEFT JOIN job_postings AS posting ON posting.id = status.job_id
LEFT JOIN llm_enrichment AS shown ON shown.job_posting_id = status.job_id AND shown.enrichment = status.enrichment
WHERE status.state = 'failed' AND status.retryable AND status.due_at <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
  AND (status.deaths > 0 OR status.budget_used - status.grants < coalesce(status.max_attempts, status.cap, 5));
