-- Headers of the blocks of the chain, by which payments on chain are verified: all branches that fulfilled the rules of the network. A row
-- for each block since the first one, and none is removed.
CREATE TABLE block_headers (
    height     INTEGER NOT NULL CHECK (height >= 0),
    -- The double SHA-256 of the header, as the wire has it.
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    -- The header as it is hashed.
    header     BLOB    NOT NULL CHECK (length(header) = 80),
    -- 256 bits, the highest byte first, so that the order of the bytes is that of the numbers.
    total_work BLOB    NOT NULL CHECK (length(total_work) = 32),
    PRIMARY KEY (height, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX block_headers_work ON block_headers (total_work);
