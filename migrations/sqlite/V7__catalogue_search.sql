-- Search over the catalogue, kept by triggers.
--
-- The index has no copy of the texts, only their words: `penstock_words` and `penstock_texts` are functions that the node adds to
-- its connections, so that a word here is what it is everywhere else. They give words with spaces between them, and a broken
-- bar, which is in no word, between two texts. The tags are words of that kind too: they begin with a broken bar.

-- Assets are numbered as they come in, because that is the order of results. The rowids of `assets` would not do: they change
-- when the file is vacuumed.
CREATE TABLE asset_search (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    version_id  BLOB    NOT NULL UNIQUE REFERENCES assets (version_id) ON DELETE CASCADE,
    producer_id BLOB    NOT NULL,
    dataset_id  TEXT,
    -- Without parameters, in lower case.
    media_type  TEXT    NOT NULL,
    satoshis    INTEGER NOT NULL
) STRICT;

-- By number. The tokenizer takes everything but ASCII punctuation and spaces for a part of a word.
CREATE VIRTUAL TABLE asset_texts USING fts5 (
    name, description, policy_meta, tags, content = '', contentless_delete = 1, tokenize = 'ascii'
);

CREATE TRIGGER assets_made AFTER INSERT ON assets BEGIN
    INSERT INTO asset_search (version_id, producer_id, dataset_id, media_type, satoshis) VALUES (
        new.version_id, new.producer_id, new.dataset_id,
        lower(trim(substr(new.media_type || ';', 1, instr(new.media_type || ';', ';') - 1))),
        coalesce((SELECT satoshis FROM prices WHERE version_id = new.version_id), 0));
    INSERT INTO asset_texts (rowid, name, description, policy_meta, tags)
        SELECT number, penstock_words(new.name), penstock_words(new.description), penstock_texts(new.policy_meta),
            '¦all ¦p' || hex(producer_id) || coalesce(' ¦d' || hex(dataset_id), '') || ' ¦m' || hex(media_type)
            || ' ¦f' || hex(substr(media_type, 1, instr(media_type || '/', '/') - 1))
        FROM asset_search WHERE version_id = new.version_id;
    -- Pages of the catalogue have changed.
    INSERT INTO change_log (kind, subject) VALUES ('asset', new.version_id);
END;

-- The node never changes an asset; an operator may.
CREATE TRIGGER assets_changed
AFTER UPDATE OF producer_id, dataset_id, media_type, name, description, policy_meta ON assets BEGIN
    UPDATE asset_search SET
        producer_id = new.producer_id, dataset_id = new.dataset_id,
        media_type = lower(trim(substr(new.media_type || ';', 1, instr(new.media_type || ';', ';') - 1)))
    WHERE version_id = new.version_id;
    DELETE FROM asset_texts WHERE rowid = (SELECT number FROM asset_search WHERE version_id = new.version_id);
    INSERT INTO asset_texts (rowid, name, description, policy_meta, tags)
        SELECT number, penstock_words(new.name), penstock_words(new.description), penstock_texts(new.policy_meta),
            '¦all ¦p' || hex(producer_id) || coalesce(' ¦d' || hex(dataset_id), '') || ' ¦m' || hex(media_type)
            || ' ¦f' || hex(substr(media_type, 1, instr(media_type || '/', '/') - 1))
        FROM asset_search WHERE version_id = new.version_id;
END;

CREATE TRIGGER asset_search_gone AFTER DELETE ON asset_search BEGIN
    DELETE FROM asset_texts WHERE rowid = old.number;
END;

CREATE TRIGGER prices_made AFTER INSERT ON prices BEGIN
    UPDATE asset_search SET satoshis = new.satoshis WHERE version_id = new.version_id;
END;

CREATE TRIGGER prices_changed AFTER UPDATE ON prices BEGIN
    UPDATE asset_search SET satoshis = new.satoshis WHERE version_id = new.version_id;
END;

-- What is there already, the oldest first.
INSERT INTO asset_search (version_id, producer_id, dataset_id, media_type, satoshis)
    SELECT a.version_id, a.producer_id, a.dataset_id,
        lower(trim(substr(a.media_type || ';', 1, instr(a.media_type || ';', ';') - 1))), coalesce(p.satoshis, 0)
    FROM assets a LEFT JOIN prices p ON p.version_id = a.version_id
    ORDER BY a.created_at, a.version_id;
INSERT INTO asset_texts (rowid, name, description, policy_meta, tags)
    SELECT s.number, penstock_words(a.name), penstock_words(a.description), penstock_texts(a.policy_meta),
        '¦all ¦p' || hex(s.producer_id) || coalesce(' ¦d' || hex(s.dataset_id), '') || ' ¦m' || hex(s.media_type)
        || ' ¦f' || hex(substr(s.media_type, 1, instr(s.media_type || '/', '/') - 1))
    FROM asset_search s JOIN assets a ON a.version_id = s.version_id
    ORDER BY s.number;
