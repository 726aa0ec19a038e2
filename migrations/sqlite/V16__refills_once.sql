-- A refill grants once, however often it is asked and in whatever order its statements arrive.

-- The last refill of a lease and what it was granted, so that a repeat is told the same. Only credit that its node knows of
-- is spent or given back, so a lease is never emptied while the answer to its last refill is on its way.
ALTER TABLE quota_leases ADD COLUMN refill_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE quota_leases ADD COLUMN refill_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE quota_leases ADD COLUMN refill_requests INTEGER NOT NULL DEFAULT 0;

-- Refills that were asked again. What was asked first may arrive after its repeat, even after the lease that it was granted
-- was given back and is gone; this row then says that it was answered. One for each receipt, and few: an answer was lost.
CREATE TABLE quota_refills_again (
    node_id    BLOB    NOT NULL,
    epoch      INTEGER NOT NULL,
    receipt_id BLOB    NOT NULL,
    -- The last one that was asked again, and what it was granted.
    refill_id  INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    requests   INTEGER NOT NULL,
    PRIMARY KEY (node_id, epoch, receipt_id),
    FOREIGN KEY (node_id, epoch) REFERENCES ledger_nodes (node_id, epoch) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
