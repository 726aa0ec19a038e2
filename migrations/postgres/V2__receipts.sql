-- Policies and receipts.

CREATE TABLE quota_policies (
    policy_name            text PRIMARY KEY,
    description            text,
    -- NULL is no limit, here and below.
    bytes_per_hour         bigint CHECK (bytes_per_hour >= 0),
    bytes_per_day          bigint CHECK (bytes_per_day >= 0),
    bytes_per_month        bigint CHECK (bytes_per_month >= 0),
    requests_per_hour      bigint CHECK (requests_per_hour >= 0),
    requests_per_day       bigint CHECK (requests_per_day >= 0),
    requests_per_month     bigint CHECK (requests_per_month >= 0),
    max_concurrent_streams bigint CHECK (max_concurrent_streams >= 0),
    max_bandwidth_mbps     double precision CHECK (max_bandwidth_mbps >= 0),
    burst_bytes_allowance  bigint CHECK (burst_bytes_allowance >= 0),
    burst_duration_minutes bigint CHECK (burst_duration_minutes >= 0),
    max_file_size_bytes    bigint CHECK (max_file_size_bytes >= 0),
    allowed_content_types  text[],
    updated_at             timestamptz NOT NULL
);

-- The tiers that the HTTP contract promises. 2^30 bytes are a GiB.
INSERT INTO quota_policies (
    policy_name, description, bytes_per_hour, bytes_per_day, bytes_per_month,
    requests_per_hour, requests_per_day, requests_per_month, max_concurrent_streams, max_bandwidth_mbps, updated_at
)
SELECT name, about, gib << 30, gib * 10 << 30, gib * 100 << 30,
       requests, requests * 10, requests * 100, streams, mbps, transaction_timestamp()
FROM (VALUES
    ('standard',   'One stream at a time',            1::bigint, 100::bigint, 1::bigint, 10::double precision),
    ('premium',    'Five streams at a time',          5,         500,         5,         50),
    ('enterprise', 'Twenty streams at a time',        20,        2000,        20,        200),
    ('unlimited',  'No limit of any kind',            NULL,      NULL,        NULL,      NULL)
) AS tiers (name, about, gib, requests, streams, mbps);

CREATE TABLE overlay_receipts (
    receipt_id     uuid PRIMARY KEY,
    version_id     uuid        NOT NULL REFERENCES assets,
    content_hash   bytea       NOT NULL REFERENCES overlay_storage_index,
    quota_tier     text        NOT NULL REFERENCES quota_policies,
    status         text        NOT NULL
        CHECK (status IN ('pending', 'confirmed', 'settled', 'consumed', 'expired', 'refunded')),
    expires_at     timestamptz NOT NULL,
    total_satoshis bigint      NOT NULL CHECK (total_satoshis >= 0),
    -- Grows with every change of status.
    epoch          bigint      NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL
);
CREATE INDEX overlay_receipts_open ON overlay_receipts (expires_at) WHERE status IN ('pending', 'confirmed', 'settled');
CREATE INDEX overlay_receipts_version ON overlay_receipts (version_id);
