-- A move of a content is carried out under a lease, by this server's clock. Until now it was held by a sign of life of the instance's clock,
-- so that an instance whose clock was fast could take a move from one that was at it.

COMMENT ON COLUMN task_leases.task IS
    'The task: pruner (of lineage), walk, lifecycle, moves, or the move of one content (move: and its hash).';
COMMENT ON COLUMN storage_moves.since IS
    'When the content entered this state. While it is copied: the last sign of life, which instances of earlier versions go by.';

-- Records a move and leases it; one row with the token where the caller has to carry it out, and without a token where another one does
-- or only the removal of old copies is left. No row: the content is not stored. No state: the move that was in the way is over, and the call
-- may be made again.
CREATE FUNCTION penstock_begin_move(chosen bytea, target text, chosen_holder uuid, ttl double precision)
RETURNS TABLE (token bigint, content_hash bytea, size_bytes bigint, to_tier text, state text, since timestamptz)
LANGUAGE plpgsql
ROWS 1
AS $$
#variable_conflict use_column
DECLARE
    name       text := 'move:' || encode(chosen, 'hex');
    new_token  bigint;
    was_leased boolean;
BEGIN
    -- Calls for one content take turns at this row.
    INSERT INTO task_leases AS l (task, holder, token, held_until)
    VALUES (name, chosen_holder, 1, clock_timestamp() + make_interval(secs => ttl))
    ON CONFLICT (task) DO UPDATE SET
        holder = excluded.holder, token = l.token + 1, held_until = excluded.held_until
    WHERE l.held_until <= clock_timestamp()
    RETURNING l.token, l.token > 1 INTO new_token, was_leased;
    IF FOUND THEN
        -- An instance of an earlier version copies without a lease, and renews its sign of life.
        INSERT INTO storage_moves AS m (content_hash, to_tier, state, since)
        SELECT content_hash, target, 'copying', clock_timestamp()
        FROM overlay_storage_index WHERE content_hash = chosen AND state = 'stored'
        ON CONFLICT (content_hash) DO UPDATE SET
            to_tier = excluded.to_tier, state = excluded.state, since = excluded.since
        WHERE (m.state = 'copying' AND (was_leased OR m.since < clock_timestamp() - interval '30 seconds'))
           OR (m.state = 'leaving' AND m.to_tier <> excluded.to_tier);
        IF NOT FOUND THEN
            DELETE FROM task_leases WHERE task = name;
            new_token := NULL;
        END IF;
    END IF;
    RETURN QUERY
        SELECT new_token, c.content_hash, c.size_bytes, m.to_tier, m.state, m.since
        FROM overlay_storage_index c LEFT JOIN storage_moves m ON m.content_hash = c.content_hash
        WHERE c.content_hash = chosen AND c.state = 'stored';
END
$$;
