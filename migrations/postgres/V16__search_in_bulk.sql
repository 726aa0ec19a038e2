-- Assets that come in by the thousand, in one statement, are entered a thousand at a time: what enters them compares each with each
-- of its step.

CREATE FUNCTION penstock_enter_all(ids uuid[], numbers bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    FOR place IN 1 .. coalesce(cardinality(ids), 0) BY 1000 LOOP
        PERFORM penstock_enter_assets(ids[place : place + 999], numbers[place : place + 999]);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION penstock_assets_made() RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
    ids uuid[] := ARRAY(SELECT version_id FROM made);
BEGIN
    IF ids <> '{}' THEN
        PERFORM penstock_enter_all(ids, NULL);
        -- Pages of the catalogue have changed. One line for them all: any asset is word of that.
        INSERT INTO change_log (tag) VALUES ('asset:' || ids[1]);
    END IF;
    RETURN NULL;
END
$$;

-- The node never changes an asset; an operator may. It is entered anew under the number that it has.
CREATE OR REPLACE FUNCTION penstock_assets_changed() RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
    ids uuid[];
    numbers bigint[];
BEGIN
    WITH gone AS (
        DELETE FROM asset_search s USING was JOIN now_is USING (version_id)
        WHERE s.version_id = was.version_id
          AND (was.name, was.description, was.policy_meta, was.media_type, was.dataset_id, was.producer_id)
              IS DISTINCT FROM
              (now_is.name, now_is.description, now_is.policy_meta, now_is.media_type, now_is.dataset_id, now_is.producer_id)
        RETURNING s.version_id, s.number
    )
    SELECT array_agg(version_id), array_agg(number) INTO ids, numbers FROM gone;
    PERFORM penstock_enter_all(ids, numbers);
    RETURN NULL;
END
$$;
