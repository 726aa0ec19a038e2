-- Uploads that arrive in several requests, and the parts that hold their bytes until these are a content.
CREATE TABLE resumable_uploads (
    upload_id     BLOB    NOT NULL PRIMARY KEY CHECK (length(upload_id) = 16),
    producer_id   BLOB    NOT NULL REFERENCES producers (producer_id),
    kind          TEXT    NOT NULL CHECK (kind IN ('whole', 'partial', 'final')),
    -- The list of partial uploads that a client gave for a final one.
    concat        TEXT    NOT NULL,
    length_bytes  INTEGER NOT NULL CHECK (length_bytes >= 0),
    -- The bytes that are durable.
    offset_bytes  INTEGER NOT NULL DEFAULT 0 CHECK (offset_bytes BETWEEN 0 AND length_bytes),
    -- The parts that hold them.
    parts         INTEGER NOT NULL DEFAULT 0,
    media_type    TEXT    NOT NULL,
    declared_hash BLOB    CHECK (length(declared_hash) = 32),
    -- As the client wrote it.
    metadata      TEXT    NOT NULL,
    -- The stored content, once there is one.
    content_hash  BLOB    CHECK (length(content_hash) = 32),
    expires_at    INTEGER NOT NULL,
    -- The request that completes the upload, and until when others wait for it.
    holder        BLOB,
    held_until    INTEGER
) STRICT, WITHOUT ROWID;

-- Those whose bytes are kept, by producer.
CREATE INDEX resumable_uploads_open ON resumable_uploads (producer_id, length_bytes) WHERE content_hash IS NULL;
CREATE INDEX resumable_uploads_expiry ON resumable_uploads (expires_at);

CREATE TABLE resumable_upload_parts (
    upload_id  BLOB    NOT NULL,
    part_id    BLOB    NOT NULL CHECK (length(part_id) = 16),
    -- loose: no upload counts it. kept: its upload counts it. condemned: it is being removed.
    state      TEXT    NOT NULL CHECK (state IN ('loose', 'kept', 'condemned')),
    -- The place in the upload, of a part that is or was kept.
    from_byte  INTEGER NOT NULL DEFAULT 0,
    size_bytes INTEGER NOT NULL DEFAULT 0,
    added_at   INTEGER NOT NULL,
    PRIMARY KEY (upload_id, part_id)
) STRICT, WITHOUT ROWID;

-- Those that go, oldest first.
CREATE INDEX resumable_upload_parts_unkept ON resumable_upload_parts (added_at) WHERE state <> 'kept';
