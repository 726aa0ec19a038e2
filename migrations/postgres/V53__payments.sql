-- Payments on chain, each with the receipt that it bought; the outputs that the node keeps for the overlay; and prices that are over,
-- for offers that were made before a raise.
--
-- Ids of transactions are in the order of the wire: explorers show the bytes reversed.

CREATE TABLE brc22_utxos (
    txid           bytea       NOT NULL CHECK (octet_length(txid) = 32),
    vout           bigint      NOT NULL CHECK (vout BETWEEN 0 AND 4294967295),
    topic          text        NOT NULL,
    satoshis       bigint      NOT NULL CHECK (satoshis >= 0),
    locking_script bytea       NOT NULL,
    spent_by       bytea       CHECK (octet_length(spent_by) = 32),
    admitted_at    timestamptz NOT NULL,
    PRIMARY KEY (txid, vout, topic)
);
CREATE INDEX brc22_utxos_topic ON brc22_utxos (topic, admitted_at, txid, vout);
COMMENT ON TABLE brc22_utxos IS 'Outputs of transactions that a topic has admitted (BRC-22). Those that paid for receipts are in the topic penstock_receipts.';
COMMENT ON COLUMN brc22_utxos.txid IS 'The transaction, in the order of the wire.';
COMMENT ON COLUMN brc22_utxos.vout IS 'The index of the output.';
COMMENT ON COLUMN brc22_utxos.topic IS 'The topic.';
COMMENT ON COLUMN brc22_utxos.satoshis IS 'What the output is worth.';
COMMENT ON COLUMN brc22_utxos.locking_script IS 'Its script.';
COMMENT ON COLUMN brc22_utxos.spent_by IS 'The transaction that spends it, where the node knows of one.';
COMMENT ON COLUMN brc22_utxos.admitted_at IS 'When it was admitted.';

CREATE TABLE payments (
    txid              bytea       NOT NULL CHECK (octet_length(txid) = 32),
    vout              bigint      NOT NULL CHECK (vout BETWEEN 0 AND 4294967295),
    satoshis          bigint      NOT NULL CHECK (satoshis >= 0),
    price_satoshis    bigint      NOT NULL CHECK (price_satoshis BETWEEN 0 AND satoshis),
    sender            bytea       NOT NULL CHECK (octet_length(sender) = 33),
    payee             bytea       NOT NULL CHECK (octet_length(payee) = 33),
    derivation_prefix text        NOT NULL,
    derivation_suffix text        NOT NULL,
    version_id        uuid        NOT NULL REFERENCES assets,
    receipt_id        uuid        UNIQUE REFERENCES overlay_receipts ON DELETE SET NULL,
    state             text        NOT NULL CHECK (state IN ('pending', 'unproven', 'proven', 'invalidated')),
    height            bigint      CHECK (height BETWEEN 0 AND 4294967295),
    made_at           timestamptz NOT NULL,
    changed_at        timestamptz NOT NULL,
    beef              bytea       NOT NULL,
    PRIMARY KEY (txid, vout),
    CHECK ((state = 'proven') = (height IS NOT NULL))
);
-- An envelope is not compressed: it is mostly hashes, keys and signatures.
ALTER TABLE payments ALTER COLUMN beef SET STORAGE EXTERNAL;
CREATE INDEX payments_made ON payments (made_at, txid, vout);
CREATE INDEX payments_state ON payments (state, made_at, txid, vout);
COMMENT ON TABLE payments IS 'Outputs of transactions that bought a receipt each.';
COMMENT ON COLUMN payments.txid IS 'The transaction, in the order of the wire.';
COMMENT ON COLUMN payments.vout IS 'The index of the output.';
COMMENT ON COLUMN payments.satoshis IS 'What the output is worth.';
COMMENT ON COLUMN payments.price_satoshis IS 'What had to be paid.';
COMMENT ON COLUMN payments.sender IS 'The payer''s identity key.';
COMMENT ON COLUMN payments.payee IS 'The payment key of this installation that the output''s key was derived from.';
COMMENT ON COLUMN payments.derivation_prefix IS 'The first text from which the output''s key was derived (BRC-29).';
COMMENT ON COLUMN payments.derivation_suffix IS 'The second one.';
COMMENT ON COLUMN payments.version_id IS 'The asset that was bought.';
COMMENT ON COLUMN payments.receipt_id IS 'The receipt. NULL when its holder''s data was erased; the payment stays, so that it buys nothing again.';
COMMENT ON COLUMN payments.state IS 'What is known of the transaction: pending, unproven, proven or invalidated.';
COMMENT ON COLUMN payments.height IS 'The height of the block that holds it, when it is proven.';
COMMENT ON COLUMN payments.made_at IS 'When it was recorded.';
COMMENT ON COLUMN payments.changed_at IS 'When its state last changed.';
COMMENT ON COLUMN payments.beef IS 'The envelope as it came (BEEF): the payee''s wallet needs it to take the output over.';

