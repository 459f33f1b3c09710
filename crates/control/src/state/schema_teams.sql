-- Teams: machines belong to one at most, and people hold roles for one.

CREATE TABLE teams (
    org_id  TEXT NOT NULL,
    id      TEXT NOT NULL,
    name    TEXT NOT NULL,
    created BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX teams_by_name ON teams (org_id, name);

-- Roles that are held for one team. Those for the whole organisation are in role_bindings alone, so that nothing
-- that reads these takes one for the other.
CREATE TABLE team_roles (
    org_id     TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    team       TEXT NOT NULL,
    role       TEXT NOT NULL,
    granted_by TEXT NOT NULL,
    granted    BIGINT NOT NULL,
    PRIMARY KEY (org_id, user_id, team, role)
);
CREATE INDEX team_roles_by_team ON team_roles (org_id, team);

ALTER TABLE nodes ADD COLUMN team TEXT;
-- Grows by each change of the team; 0 as long as there was none.
ALTER TABLE nodes ADD COLUMN team_serial BIGINT NOT NULL DEFAULT 0;
CREATE INDEX nodes_by_team ON nodes (org_id, team);
ALTER TABLE enrol_tokens ADD COLUMN team TEXT;
