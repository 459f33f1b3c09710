-- Terminals in which people are signed in, and approver keys.

CREATE TABLE terminals (
    org_id    TEXT NOT NULL,
    id        TEXT NOT NULL,
    hash      TEXT NOT NULL,
    user_id   TEXT NOT NULL,
    machine   TEXT NOT NULL,
    address   TEXT NOT NULL,
    signed_in BIGINT NOT NULL,
    created   BIGINT NOT NULL,
    expires   BIGINT NOT NULL,
    last_used BIGINT NOT NULL,
    revoked   BIGINT,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX terminals_by_hash ON terminals (org_id, hash);
CREATE INDEX terminals_by_user ON terminals (org_id, user_id);

-- The id is that of the public key: it is registered once, and not again after it was revoked.
CREATE TABLE approver_keys (
    org_id      TEXT NOT NULL,
    id          TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    key         TEXT NOT NULL,
    label       TEXT NOT NULL,
    created     BIGINT NOT NULL,
    approved    BIGINT,
    approved_by TEXT,
    revoked     BIGINT,
    revoked_by  TEXT,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX approver_keys_by_user ON approver_keys (org_id, user_id);
