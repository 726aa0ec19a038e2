-- One table of leases for all work that one instance at a time does, by this machine's clock: the pruner of lineage, walk, lifecycle and
-- moves. Earlier versions have the pruner's lease in lineage_leases, and say in storage_tasks until when a task is held. Both stay for them;
-- one process at a time has the file.
CREATE TABLE task_leases (
    task       TEXT    NOT NULL PRIMARY KEY,
    holder     BLOB    NOT NULL,
    -- Grows with each new holder: a write of an earlier holder is refused.
    token      INTEGER NOT NULL,
    held_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
