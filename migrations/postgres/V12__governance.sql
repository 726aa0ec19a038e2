-- Governance policies as versioned documents, and what they came to.

-- The current version of each.
CREATE TABLE policies (
    policy_id  text        COLLATE "C" PRIMARY KEY,
    version    integer     NOT NULL CHECK (version > 0),
    document   jsonb       NOT NULL,
    created_at timestamptz NOT NULL
);

-- Every version, the current one included.
CREATE TABLE policy_versions (
    policy_id  text        COLLATE "C" NOT NULL REFERENCES policies,
    version    integer     NOT NULL,
    document   jsonb       NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (policy_id, version)
);
-- A version is forgotten by the age of the one that took its place.
CREATE INDEX policy_versions_age ON policy_versions (created_at);

-- Assets judged by policies. `version_id` is no foreign key: an asset that was refused was never made.
CREATE TABLE policy_runs (
    run_id         uuid PRIMARY KEY,
    policy_id      text        COLLATE "C" NOT NULL REFERENCES policies,
    policy_version integer     NOT NULL,
    version_id     uuid        NOT NULL,
    occasion       text        NOT NULL CHECK (occasion IN ('evaluate', 'publish', 'receipt')),
    decision       text        NOT NULL CHECK (decision IN ('allow', 'warn', 'block')),
    evaluated_at   timestamptz NOT NULL,
    -- Reasons with evidence, and which rules passed.
    verdict        jsonb       NOT NULL
);
-- A page of the runs of a policy and an asset, newest first; `run_id` decides among those of one moment.
CREATE INDEX policy_runs_policy_version ON policy_runs (policy_id, version_id, evaluated_at DESC, run_id DESC);
-- For forgetting, oldest first.
CREATE INDEX policy_runs_age ON policy_runs (evaluated_at);

CREATE TRIGGER policies_insert AFTER INSERT ON policies
    FOR EACH ROW EXECUTE FUNCTION penstock_note_change('governance', 'policy_id');

CREATE TRIGGER policies_update AFTER UPDATE ON policies
    FOR EACH ROW WHEN (OLD.version IS DISTINCT FROM NEW.version)
    EXECUTE FUNCTION penstock_note_change('governance', 'policy_id');
