-- The clock that the node goes by, and receipts that a wrong clock expired.

-- The last time that was taken for right. A time that is much later is relied on for nothing that cannot be undone before it
-- was confirmed.
CREATE TABLE ledger_clock (
    only_row   INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    trusted_at INTEGER NOT NULL
) STRICT;

-- What is known of the time in a database that was used before: the node was alive then.
INSERT INTO ledger_clock (only_row, trusted_at)
SELECT 1, max(alive_until) FROM ledger_nodes HAVING max(alive_until) IS NOT NULL;

-- What a receipt was before the Janitor expired it, so that it can be that again. NULL in receipts that somebody expired by
-- hand, and in those that are not expired.
ALTER TABLE overlay_receipts ADD COLUMN expired_from TEXT CHECK (expired_from IN ('pending', 'confirmed', 'settled'));

-- In the order of their time, so that those whose time is not over are found at its end, where there are none as a rule.
CREATE INDEX overlay_receipts_expired ON overlay_receipts (expires_at) WHERE expired_from IS NOT NULL;
