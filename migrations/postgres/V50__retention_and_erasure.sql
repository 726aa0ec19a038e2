-- Usage of old months goes with its partition, and what is kept about the payer of a receipt can be made anonymous.

-- Drops the partition of one month of usage that ended before `before`, once no window of that month is left; returns its name, or
-- null when there is none, or while others use the table. Writers wait until the partition is out of the catalogue; its files are
-- removed after that.
CREATE FUNCTION penstock_drop_usage(before timestamptz) RETURNS text
    LANGUAGE plpgsql
    SET timezone = 'UTC'
    -- Writers queue behind a lock that is waited for.
    SET lock_timeout = '200ms'
    SET enable_seqscan = off
    AS $$
DECLARE
    month record;
BEGIN
    -- Takes turns with instances that make or drop partitions.
    IF NOT pg_try_advisory_xact_lock(hashtext('penstock_prepare_usage')) THEN
        RETURN NULL;
    END IF;
    FOR month IN
        SELECT partition, month_start, month_start + interval '1 month' AS month_end
        FROM (
            SELECT c.relname::text AS partition, to_date(right(c.relname, 7), 'YYYY_MM')::timestamptz AS month_start
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = 'streaming_usage'::regclass AND c.relname ~ '^streaming_usage_\d{4}_\d{2}$'
        ) AS months
        WHERE month_start + interval '1 month' < least(before, clock_timestamp())
        ORDER BY month_start
    LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM quota_usage_windows WHERE window_end > month.month_start AND window_end <= month.month_end);
        BEGIN
            LOCK TABLE ONLY streaming_usage IN ACCESS EXCLUSIVE MODE;
            -- Rows that were settled meanwhile have made their windows again.
            CONTINUE WHEN EXISTS (
                SELECT FROM quota_usage_windows WHERE window_end > month.month_start AND window_end <= month.month_end);
            EXECUTE format('DROP TABLE %I', month.partition);
            RETURN month.partition;
        EXCEPTION WHEN lock_not_available THEN
            RETURN NULL;
        END;
    END LOOP;
    RETURN NULL;
END
$$;

ALTER TABLE overlay_receipts ADD COLUMN anonymous boolean NOT NULL DEFAULT false, ADD COLUMN stand_in uuid;

COMMENT ON COLUMN overlay_receipts.anonymous IS 'True for a receipt that stands in accounts for one whose payer is forgotten.';
COMMENT ON COLUMN overlay_receipts.stand_in IS
    'The anonymous receipt that takes its place, while it does: this row is removed when all of its usage is moved there.';

-- A stand-in is not sold.
DROP TRIGGER lineage ON overlay_receipts;
CREATE TRIGGER lineage AFTER INSERT ON overlay_receipts FOR EACH ROW WHEN (NOT NEW.anonymous)
    EXECUTE FUNCTION penstock_tell_receipt();

CREATE INDEX usage_set_aside_receipt ON usage_set_aside (receipt_id);

-- Moves up to `most` usage rows of a receipt to an anonymous receipt, with what they count in the windows, and removes the receipt
-- when none is left. What could name the payer does not move: ids, the session, the mark of the client, times within an hour.
-- `state` is 'open' while the receipt may be streamed under, 'leased' while instances hold credit of it (nothing is changed then),
-- 'more' when rows may be left, and 'done' when nothing of the receipt is left.
CREATE FUNCTION penstock_erase_receipt(erased uuid, most bigint, OUT state text, OUT usage_rows bigint)
    LANGUAGE plpgsql
    SET timezone = 'UTC'
    SET enable_seqscan = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET jit = off
    AS $$
DECLARE
    receipt      overlay_receipts;
    hours        timestamptz[];
    hour_bytes   bigint[];
    hour_requests bigint[];
