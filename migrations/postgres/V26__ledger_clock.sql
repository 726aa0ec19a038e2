-- The clock that instances go by, and receipts that a wrong clock expired.

-- The last time that an instance took for right. A time that is much later is relied on for nothing that cannot be undone
-- before it was confirmed.
CREATE TABLE ledger_clock (
    only_row   boolean     NOT NULL PRIMARY KEY DEFAULT true CHECK (only_row),
    trusted_at timestamptz NOT NULL
);
COMMENT ON TABLE ledger_clock IS 'The time as the instances last took it for right. One row.';
COMMENT ON COLUMN ledger_clock.only_row IS 'Always true: there is one row at most.';
COMMENT ON COLUMN ledger_clock.trusted_at IS
    'The last time that an instance took for right. A time that is much later is in doubt: nothing is removed or expired by it.';

-- What is known of the time in a database that was used before: an instance was alive then.
INSERT INTO ledger_clock (trusted_at)
SELECT max(alive_until) FROM ledger_nodes HAVING max(alive_until) IS NOT NULL;

-- What a receipt was before the Janitor expired it, so that it can be that again. NULL in receipts that somebody expired by
-- hand, and in those that are not expired.
ALTER TABLE overlay_receipts ADD COLUMN expired_from text CHECK (expired_from IN ('pending', 'confirmed', 'settled'));
COMMENT ON COLUMN overlay_receipts.expired_from IS
    'What the status was before the Janitor set expired; NULL where it did not. A receipt whose time is not over becomes that again.';

-- In the order of their time, so that those whose time is not over are found at its end, where there are none as a rule.
CREATE INDEX overlay_receipts_expired ON overlay_receipts (expires_at) WHERE expired_from IS NOT NULL;
