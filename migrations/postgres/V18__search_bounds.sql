-- What a search reads stays bounded where its assets are more than the statistics tell: those know how frequent each word and
-- each filter is and multiply, so that a producer, a dataset and a media type that always go together look rare. Where few are
-- expected, no more than a few thousand are looked at now; if there are more, the spans take over. And prices alone are looked
-- for in spans too, so that the clock ends a page for which a whole catalogue would be read.

-- Up to `wanted` assets below a number that a query finds and a better one does not, the newest first. A few thousand are read as
-- they are, for the list of a span is as long as the span. Where there are more, it looks into spans of some 4,000, 32,000 and
-- 256,000 assets and then of a million each. When that has taken longer than a second, as it can when very common words are never
-- together, it ends with a row that has only a number: it has looked at everything down to there.
CREATE OR REPLACE FUNCTION penstock_matches(
    query tsquery, better tsquery, below bigint, dataset text, cheapest bigint, dearest bigint, wanted bigint
) RETURNS TABLE (number bigint, version_id uuid, producer_id uuid, dataset_id text, media_type text)
LANGUAGE plpgsql STABLE ROWS 20
SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_custom_plan
AS $$
#variable_conflict use_column
DECLARE
    head bigint := (SELECT max(s.number) + 1 FROM asset_search s WHERE s.number < below);
    expected bigint := penstock_expected(query);
    level integer := CASE WHEN expected BETWEEN 3001 AND 50000 THEN 1 ELSE 0 END;
    bits integer;
    span bigint;
    looked_for tsquery;
    found bigint := 0;
    more bigint;
    are_few boolean := true;
BEGIN
    IF expected <= 3000 THEN
        FOR number, version_id, producer_id, dataset_id, media_type IN
            WITH hits AS MATERIALIZED (
                SELECT s.number, s.version_id, s.producer_id, s.dataset_id, s.media_type,
                    s.number < head AND s.satoshis BETWEEN cheapest AND dearest
                        AND (better IS NULL OR NOT s.document @@ better)
                        -- The tag is a digest of it.
                        AND (dataset IS NULL OR s.dataset_id = dataset) AS fits
                FROM asset_search s
                WHERE s.document @@ query
                LIMIT 3001
            )
            SELECT NULL::bigint, NULL::uuid, NULL::uuid, NULL::text, NULL::text WHERE (SELECT count(*) FROM hits) > 3000
            UNION ALL
            (SELECT h.number, h.version_id, h.producer_id, h.dataset_id, h.media_type FROM hits h
                WHERE h.fits AND (SELECT count(*) FROM hits) <= 3000 ORDER BY h.number DESC LIMIT wanted)
        LOOP
            are_few := number IS NOT NULL;
            EXIT WHEN NOT are_few;
            RETURN NEXT;
        END LOOP;
        IF are_few THEN
            RETURN;
        END IF;
    END IF;
    WHILE found < wanted AND head IS NOT NULL LOOP
        bits := (ARRAY[12, 15, 18, 20])[level + 1];
        span := (head - 1) >> bits;
        IF query IS NULL THEN
            RETURN QUERY SELECT s.number, s.version_id, s.producer_id, s.dataset_id, s.media_type
                FROM asset_search s
                WHERE s.number >= span << bits AND s.number < head AND s.satoshis BETWEEN cheapest AND dearest
                ORDER BY s.number DESC LIMIT wanted - found;
        ELSE
            looked_for := query && format('''#%s%s''', level, to_hex(span))::tsquery;
            -- Found first and ordered then, so that nobody thinks of walking along the numbers instead. What is better is not
            -- among what the index looks for, which would then walk along the lists of those words too.
            RETURN QUERY
                WITH hits AS MATERIALIZED (
                    SELECT s.number, s.version_id, s.producer_id, s.dataset_id, s.media_type
                    FROM asset_search s
                    WHERE s.document @@ looked_for AND s.number < head AND s.satoshis BETWEEN cheapest AND dearest
                      AND (better IS NULL OR NOT s.document @@ better)
                      AND (dataset IS NULL OR s.dataset_id = dataset)
                )
                SELECT * FROM hits ORDER BY number DESC LIMIT wanted - found;
        END IF;
        GET DIAGNOSTICS more = ROW_COUNT;
        found := found + more;
        -- What is next below the span: numbers may have gaps.
        head := (SELECT max(s.number) + 1 FROM asset_search s WHERE s.number < span << bits);
        IF level < 3 THEN
            level := level + 1;
        ELSIF found < wanted AND head IS NOT NULL AND clock_timestamp() - statement_timestamp() > interval '1 second' THEN
            RETURN QUERY SELECT head, NULL::uuid, NULL::uuid, NULL::text, NULL::text;
            RETURN;
        END IF;
    END LOOP;
