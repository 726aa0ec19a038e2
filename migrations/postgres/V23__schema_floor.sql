-- Which builds may run on this schema beside the one that made it.

CREATE TABLE schema_floor (
    least_version integer NOT NULL,
    -- There is one row.
    is_only       boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (is_only)
);
COMMENT ON TABLE schema_floor IS 'One row: the oldest builds that may run on this schema';
COMMENT ON COLUMN schema_floor.least_version IS
    'A build whose own newest migration is below this does not start. A migration that older builds cannot live with raises it to its own number';
COMMENT ON COLUMN schema_floor.is_only IS 'Keeps the table at one row';

INSERT INTO schema_floor (least_version) VALUES (23);
