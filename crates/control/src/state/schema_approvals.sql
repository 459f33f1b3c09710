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
