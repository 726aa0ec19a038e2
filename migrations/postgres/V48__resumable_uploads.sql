-- Uploads that arrive in several requests, and the parts that hold their bytes until these are a content.

CREATE TABLE resumable_uploads (
    upload_id     uuid        NOT NULL PRIMARY KEY,
    producer_id   uuid        NOT NULL REFERENCES producers,
    kind          text        NOT NULL CHECK (kind IN ('whole', 'partial', 'final')),
    concat        text        NOT NULL,
    length_bytes  bigint      NOT NULL CHECK (length_bytes >= 0),
    offset_bytes  bigint      NOT NULL DEFAULT 0 CHECK (offset_bytes BETWEEN 0 AND length_bytes),
    parts         integer     NOT NULL DEFAULT 0,
    media_type    text        NOT NULL,
    declared_hash bytea       CHECK (length(declared_hash) = 32),
    metadata      text        NOT NULL,
    content_hash  bytea       CHECK (length(content_hash) = 32),
    expires_at    timestamptz NOT NULL,
    holder        uuid,
    held_until    timestamptz
);

CREATE INDEX resumable_uploads_open ON resumable_uploads (producer_id, length_bytes) WHERE content_hash IS NULL;
CREATE INDEX resumable_uploads_expiry ON resumable_uploads (expires_at);

COMMENT ON TABLE resumable_uploads IS 'Uploads that arrive in several requests.';
COMMENT ON COLUMN resumable_uploads.upload_id IS 'Names it.';
COMMENT ON COLUMN resumable_uploads.producer_id IS 'The producer that sends it.';
COMMENT ON COLUMN resumable_uploads.kind IS 'whole: a content. partial: a piece of one. final: the pieces, one after another.';
COMMENT ON COLUMN resumable_uploads.concat IS 'The list of partial uploads that a client gave for a final one.';
COMMENT ON COLUMN resumable_uploads.length_bytes IS 'All bytes.';
COMMENT ON COLUMN resumable_uploads.offset_bytes IS 'The bytes that are durable.';
COMMENT ON COLUMN resumable_uploads.parts IS 'The parts that hold them.';
COMMENT ON COLUMN resumable_uploads.media_type IS 'The media type that the client gave.';
COMMENT ON COLUMN resumable_uploads.declared_hash IS 'The hash that the client declared.';
COMMENT ON COLUMN resumable_uploads.metadata IS 'The metadata as the client wrote it.';
COMMENT ON COLUMN resumable_uploads.content_hash IS 'The stored content, once there is one.';
COMMENT ON COLUMN resumable_uploads.expires_at IS 'After this the upload is removed.';
COMMENT ON COLUMN resumable_uploads.holder IS 'The request that completes the upload.';
COMMENT ON COLUMN resumable_uploads.held_until IS 'Until then, by this server''s clock, other requests wait for it.';

CREATE TABLE resumable_upload_parts (
    upload_id  uuid        NOT NULL,
    part_id    uuid        NOT NULL,
    state      text        NOT NULL CHECK (state IN ('loose', 'kept', 'condemned')),
    from_byte  bigint      NOT NULL DEFAULT 0,
    size_bytes bigint      NOT NULL DEFAULT 0,
    added_at   timestamptz NOT NULL,
    PRIMARY KEY (upload_id, part_id)
);

CREATE INDEX resumable_upload_parts_unkept ON resumable_upload_parts (added_at) WHERE state <> 'kept';

COMMENT ON TABLE resumable_upload_parts IS 'The stored parts of uploads that arrive in several requests.';
COMMENT ON COLUMN resumable_upload_parts.upload_id IS 'Their upload, which may have ended.';
COMMENT ON COLUMN resumable_upload_parts.part_id IS 'Names the part.';
COMMENT ON COLUMN resumable_upload_parts.state IS
    'loose: no upload counts it. kept: its upload counts it. condemned: it is being removed.';
COMMENT ON COLUMN resumable_upload_parts.from_byte IS 'The place in the upload, of a part that is or was kept.';
COMMENT ON COLUMN resumable_upload_parts.size_bytes IS 'The bytes of a part that is or was kept.';
COMMENT ON COLUMN resumable_upload_parts.added_at IS 'When the part was begun.';

-- Begins an upload within the bounds. Beginnings take turns, so that two of them cannot both take the last place.
CREATE FUNCTION penstock_begin_upload(
    new_upload uuid, new_producer uuid, new_kind text, new_concat text, new_length bigint, new_media_type text,
    new_declared bytea, new_metadata text, new_expiry timestamptz, most_of_producer bigint, most_bytes bigint)
RETURNS text
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('penstock_begin_upload'));
    IF (SELECT count(*) FROM resumable_uploads WHERE producer_id = new_producer AND content_hash IS NULL)
        >= most_of_producer THEN
        RETURN 'too_many';
    END IF;
    IF (SELECT coalesce(sum(length_bytes), 0) FROM resumable_uploads WHERE content_hash IS NULL) + new_length
        > most_bytes THEN
        RETURN 'no_room';
    END IF;
    INSERT INTO resumable_uploads (upload_id, producer_id, kind, concat, length_bytes, media_type, declared_hash,
        metadata, expires_at)
    VALUES (new_upload, new_producer, new_kind, new_concat, new_length, new_media_type, new_declared, new_metadata,
        new_expiry);
    RETURN 'begun';
END
$$;
