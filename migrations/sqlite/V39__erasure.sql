-- What is kept about the payer of a receipt can be made anonymous: its usage moves to an anonymous receipt.

-- 1 for a receipt that stands in accounts for one whose payer is forgotten.
ALTER TABLE overlay_receipts ADD COLUMN anonymous INTEGER NOT NULL DEFAULT 0;
-- The anonymous receipt that takes its place, while it does: the row is removed when all of its usage is moved there.
ALTER TABLE overlay_receipts ADD COLUMN stand_in BLOB;

-- A stand-in is not sold.
DROP TRIGGER lineage_receipt;
CREATE TRIGGER lineage_receipt AFTER INSERT ON overlay_receipts
WHEN (SELECT enabled FROM lineage_emission) AND NOT new.anonymous BEGIN
    INSERT INTO lineage_outbox (kind, happened_at, detail)
    VALUES ('receipt', new.created_at, json_object(
        'receipt', lower(hex(new.receipt_id)), 'version', lower(hex(new.version_id)), 'tier', new.quota_tier));
END;

CREATE INDEX usage_set_aside_receipt ON usage_set_aside (receipt_id);