END
$$;

-- A page of a query that finds few assets, as penstock_search orders them: all of them are looked at, once for all ranks. Where
-- they are not few after all, it has a row of nothing instead.
CREATE OR REPLACE FUNCTION penstock_few(
    in_name tsquery, in_description tsquery, query tsquery, dataset text, cheapest bigint, dearest bigint,
    newest bigint, last_rank smallint, last_number bigint, wanted bigint
) RETURNS TABLE (rank smallint, number bigint, version_id uuid)
LANGUAGE plpgsql STABLE ROWS 20
SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_custom_plan
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        WITH hits AS MATERIALIZED (
            SELECT s.number, s.version_id,
                (CASE WHEN s.document @@ in_name THEN 3 WHEN s.document @@ in_description THEN 2 ELSE 1 END)::smallint AS rank,
                s.number <= newest AND s.satoshis BETWEEN cheapest AND dearest
                    AND (dataset IS NULL OR s.dataset_id = dataset) AS fits
            FROM asset_search s
            WHERE s.document @@ query
            LIMIT 3001
        )
        SELECT NULL::smallint, NULL::bigint, NULL::uuid WHERE (SELECT count(*) FROM hits) > 3000
        UNION ALL
        (SELECT h.rank, h.number, h.version_id FROM hits h
            WHERE h.fits AND (SELECT count(*) FROM hits) <= 3000
              AND (last_rank IS NULL OR (h.rank, h.number) < (last_rank, last_number))
            ORDER BY h.rank DESC, h.number DESC LIMIT wanted);
END
$$;

-- A page: what is found in names (rank 3), then in descriptions (2), then anywhere (1), each the newest first. It goes on
-- below a rank and a number, or begins. It may end with a row that has no version, as penstock_matches does.
CREATE OR REPLACE FUNCTION penstock_search(
    in_name text, in_description text, anywhere text, beginning text,
    producer uuid, dataset text, media text, family text, cheapest bigint, dearest bigint,
    newest_seen bigint, last_rank smallint, last_number bigint, wanted bigint
) RETURNS TABLE (newest bigint, rank smallint, number bigint, version_id uuid)
LANGUAGE plpgsql STABLE ROWS 20
AS $$
#variable_conflict use_variable
DECLARE
    filter tsquery := penstock_filter(producer, dataset, media, family);
    queries tsquery[] := ARRAY[
        penstock_query(anywhere, beginning), penstock_query(in_description, beginning), penstock_query(in_name, beginning)];
    query tsquery := coalesce(queries[1] && filter, queries[1]);
    below bigint;
    missing bigint := wanted;
    are_few boolean := true;
BEGIN
    newest := coalesce(newest_seen, (SELECT max(s.number) FROM asset_search s));
    IF penstock_expected(query) <= 3000 THEN
        FOR rank, number, version_id IN
            SELECT f.rank, f.number, f.version_id
            FROM penstock_few(queries[3], queries[2], query, dataset, cheapest, dearest, newest, last_rank, last_number,
                              wanted) AS f
        LOOP
            are_few := number IS NOT NULL;
            EXIT WHEN NOT are_few;
            RETURN NEXT;
        END LOOP;
        IF are_few THEN
            RETURN;
        END IF;
    END IF;
    FOR place IN REVERSE CASE WHEN anywhere IS NULL THEN 1 ELSE coalesce(last_rank, 3) END .. 1 LOOP
        query := queries[place];
        CONTINUE WHEN query IS NULL AND anywhere IS NOT NULL;
        query := coalesce(query && filter, query, filter);
        below := CASE WHEN place = last_rank THEN last_number ELSE newest + 1 END;
        rank := place;
        FOR number, version_id IN
            -- What a better place had is not repeated.
            SELECT m.number, m.version_id
            FROM penstock_matches(query, queries[place + 1], below, dataset, cheapest, dearest, missing) AS m
        LOOP
            RETURN NEXT;
            missing := missing - 1;
            IF version_id IS NULL OR missing = 0 THEN
                RETURN;
            END IF;
        END LOOP;
    END LOOP;
END
$$;
