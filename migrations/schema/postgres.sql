CREATE FUNCTION public.penstock_asset_tags(number bigint, producer_id uuid, dataset_id text, media_type text) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT array_remove(ARRAY[
        '*', '#0' || to_hex(number >> 12), '#1' || to_hex(number >> 15), '#2' || to_hex(number >> 18),
        '#3' || to_hex(number >> 20),
        '@p' || producer_id, '@d' || md5(dataset_id), '@m' || media_type, '@f' || split_part(media_type, '/', 1)
    ], NULL)
$$;

CREATE FUNCTION public.penstock_assets_changed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    ids uuid[];
    numbers bigint[];
BEGIN
    WITH gone AS (
        DELETE FROM asset_search s USING was JOIN now_is USING (version_id)
        WHERE s.version_id = was.version_id
          AND (was.name, was.description, was.policy_meta, was.media_type, was.dataset_id, was.producer_id)
              IS DISTINCT FROM
              (now_is.name, now_is.description, now_is.policy_meta, now_is.media_type, now_is.dataset_id, now_is.producer_id)
        RETURNING s.version_id, s.number
    )
    SELECT array_agg(version_id), array_agg(number) INTO ids, numbers FROM gone;
    PERFORM penstock_enter_all(ids, numbers);
    RETURN NULL;
END
$$;

CREATE FUNCTION public.penstock_assets_made() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    ids uuid[] := ARRAY(SELECT version_id FROM made);
BEGIN
    IF ids <> '{}' THEN
        PERFORM penstock_enter_all(ids, NULL);
        -- Pages of the catalogue have changed. One line for them all: any asset is word of that.
        INSERT INTO change_log (tag) VALUES ('asset:' || ids[1]);
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION public.penstock_assets_priced() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE asset_search s SET satoshis = p.satoshis FROM priced p
    WHERE s.version_id = p.version_id AND s.satoshis <> p.satoshis;
    RETURN NULL;
END
$$;

CREATE FUNCTION public.penstock_backfill_search(most integer) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    place asset_search_backfill;
    ids uuid[];
    looked_at bigint;
BEGIN
    SELECT * INTO place FROM asset_search_backfill FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    ids := ARRAY(SELECT version_id FROM assets WHERE version_id < place.below ORDER BY version_id DESC LIMIT most);
    looked_at := cardinality(ids);
    IF looked_at = 0 THEN
        DELETE FROM asset_search_backfill;
        RETURN 0;
    END IF;
    PERFORM penstock_enter_assets(ids, ARRAY(SELECT place.number - n FROM generate_series(1, looked_at) AS n ORDER BY n));
    UPDATE asset_search_backfill SET below = ids[looked_at], number = place.number - looked_at;
    RETURN looked_at;
END
$$;

CREATE FUNCTION public.penstock_begin_move(chosen bytea, target text, chosen_holder uuid, ttl double precision) RETURNS TABLE(token bigint, content_hash bytea, size_bytes bigint, to_tier text, state text, since timestamp with time zone)
    LANGUAGE plpgsql ROWS 1
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

CREATE FUNCTION public.penstock_begin_timeline(following uuid, why text, OUT timeline_id uuid, OUT leases bigint, OUT bytes bigint) RETURNS record
    LANGUAGE plpgsql
    AS $$
DECLARE
    last timelines%ROWTYPE;
BEGIN
    -- Instances that notice at the same time take turns.
    LOCK TABLE timelines IN EXCLUSIVE MODE;
    SELECT t.* INTO last FROM timelines t ORDER BY t.number DESC LIMIT 1;
    IF last.timeline_id <> following AND last.home = penstock_home() THEN
        timeline_id := last.timeline_id;
        leases := 0;
        bytes := 0;
        RETURN;
    END IF;
    SELECT count(*), coalesce(sum(l.bytes), 0) INTO leases, bytes FROM quota_leases l WHERE l.state = 'live';
    UPDATE ledger_nodes n SET fenced = true, spared = true
    WHERE NOT n.fenced OR EXISTS (
        SELECT FROM quota_leases l WHERE l.node_id = n.node_id AND l.epoch = n.epoch AND l.state = 'live');
    timeline_id := gen_random_uuid();
    INSERT INTO timelines (number, timeline_id, began_at, home, reason, leases_released, bytes_released)
    VALUES (last.number + 1, timeline_id, clock_timestamp(), penstock_home(), why, leases, bytes);
END
$$;

CREATE FUNCTION public.penstock_begin_upload(new_upload uuid, new_producer uuid, new_kind text, new_concat text, new_length bigint, new_media_type text, new_declared bytea, new_metadata text, new_expiry timestamp with time zone, most_of_producer bigint, most_bytes bigint) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('penstock_begin_upload'));
    IF (SELECT count(*) FROM resumable_uploads WHERE producer_id = new_producer AND content_hash IS NULL)
        >= most_of_producer THEN
        RETURN 'too_many';
    END IF;
    IF (SELECT coalesce(sum(length_bytes), 0) FROM resumable_uploads WHERE content_hash IS NULL) + new_length
        > most_bytes THEN
        RETURN 'no_room';
    END IF;
    INSERT INTO resumable_uploads (upload_id, producer_id, kind, concat, length_bytes, media_type, declared_hash,
        metadata, expires_at)
    VALUES (new_upload, new_producer, new_kind, new_concat, new_length, new_media_type, new_declared, new_metadata,
        new_expiry);
    RETURN 'begun';
END
$$;

CREATE TABLE public.payments (
    txid bytea NOT NULL,
    vout bigint NOT NULL,
    satoshis bigint NOT NULL,
    price_satoshis bigint NOT NULL,
    sender bytea NOT NULL,
    payee bytea NOT NULL,
    derivation_prefix text NOT NULL,
    derivation_suffix text NOT NULL,
    version_id uuid NOT NULL,
    receipt_id uuid,
    state text NOT NULL,
    height bigint,
    made_at timestamp with time zone NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    beef bytea NOT NULL,
    CONSTRAINT payments_check CHECK (((price_satoshis >= 0) AND (price_satoshis <= satoshis))),
    CONSTRAINT payments_check1 CHECK (((state = 'proven'::text) = (height IS NOT NULL))),
    CONSTRAINT payments_height_check CHECK (((height >= 0) AND (height <= '4294967295'::bigint))),
    CONSTRAINT payments_payee_check CHECK ((octet_length(payee) = 33)),
    CONSTRAINT payments_satoshis_check CHECK ((satoshis >= 0)),
    CONSTRAINT payments_sender_check CHECK ((octet_length(sender) = 33)),
    CONSTRAINT payments_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'unproven'::text, 'proven'::text, 'invalidated'::text]))),
    CONSTRAINT payments_txid_check CHECK ((octet_length(txid) = 32)),
    CONSTRAINT payments_vout_check CHECK (((vout >= 0) AND (vout <= '4294967295'::bigint)))
);
ALTER TABLE ONLY public.payments ALTER COLUMN beef SET STORAGE EXTERNAL;

COMMENT ON TABLE public.payments IS 'Outputs of transactions that bought a receipt each.';

COMMENT ON COLUMN public.payments.txid IS 'The transaction, in the order of the wire.';

COMMENT ON COLUMN public.payments.vout IS 'The index of the output.';

COMMENT ON COLUMN public.payments.satoshis IS 'What the output is worth.';

COMMENT ON COLUMN public.payments.price_satoshis IS 'What had to be paid.';

COMMENT ON COLUMN public.payments.sender IS 'The payer''s identity key.';

COMMENT ON COLUMN public.payments.payee IS 'The payment key of this installation that the output''s key was derived from.';

COMMENT ON COLUMN public.payments.derivation_prefix IS 'The first text from which the output''s key was derived (BRC-29).';

COMMENT ON COLUMN public.payments.derivation_suffix IS 'The second one.';

COMMENT ON COLUMN public.payments.version_id IS 'The asset that was bought.';

COMMENT ON COLUMN public.payments.receipt_id IS 'The receipt. NULL when its holder''s data was erased; the payment stays, so that it buys nothing again.';

COMMENT ON COLUMN public.payments.state IS 'What is known of the transaction: pending, unproven, proven or invalidated.';

COMMENT ON COLUMN public.payments.height IS 'The height of the block that holds it, when it is proven.';

COMMENT ON COLUMN public.payments.made_at IS 'When it was recorded.';

COMMENT ON COLUMN public.payments.changed_at IS 'When its state last changed.';

COMMENT ON COLUMN public.payments.beef IS 'The envelope as it came (BEEF): the payee''s wallet needs it to take the output over.';

CREATE FUNCTION public.penstock_change_payment(paid_txid bytea, paid_vout bigint, from_state text, from_height bigint, to_state text, to_height bigint, at timestamp with time zone) RETURNS SETOF public.payments
    LANGUAGE plpgsql ROWS 1
    SET jit TO 'off'
    AS $$
DECLARE
    changed payments%ROWTYPE;
BEGIN
    PERFORM pg_advisory_xact_lock(penstock_payment_lock(paid_txid));
    UPDATE payments p SET state = to_state, height = to_height, changed_at = at
    WHERE p.txid = paid_txid AND p.vout = paid_vout AND p.state = from_state AND p.height IS NOT DISTINCT FROM from_height
    RETURNING * INTO changed;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF to_state = 'invalidated' THEN
        UPDATE overlay_receipts r SET status = 'refunded', epoch = r.epoch + 1, updated_at = at
        WHERE r.receipt_id = changed.receipt_id AND r.status IN ('pending', 'confirmed', 'settled', 'consumed');
        -- An expiry that may turn out to be the mistake of a clock must not bring the receipt back.
        UPDATE overlay_receipts r SET expired_from = NULL, updated_at = at
        WHERE r.receipt_id = changed.receipt_id AND r.expired_from IS NOT NULL;
        -- The transaction spends nothing any more when none of its payments stands.
        IF NOT EXISTS (SELECT FROM payments p WHERE p.txid = paid_txid AND p.state <> 'invalidated') THEN
            UPDATE payment_inputs i SET released = true WHERE i.spent_by = paid_txid AND NOT i.released;
        END IF;
    ELSIF to_state IN ('unproven', 'proven') THEN
        UPDATE overlay_receipts r SET status = 'confirmed', epoch = r.epoch + 1, updated_at = at
        WHERE r.receipt_id = changed.receipt_id AND r.status = 'pending';
        UPDATE overlay_receipts r SET expired_from = 'confirmed', updated_at = at
        WHERE r.receipt_id = changed.receipt_id AND r.expired_from = 'pending';
    END IF;
    RETURN NEXT changed;
END
$$;

CREATE FUNCTION public.penstock_close(closing_node uuid, closing_epoch bigint, most bigint) RETURNS TABLE(taken_leases bigint, taken_bytes bigint, taken_requests bigint, more boolean)
    LANGUAGE plpgsql ROWS 1
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    lease_receipts uuid[];
    lease_hours    timestamptz[];
BEGIN
    PERFORM pg_advisory_xact_lock(penstock_epoch_lock(closing_node, closing_epoch));
    INSERT INTO ledger_nodes AS n (node_id, epoch, alive_until, fenced)
    VALUES (closing_node, closing_epoch, clock_timestamp(), true)
    ON CONFLICT (node_id, epoch) DO UPDATE SET fenced = true;
    DELETE FROM quota_refills_again a WHERE a.node_id = closing_node AND a.epoch = closing_epoch;

    SELECT array_agg(receipt_id), array_agg(hour_start) INTO lease_receipts, lease_hours
    FROM (
        SELECT l.receipt_id, l.hour_start FROM quota_leases l
        WHERE l.node_id = closing_node AND l.epoch = closing_epoch AND l.state = 'live'
        LIMIT most
    ) AS left_over;

    -- The locks of the leases, in the order of everywhere.
    PERFORM FROM (
        SELECT FROM unnest(lease_receipts, lease_hours) AS d (receipt_id, hour_start)
        JOIN quota_usage_windows w ON w.receipt_id = d.receipt_id AND w.window_type = 'hour'
            AND w.window_start = d.hour_start AND w.window_end = d.hour_start + interval '1 hour'
        ORDER BY w.receipt_id, w.window_start
        FOR NO KEY UPDATE OF w
    ) AS locked;

    WITH released AS (
        DELETE FROM quota_leases l USING unnest(lease_receipts, lease_hours) AS d (receipt_id, hour_start)
        WHERE l.receipt_id = d.receipt_id AND l.node_id = closing_node AND l.epoch = closing_epoch
          AND l.hour_start = d.hour_start AND l.state = 'live'
        RETURNING l.receipt_id, l.hour_start, l.bytes, l.requests
    ),
    freed AS (
        -- As in penstock_settle, the reserved columns carry what comes off.
        INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end, bytes_reserved,
                                              requests_reserved)
        SELECT r.receipt_id, k.window_type, k.window_start, k.window_end, sum(r.bytes), sum(r.requests)
        FROM released r CROSS JOIN LATERAL penstock_windows(r.hour_start) AS k
        GROUP BY k.rank, r.receipt_id, k.window_type, k.window_start, k.window_end
        ORDER BY k.rank, r.receipt_id, k.window_start
        ON CONFLICT (receipt_id, window_type, window_start, window_end) DO UPDATE SET
            bytes_reserved = w.bytes_reserved - excluded.bytes_reserved,
            requests_reserved = w.requests_reserved - excluded.requests_reserved
    )
    SELECT count(*), coalesce(sum(bytes), 0), coalesce(sum(requests), 0) INTO taken_leases, taken_bytes, taken_requests
    FROM released;
    more := coalesce(cardinality(lease_receipts), 0) >= most;
    RETURN NEXT;
END
$$;