BEGIN
    usage_rows := 0;
    SELECT * INTO receipt FROM overlay_receipts r WHERE r.receipt_id = erased FOR NO KEY UPDATE;
    IF FOUND THEN
        IF receipt.status NOT IN ('consumed', 'expired', 'refunded')
            OR receipt.expired_from IS NOT NULL AND receipt.expires_at > clock_timestamp()
        THEN
            state := 'open';
            RETURN;
        END IF;
        IF EXISTS (SELECT FROM quota_leases l WHERE l.receipt_id = erased AND l.state = 'live') THEN
            state := 'leased';
            RETURN;
        END IF;
        IF receipt.stand_in IS NULL THEN
            receipt.stand_in := gen_random_uuid();
            INSERT INTO overlay_receipts (receipt_id, version_id, content_hash, quota_tier, status, expires_at,
                                          total_satoshis, created_at, updated_at, anonymous)
            VALUES (receipt.stand_in, receipt.version_id, receipt.content_hash, receipt.quota_tier, receipt.status,
                    date_trunc('day', receipt.expires_at), receipt.total_satoshis,
                    date_trunc('day', receipt.created_at), date_trunc('day', receipt.updated_at), true);
            -- The price counts once.
            UPDATE overlay_receipts r SET stand_in = receipt.stand_in, total_satoshis = 0 WHERE r.receipt_id = erased;
        END IF;

        WITH due AS MATERIALIZED (
            SELECT u.usage_id, u.started_at FROM streaming_usage u
            WHERE u.receipt_id = erased ORDER BY u.usage_id LIMIT most
        ),
        moved AS (
            UPDATE streaming_usage u
            SET usage_id = gen_random_uuid(), receipt_id = receipt.stand_in, session_id = NULL, client = NULL,
                lease_epoch = NULL, started_at = date_trunc('hour', u.started_at),
                finished_at = date_trunc('hour', u.started_at)
            FROM due
            WHERE u.usage_id = due.usage_id AND u.started_at = due.started_at
            RETURNING u.started_at AS hour_start, u.bytes_sent, u.requests
        ),
        sums AS (
            SELECT hour_start, count(*) AS new_rows, sum(bytes_sent)::bigint AS bytes, sum(requests)::bigint AS requests
            FROM moved GROUP BY hour_start
        )
        SELECT coalesce(sum(new_rows), 0), array_agg(hour_start), array_agg(bytes), array_agg(requests)
        INTO usage_rows, hours, hour_bytes, hour_requests
        FROM sums;

        WITH sums AS (
            SELECT k.window_type, k.window_start, k.window_end, sum(bytes)::bigint AS bytes,
                   sum(requests)::bigint AS requests
            FROM unnest(hours, hour_bytes, hour_requests) AS h (hour_start, bytes, requests)
            CROSS JOIN LATERAL penstock_windows(h.hour_start) AS k
            GROUP BY 1, 2, 3
        ),
        taken AS (
            UPDATE quota_usage_windows w
            SET bytes_used = w.bytes_used - s.bytes, requests_used = w.requests_used - s.requests
            FROM sums s
            WHERE w.receipt_id = erased AND w.window_type = s.window_type AND w.window_start = s.window_start
              AND w.window_end = s.window_end
        )
        INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end, bytes_used,
                                              requests_used)
        SELECT receipt.stand_in, window_type, window_start, window_end, bytes, requests FROM sums
        ORDER BY window_type, window_start
        ON CONFLICT (receipt_id, window_type, window_start, window_end) DO UPDATE SET
            bytes_used = w.bytes_used + excluded.bytes_used, requests_used = w.requests_used + excluded.requests_used;

        IF usage_rows >= most THEN
            state := 'more';
            RETURN;
        END IF;

        -- No usage is left, so the windows are empty, and lost leases have no charge that late rows could explain. A window that is
        -- not empty contradicts its rows: it stays, and the receipt with it, for the audit to show.
        DELETE FROM quota_leases l WHERE l.receipt_id = erased;
        DELETE FROM quota_usage_windows w
        WHERE w.receipt_id = erased AND w.bytes_used = 0 AND w.requests_used = 0 AND w.bytes_reserved = 0
          AND w.requests_reserved = 0;
        DELETE FROM quota_refills_again a USING ledger_nodes n
        WHERE a.node_id = n.node_id AND a.epoch = n.epoch AND a.receipt_id = erased;
        DELETE FROM overlay_receipts r WHERE r.receipt_id = erased;
        INSERT INTO change_log (tag) VALUES ('receipt:' || erased);
    END IF;
    -- Usage that could not be settled, which may come after the receipt is gone.
    UPDATE usage_set_aside s
    SET receipt_id = coalesce(receipt.stand_in, gen_random_uuid()), session_id = NULL,
        started_at = date_trunc('hour', s.started_at), finished_at = date_trunc('hour', s.started_at)
    WHERE s.receipt_id = erased;
    state := 'done';
END
$$;
