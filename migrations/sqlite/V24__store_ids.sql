-- Which store is a tier's own, by the id in its mark (penstock-store). NULL: it was marked by a version that told no stores apart.
ALTER TABLE installation_stores ADD COLUMN store_id BLOB;
