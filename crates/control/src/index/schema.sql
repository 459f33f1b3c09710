-- What can be looked for in journals. All of it is made from the journals, and can be made again.

-- How far each journal was read.
CREATE TABLE indexed (
    id         INTEGER PRIMARY KEY,
    node_id    TEXT NOT NULL,
    session_id TEXT NOT NULL,
    seq        BIGINT NOT NULL,
    agent      TEXT NOT NULL,
    started    BIGINT,
    lost       BIGINT NOT NULL,
    UNIQUE (node_id, session_id)
);

CREATE TABLE events_ix (
    id       INTEGER PRIMARY KEY,
    session  BIGINT NOT NULL,
    seq      BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    kind     TEXT NOT NULL,
    request  TEXT,
    verdict  TEXT,
    rule     TEXT,
    host     TEXT,
    port     BIGINT,
    exe      TEXT,
    path     TEXT,
    decision BIGINT,
    text     TEXT NOT NULL
);
CREATE UNIQUE INDEX events_by_session ON events_ix (session, seq);
CREATE INDEX events_by_time ON events_ix (at);
CREATE INDEX events_by_verdict ON events_ix (verdict, at);
CREATE INDEX events_by_host ON events_ix (host, at);
CREATE INDEX events_by_decision ON events_ix (session, decision) WHERE decision IS NOT NULL;
CREATE VIRTUAL TABLE events_text USING fts5 (text, content = 'events_ix', content_rowid = 'id');

-- Who of a session talked to whom.
CREATE TABLE flows (
    session     BIGINT NOT NULL,
    exe         TEXT NOT NULL,
    host        TEXT NOT NULL,
    port        BIGINT NOT NULL,
    verdict     TEXT NOT NULL,
    rule        TEXT NOT NULL,
    count       BIGINT NOT NULL,
    connections BIGINT NOT NULL,
    bytes_out   BIGINT NOT NULL,
    bytes_in    BIGINT NOT NULL,
    first_at    BIGINT NOT NULL,
    last_at     BIGINT NOT NULL,
    last_seq    BIGINT NOT NULL,
    PRIMARY KEY (session, exe, host, port, verdict, rule)
) WITHOUT ROWID;
CREATE INDEX flows_by_time ON flows (last_at);

-- Every host that any session named, since when.
CREATE TABLE hosts (
    host     TEXT PRIMARY KEY,
    first_at BIGINT NOT NULL
) WITHOUT ROWID;

-- What a person should look at.
CREATE TABLE raised (
    session  BIGINT NOT NULL,
    seq      BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    kind     TEXT NOT NULL,
    severity TEXT NOT NULL,
    title    TEXT NOT NULL,
    detail   TEXT NOT NULL,
    PRIMARY KEY (session, seq)
) WITHOUT ROWID;
CREATE INDEX raised_by_time ON raised (at);
