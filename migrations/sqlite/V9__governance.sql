-- Governance policies as versioned documents, and what they came to.

-- The current version of each.
CREATE TABLE policies (
    policy_id  TEXT    NOT NULL PRIMARY KEY,
    version    INTEGER NOT NULL CHECK (version > 0),
    document   TEXT    NOT NULL CHECK (json_valid(document)),
    created_at INTEGER NOT NULL
) STRICT;

-- Every version, the current one included. Documents are long, so rows are not kept in the tree of the key.
CREATE TABLE policy_versions (
    policy_id  TEXT    NOT NULL REFERENCES policies (policy_id),
    version    INTEGER NOT NULL,
    document   TEXT    NOT NULL CHECK (json_valid(document)),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (policy_id, version)
) STRICT;
-- A version is forgotten by the age of the one that took its place.
CREATE INDEX policy_versions_age ON policy_versions (created_at);

-- Assets judged by policies. `version_id` is no foreign key: an asset that was refused was never made.
CREATE TABLE policy_runs (
    run_id         BLOB    NOT NULL PRIMARY KEY CHECK (length(run_id) = 16),
    policy_id      TEXT    NOT NULL REFERENCES policies (policy_id),
    policy_version INTEGER NOT NULL,
    version_id     BLOB    NOT NULL CHECK (length(version_id) = 16),
    occasion       TEXT    NOT NULL CHECK (occasion IN ('evaluate', 'publish', 'receipt')),
    decision       TEXT    NOT NULL CHECK (decision IN ('allow', 'warn', 'block')),
    evaluated_at   INTEGER NOT NULL,
    -- Reasons with evidence, and which rules passed.
    verdict        TEXT    NOT NULL CHECK (json_valid(verdict))
) STRICT;
-- A page of the runs of a policy and an asset, newest first; `run_id` decides among those of one moment.
CREATE INDEX policy_runs_policy_version ON policy_runs (policy_id, version_id, evaluated_at DESC, run_id DESC);
-- For forgetting, oldest first.
CREATE INDEX policy_runs_age ON policy_runs (evaluated_at);

CREATE TRIGGER policies_insert AFTER INSERT ON policies
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('governance', CAST(NEW.policy_id AS BLOB));
END;

CREATE TRIGGER policies_update AFTER UPDATE ON policies
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('governance', CAST(NEW.policy_id AS BLOB));
END;
