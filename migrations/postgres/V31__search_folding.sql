-- What a search does not tell apart: case by Unicode's full case folding (`STRASSE` finds `Straße`), the accents and points of all
-- scripts (`محمد` finds `مُحَمَّد`), strokes through letters (`lodz` finds `Łódź`), and apostrophes of every kind.

-- The words of a text, as `words` in actors/src/search/words.rs has them; a test compares the two. By way of the upper case, which is
-- how `ß` becomes `ss`. PostgreSQL folds a contextual final sigma into one of its own, which is why it is translated.
CREATE OR REPLACE FUNCTION penstock_words(text) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT array_remove(string_to_array(
        regexp_replace(
            regexp_replace(
                regexp_replace(
                    normalize(replace(replace(replace(translate(
                        lower(upper(lower(
                            -- What is dropped.
                            regexp_replace(normalize($1, NFKD) COLLATE "C",
                            '[\u00ad\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1-\u05c2\u05c4-\u05c5\u05c7\u0610-\u061a'
                            '\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7-\u06e8\u06ea-\u06ed\u0711\u0730-\u074a'
                            '\u07eb-\u07f3\u07fd\u0816-\u0819\u081b-\u0823\u0825-\u0827\u0829-\u082d\u0859-\u085b\u0898-\u089f'
                            '\u08ca-\u08e1\u08e3-\u08ff\u093c\u0951-\u0954\u09bc\u09fe\u0a3c\u0abc\u0b3c\u0c3c\u0cbc\u0f18-\u0f19'
                            '\u0f35\u0f37\u0f39\u0f82-\u0f83\u0f86-\u0f87\u0fc6\u1037\u108d\u135d-\u135f\u17dd\u180b-\u180e\u18a9'
                            '\u1939-\u193b\u1a17-\u1a18\u1a75-\u1a7c\u1a7f\u1ab0-\u1abd\u1abf-\u1ace\u1b34\u1b6b-\u1b73\u1be6'
                            '\u1c37\u1cd0-\u1cd2\u1cd4-\u1ce0\u1ce2-\u1ce8\u1ced\u1cf4\u1cf8-\u1cf9\u1dc0-\u1dff\u200c-\u200f'
                            '\u202a-\u202e\u2060-\u2069\u20d0-\u20dc\u20e1\u20e5-\u20f0\u2cef-\u2cf1\u2de0-\u2dff\u302a-\u302f'
                            '\ua66f\ua674-\ua67d\ua69e-\ua69f\ua6f0-\ua6f1\ua8e0-\ua8f1\ua92b-\ua92d\ua9b3\uaab0\uaab2-\uaab4'
                            '\uaab7-\uaab8\uaabe-\uaabf\uaac1\ufb1e\ufe00-\ufe0f\ufe20-\ufe2f\ufeff\U000101fd\U000102e0'
                            '\U00010376-\U0001037a\U00010a0d\U00010a0f\U00010a38-\U00010a3a\U00010ae5-\U00010ae6'
                            '\U00010d24-\U00010d27\U00010eab-\U00010eac\U00010f46-\U00010f50\U00010f82-\U00010f85\U000110ba'
                            '\U00011100-\U00011102\U00011173\U000111ca\U00011236\U000112e9\U0001133b-\U0001133c'
                            '\U00011366-\U0001136c\U00011370-\U00011374\U00011446\U0001145e\U000114c3\U000115c0\U000116b7'
                            '\U0001183a\U00011943\U00011d42\U00016af0-\U00016af4\U00016b30-\U00016b36\U0001bc9e'
                            '\U0001d165-\U0001d169\U0001d16d-\U0001d172\U0001d17b-\U0001d182\U0001d185-\U0001d18b'
                            '\U0001d1aa-\U0001d1ad\U0001d242-\U0001d244\U0001e000-\U0001e006\U0001e008-\U0001e018'
                            '\U0001e01b-\U0001e021\U0001e023-\U0001e024\U0001e026-\U0001e02a\U0001e130-\U0001e136\U0001e2ae'
                            '\U0001e2ec-\U0001e2ef\U0001e8d0-\U0001e8d6\U0001e944-\U0001e94a]+', '', 'g')
                            COLLATE "und-x-icu"))) COLLATE "C",
                        'ςðøđħłŧƀƚƶǥȼɇɉɍɏɨɫɵʉᵽⱡⱥⱦꝁ', 'σdodhltblzgcejryilouplatk'), 'æ', 'ae'), 'þ', 'th'), 'œ', 'oe'), NFC) COLLATE "C",
                    -- What separates words.
                    '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u00d7\u00f7\u02b9-\u02bf\u02c2-\u02c5'
                    '\u02d2-\u02df\u02e5-\u02ff\u0482\u055a-\u055f\u0589-\u058f\u05be\u05c0\u05c3\u05f3-\u05f4'
                    '\u0600-\u060f\u061b-\u061f\u066a-\u066d\u06d4\u06dd-\u06de\u06e9\u06fd-\u06fe\u0700-\u070f'
                    '\u0964-\u0965\u0970\u0df4\u0e3f\u0e4f\u0e5a-\u0e5b\u0f01-\u0f17\u0f3a-\u0f3d\u104a-\u104f\u10fb'
                    '\u1360-\u1368\u1390-\u1399\u1400\u166d-\u166e\u1680\u16eb-\u16ed\u17d4-\u17db\u1800-\u180e'
                    '\u1940-\u1945\u19de-\u19ff\u2000-\u2bff\u2e00-\u3004\u3008-\u3020\u3030\u3036-\u3037\u303d-\u303f'
                    '\u30a0\u30fb\u31c0-\u31ef\u3200-\u33ff\u4dc0-\u4dff\ua490-\ua4cf\ua700-\ua721\ue000-\uf8ff'
                    '\ufd3e-\ufd4f\ufdfc-\ufe6f\uffe0-\uffff\U0001f000-\U0001fbff\U000e0000-\U0010ffff]+', ' ', 'g'),
                -- What is a word by itself.
                '([\u3005-\u3007\u3041-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff'
                '\U00020000-\U0003ffff])', ' \1 ', 'g'),
            -- The longest word.
            '([^ ]{64})[^ ]+', '\1', 'g'),
        ' '), '')
