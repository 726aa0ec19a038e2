-- The installation that this database is the heart of. Stores of blobs carry its identity, so that a node notices when a store and a
-- database that do not belong together are given to it.

CREATE TABLE installation (
    -- There is one row.
    is_only         INTEGER NOT NULL PRIMARY KEY CHECK (is_only = 1),
    installation_id BLOB    NOT NULL CHECK (length(installation_id) = 16),
    -- By the database's clock. A database that is older than this table is as old as its first producer.
    created_at      INTEGER NOT NULL
) STRICT;

-- A UUID of version 4.
INSERT INTO installation (is_only, installation_id, created_at)
SELECT 1, unhex(substr(random, 1, 12) || '4' || substr(random, 14, 3) || 'A' || substr(random, 18)),
    (SELECT min(CAST(unixepoch('subsec') * 1000000 AS INTEGER),
        coalesce((SELECT min(created_at) FROM producers), 9223372036854775807)))
FROM (SELECT hex(randomblob(16)) AS random);
