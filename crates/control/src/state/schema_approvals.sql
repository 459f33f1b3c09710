-- What approvals need beside questions and votes.

-- Overrides that another person has to look at.
CREATE TABLE review_tasks (
    org_id      TEXT NOT NULL,
    question_id TEXT NOT NULL,
    breaker     TEXT NOT NULL,
    made        BIGINT NOT NULL,
    due         BIGINT NOT NULL,
    done        BIGINT,
    done_by     TEXT,
    justified   BIGINT,
    note        TEXT,
    overdue     BIGINT,
    PRIMARY KEY (org_id, question_id)
);
CREATE INDEX review_tasks_by_due ON review_tasks (org_id, done, due);

-- When a question is to be looked at again, because a stage of it asks others from then on.
CREATE TABLE looks (
    org_id      TEXT NOT NULL,
    question_id TEXT NOT NULL,
    due         BIGINT NOT NULL,
    PRIMARY KEY (org_id, question_id)
);
CREATE INDEX looks_by_due ON looks (org_id, due);

-- Keys with which people answer without a browser.
CREATE TABLE approver_keys (
    org_id  TEXT NOT NULL,
    id      TEXT NOT NULL,
    user_id TEXT NOT NULL,
    key     TEXT NOT NULL,
    label   TEXT NOT NULL,
    created BIGINT NOT NULL,
    revoked BIGINT,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX approver_keys_by_user ON approver_keys (org_id, user_id);

-- What is to be said to people outside the pages.
CREATE TABLE notices (
    org_id   TEXT NOT NULL,
    id       TEXT NOT NULL,
    target   TEXT NOT NULL,
    body     TEXT NOT NULL,
    made     BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next     BIGINT NOT NULL,
    state    TEXT NOT NULL,
    error    TEXT,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX notices_by_next ON notices (org_id, state, next);
