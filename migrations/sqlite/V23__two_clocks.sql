-- Two clocks decide that an epoch is over: the database's, and the monotonic clock of the instance that takes its leases back.

-- How long a heartbeat is good for, in milliseconds: others take nothing back before it was silent for as long. NULL of an epoch of an
-- earlier version.
ALTER TABLE ledger_nodes ADD COLUMN lease_ms INTEGER;

-- What a node that is alive has found leased to it that it does not know of, when it last compared; must be 0. NULL where it has not
-- compared.
ALTER TABLE ledger_nodes ADD COLUMN unknown_bytes INTEGER;
ALTER TABLE ledger_nodes ADD COLUMN unknown_requests INTEGER;
ALTER TABLE ledger_nodes ADD COLUMN compared_at INTEGER;
