-- Pruning waits for no disk. A step that a crash of the server takes back is made again: its rows are there again, and so is the
-- lease under which they go. So nobody needs to wait until its commit is durable, least of all those who wait for its locks. (A later
-- transaction that is durable makes everything before it durable too.)

-- Begins a step: its transaction holds the lease to its end.
CREATE OR REPLACE FUNCTION penstock_hold_lease(chosen_task text, chosen_token bigint)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM FROM lineage_leases
    WHERE task = chosen_task AND token = chosen_token AND held_until > clock_timestamp()
    FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease % of % is not held', chosen_token, chosen_task USING ERRCODE = 'PS001';
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
END
$$;
