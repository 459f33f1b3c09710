-- What people make of findings.
CREATE TABLE triage (
    org_id   TEXT NOT NULL,
    finding  TEXT NOT NULL,
    state    TEXT NOT NULL,
    assignee TEXT,
    note     TEXT NOT NULL,
    by_user  TEXT NOT NULL,
    at       BIGINT NOT NULL,
    PRIMARY KEY (org_id, finding)
);

-- Who looked at what people and models said, so that the person concerned sees it.
CREATE TABLE content_reads (
    org_id     TEXT NOT NULL,
    id         TEXT NOT NULL,
    node_id    TEXT NOT NULL,
    session_id TEXT NOT NULL,
    owner      TEXT,
    by_user    TEXT NOT NULL,
    reason     TEXT NOT NULL,
    at         BIGINT NOT NULL,
    not_after  BIGINT NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX content_reads_by_owner ON content_reads (org_id, owner, at);
CREATE INDEX sessions_by_start ON sessions (org_id, started);
