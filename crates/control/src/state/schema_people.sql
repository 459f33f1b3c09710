-- People at identity providers, jobs of platforms, and whose sessions run on machines.

CREATE TABLE identities (
    org_id   TEXT NOT NULL,
    issuer   TEXT NOT NULL,
    subject  TEXT NOT NULL,
    user_id  TEXT NOT NULL,
    created  BIGINT NOT NULL,
    last_in  BIGINT,
    PRIMARY KEY (org_id, issuer, subject)
);
CREATE INDEX identities_by_user ON identities (org_id, user_id);

-- Which jobs of a platform may enrol a machine.
CREATE TABLE enrol_rules (
    org_id     TEXT NOT NULL,
    id         TEXT NOT NULL,
    rule       TEXT NOT NULL,
    created    BIGINT NOT NULL,
    PRIMARY KEY (org_id, id)
);

-- Machines of jobs: they belong to the organisation as long as their first certificate is valid.
CREATE TABLE job_nodes (
    org_id  TEXT NOT NULL,
    node_id TEXT NOT NULL,
    rule    TEXT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (org_id, node_id)
);

-- Tokens of jobs that were used, until they expire.
CREATE TABLE used_tokens (
    org_id  TEXT NOT NULL,
    issuer  TEXT NOT NULL,
    jti     TEXT NOT NULL,
    expires BIGINT NOT NULL,
    PRIMARY KEY (org_id, issuer, jti)
);
