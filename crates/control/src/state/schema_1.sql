-- Portable SQL: text, 64-bit numbers, milliseconds since 1970, JSON as text. Every table has org_id.

CREATE TABLE users (
    org_id    TEXT NOT NULL,
    id        TEXT NOT NULL,
    name      TEXT NOT NULL,
    state     TEXT NOT NULL,
    created   BIGINT NOT NULL,
    last_seen BIGINT,
    version   BIGINT NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX users_by_name ON users (org_id, name);

CREATE TABLE passkeys (
    org_id    TEXT NOT NULL,
    id        TEXT NOT NULL,
    user_id   TEXT NOT NULL,
    passkey   TEXT NOT NULL,
    label     TEXT NOT NULL,
    created   BIGINT NOT NULL,
    last_used BIGINT,
    revoked   BIGINT,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX passkeys_by_user ON passkeys (org_id, user_id);

CREATE TABLE secrets (
    org_id  TEXT NOT NULL,
    user_id TEXT NOT NULL,
    kind    TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (org_id, user_id, kind)
);

CREATE TABLE role_bindings (
    org_id     TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    role       TEXT NOT NULL,
    granted_by TEXT NOT NULL,
    granted    BIGINT NOT NULL,
    PRIMARY KEY (org_id, user_id, role)
);

-- Links that work once: the first administrator's, and invitations.
CREATE TABLE links (
    org_id     TEXT NOT NULL,
    hash       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    roles      TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created    BIGINT NOT NULL,
    expires    BIGINT NOT NULL,
    used       BIGINT,
    PRIMARY KEY (org_id, hash)
);

CREATE TABLE web_sessions (
    org_id     TEXT NOT NULL,
    hash       TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    csrf       TEXT NOT NULL,
    method     TEXT NOT NULL,
    created    BIGINT NOT NULL,
    seen       BIGINT NOT NULL,
    signed_in  BIGINT NOT NULL,
    expires    BIGINT NOT NULL,
    PRIMARY KEY (org_id, hash)
);
CREATE INDEX web_sessions_by_user ON web_sessions (org_id, user_id);

CREATE TABLE tokens (
    org_id     TEXT NOT NULL,
    id         TEXT NOT NULL,
    hash       TEXT NOT NULL,
    name       TEXT NOT NULL,
    role       TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created    BIGINT NOT NULL,
    expires    BIGINT NOT NULL,
    last_used  BIGINT,
    revoked    BIGINT,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX tokens_by_hash ON tokens (org_id, hash);

CREATE TABLE enrol_tokens (
    org_id     TEXT NOT NULL,
    hash       TEXT NOT NULL,
    owner      TEXT,
    created_by TEXT NOT NULL,
    created    BIGINT NOT NULL,
    expires    BIGINT NOT NULL,
    used       BIGINT,
    node_id    TEXT,
    PRIMARY KEY (org_id, hash)
);

CREATE TABLE nodes (
    org_id           TEXT NOT NULL,
    id               TEXT NOT NULL,
    name             TEXT NOT NULL,
    owner            TEXT,
    install          TEXT NOT NULL,
    key              TEXT NOT NULL,
    journal_key      TEXT NOT NULL,
    facts            TEXT NOT NULL,
    enrolled         BIGINT NOT NULL,
    retired          BIGINT,
    last_seen        BIGINT,
    directory_serial BIGINT NOT NULL,
    bundle           TEXT,
    clock_skew_ms    BIGINT NOT NULL,
    version          BIGINT NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX nodes_by_key ON nodes (org_id, key);

CREATE TABLE node_certs (
    org_id      TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    node_id     TEXT NOT NULL,
    not_before  BIGINT NOT NULL,
    not_after   BIGINT NOT NULL,
    PRIMARY KEY (org_id, fingerprint)
);

CREATE TABLE sessions (
    org_id        TEXT NOT NULL,
    node_id       TEXT NOT NULL,
    session_id    TEXT NOT NULL,
    live          BIGINT NOT NULL,
    started       BIGINT,
    ended         BIGINT,
    summary       TEXT NOT NULL,
    stored_offset BIGINT NOT NULL,
    events        BIGINT NOT NULL,
    chain         TEXT NOT NULL,
    closed        BIGINT NOT NULL,
    fault         TEXT,
    updated       BIGINT NOT NULL,
    PRIMARY KEY (org_id, node_id, session_id)
);
CREATE INDEX sessions_by_time ON sessions (org_id, updated);

CREATE TABLE questions (
    org_id      TEXT NOT NULL,
    id          TEXT NOT NULL,
    node_id     TEXT NOT NULL,
    session_id  TEXT NOT NULL,
    approval_id TEXT NOT NULL,
    sent        TEXT NOT NULL,
    rendered    TEXT NOT NULL,
    requesters  TEXT NOT NULL,
    asked       BIGINT NOT NULL,
    expires     BIGINT NOT NULL,
    state       TEXT NOT NULL,
    closed      BIGINT,
    why         TEXT,
    delivered   BIGINT,
    version     BIGINT NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX questions_by_asking ON questions (org_id, node_id, session_id, approval_id);
CREATE INDEX questions_by_state ON questions (org_id, state, expires);

CREATE TABLE votes (
    org_id      TEXT NOT NULL,
    question_id TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    stage       TEXT NOT NULL,
    choice      TEXT NOT NULL,
    at          BIGINT NOT NULL,
    vote        TEXT NOT NULL,
    PRIMARY KEY (org_id, question_id, user_id)
);

CREATE TABLE grants (
    org_id      TEXT NOT NULL,
    question_id TEXT NOT NULL,
    envelope    TEXT NOT NULL,
    issued      BIGINT NOT NULL,
    not_after   BIGINT NOT NULL,
    PRIMARY KEY (org_id, question_id)
);

CREATE TABLE directories (
    org_id   TEXT NOT NULL,
    serial   BIGINT NOT NULL,
    digest   TEXT NOT NULL,
    envelope TEXT NOT NULL,
    issued   BIGINT NOT NULL,
    PRIMARY KEY (org_id, serial)
);

CREATE TABLE roots (
    org_id   TEXT NOT NULL,
    version  BIGINT NOT NULL,
    envelope TEXT NOT NULL,
    issued   BIGINT NOT NULL,
    PRIMARY KEY (org_id, version)
);

CREATE TABLE bundles (
    org_id    TEXT NOT NULL,
    channel   TEXT NOT NULL,
    serial    BIGINT NOT NULL,
    digest    TEXT NOT NULL,
    text      TEXT NOT NULL,
    envelope  TEXT NOT NULL,
    author    TEXT NOT NULL,
    message   TEXT NOT NULL,
    published BIGINT NOT NULL,
    PRIMARY KEY (org_id, channel, serial)
);

CREATE TABLE acks (
    org_id     TEXT NOT NULL,
    node_id    TEXT NOT NULL,
    channel    TEXT NOT NULL,
    session_id TEXT NOT NULL,
    serial     BIGINT NOT NULL,
    state      TEXT NOT NULL,
    error      TEXT,
    at         BIGINT NOT NULL,
    PRIMARY KEY (org_id, node_id, channel, session_id)
);

CREATE TABLE orders (
    org_id     TEXT NOT NULL,
    id         TEXT NOT NULL,
    node_id    TEXT NOT NULL,
    session_id TEXT NOT NULL,
    envelope   TEXT NOT NULL,
    given_by   TEXT NOT NULL,
    issued     BIGINT NOT NULL,
    not_after  BIGINT NOT NULL,
    PRIMARY KEY (org_id, id)
);

-- What machines did that they must not.
CREATE TABLE findings (
    id         INTEGER PRIMARY KEY,
    org_id     TEXT NOT NULL,
    node_id    TEXT NOT NULL,
    session_id TEXT,
    kind       TEXT NOT NULL,
    detail     TEXT NOT NULL,
    at         BIGINT NOT NULL
);

-- Events of the server itself: written in the transaction of what they are about, then moved to its record.
CREATE TABLE records (
    id     INTEGER PRIMARY KEY,
    org_id TEXT NOT NULL,
    at     BIGINT NOT NULL,
    event  TEXT NOT NULL
);
