-- Usage may be of content that somebody else delivered, under a URL that was charged for when it was given: an outcome of
-- its own, so that what the node sent itself can be told from what it only gave the right to.

DO $$
DECLARE
    partition regclass;
BEGIN
    ALTER TABLE streaming_usage DROP CONSTRAINT streaming_usage_outcome_check;
    -- A month was made with the check before it became a partition, so it keeps one of its own.
    FOR partition IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'streaming_usage'::regclass LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS streaming_usage_outcome_check', partition);
    END LOOP;
    -- The wider check admits all that the narrower one did, so the rows that are there need not be read again: that would
    -- hold up every settlement for as long as it takes.
    ALTER TABLE streaming_usage ADD CONSTRAINT streaming_usage_outcome_check
        CHECK (outcome IN ('completed', 'aborted', 'revoked', 'failed', 'lost_lease', 'delegated')) NOT VALID;
END
$$;
