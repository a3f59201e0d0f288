CREATE TABLE job_postings (
    id TEXT COLLATE "C" NOT NULL,
    title TEXT NOT NULL,
    company TEXT,
    location TEXT,
    description TEXT NOT NULL,
    url TEXT,
    language TEXT,
    input_hash TEXT NOT NULL,
    imported_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE llm_enrichment (
    job_posting_id TEXT COLLATE "C" NOT NULL,
    enrichment TEXT COLLATE "C" DEFAULT 'job' NOT NULL,
    result JSONB,
    enrichment_error TEXT,
    enrichment_completed_at TIMESTAMP WITH TIME ZONE,
    enrichment_model_version TEXT,
    PRIMARY KEY (job_posting_id, enrichment)
);

CREATE INDEX llm_enrichment_awaiting ON llm_enrichment (job_posting_id) WHERE enrichment_error IS NOT NULL AND enrichment_completed_at IS NULL;

CREATE INDEX llm_enrichment_failed ON llm_enrichment (enrichment_completed_at DESC) WHERE enrichment_error IS NOT NULL;

-- What a retry would take now, under the default policy.
CREATE VIEW jobs_needing_retry AS
SELECT status.job_id, status.enrichment, posting.title, posting.company, status.error_type,
       shown.enrichment_error, status.attempts, status.budget_used, status.completed_at AS failed_at
FROM {ours}enrichment_status AS status
LEFT JOIN job_postings AS posting ON posting.id = status.job_id
LEFT JOIN llm_enrichment AS shown ON shown.job_posting_id = status.job_id AND shown.enrichment = status.enrichment
WHERE status.state = 'failed' AND status.retryable AND status.due_at <= clock_timestamp()
  AND (status.deaths > 0 OR status.budget_used - status.grants < coalesce(status.max_attempts, status.cap, 5));

-- For nobody who is not granted it by name, as our own tables are (`enrichlog init` sees to those each time). From now on
-- these are yours: whom you grant them is never taken back.
DO $$
DECLARE
    stranger text;
BEGIN
    FOR stranger IN
        SELECT 'PUBLIC' UNION ALL SELECT rolname FROM pg_roles
        WHERE rolname IN ('anon', 'authenticated', 'service_role') AND rolname <> current_user
    LOOP
        EXECUTE 'REVOKE ALL ON job_postings, llm_enrichment, jobs_needing_retry FROM ' || stranger;
    END LOOP;
    IF current_setting('server_version_num')::integer >= 150000 THEN  -- earlier ones read a view as its owner
        ALTER VIEW jobs_needing_retry SET (security_invoker = true);
    END IF;
END
$$;

-- Without a policy row security shows a role no row, whatever it was granted; it is forced for the owner too.
ALTER TABLE job_postings ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_postings FORCE ROW LEVEL SECURITY;
CREATE POLICY enrichlog_owner ON job_postings TO CURRENT_USER USING (true) WITH CHECK (true);

ALTER TABLE llm_enrichment ENABLE ROW LEVEL SECURITY;
ALTER TABLE llm_enrichment FORCE ROW LEVEL SECURITY;
CREATE POLICY enrichlog_owner ON llm_enrichment TO CURRENT_USER USING (true) WITH CHECK (true);
