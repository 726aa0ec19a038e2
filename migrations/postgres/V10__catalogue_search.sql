-- Search over the catalogue: a table beside `assets`, kept by triggers.
--
-- It is a table of its own rather than a generated column of `assets`. Adding a stored generated column rewrites the table under
-- a lock that stops everybody; this adds an empty table, and what is there already is entered in small steps after the
-- migration (penstock_backfill_search), while older instances go on. It also holds what filters compare and facets count, so
-- that `assets` is read for the page that is shown and for nothing else.
--
-- The index keeps no weights and no order, and ranking every match of a common word is what makes searches slow. So both
-- stand in the lexemes, where the index finds them:
--
--     'tide'    in the name or the description          '*'      in every document
--     '^tide'   in the name                             '@p..'   the producer; @d dataset, @m media type, @f family of it
--     '=tide'   in the texts of policy_meta             '#0..'   the assets whose numbers share all bits but the last 12;
--                                                                '#1..' the last 15, '#2..' 18, '#3..' 20
--
-- The three kinds of words are the weights A to C. Where few assets are found, all of them are looked at. Where many are, a
-- search asks for one weight after the other, and the spans '#' make "the newest first" cheap: it looks into the newest span, then
-- into ever larger ones behind it, and stops when it has enough.
--
-- PostgreSQL must have been built with ICU and the database must be in UTF-8, as every packaged one is.

-- The words of a text, as `words` in actors/src/search/words.rs has them; a test compares the two.
CREATE FUNCTION penstock_words(text) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT array_remove(string_to_array(
        regexp_replace(
            regexp_replace(
                regexp_replace(
                    translate(normalize(
                        regexp_replace(
                            lower(normalize($1, NFKD) COLLATE "und-x-icu") COLLATE "C",
                            -- What is dropped.
                            '[\u00ad\u0300-\u036f\u200c-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]+', '', 'g'),
                        NFC), 'ς', 'σ') COLLATE "C",
                    -- What separates words.
                    '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u00d7\u00f7\u02c2-\u02c5\u02d2-\u02df'
                    '\u02e5-\u02ff\u0482\u055a-\u055f\u0589-\u058f\u05be\u05c0\u05c3\u05f3-\u05f4\u0600-\u060f'
                    '\u061b-\u061f\u066a-\u066d\u06d4\u06dd-\u06de\u06e9\u06fd-\u06fe\u0700-\u070f\u0964-\u0965\u0970'
                    '\u0df4\u0e3f\u0e4f\u0e5a-\u0e5b\u0f01-\u0f17\u0f3a-\u0f3d\u104a-\u104f\u10fb\u1360-\u1368'
                    '\u1390-\u1399\u1400\u166d-\u166e\u1680\u16eb-\u16ed\u17d4-\u17db\u1800-\u180e\u1940-\u1945'
                    '\u19de-\u19ff\u2000-\u2bff\u2e00-\u3004\u3008-\u3020\u3030\u3036-\u3037\u303d-\u303f\u30a0\u30fb'
                    '\u31c0-\u31ef\u3200-\u33ff\u4dc0-\u4dff\ua490-\ua4cf\ua700-\ua721\ue000-\uf8ff\ufd3e-\ufd4f'
                    '\ufdfc-\ufe6f\uffe0-\uffff\U0001f000-\U0001fbff\U000e0000-\U0010ffff]+', ' ', 'g'),
                -- What is a word by itself.
                '([\u3005-\u3007\u3041-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff'
                '\U00020000-\U0003ffff])', ' \1 ', 'g'),
            -- The longest word.
            '([^ ]{64})[^ ]+', '\1', 'g'),
        ' '), '')
$$;

