-- One table of leases for all work that one instance at a time does, by this server's clock. Until now storage tasks were held by the
-- clocks of the instances, so that one whose clock was fast could take a task from an instance that was at it.

ALTER TABLE lineage_leases RENAME TO task_leases;
ALTER INDEX lineage_leases_pkey RENAME TO task_leases_pkey;
COMMENT ON TABLE task_leases IS 'Which instance does what only one may do at a time.';
COMMENT ON COLUMN task_leases.task IS 'The task: pruner (of lineage), walk, lifecycle or moves.';
COMMENT ON COLUMN task_leases.holder IS 'The instance that has the task.';
COMMENT ON COLUMN task_leases.token IS 'Grows with each new holder: a write of an earlier holder is refused.';
COMMENT ON COLUMN task_leases.held_until IS 'After this, by this server''s clock, another instance may take the task.';

-- Instances of earlier versions acquire and release the pruner's lease by this name. A later release drops the view.
CREATE VIEW lineage_leases AS SELECT task, holder, token, held_until FROM task_leases;
COMMENT ON VIEW lineage_leases IS 'The leases of tasks, for instances of earlier versions.';
COMMENT ON COLUMN lineage_leases.task IS 'As in task_leases.';
COMMENT ON COLUMN lineage_leases.holder IS 'As in task_leases.';
COMMENT ON COLUMN lineage_leases.token IS 'As in task_leases.';
COMMENT ON COLUMN lineage_leases.held_until IS 'As in task_leases.';

CREATE OR REPLACE FUNCTION penstock_hold_lease(chosen_task text, chosen_token bigint)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM FROM task_leases
    WHERE task = chosen_task AND token = chosen_token AND held_until > clock_timestamp()
    FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease % of % is not held', chosen_token, chosen_task USING ERRCODE = 'PS001';
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
END
$$;

COMMENT ON TABLE storage_tasks IS 'The progress of the tasks that go over all content.';
COMMENT ON COLUMN storage_tasks.node_id IS 'The instance that stored the progress.';
COMMENT ON COLUMN storage_tasks.held_until IS
    'Used by instances of earlier versions only: until then, by their clocks, one of them has the task. -infinity otherwise.';

-- An instance that runs now keeps its tasks.
INSERT INTO task_leases (task, holder, token, held_until)
SELECT task, node_id, 1, clock_timestamp() + interval '60 seconds' FROM storage_tasks;

-- Instances of earlier versions take a task by a write to storage_tasks. The write takes the lease as well; while another holder has the
-- lease, the write does nothing, and that instance takes the task for another's. A later release drops the trigger.
CREATE FUNCTION penstock_lease_storage_task()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO task_leases AS l (task, holder, token, held_until)
    VALUES (NEW.task, NEW.node_id, 1, clock_timestamp() + interval '60 seconds')
    ON CONFLICT (task) DO UPDATE SET
        token = l.token + CASE WHEN l.holder = excluded.holder AND l.held_until > clock_timestamp() THEN 0 ELSE 1 END,
        holder = excluded.holder,
        held_until = excluded.held_until
    WHERE l.holder = excluded.holder OR l.held_until <= clock_timestamp();
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER storage_tasks_lease BEFORE INSERT OR UPDATE OF node_id, held_until ON storage_tasks
    FOR EACH ROW WHEN (NEW.held_until > '-infinity')
    EXECUTE FUNCTION penstock_lease_storage_task();