CREATE FUNCTION public.penstock_document(name text, description text, policy_meta jsonb, tags text[]) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $_$
    WITH names AS MATERIALIZED (SELECT penstock_words(name) AS words),
    lexemes AS (
        SELECT format('''^%1$s'':%2$s ''%1$s'':%2$s', word, place) AS lexeme
        FROM names, unnest(words) WITH ORDINALITY AS n (word, place)
        UNION ALL
        SELECT format('''%s'':%s', word, cardinality(words) + 1 + place)
        FROM names, unnest(penstock_words(description)) WITH ORDINALITY AS d (word, place)
        UNION ALL
        SELECT format('''=%s'':%s', word, row_number() OVER (ORDER BY nth, place) + nth)
        FROM jsonb_path_query(policy_meta, 'strict $.** ? (@.type() == "string")') WITH ORDINALITY AS t (found, nth),
            unnest(penstock_words(found #>> '{}')) WITH ORDINALITY AS f (word, place)
    )
    SELECT array_to_tsvector(tags) || coalesce(string_agg(lexeme, ' ')::tsvector, '') FROM lexemes
$_$;

CREATE FUNCTION public.penstock_drop_usage(before timestamp with time zone) RETURNS text
    LANGUAGE plpgsql
    SET "TimeZone" TO 'UTC'
    SET lock_timeout TO '200ms'
    SET enable_seqscan TO 'off'
    AS $_$
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
$_$;

CREATE FUNCTION public.penstock_end_epoch(closing_node uuid, closing_epoch bigint, most bigint) RETURNS TABLE(taken_leases bigint, taken_bytes bigint, taken_requests bigint, uncharged_leases bigint, uncharged_bytes bigint, uncharged_requests bigint, more boolean)
    LANGUAGE plpgsql ROWS 1
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    lease_receipts uuid[];
    lease_hours    timestamptz[];
BEGIN
    PERFORM pg_advisory_xact_lock(penstock_epoch_lock(closing_node, closing_epoch));
    INSERT INTO ledger_nodes AS n (node_id, epoch, alive_until, fenced)
    VALUES (closing_node, closing_epoch, clock_timestamp(), true)
    ON CONFLICT (node_id, epoch) DO UPDATE SET fenced = true;
    DELETE FROM quota_refills_again a WHERE a.node_id = closing_node AND a.epoch = closing_epoch;

    SELECT array_agg(receipt_id), array_agg(hour_start) INTO lease_receipts, lease_hours
    FROM (
        SELECT l.receipt_id, l.hour_start FROM quota_leases l
        WHERE l.node_id = closing_node AND l.epoch = closing_epoch AND l.state IN ('live', 'lost')
        LIMIT most
    ) AS left_over;

    -- All windows of the leases, in the order of everywhere; those of an hour guard its leases. Charges come off by an
    -- update, since a window that was pruned must not be made anew.
    PERFORM FROM (
        SELECT FROM unnest(lease_receipts, lease_hours) AS d (receipt_id, hour_start)
        CROSS JOIN LATERAL penstock_windows(d.hour_start) AS k
        JOIN quota_usage_windows w ON w.receipt_id = d.receipt_id AND w.window_type = k.window_type
            AND w.window_start = k.window_start AND w.window_end = k.window_end
        ORDER BY k.rank, w.receipt_id, w.window_start
        FOR NO KEY UPDATE OF w
    ) AS locked;

    -- Only now: a step of reclaiming that held the locks may have charged a lease meanwhile.
    WITH ended AS (
        DELETE FROM quota_leases l USING unnest(lease_receipts, lease_hours) AS d (receipt_id, hour_start)
        WHERE l.receipt_id = d.receipt_id AND l.node_id = closing_node AND l.epoch = closing_epoch
          AND l.hour_start = d.hour_start
        RETURNING l.receipt_id, l.hour_start, l.state, l.bytes, l.requests, l.lost_usage_id
    ),
    uncharged AS (
        DELETE FROM streaming_usage u USING ended e
        WHERE e.state = 'lost' AND u.usage_id = e.lost_usage_id AND u.started_at = e.hour_start
        RETURNING e.receipt_id, e.hour_start, u.bytes_sent, u.requests
    ),
    given_back AS (
        SELECT receipt_id, hour_start, 0 AS used_bytes, 0 AS used_requests, bytes AS reserved_bytes,
               requests AS reserved_requests
        FROM ended WHERE state = 'live'
        UNION ALL
        SELECT receipt_id, hour_start, bytes_sent, requests, 0, 0 FROM uncharged
    ),
    sums AS MATERIALIZED (
        SELECT o.receipt_id, k.window_type, k.window_start, k.window_end,
               sum(o.used_bytes)::bigint AS used_bytes, sum(o.used_requests)::bigint AS used_requests,
               sum(o.reserved_bytes)::bigint AS reserved_bytes, sum(o.reserved_requests)::bigint AS reserved_requests
        FROM given_back o CROSS JOIN LATERAL penstock_windows(o.hour_start) AS k
        GROUP BY 1, 2, 3, 4
    ),
    freed AS (
        UPDATE quota_usage_windows w SET
            bytes_used = w.bytes_used - s.used_bytes,
            requests_used = w.requests_used - s.used_requests,
            bytes_reserved = w.bytes_reserved - s.reserved_bytes,
            requests_reserved = w.requests_reserved - s.reserved_requests
        FROM sums s
        WHERE w.receipt_id = s.receipt_id AND w.window_type = s.window_type AND w.window_start = s.window_start
          AND w.window_end = s.window_end
    )
    SELECT released.leases, released.bytes, released.requests, taken_back.leases, taken_back.bytes, taken_back.requests
    INTO taken_leases, taken_bytes, taken_requests, uncharged_leases, uncharged_bytes, uncharged_requests
    FROM (
        SELECT count(*) AS leases, coalesce(sum(bytes), 0) AS bytes, coalesce(sum(requests), 0) AS requests
        FROM ended WHERE state = 'live'
    ) AS released
    CROSS JOIN (
        SELECT count(*) AS leases, coalesce(sum(bytes_sent), 0) AS bytes, coalesce(sum(requests), 0) AS requests
        FROM uncharged WHERE bytes_sent + requests > 0
    ) AS taken_back;
    more := coalesce(cardinality(lease_receipts), 0) >= most;
    RETURN NEXT;
END
$$;

CREATE FUNCTION public.penstock_enter_all(ids uuid[], numbers bigint[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    FOR place IN 1 .. coalesce(cardinality(ids), 0) BY 1000 LOOP
        PERFORM penstock_enter_assets(ids[place : place + 999], numbers[place : place + 999]);
    END LOOP;
END
$$;

CREATE FUNCTION public.penstock_enter_assets(ids uuid[], numbers bigint[]) RETURNS void
    LANGUAGE sql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
    -- A price that somebody is changing is waited for, and afterwards changed in what is entered here.
    WITH priced AS MATERIALIZED (SELECT version_id, satoshis FROM prices WHERE version_id = ANY (ids) FOR SHARE),
    given AS MATERIALIZED (
        SELECT coalesce(numbers[g.nth], nextval('asset_search_numbers')) AS number, g.version_id
        FROM unnest(ids) WITH ORDINALITY AS g (version_id, nth)
    ),
    entered AS (
        INSERT INTO asset_search (number, version_id, producer_id, dataset_id, media_type, satoshis, document)
        SELECT g.number, a.version_id, a.producer_id, a.dataset_id, m.essence, coalesce(p.satoshis, 0),
            penstock_document(a.name, a.description, a.policy_meta,
                              penstock_asset_tags(g.number, a.producer_id, a.dataset_id, m.essence))
        FROM given g
        JOIN assets a USING (version_id)
        CROSS JOIN LATERAL (SELECT lower(btrim(split_part(a.media_type, ';', 1)) COLLATE "C")) AS m (essence)
        LEFT JOIN priced p USING (version_id)
        ON CONFLICT (version_id) DO NOTHING
        RETURNING document
    ),
    new_words AS MATERIALIZED (
        SELECT word, nextval('asset_words_numbers') AS nth
        FROM (
            SELECT w.word
            FROM entered, unnest(document) AS d (lexeme), LATERAL (SELECT ltrim(lexeme, '=') COLLATE "C") AS w (word)
            WHERE left(lexeme, 1) NOT IN ('*', '#', '@', '^')
              AND NOT EXISTS (SELECT FROM asset_words known WHERE known.word = w.word)
            GROUP BY w.word
            ORDER BY count(*) DESC
        ) AS w
    )
    -- By the word, so that two of these at a time do not wait for each other's words in circles.
    INSERT INTO asset_words (word, nth) SELECT word, nth FROM new_words ORDER BY word ON CONFLICT DO NOTHING
$$;

CREATE FUNCTION public.penstock_epoch_lock(node uuid, epoch bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT hashtextextended('penstock epoch ' || node || ' ' || epoch, 0)
$$;

CREATE FUNCTION public.penstock_erase_receipt(erased uuid, most bigint, OUT state text, OUT usage_rows bigint) RETURNS record
    LANGUAGE plpgsql
    SET "TimeZone" TO 'UTC'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
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

CREATE FUNCTION public.penstock_expected(query tsquery) RETURNS bigint
    LANGUAGE plpgsql STRICT
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE format('EXPLAIN (FORMAT JSON) SELECT FROM asset_search WHERE document @@ %L', query) INTO plan;
    RETURN plan #>> '{0,Plan,Plan Rows}';
END
$$;

CREATE FUNCTION public.penstock_facets(anywhere text, beginning text, producer uuid, dataset text, media text, family text, cheapest bigint, dearest bigint, most bigint, top bigint) RETURNS TABLE(kind text, value text, assets bigint)
    LANGUAGE sql STABLE ROWS 20
    AS $$
    WITH asked AS MATERIALIZED (
        SELECT penstock_query(anywhere, beginning) AS query, penstock_filter(producer, dataset, media, family) AS filter
    ),
    found AS MATERIALIZED (
        SELECT m.*
        FROM asked, penstock_matches(coalesce(query && filter, query, filter), NULL, 9223372036854775807, dataset,
                                     cheapest, dearest, most + 1) AS m
    ),
    counted AS MATERIALIZED (SELECT * FROM found WHERE version_id IS NOT NULL ORDER BY number DESC LIMIT most)
    (SELECT 'dataset', dataset_id, count(*) FROM counted WHERE dataset_id IS NOT NULL GROUP BY dataset_id
        ORDER BY count(*) DESC, dataset_id COLLATE "C" LIMIT top)
    UNION ALL
    (SELECT 'producer', producer_id::text, count(*) FROM counted GROUP BY producer_id
        ORDER BY count(*) DESC, producer_id LIMIT top)
    UNION ALL
    (SELECT 'media_type', media_type, count(*) FROM counted GROUP BY media_type
        ORDER BY count(*) DESC, media_type COLLATE "C" LIMIT top)
    UNION ALL
    SELECT 'counted', NULL, count(*) FROM counted
    UNION ALL
    SELECT 'more', NULL, count(*) - least(count(version_id), most) FROM found
$$;

CREATE FUNCTION public.penstock_few(in_name tsquery, in_description tsquery, query tsquery, dataset text, cheapest bigint, dearest bigint, newest bigint, last_rank smallint, last_number bigint, wanted bigint) RETURNS TABLE(rank smallint, number bigint, version_id uuid)
    LANGUAGE plpgsql STABLE ROWS 20
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        WITH hits AS MATERIALIZED (
            SELECT s.number, s.version_id,
                (CASE WHEN s.document @@ in_name THEN 3 WHEN s.document @@ in_description THEN 2 ELSE 1 END)::smallint AS rank,
                s.number <= newest AND s.satoshis BETWEEN cheapest AND dearest
                    AND (dataset IS NULL OR s.dataset_id = dataset) AS fits
            FROM asset_search s
            WHERE s.document @@ query
            LIMIT 3001
        )
        SELECT NULL::smallint, NULL::bigint, NULL::uuid WHERE (SELECT count(*) FROM hits) > 3000
        UNION ALL
        (SELECT h.rank, h.number, h.version_id FROM hits h
            WHERE h.fits AND (SELECT count(*) FROM hits) <= 3000
              AND (last_rank IS NULL OR (h.rank, h.number) < (last_rank, last_number))
            ORDER BY h.rank DESC, h.number DESC LIMIT wanted);
END
$$;

CREATE FUNCTION public.penstock_filter(producer uuid, dataset text, media text, family text) RETURNS tsquery
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT string_agg('''' || replace(replace(tag, '\', '\\'), '''', '''''') || '''', ' & ')::tsquery
    FROM unnest(ARRAY['@p' || producer, '@d' || md5(dataset), '@m' || media, '@f' || family]) AS asked (tag)
    WHERE tag IS NOT NULL
$$;

CREATE FUNCTION public.penstock_grant(lim bigint, taken bigint, need bigint, want bigint, divisor bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT CASE
        WHEN lim IS NULL THEN greatest(want, need)
        WHEN need > greatest(lim - taken, 0) THEN -1
        WHEN lim - taken <= lim / 100 THEN need
        ELSE greatest(least(want, (lim - taken) / divisor), need)
    END
$$;

CREATE FUNCTION public.penstock_hold_lease(chosen_task text, chosen_token bigint) RETURNS void
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

CREATE FUNCTION public.penstock_home() RETURNS text
    LANGUAGE sql STABLE
    AS $$
    SELECT (SELECT system_identifier FROM pg_control_system()) || ':'
        || (SELECT oid FROM pg_database WHERE datname = current_database()) || ':' || 'timelines'::regclass::oid
    FROM penstock_whole
$$;

CREATE FUNCTION public.penstock_ingest_lineage(moment timestamp with time zone, facets_most integer, namespace_keys uuid[], namespaces text[], event_times timestamp with time zone[], event_hashes bytea[], event_namespaces integer[], event_kinds text[], event_states text[], event_runs uuid[], event_subjects integer[], event_bodies text[], node_keys uuid[], node_kinds text[], node_namespaces text[], node_names text[], node_words text[], node_facets jsonb[], mention_events integer[], mention_nodes integer[], edge_events integer[], edge_sources integer[], edge_targets integer[]) RETURNS TABLE(place bigint, outcome text, grew boolean)
    LANGUAGE plpgsql ROWS 100
    SET enable_seqscan TO 'off'
    SET enable_nestloop TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    left_times  timestamptz[];
    left_hashes bytea[];
    now_times   timestamptz[];
    now_hashes  bytea[];
    is_new      boolean[];
    new_nodes   boolean;
    new_edges   boolean;
BEGIN
    -- Not locked: pruning may move the end of a window while this goes on, and whether that matters is looked at in the end. A
    -- namespace that is forgotten between the two statements is made again.
    LOOP
        INSERT INTO lineage_namespaces (namespace_key, namespace)
        SELECT key, name FROM unnest(namespace_keys, namespaces) AS n (key, name)
        ON CONFLICT (namespace_key) DO NOTHING;

        SELECT array_agg(pruned_until ORDER BY namespace_key), array_agg(pruned_hash ORDER BY namespace_key)
        INTO left_times, left_hashes
        FROM lineage_namespaces WHERE namespace_key = ANY (namespace_keys);
        EXIT WHEN cardinality(left_times) = cardinality(namespace_keys);
    END LOOP;

    WITH kept AS (
        INSERT INTO lineage_events (event_time, event_hash, namespace_key, kind, state, run_id, received_at, body)
        SELECT e.at, e.hash, namespace_keys[event_namespaces[e.place]], event_kinds[e.place], event_states[e.place],
               event_runs[e.place], moment, event_bodies[e.place]
        FROM unnest(event_times, event_hashes) WITH ORDINALITY AS e (at, hash, place)
        WHERE (e.at, e.hash) > (left_times[event_namespaces[e.place]], left_hashes[event_namespaces[e.place]])
        ORDER BY e.at, e.hash
        ON CONFLICT (event_time, event_hash) DO NOTHING
        RETURNING event_hash
    )
    SELECT array_agg(k.event_hash IS NOT NULL ORDER BY e.place) INTO is_new
    FROM unnest(event_hashes) WITH ORDINALITY AS e (hash, place) LEFT JOIN kept k ON k.event_hash = e.hash;

    -- Of a row that was there, `xmax` names this transaction, which had to lock it.
    WITH touched AS (
        INSERT INTO lineage_nodes AS n (node_key, kind, namespace, name, words, facets, first_seen, last_seen, last_day, events)
        SELECT node_keys[m.node], node_kinds[m.node], node_namespaces[m.node], node_names[m.node],
               array_to_tsvector(string_to_array(node_words[m.node], ' ')), coalesce(node_facets[m.node], '{}'),
               min(event_times[m.event]), max(event_times[m.event]), penstock_utc_day(max(event_times[m.event])), count(*)
        FROM unnest(mention_events, mention_nodes) AS m (event, node)
        WHERE is_new[m.event]
        GROUP BY m.node
        ORDER BY m.node
        ON CONFLICT (node_key) DO UPDATE SET
            facets = CASE WHEN excluded.facets = '{}' THEN n.facets
                          ELSE penstock_merge_facets(n.facets, excluded.facets, facets_most) END,
            first_seen = least(n.first_seen, excluded.first_seen),
            last_seen = greatest(n.last_seen, excluded.last_seen),
            last_day = greatest(n.last_day, excluded.last_day),
            events = n.events + excluded.events
        RETURNING xmax = 0 AS made
    )
    SELECT coalesce(bool_or(made), false) INTO new_nodes FROM touched;

    -- The end of a run stands against whatever is told of it besides; else the latest state does. Of two events at one
    -- time the greater word wins, so that everybody comes to the same.
    INSERT INTO lineage_runs AS r (run_id, job_key, state, state_at, started_at, ended_at, first_seen, last_seen, last_day,
                                   events)
    SELECT e.run,
           (array_agg(node_keys[event_subjects[e.place]] ORDER BY e.at, node_keys[event_subjects[e.place]]))[1],
           (array_agg(e.state ORDER BY penstock_run_ended(e.state) DESC, e.at DESC, e.state COLLATE "C" DESC)
                FILTER (WHERE e.state <> 'OTHER'))[1],
           (array_agg(e.at ORDER BY penstock_run_ended(e.state) DESC, e.at DESC, e.state COLLATE "C" DESC)
                FILTER (WHERE e.state <> 'OTHER'))[1],
           min(e.at) FILTER (WHERE e.state = 'START'), max(e.at) FILTER (WHERE penstock_run_ended(e.state)),
           min(e.at), max(e.at), penstock_utc_day(max(e.at)), count(*)
    FROM unnest(event_runs, event_times, event_states) WITH ORDINALITY AS e (run, at, state, place)
    WHERE e.run IS NOT NULL AND is_new[e.place]
    GROUP BY e.run
    ORDER BY e.run
    ON CONFLICT (run_id) DO UPDATE SET
        job_key = CASE WHEN (excluded.first_seen, excluded.job_key) < (r.first_seen, r.job_key)
                       THEN excluded.job_key ELSE r.job_key END,
        state = CASE WHEN r.state IS NULL OR (penstock_run_ended(excluded.state), excluded.state_at, excluded.state)
                            > (penstock_run_ended(r.state), r.state_at, r.state)
                     THEN coalesce(excluded.state, r.state) ELSE r.state END,
        state_at = CASE WHEN r.state IS NULL OR (penstock_run_ended(excluded.state), excluded.state_at, excluded.state)
                               > (penstock_run_ended(r.state), r.state_at, r.state)
                        THEN coalesce(excluded.state_at, r.state_at) ELSE r.state_at END,
        started_at = least(r.started_at, excluded.started_at),
        ended_at = greatest(r.ended_at, excluded.ended_at),
        first_seen = least(r.first_seen, excluded.first_seen),
        last_seen = greatest(r.last_seen, excluded.last_seen),
        last_day = greatest(r.last_day, excluded.last_day),
        events = r.events + excluded.events;

    WITH touched AS (
        INSERT INTO lineage_edges AS w (source_key, target_key, first_seen, last_seen, last_day, events)
        SELECT node_keys[e.source], node_keys[e.target], min(event_times[e.event]), max(event_times[e.event]),
               penstock_utc_day(max(event_times[e.event])), count(*)
        FROM unnest(edge_events, edge_sources, edge_targets) AS e (event, source, target)
        WHERE is_new[e.event]
        GROUP BY e.source, e.target
        ORDER BY e.source, e.target
        ON CONFLICT (source_key, target_key) DO UPDATE SET
            first_seen = least(w.first_seen, excluded.first_seen),
            last_seen = greatest(w.last_seen, excluded.last_seen),
            last_day = greatest(w.last_day, excluded.last_day),
            events = w.events + excluded.events
        RETURNING xmax = 0 AS made
    )
    SELECT coalesce(bool_or(made), false) INTO new_edges FROM touched;
    IF new_nodes OR new_edges THEN
        INSERT INTO change_log (tag) VALUES ('lineage:graph');
    END IF;

    -- From here to the commit no window moves. A namespace that was forgotten meanwhile is made again.
    LOOP
        SELECT array_agg(pruned_until), array_agg(pruned_hash) INTO now_times, now_hashes
        FROM (
            SELECT pruned_until, pruned_hash FROM lineage_namespaces
            WHERE namespace_key = ANY (namespace_keys)
            ORDER BY namespace_key
            FOR SHARE
        ) AS held;
        EXIT WHEN cardinality(now_times) = cardinality(namespace_keys);
        INSERT INTO lineage_namespaces (namespace_key, namespace)
        SELECT key, name FROM unnest(namespace_keys, namespaces) AS n (key, name)
        ON CONFLICT (namespace_key) DO NOTHING;
    END LOOP;
    -- An event that is new here may have been there, and have left, while this went on: it must not be counted twice.
    IF EXISTS (
        SELECT FROM unnest(event_times, event_hashes) WITH ORDINALITY AS e (at, hash, place)
        WHERE is_new[e.place] AND (e.at, e.hash) <= (now_times[event_namespaces[e.place]], now_hashes[event_namespaces[e.place]])
    ) THEN
        RAISE EXCEPTION 'a window has moved over events of this batch' USING ERRCODE = 'PS002';
    END IF;

    -- Last, since every batch of a namespace wants this row.
    INSERT INTO lineage_event_counts AS c (day, namespace_key, events)
    SELECT penstock_utc_day(e.at), namespace_keys[event_namespaces[e.place]], count(*)
    FROM unnest(event_times) WITH ORDINALITY AS e (at, place)
    WHERE is_new[e.place]
    GROUP BY 1, 2
    ORDER BY 1, 2
    ON CONFLICT (day, namespace_key) DO UPDATE SET events = c.events + excluded.events;

    RETURN QUERY
    SELECT e.place,
           CASE WHEN is_new[e.place] THEN 'new'
                WHEN (e.at, e.hash) <= (left_times[event_namespaces[e.place]], left_hashes[event_namespaces[e.place]])
                    THEN 'left'
                ELSE 'known' END,
           new_nodes OR new_edges
    FROM unnest(event_times, event_hashes) WITH ORDINALITY AS e (at, hash, place)
    ORDER BY e.place;
END
$$;

CREATE FUNCTION public.penstock_keep_price() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    at timestamptz := clock_timestamp();
BEGIN
    DELETE FROM earlier_prices e WHERE e.version_id = OLD.version_id AND e.ended_at <= at AND e.satoshis >= OLD.satoshis;
    INSERT INTO earlier_prices AS e (version_id, ended_at, satoshis) VALUES (OLD.version_id, at, OLD.satoshis)
    ON CONFLICT (version_id, ended_at) DO UPDATE SET satoshis = least(e.satoshis, excluded.satoshis);
    RETURN NULL;
END
$$;

CREATE FUNCTION public.penstock_lease_storage_task() RETURNS trigger
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

CREATE FUNCTION public.penstock_matches(query tsquery, better tsquery, below bigint, dataset text, cheapest bigint, dearest bigint, wanted bigint) RETURNS TABLE(number bigint, version_id uuid, producer_id uuid, dataset_id text, media_type text)
    LANGUAGE plpgsql STABLE ROWS 100
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
#variable_conflict use_column
DECLARE
    head bigint := (SELECT max(s.number) + 1 FROM asset_search s WHERE s.number < below);
    expected bigint := penstock_expected(query);
    level integer := CASE WHEN expected BETWEEN 3001 AND 50000 THEN 1 ELSE 0 END;
    bits integer;
    span bigint;
    looked_for tsquery;
    found bigint := 0;
    more bigint;
    are_few boolean := true;
BEGIN
    IF expected <= 3000 THEN
        FOR number, version_id, producer_id, dataset_id, media_type IN
            WITH hits AS MATERIALIZED (
                SELECT s.number, s.version_id, s.producer_id, s.dataset_id, s.media_type,
                    s.number < head AND s.satoshis BETWEEN cheapest AND dearest
                        AND (better IS NULL OR NOT s.document @@ better)
                        -- The tag is a digest of it.
                        AND (dataset IS NULL OR s.dataset_id = dataset) AS fits
                FROM asset_search s
                WHERE s.document @@ query
                LIMIT 3001
            )
            SELECT NULL::bigint, NULL::uuid, NULL::uuid, NULL::text, NULL::text WHERE (SELECT count(*) FROM hits) > 3000
            UNION ALL
            (SELECT h.number, h.version_id, h.producer_id, h.dataset_id, h.media_type FROM hits h
                WHERE h.fits AND (SELECT count(*) FROM hits) <= 3000 ORDER BY h.number DESC LIMIT wanted)
        LOOP
            are_few := number IS NOT NULL;
            EXIT WHEN NOT are_few;
            RETURN NEXT;
        END LOOP;
        IF are_few THEN
            RETURN;
        END IF;
    END IF;
    WHILE found < wanted AND head IS NOT NULL LOOP
        bits := (ARRAY[12, 15, 18, 20])[level + 1];
        span := (head - 1) >> bits;
        IF query IS NULL THEN
            RETURN QUERY SELECT s.number, s.version_id, s.producer_id, s.dataset_id, s.media_type
                FROM asset_search s
                WHERE s.number >= span << bits AND s.number < head AND s.satoshis BETWEEN cheapest AND dearest
                ORDER BY s.number DESC LIMIT wanted - found;
        ELSE
            looked_for := query && format('''#%s%s''', level, to_hex(span))::tsquery;
            -- Found first and ordered then, so that nobody thinks of walking along the numbers instead. What is better is not
            -- among what the index looks for, which would then walk along the lists of those words too.
            RETURN QUERY
                WITH hits AS MATERIALIZED (
                    SELECT s.number, s.version_id, s.producer_id, s.dataset_id, s.media_type
                    FROM asset_search s
                    WHERE s.document @@ looked_for AND s.number < head AND s.satoshis BETWEEN cheapest AND dearest
                      AND (better IS NULL OR NOT s.document @@ better)
                      AND (dataset IS NULL OR s.dataset_id = dataset)
                )
                SELECT * FROM hits ORDER BY number DESC LIMIT wanted - found;
        END IF;
        GET DIAGNOSTICS more = ROW_COUNT;
        found := found + more;
        -- What is next below the span: numbers may have gaps.
        head := (SELECT max(s.number) + 1 FROM asset_search s WHERE s.number < span << bits);
        IF level < 3 THEN
            level := level + 1;
        ELSIF found < wanted AND head IS NOT NULL AND clock_timestamp() - statement_timestamp() > interval '1 second' THEN
            RETURN QUERY SELECT head, NULL::uuid, NULL::uuid, NULL::text, NULL::text;
            RETURN;
        END IF;
    END LOOP;
END
$$;

CREATE FUNCTION public.penstock_merge_facets(known jsonb, given jsonb, most integer) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT coalesce(jsonb_object_agg(key, value), '{}')
    FROM (
        SELECT key, value
        FROM (
            SELECT DISTINCT ON (key) key, value
            FROM (SELECT * FROM jsonb_each(known) UNION ALL SELECT * FROM jsonb_each(given)) AS facets
            ORDER BY key, (value -> 'at')::bigint DESC, value ->> 'by' COLLATE "C" DESC
        ) AS newest
        ORDER BY (value -> 'at')::bigint DESC, value ->> 'by' COLLATE "C" DESC, key COLLATE "C" DESC
        LIMIT most
    ) AS kept
$$;

CREATE FUNCTION public.penstock_note_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO change_log (tag) VALUES (TG_ARGV[0] || ':' || (to_jsonb(NEW) ->> TG_ARGV[1]));
    RETURN NULL;
END
$$;

CREATE FUNCTION public.penstock_note_content_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO change_log (tag)
    VALUES ('content:' || encode(CASE TG_OP WHEN 'DELETE' THEN OLD.content_hash ELSE NEW.content_hash END, 'hex'));
    RETURN NULL;
END
$$;

CREATE FUNCTION public.penstock_note_identity() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO change_log (tag) VALUES ('identity:' || encode(OLD.identity_key, 'hex'));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO change_log (tag) VALUES ('identity:' || encode(NEW.identity_key, 'hex'));
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION public.penstock_note_lost_key() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO change_log (tag) VALUES ('key:' || OLD.key_id);
    RETURN NULL;
END
$$;

CREATE FUNCTION public.penstock_payment_lock(paid bytea) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    RETURN hashtextextended(('penstock_payment '::text || encode(paid, 'hex'::text)), (0)::bigint);

CREATE FUNCTION public.penstock_prepare_lineage(days date[]) RETURNS bigint
    LANGUAGE plpgsql
    SET "TimeZone" TO 'UTC'
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

CREATE FUNCTION public.penstock_prepare_usage(from_time timestamp with time zone, months integer) RETURNS TABLE(partitions_made bigint, rows_moved bigint)
    LANGUAGE plpgsql ROWS 1
    SET "TimeZone" TO 'UTC'
    AS $_$
DECLARE
    month_start timestamptz;
    partition   text;
    moved       bigint;
BEGIN
    partitions_made := 0;
    rows_moved := 0;
    -- Instances that prepare at the same time take turns.
    PERFORM pg_advisory_xact_lock(hashtext('penstock_prepare_usage'));
    FOR month_start IN
        SELECT generate_series(date_trunc('month', from_time),
                               date_trunc('month', from_time) + make_interval(months => months), interval '1 month')
        UNION
        -- Unprepared months are few; a hundred at a time bounds a step even if clocks have gone wild.
        (SELECT DISTINCT date_trunc('month', started_at) FROM streaming_usage_unprepared LIMIT 100)
    LOOP
        partition := 'streaming_usage_' || to_char(month_start, 'YYYY_MM');
        CONTINUE WHEN to_regclass(partition) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE streaming_usage INCLUDING ALL)', partition);
        -- A partition cannot be attached while the default one has rows of its range.
        LOCK TABLE streaming_usage_unprepared IN ACCESS EXCLUSIVE MODE;
        EXECUTE format(
            'WITH moved AS (DELETE FROM streaming_usage_unprepared WHERE started_at >= $1
                AND started_at < $2 RETURNING *)
             INSERT INTO %I SELECT * FROM moved', partition)
        USING month_start, month_start + interval '1 month';
        GET DIAGNOSTICS moved = ROW_COUNT;
        EXECUTE format('ALTER TABLE streaming_usage ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                       partition, month_start, month_start + interval '1 month');
        partitions_made := partitions_made + 1;
        rows_moved := rows_moved + moved;
    END LOOP;
    RETURN NEXT;
END
$_$;

CREATE FUNCTION public.penstock_query(template text, beginning text) RETURNS tsquery
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
DECLARE
    words text[];
BEGIN
    IF beginning IS NOT NULL THEN
        words := array_append(ARRAY(
            SELECT word FROM asset_words
            -- The highest character there is, so the highest word with this beginning is below it.
            WHERE left(word, 2) = left(beginning, 2) AND word >= beginning AND word < beginning || U&'\+10FFFF'
              AND word <> beginning
            ORDER BY nth LIMIT 20), beginning);
        template := replace(template, '{^}', '''^' || array_to_string(words, ''' | ''^') || '''');
        template := replace(template, '{=}', '''=' || array_to_string(words, ''' | ''=') || '''');
        template := replace(template, '{}', '''' || array_to_string(words, ''' | ''') || '''');
    END IF;
    RETURN template::tsquery;
END
$$;

CREATE FUNCTION public.penstock_reclaim(moment timestamp with time zone, most bigint, charge_ids uuid[]) RETURNS TABLE(taken_leases bigint, taken_bytes bigint, taken_requests bigint, more boolean)
    LANGUAGE plpgsql ROWS 1
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    found_leases bigint;
    hour_receipts uuid[];
    hour_starts timestamptz[];
BEGIN
    -- A node whose row is locked is settling; the next step finds it.
    UPDATE ledger_nodes n SET fenced = true
    FROM (
        SELECT o.node_id, o.epoch
        FROM ledger_nodes o
        WHERE NOT o.fenced AND (o.alive_until <= clock_timestamp() OR EXISTS (
            SELECT FROM ledger_nodes later WHERE later.node_id = o.node_id AND later.epoch > o.epoch))
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS dead
    WHERE n.node_id = dead.node_id AND n.epoch = dead.epoch;

    SELECT count(*), array_agg(receipt_id), array_agg(hour_start) INTO found_leases, hour_receipts, hour_starts
    FROM (
        SELECT l.receipt_id, l.hour_start
        FROM ledger_nodes n JOIN quota_leases l ON l.node_id = n.node_id AND l.epoch = n.epoch
        WHERE n.fenced AND l.state = 'live'
        LIMIT most
    ) AS dead;

    -- The locks of the leases, as far as nobody has them.
    SELECT array_agg(receipt_id), array_agg(window_start) INTO hour_receipts, hour_starts
    FROM (
        SELECT w.receipt_id, w.window_start
        FROM (SELECT DISTINCT receipt_id, hour_start
            FROM unnest(hour_receipts, hour_starts) AS d (receipt_id, hour_start)) AS d
        JOIN quota_usage_windows w ON w.receipt_id = d.receipt_id AND w.window_type = 'hour'
            AND w.window_start = d.hour_start AND w.window_end = d.hour_start + interval '1 hour'
        FOR NO KEY UPDATE OF w SKIP LOCKED
    ) AS locked;

    WITH taken AS MATERIALIZED (
        SELECT l.*, r.content_hash, row_number() OVER () AS place
        FROM unnest(hour_receipts, hour_starts) AS d (receipt_id, hour_start)
        JOIN quota_leases l ON l.receipt_id = d.receipt_id AND l.hour_start = d.hour_start AND l.state = 'live'
        JOIN ledger_nodes n ON n.node_id = l.node_id AND n.epoch = l.epoch AND n.fenced
        JOIN overlay_receipts r ON r.receipt_id = l.receipt_id
        LIMIT most
    ),
    charges AS (
        INSERT INTO streaming_usage (usage_id, receipt_id, content_hash, node_id, started_at, finished_at,
                                     bytes_sent, requests, outcome, lease_epoch)
        SELECT charge_ids[place], receipt_id, content_hash, node_id, hour_start, moment, bytes, requests,
            'lost_lease', epoch
        FROM taken
        WHERE charge_ids IS NOT NULL
    ),
    lost AS (
        UPDATE quota_leases l SET state = 'lost', lost_usage_id = charge_ids[t.place]
        FROM taken t
        WHERE charge_ids IS NOT NULL AND l.receipt_id = t.receipt_id AND l.node_id = t.node_id AND l.epoch = t.epoch
          AND l.hour_start = t.hour_start
    ),
    released AS (
        DELETE FROM quota_leases l USING taken t
        WHERE charge_ids IS NULL AND l.receipt_id = t.receipt_id AND l.node_id = t.node_id AND l.epoch = t.epoch
          AND l.hour_start = t.hour_start
    ),
    moved AS (
        -- As in penstock_settle, the reserved columns carry what comes off.
        INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end, bytes_used,
                                              requests_used, bytes_reserved, requests_reserved)
        SELECT t.receipt_id, k.window_type, k.window_start, k.window_end,
               CASE WHEN charge_ids IS NULL THEN 0 ELSE sum(t.bytes) END,
               CASE WHEN charge_ids IS NULL THEN 0 ELSE sum(t.requests) END, sum(t.bytes), sum(t.requests)
        FROM taken t CROSS JOIN LATERAL penstock_windows(t.hour_start) AS k
        GROUP BY k.rank, t.receipt_id, k.window_type, k.window_start, k.window_end
        ORDER BY k.rank, t.receipt_id, k.window_start
        ON CONFLICT (receipt_id, window_type, window_start, window_end) DO UPDATE SET
            bytes_used = w.bytes_used + excluded.bytes_used,
            requests_used = w.requests_used + excluded.requests_used,
            bytes_reserved = w.bytes_reserved - excluded.bytes_reserved,
            requests_reserved = w.requests_reserved - excluded.requests_reserved
    )
    SELECT count(*), coalesce(sum(bytes), 0), coalesce(sum(requests), 0) INTO taken_leases, taken_bytes, taken_requests
    FROM taken;

    -- A step that found every lease guarded by somebody else says that nothing is left, so that nobody tries in
    -- circles.
    more := taken_leases > 0 AND (found_leases >= most OR taken_leases < found_leases);
    RETURN NEXT;
END
$$;

CREATE FUNCTION public.penstock_reclaim_by(by_node uuid, by_epoch bigint, moment timestamp with time zone, most bigint, charge_ids uuid[]) RETURNS TABLE(taken_leases bigint, taken_bytes bigint, taken_requests bigint, spared_leases bigint, spared_bytes bigint, spared_requests bigint, more boolean)
    LANGUAGE plpgsql ROWS 1
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    found_leases bigint;
    hour_receipts uuid[];
    hour_starts timestamptz[];
BEGIN
    -- A caller that slept, a clock that jumped and a dump that was restored tell nothing about the others.
    PERFORM FROM ledger_nodes n
    WHERE n.node_id = by_node AND n.epoch = by_epoch AND NOT n.fenced AND n.on_time >= 2
      AND n.alive_until > clock_timestamp() AND NOT (SELECT moved FROM penstock_timeline());
    IF NOT FOUND THEN
        RETURN QUERY SELECT 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, false;
        RETURN;
    END IF;

    -- A node whose row is locked is settling; the next step finds it.
    UPDATE ledger_nodes n SET fenced = true
    FROM (
        SELECT o.node_id, o.epoch
        FROM ledger_nodes o
        WHERE NOT o.fenced AND o.alive_until <= clock_timestamp() AND (o.node_id, o.epoch) <> (by_node, by_epoch)
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS dead
    WHERE n.node_id = dead.node_id AND n.epoch = dead.epoch;

    SELECT count(*), array_agg(receipt_id), array_agg(hour_start) INTO found_leases, hour_receipts, hour_starts
    FROM (
        SELECT l.receipt_id, l.hour_start
        FROM ledger_nodes n JOIN quota_leases l ON l.node_id = n.node_id AND l.epoch = n.epoch
        WHERE n.fenced AND l.state = 'live'
        LIMIT most
    ) AS dead;

    -- The locks of the leases, as far as nobody has them.
    SELECT array_agg(receipt_id), array_agg(window_start) INTO hour_receipts, hour_starts
    FROM (
        SELECT w.receipt_id, w.window_start
        FROM (SELECT DISTINCT receipt_id, hour_start
            FROM unnest(hour_receipts, hour_starts) AS d (receipt_id, hour_start)) AS d
        JOIN quota_usage_windows w ON w.receipt_id = d.receipt_id AND w.window_type = 'hour'
            AND w.window_start = d.hour_start AND w.window_end = d.hour_start + interval '1 hour'
        FOR NO KEY UPDATE OF w SKIP LOCKED
    ) AS locked;

    WITH taken AS MATERIALIZED (
        SELECT l.*, r.content_hash, row_number() OVER () AS place, charge_ids IS NOT NULL AND NOT n.spared AS charged,
               charge_ids IS NOT NULL AND n.spared AS is_spared
        FROM unnest(hour_receipts, hour_starts) AS d (receipt_id, hour_start)
        JOIN quota_leases l ON l.receipt_id = d.receipt_id AND l.hour_start = d.hour_start AND l.state = 'live'
        JOIN ledger_nodes n ON n.node_id = l.node_id AND n.epoch = l.epoch AND n.fenced
        JOIN overlay_receipts r ON r.receipt_id = l.receipt_id
        LIMIT most
    ),
    charges AS (
        INSERT INTO streaming_usage (usage_id, receipt_id, content_hash, node_id, started_at, finished_at,
                                     bytes_sent, requests, outcome, lease_epoch)
        SELECT charge_ids[place], receipt_id, content_hash, node_id, hour_start, moment, bytes, requests,
            'lost_lease', epoch
        FROM taken
        WHERE charged
    ),
    lost AS (
        UPDATE quota_leases l SET state = 'lost', lost_usage_id = charge_ids[t.place]
        FROM taken t
        WHERE t.charged AND l.receipt_id = t.receipt_id AND l.node_id = t.node_id AND l.epoch = t.epoch
          AND l.hour_start = t.hour_start
    ),
    released AS (
        DELETE FROM quota_leases l USING taken t
        WHERE NOT t.charged AND l.receipt_id = t.receipt_id AND l.node_id = t.node_id AND l.epoch = t.epoch
          AND l.hour_start = t.hour_start
    ),
    moved AS (
        -- As in penstock_settle, the reserved columns carry what comes off.
        INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end, bytes_used,
                                              requests_used, bytes_reserved, requests_reserved)
        SELECT t.receipt_id, k.window_type, k.window_start, k.window_end,
               coalesce(sum(t.bytes) FILTER (WHERE t.charged), 0),
               coalesce(sum(t.requests) FILTER (WHERE t.charged), 0), sum(t.bytes), sum(t.requests)
        FROM taken t CROSS JOIN LATERAL penstock_windows(t.hour_start) AS k
        GROUP BY k.rank, t.receipt_id, k.window_type, k.window_start, k.window_end
        ORDER BY k.rank, t.receipt_id, k.window_start
        ON CONFLICT (receipt_id, window_type, window_start, window_end) DO UPDATE SET
            bytes_used = w.bytes_used + excluded.bytes_used,
            requests_used = w.requests_used + excluded.requests_used,
            bytes_reserved = w.bytes_reserved - excluded.bytes_reserved,
            requests_reserved = w.requests_reserved - excluded.requests_reserved
    )
    SELECT count(*), coalesce(sum(bytes), 0), coalesce(sum(requests), 0), count(*) FILTER (WHERE is_spared),
           coalesce(sum(bytes) FILTER (WHERE is_spared), 0), coalesce(sum(requests) FILTER (WHERE is_spared), 0)
    INTO taken_leases, taken_bytes, taken_requests, spared_leases, spared_bytes, spared_requests
    FROM taken;

    -- A step that found every lease guarded by somebody else says that nothing is left, so that nobody tries in
    -- circles.
    more := taken_leases > 0 AND (found_leases >= most OR taken_leases < found_leases);
    RETURN NEXT;
END
$$;

CREATE FUNCTION public.penstock_reclaim_silent(by_node uuid, by_epoch bigint, silent_nodes uuid[], silent_epochs bigint[], silent_beats bigint[], moment timestamp with time zone, most bigint, charge_ids uuid[]) RETURNS TABLE(taken_leases bigint, taken_bytes bigint, taken_requests bigint, spared_leases bigint, spared_bytes bigint, spared_requests bigint, more boolean)
    LANGUAGE plpgsql ROWS 1
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    found_leases bigint;
    hour_receipts uuid[];
    hour_starts timestamptz[];
BEGIN
    -- A caller that slept and a dump that was restored tell nothing about the others.
    PERFORM FROM ledger_nodes n
    WHERE n.node_id = by_node AND n.epoch = by_epoch AND NOT n.fenced AND n.on_time >= 2
      AND n.alive_until > clock_timestamp() AND NOT (SELECT moved FROM penstock_timeline());
    IF NOT FOUND THEN
        RETURN QUERY SELECT 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, false;
        RETURN;
    END IF;

    -- A node whose row is locked is settling; the next step finds it.
    UPDATE ledger_nodes n SET fenced = true
    FROM (
        SELECT o.node_id, o.epoch
        FROM unnest(silent_nodes, silent_epochs, silent_beats) AS s (node_id, epoch, beats)
        JOIN ledger_nodes o ON o.node_id = s.node_id AND o.epoch = s.epoch AND o.beats = s.beats
        WHERE NOT o.fenced AND o.alive_until <= clock_timestamp() AND (o.node_id, o.epoch) <> (by_node, by_epoch)
        FOR NO KEY UPDATE OF o SKIP LOCKED
    ) AS dead
    WHERE n.node_id = dead.node_id AND n.epoch = dead.epoch;

    SELECT count(*), array_agg(receipt_id), array_agg(hour_start) INTO found_leases, hour_receipts, hour_starts
    FROM (
        SELECT l.receipt_id, l.hour_start
        FROM ledger_nodes n JOIN quota_leases l ON l.node_id = n.node_id AND l.epoch = n.epoch
        WHERE n.fenced AND l.state = 'live'
        LIMIT most
    ) AS dead;

    -- The locks of the leases, as far as nobody has them.
    SELECT array_agg(receipt_id), array_agg(window_start) INTO hour_receipts, hour_starts
    FROM (
        SELECT w.receipt_id, w.window_start
        FROM (SELECT DISTINCT receipt_id, hour_start
            FROM unnest(hour_receipts, hour_starts) AS d (receipt_id, hour_start)) AS d
        JOIN quota_usage_windows w ON w.receipt_id = d.receipt_id AND w.window_type = 'hour'
            AND w.window_start = d.hour_start AND w.window_end = d.hour_start + interval '1 hour'
        FOR NO KEY UPDATE OF w SKIP LOCKED
    ) AS locked;

    WITH taken AS MATERIALIZED (
        SELECT l.*, r.content_hash, row_number() OVER () AS place, charge_ids IS NOT NULL AND NOT n.spared AS charged,
               charge_ids IS NOT NULL AND n.spared AS is_spared
        FROM unnest(hour_receipts, hour_starts) AS d (receipt_id, hour_start)
        JOIN quota_leases l ON l.receipt_id = d.receipt_id AND l.hour_start = d.hour_start AND l.state = 'live'
        JOIN ledger_nodes n ON n.node_id = l.node_id AND n.epoch = l.epoch AND n.fenced
        JOIN overlay_receipts r ON r.receipt_id = l.receipt_id
        LIMIT most
    ),
    charges AS (
        INSERT INTO streaming_usage (usage_id, receipt_id, content_hash, node_id, started_at, finished_at,
                                     bytes_sent, requests, outcome, lease_epoch)
        SELECT charge_ids[place], receipt_id, content_hash, node_id, hour_start, moment, bytes, requests,
            'lost_lease', epoch
        FROM taken
        WHERE charged
    ),
    lost AS (
        UPDATE quota_leases l SET state = 'lost', lost_usage_id = charge_ids[t.place]
        FROM taken t
        WHERE t.charged AND l.receipt_id = t.receipt_id AND l.node_id = t.node_id AND l.epoch = t.epoch
          AND l.hour_start = t.hour_start
    ),
    released AS (
        DELETE FROM quota_leases l USING taken t
        WHERE NOT t.charged AND l.receipt_id = t.receipt_id AND l.node_id = t.node_id AND l.epoch = t.epoch
          AND l.hour_start = t.hour_start
    ),
    moved AS (
        -- As in penstock_settle, the reserved columns carry what comes off.
        INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end, bytes_used,
                                              requests_used, bytes_reserved, requests_reserved)
        SELECT t.receipt_id, k.window_type, k.window_start, k.window_end,
               coalesce(sum(t.bytes) FILTER (WHERE t.charged), 0),
               coalesce(sum(t.requests) FILTER (WHERE t.charged), 0), sum(t.bytes), sum(t.requests)
        FROM taken t CROSS JOIN LATERAL penstock_windows(t.hour_start) AS k
        GROUP BY k.rank, t.receipt_id, k.window_type, k.window_start, k.window_end
        ORDER BY k.rank, t.receipt_id, k.window_start
        ON CONFLICT (receipt_id, window_type, window_start, window_end) DO UPDATE SET
            bytes_used = w.bytes_used + excluded.bytes_used,
            requests_used = w.requests_used + excluded.requests_used,
            bytes_reserved = w.bytes_reserved - excluded.bytes_reserved,
            requests_reserved = w.requests_reserved - excluded.requests_reserved
    )
    SELECT count(*), coalesce(sum(bytes), 0), coalesce(sum(requests), 0), count(*) FILTER (WHERE is_spared),
           coalesce(sum(bytes) FILTER (WHERE is_spared), 0), coalesce(sum(requests) FILTER (WHERE is_spared), 0)
    INTO taken_leases, taken_bytes, taken_requests, spared_leases, spared_bytes, spared_requests
    FROM taken;

    -- A step that found every lease guarded by somebody else says that nothing is left, so that nobody tries in
    -- circles.
    more := taken_leases > 0 AND (found_leases >= most OR taken_leases < found_leases);
    RETURN NEXT;
END
$$;

CREATE FUNCTION public.penstock_record_payment(paid_txid bytea, paid_vout bigint, paid_satoshis bigint, price bigint, paid_script bytea, payer bytea, paid_key bytea, prefix text, suffix text, version uuid, new_state text, new_height bigint, at timestamp with time zone, envelope bytea, new_receipt uuid, tier text, receipt_ends timestamp with time zone, spent_txids bytea[], spent_vouts bigint[], heights bigint[], roots bytea[], OUT outcome text, OUT receipt uuid, OUT conflict_txid bytea, OUT conflict_vout bigint) RETURNS record
    LANGUAGE plpgsql
    SET jit TO 'off'
    AS $$
DECLARE
    known payments%ROWTYPE;
BEGIN
    PERFORM pg_advisory_xact_lock(penstock_payment_lock(paid_txid));
    FOR attempt IN 1..8 LOOP
        SELECT * INTO known FROM payments p WHERE p.txid = paid_txid AND p.vout = paid_vout;
        IF FOUND THEN
            IF known.version_id = version AND known.sender = payer AND known.receipt_id IS NOT NULL THEN
                outcome := 'before';
                receipt := known.receipt_id;
            ELSE
                outcome := 'taken';
            END IF;
            RETURN;
        END IF;
        -- Of another transaction, or of this one if it was invalidated.
        SELECT i.spent_txid, i.spent_vout INTO conflict_txid, conflict_vout
        FROM unnest(spent_txids, spent_vouts) AS s (txid, vout)
        JOIN payment_inputs i ON i.spent_txid = s.txid AND i.spent_vout = s.vout
        WHERE NOT i.released AND i.spent_by <> paid_txid
        UNION ALL
        SELECT i.spent_txid, i.spent_vout FROM payment_inputs i WHERE i.spent_by = paid_txid AND i.released
        LIMIT 1;
        IF FOUND THEN
            outcome := 'conflict';
            RETURN;
        END IF;
        IF NOT EXISTS (SELECT FROM assets a WHERE a.version_id = version) THEN
            outcome := 'no_asset';
            RETURN;
        END IF;
        IF NOT EXISTS (SELECT FROM quota_policies q WHERE q.policy_name = tier) THEN
            outcome := 'no_tier';
            RETURN;
        END IF;
        BEGIN
            -- Always in the same order, so that two transactions with common inputs cannot wait for each other.
            INSERT INTO payment_inputs (spent_txid, spent_vout, spent_by)
            SELECT s.txid, s.vout, paid_txid FROM unnest(spent_txids, spent_vouts) AS s (txid, vout) ORDER BY 1, 2
            ON CONFLICT (spent_by, spent_txid, spent_vout) DO NOTHING;
            INSERT INTO overlay_receipts (receipt_id, version_id, content_hash, quota_tier, status, expires_at,
                                          total_satoshis, created_at, updated_at)
            SELECT new_receipt, a.version_id, a.content_hash, tier,
                   CASE new_state WHEN 'pending' THEN 'pending' ELSE 'confirmed' END, receipt_ends, paid_satoshis, at, at
            FROM assets a WHERE a.version_id = version;
            INSERT INTO payments (txid, vout, satoshis, price_satoshis, sender, payee, derivation_prefix, derivation_suffix,
                                  version_id, receipt_id, state, height, made_at, changed_at, beef)
            VALUES (paid_txid, paid_vout, paid_satoshis, price, payer, paid_key, prefix, suffix, version, new_receipt,
                    new_state, new_height, at, at, envelope);
            INSERT INTO payment_roots (txid, height, root)
            SELECT paid_txid, r.height, r.root FROM unnest(heights, roots) AS r (height, root)
            ON CONFLICT DO NOTHING;
            INSERT INTO brc22_utxos (txid, vout, topic, satoshis, locking_script, admitted_at)
            VALUES (paid_txid, paid_vout, 'penstock_receipts', paid_satoshis, paid_script, at)
            ON CONFLICT DO NOTHING;
            outcome := 'new';
            receipt := new_receipt;
            RETURN;
        EXCEPTION WHEN unique_violation THEN
            -- Another transaction spends one of the inputs, and was first. The next look finds it, unless it was released meanwhile.
            NULL;
        END;
    END LOOP;
    RAISE EXCEPTION 'payment % is not recorded: others that spend its inputs came and went', encode(paid_txid, 'hex')
        USING ERRCODE = 'lock_not_available';
END
$$;

CREATE FUNCTION public.penstock_refill(taker_node uuid, taker_epoch bigint, divisor bigint, moment timestamp with time zone, want_receipts uuid[], want_contents bytea[], want_ids bigint[], want_again boolean[], need_bytes bigint[], need_requests bigint[], want_bytes bigint[], want_requests bigint[]) RETURNS TABLE(receipt_id uuid, granted_bytes bigint, granted_requests bigint, hour_bytes_used bigint, hour_bytes_reserved bigint, hour_requests_used bigint, hour_requests_reserved bigint, day_bytes_used bigint, day_bytes_reserved bigint, day_requests_used bigint, day_requests_reserved bigint, month_bytes_used bigint, month_bytes_reserved bigint, month_requests_used bigint, month_requests_reserved bigint)
    LANGUAGE plpgsql ROWS 10
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    -- Who may have a lease, and whose windows are locked: a repeat waits for the statement before it, whatever the receipt
    -- may have by now.
    chosen  uuid[];
    guarded uuid[];
BEGIN
    SELECT array_agg(w.receipt_id) FILTER (WHERE w.may), array_agg(w.receipt_id) INTO chosen, guarded
    FROM (
        SELECT want.receipt_id, want.again,
               coalesce(r.content_hash = want.content_hash AND r.status IN ('confirmed', 'settled')
                   AND r.expires_at > moment AND c.state = 'stored'
                   AND num_nonnulls(p.bytes_per_hour, p.bytes_per_day, p.bytes_per_month,
                                    p.requests_per_hour, p.requests_per_day, p.requests_per_month) > 0, false) AS may
        FROM unnest(want_receipts, want_contents, want_again, want_bytes, want_requests)
            AS want (receipt_id, content_hash, again, bytes, requests)
        JOIN overlay_receipts r ON r.receipt_id = want.receipt_id
        JOIN quota_policies p ON p.policy_name = r.quota_tier
        LEFT JOIN overlay_storage_index c ON c.content_hash = r.content_hash
        WHERE want.bytes + want.requests > 0
    ) AS w
    WHERE w.may OR w.again;

    IF guarded IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock_shared(penstock_epoch_lock(taker_node, taker_epoch));
    END IF;

    -- Makes the windows that are missing and locks those that are there: a conflict locks its row even where nothing is
    -- to do.
    INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end)
    SELECT want.receipt_id, k.window_type, k.window_start, k.window_end
    FROM unnest(guarded) AS want (receipt_id) CROSS JOIN penstock_windows(moment) AS k
    ORDER BY k.rank, want.receipt_id
    ON CONFLICT (receipt_id, window_type, window_start, window_end) DO UPDATE SET bytes_used = w.bytes_used WHERE false;

    -- Only now: an epoch that is fenced while this waited for a window must not add to a lease that was reclaimed
    -- meanwhile.
    PERFORM FROM ledger_nodes n
    WHERE n.node_id = taker_node AND n.epoch = taker_epoch AND NOT n.fenced AND n.alive_until > clock_timestamp();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'epoch % of node % is not alive', taker_epoch, taker_node USING ERRCODE = 'PS001';
    END IF;

    RETURN QUERY
    WITH standing AS MATERIALIZED (
        SELECT want.receipt_id, coalesce(want.receipt_id = ANY (chosen), false) AS chosen,
               want.again AND coalesce(want.receipt_id = ANY (guarded), false) AS again, want.id,
               want.need_bytes, want.need_requests, want.want_bytes, want.want_requests,
               -- Whether it was answered before, or comes after a later one that was.
               greatest(l.refill_id, a.refill_id, 0) >= want.id AS known,
               CASE want.id WHEN l.refill_id THEN l.refill_bytes WHEN a.refill_id THEN a.bytes ELSE 0 END
                   AS told_bytes,
               CASE want.id WHEN l.refill_id THEN l.refill_requests WHEN a.refill_id THEN a.requests ELSE 0 END
                   AS told_requests,
               coalesce(h.bytes_used, 0) AS h_bu, coalesce(h.bytes_reserved, 0) AS h_br,
               coalesce(h.requests_used, 0) AS h_ru, coalesce(h.requests_reserved, 0) AS h_rr,
               coalesce(d.bytes_used, 0) AS d_bu, coalesce(d.bytes_reserved, 0) AS d_br,
               coalesce(d.requests_used, 0) AS d_ru, coalesce(d.requests_reserved, 0) AS d_rr,
               coalesce(m.bytes_used, 0) AS m_bu, coalesce(m.bytes_reserved, 0) AS m_br,
               coalesce(m.requests_used, 0) AS m_ru, coalesce(m.requests_reserved, 0) AS m_rr
        FROM unnest(want_receipts, want_ids, want_again, need_bytes, need_requests, want_bytes, want_requests)
            AS want (receipt_id, id, again, need_bytes, need_requests, want_bytes, want_requests)
        CROSS JOIN (SELECT window_start, window_end FROM penstock_windows(moment) WHERE window_type = 'hour') AS hour
        CROSS JOIN (SELECT window_start, window_end FROM penstock_windows(moment) WHERE window_type = 'day') AS day
        CROSS JOIN (SELECT window_start, window_end FROM penstock_windows(moment) WHERE window_type = 'month') AS month
        LEFT JOIN quota_usage_windows h ON h.receipt_id = want.receipt_id AND h.window_type = 'hour'
            AND h.window_start = hour.window_start AND h.window_end = hour.window_end
        LEFT JOIN quota_usage_windows d ON d.receipt_id = want.receipt_id AND d.window_type = 'day'
            AND d.window_start = day.window_start AND d.window_end = day.window_end
        LEFT JOIN quota_usage_windows m ON m.receipt_id = want.receipt_id AND m.window_type = 'month'
            AND m.window_start = month.window_start AND m.window_end = month.window_end
        LEFT JOIN quota_leases l ON l.receipt_id = want.receipt_id AND l.node_id = taker_node AND l.epoch = taker_epoch
            AND l.hour_start = hour.window_start
        LEFT JOIN quota_refills_again a ON a.node_id = taker_node AND a.epoch = taker_epoch
            AND a.receipt_id = want.receipt_id
    ),
    offered AS MATERIALIZED (
        SELECT s.*, p.policy_name IS NOT NULL AND NOT s.known AS may,
               coalesce(least(penstock_share(p.bytes_per_hour, h_bu + h_br, need.bytes, s.want_bytes, divisor),
                              penstock_share(p.bytes_per_day, d_bu + d_br, need.bytes, s.want_bytes, divisor),
                              penstock_share(p.bytes_per_month, m_bu + m_br, need.bytes, s.want_bytes, divisor)),
                        0) AS bytes,
               coalesce(least(penstock_share(p.requests_per_hour, h_ru + h_rr, s.need_requests, s.want_requests,
                                  divisor),
                              penstock_share(p.requests_per_day, d_ru + d_rr, s.need_requests, s.want_requests,
                                  divisor),
                              penstock_share(p.requests_per_month, m_ru + m_rr, s.need_requests, s.want_requests,
                                  divisor)),
                        0) AS requests
        FROM standing s
        -- The status once more: it may have changed while this waited.
        LEFT JOIN overlay_receipts r
            ON r.receipt_id = s.receipt_id AND s.chosen AND r.status IN ('confirmed', 'settled')
                AND r.expires_at > moment
        LEFT JOIN quota_policies p ON p.policy_name = r.quota_tier
        LEFT JOIN overlay_storage_index c ON c.content_hash = r.content_hash
        -- Nobody needs more bytes than the content has.
        CROSS JOIN LATERAL (SELECT least(s.need_bytes, c.size_bytes) AS bytes) AS need
    ),
    granted AS MATERIALIZED (
        SELECT o.*, CASE WHEN may AND bytes >= 0 AND requests >= 0 THEN bytes ELSE 0 END AS g_bytes,
               CASE WHEN may AND bytes >= 0 AND requests >= 0 THEN requests ELSE 0 END AS g_requests
        FROM offered o
    ),
    reserved AS (
        UPDATE quota_usage_windows w
        SET bytes_reserved = w.bytes_reserved + g.g_bytes, requests_reserved = w.requests_reserved + g.g_requests
        FROM granted g CROSS JOIN penstock_windows(moment) AS k
        WHERE g.g_bytes + g.g_requests > 0 AND w.receipt_id = g.receipt_id
          AND w.window_type = k.window_type AND w.window_start = k.window_start AND w.window_end = k.window_end
    ),
    leased AS (
        INSERT INTO quota_leases AS l (receipt_id, node_id, epoch, hour_start, bytes, requests, refill_id, refill_bytes,
                                       refill_requests)
        SELECT g.receipt_id, taker_node, taker_epoch, date_trunc('hour', moment, 'UTC'), g.g_bytes, g.g_requests, g.id,
               g.g_bytes, g.g_requests
        FROM granted g
        WHERE g.g_bytes + g.g_requests > 0
        ON CONFLICT (receipt_id, node_id, epoch, hour_start)
        DO UPDATE SET bytes = l.bytes + excluded.bytes, requests = l.requests + excluded.requests,
            refill_id = excluded.refill_id, refill_bytes = excluded.refill_bytes,
            refill_requests = excluded.refill_requests
    ),
    told_again AS (
        INSERT INTO quota_refills_again AS a (node_id, epoch, receipt_id, refill_id, bytes, requests)
        SELECT taker_node, taker_epoch, g.receipt_id, g.id, g.g_bytes + g.told_bytes, g.g_requests + g.told_requests
        FROM granted g
        WHERE g.again
        ON CONFLICT (node_id, epoch, receipt_id)
        DO UPDATE SET refill_id = excluded.refill_id, bytes = excluded.bytes, requests = excluded.requests
            WHERE a.refill_id < excluded.refill_id
    )
    SELECT g.receipt_id, g.g_bytes + g.told_bytes, g.g_requests + g.told_requests,
           h_bu, h_br + g.g_bytes, h_ru, h_rr + g.g_requests,
           d_bu, d_br + g.g_bytes, d_ru, d_rr + g.g_requests,
           m_bu, m_br + g.g_bytes, m_ru, m_rr + g.g_requests
    FROM granted g;
END
$$;

CREATE FUNCTION public.penstock_refold_search(most integer) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    place asset_search_refold;
    seen bigint[];
    ids uuid[];
    numbers bigint[];
BEGIN
    SELECT * INTO place FROM asset_search_refold FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    seen := ARRAY(SELECT s.number FROM asset_search s WHERE s.number < place.below ORDER BY s.number DESC LIMIT most);
    IF seen = '{}' THEN
        DELETE FROM asset_search_refold;
        RETURN 0;
    END IF;
    WITH gone AS (
        DELETE FROM asset_search s USING assets a
        WHERE s.number = ANY (seen) AND a.version_id = s.version_id
          AND (a.name || a.description || a.policy_meta::text) COLLATE "C" ~ '[^\u0001-\u007f]'
        RETURNING s.version_id, s.number
    )
    SELECT array_agg(version_id), array_agg(number) INTO ids, numbers FROM gone;
    PERFORM penstock_enter_all(ids, numbers);
    UPDATE asset_search_refold SET below = seen[cardinality(seen)];
    RETURN cardinality(seen);
END
$$;

CREATE FUNCTION public.penstock_run_ended(state text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT state IN ('COMPLETE', 'ABORT', 'FAIL') $$;

CREATE FUNCTION public.penstock_search(in_name text, in_description text, anywhere text, beginning text, producer uuid, dataset text, media text, family text, cheapest bigint, dearest bigint, newest_seen bigint, last_rank smallint, last_number bigint, wanted bigint) RETURNS TABLE(newest bigint, rank smallint, number bigint, version_id uuid)
    LANGUAGE plpgsql STABLE ROWS 20
    AS $$
#variable_conflict use_variable
DECLARE
    filter tsquery := penstock_filter(producer, dataset, media, family);
    queries tsquery[] := ARRAY[
        penstock_query(anywhere, beginning), penstock_query(in_description, beginning), penstock_query(in_name, beginning)];
    query tsquery := coalesce(queries[1] && filter, queries[1]);
    below bigint;
    missing bigint := wanted;
    are_few boolean := true;
BEGIN
    newest := coalesce(newest_seen, (SELECT max(s.number) FROM asset_search s));
    IF penstock_expected(query) <= 3000 THEN
        FOR rank, number, version_id IN
            SELECT f.rank, f.number, f.version_id
            FROM penstock_few(queries[3], queries[2], query, dataset, cheapest, dearest, newest, last_rank, last_number,
                              wanted) AS f
        LOOP
            are_few := number IS NOT NULL;
            EXIT WHEN NOT are_few;
            RETURN NEXT;
        END LOOP;
        IF are_few THEN
            RETURN;
        END IF;
    END IF;
    FOR place IN REVERSE CASE WHEN anywhere IS NULL THEN 1 ELSE coalesce(last_rank, 3) END .. 1 LOOP
        query := queries[place];
        CONTINUE WHEN query IS NULL AND anywhere IS NOT NULL;
        query := coalesce(query && filter, query, filter);
        below := CASE WHEN place = last_rank THEN last_number ELSE newest + 1 END;
        rank := place;
        FOR number, version_id IN
            -- What a better place had is not repeated.
            SELECT m.number, m.version_id
            FROM penstock_matches(query, queries[place + 1], below, dataset, cheapest, dearest, missing) AS m
        LOOP
            RETURN NEXT;
            missing := missing - 1;
            IF version_id IS NULL OR missing = 0 THEN
                RETURN;
            END IF;
        END LOOP;
    END LOOP;
END
$$;

CREATE FUNCTION public.penstock_settle(batch_node uuid, batch_epoch bigint, batch_sequence bigint, usage_ids uuid[], usage_receipts uuid[], usage_contents bytea[], usage_sessions uuid[], usage_starts timestamp with time zone[], usage_ends timestamp with time zone[], usage_bytes bigint[], usage_requests bigint[], usage_outcomes text[], usage_epochs bigint[], release_receipts uuid[], release_hours timestamp with time zone[], release_epochs bigint[], release_bytes bigint[], release_requests bigint[]) RETURNS bigint
    LANGUAGE sql
    AS $$
    SELECT penstock_settle(batch_node, batch_epoch, batch_sequence, usage_ids, usage_receipts, usage_contents,
                           usage_sessions, '{}'::bytea[], usage_starts, usage_ends, usage_bytes, usage_requests,
                           usage_outcomes, usage_epochs, release_receipts, release_hours, release_epochs,
                           release_bytes, release_requests)
$$;

CREATE FUNCTION public.penstock_settle(batch_node uuid, batch_epoch bigint, batch_sequence bigint, usage_ids uuid[], usage_receipts uuid[], usage_contents bytea[], usage_sessions uuid[], usage_clients bytea[], usage_starts timestamp with time zone[], usage_ends timestamp with time zone[], usage_bytes bigint[], usage_requests bigint[], usage_outcomes text[], usage_epochs bigint[], release_receipts uuid[], release_hours timestamp with time zone[], release_epochs bigint[], release_bytes bigint[], release_requests bigint[]) RETURNS bigint
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    inserted      bigint;
    -- The new rows, summed by receipt, hour and the epoch of their lease.
    sum_receipts  uuid[];
    sum_hours     timestamptz[];
    sum_epochs    bigint[];
    sum_bytes     bigint[];
    sum_requests  bigint[];
BEGIN
    -- The gate. It locks the node's row, so that batches of one node take turns. A node that nobody knows (any more) is
    -- fenced from the start: it settles what it still has, once, and takes no lease.
    INSERT INTO ledger_nodes AS n (node_id, epoch, alive_until, fenced, watermark)
    VALUES (batch_node, batch_epoch, clock_timestamp(), true, batch_sequence)
    ON CONFLICT (node_id, epoch) DO UPDATE SET watermark = excluded.watermark WHERE n.watermark < excluded.watermark;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;

    WITH new AS (
        INSERT INTO streaming_usage (usage_id, receipt_id, content_hash, session_id, node_id, started_at, finished_at,
                                     bytes_sent, requests, outcome, lease_epoch, client)
        SELECT u.usage_id, u.receipt_id, u.content_hash, u.session_id, batch_node, u.started_at, u.finished_at,
               u.bytes_sent, u.requests, u.outcome, u.lease_epoch, u.client
        -- Shorter arrays count as filled up with NULLs.
        FROM unnest(usage_ids, usage_receipts, usage_contents, usage_sessions, usage_clients, usage_starts, usage_ends,
                    usage_bytes, usage_requests, usage_outcomes, usage_epochs)
            AS u (usage_id, receipt_id, content_hash, session_id, client, started_at, finished_at, bytes_sent,
                  requests, outcome, lease_epoch)
        ORDER BY u.usage_id
        ON CONFLICT DO NOTHING
        RETURNING receipt_id, started_at, lease_epoch, bytes_sent, requests
    ),
    sums AS (
        SELECT receipt_id, date_trunc('hour', started_at, 'UTC') AS hour_start, lease_epoch, count(*) AS new_rows,
               sum(bytes_sent)::bigint AS bytes, sum(requests)::bigint AS requests
        FROM new
        GROUP BY 1, 2, 3
    )
    SELECT coalesce(sum(new_rows), 0), array_agg(receipt_id), array_agg(hour_start), array_agg(lease_epoch),
           array_agg(bytes), array_agg(requests)
    INTO inserted, sum_receipts, sum_hours, sum_epochs, sum_bytes, sum_requests
    FROM sums;

    -- The locks of the leases, if there are any to look at. A release of what is not leased is ignored, so it makes no
    -- window.
    IF array_remove(sum_epochs, NULL) <> '{}' OR cardinality(release_receipts) > 0 THEN
        INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end)
        SELECT receipt_id, 'hour', hour_start, hour_start + interval '1 hour'
        FROM (
            SELECT receipt_id, hour_start FROM unnest(sum_receipts, sum_hours) AS s (receipt_id, hour_start)
            UNION
            SELECT l.receipt_id, l.hour_start
            FROM unnest(release_receipts, release_hours, release_epochs) AS r (receipt_id, hour_start, epoch)
            JOIN quota_leases l ON l.receipt_id = r.receipt_id AND l.node_id = batch_node AND l.epoch = r.epoch
                AND l.hour_start = r.hour_start
        ) AS touched
        ORDER BY receipt_id, hour_start
        ON CONFLICT (receipt_id, window_type, window_start, window_end) DO UPDATE SET bytes_used = w.bytes_used
            WHERE false;
    END IF;

    WITH wished AS (
        SELECT receipt_id, hour_start, lease_epoch, bytes, requests, 0 AS back_bytes, 0 AS back_requests
        FROM unnest(sum_receipts, sum_hours, sum_epochs, sum_bytes, sum_requests)
            AS s (receipt_id, hour_start, lease_epoch, bytes, requests)
        UNION ALL
        SELECT receipt_id, hour_start, lease_epoch, NULL, NULL, back_bytes, back_requests
        FROM unnest(release_receipts, release_hours, release_epochs, release_bytes, release_requests)
            AS r (receipt_id, hour_start, lease_epoch, back_bytes, back_requests)
    ),
    summed AS (
        -- `bytes` and `requests` stay NULL where there is only a release.
        SELECT receipt_id, hour_start, lease_epoch, sum(bytes)::bigint AS bytes, sum(requests)::bigint AS requests,
               sum(back_bytes)::bigint AS back_bytes, sum(back_requests)::bigint AS back_requests
        FROM wished
        GROUP BY 1, 2, 3
    ),
    matched AS (
        -- What leaves the lease: what was spent, be it live or lost, and what a live one gives back of the rest.
        SELECT s.*, l.state, l.lost_usage_id, l.bytes AS lease_bytes, l.requests AS lease_requests,
               CASE l.state
                   WHEN 'live' THEN least(l.bytes, coalesce(s.bytes, 0) + s.back_bytes)
                   WHEN 'lost' THEN least(l.bytes, coalesce(s.bytes, 0))
                   ELSE 0
               END AS off_bytes,
               CASE l.state
                   WHEN 'live' THEN least(l.requests, coalesce(s.requests, 0) + s.back_requests)
                   WHEN 'lost' THEN least(l.requests, coalesce(s.requests, 0))
                   ELSE 0
               END AS off_requests
        FROM summed s
        LEFT JOIN quota_leases l ON l.receipt_id = s.receipt_id AND l.node_id = batch_node AND l.epoch = s.lease_epoch
            AND l.hour_start = s.hour_start
    ),
    leases AS MATERIALIZED (
        SELECT m.*, off_bytes = lease_bytes AND off_requests = lease_requests AS emptied
        FROM matched m
        WHERE bytes IS NOT NULL OR state = 'live'
    ),
    -- The windows of an hour are the same for all receipts, and a batch spans few hours.
    spans AS MATERIALIZED (
        SELECT h.hour_start, k.*
        FROM (SELECT DISTINCT hour_start FROM leases) AS h CROSS JOIN LATERAL penstock_windows(h.hour_start) AS k
    ),
    emptied_leases AS (
        DELETE FROM quota_leases l USING leases m
        WHERE m.state = 'live' AND m.emptied AND l.receipt_id = m.receipt_id AND l.node_id = batch_node
          AND l.epoch = m.lease_epoch AND l.hour_start = m.hour_start
    ),
    lessened_leases AS (
        UPDATE quota_leases l SET bytes = l.bytes - m.off_bytes, requests = l.requests - m.off_requests
        FROM leases m
        WHERE (m.state = 'lost' OR NOT m.emptied) AND l.receipt_id = m.receipt_id AND l.node_id = batch_node
          AND l.epoch = m.lease_epoch AND l.hour_start = m.hour_start
    ),
    -- A lost lease was charged as a usage row of its own, which the late rows now replace.
    explained_charges AS (
        DELETE FROM streaming_usage u USING leases m
        WHERE m.state = 'lost' AND m.emptied AND u.usage_id = m.lost_usage_id AND u.started_at = m.hour_start
    ),
    lessened_charges AS (
        UPDATE streaming_usage u SET bytes_sent = u.bytes_sent - m.off_bytes, requests = u.requests - m.off_requests
        FROM leases m
        WHERE m.state = 'lost' AND NOT m.emptied AND u.usage_id = m.lost_usage_id AND u.started_at = m.hour_start
    )
    -- `bytes_reserved` and `requests_reserved` carry what comes off. A window that is new has nothing reserved, and
    -- then nothing comes off.
    INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end, bytes_used, requests_used,
                                          bytes_reserved, requests_reserved)
    SELECT m.receipt_id, k.window_type, k.window_start, k.window_end,
           sum(coalesce(m.bytes, 0) - CASE WHEN m.state = 'lost' THEN m.off_bytes ELSE 0 END),
           sum(coalesce(m.requests, 0) - CASE WHEN m.state = 'lost' THEN m.off_requests ELSE 0 END),
           sum(CASE WHEN m.state = 'live' THEN m.off_bytes ELSE 0 END),
           sum(CASE WHEN m.state = 'live' THEN m.off_requests ELSE 0 END)
    FROM leases m JOIN spans k ON k.hour_start = m.hour_start
    GROUP BY k.rank, m.receipt_id, k.window_type, k.window_start, k.window_end
    ORDER BY k.rank, m.receipt_id, k.window_start
    ON CONFLICT (receipt_id, window_type, window_start, window_end) DO UPDATE SET
        bytes_used = w.bytes_used + excluded.bytes_used,
        requests_used = w.requests_used + excluded.requests_used,
        bytes_reserved = w.bytes_reserved - excluded.bytes_reserved,
        requests_reserved = w.requests_reserved - excluded.requests_reserved;

    RETURN inserted;
END
$$;

CREATE FUNCTION public.penstock_share(lim bigint, taken bigint, need bigint, want bigint, divisor bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT CASE
        WHEN lim IS NULL THEN NULL
        WHEN need > greatest(lim - taken, 0) THEN -1
        WHEN lim - taken <= lim / 100 THEN need
        ELSE greatest(least(want, (lim - taken) / divisor), need)
    END
$$;

CREATE FUNCTION public.penstock_spare_namesake() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE ledger_nodes SET spared = true
    WHERE node_id = NEW.node_id AND epoch < NEW.epoch AND NOT fenced AND alive_until > clock_timestamp();
    RETURN NULL;
END
$$;

CREATE FUNCTION public.penstock_take_leases(taker_node uuid, taker_epoch bigint, divisor bigint, moment timestamp with time zone, want_receipts uuid[], want_contents bytea[], need_bytes bigint[], need_requests bigint[], want_bytes bigint[], want_requests bigint[]) RETURNS TABLE(receipt_id uuid, granted_bytes bigint, granted_requests bigint, hour_bytes_used bigint, hour_bytes_reserved bigint, hour_requests_used bigint, hour_requests_reserved bigint, day_bytes_used bigint, day_bytes_reserved bigint, day_requests_used bigint, day_requests_reserved bigint, month_bytes_used bigint, month_bytes_reserved bigint, month_requests_used bigint, month_requests_reserved bigint)
    LANGUAGE plpgsql ROWS 10
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    chosen uuid[];
BEGIN
    SELECT array_agg(want.receipt_id) INTO chosen
    FROM unnest(want_receipts, want_contents, want_bytes, want_requests) AS want (receipt_id, content_hash, bytes,
        requests)
    JOIN overlay_receipts r ON r.receipt_id = want.receipt_id AND r.content_hash = want.content_hash
    JOIN overlay_storage_index c ON c.content_hash = r.content_hash
    JOIN quota_policies p ON p.policy_name = r.quota_tier
    WHERE want.bytes + want.requests > 0
      AND r.status IN ('confirmed', 'settled') AND r.expires_at > moment
      AND c.state = 'stored'
      AND num_nonnulls(p.bytes_per_hour, p.bytes_per_day, p.bytes_per_month,
                       p.requests_per_hour, p.requests_per_day, p.requests_per_month) > 0;

    -- Makes the windows that are missing and locks those that are there: a conflict locks its row even where nothing is
    -- to do.
    INSERT INTO quota_usage_windows AS w (receipt_id, window_type, window_start, window_end)
    SELECT want.receipt_id, k.window_type, k.window_start, k.window_end
    FROM unnest(chosen) AS want (receipt_id) CROSS JOIN penstock_windows(moment) AS k
    ORDER BY k.rank, want.receipt_id
    ON CONFLICT (receipt_id, window_type, window_start, window_end) DO UPDATE SET bytes_used = w.bytes_used WHERE false;

    -- Only now: an epoch that is fenced while this waited for a window must not add to a lease that was reclaimed
    -- meanwhile.
    PERFORM FROM ledger_nodes n
    WHERE n.node_id = taker_node AND n.epoch = taker_epoch AND NOT n.fenced AND n.alive_until > clock_timestamp();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'epoch % of node % is not alive', taker_epoch, taker_node USING ERRCODE = 'PS001';
    END IF;

    RETURN QUERY
    WITH standing AS MATERIALIZED (
        SELECT want.receipt_id, want.receipt_id = ANY (chosen) AS chosen,
               want.need_bytes, want.need_requests, want.want_bytes, want.want_requests,
               coalesce(h.bytes_used, 0) AS h_bu, coalesce(h.bytes_reserved, 0) AS h_br,
               coalesce(h.requests_used, 0) AS h_ru, coalesce(h.requests_reserved, 0) AS h_rr,
               coalesce(d.bytes_used, 0) AS d_bu, coalesce(d.bytes_reserved, 0) AS d_br,
               coalesce(d.requests_used, 0) AS d_ru, coalesce(d.requests_reserved, 0) AS d_rr,
               coalesce(m.bytes_used, 0) AS m_bu, coalesce(m.bytes_reserved, 0) AS m_br,
               coalesce(m.requests_used, 0) AS m_ru, coalesce(m.requests_reserved, 0) AS m_rr
        FROM unnest(want_receipts, need_bytes, need_requests, want_bytes, want_requests)
            AS want (receipt_id, need_bytes, need_requests, want_bytes, want_requests)
        CROSS JOIN (SELECT window_start, window_end FROM penstock_windows(moment) WHERE window_type = 'hour') AS hour
        CROSS JOIN (SELECT window_start, window_end FROM penstock_windows(moment) WHERE window_type = 'day') AS day
        CROSS JOIN (SELECT window_start, window_end FROM penstock_windows(moment) WHERE window_type = 'month') AS month
        LEFT JOIN quota_usage_windows h ON h.receipt_id = want.receipt_id AND h.window_type = 'hour'
            AND h.window_start = hour.window_start AND h.window_end = hour.window_end
        LEFT JOIN quota_usage_windows d ON d.receipt_id = want.receipt_id AND d.window_type = 'day'
            AND d.window_start = day.window_start AND d.window_end = day.window_end
        LEFT JOIN quota_usage_windows m ON m.receipt_id = want.receipt_id AND m.window_type = 'month'
            AND m.window_start = month.window_start AND m.window_end = month.window_end
    ),
    offered AS MATERIALIZED (
        SELECT s.*, p.policy_name IS NOT NULL AS may,
               least(penstock_grant(p.bytes_per_hour, h_bu + h_br, need.bytes, s.want_bytes, divisor),
                     penstock_grant(p.bytes_per_day, d_bu + d_br, need.bytes, s.want_bytes, divisor),
                     penstock_grant(p.bytes_per_month, m_bu + m_br, need.bytes, s.want_bytes, divisor)) AS bytes,
               least(penstock_grant(p.requests_per_hour, h_ru + h_rr, s.need_requests, s.want_requests, divisor),
                     penstock_grant(p.requests_per_day, d_ru + d_rr, s.need_requests, s.want_requests, divisor),
                     penstock_grant(p.requests_per_month, m_ru + m_rr, s.need_requests, s.want_requests,
                         divisor)) AS requests
        FROM standing s
        -- The status once more: it may have changed while this waited.
        LEFT JOIN overlay_receipts r
            ON r.receipt_id = s.receipt_id AND s.chosen AND r.status IN ('confirmed', 'settled')
                AND r.expires_at > moment
        LEFT JOIN quota_policies p ON p.policy_name = r.quota_tier
        LEFT JOIN overlay_storage_index c ON c.content_hash = r.content_hash
        -- Nobody needs more bytes than the content has.
        CROSS JOIN LATERAL (SELECT least(s.need_bytes, c.size_bytes) AS bytes) AS need
    ),
    granted AS MATERIALIZED (
        SELECT o.*, CASE WHEN may AND bytes >= 0 AND requests >= 0 THEN bytes ELSE 0 END AS g_bytes,
               CASE WHEN may AND bytes >= 0 AND requests >= 0 THEN requests ELSE 0 END AS g_requests
        FROM offered o
    ),
    reserved AS (
        UPDATE quota_usage_windows w
        SET bytes_reserved = w.bytes_reserved + g.g_bytes, requests_reserved = w.requests_reserved + g.g_requests
        FROM granted g CROSS JOIN penstock_windows(moment) AS k
        WHERE g.g_bytes + g.g_requests > 0 AND w.receipt_id = g.receipt_id
          AND w.window_type = k.window_type AND w.window_start = k.window_start AND w.window_end = k.window_end
    ),
    leased AS (
        INSERT INTO quota_leases AS l (receipt_id, node_id, epoch, hour_start, bytes, requests)
        SELECT g.receipt_id, taker_node, taker_epoch, date_trunc('hour', moment, 'UTC'), g.g_bytes, g.g_requests
        FROM granted g
        WHERE g.g_bytes + g.g_requests > 0
        ON CONFLICT (receipt_id, node_id, epoch, hour_start)
        DO UPDATE SET bytes = l.bytes + excluded.bytes, requests = l.requests + excluded.requests
    )
    SELECT g.receipt_id, g.g_bytes, g.g_requests,
           h_bu, h_br + g.g_bytes, h_ru, h_rr + g.g_requests,
           d_bu, d_br + g.g_bytes, d_ru, d_rr + g.g_requests,
           m_bu, m_br + g.g_bytes, m_ru, m_rr + g.g_requests
    FROM granted g;
END
$$;

CREATE FUNCTION public.penstock_tell_asset() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF (SELECT enabled FROM lineage_emission) THEN
        INSERT INTO lineage_outbox (kind, happened_at, detail)
        VALUES ('asset', NEW.created_at, jsonb_build_object(
            'version', NEW.version_id, 'content', encode(NEW.content_hash, 'hex'), 'name', NEW.name,
            'dataset', NEW.dataset_id));
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION public.penstock_tell_receipt() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF (SELECT enabled FROM lineage_emission) THEN
        INSERT INTO lineage_outbox (kind, happened_at, detail)
        VALUES ('receipt', NEW.created_at, jsonb_build_object(
            'receipt', NEW.receipt_id, 'version', NEW.version_id, 'tier', NEW.quota_tier));
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION public.penstock_tell_streams() RETURNS trigger
    LANGUAGE plpgsql
    SET jit TO 'off'
    AS $$
BEGIN
    IF (SELECT enabled FROM lineage_emission) THEN
        INSERT INTO lineage_outbox (kind, happened_at, detail)
        SELECT 'streams', max(finished_at), jsonb_agg(jsonb_build_object(
                   'content', encode(content_hash, 'hex'), 'streams', streams, 'bytes', bytes,
                   'first', (extract(epoch FROM started_at) * 1000000)::bigint,
                   'last', (extract(epoch FROM finished_at) * 1000000)::bigint))
        FROM (
            SELECT content_hash, count(*) AS streams, sum(bytes_sent)::bigint AS bytes, min(started_at) AS started_at,
                   max(finished_at) AS finished_at
            FROM new_usage
            -- Not a stream: what a lost instance had reserved.
            WHERE outcome <> 'lost_lease'
            GROUP BY content_hash
        ) AS contents
        HAVING count(*) > 0;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION public.penstock_tell_upload() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF (SELECT enabled FROM lineage_emission) THEN
        INSERT INTO lineage_outbox (kind, happened_at, detail)
        VALUES ('upload', NEW.stored_at, jsonb_build_object(
            'content', encode(NEW.content_hash, 'hex'), 'size', NEW.size_bytes, 'mediaType', NEW.media_type));
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION public.penstock_timeline(OUT timeline_id uuid, OUT moved boolean) RETURNS record
    LANGUAGE sql STABLE
    AS $$
    SELECT timeline_id, home <> penstock_home() FROM timelines ORDER BY number DESC LIMIT 1
$$;

CREATE FUNCTION public.penstock_trim_lineage(lease bigint, chosen uuid, most bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    first_time timestamptz;
    last_time timestamptz;
    last_hash bytea;
    gone_runs uuid[];
    gone      bigint;
BEGIN
    PERFORM penstock_hold_lease('pruner', lease);
    SELECT pruned_until INTO first_time FROM lineage_namespaces WHERE namespace_key = chosen;
    LOOP
        SELECT event_time, event_hash INTO last_time, last_hash
        FROM (
            SELECT event_time, event_hash FROM lineage_events
            WHERE namespace_key = chosen AND event_time >= first_time
            ORDER BY event_time, event_hash
            LIMIT most
        ) AS oldest
        ORDER BY event_time DESC, event_hash DESC
        LIMIT 1;
        EXIT WHEN FOUND;
        IF first_time = '-infinity' THEN
            RETURN 0;
        END IF;
        first_time := '-infinity';
    END LOOP;

    UPDATE lineage_namespaces SET pruned_until = last_time, pruned_hash = last_hash
    WHERE namespace_key = chosen AND (pruned_until, pruned_hash) < (last_time, last_hash);

    WITH due AS MATERIALIZED (
        SELECT event_time, event_hash FROM lineage_events
        WHERE namespace_key = chosen AND event_time BETWEEN first_time AND last_time
          AND (event_time, event_hash) <= (last_time, last_hash)
        ORDER BY event_time, event_hash
        LIMIT most
        FOR UPDATE SKIP LOCKED
    ),
    removed AS (
        DELETE FROM lineage_events e USING due
        WHERE e.event_time = due.event_time AND e.event_hash = due.event_hash AND e.namespace_key = chosen
        RETURNING e.event_time, e.run_id
    ),
    lessened AS (
        UPDATE lineage_event_counts c SET events = c.events - d.events
        FROM (SELECT penstock_utc_day(event_time) AS day, count(*) AS events FROM removed GROUP BY 1) AS d
        WHERE c.day = d.day AND c.namespace_key = chosen
    )
    SELECT count(*), array_agg(DISTINCT run_id) FILTER (WHERE run_id IS NOT NULL) INTO gone, gone_runs FROM removed;

    -- A run that somebody else holds is getting an event. The look comes after the lock, so that it sees what whoever had the lock before
    -- has brought. Its events are all between the first and the last that it has had: no other day's partition is looked into.
    gone_runs := ARRAY(
        SELECT run_id FROM lineage_runs WHERE run_id = ANY (gone_runs) ORDER BY run_id FOR UPDATE SKIP LOCKED);
    DELETE FROM lineage_runs r
    WHERE r.run_id = ANY (gone_runs) AND NOT EXISTS (
        SELECT FROM lineage_events e WHERE e.event_time BETWEEN r.first_seen AND r.last_seen AND e.run_id = r.run_id);
    RETURN gone;
END
$$;

CREATE FUNCTION public.penstock_utc_day(moment timestamp with time zone) RETURNS date
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT (moment AT TIME ZONE 'UTC')::date $$;

CREATE FUNCTION public.penstock_windows(moment timestamp with time zone) RETURNS TABLE(rank integer, window_type text, window_start timestamp with time zone, window_end timestamp with time zone)
    LANGUAGE sql STABLE ROWS 3
    AS $$
    SELECT kind.rank, kind.window_type, date_trunc(kind.window_type, moment, 'UTC'),
           (date_trunc(kind.window_type, moment AT TIME ZONE 'UTC') + kind.length) AT TIME ZONE 'UTC'
    FROM (VALUES (1, 'hour', interval '1 hour'), (2, 'day', interval '1 day'), (3, 'month', interval '1 month'))
        AS kind (rank, window_type, length)
$$;

CREATE FUNCTION public.penstock_words(text) RETURNS text[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $_$
    SELECT array_remove(string_to_array(
        regexp_replace(
            regexp_replace(
                regexp_replace(
                    normalize(replace(replace(replace(translate(
                        lower(upper(lower(
                            -- What is dropped.
                            regexp_replace(normalize($1, NFKD) COLLATE "C",
                            '[\u00ad\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1-\u05c2\u05c4-\u05c5\u05c7\u0610-\u061a'
                            '\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7-\u06e8\u06ea-\u06ed\u0711\u0730-\u074a'
                            '\u07eb-\u07f3\u07fd\u0816-\u0819\u081b-\u0823\u0825-\u0827\u0829-\u082d\u0859-\u085b\u0898-\u089f'
                            '\u08ca-\u08e1\u08e3-\u08ff\u093c\u0951-\u0954\u09bc\u09fe\u0a3c\u0abc\u0b3c\u0c3c\u0cbc\u0f18-\u0f19'
                            '\u0f35\u0f37\u0f39\u0f82-\u0f83\u0f86-\u0f87\u0fc6\u1037\u108d\u135d-\u135f\u17dd\u180b-\u180e\u18a9'
                            '\u1939-\u193b\u1a17-\u1a18\u1a75-\u1a7c\u1a7f\u1ab0-\u1abd\u1abf-\u1ace\u1b34\u1b6b-\u1b73\u1be6'
                            '\u1c37\u1cd0-\u1cd2\u1cd4-\u1ce0\u1ce2-\u1ce8\u1ced\u1cf4\u1cf8-\u1cf9\u1dc0-\u1dff\u200c-\u200f'
                            '\u202a-\u202e\u2060-\u2069\u20d0-\u20dc\u20e1\u20e5-\u20f0\u2cef-\u2cf1\u2de0-\u2dff\u302a-\u302f'
                            '\ua66f\ua674-\ua67d\ua69e-\ua69f\ua6f0-\ua6f1\ua8e0-\ua8f1\ua92b-\ua92d\ua9b3\uaab0\uaab2-\uaab4'
                            '\uaab7-\uaab8\uaabe-\uaabf\uaac1\ufb1e\ufe00-\ufe0f\ufe20-\ufe2f\ufeff\U000101fd\U000102e0'
                            '\U00010376-\U0001037a\U00010a0d\U00010a0f\U00010a38-\U00010a3a\U00010ae5-\U00010ae6'
                            '\U00010d24-\U00010d27\U00010eab-\U00010eac\U00010f46-\U00010f50\U00010f82-\U00010f85\U000110ba'
                            '\U00011100-\U00011102\U00011173\U000111ca\U00011236\U000112e9\U0001133b-\U0001133c'
                            '\U00011366-\U0001136c\U00011370-\U00011374\U00011446\U0001145e\U000114c3\U000115c0\U000116b7'
                            '\U0001183a\U00011943\U00011d42\U00016af0-\U00016af4\U00016b30-\U00016b36\U0001bc9e'
                            '\U0001d165-\U0001d169\U0001d16d-\U0001d172\U0001d17b-\U0001d182\U0001d185-\U0001d18b'
                            '\U0001d1aa-\U0001d1ad\U0001d242-\U0001d244\U0001e000-\U0001e006\U0001e008-\U0001e018'
                            '\U0001e01b-\U0001e021\U0001e023-\U0001e024\U0001e026-\U0001e02a\U0001e130-\U0001e136\U0001e2ae'
                            '\U0001e2ec-\U0001e2ef\U0001e8d0-\U0001e8d6\U0001e944-\U0001e94a]+', '', 'g')
                            COLLATE "und-x-icu"))) COLLATE "C",
                        'ςðøđħłŧƀƚƶǥȼɇɉɍɏɨɫɵʉᵽⱡⱥⱦꝁ', 'σdodhltblzgcejryilouplatk'), 'æ', 'ae'), 'þ', 'th'), 'œ', 'oe'), NFC) COLLATE "C",
                    -- What separates words.
                    '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u00d7\u00f7\u02b9-\u02bf\u02c2-\u02c5'
                    '\u02d2-\u02df\u02e5-\u02ff\u0482\u055a-\u055f\u0589-\u058f\u05be\u05c0\u05c3\u05f3-\u05f4'
                    '\u0600-\u060f\u061b-\u061f\u066a-\u066d\u06d4\u06dd-\u06de\u06e9\u06fd-\u06fe\u0700-\u070f'
                    '\u0964-\u0965\u0970\u0df4\u0e3f\u0e4f\u0e5a-\u0e5b\u0f01-\u0f17\u0f3a-\u0f3d\u104a-\u104f\u10fb'
                    '\u1360-\u1368\u1390-\u1399\u1400\u166d-\u166e\u1680\u16eb-\u16ed\u17d4-\u17db\u1800-\u180e'
                    '\u1940-\u1945\u19de-\u19ff\u2000-\u2bff\u2e00-\u3004\u3008-\u3020\u3030\u3036-\u3037\u303d-\u303f'
                    '\u30a0\u30fb\u31c0-\u31ef\u3200-\u33ff\u4dc0-\u4dff\ua490-\ua4cf\ua700-\ua721\ue000-\uf8ff'
                    '\ufd3e-\ufd4f\ufdfc-\ufe6f\uffe0-\uffff\U0001f000-\U0001fbff\U000e0000-\U0010ffff]+', ' ', 'g'),
                -- What is a word by itself.
                '([\u3005-\u3007\u3041-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff'
                '\U00020000-\U0003ffff])', ' \1 ', 'g'),
            -- The longest word.
            '([^ ]{64})[^ ]+', '\1', 'g'),
        ' '), '')
$_$;

CREATE TABLE public.api_keys (
    key_id uuid NOT NULL,
    producer_id uuid NOT NULL,
    role text NOT NULL,
    secret_hash bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone,
    name text DEFAULT ''::text NOT NULL,
    previous_hash bytea,
    previous_until timestamp with time zone,
    last_used_at timestamp with time zone,
    CONSTRAINT api_keys_previous_check CHECK (((previous_hash IS NULL) = (previous_until IS NULL))),
    CONSTRAINT api_keys_previous_hash_check CHECK ((octet_length(previous_hash) = 32)),
    CONSTRAINT api_keys_role_check CHECK ((role = ANY (ARRAY['producer'::text, 'admin'::text]))),
    CONSTRAINT api_keys_secret_hash_check CHECK ((octet_length(secret_hash) = 32))
);

COMMENT ON TABLE public.api_keys IS 'Keys by which producers and admins call the API.';

COMMENT ON COLUMN public.api_keys.key_id IS 'Names the key; it is no secret.';

COMMENT ON COLUMN public.api_keys.producer_id IS 'Whose key it is.';

COMMENT ON COLUMN public.api_keys.role IS 'admin or producer.';

COMMENT ON COLUMN public.api_keys.secret_hash IS 'BLAKE3 of the secret. The secret itself is kept nowhere.';

COMMENT ON COLUMN public.api_keys.created_at IS 'When it was made.';

COMMENT ON COLUMN public.api_keys.revoked_at IS 'From when on it is refused; null while it counts.';

COMMENT ON COLUMN public.api_keys.name IS 'What an administrator calls it, to know it again.';

COMMENT ON COLUMN public.api_keys.previous_hash IS 'BLAKE3 of the secret before the last rotation; null if it ended with the rotation.';

COMMENT ON COLUMN public.api_keys.previous_until IS 'When the previous secret ends, by the database''s clock.';

COMMENT ON COLUMN public.api_keys.last_used_at IS 'When the key was last used, to about ten minutes; null if it was not used since this is noted.';

CREATE TABLE public.asset_search (
    number bigint NOT NULL,
    version_id uuid NOT NULL,
    producer_id uuid NOT NULL,
    dataset_id text,
    media_type text NOT NULL,
    satoshis bigint NOT NULL,
    document tsvector NOT NULL
);

COMMENT ON TABLE public.asset_search IS 'Assets as the search finds them: one row for each asset, kept by triggers.';

COMMENT ON COLUMN public.asset_search.number IS 'The order in which assets came, for pages of results.';

COMMENT ON COLUMN public.asset_search.version_id IS 'The asset.';

COMMENT ON COLUMN public.asset_search.producer_id IS 'Whose asset it is, for filters.';

COMMENT ON COLUMN public.asset_search.dataset_id IS 'The dataset that it belongs to, for filters.';

COMMENT ON COLUMN public.asset_search.media_type IS 'For filters.';

COMMENT ON COLUMN public.asset_search.satoshis IS 'The price, for filters and order.';

COMMENT ON COLUMN public.asset_search.document IS 'Its words and tags.';

CREATE TABLE public.asset_search_backfill (
    one boolean DEFAULT true NOT NULL,
    below uuid NOT NULL,
    number bigint NOT NULL,
    CONSTRAINT asset_search_backfill_one_check CHECK (one)
);

COMMENT ON TABLE public.asset_search_backfill IS 'How far the assets that were there before the search have been entered into it. One row.';

COMMENT ON COLUMN public.asset_search_backfill.one IS 'Keeps it one row.';

COMMENT ON COLUMN public.asset_search_backfill.below IS 'Assets before this one are still to be entered; the row goes when none is left.';

COMMENT ON COLUMN public.asset_search_backfill.number IS 'The number of the next one.';

CREATE SEQUENCE public.asset_search_numbers
    START WITH 1099511627776
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE public.asset_search_refold (
    one boolean DEFAULT true NOT NULL,
    below bigint NOT NULL,
    CONSTRAINT asset_search_refold_one_check CHECK (one)
);

COMMENT ON TABLE public.asset_search_refold IS 'How far assets have been entered anew since their words are folded otherwise. One row.';

COMMENT ON COLUMN public.asset_search_refold.one IS 'Keeps it one row.';

COMMENT ON COLUMN public.asset_search_refold.below IS 'Assets below this number are still to be looked at; the row goes when none is left.';

CREATE TABLE public.asset_words (
    word text NOT NULL COLLATE pg_catalog."C",
    nth bigint NOT NULL
);

COMMENT ON TABLE public.asset_words IS 'The words of names and descriptions, by which a search for parts of words begins.';

COMMENT ON COLUMN public.asset_words.word IS 'A word.';

COMMENT ON COLUMN public.asset_words.nth IS 'The order in which words came in: common ones come early.';

CREATE SEQUENCE public.asset_words_numbers
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE public.assets (
    version_id uuid NOT NULL,
    content_hash bytea NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    media_type text NOT NULL,
    dataset_id text,
    policy_meta jsonb NOT NULL,
    producer_id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.assets IS 'What is for sale: a name and facts for a content. Never changed; a change is another asset.';

COMMENT ON COLUMN public.assets.version_id IS 'Names the asset.';

COMMENT ON COLUMN public.assets.content_hash IS 'SHA-256 of the content.';

COMMENT ON COLUMN public.assets.name IS 'For people.';

COMMENT ON COLUMN public.assets.description IS 'For people.';

COMMENT ON COLUMN public.assets.media_type IS 'What the content is.';

COMMENT ON COLUMN public.assets.dataset_id IS 'The dataset that it belongs to, if any.';

COMMENT ON COLUMN public.assets.policy_meta IS 'Facts that policies of governance ask for.';

COMMENT ON COLUMN public.assets.producer_id IS 'Who published it.';

COMMENT ON COLUMN public.assets.created_at IS 'When it was published.';

CREATE TABLE public.block_headers (
    height bigint NOT NULL,
    hash bytea NOT NULL,
    header bytea NOT NULL,
    total_work bytea NOT NULL,
    CONSTRAINT block_headers_hash_check CHECK ((octet_length(hash) = 32)),
    CONSTRAINT block_headers_header_check CHECK ((octet_length(header) = 80)),
    CONSTRAINT block_headers_height_check CHECK ((height >= 0)),
    CONSTRAINT block_headers_total_work_check CHECK ((octet_length(total_work) = 32))
);

COMMENT ON TABLE public.block_headers IS 'Headers of all branches that fulfilled the rules of the network. A row for each block since the first one, and none is removed.';

COMMENT ON COLUMN public.block_headers.height IS 'The number of blocks before it.';

COMMENT ON COLUMN public.block_headers.hash IS 'The double SHA-256 of the header, as the wire has it.';

COMMENT ON COLUMN public.block_headers.header IS 'The header as it is hashed.';

COMMENT ON COLUMN public.block_headers.total_work IS 'The expected number of hashes behind the chain up to this block: 256 bits, the highest byte first, so that the order of the bytes is that of the numbers.';

CREATE TABLE public.brc22_utxos (
    txid bytea NOT NULL,
    vout bigint NOT NULL,
    topic text NOT NULL,
    satoshis bigint NOT NULL,
    locking_script bytea NOT NULL,
    spent_by bytea,
    admitted_at timestamp with time zone NOT NULL,
    CONSTRAINT brc22_utxos_satoshis_check CHECK ((satoshis >= 0)),
    CONSTRAINT brc22_utxos_spent_by_check CHECK ((octet_length(spent_by) = 32)),
    CONSTRAINT brc22_utxos_txid_check CHECK ((octet_length(txid) = 32)),
    CONSTRAINT brc22_utxos_vout_check CHECK (((vout >= 0) AND (vout <= '4294967295'::bigint)))
);

COMMENT ON TABLE public.brc22_utxos IS 'Outputs of transactions that a topic has admitted (BRC-22). Those that paid for receipts are in the topic penstock_receipts.';

COMMENT ON COLUMN public.brc22_utxos.txid IS 'The transaction, in the order of the wire.';

COMMENT ON COLUMN public.brc22_utxos.vout IS 'The index of the output.';

COMMENT ON COLUMN public.brc22_utxos.topic IS 'The topic.';

COMMENT ON COLUMN public.brc22_utxos.satoshis IS 'What the output is worth.';

COMMENT ON COLUMN public.brc22_utxos.locking_script IS 'Its script.';

COMMENT ON COLUMN public.brc22_utxos.spent_by IS 'The transaction that spends it, where the node knows of one.';

COMMENT ON COLUMN public.brc22_utxos.admitted_at IS 'When it was admitted.';

CREATE TABLE public.change_log (
    change_id bigint NOT NULL,
    txid bigint DEFAULT ((pg_current_xact_id())::text)::bigint NOT NULL,
    tag text NOT NULL,
    changed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

COMMENT ON TABLE public.change_log IS 'Changes that instances may have cached the state before: each instance polls it.';

COMMENT ON COLUMN public.change_log.change_id IS 'Names the change; drawn before its transaction commits, so not in the order of commits.';

COMMENT ON COLUMN public.change_log.txid IS 'The transaction that made it: instances read by this.';

COMMENT ON COLUMN public.change_log.tag IS 'What has changed, such as receipt:ID.';

COMMENT ON COLUMN public.change_log.changed_at IS 'When.';

ALTER TABLE public.change_log ALTER COLUMN change_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.change_log_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.client_keys (
    day date NOT NULL,
    key bytea NOT NULL,
    CONSTRAINT client_keys_key_check CHECK ((octet_length(key) = 32))
);

COMMENT ON TABLE public.client_keys IS 'The keys under which addresses of clients are marked. A key is deleted some time after its day.';

COMMENT ON COLUMN public.client_keys.day IS 'The day in UTC, by this server''s clock.';

COMMENT ON COLUMN public.client_keys.key IS 'Random. All instances use it.';

CREATE TABLE public.console_sessions (
    token_hash bytea NOT NULL,
    secret_hash bytea NOT NULL,
    key_id uuid NOT NULL,
    made_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT console_sessions_secret_hash_check CHECK ((octet_length(secret_hash) = 32)),
    CONSTRAINT console_sessions_token_hash_check CHECK ((octet_length(token_hash) = 32))
);

COMMENT ON TABLE public.console_sessions IS 'Sessions at the console. Few rows: a bounded number for each admin key, and expired ones go at the next sign-in.';

COMMENT ON COLUMN public.console_sessions.token_hash IS 'BLAKE3 of the token, which only the browser has.';

COMMENT ON COLUMN public.console_sessions.secret_hash IS 'BLAKE3 of the secret that signed in. The session ends with that secret.';

COMMENT ON COLUMN public.console_sessions.key_id IS 'The key that signed in.';

COMMENT ON COLUMN public.console_sessions.made_at IS 'When the session began, by this server''s clock.';

COMMENT ON COLUMN public.console_sessions.expires_at IS 'When the session ends if it is not ended before, by this server''s clock.';

CREATE TABLE public.content_media_types (
    content_hash bytea NOT NULL,
    producer_id uuid NOT NULL,
    media_type text NOT NULL
);

COMMENT ON TABLE public.content_media_types IS 'What each producer says that a content is, for what it sells of it.';

COMMENT ON COLUMN public.content_media_types.content_hash IS 'SHA-256 of the content.';

COMMENT ON COLUMN public.content_media_types.producer_id IS 'Who says it.';

COMMENT ON COLUMN public.content_media_types.media_type IS 'What it is.';

CREATE TABLE public.content_uploads (
    content_hash bytea NOT NULL,
    producer_id uuid NOT NULL
);

COMMENT ON TABLE public.content_uploads IS 'Which producers have sent all bytes of a content, and so may publish it.';

COMMENT ON COLUMN public.content_uploads.content_hash IS 'The content.';

COMMENT ON COLUMN public.content_uploads.producer_id IS 'The producer that sent it.';

CREATE TABLE public.content_uses (
    content_hash bytea NOT NULL,
    used_on date NOT NULL,
    CONSTRAINT content_uses_content_hash_check CHECK ((octet_length(content_hash) = 32))
)
WITH (fillfactor='80');

COMMENT ON TABLE public.content_uses IS 'On which day a content was last used, for moving it between tiers.';

COMMENT ON COLUMN public.content_uses.content_hash IS 'SHA-256 of the content.';

COMMENT ON COLUMN public.content_uses.used_on IS 'The last day, in UTC.';

CREATE TABLE public.earlier_prices (
    version_id uuid NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    satoshis bigint NOT NULL,
    CONSTRAINT earlier_prices_satoshis_check CHECK ((satoshis >= 0))
);

COMMENT ON TABLE public.earlier_prices IS 'Prices of assets before they were raised, for payments under way.';

COMMENT ON COLUMN public.earlier_prices.version_id IS 'The asset.';

COMMENT ON COLUMN public.earlier_prices.ended_at IS 'When the price was raised, by this server''s clock.';

COMMENT ON COLUMN public.earlier_prices.satoshis IS 'The price until then.';

CREATE TABLE public.installation (
    installation_id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    is_only boolean DEFAULT true NOT NULL,
    CONSTRAINT installation_is_only_check CHECK (is_only)
);

COMMENT ON TABLE public.installation IS 'One row: the identity of this installation, which its stores of blobs carry too';

COMMENT ON COLUMN public.installation.installation_id IS 'Made with this table, and never changed';

COMMENT ON COLUMN public.installation.created_at IS 'When this database began, by its own clock';

COMMENT ON COLUMN public.installation.is_only IS 'Keeps it one row.';

CREATE TABLE public.installation_stores (
    tier text NOT NULL,
    place text NOT NULL,
    noted_at timestamp with time zone DEFAULT now() NOT NULL,
    store_id uuid,
    CONSTRAINT installation_stores_tier_check CHECK ((tier = ANY (ARRAY['hot'::text, 'warm'::text, 'cold'::text])))
);

COMMENT ON TABLE public.installation_stores IS 'Tiers that have a store of blobs marked as this installation''s';

COMMENT ON COLUMN public.installation_stores.tier IS 'Which tier: hot, warm or cold.';

COMMENT ON COLUMN public.installation_stores.place IS 'The folder, or bucket and prefix, by which the instance that marked the store reached it';

COMMENT ON COLUMN public.installation_stores.noted_at IS 'When the store was marked.';

COMMENT ON COLUMN public.installation_stores.store_id IS 'The store that the mark (penstock-store) must name; NULL where it was marked by a version before this one.';

CREATE TABLE public.ledger_clock (
    only_row boolean DEFAULT true NOT NULL,
    trusted_at timestamp with time zone NOT NULL,
    CONSTRAINT ledger_clock_only_row_check CHECK (only_row)
);

COMMENT ON TABLE public.ledger_clock IS 'The time as the instances last took it for right. One row.';

COMMENT ON COLUMN public.ledger_clock.only_row IS 'Always true: there is one row at most.';

COMMENT ON COLUMN public.ledger_clock.trusted_at IS 'The last time that an instance took for right. A time that is much later is in doubt: nothing is removed or expired by it.';

CREATE TABLE public.ledger_nodes (
    node_id uuid NOT NULL,
    epoch bigint NOT NULL,
    alive_until timestamp with time zone NOT NULL,
    fenced boolean DEFAULT false NOT NULL,
    watermark bigint DEFAULT 0 NOT NULL,
    beats bigint DEFAULT 0 NOT NULL,
    on_time bigint DEFAULT 2 NOT NULL,
    spared boolean DEFAULT false NOT NULL,
    lease_ms bigint,
    unknown_bytes bigint,
    unknown_requests bigint,
    compared_at timestamp with time zone
);

COMMENT ON TABLE public.ledger_nodes IS 'Epochs of instances: what leases belong to. An instance has one for each start.';

COMMENT ON COLUMN public.ledger_nodes.node_id IS 'The instance, by its data folder.';

COMMENT ON COLUMN public.ledger_nodes.epoch IS 'Grows with each start.';

COMMENT ON COLUMN public.ledger_nodes.alive_until IS 'Until when its leases count, by its last heartbeat.';

COMMENT ON COLUMN public.ledger_nodes.fenced IS 'Whether it was taken for dead: it gets no more leases, and those it has are taken back.';

COMMENT ON COLUMN public.ledger_nodes.watermark IS 'The last batch of usage that was settled.';

COMMENT ON COLUMN public.ledger_nodes.beats IS 'Heartbeats that were taken: a node that knows of more than the database has was told them by another history';

COMMENT ON COLUMN public.ledger_nodes.on_time IS 'Heartbeats in time since the last one that was late: who was late itself judges no other epoch before the others had their time';

COMMENT ON COLUMN public.ledger_nodes.spared IS 'Leases of this epoch are released when it is over, and never charged: no crash explains their loss';

COMMENT ON COLUMN public.ledger_nodes.lease_ms IS 'How long a heartbeat is good for, in milliseconds: others take nothing back before it was silent for as long. Null of an instance of an earlier version';

COMMENT ON COLUMN public.ledger_nodes.unknown_bytes IS 'Bytes that are leased to the instance and that it does not know of, when it last compared; must be 0. Null where it has not compared';

COMMENT ON COLUMN public.ledger_nodes.unknown_requests IS 'Requests, in the same way';

COMMENT ON COLUMN public.ledger_nodes.compared_at IS 'When the instance last compared its leases, by the database''s clock';

CREATE TABLE public.lineage_edges (
    source_key uuid NOT NULL,
    target_key uuid NOT NULL,
    first_seen timestamp with time zone NOT NULL,
    last_seen timestamp with time zone NOT NULL,
    last_day date NOT NULL,
    events bigint NOT NULL
)
WITH (fillfactor='70');

COMMENT ON TABLE public.lineage_edges IS 'Who reads and writes what, as events have told.';

COMMENT ON COLUMN public.lineage_edges.source_key IS 'The node that the edge comes from: a dataset that is read, or a job that writes.';

COMMENT ON COLUMN public.lineage_edges.target_key IS 'The node that it leads to.';

COMMENT ON COLUMN public.lineage_edges.first_seen IS 'Time of the first event that told of it.';

COMMENT ON COLUMN public.lineage_edges.last_seen IS 'Time of the last one.';

COMMENT ON COLUMN public.lineage_edges.last_day IS 'The day of that, by which it is removed.';

COMMENT ON COLUMN public.lineage_edges.events IS 'How many events told of it.';

CREATE TABLE public.lineage_emission (
    only_row boolean DEFAULT true NOT NULL,
    enabled boolean NOT NULL,
    CONSTRAINT lineage_emission_only_row_check CHECK (only_row)
);

COMMENT ON TABLE public.lineage_emission IS 'Whether changes are told as lineage events. One row, written by the instance that started last.';

COMMENT ON COLUMN public.lineage_emission.only_row IS 'Keeps it one row.';

COMMENT ON COLUMN public.lineage_emission.enabled IS 'lineage.emit.';

CREATE TABLE public.lineage_event_counts (
    day date NOT NULL,
    namespace_key uuid NOT NULL,
    events bigint NOT NULL,
    CONSTRAINT lineage_event_counts_events_check CHECK ((events >= 0))
)
WITH (fillfactor='50');

COMMENT ON TABLE public.lineage_event_counts IS 'Events by day and namespace, for the bound of each namespace.';

COMMENT ON COLUMN public.lineage_event_counts.day IS 'In UTC.';

COMMENT ON COLUMN public.lineage_event_counts.namespace_key IS 'The namespace.';

COMMENT ON COLUMN public.lineage_event_counts.events IS 'How many are kept.';

CREATE TABLE public.lineage_events (
    event_time timestamp with time zone NOT NULL,
    event_hash bytea NOT NULL,
    namespace_key uuid NOT NULL,
    kind text NOT NULL,
    state text,
    run_id uuid,
    received_at timestamp with time zone NOT NULL,
    body text NOT NULL,
    CONSTRAINT lineage_events_event_hash_check CHECK ((octet_length(event_hash) = 32)),
    CONSTRAINT lineage_events_kind_check CHECK ((kind = ANY (ARRAY['run'::text, 'job'::text, 'dataset'::text]))),
    CONSTRAINT lineage_events_state_check CHECK ((state = ANY (ARRAY['START'::text, 'RUNNING'::text, 'COMPLETE'::text, 'ABORT'::text, 'FAIL'::text, 'OTHER'::text])))
)
PARTITION BY RANGE (event_time);

COMMENT ON TABLE public.lineage_events IS 'OpenLineage events as they came, by UTC day: each day a partition.';

COMMENT ON COLUMN public.lineage_events.event_time IS 'As the event says.';

COMMENT ON COLUMN public.lineage_events.event_hash IS 'SHA-256 of its canonical form: an event that comes twice is kept once.';

COMMENT ON COLUMN public.lineage_events.namespace_key IS 'The namespace of its job or dataset.';

COMMENT ON COLUMN public.lineage_events.kind IS 'run, job or dataset.';

COMMENT ON COLUMN public.lineage_events.state IS 'Its eventType, if it is of a run.';

COMMENT ON COLUMN public.lineage_events.run_id IS 'Its run, if it is of one.';

COMMENT ON COLUMN public.lineage_events.received_at IS 'When it came.';

COMMENT ON COLUMN public.lineage_events.body IS 'Its text, to the byte.';

CREATE TABLE public.task_leases (
    task text NOT NULL,
    holder uuid NOT NULL,
    token bigint NOT NULL,
    held_until timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.task_leases IS 'Which instance does what only one may do at a time.';

COMMENT ON COLUMN public.task_leases.task IS 'The task: pruner (of lineage), walk, lifecycle, moves, or the move of one content (move: and its hash).';

COMMENT ON COLUMN public.task_leases.holder IS 'The instance that has the task.';

COMMENT ON COLUMN public.task_leases.token IS 'Grows with each new holder: a write of an earlier holder is refused.';

COMMENT ON COLUMN public.task_leases.held_until IS 'After this, by this server''s clock, another instance may take the task.';

CREATE VIEW public.lineage_leases AS
 SELECT task_leases.task,
    task_leases.holder,
    task_leases.token,
    task_leases.held_until
   FROM public.task_leases;

COMMENT ON VIEW public.lineage_leases IS 'The leases of tasks, for instances of earlier versions.';

COMMENT ON COLUMN public.lineage_leases.task IS 'As in task_leases.';

COMMENT ON COLUMN public.lineage_leases.holder IS 'As in task_leases.';

COMMENT ON COLUMN public.lineage_leases.token IS 'As in task_leases.';

COMMENT ON COLUMN public.lineage_leases.held_until IS 'As in task_leases.';

CREATE TABLE public.lineage_namespaces (
    namespace_key uuid NOT NULL,
    namespace text NOT NULL,
    pruned_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    pruned_hash bytea DEFAULT '\x'::bytea NOT NULL
);

COMMENT ON TABLE public.lineage_namespaces IS 'Namespaces of jobs and datasets, and how far each is pruned.';

COMMENT ON COLUMN public.lineage_namespaces.namespace_key IS 'Names it, from its text.';

COMMENT ON COLUMN public.lineage_namespaces.namespace IS 'Its text.';

COMMENT ON COLUMN public.lineage_namespaces.pruned_until IS 'Events up to this time have been removed.';

COMMENT ON COLUMN public.lineage_namespaces.pruned_hash IS 'Of events at that time, up to this hash.';

CREATE TABLE public.lineage_nodes (
    node_key uuid NOT NULL,
    kind text NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    words tsvector NOT NULL,
    facets jsonb DEFAULT '{}'::jsonb NOT NULL,
    first_seen timestamp with time zone NOT NULL,
    last_seen timestamp with time zone NOT NULL,
    last_day date NOT NULL,
    events bigint NOT NULL,
    CONSTRAINT lineage_nodes_kind_check CHECK ((kind = ANY (ARRAY['job'::text, 'dataset'::text])))
)
WITH (fillfactor='70');

COMMENT ON TABLE public.lineage_nodes IS 'Jobs and datasets that events have named.';

COMMENT ON COLUMN public.lineage_nodes.node_key IS 'Names it, from kind, namespace and name.';

COMMENT ON COLUMN public.lineage_nodes.kind IS 'job or dataset.';

COMMENT ON COLUMN public.lineage_nodes.namespace IS 'As events say it.';

COMMENT ON COLUMN public.lineage_nodes.name IS 'As events say it.';

COMMENT ON COLUMN public.lineage_nodes.words IS 'Words of its name, for the search.';

COMMENT ON COLUMN public.lineage_nodes.facets IS 'The newest facets by name: is, the facet; at, the time of its event in microseconds; by, the beginning of the hash of its event.';

COMMENT ON COLUMN public.lineage_nodes.first_seen IS 'Time of the first event that named it.';

COMMENT ON COLUMN public.lineage_nodes.last_seen IS 'Time of the last one.';

COMMENT ON COLUMN public.lineage_nodes.last_day IS 'The day of that, by which it is removed.';

COMMENT ON COLUMN public.lineage_nodes.events IS 'How many events named it.';

CREATE TABLE public.lineage_outbox (
    outbox_id bigint NOT NULL,
    kind text NOT NULL,
    happened_at timestamp with time zone NOT NULL,
    detail jsonb NOT NULL,
    claimed_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    CONSTRAINT lineage_outbox_kind_check CHECK ((kind = ANY (ARRAY['upload'::text, 'asset'::text, 'receipt'::text, 'streams'::text])))
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000');

COMMENT ON TABLE public.lineage_outbox IS 'What is to be told as lineage events, written in the transaction that it tells of.';

COMMENT ON COLUMN public.lineage_outbox.outbox_id IS 'Names the entry.';

COMMENT ON COLUMN public.lineage_outbox.kind IS 'What happened.';

COMMENT ON COLUMN public.lineage_outbox.happened_at IS 'When.';

COMMENT ON COLUMN public.lineage_outbox.detail IS 'What there is to tell.';

COMMENT ON COLUMN public.lineage_outbox.claimed_until IS 'Until then an instance is telling it.';

ALTER TABLE public.lineage_outbox ALTER COLUMN outbox_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.lineage_outbox_outbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.lineage_runs (
    run_id uuid NOT NULL,
    job_key uuid NOT NULL,
    state text COLLATE pg_catalog."C",
    state_at timestamp with time zone,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    first_seen timestamp with time zone NOT NULL,
    last_seen timestamp with time zone NOT NULL,
    last_day date NOT NULL,
    events bigint NOT NULL,
    CONSTRAINT lineage_runs_check CHECK (((state IS NULL) = (state_at IS NULL))),
    CONSTRAINT lineage_runs_state_check CHECK ((state = ANY (ARRAY['START'::text, 'RUNNING'::text, 'COMPLETE'::text, 'ABORT'::text, 'FAIL'::text])))
)
WITH (fillfactor='70');

COMMENT ON TABLE public.lineage_runs IS 'Runs of jobs: what their events say together.';

COMMENT ON COLUMN public.lineage_runs.run_id IS 'Names the run.';

COMMENT ON COLUMN public.lineage_runs.job_key IS 'The job that it is a run of.';

COMMENT ON COLUMN public.lineage_runs.state IS 'The last state; an end stands against what comes later.';

COMMENT ON COLUMN public.lineage_runs.state_at IS 'Since when.';

COMMENT ON COLUMN public.lineage_runs.started_at IS 'Time of its START.';

COMMENT ON COLUMN public.lineage_runs.ended_at IS 'Time of its end.';

COMMENT ON COLUMN public.lineage_runs.first_seen IS 'Time of its first event.';

COMMENT ON COLUMN public.lineage_runs.last_seen IS 'Time of its last one.';

COMMENT ON COLUMN public.lineage_runs.last_day IS 'The day of that, by which it is removed.';

COMMENT ON COLUMN public.lineage_runs.events IS 'How many there were.';

CREATE TABLE public.overlay_receipts (
    receipt_id uuid NOT NULL,
    version_id uuid NOT NULL,
    content_hash bytea NOT NULL,
    quota_tier text NOT NULL,
    status text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    total_satoshis bigint NOT NULL,
    epoch bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    expired_from text,
    anonymous boolean DEFAULT false NOT NULL,
    stand_in uuid,
    CONSTRAINT overlay_receipts_expired_from_check CHECK ((expired_from = ANY (ARRAY['pending'::text, 'confirmed'::text, 'settled'::text]))),
    CONSTRAINT overlay_receipts_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'confirmed'::text, 'settled'::text, 'consumed'::text, 'expired'::text, 'refunded'::text]))),
    CONSTRAINT overlay_receipts_total_satoshis_check CHECK ((total_satoshis >= 0))
);

COMMENT ON TABLE public.overlay_receipts IS 'Receipts: the right to stream a content.';

COMMENT ON COLUMN public.overlay_receipts.receipt_id IS 'Names the receipt; who has it may stream.';

COMMENT ON COLUMN public.overlay_receipts.version_id IS 'The asset that was bought.';

COMMENT ON COLUMN public.overlay_receipts.content_hash IS 'SHA-256 of its content.';

COMMENT ON COLUMN public.overlay_receipts.quota_tier IS 'The quota policy that limits it.';

COMMENT ON COLUMN public.overlay_receipts.status IS 'pending, confirmed, settled, refunded or expired: docs/api.md has the transitions.';

COMMENT ON COLUMN public.overlay_receipts.expires_at IS 'When it ends by itself; null: never.';

COMMENT ON COLUMN public.overlay_receipts.total_satoshis IS 'What was paid.';

COMMENT ON COLUMN public.overlay_receipts.epoch IS 'Grows with each change, so that instances tell old from new.';

COMMENT ON COLUMN public.overlay_receipts.created_at IS 'When it was made.';

COMMENT ON COLUMN public.overlay_receipts.updated_at IS 'When it was last changed.';

COMMENT ON COLUMN public.overlay_receipts.expired_from IS 'What the status was before the Janitor set expired; NULL where it did not. A receipt whose time is not over becomes that again.';

COMMENT ON COLUMN public.overlay_receipts.anonymous IS 'True for a receipt that stands in accounts for one whose payer is forgotten.';

COMMENT ON COLUMN public.overlay_receipts.stand_in IS 'The anonymous receipt that takes its place, while it does: this row is removed when all of its usage is moved there.';

CREATE TABLE public.overlay_storage_index (
    content_hash bytea NOT NULL,
    size_bytes bigint NOT NULL,
    media_type text NOT NULL,
    state text NOT NULL,
    tier text DEFAULT 'hot'::text NOT NULL,
    producer_id uuid NOT NULL,
    announced_at timestamp with time zone NOT NULL,
    stored_at timestamp with time zone,
    CONSTRAINT overlay_storage_index_check CHECK (((state = 'stored'::text) = (stored_at IS NOT NULL))),
    CONSTRAINT overlay_storage_index_content_hash_check CHECK ((octet_length(content_hash) = 32)),
    CONSTRAINT overlay_storage_index_size_bytes_check CHECK ((size_bytes >= 0)),
    CONSTRAINT overlay_storage_index_state_check CHECK ((state = ANY (ARRAY['announced'::text, 'stored'::text]))),
    CONSTRAINT overlay_storage_index_tier_check CHECK ((tier = ANY (ARRAY['hot'::text, 'warm'::text, 'cold'::text])))
);

COMMENT ON TABLE public.overlay_storage_index IS 'Contents that are stored, or on their way in.';

COMMENT ON COLUMN public.overlay_storage_index.content_hash IS 'SHA-256 of the bytes.';

COMMENT ON COLUMN public.overlay_storage_index.size_bytes IS 'Their number.';

COMMENT ON COLUMN public.overlay_storage_index.media_type IS 'What they were uploaded as.';

COMMENT ON COLUMN public.overlay_storage_index.state IS 'announced while it is not known to be whole, then stored.';

COMMENT ON COLUMN public.overlay_storage_index.tier IS 'Where the newest copy is: hot, warm or cold.';

COMMENT ON COLUMN public.overlay_storage_index.producer_id IS 'Who uploaded it first.';

COMMENT ON COLUMN public.overlay_storage_index.announced_at IS 'When it was announced; what is never stored is withdrawn.';

COMMENT ON COLUMN public.overlay_storage_index.stored_at IS 'When it was stored.';

CREATE TABLE public.payment_inputs (
    spent_txid bytea NOT NULL,
    spent_vout bigint NOT NULL,
    spent_by bytea NOT NULL,
    released boolean DEFAULT false NOT NULL,
    CONSTRAINT payment_inputs_spent_by_check CHECK ((octet_length(spent_by) = 32)),
    CONSTRAINT payment_inputs_spent_txid_check CHECK ((octet_length(spent_txid) = 32)),
    CONSTRAINT payment_inputs_spent_vout_check CHECK (((spent_vout >= 0) AND (spent_vout <= '4294967295'::bigint)))
);

COMMENT ON TABLE public.payment_inputs IS 'Outputs that the transactions of payments spend: each by one transaction, unless that was invalidated.';

COMMENT ON COLUMN public.payment_inputs.spent_txid IS 'The transaction whose output is spent.';

COMMENT ON COLUMN public.payment_inputs.spent_vout IS 'The index of that output.';

COMMENT ON COLUMN public.payment_inputs.spent_by IS 'The transaction of the payment.';

COMMENT ON COLUMN public.payment_inputs.released IS 'Whether that transaction was invalidated, so that another may spend the output.';

CREATE TABLE public.payment_roots (
    txid bytea NOT NULL,
    height bigint NOT NULL,
    root bytea NOT NULL,
    CONSTRAINT payment_roots_height_check CHECK (((height >= 0) AND (height <= '4294967295'::bigint))),
    CONSTRAINT payment_roots_root_check CHECK ((octet_length(root) = 32)),
    CONSTRAINT payment_roots_txid_check CHECK ((octet_length(txid) = 32))
);

COMMENT ON TABLE public.payment_roots IS 'The Merkle roots that the verdict on a payment rests on.';

COMMENT ON COLUMN public.payment_roots.txid IS 'The transaction of the payment.';

COMMENT ON COLUMN public.payment_roots.height IS 'The height of the block.';

COMMENT ON COLUMN public.payment_roots.root IS 'The Merkle root that the block of this height had.';

CREATE MATERIALIZED VIEW public.penstock_whole AS
 SELECT true AS whole
  WITH NO DATA;

COMMENT ON MATERIALIZED VIEW public.penstock_whole IS 'Filled as the last thing when a dump is restored: before that, the database is not used. REFRESH it where it was made without data';

CREATE TABLE public.policies (
    policy_id text NOT NULL COLLATE pg_catalog."C",
    version integer NOT NULL,
    document jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT policies_version_check CHECK ((version > 0))
);

COMMENT ON TABLE public.policies IS 'Policies of governance in their current version.';

COMMENT ON COLUMN public.policies.policy_id IS 'Names the policy.';

COMMENT ON COLUMN public.policies.version IS 'Its current version.';

COMMENT ON COLUMN public.policies.document IS 'Its rules.';

COMMENT ON COLUMN public.policies.created_at IS 'When this version was put.';

CREATE TABLE public.policy_runs (
    run_id uuid NOT NULL,
    policy_id text NOT NULL COLLATE pg_catalog."C",
    policy_version integer NOT NULL,
    version_id uuid NOT NULL,
    occasion text NOT NULL,
    decision text NOT NULL,
    evaluated_at timestamp with time zone NOT NULL,
    verdict jsonb NOT NULL,
    CONSTRAINT policy_runs_decision_check CHECK ((decision = ANY (ARRAY['allow'::text, 'warn'::text, 'block'::text]))),
    CONSTRAINT policy_runs_occasion_check CHECK ((occasion = ANY (ARRAY['evaluate'::text, 'publish'::text, 'receipt'::text])))
);

COMMENT ON TABLE public.policy_runs IS 'Judgements of policies over assets, with their reasons.';

COMMENT ON COLUMN public.policy_runs.run_id IS 'Names the run.';

COMMENT ON COLUMN public.policy_runs.policy_id IS 'By which policy.';

COMMENT ON COLUMN public.policy_runs.policy_version IS 'By which version of it.';

COMMENT ON COLUMN public.policy_runs.version_id IS 'Over which asset; null where it is not published.';

COMMENT ON COLUMN public.policy_runs.occasion IS 'evaluate, publish or receipt.';

COMMENT ON COLUMN public.policy_runs.decision IS 'allow, warn or block.';

COMMENT ON COLUMN public.policy_runs.evaluated_at IS 'When.';

COMMENT ON COLUMN public.policy_runs.verdict IS 'Each rule with its reason and evidence.';

CREATE TABLE public.policy_versions (
    policy_id text NOT NULL COLLATE pg_catalog."C",
    version integer NOT NULL,
    document jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.policy_versions IS 'All versions of policies.';

COMMENT ON COLUMN public.policy_versions.policy_id IS 'The policy.';

COMMENT ON COLUMN public.policy_versions.version IS 'Which version.';

COMMENT ON COLUMN public.policy_versions.document IS 'Its rules.';

COMMENT ON COLUMN public.policy_versions.created_at IS 'When it was put.';

CREATE TABLE public.prices (
    version_id uuid NOT NULL,
    satoshis bigint NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT prices_satoshis_check CHECK ((satoshis >= 0))
);

COMMENT ON TABLE public.prices IS 'What assets cost now.';

COMMENT ON COLUMN public.prices.version_id IS 'The asset.';

COMMENT ON COLUMN public.prices.satoshis IS 'Its price.';

COMMENT ON COLUMN public.prices.updated_at IS 'Since when.';

CREATE TABLE public.producer_identities (
    identity_key bytea NOT NULL,
    producer_id uuid NOT NULL,
    bound_at timestamp with time zone NOT NULL,
    CONSTRAINT producer_identities_identity_key_check CHECK ((octet_length(identity_key) = 33))
);

COMMENT ON TABLE public.producer_identities IS 'Identity keys with which producers sign requests.';

COMMENT ON COLUMN public.producer_identities.identity_key IS 'The public key, compressed.';

COMMENT ON COLUMN public.producer_identities.producer_id IS 'Whom it speaks for.';

COMMENT ON COLUMN public.producer_identities.bound_at IS 'Since when.';

CREATE TABLE public.producers (
    producer_id uuid NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.producers IS 'Who puts content in.';

COMMENT ON COLUMN public.producers.producer_id IS 'Names the producer.';

COMMENT ON COLUMN public.producers.name IS 'For people.';

COMMENT ON COLUMN public.producers.created_at IS 'When it was made.';

CREATE TABLE public.quota_leases (
    receipt_id uuid NOT NULL,
    node_id uuid NOT NULL,
    epoch bigint NOT NULL,
    hour_start timestamp with time zone NOT NULL,
    bytes bigint NOT NULL,
    requests bigint NOT NULL,
    state text DEFAULT 'live'::text NOT NULL,
    lost_usage_id uuid,
    refill_id bigint DEFAULT 0 NOT NULL,
    refill_bytes bigint DEFAULT 0 NOT NULL,
    refill_requests bigint DEFAULT 0 NOT NULL,
    CONSTRAINT quota_leases_bytes_check CHECK ((bytes >= 0)),
    CONSTRAINT quota_leases_check CHECK (((state = 'lost'::text) = (lost_usage_id IS NOT NULL))),
    CONSTRAINT quota_leases_requests_check CHECK ((requests >= 0)),
    CONSTRAINT quota_leases_state_check CHECK ((state = ANY (ARRAY['live'::text, 'lost'::text])))
)
WITH (fillfactor='50');

COMMENT ON TABLE public.quota_leases IS 'Credit that instances hold: taken out of windows, to be spent within an hour.';

COMMENT ON COLUMN public.quota_leases.receipt_id IS 'Of which receipt.';

COMMENT ON COLUMN public.quota_leases.node_id IS 'Which instance holds it.';

COMMENT ON COLUMN public.quota_leases.epoch IS 'Under which epoch of it.';

COMMENT ON COLUMN public.quota_leases.hour_start IS 'In which hour it may be spent, and so in which day and month.';

COMMENT ON COLUMN public.quota_leases.bytes IS 'What is left of it. Of a lost one, what was charged and no row of usage explains yet.';

COMMENT ON COLUMN public.quota_leases.requests IS 'Likewise.';

COMMENT ON COLUMN public.quota_leases.state IS 'live, or lost: taken back from a dead instance and charged.';

COMMENT ON COLUMN public.quota_leases.lost_usage_id IS 'The row of usage that it was charged as.';

COMMENT ON COLUMN public.quota_leases.refill_id IS 'The last refill that added to the lease; its numbers grow within the epoch.';

COMMENT ON COLUMN public.quota_leases.refill_bytes IS 'Bytes that the last refill added.';

COMMENT ON COLUMN public.quota_leases.refill_requests IS 'Requests that the last refill added.';

CREATE TABLE public.quota_policies (
    policy_name text NOT NULL,
    description text,
    bytes_per_hour bigint,
    bytes_per_day bigint,
    bytes_per_month bigint,
    requests_per_hour bigint,
    requests_per_day bigint,
    requests_per_month bigint,
    max_concurrent_streams bigint,
    max_bandwidth_mbps double precision,
    burst_bytes_allowance bigint,
    burst_duration_minutes bigint,
    max_file_size_bytes bigint,
    allowed_content_types text[],
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT quota_policies_burst_bytes_allowance_check CHECK ((burst_bytes_allowance >= 0)),
    CONSTRAINT quota_policies_burst_duration_minutes_check CHECK ((burst_duration_minutes >= 0)),
    CONSTRAINT quota_policies_bytes_per_day_check CHECK ((bytes_per_day >= 0)),
    CONSTRAINT quota_policies_bytes_per_hour_check CHECK ((bytes_per_hour >= 0)),
    CONSTRAINT quota_policies_bytes_per_month_check CHECK ((bytes_per_month >= 0)),
    CONSTRAINT quota_policies_max_bandwidth_mbps_check CHECK ((max_bandwidth_mbps >= (0)::double precision)),
    CONSTRAINT quota_policies_max_concurrent_streams_check CHECK ((max_concurrent_streams >= 0)),
    CONSTRAINT quota_policies_max_file_size_bytes_check CHECK ((max_file_size_bytes >= 0)),
    CONSTRAINT quota_policies_requests_per_day_check CHECK ((requests_per_day >= 0)),
    CONSTRAINT quota_policies_requests_per_hour_check CHECK ((requests_per_hour >= 0)),
    CONSTRAINT quota_policies_requests_per_month_check CHECK ((requests_per_month >= 0))
);

COMMENT ON TABLE public.quota_policies IS 'Quota policies, or tiers: what receipts may use. A limit that is null does not limit.';

COMMENT ON COLUMN public.quota_policies.policy_name IS 'Names the policy, as receipts do in quota_tier.';

COMMENT ON COLUMN public.quota_policies.description IS 'For people.';

COMMENT ON COLUMN public.quota_policies.bytes_per_hour IS 'In each UTC hour.';

COMMENT ON COLUMN public.quota_policies.bytes_per_day IS 'In each UTC day.';

COMMENT ON COLUMN public.quota_policies.bytes_per_month IS 'In each UTC month.';

COMMENT ON COLUMN public.quota_policies.requests_per_hour IS 'In each UTC hour.';

COMMENT ON COLUMN public.quota_policies.requests_per_day IS 'In each UTC day.';

COMMENT ON COLUMN public.quota_policies.requests_per_month IS 'In each UTC month.';

COMMENT ON COLUMN public.quota_policies.max_concurrent_streams IS 'At a time, on all instances.';

COMMENT ON COLUMN public.quota_policies.max_bandwidth_mbps IS 'Megabits a second, of all streams of a receipt on an instance.';

COMMENT ON COLUMN public.quota_policies.burst_bytes_allowance IS 'Bytes that may go out faster than that.';

COMMENT ON COLUMN public.quota_policies.burst_duration_minutes IS 'In which time the allowance comes back.';

COMMENT ON COLUMN public.quota_policies.max_file_size_bytes IS 'The largest content that may be streamed.';

COMMENT ON COLUMN public.quota_policies.allowed_content_types IS 'Media types that may be streamed, as video/*; null: all.';

COMMENT ON COLUMN public.quota_policies.updated_at IS 'When it was last changed.';

CREATE TABLE public.quota_refills_again (
    node_id uuid NOT NULL,
    epoch bigint NOT NULL,
    receipt_id uuid NOT NULL,
    refill_id bigint NOT NULL,
    bytes bigint NOT NULL,
    requests bigint NOT NULL
);

COMMENT ON TABLE public.quota_refills_again IS 'Refills that an instance asked for again, since an answer was lost: what was asked first grants nothing any more.';

COMMENT ON COLUMN public.quota_refills_again.node_id IS 'The instance.';

COMMENT ON COLUMN public.quota_refills_again.epoch IS 'Its life.';

COMMENT ON COLUMN public.quota_refills_again.receipt_id IS 'For which receipt.';

COMMENT ON COLUMN public.quota_refills_again.refill_id IS 'The last refill that was asked again.';

COMMENT ON COLUMN public.quota_refills_again.bytes IS 'Bytes that it was granted.';

COMMENT ON COLUMN public.quota_refills_again.requests IS 'Requests that it was granted.';

CREATE TABLE public.quota_usage_windows (
    receipt_id uuid NOT NULL,
    window_type text NOT NULL COLLATE pg_catalog."C",
    window_start timestamp with time zone NOT NULL,
    window_end timestamp with time zone NOT NULL,
    bytes_used bigint DEFAULT 0 NOT NULL,
    bytes_reserved bigint DEFAULT 0 NOT NULL,
    requests_used bigint DEFAULT 0 NOT NULL,
    requests_reserved bigint DEFAULT 0 NOT NULL,
    CONSTRAINT quota_usage_windows_bytes_reserved_check CHECK ((bytes_reserved >= 0)),
    CONSTRAINT quota_usage_windows_bytes_used_check CHECK ((bytes_used >= 0)),
    CONSTRAINT quota_usage_windows_length CHECK (
CASE window_type
    WHEN 'hour'::text THEN ((window_end - window_start) = '01:00:00'::interval)
    WHEN 'day'::text THEN ((window_end - window_start) = '1 day'::interval)
    ELSE (((window_end - window_start) >= '28 days'::interval) AND ((window_end - window_start) <= '31 days'::interval))
END),
    CONSTRAINT quota_usage_windows_requests_reserved_check CHECK ((requests_reserved >= 0)),
    CONSTRAINT quota_usage_windows_requests_used_check CHECK ((requests_used >= 0)),
    CONSTRAINT quota_usage_windows_window_type_check CHECK ((window_type = ANY (ARRAY['hour'::text, 'day'::text, 'month'::text])))
)
WITH (fillfactor='50');

COMMENT ON TABLE public.quota_usage_windows IS 'What a receipt has used in an hour, a day and a month: always the sum of its rows of usage (penstock audit).';

COMMENT ON COLUMN public.quota_usage_windows.receipt_id IS 'The receipt.';

COMMENT ON COLUMN public.quota_usage_windows.window_type IS 'hour, day or month.';

COMMENT ON COLUMN public.quota_usage_windows.window_start IS 'Its first moment, in UTC.';

COMMENT ON COLUMN public.quota_usage_windows.window_end IS 'The first moment after it.';

COMMENT ON COLUMN public.quota_usage_windows.bytes_used IS 'What was charged.';

COMMENT ON COLUMN public.quota_usage_windows.bytes_reserved IS 'What instances hold as leases.';

COMMENT ON COLUMN public.quota_usage_windows.requests_used IS 'What was charged.';

COMMENT ON COLUMN public.quota_usage_windows.requests_reserved IS 'What instances hold as leases.';

CREATE TABLE public.refinery_schema_history (
    version integer NOT NULL,
    name character varying(255),
    applied_on character varying(255),
    checksum character varying(255)
);

CREATE TABLE public.resumable_upload_parts (
    upload_id uuid NOT NULL,
    part_id uuid NOT NULL,
    state text NOT NULL,
    from_byte bigint DEFAULT 0 NOT NULL,
    size_bytes bigint DEFAULT 0 NOT NULL,
    added_at timestamp with time zone NOT NULL,
    CONSTRAINT resumable_upload_parts_state_check CHECK ((state = ANY (ARRAY['loose'::text, 'kept'::text, 'condemned'::text])))
);

COMMENT ON TABLE public.resumable_upload_parts IS 'The stored parts of uploads that arrive in several requests.';

COMMENT ON COLUMN public.resumable_upload_parts.upload_id IS 'Their upload, which may have ended.';

COMMENT ON COLUMN public.resumable_upload_parts.part_id IS 'Names the part.';

COMMENT ON COLUMN public.resumable_upload_parts.state IS 'loose: no upload counts it. kept: its upload counts it. condemned: it is being removed.';

COMMENT ON COLUMN public.resumable_upload_parts.from_byte IS 'The place in the upload, of a part that is or was kept.';

COMMENT ON COLUMN public.resumable_upload_parts.size_bytes IS 'The bytes of a part that is or was kept.';

COMMENT ON COLUMN public.resumable_upload_parts.added_at IS 'When the part was begun.';

CREATE TABLE public.resumable_uploads (
    upload_id uuid NOT NULL,
    producer_id uuid NOT NULL,
    kind text NOT NULL,
    concat text NOT NULL,
    length_bytes bigint NOT NULL,
    offset_bytes bigint DEFAULT 0 NOT NULL,
    parts integer DEFAULT 0 NOT NULL,
    media_type text NOT NULL,
    declared_hash bytea,
    metadata text NOT NULL,
    content_hash bytea,
    expires_at timestamp with time zone NOT NULL,
    holder uuid,
    held_until timestamp with time zone,
    CONSTRAINT resumable_uploads_check CHECK (((offset_bytes >= 0) AND (offset_bytes <= length_bytes))),
    CONSTRAINT resumable_uploads_content_hash_check CHECK ((length(content_hash) = 32)),
    CONSTRAINT resumable_uploads_declared_hash_check CHECK ((length(declared_hash) = 32)),
    CONSTRAINT resumable_uploads_kind_check CHECK ((kind = ANY (ARRAY['whole'::text, 'partial'::text, 'final'::text]))),
    CONSTRAINT resumable_uploads_length_bytes_check CHECK ((length_bytes >= 0))
);

COMMENT ON TABLE public.resumable_uploads IS 'Uploads that arrive in several requests.';

COMMENT ON COLUMN public.resumable_uploads.upload_id IS 'Names it.';

COMMENT ON COLUMN public.resumable_uploads.producer_id IS 'The producer that sends it.';

COMMENT ON COLUMN public.resumable_uploads.kind IS 'whole: a content. partial: a piece of one. final: the pieces, one after another.';

COMMENT ON COLUMN public.resumable_uploads.concat IS 'The list of partial uploads that a client gave for a final one.';

COMMENT ON COLUMN public.resumable_uploads.length_bytes IS 'All bytes.';

COMMENT ON COLUMN public.resumable_uploads.offset_bytes IS 'The bytes that are durable.';

COMMENT ON COLUMN public.resumable_uploads.parts IS 'The parts that hold them.';

COMMENT ON COLUMN public.resumable_uploads.media_type IS 'The media type that the client gave.';

COMMENT ON COLUMN public.resumable_uploads.declared_hash IS 'The hash that the client declared.';

COMMENT ON COLUMN public.resumable_uploads.metadata IS 'The metadata as the client wrote it.';

COMMENT ON COLUMN public.resumable_uploads.content_hash IS 'The stored content, once there is one.';

COMMENT ON COLUMN public.resumable_uploads.expires_at IS 'After this the upload is removed.';

COMMENT ON COLUMN public.resumable_uploads.holder IS 'The request that completes the upload.';

COMMENT ON COLUMN public.resumable_uploads.held_until IS 'Until then, by this server''s clock, other requests wait for it.';

CREATE TABLE public.schema_floor (
    least_version integer NOT NULL,
    is_only boolean DEFAULT true NOT NULL,
    CONSTRAINT schema_floor_is_only_check CHECK (is_only)
);

COMMENT ON TABLE public.schema_floor IS 'One row: the oldest builds that may run on this schema';

COMMENT ON COLUMN public.schema_floor.least_version IS 'A build whose own newest migration is below this does not start. A migration that older builds cannot live with raises it to its own number';

COMMENT ON COLUMN public.schema_floor.is_only IS 'Keeps the table at one row';

CREATE TABLE public.storage_moves (
    content_hash bytea NOT NULL,
    to_tier text NOT NULL,
    state text NOT NULL,
    since timestamp with time zone NOT NULL,
    CONSTRAINT storage_moves_state_check CHECK ((state = ANY (ARRAY['copying'::text, 'leaving'::text]))),
    CONSTRAINT storage_moves_to_tier_check CHECK ((to_tier = ANY (ARRAY['hot'::text, 'warm'::text, 'cold'::text])))
);

COMMENT ON TABLE public.storage_moves IS 'Contents that are on their way to another tier.';

COMMENT ON COLUMN public.storage_moves.content_hash IS 'SHA-256 of the content.';

COMMENT ON COLUMN public.storage_moves.to_tier IS 'Where it goes.';

COMMENT ON COLUMN public.storage_moves.state IS 'copying: readers use the old copy; leaving: they use the new one, and the old ones are about to go.';

COMMENT ON COLUMN public.storage_moves.since IS 'When the content entered this state. While it is copied: the last sign of life, which instances of earlier versions go by.';

CREATE TABLE public.storage_quarantine (
    content_hash bytea NOT NULL,
    since timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.storage_quarantine IS 'Contents that readers do not get, for no good copy of them is known.';

COMMENT ON COLUMN public.storage_quarantine.content_hash IS 'SHA-256 of the content.';

COMMENT ON COLUMN public.storage_quarantine.since IS 'Since when.';

CREATE TABLE public.storage_tasks (
    task text NOT NULL,
    node_id uuid NOT NULL,
    held_until timestamp with time zone NOT NULL,
    after_hash bytea,
    lap_began_at timestamp with time zone,
    whole_lap_began_at timestamp with time zone,
    CONSTRAINT storage_tasks_after_hash_check CHECK ((octet_length(after_hash) = 32)),
    CONSTRAINT storage_tasks_task_check CHECK ((task = ANY (ARRAY['walk'::text, 'lifecycle'::text, 'moves'::text])))
);

COMMENT ON TABLE public.storage_tasks IS 'The progress of the tasks that go over all content.';

COMMENT ON COLUMN public.storage_tasks.task IS 'walk, lifecycle or moves.';

COMMENT ON COLUMN public.storage_tasks.node_id IS 'The instance that stored the progress.';

COMMENT ON COLUMN public.storage_tasks.held_until IS 'Used by instances of earlier versions only: until then, by their clocks, one of them has the task. -infinity otherwise.';

COMMENT ON COLUMN public.storage_tasks.after_hash IS 'How far it is: contents up to this hash are done.';

COMMENT ON COLUMN public.storage_tasks.lap_began_at IS 'When this round began.';

COMMENT ON COLUMN public.storage_tasks.whole_lap_began_at IS 'When the last round that was finished had begun.';

CREATE TABLE public.storage_verifications (
    verification_id uuid NOT NULL,
    content_hash bytea NOT NULL,
    verification_type text NOT NULL,
    tier text NOT NULL,
    finding text NOT NULL,
    expected_bytes bigint NOT NULL,
    found_bytes bigint,
    node_id uuid NOT NULL,
    verified_at timestamp with time zone NOT NULL,
    CONSTRAINT storage_verifications_content_hash_check CHECK ((octet_length(content_hash) = 32)),
    CONSTRAINT storage_verifications_expected_bytes_check CHECK ((expected_bytes >= 0)),
    CONSTRAINT storage_verifications_finding_check CHECK ((finding = ANY (ARRAY['intact'::text, 'corrupt'::text, 'wrong_size'::text, 'missing'::text]))),
    CONSTRAINT storage_verifications_found_bytes_check CHECK ((found_bytes >= 0)),
    CONSTRAINT storage_verifications_tier_check CHECK ((tier = ANY (ARRAY['hot'::text, 'warm'::text, 'cold'::text]))),
    CONSTRAINT storage_verifications_verification_type_check CHECK ((verification_type = ANY (ARRAY['on_demand'::text, 'walk'::text, 'read'::text, 'move'::text, 'repair'::text])))
);

COMMENT ON TABLE public.storage_verifications IS 'Looks at stored copies, and what was found.';

COMMENT ON COLUMN public.storage_verifications.verification_id IS 'Names the look.';

COMMENT ON COLUMN public.storage_verifications.content_hash IS 'SHA-256 that the content should have.';

COMMENT ON COLUMN public.storage_verifications.verification_type IS 'Why it was looked at: on_demand, walk, read, move or repair.';

COMMENT ON COLUMN public.storage_verifications.tier IS 'Which copy.';

COMMENT ON COLUMN public.storage_verifications.finding IS 'intact, corrupt, wrong_size or missing.';

COMMENT ON COLUMN public.storage_verifications.expected_bytes IS 'How long it should be.';

COMMENT ON COLUMN public.storage_verifications.found_bytes IS 'How long it is.';

COMMENT ON COLUMN public.storage_verifications.node_id IS 'The instance that looked.';

COMMENT ON COLUMN public.storage_verifications.verified_at IS 'When.';

CREATE TABLE public.streaming_usage (
    usage_id uuid NOT NULL,
    receipt_id uuid NOT NULL,
    content_hash bytea NOT NULL,
    session_id uuid,
    node_id uuid,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    bytes_sent bigint NOT NULL,
    requests bigint NOT NULL,
    outcome text NOT NULL,
    lease_epoch bigint,
    client bytea,
    CONSTRAINT streaming_usage_bytes_sent_check CHECK ((bytes_sent >= 0)),
    CONSTRAINT streaming_usage_content_hash_check CHECK ((octet_length(content_hash) = 32)),
    CONSTRAINT streaming_usage_requests_check CHECK ((requests >= 0))
)
PARTITION BY RANGE (started_at);

COMMENT ON TABLE public.streaming_usage IS 'Rows of usage: what was delivered and charged, by month of its start, each month a partition.';

COMMENT ON COLUMN public.streaming_usage.usage_id IS 'Names the row.';

COMMENT ON COLUMN public.streaming_usage.receipt_id IS 'The receipt that is charged.';

COMMENT ON COLUMN public.streaming_usage.content_hash IS 'SHA-256 of the content.';

COMMENT ON COLUMN public.streaming_usage.session_id IS 'The session, if it belongs to one.';

COMMENT ON COLUMN public.streaming_usage.node_id IS 'The instance that delivered.';

COMMENT ON COLUMN public.streaming_usage.started_at IS 'When it began: says which windows are charged.';

COMMENT ON COLUMN public.streaming_usage.finished_at IS 'When it ended.';

COMMENT ON COLUMN public.streaming_usage.bytes_sent IS 'What is charged.';

COMMENT ON COLUMN public.streaming_usage.requests IS 'What is charged.';

COMMENT ON COLUMN public.streaming_usage.outcome IS 'completed, aborted, revoked, failed, delegated (a URL was given to another server) or lost_lease (the credit of an instance that died, which no stream explains).';

COMMENT ON COLUMN public.streaming_usage.lease_epoch IS 'The epoch whose lease paid for it; null where no lease was needed.';

COMMENT ON COLUMN public.streaming_usage.client IS 'The mark of the client''s address under the key of the day; null where it is not known. Equal for one address on one day.';

CREATE TABLE public.streaming_usage_unprepared (
    usage_id uuid NOT NULL,
    receipt_id uuid NOT NULL,
    content_hash bytea NOT NULL,
    session_id uuid,
    node_id uuid,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    bytes_sent bigint NOT NULL,
    requests bigint NOT NULL,
    outcome text NOT NULL,
    lease_epoch bigint,
    client bytea,
    CONSTRAINT streaming_usage_bytes_sent_check CHECK ((bytes_sent >= 0)),
    CONSTRAINT streaming_usage_content_hash_check CHECK ((octet_length(content_hash) = 32)),
    CONSTRAINT streaming_usage_requests_check CHECK ((requests >= 0))
);

CREATE TABLE public.timelines (
    number bigint NOT NULL,
    timeline_id uuid NOT NULL,
    began_at timestamp with time zone NOT NULL,
    home text NOT NULL,
    reason text NOT NULL,
    leases_released bigint DEFAULT 0 NOT NULL,
    bytes_released bigint DEFAULT 0 NOT NULL
);

COMMENT ON TABLE public.timelines IS 'The histories of this database, the last of them the one that goes on. A restore begins a new one';

COMMENT ON COLUMN public.timelines.number IS 'Grows: the largest is the history that goes on';

COMMENT ON COLUMN public.timelines.timeline_id IS 'What instances know the history by';

COMMENT ON COLUMN public.timelines.began_at IS 'By the database''s clock';

COMMENT ON COLUMN public.timelines.home IS 'Server, database and table that it was begun in (penstock_home). Where it is read in another place, a dump was restored';

COMMENT ON COLUMN public.timelines.reason IS 'Why it was begun';

COMMENT ON COLUMN public.timelines.leases_released IS 'Leases that instances held when it began, and that were released';

COMMENT ON COLUMN public.timelines.bytes_released IS 'Bytes of those leases';

CREATE TABLE public.usage_set_aside (
    usage_id uuid NOT NULL,
    node_id uuid NOT NULL,
    receipt_id uuid NOT NULL,
    content_hash bytea NOT NULL,
    session_id uuid,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    bytes_sent bigint NOT NULL,
    requests bigint NOT NULL,
    outcome text NOT NULL,
    lease_epoch bigint,
    set_aside_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    reason text NOT NULL
);

COMMENT ON TABLE public.usage_set_aside IS 'Usage that cannot be settled, since its receipt is not in this history, say. A person decides what becomes of it';

COMMENT ON COLUMN public.usage_set_aside.usage_id IS 'As in streaming_usage';

COMMENT ON COLUMN public.usage_set_aside.node_id IS 'The instance that delivered';

COMMENT ON COLUMN public.usage_set_aside.receipt_id IS 'The receipt that it was delivered under, which may be gone';

COMMENT ON COLUMN public.usage_set_aside.content_hash IS 'SHA-256 of the content';

COMMENT ON COLUMN public.usage_set_aside.session_id IS 'The session that it was of, if any';

COMMENT ON COLUMN public.usage_set_aside.started_at IS 'When the stream began';

COMMENT ON COLUMN public.usage_set_aside.finished_at IS 'When the stream ended';

COMMENT ON COLUMN public.usage_set_aside.bytes_sent IS 'Payload bytes';

COMMENT ON COLUMN public.usage_set_aside.requests IS 'Requests';

COMMENT ON COLUMN public.usage_set_aside.outcome IS 'How the stream ended';

COMMENT ON COLUMN public.usage_set_aside.lease_epoch IS 'The epoch of the lease that it was spent of, if any';

COMMENT ON COLUMN public.usage_set_aside.set_aside_at IS 'By the database''s clock';

COMMENT ON COLUMN public.usage_set_aside.reason IS 'What the ledger said';

ALTER TABLE ONLY public.streaming_usage ATTACH PARTITION public.streaming_usage_unprepared DEFAULT;

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (key_id);

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_secret_hash_key UNIQUE (secret_hash);

ALTER TABLE ONLY public.asset_search_backfill
    ADD CONSTRAINT asset_search_backfill_pkey PRIMARY KEY (one);

ALTER TABLE ONLY public.asset_search
    ADD CONSTRAINT asset_search_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.asset_search_refold
    ADD CONSTRAINT asset_search_refold_pkey PRIMARY KEY (one);

ALTER TABLE ONLY public.asset_search
    ADD CONSTRAINT asset_search_version_id_key UNIQUE (version_id);

ALTER TABLE ONLY public.asset_words
    ADD CONSTRAINT asset_words_pkey PRIMARY KEY (word);

ALTER TABLE ONLY public.assets
    ADD CONSTRAINT assets_pkey PRIMARY KEY (version_id);

ALTER TABLE ONLY public.block_headers
    ADD CONSTRAINT block_headers_pkey PRIMARY KEY (height, hash);

ALTER TABLE ONLY public.brc22_utxos
    ADD CONSTRAINT brc22_utxos_pkey PRIMARY KEY (txid, vout, topic);

ALTER TABLE ONLY public.change_log
    ADD CONSTRAINT change_log_pkey PRIMARY KEY (txid, change_id);

ALTER TABLE ONLY public.client_keys
    ADD CONSTRAINT client_keys_pkey PRIMARY KEY (day);

ALTER TABLE ONLY public.console_sessions
    ADD CONSTRAINT console_sessions_pkey PRIMARY KEY (token_hash);

ALTER TABLE ONLY public.content_media_types
    ADD CONSTRAINT content_media_types_pkey PRIMARY KEY (content_hash, producer_id);

ALTER TABLE ONLY public.content_uploads
    ADD CONSTRAINT content_uploads_pkey PRIMARY KEY (content_hash, producer_id);

ALTER TABLE ONLY public.content_uses
    ADD CONSTRAINT content_uses_pkey PRIMARY KEY (content_hash);

ALTER TABLE ONLY public.earlier_prices
    ADD CONSTRAINT earlier_prices_pkey PRIMARY KEY (version_id, ended_at);

ALTER TABLE ONLY public.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (is_only);

ALTER TABLE ONLY public.installation_stores
    ADD CONSTRAINT installation_stores_pkey PRIMARY KEY (tier);

ALTER TABLE ONLY public.ledger_clock
    ADD CONSTRAINT ledger_clock_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.ledger_nodes
    ADD CONSTRAINT ledger_nodes_pkey PRIMARY KEY (node_id, epoch);

ALTER TABLE ONLY public.lineage_edges
    ADD CONSTRAINT lineage_edges_pkey PRIMARY KEY (source_key, target_key);

ALTER TABLE ONLY public.lineage_emission
    ADD CONSTRAINT lineage_emission_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.lineage_event_counts
    ADD CONSTRAINT lineage_event_counts_pkey PRIMARY KEY (day, namespace_key);

ALTER TABLE ONLY public.lineage_events
    ADD CONSTRAINT lineage_events_pkey PRIMARY KEY (event_time, event_hash);

ALTER TABLE ONLY public.lineage_namespaces
    ADD CONSTRAINT lineage_namespaces_pkey PRIMARY KEY (namespace_key);

ALTER TABLE ONLY public.lineage_nodes
    ADD CONSTRAINT lineage_nodes_pkey PRIMARY KEY (node_key);

ALTER TABLE ONLY public.lineage_outbox
    ADD CONSTRAINT lineage_outbox_pkey PRIMARY KEY (outbox_id);

ALTER TABLE ONLY public.lineage_runs
    ADD CONSTRAINT lineage_runs_pkey PRIMARY KEY (run_id);

ALTER TABLE ONLY public.overlay_receipts
    ADD CONSTRAINT overlay_receipts_pkey PRIMARY KEY (receipt_id);

ALTER TABLE ONLY public.overlay_storage_index
    ADD CONSTRAINT overlay_storage_index_pkey PRIMARY KEY (content_hash);

ALTER TABLE ONLY public.payment_inputs
    ADD CONSTRAINT payment_inputs_pkey PRIMARY KEY (spent_by, spent_txid, spent_vout);

ALTER TABLE ONLY public.payment_roots
    ADD CONSTRAINT payment_roots_pkey PRIMARY KEY (height, root, txid);

ALTER TABLE ONLY public.payments
    ADD CONSTRAINT payments_pkey PRIMARY KEY (txid, vout);

ALTER TABLE ONLY public.payments
    ADD CONSTRAINT payments_receipt_id_key UNIQUE (receipt_id);

ALTER TABLE ONLY public.policies
    ADD CONSTRAINT policies_pkey PRIMARY KEY (policy_id);

ALTER TABLE ONLY public.policy_runs
    ADD CONSTRAINT policy_runs_pkey PRIMARY KEY (run_id);

ALTER TABLE ONLY public.policy_versions
    ADD CONSTRAINT policy_versions_pkey PRIMARY KEY (policy_id, version);

ALTER TABLE ONLY public.prices
    ADD CONSTRAINT prices_pkey PRIMARY KEY (version_id);

ALTER TABLE ONLY public.producer_identities
    ADD CONSTRAINT producer_identities_pkey PRIMARY KEY (identity_key);

ALTER TABLE ONLY public.producers
    ADD CONSTRAINT producers_pkey PRIMARY KEY (producer_id);

ALTER TABLE ONLY public.quota_leases
    ADD CONSTRAINT quota_leases_pkey PRIMARY KEY (receipt_id, node_id, epoch, hour_start);

ALTER TABLE ONLY public.quota_policies
    ADD CONSTRAINT quota_policies_pkey PRIMARY KEY (policy_name);

ALTER TABLE ONLY public.quota_refills_again
    ADD CONSTRAINT quota_refills_again_pkey PRIMARY KEY (node_id, epoch, receipt_id);

ALTER TABLE ONLY public.quota_usage_windows
    ADD CONSTRAINT quota_usage_windows_time_range PRIMARY KEY (receipt_id, window_type, window_start, window_end);

ALTER TABLE ONLY public.refinery_schema_history
    ADD CONSTRAINT refinery_schema_history_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.resumable_upload_parts
    ADD CONSTRAINT resumable_upload_parts_pkey PRIMARY KEY (upload_id, part_id);

ALTER TABLE ONLY public.resumable_uploads
    ADD CONSTRAINT resumable_uploads_pkey PRIMARY KEY (upload_id);

ALTER TABLE ONLY public.schema_floor
    ADD CONSTRAINT schema_floor_pkey PRIMARY KEY (is_only);

ALTER TABLE ONLY public.storage_moves
    ADD CONSTRAINT storage_moves_pkey PRIMARY KEY (content_hash);

ALTER TABLE ONLY public.storage_quarantine
    ADD CONSTRAINT storage_quarantine_pkey PRIMARY KEY (content_hash);

ALTER TABLE ONLY public.storage_tasks
    ADD CONSTRAINT storage_tasks_pkey PRIMARY KEY (task);

ALTER TABLE ONLY public.storage_verifications
    ADD CONSTRAINT storage_verifications_pkey PRIMARY KEY (verification_id);

ALTER TABLE public.streaming_usage
    ADD CONSTRAINT streaming_usage_outcome_check CHECK ((outcome = ANY (ARRAY['completed'::text, 'aborted'::text, 'revoked'::text, 'failed'::text, 'lost_lease'::text, 'delegated'::text]))) NOT VALID;

ALTER TABLE ONLY public.streaming_usage
    ADD CONSTRAINT streaming_usage_pkey PRIMARY KEY (usage_id, started_at);

ALTER TABLE ONLY public.streaming_usage_unprepared
    ADD CONSTRAINT streaming_usage_unprepared_pkey PRIMARY KEY (usage_id, started_at);

ALTER TABLE ONLY public.task_leases
    ADD CONSTRAINT task_leases_pkey PRIMARY KEY (task);

ALTER TABLE ONLY public.timelines
    ADD CONSTRAINT timelines_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.usage_set_aside
    ADD CONSTRAINT usage_set_aside_pkey PRIMARY KEY (usage_id);

CREATE UNIQUE INDEX api_keys_previous ON public.api_keys USING btree (previous_hash) WHERE (previous_hash IS NOT NULL);

CREATE INDEX api_keys_producer ON public.api_keys USING btree (producer_id, created_at, key_id);

CREATE INDEX asset_search_document ON public.asset_search USING gin (document) WITH (fastupdate=off);

CREATE INDEX asset_search_price ON public.asset_search USING btree (satoshis, number);

CREATE INDEX asset_words_beginning ON public.asset_words USING btree ("left"(word, 2), nth);

CREATE INDEX block_headers_work ON public.block_headers USING btree (total_work);

CREATE INDEX brc22_utxos_topic ON public.brc22_utxos USING btree (topic, admitted_at, txid, vout);

CREATE INDEX change_log_age ON public.change_log USING btree (changed_at);

CREATE INDEX console_sessions_key ON public.console_sessions USING btree (key_id, made_at);

CREATE INDEX earlier_prices_age ON public.earlier_prices USING btree (ended_at);

CREATE INDEX ledger_nodes_alive ON public.ledger_nodes USING btree (alive_until) WHERE (NOT fenced);

CREATE INDEX ledger_nodes_fenced ON public.ledger_nodes USING btree (alive_until) WHERE fenced;

CREATE INDEX lineage_edges_last_day ON public.lineage_edges USING btree (last_day);

CREATE INDEX lineage_edges_target ON public.lineage_edges USING btree (target_key);

CREATE INDEX lineage_events_namespace ON ONLY public.lineage_events USING btree (namespace_key, event_time);

CREATE INDEX lineage_events_run ON ONLY public.lineage_events USING btree (run_id, event_time) WHERE (run_id IS NOT NULL);

CREATE INDEX lineage_nodes_last_day ON public.lineage_nodes USING btree (last_day);

CREATE INDEX lineage_nodes_words ON public.lineage_nodes USING gin (words);

CREATE INDEX lineage_runs_job ON public.lineage_runs USING btree (job_key, first_seen);

CREATE INDEX lineage_runs_last_day ON public.lineage_runs USING btree (last_day);

CREATE INDEX overlay_receipts_expired ON public.overlay_receipts USING btree (expires_at) WHERE (expired_from IS NOT NULL);

CREATE INDEX overlay_receipts_open ON public.overlay_receipts USING btree (expires_at) WHERE (status = ANY (ARRAY['pending'::text, 'confirmed'::text, 'settled'::text]));

CREATE INDEX overlay_receipts_version ON public.overlay_receipts USING btree (version_id);

CREATE INDEX overlay_storage_index_announced ON public.overlay_storage_index USING btree (announced_at) WHERE (state = 'announced'::text);

CREATE UNIQUE INDEX payment_inputs_spent ON public.payment_inputs USING btree (spent_txid, spent_vout) WHERE (NOT released);

CREATE INDEX payments_made ON public.payments USING btree (made_at, txid, vout);

CREATE INDEX payments_state ON public.payments USING btree (state, made_at, txid, vout);

CREATE INDEX policy_runs_age ON public.policy_runs USING btree (evaluated_at);

CREATE INDEX policy_runs_policy_version ON public.policy_runs USING btree (policy_id, version_id, evaluated_at DESC, run_id DESC);

CREATE INDEX policy_versions_age ON public.policy_versions USING btree (created_at);

CREATE INDEX producer_identities_producer ON public.producer_identities USING btree (producer_id, bound_at);

CREATE INDEX quota_leases_node ON public.quota_leases USING btree (node_id, epoch, state);

CREATE INDEX quota_usage_windows_end ON public.quota_usage_windows USING btree (window_end);

CREATE INDEX resumable_upload_parts_unkept ON public.resumable_upload_parts USING btree (added_at) WHERE (state <> 'kept'::text);

CREATE INDEX resumable_uploads_expiry ON public.resumable_uploads USING btree (expires_at);

CREATE INDEX resumable_uploads_open ON public.resumable_uploads USING btree (producer_id, length_bytes) WHERE (content_hash IS NULL);

CREATE INDEX storage_moves_state ON public.storage_moves USING btree (state, since);

CREATE INDEX storage_verifications_age ON public.storage_verifications USING btree (verified_at);

CREATE INDEX storage_verifications_content ON public.storage_verifications USING btree (content_hash, verification_type, verified_at DESC);

CREATE INDEX streaming_usage_receipt ON ONLY public.streaming_usage USING btree (receipt_id, usage_id);

CREATE INDEX streaming_usage_unprepared_receipt_id_usage_id_idx ON public.streaming_usage_unprepared USING btree (receipt_id, usage_id);

CREATE INDEX usage_set_aside_receipt ON public.usage_set_aside USING btree (receipt_id);

ALTER INDEX public.streaming_usage_pkey ATTACH PARTITION public.streaming_usage_unprepared_pkey;

ALTER INDEX public.streaming_usage_receipt ATTACH PARTITION public.streaming_usage_unprepared_receipt_id_usage_id_idx;

CREATE TRIGGER api_keys_change AFTER UPDATE ON public.api_keys FOR EACH ROW WHEN ((((((old.secret_hash IS DISTINCT FROM new.secret_hash) OR (old.previous_hash IS DISTINCT FROM new.previous_hash)) OR (old.previous_until IS DISTINCT FROM new.previous_until)) OR (old.revoked_at IS DISTINCT FROM new.revoked_at)) OR (old.role IS DISTINCT FROM new.role))) EXECUTE FUNCTION public.penstock_note_change('key', 'key_id');

CREATE TRIGGER api_keys_delete AFTER DELETE ON public.api_keys FOR EACH ROW EXECUTE FUNCTION public.penstock_note_lost_key();

CREATE TRIGGER assets_change AFTER UPDATE ON public.assets FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.penstock_note_change('asset', 'version_id');

CREATE TRIGGER assets_changed AFTER UPDATE ON public.assets REFERENCING OLD TABLE AS was NEW TABLE AS now_is FOR EACH STATEMENT EXECUTE FUNCTION public.penstock_assets_changed();

CREATE TRIGGER assets_made AFTER INSERT ON public.assets REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION public.penstock_assets_made();

CREATE TRIGGER ledger_nodes_namesake AFTER INSERT ON public.ledger_nodes FOR EACH ROW WHEN ((NOT new.fenced)) EXECUTE FUNCTION public.penstock_spare_namesake();

CREATE TRIGGER lineage AFTER INSERT ON public.assets FOR EACH ROW EXECUTE FUNCTION public.penstock_tell_asset();

CREATE TRIGGER lineage AFTER INSERT ON public.overlay_receipts FOR EACH ROW WHEN ((NOT new.anonymous)) EXECUTE FUNCTION public.penstock_tell_receipt();

CREATE TRIGGER lineage AFTER UPDATE OF state ON public.overlay_storage_index FOR EACH ROW WHEN (((old.state = 'announced'::text) AND (new.state = 'stored'::text))) EXECUTE FUNCTION public.penstock_tell_upload();

CREATE TRIGGER lineage AFTER INSERT ON public.streaming_usage REFERENCING NEW TABLE AS new_usage FOR EACH STATEMENT EXECUTE FUNCTION public.penstock_tell_streams();

CREATE TRIGGER overlay_receipts_change AFTER UPDATE OF status, quota_tier, expires_at ON public.overlay_receipts FOR EACH ROW WHEN ((((old.status IS DISTINCT FROM new.status) OR (old.quota_tier IS DISTINCT FROM new.quota_tier)) OR (old.expires_at IS DISTINCT FROM new.expires_at))) EXECUTE FUNCTION public.penstock_note_change('receipt', 'receipt_id');

CREATE TRIGGER overlay_storage_index_tier AFTER UPDATE OF tier ON public.overlay_storage_index FOR EACH ROW WHEN ((old.tier IS DISTINCT FROM new.tier)) EXECUTE FUNCTION public.penstock_note_content_change();

CREATE TRIGGER policies_insert AFTER INSERT ON public.policies FOR EACH ROW EXECUTE FUNCTION public.penstock_note_change('governance', 'policy_id');

CREATE TRIGGER policies_update AFTER UPDATE ON public.policies FOR EACH ROW WHEN ((old.version IS DISTINCT FROM new.version)) EXECUTE FUNCTION public.penstock_note_change('governance', 'policy_id');

CREATE TRIGGER prices_change AFTER UPDATE OF satoshis ON public.prices FOR EACH ROW EXECUTE FUNCTION public.penstock_note_change('asset', 'version_id');

CREATE TRIGGER prices_changed AFTER UPDATE ON public.prices REFERENCING NEW TABLE AS priced FOR EACH STATEMENT EXECUTE FUNCTION public.penstock_assets_priced();

CREATE TRIGGER prices_made AFTER INSERT ON public.prices REFERENCING NEW TABLE AS priced FOR EACH STATEMENT EXECUTE FUNCTION public.penstock_assets_priced();

CREATE TRIGGER prices_raised AFTER UPDATE OF satoshis ON public.prices FOR EACH ROW WHEN (((old.satoshis > 0) AND ((new.satoshis > old.satoshis) OR (new.satoshis = 0)))) EXECUTE FUNCTION public.penstock_keep_price();

CREATE TRIGGER producer_identities_change AFTER INSERT OR DELETE OR UPDATE ON public.producer_identities FOR EACH ROW EXECUTE FUNCTION public.penstock_note_identity();

CREATE TRIGGER quota_policies_change AFTER INSERT OR UPDATE ON public.quota_policies FOR EACH ROW EXECUTE FUNCTION public.penstock_note_change('policy', 'policy_name');

CREATE TRIGGER storage_quarantine_change AFTER INSERT OR DELETE ON public.storage_quarantine FOR EACH ROW EXECUTE FUNCTION public.penstock_note_content_change();

CREATE TRIGGER storage_tasks_lease BEFORE INSERT OR UPDATE OF node_id, held_until ON public.storage_tasks FOR EACH ROW WHEN ((new.held_until > '-infinity'::timestamp with time zone)) EXECUTE FUNCTION public.penstock_lease_storage_task();

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_producer_id_fkey FOREIGN KEY (producer_id) REFERENCES public.producers(producer_id);

ALTER TABLE ONLY public.asset_search
    ADD CONSTRAINT asset_search_version_id_fkey FOREIGN KEY (version_id) REFERENCES public.assets(version_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.assets
    ADD CONSTRAINT assets_content_hash_fkey FOREIGN KEY (content_hash) REFERENCES public.overlay_storage_index(content_hash);

ALTER TABLE ONLY public.assets
    ADD CONSTRAINT assets_producer_id_fkey FOREIGN KEY (producer_id) REFERENCES public.producers(producer_id);

ALTER TABLE ONLY public.console_sessions
    ADD CONSTRAINT console_sessions_key_id_fkey FOREIGN KEY (key_id) REFERENCES public.api_keys(key_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.content_media_types
    ADD CONSTRAINT content_media_types_content_hash_fkey FOREIGN KEY (content_hash) REFERENCES public.overlay_storage_index(content_hash) ON DELETE CASCADE;

ALTER TABLE ONLY public.content_media_types
    ADD CONSTRAINT content_media_types_producer_id_fkey FOREIGN KEY (producer_id) REFERENCES public.producers(producer_id);

ALTER TABLE ONLY public.content_uploads
    ADD CONSTRAINT content_uploads_content_hash_fkey FOREIGN KEY (content_hash) REFERENCES public.overlay_storage_index(content_hash) ON DELETE CASCADE;

ALTER TABLE ONLY public.content_uploads
    ADD CONSTRAINT content_uploads_producer_id_fkey FOREIGN KEY (producer_id) REFERENCES public.producers(producer_id);

ALTER TABLE ONLY public.earlier_prices
    ADD CONSTRAINT earlier_prices_version_id_fkey FOREIGN KEY (version_id) REFERENCES public.assets(version_id);

ALTER TABLE ONLY public.overlay_receipts
    ADD CONSTRAINT overlay_receipts_content_hash_fkey FOREIGN KEY (content_hash) REFERENCES public.overlay_storage_index(content_hash);

ALTER TABLE ONLY public.overlay_receipts
    ADD CONSTRAINT overlay_receipts_quota_tier_fkey FOREIGN KEY (quota_tier) REFERENCES public.quota_policies(policy_name);

ALTER TABLE ONLY public.overlay_receipts
    ADD CONSTRAINT overlay_receipts_version_id_fkey FOREIGN KEY (version_id) REFERENCES public.assets(version_id);

ALTER TABLE ONLY public.overlay_storage_index
    ADD CONSTRAINT overlay_storage_index_producer_id_fkey FOREIGN KEY (producer_id) REFERENCES public.producers(producer_id);

ALTER TABLE ONLY public.payments
    ADD CONSTRAINT payments_receipt_id_fkey FOREIGN KEY (receipt_id) REFERENCES public.overlay_receipts(receipt_id) ON DELETE SET NULL;

ALTER TABLE ONLY public.payments
    ADD CONSTRAINT payments_version_id_fkey FOREIGN KEY (version_id) REFERENCES public.assets(version_id);

ALTER TABLE ONLY public.policy_runs
    ADD CONSTRAINT policy_runs_policy_id_fkey FOREIGN KEY (policy_id) REFERENCES public.policies(policy_id);

ALTER TABLE ONLY public.policy_versions
    ADD CONSTRAINT policy_versions_policy_id_fkey FOREIGN KEY (policy_id) REFERENCES public.policies(policy_id);

ALTER TABLE ONLY public.prices
    ADD CONSTRAINT prices_version_id_fkey FOREIGN KEY (version_id) REFERENCES public.assets(version_id);

ALTER TABLE ONLY public.producer_identities
    ADD CONSTRAINT producer_identities_producer_id_fkey FOREIGN KEY (producer_id) REFERENCES public.producers(producer_id);

ALTER TABLE ONLY public.quota_leases
    ADD CONSTRAINT quota_leases_node_id_epoch_fkey FOREIGN KEY (node_id, epoch) REFERENCES public.ledger_nodes(node_id, epoch);

ALTER TABLE ONLY public.quota_leases
    ADD CONSTRAINT quota_leases_receipt_id_fkey FOREIGN KEY (receipt_id) REFERENCES public.overlay_receipts(receipt_id);

ALTER TABLE ONLY public.quota_refills_again
    ADD CONSTRAINT quota_refills_again_node_id_epoch_fkey FOREIGN KEY (node_id, epoch) REFERENCES public.ledger_nodes(node_id, epoch) ON DELETE CASCADE;

ALTER TABLE ONLY public.quota_usage_windows
    ADD CONSTRAINT quota_usage_windows_receipt_id_fkey FOREIGN KEY (receipt_id) REFERENCES public.overlay_receipts(receipt_id);

ALTER TABLE ONLY public.resumable_uploads
    ADD CONSTRAINT resumable_uploads_producer_id_fkey FOREIGN KEY (producer_id) REFERENCES public.producers(producer_id);

ALTER TABLE ONLY public.storage_moves
    ADD CONSTRAINT storage_moves_content_hash_fkey FOREIGN KEY (content_hash) REFERENCES public.overlay_storage_index(content_hash);

ALTER TABLE ONLY public.storage_quarantine
    ADD CONSTRAINT storage_quarantine_content_hash_fkey FOREIGN KEY (content_hash) REFERENCES public.overlay_storage_index(content_hash);
