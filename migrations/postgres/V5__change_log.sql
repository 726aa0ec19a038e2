-- What instances must hear of. Triggers write it, so that a change and its line commit together, whoever makes the change.
--
-- Instances read it by transaction, not by `change_id`: ids are drawn before their transaction commits, so a smaller one may
-- become visible after a greater one. Everything below the oldest transaction that is still running has been seen.
CREATE TABLE change_log (
    change_id  bigint      GENERATED ALWAYS AS IDENTITY,
    txid       bigint      NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    tag        text        NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (txid, change_id)
);

-- For forgetting, oldest first.
CREATE INDEX change_log_age ON change_log (changed_at);

CREATE FUNCTION penstock_note_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO change_log (tag) VALUES (TG_ARGV[0] || ':' || (to_jsonb(NEW) ->> TG_ARGV[1]));
    RETURN NULL;
END
$$;

CREATE TRIGGER overlay_receipts_change AFTER UPDATE OF status, quota_tier, expires_at ON overlay_receipts
    FOR EACH ROW
    WHEN ((OLD.status, OLD.quota_tier, OLD.expires_at) IS DISTINCT FROM (NEW.status, NEW.quota_tier, NEW.expires_at))
    EXECUTE FUNCTION penstock_note_change('receipt', 'receipt_id');

CREATE TRIGGER quota_policies_change AFTER INSERT OR UPDATE ON quota_policies
    FOR EACH ROW EXECUTE FUNCTION penstock_note_change('policy', 'policy_name');

CREATE TRIGGER prices_change AFTER UPDATE OF satoshis ON prices
    FOR EACH ROW EXECUTE FUNCTION penstock_note_change('asset', 'version_id');

CREATE TRIGGER assets_change AFTER UPDATE ON assets
    FOR EACH ROW WHEN (OLD IS DISTINCT FROM NEW)
    EXECUTE FUNCTION penstock_note_change('asset', 'version_id');