$$;

-- How far back the assets that were entered with the words of before have been entered anew; gone when all are.
CREATE TABLE asset_search_refold (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    below bigint NOT NULL
);
INSERT INTO asset_search_refold (below) VALUES (9223372036854775807);
COMMENT ON TABLE asset_search_refold IS 'How far assets have been entered anew since their words are folded otherwise. One row.';
COMMENT ON COLUMN asset_search_refold.one IS 'Keeps it one row.';
COMMENT ON COLUMN asset_search_refold.below IS 'Assets below this number are still to be looked at; the row goes when none is left.';

-- Enters up to `most` assets anew, the newest first, each under the number that it has; how many it looked at. Texts in ASCII have
-- the words that they had.
CREATE FUNCTION penstock_refold_search(most integer) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    place asset_search_refold;
    seen bigint[];
    ids uuid[];
    numbers bigint[];
BEGIN
    SELECT * INTO place FROM asset_search_refold FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    seen := ARRAY(SELECT s.number FROM asset_search s WHERE s.number < place.below ORDER BY s.number DESC LIMIT most);
    IF seen = '{}' THEN
        DELETE FROM asset_search_refold;
        RETURN 0;
    END IF;
    WITH gone AS (
        DELETE FROM asset_search s USING assets a
        WHERE s.number = ANY (seen) AND a.version_id = s.version_id
          AND (a.name || a.description || a.policy_meta::text) COLLATE "C" ~ '[^\u0001-\u007f]'
        RETURNING s.version_id, s.number
    )
    SELECT array_agg(version_id), array_agg(number) INTO ids, numbers FROM gone;
    PERFORM penstock_enter_all(ids, numbers);
    UPDATE asset_search_refold SET below = seen[cardinality(seen)];
    RETURN cardinality(seen);
END
$$;
