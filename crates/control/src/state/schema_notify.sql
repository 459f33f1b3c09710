-- Who is told of what: channels, what they are told of, and each delivery.

-- A channel with an owner is the mail address of that person.
CREATE TABLE channels (
    org_id   TEXT NOT NULL,
    id       TEXT NOT NULL,
    settings TEXT NOT NULL,
    secret   TEXT NOT NULL,
    owner    TEXT NOT NULL,
    created  BIGINT NOT NULL,
    skipped  BIGINT NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX channels_by_owner ON channels (org_id, owner);

-- What happened, in the transaction in which it happened. The event is the same for what is to be told once;
-- the source is a machine and a kind, of which only so many are told in some minutes.
CREATE TABLE notices (
    id     INTEGER PRIMARY KEY,
    org_id TEXT NOT NULL,
    event  TEXT NOT NULL,
    source TEXT NOT NULL,
    notice TEXT NOT NULL,
    at     BIGINT NOT NULL,
    spread BIGINT
);
CREATE UNIQUE INDEX notices_by_event ON notices (org_id, event);
CREATE INDEX notices_by_spread ON notices (org_id, spread, id);
CREATE INDEX notices_by_source ON notices (org_id, source, at);

-- `waiting`, `sent`, `moot` or `dead`.
CREATE TABLE deliveries (
    org_id     TEXT NOT NULL,
    id         TEXT NOT NULL,
    channel_id TEXT NOT NULL,
    notice     TEXT NOT NULL,
    state      TEXT NOT NULL,
    attempts   BIGINT NOT NULL,
    due        BIGINT NOT NULL,
    created    BIGINT NOT NULL,
    ended      BIGINT,
    error      TEXT,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX deliveries_by_due ON deliveries (org_id, state, channel_id, due);
