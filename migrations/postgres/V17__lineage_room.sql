-- The room of events that leave one by one is used again as fast as events come in.
--
-- With the server's own pace (some 20 MiB/s) a vacuum of a day's partition took the longer the more had come in while the last one ran:
-- at 15,000 events a second, which is 17 MB of them, the partition grew without end. Five times that pace keeps it at what comes in within
-- a minute or two. Nothing is given back to the system in between: the next events want it, the lock for that stands in their way, and the
-- partition goes whole when its day is over.

CREATE OR REPLACE FUNCTION penstock_prepare_lineage(days date[])
RETURNS bigint
LANGUAGE plpgsql
SET TimeZone = 'UTC'
AS $$
DECLARE
    chosen    date;
    partition text;
    made      bigint := 0;
BEGIN
    -- Instances that prepare at the same time take turns.
    PERFORM pg_advisory_xact_lock(hashtext('penstock_prepare_lineage'));
    FOREACH chosen IN ARRAY days LOOP
        partition := 'lineage_events_' || to_char(chosen, 'YYYY_MM_DD');
        CONTINUE WHEN to_regclass(partition) IS NOT NULL;
        EXECUTE format(
            'CREATE TABLE %I (LIKE lineage_events INCLUDING ALL)
             WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_limit = 1000, vacuum_truncate = false)',
            partition);
        -- With the bounds known, attaching does not read the table.
        EXECUTE format('ALTER TABLE lineage_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                       partition, chosen, chosen + 1);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

DO $$
DECLARE
    partition regclass;
BEGIN
    FOR partition IN SELECT relid FROM pg_partition_tree('lineage_events') WHERE isleaf LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_vacuum_cost_limit = 1000, vacuum_truncate = false)', partition);
    END LOOP;
END
$$;
