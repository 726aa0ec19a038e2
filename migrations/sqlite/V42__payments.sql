-- Payments on chain, each with the receipt that it bought; the outputs that the node keeps for the overlay; and prices that are over,
-- for offers that were made before a raise.
--
-- Ids of transactions are in the order of the wire: explorers show the bytes reversed.

-- Outputs of transactions that a topic has admitted (BRC-22). Those that paid for receipts are in the topic penstock_receipts.
CREATE TABLE brc22_utxos (
    txid           BLOB    NOT NULL CHECK (length(txid) = 32),
    vout           INTEGER NOT NULL CHECK (vout BETWEEN 0 AND 4294967295),
    topic          TEXT    NOT NULL,
    satoshis       INTEGER NOT NULL CHECK (satoshis >= 0),
    locking_script BLOB    NOT NULL,
    -- The transaction that spends it, where the node knows of one.
    spent_by       BLOB    CHECK (length(spent_by) = 32),
    admitted_at    INTEGER NOT NULL,
    PRIMARY KEY (txid, vout, topic)
) STRICT, WITHOUT ROWID;
CREATE INDEX brc22_utxos_topic ON brc22_utxos (topic, admitted_at, txid, vout);

-- Outputs of transactions that bought a receipt each.
CREATE TABLE payments (
    txid              BLOB    NOT NULL CHECK (length(txid) = 32),
    vout              INTEGER NOT NULL CHECK (vout BETWEEN 0 AND 4294967295),
    satoshis          INTEGER NOT NULL CHECK (satoshis >= 0),
    -- What had to be paid.
    price_satoshis    INTEGER NOT NULL CHECK (price_satoshis BETWEEN 0 AND satoshis),
    -- The payer's identity key.
    sender            BLOB    NOT NULL CHECK (length(sender) = 33),
    -- The payment key of this installation that the output's key was derived from.
    payee             BLOB    NOT NULL CHECK (length(payee) = 33),
    derivation_prefix TEXT    NOT NULL,
    derivation_suffix TEXT    NOT NULL,
    version_id        BLOB    NOT NULL REFERENCES assets (version_id),
    -- NULL when its holder's data was erased; the payment stays, so that it buys nothing again.
    receipt_id        BLOB    UNIQUE REFERENCES overlay_receipts (receipt_id) ON DELETE SET NULL,
    state             TEXT    NOT NULL CHECK (state IN ('pending', 'unproven', 'proven', 'invalidated')),
    -- Of the block that holds it, when it is proven.
    height            INTEGER CHECK (height BETWEEN 0 AND 4294967295),
    made_at           INTEGER NOT NULL,
    changed_at        INTEGER NOT NULL,
    -- The envelope as it came (BEEF): the payee's wallet needs it to take the output over. The last column: others are read without it.
    beef              BLOB    NOT NULL,
    PRIMARY KEY (txid, vout),
    CHECK ((state = 'proven') = (height IS NOT NULL))
) STRICT;
CREATE INDEX payments_made ON payments (made_at, txid, vout);
CREATE INDEX payments_state ON payments (state, made_at, txid, vout);

-- Outputs that the transactions of payments spend: each by one transaction, unless that was invalidated.
CREATE TABLE payment_inputs (
    spent_txid BLOB    NOT NULL CHECK (length(spent_txid) = 32),
    spent_vout INTEGER NOT NULL CHECK (spent_vout BETWEEN 0 AND 4294967295),
    -- The transaction of the payment.
    spent_by   BLOB    NOT NULL CHECK (length(spent_by) = 32),
    -- 1: that transaction was invalidated, so that another may spend the output.
    released   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (spent_by, spent_txid, spent_vout)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX payment_inputs_spent ON payment_inputs (spent_txid, spent_vout) WHERE released = 0;

-- The Merkle roots that the verdict on a payment rests on.
CREATE TABLE payment_roots (
    txid   BLOB    NOT NULL CHECK (length(txid) = 32),
    height INTEGER NOT NULL CHECK (height BETWEEN 0 AND 4294967295),
    root   BLOB    NOT NULL CHECK (length(root) = 32),
    PRIMARY KEY (height, root, txid)
) STRICT, WITHOUT ROWID;

-- Prices of assets before they were raised, for payments under way.
CREATE TABLE earlier_prices (
    version_id BLOB    NOT NULL REFERENCES assets (version_id),
    -- By this machine's clock.
    ended_at   INTEGER NOT NULL,
    satoshis   INTEGER NOT NULL CHECK (satoshis >= 0),
    PRIMARY KEY (version_id, ended_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX earlier_prices_age ON earlier_prices (ended_at);

-- Only a raise matters to a payment under way: a price that was lowered is honoured by being the present one. What cost more and was over
-- earlier is no one's lowest price any more. 0 is no price: nothing is sold for it.
CREATE TRIGGER prices_raised AFTER UPDATE OF satoshis ON prices
WHEN old.satoshis > 0 AND (new.satoshis > old.satoshis OR new.satoshis = 0) BEGIN
    DELETE FROM earlier_prices WHERE version_id = old.version_id AND satoshis >= old.satoshis;
    INSERT INTO earlier_prices (version_id, ended_at, satoshis)
    VALUES (old.version_id, CAST(unixepoch('subsec') * 1000000 AS INTEGER), old.satoshis)
    ON CONFLICT (version_id, ended_at) DO UPDATE SET satoshis = min(satoshis, excluded.satoshis);
END;
