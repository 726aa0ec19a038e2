-- The mark of a client in rows of usage: an HMAC of its address under a key of the day, so that streams of one client can be
-- counted for a day, and nothing links one day to another. NULL where it is not known.
ALTER TABLE streaming_usage ADD COLUMN client BLOB;

-- The keys under which addresses of clients are marked. A key is deleted some time after its day.
CREATE TABLE client_keys (
    -- The day in UTC, in days since 1970.
    day INTEGER NOT NULL PRIMARY KEY,
    -- Random.
    key BLOB    NOT NULL CHECK (length(key) = 32)
) STRICT;
