-- What instances must hear of: a kind ('receipt', 'policy', 'asset', ..) and the bytes of the id or name. Triggers write it, so
-- that a change and its line commit together, whoever makes the change. There is one writer, so ids grow in the order of
-- commits.
CREATE TABLE change_log (
    change_id  INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT    NOT NULL,
    subject    BLOB    NOT NULL,
    changed_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;

-- For forgetting, oldest first.
CREATE INDEX change_log_age ON change_log (changed_at);

CREATE TRIGGER overlay_receipts_change AFTER UPDATE OF status, quota_tier, expires_at ON overlay_receipts
    WHEN (OLD.status, OLD.quota_tier, OLD.expires_at) IS NOT (NEW.status, NEW.quota_tier, NEW.expires_at)
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('receipt', NEW.receipt_id);
END;

CREATE TRIGGER quota_policies_insert AFTER INSERT ON quota_policies
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('policy', CAST(NEW.policy_name AS BLOB));
END;

CREATE TRIGGER quota_policies_update AFTER UPDATE ON quota_policies
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('policy', CAST(NEW.policy_name AS BLOB));
END;

CREATE TRIGGER prices_change AFTER UPDATE OF satoshis ON prices
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('asset', NEW.version_id);
END;

CREATE TRIGGER assets_change AFTER UPDATE ON assets
BEGIN
    INSERT INTO change_log (kind, subject) VALUES ('asset', NEW.version_id);
END;
