-- Changes of policy: proposals, and how a candidate reaches the machines.

CREATE TABLE proposals (
    org_id      TEXT NOT NULL,
    id          TEXT NOT NULL,
    base        BIGINT NOT NULL,
    text        TEXT NOT NULL,
    message     TEXT NOT NULL,
    author      TEXT NOT NULL,
    created     BIGINT NOT NULL,
    state       TEXT NOT NULL,
    reviewer    TEXT,
    reviewed    BIGINT,
    reason      TEXT,
    serial      BIGINT,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX proposals_by_time ON proposals (org_id, created);

CREATE TABLE rollouts (
    org_id     TEXT NOT NULL,
    id         TEXT NOT NULL,
    channel    TEXT NOT NULL,
    serial     BIGINT NOT NULL,
    text       TEXT NOT NULL,
    plan       TEXT NOT NULL,
    state      TEXT NOT NULL,
    step       BIGINT NOT NULL,
    step_since BIGINT NOT NULL,
    issued     BIGINT NOT NULL,
    started    BIGINT NOT NULL,
    why        TEXT NOT NULL,
    version    BIGINT NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX rollouts_by_serial ON rollouts (org_id, channel, serial);

-- What was done with a rollout, the last thing last.
CREATE TABLE rollout_moves (
    id         INTEGER PRIMARY KEY,
    org_id     TEXT NOT NULL,
    rollout_id TEXT NOT NULL,
    at         BIGINT NOT NULL,
    moved_by   TEXT NOT NULL,
    from_step  BIGINT NOT NULL,
    to_step    BIGINT NOT NULL,
    state      TEXT NOT NULL,
    why        TEXT NOT NULL
);
CREATE INDEX rollout_moves_by_rollout ON rollout_moves (org_id, rollout_id, id);

-- What sessions that began in a step came to; kept as long as the rollout goes on.
CREATE TABLE rollout_sessions (
    org_id           TEXT NOT NULL,
    rollout_id       TEXT NOT NULL,
    step             BIGINT NOT NULL,
    node_id          TEXT NOT NULL,
    session_id       TEXT NOT NULL,
    arm              TEXT NOT NULL,
    decisions        BIGINT NOT NULL,
    denied           BIGINT NOT NULL,
    asked            BIGINT NOT NULL,
    lasts_ms         BIGINT NOT NULL,
    not_started      BIGINT NOT NULL,
    compared         BIGINT NOT NULL,
    differed         BIGINT NOT NULL,
    compared_denied  BIGINT NOT NULL,
    candidate_denied BIGINT NOT NULL,
    compared_asked   BIGINT NOT NULL,
    candidate_asked  BIGINT NOT NULL,
    PRIMARY KEY (org_id, rollout_id, step, node_id, session_id)
);

-- Where the rollout stood when a machine said what became of its bundle; nothing if the bundle itself failed.
ALTER TABLE acks ADD COLUMN step BIGINT;
ALTER TABLE acks ADD COLUMN arm TEXT;

-- Who has reported a refusal of a candidate as wrong.
CREATE TABLE rollout_reports (
    org_id     TEXT NOT NULL,
    rollout_id TEXT NOT NULL,
    step       BIGINT NOT NULL,
    user_id    TEXT NOT NULL,
    reason     TEXT NOT NULL,
    at         BIGINT NOT NULL,
    PRIMARY KEY (org_id, rollout_id, step, user_id)
);
