-- Which store is a tier's own, by the id in its mark: of two instances that first start at once with different folders (a share that is
-- mounted at only one of them), both may mark theirs, and the first whose row is here has the right one.

-- NULL: the store was marked by a version that told no stores apart.
ALTER TABLE installation_stores ADD COLUMN store_id uuid;

COMMENT ON COLUMN installation_stores.store_id IS
    'The store that the mark (penstock-store) must name; NULL where it was marked by a version before this one.';
