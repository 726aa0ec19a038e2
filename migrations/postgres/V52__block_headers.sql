-- Headers of the blocks of the chain, by which payments on chain are verified. All instances share them.
CREATE TABLE block_headers (
    height     bigint NOT NULL CHECK (height >= 0),
    hash       bytea  NOT NULL CHECK (octet_length(hash) = 32),
    header     bytea  NOT NULL CHECK (octet_length(header) = 80),
    total_work bytea  NOT NULL CHECK (octet_length(total_work) = 32),
    PRIMARY KEY (height, hash)
);
CREATE INDEX block_headers_work ON block_headers (total_work);
COMMENT ON TABLE block_headers IS 'Headers of all branches that fulfilled the rules of the network. A row for each block since the first one, and none is removed.';
COMMENT ON COLUMN block_headers.height IS 'The number of blocks before it.';
COMMENT ON COLUMN block_headers.hash IS 'The double SHA-256 of the header, as the wire has it.';
COMMENT ON COLUMN block_headers.header IS 'The header as it is hashed.';
COMMENT ON COLUMN block_headers.total_work IS 'The expected number of hashes behind the chain up to this block: 256 bits, the highest byte first, so that the order of the bytes is that of the numbers.';
