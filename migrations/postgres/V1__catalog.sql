-- Producers and keys, the storage index, assets and prices.

CREATE TABLE producers (
    producer_id uuid PRIMARY KEY,
    name        text        NOT NULL,
    created_at  timestamptz NOT NULL
);

CREATE TABLE api_keys (
    key_id      uuid PRIMARY KEY,
    producer_id uuid        NOT NULL REFERENCES producers,
    role        text        NOT NULL CHECK (role IN ('producer', 'admin')),
    -- The unique index is also the one that a request's key is found by.
    secret_hash bytea       NOT NULL UNIQUE CHECK (octet_length(secret_hash) = 32),
    created_at  timestamptz NOT NULL,
    revoked_at  timestamptz
);

CREATE TABLE overlay_storage_index (
    content_hash bytea PRIMARY KEY CHECK (octet_length(content_hash) = 32),
    size_bytes   bigint      NOT NULL CHECK (size_bytes >= 0),
    media_type   text        NOT NULL,
    state        text        NOT NULL CHECK (state IN ('announced', 'stored')),
    tier         text        NOT NULL DEFAULT 'hot' CHECK (tier IN ('hot', 'warm', 'cold')),
    producer_id  uuid        NOT NULL REFERENCES producers,
    announced_at timestamptz NOT NULL,
    stored_at    timestamptz,
    CHECK ((state = 'stored') = (stored_at IS NOT NULL))
);
-- Announcements are few and short-lived; this finds the forgotten ones without passing over what is stored.
CREATE INDEX overlay_storage_index_announced ON overlay_storage_index (announced_at) WHERE state = 'announced';

CREATE TABLE assets (
    version_id   uuid PRIMARY KEY,
    content_hash bytea       NOT NULL REFERENCES overlay_storage_index,
    name         text        NOT NULL,
    description  text        NOT NULL,
    media_type   text        NOT NULL,
    dataset_id   text,
    policy_meta  jsonb       NOT NULL,
    producer_id  uuid        NOT NULL REFERENCES producers,
    created_at   timestamptz NOT NULL
);

CREATE TABLE prices (
    version_id uuid PRIMARY KEY REFERENCES assets,
    satoshis   bigint      NOT NULL CHECK (satoshis >= 0),
    updated_at timestamptz NOT NULL
);
