-- What a search does not tell apart has grown: case by Unicode's full case folding, the accents and points of all scripts, strokes
-- through letters, apostrophes of every kind. Assets with other texts than ASCII are entered anew under the numbers that they
-- have; those in ASCII have the words that they had.

CREATE TEMPORARY TABLE refolded AS
    SELECT s.number
    FROM asset_search s JOIN assets a ON a.version_id = s.version_id
    WHERE (a.name || a.description || a.policy_meta) GLOB '*[^' || char(1) || '-' || char(127) || ']*';
DELETE FROM asset_texts WHERE rowid IN (SELECT number FROM refolded);
INSERT INTO asset_texts (rowid, name, description, policy_meta, tags)
    SELECT s.number, penstock_words(a.name), penstock_words(a.description), penstock_texts(a.policy_meta),
        '¦all ¦p' || hex(s.producer_id) || coalesce(' ¦d' || hex(s.dataset_id), '') || ' ¦m' || hex(s.media_type)
        || ' ¦f' || hex(substr(s.media_type, 1, instr(s.media_type || '/', '/') - 1))
    FROM refolded r
    JOIN asset_search s ON s.number = r.number
    JOIN assets a ON a.version_id = s.version_id
    ORDER BY s.number;
DROP TABLE refolded;
