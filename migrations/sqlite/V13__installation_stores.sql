-- Which tiers of the installation have a store of blobs that was marked as its own. Where a row is, a store without that mark is one
-- that is missing, such as a share that is not mounted, and not one that is new.

CREATE TABLE installation_stores (
    tier     TEXT    NOT NULL PRIMARY KEY CHECK (tier IN ('hot', 'warm', 'cold')),
    -- Where the store was when it was marked, for people to read.
    place    TEXT    NOT NULL,
    noted_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT, WITHOUT ROWID;
