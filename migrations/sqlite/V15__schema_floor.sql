-- Which builds may run on this schema beside the one that made it.

CREATE TABLE schema_floor (
    -- There is one row.
    is_only       INTEGER NOT NULL PRIMARY KEY CHECK (is_only = 1),
    -- A build whose own newest migration is below this does not start. A migration that older builds cannot live with raises it to its own
    -- number.
    least_version INTEGER NOT NULL
) STRICT;

INSERT INTO schema_floor (is_only, least_version) VALUES (1, 15);