CREATE TABLE payment_inputs (
    spent_txid bytea   NOT NULL CHECK (octet_length(spent_txid) = 32),
    spent_vout bigint  NOT NULL CHECK (spent_vout BETWEEN 0 AND 4294967295),
    spent_by   bytea   NOT NULL CHECK (octet_length(spent_by) = 32),
    released   boolean NOT NULL DEFAULT false,
    PRIMARY KEY (spent_by, spent_txid, spent_vout)
);
CREATE UNIQUE INDEX payment_inputs_spent ON payment_inputs (spent_txid, spent_vout) WHERE NOT released;
COMMENT ON TABLE payment_inputs IS 'Outputs that the transactions of payments spend: each by one transaction, unless that was invalidated.';
COMMENT ON COLUMN payment_inputs.spent_txid IS 'The transaction whose output is spent.';
COMMENT ON COLUMN payment_inputs.spent_vout IS 'The index of that output.';
COMMENT ON COLUMN payment_inputs.spent_by IS 'The transaction of the payment.';
COMMENT ON COLUMN payment_inputs.released IS 'Whether that transaction was invalidated, so that another may spend the output.';

CREATE TABLE payment_roots (
    txid   bytea  NOT NULL CHECK (octet_length(txid) = 32),
    height bigint NOT NULL CHECK (height BETWEEN 0 AND 4294967295),
    root   bytea  NOT NULL CHECK (octet_length(root) = 32),
    PRIMARY KEY (height, root, txid)
);
COMMENT ON TABLE payment_roots IS 'The Merkle roots that the verdict on a payment rests on.';
COMMENT ON COLUMN payment_roots.txid IS 'The transaction of the payment.';
COMMENT ON COLUMN payment_roots.height IS 'The height of the block.';
COMMENT ON COLUMN payment_roots.root IS 'The Merkle root that the block of this height had.';

CREATE TABLE earlier_prices (
    version_id uuid        NOT NULL REFERENCES assets,
    ended_at   timestamptz NOT NULL,
    satoshis   bigint      NOT NULL CHECK (satoshis >= 0),
    PRIMARY KEY (version_id, ended_at)
);
CREATE INDEX earlier_prices_age ON earlier_prices (ended_at);
COMMENT ON TABLE earlier_prices IS 'Prices of assets before they were raised, for payments under way.';
COMMENT ON COLUMN earlier_prices.version_id IS 'The asset.';
COMMENT ON COLUMN earlier_prices.ended_at IS 'When the price was raised, by this server''s clock.';
COMMENT ON COLUMN earlier_prices.satoshis IS 'The price until then.';

-- Only a raise matters to a payment under way: a price that was lowered is honoured by being the present one. What cost more and was over
-- earlier is no one's lowest price any more. 0 is no price: nothing is sold for it.
CREATE FUNCTION penstock_keep_price() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := clock_timestamp();
BEGIN
    DELETE FROM earlier_prices e WHERE e.version_id = OLD.version_id AND e.ended_at <= at AND e.satoshis >= OLD.satoshis;
    INSERT INTO earlier_prices AS e (version_id, ended_at, satoshis) VALUES (OLD.version_id, at, OLD.satoshis)
    ON CONFLICT (version_id, ended_at) DO UPDATE SET satoshis = least(e.satoshis, excluded.satoshis);
    RETURN NULL;
END
$$;
CREATE TRIGGER prices_raised AFTER UPDATE OF satoshis ON prices FOR EACH ROW
    WHEN (OLD.satoshis > 0 AND (NEW.satoshis > OLD.satoshis OR NEW.satoshis = 0)) EXECUTE FUNCTION penstock_keep_price();

-- All calls for one transaction come one after the other, whatever instance they come from.
CREATE FUNCTION penstock_payment_lock(paid bytea) RETURNS bigint LANGUAGE sql IMMUTABLE
    RETURN hashtextextended('penstock_payment ' || encode(paid, 'hex'), 0);

-- Records a payment with its receipt, unless it was recorded before, something is missing, or another payment spends one of its inputs.
-- `outcome` is 'new', 'before' (the same asset and sender), 'taken', 'conflict' (at the output that `conflict_txid` and `conflict_vout`
-- name), 'no_asset' or 'no_tier'. `receipt` is set for 'new' and 'before'.
CREATE FUNCTION penstock_record_payment(
    paid_txid bytea, paid_vout bigint, paid_satoshis bigint, price bigint, paid_script bytea, payer bytea, paid_key bytea,
    prefix text, suffix text, version uuid, new_state text, new_height bigint, at timestamptz, envelope bytea,
    new_receipt uuid, tier text, receipt_ends timestamptz,
    spent_txids bytea[], spent_vouts bigint[], heights bigint[], roots bytea[],
    OUT outcome text, OUT receipt uuid, OUT conflict_txid bytea, OUT conflict_vout bigint)
    LANGUAGE plpgsql
    SET jit = off
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

-- Changes the state of a payment that is in `from_state`, and its receipt with it. Returns the payment, or no row.
CREATE FUNCTION penstock_change_payment(
    paid_txid bytea, paid_vout bigint, from_state text, from_height bigint, to_state text, to_height bigint, at timestamptz)
    RETURNS SETOF payments
    LANGUAGE plpgsql
    ROWS 1
    SET jit = off
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
