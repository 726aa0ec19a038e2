-- Whose life an epoch is, and which history this database tells: what a restore, a copy of a data folder and a sleeping machine
-- are told apart from a crash by.

-- Heartbeats that were taken: a node that knows of more than the database has was told them by another history.
ALTER TABLE ledger_nodes ADD COLUMN beats INTEGER NOT NULL DEFAULT 0;
-- Heartbeats in time since the last one that was late. Who was late itself judges no other epoch before the others had their time.
ALTER TABLE ledger_nodes ADD COLUMN on_time INTEGER NOT NULL DEFAULT 2;
-- Leases of this epoch are released when it is over, and never charged: no crash explains their loss.
ALTER TABLE ledger_nodes ADD COLUMN spared INTEGER NOT NULL DEFAULT 0 CHECK (spared IN (0, 1));

-- A later epoch of a node that is alive: two processes have one identity. Whoever restarts a node ends the time of its last epoch first.
CREATE TRIGGER ledger_nodes_namesake AFTER INSERT ON ledger_nodes WHEN NEW.fenced = 0
BEGIN
    UPDATE ledger_nodes SET spared = 1
    WHERE node_id = NEW.node_id AND epoch < NEW.epoch AND fenced = 0
        AND alive_until > CAST(unixepoch('subsec') * 1000000 AS INTEGER);
END;

-- The histories of this database, the last of them the one that goes on. A restore begins a new one.
CREATE TABLE timelines (
    number          INTEGER NOT NULL PRIMARY KEY,
    timeline_id     BLOB    NOT NULL CHECK (length(timeline_id) = 16),
    began_at        INTEGER NOT NULL,
    -- The file that it was begun in. Another file is a copy.
    home            TEXT    NOT NULL,
    reason          TEXT    NOT NULL,
    -- What instances held when it began, and was released.
    leases_released INTEGER NOT NULL DEFAULT 0,
    bytes_released  INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The file is not known to SQL; whoever migrates writes it down.
INSERT INTO timelines (number, timeline_id, began_at, home, reason)
VALUES (1, randomblob(16), CAST(unixepoch('subsec') * 1000000 AS INTEGER), '', 'the database began');

-- Usage that cannot be settled, since its receipt is not in this history, say. A person decides what becomes of it.
CREATE TABLE usage_set_aside (
    usage_id     BLOB    NOT NULL PRIMARY KEY CHECK (length(usage_id) = 16),
    node_id      BLOB    NOT NULL,
    receipt_id   BLOB    NOT NULL,
    content_hash BLOB    NOT NULL,
    session_id   BLOB,
    started_at   INTEGER NOT NULL,
    finished_at  INTEGER NOT NULL,
    bytes_sent   INTEGER NOT NULL,
    requests     INTEGER NOT NULL,
    outcome      TEXT    NOT NULL,
    lease_epoch  INTEGER,
    set_aside_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    reason       TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
