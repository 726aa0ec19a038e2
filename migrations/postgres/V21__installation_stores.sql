-- Which tiers of the installation have a store of blobs that was marked as its own. Where a row is, a store without that mark is one
-- that is missing, such as a share that is not mounted, and not one that is new.

CREATE TABLE installation_stores (
    tier     text        PRIMARY KEY CHECK (tier IN ('hot', 'warm', 'cold')),
    -- Where the store was when it was marked, for people to read: instances may reach it by different paths.
    place    text        NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE installation_stores IS 'Tiers that have a store of blobs marked as this installation''s';
COMMENT ON COLUMN installation_stores.place IS 'The folder, or bucket and prefix, by which the instance that marked the store reached it';
