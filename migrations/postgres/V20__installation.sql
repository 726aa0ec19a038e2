-- The installation that this database is the heart of. Stores of blobs carry its identity, so that a node notices when a store and a
-- database that do not belong together are given to it.

CREATE TABLE installation (
    installation_id uuid        NOT NULL,
    -- By the database's clock. A database that is older than this table is as old as its first producer.
    created_at      timestamptz NOT NULL,
    -- There is one row.
    is_only         boolean     NOT NULL DEFAULT true PRIMARY KEY CHECK (is_only)
);
COMMENT ON TABLE installation IS 'One row: the identity of this installation, which its stores of blobs carry too';
COMMENT ON COLUMN installation.installation_id IS 'Made with this table, and never changed';
COMMENT ON COLUMN installation.created_at IS 'When this database began, by its own clock';

INSERT INTO installation (installation_id, created_at)
SELECT gen_random_uuid(), LEAST(now(), min(created_at)) FROM producers;