-- What an asset is found by. Positions leave a gap between two texts, so that no phrase reaches across.
CREATE FUNCTION penstock_document(name text, description text, policy_meta jsonb, tags text[]) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    WITH names AS MATERIALIZED (SELECT penstock_words(name) AS words),
    lexemes AS (
        SELECT format('''^%1$s'':%2$s ''%1$s'':%2$s', word, place) AS lexeme
        FROM names, unnest(words) WITH ORDINALITY AS n (word, place)
        UNION ALL
        SELECT format('''%s'':%s', word, cardinality(words) + 1 + place)
        FROM names, unnest(penstock_words(description)) WITH ORDINALITY AS d (word, place)
        UNION ALL
        SELECT format('''=%s'':%s', word, row_number() OVER (ORDER BY nth, place) + nth)
        FROM jsonb_path_query(policy_meta, 'strict $.** ? (@.type() == "string")') WITH ORDINALITY AS t (found, nth),
            unnest(penstock_words(found #>> '{}')) WITH ORDINALITY AS f (word, place)
    )
    SELECT array_to_tsvector(tags) || coalesce(string_agg(lexeme, ' ')::tsvector, '') FROM lexemes
$$;

-- Assets are numbered as they come in. What was there before is numbered downwards from the start of this sequence, the
-- newest first, so that numbers tell the newer from the older wherever they were given. That orders assets as created_at
-- would if all clocks agreed: a clock that is behind could hide an asset from somebody who reads on page by page.
CREATE SEQUENCE asset_search_numbers START WITH 1099511627776; -- 2^40

CREATE TABLE asset_search (
    number      bigint PRIMARY KEY,
    version_id  uuid     NOT NULL UNIQUE REFERENCES assets ON DELETE CASCADE,
    producer_id uuid     NOT NULL,
    dataset_id  text,
    -- Without parameters, in lower case.
    media_type  text     NOT NULL,
    satoshis    bigint   NOT NULL,
    document    tsvector NOT NULL
);
-- Without a list of pending entries, which every search would have to read.
CREATE INDEX asset_search_document ON asset_search USING gin (document) WITH (fastupdate = off);
CREATE INDEX asset_search_price ON asset_search (satoshis, number);

-- Every word of the names, descriptions and texts, numbered as it came in, and so the common ones early. Completes what was
-- typed in part.
CREATE TABLE asset_words (
    word text COLLATE "C" PRIMARY KEY,
    nth  bigint NOT NULL
);
CREATE SEQUENCE asset_words_numbers;
CREATE INDEX asset_words_beginning ON asset_words (left(word, 2), nth);

CREATE FUNCTION penstock_asset_tags(number bigint, producer_id uuid, dataset_id text, media_type text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT array_remove(ARRAY[
        '*', '#0' || to_hex(number >> 12), '#1' || to_hex(number >> 15), '#2' || to_hex(number >> 18),
        '#3' || to_hex(number >> 20),
        '@p' || producer_id, '@d' || md5(dataset_id), '@m' || media_type, '@f' || split_part(media_type, '/', 1)
    ], NULL)
$$;

-- Enters assets that are not there yet, under these numbers or, where there are none, the next ones.
CREATE FUNCTION penstock_enter_assets(ids uuid[], numbers bigint[]) RETURNS void
LANGUAGE sql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
    -- A price that somebody is changing is waited for, and afterwards changed in what is entered here.
    WITH priced AS MATERIALIZED (SELECT version_id, satoshis FROM prices WHERE version_id = ANY (ids) FOR SHARE),
    given AS MATERIALIZED (
        SELECT coalesce(numbers[g.nth], nextval('asset_search_numbers')) AS number, g.version_id
        FROM unnest(ids) WITH ORDINALITY AS g (version_id, nth)
    ),
    entered AS (
        INSERT INTO asset_search (number, version_id, producer_id, dataset_id, media_type, satoshis, document)
        SELECT g.number, a.version_id, a.producer_id, a.dataset_id, m.essence, coalesce(p.satoshis, 0),
            penstock_document(a.name, a.description, a.policy_meta,
                              penstock_asset_tags(g.number, a.producer_id, a.dataset_id, m.essence))
        FROM given g
        JOIN assets a USING (version_id)
        CROSS JOIN LATERAL (SELECT lower(btrim(split_part(a.media_type, ';', 1)) COLLATE "C")) AS m (essence)
        LEFT JOIN priced p USING (version_id)
        ON CONFLICT (version_id) DO NOTHING
        RETURNING document
    ),
    new_words AS MATERIALIZED (
        SELECT word, nextval('asset_words_numbers') AS nth
        FROM (
            SELECT w.word
            FROM entered, unnest(document) AS d (lexeme), LATERAL (SELECT ltrim(lexeme, '=') COLLATE "C") AS w (word)
            WHERE left(lexeme, 1) NOT IN ('*', '#', '@', '^')
              AND NOT EXISTS (SELECT FROM asset_words known WHERE known.word = w.word)
            GROUP BY w.word
            ORDER BY count(*) DESC
        ) AS w
    )
    -- By the word, so that two of these at a time do not wait for each other's words in circles.
    INSERT INTO asset_words (word, nth) SELECT word, nth FROM new_words ORDER BY word ON CONFLICT DO NOTHING
$$;

CREATE FUNCTION penstock_assets_made() RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
    ids uuid[] := ARRAY(SELECT version_id FROM made);
BEGIN
    IF ids <> '{}' THEN
        PERFORM penstock_enter_assets(ids, NULL);
        -- Pages of the catalogue have changed. One line for them all: any asset is word of that.
        INSERT INTO change_log (tag) VALUES ('asset:' || ids[1]);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER assets_made AFTER INSERT ON assets REFERENCING NEW TABLE AS made
    FOR EACH STATEMENT EXECUTE FUNCTION penstock_assets_made();

-- The node never changes an asset; an operator may. It is entered anew under the number that it has.
CREATE FUNCTION penstock_assets_changed() RETURNS trigger
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
    IF ids IS NOT NULL THEN
        PERFORM penstock_enter_assets(ids, numbers);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER assets_changed AFTER UPDATE ON assets REFERENCING OLD TABLE AS was NEW TABLE AS now_is
    FOR EACH STATEMENT EXECUTE FUNCTION penstock_assets_changed();

CREATE FUNCTION penstock_assets_priced() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE asset_search s SET satoshis = p.satoshis FROM priced p
    WHERE s.version_id = p.version_id AND s.satoshis <> p.satoshis;
    RETURN NULL;
END
$$;
CREATE TRIGGER prices_made AFTER INSERT ON prices REFERENCING NEW TABLE AS priced
    FOR EACH STATEMENT EXECUTE FUNCTION penstock_assets_priced();
CREATE TRIGGER prices_changed AFTER UPDATE ON prices REFERENCING NEW TABLE AS priced
    FOR EACH STATEMENT EXECUTE FUNCTION penstock_assets_priced();

-- How far back the assets that were there before have been entered; gone when all are.
CREATE TABLE asset_search_backfill (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    below  uuid    NOT NULL,
    number bigint  NOT NULL
);
INSERT INTO asset_search_backfill (below, number) VALUES ('ffffffff-ffff-ffff-ffff-ffffffffffff', 1099511627776);

-- Enters up to `most` assets that were there before, the newest first (version ids grow with time); how many it looked at.
CREATE FUNCTION penstock_backfill_search(most integer) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    place asset_search_backfill;
    ids uuid[];
    looked_at bigint;
BEGIN
    SELECT * INTO place FROM asset_search_backfill FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    ids := ARRAY(SELECT version_id FROM assets WHERE version_id < place.below ORDER BY version_id DESC LIMIT most);
    looked_at := cardinality(ids);
    IF looked_at = 0 THEN
        DELETE FROM asset_search_backfill;
        RETURN 0;
    END IF;
    PERFORM penstock_enter_assets(ids, ARRAY(SELECT place.number - n FROM generate_series(1, looked_at) AS n ORDER BY n));
    UPDATE asset_search_backfill SET below = ids[looked_at], number = place.number - looked_at;
    RETURN looked_at;
END
$$;

-- The texts of queries carry {^}, {=} and {} where the word that was typed last stands: it is replaced by all words that
-- begin with it, as far as they are among the 20 that the catalogue has had for longest: each costs a look into the index.
CREATE FUNCTION penstock_query(template text, beginning text) RETURNS tsquery
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    words text[];
BEGIN
    IF beginning IS NOT NULL THEN
        words := array_append(ARRAY(
            SELECT word FROM asset_words
            -- The highest character there is, so the highest word with this beginning is below it.
            WHERE left(word, 2) = left(beginning, 2) AND word >= beginning AND word < beginning || U&'\+10FFFF'
              AND word <> beginning
            ORDER BY nth LIMIT 20), beginning);
        template := replace(template, '{^}', '''^' || array_to_string(words, ''' | ''^') || '''');
        template := replace(template, '{=}', '''=' || array_to_string(words, ''' | ''=') || '''');
        template := replace(template, '{}', '''' || array_to_string(words, ''' | ''') || '''');
    END IF;
    RETURN template::tsquery;
END
$$;

-- A query for what filters ask; NULL when they ask for nothing.
CREATE FUNCTION penstock_filter(producer uuid, dataset text, media text, family text) RETURNS tsquery
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT string_agg('''' || replace(replace(tag, '\', '\\'), '''', '''''') || '''', ' & ')::tsquery
    FROM unnest(ARRAY['@p' || producer, '@d' || md5(dataset), '@m' || media, '@f' || family]) AS asked (tag)
    WHERE tag IS NOT NULL
$$;

-- How many assets a query finds, as far as the statistics tell. Those know the common words; others are thought to be more
-- frequent than they are.
CREATE FUNCTION penstock_expected(query tsquery) RETURNS bigint
LANGUAGE plpgsql STRICT
SET enable_seqscan = off
AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE format('EXPLAIN (FORMAT JSON) SELECT FROM asset_search WHERE document @@ %L', query) INTO plan;
    RETURN plan #>> '{0,Plan,Plan Rows}';
END
$$;

-- Up to `wanted` assets below a number that a query finds and a better one does not, the newest first. Where it may be many, it
-- looks into spans of some 4,000, 32,000 and 256,000 assets and then of a million each; a few thousand are read as they are, for
-- the list of a span is as long as the span. When that has taken longer than a second, as it can when very common words are never
-- together, it ends with a row that has only a number: it has looked at everything down to there.
CREATE FUNCTION penstock_matches(
    query tsquery, better tsquery, below bigint, dataset text, cheapest bigint, dearest bigint, wanted bigint
) RETURNS TABLE (number bigint, version_id uuid, producer_id uuid, dataset_id text, media_type text)
LANGUAGE plpgsql STABLE ROWS 20
SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_custom_plan
AS $$
#variable_conflict use_column
DECLARE
    head bigint := (SELECT max(s.number) + 1 FROM asset_search s WHERE s.number < below);
    expected bigint := penstock_expected(query);
    level integer := CASE WHEN expected > 50000 THEN 0 ELSE 1 END;
    bits integer;
    span bigint;
    looked_for tsquery := query;
    found bigint := 0;
    more bigint;
BEGIN
    IF query IS NULL THEN
        RETURN QUERY SELECT s.number, s.version_id, s.producer_id, s.dataset_id, s.media_type
            FROM asset_search s
            WHERE s.number < head AND s.satoshis BETWEEN cheapest AND dearest
            ORDER BY s.number DESC LIMIT wanted;
        RETURN;
    END IF;
    WHILE found < wanted AND head IS NOT NULL LOOP
        IF expected > 3000 THEN
            bits := (ARRAY[12, 15, 18, 20])[level + 1];
            span := (head - 1) >> bits;
            looked_for := query && format('''#%s%s''', level, to_hex(span))::tsquery;
        END IF;
        -- Found first and ordered then, so that nobody thinks of walking along the numbers instead. What is better is not among
        -- what the index looks for, which would then walk along the lists of those words too.
        RETURN QUERY
            WITH hits AS MATERIALIZED (
                SELECT s.number, s.version_id, s.producer_id, s.dataset_id, s.media_type
                FROM asset_search s
                WHERE s.document @@ looked_for AND s.number < head AND s.satoshis BETWEEN cheapest AND dearest
                  AND (better IS NULL OR NOT s.document @@ better)
                  -- The tag is a digest of it.
                  AND (dataset IS NULL OR s.dataset_id = dataset)
            )
            SELECT * FROM hits ORDER BY number DESC LIMIT wanted - found;
        EXIT WHEN expected <= 3000;
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

-- A page of a query that finds few assets, as penstock_search orders them: all of them are looked at, once for all ranks.
CREATE FUNCTION penstock_few(
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
                (CASE WHEN s.document @@ in_name THEN 3 WHEN s.document @@ in_description THEN 2 ELSE 1 END)::smallint AS rank
            FROM asset_search s
            WHERE s.document @@ query AND s.number <= newest AND s.satoshis BETWEEN cheapest AND dearest
              AND (dataset IS NULL OR s.dataset_id = dataset)
        )
        SELECT h.rank, h.number, h.version_id FROM hits h
        WHERE last_rank IS NULL OR (h.rank, h.number) < (last_rank, last_number)
        ORDER BY h.rank DESC, h.number DESC LIMIT wanted;
END
$$;

-- A page: what is found in names (rank 3), then in descriptions (2), then anywhere (1), each the newest first. It goes on
-- below a rank and a number, or begins. It may end with a row that has no version, as penstock_matches does.
CREATE FUNCTION penstock_search(
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
BEGIN
    newest := coalesce(newest_seen, (SELECT max(s.number) FROM asset_search s));
    IF penstock_expected(query) <= 3000 THEN
        FOR rank, number, version_id IN
            SELECT f.rank, f.number, f.version_id
            FROM penstock_few(queries[3], queries[2], query, dataset, cheapest, dearest, newest, last_rank, last_number,
                              wanted) AS f
        LOOP
            RETURN NEXT;
        END LOOP;
        RETURN;
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

-- The most frequent datasets, producers and media types among the newest `most` assets that are found; and, as kind
-- 'counted' and 'more', how many those are and whether there are others.
CREATE FUNCTION penstock_facets(
    anywhere text, beginning text, producer uuid, dataset text, media text, family text, cheapest bigint, dearest bigint,
    most bigint, top bigint
) RETURNS TABLE (kind text, value text, assets bigint)
LANGUAGE sql STABLE ROWS 60
AS $$
    WITH asked AS MATERIALIZED (
        SELECT penstock_query(anywhere, beginning) AS query, penstock_filter(producer, dataset, media, family) AS filter
    ),
    found AS MATERIALIZED (
        SELECT m.*
        FROM asked, penstock_matches(coalesce(query && filter, query, filter), NULL, 9223372036854775807, dataset,
                                     cheapest, dearest, most + 1) AS m
    ),
    counted AS MATERIALIZED (SELECT * FROM found WHERE version_id IS NOT NULL ORDER BY number DESC LIMIT most)
    (SELECT 'dataset', dataset_id, count(*) FROM counted WHERE dataset_id IS NOT NULL GROUP BY dataset_id
        ORDER BY count(*) DESC, dataset_id COLLATE "C" LIMIT top)
    UNION ALL
    (SELECT 'producer', producer_id::text, count(*) FROM counted GROUP BY producer_id
        ORDER BY count(*) DESC, producer_id LIMIT top)
    UNION ALL
    (SELECT 'media_type', media_type, count(*) FROM counted GROUP BY media_type
        ORDER BY count(*) DESC, media_type COLLATE "C" LIMIT top)
    UNION ALL
    SELECT 'counted', NULL, count(*) FROM counted
    UNION ALL
    SELECT 'more', NULL, count(*) - least(count(version_id), most) FROM found
$$;
