//! Who may do what: every route and every row asks here, and Cedar decides (`stockade_policy::access`).
//!
//! A route names the action that it needs. A caller who may do that nowhere is refused there; with which machine,
//! session or question a caller may do it is decided for each of them.

use std::collections::BTreeMap;

use stockade_policy::access::{self, About, Held, Place, Principal, Thing};
use stockade_trust::{Role, TeamId, UserId};

pub(crate) use stockade_policy::access::{Action, Circumstances, ROLES, is_for_teams};

use super::caller::Caller;
pub(crate) use crate::roles::is_role_name;
use crate::{
    roles::TeamRole,
    state::{NodeRow, QuestionRow, UserRow},
};

/// How much of what belongs to one team a caller may do something with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Nothing.
    Nothing,
    /// What is on own machines.
    Own,
    /// All of it.
    All,
}

/// How far a caller may do one thing with machines and sessions: what Cedar says about each team, asked once.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    own: UserId,
    /// Of the teams for which the caller holds roles.
    teams: BTreeMap<TeamId, Reach>,
    /// Of all others, and of machines without a team.
    elsewhere: Reach,
}

impl Sight {
    fn at(&self, team: Option<&TeamId>) -> Reach {
        let known = team.and_then(|team| self.teams.get(team));
        known.copied().unwrap_or(self.elsewhere)
    }

    /// Tells whether it reaches a machine.
    pub(crate) fn has(&self, node: &NodeRow) -> bool {
        match self.at(node.team.as_ref()) {
            Reach::All => true,
            Reach::Own => node.owner.as_ref() == Some(&self.own),
            Reach::Nothing => false,
        }
    }

    /// Tells whether it reaches every machine.
    pub(crate) fn is_whole(&self) -> bool {
        let mut all = self.teams.values().chain([&self.elsewhere]);
        all.all(|reach| *reach == Reach::All)
    }
}

/// Who is asked about: a caller, or another person.
pub(crate) struct Who<'a> {
    pub(crate) org: &'a str,
    pub(crate) id: &'a str,
    pub(crate) roles: Vec<&'a str>,
    pub(crate) team_roles: &'a [TeamRole],
}

impl<'a> Who<'a> {
    /// A person of the organisation.
    pub(crate) fn user(org: &'a str, row: &'a UserRow) -> Self {
        Self {
            org,
            id: &row.id.0,
            roles: row.roles.iter().map(String::as_str).collect(),
            team_roles: &row.team_roles,
        }
    }

    fn held(&self) -> Vec<Held<'a>> {
        let whole = self.roles.iter().map(|role| Held { role, team: None });
        let of_team = |held: &'a TeamRole| Held {
            role: &held.role,
            team: Some(held.team.as_str()),
        };
        whole.chain(self.team_roles.iter().map(of_team)).collect()
    }

    /// Asks Cedar.
    fn allows(&self, action: Action, thing: (&str, &Thing<'_>), how: Circumstances) -> bool {
        let held = self.held();
        let principal = Principal {
            org: self.org,
            id: self.id,
            held: &held,
        };
        access::allows(&principal, action, thing, how)
    }

    /// Tells whether there could be anything with which it is allowed: something of the person's own, in a team
    /// of the person, that asks a role of the person.
    pub(crate) fn may(&self, action: Action) -> bool {
        let teams = self.team_roles.iter().map(|held| Some(held.team.as_str()));
        let mut places: Vec<Option<&str>> = teams.chain([None]).collect();
        places.sort_unstable();
        places.dedup();
        let held = self.held();
        let asks: Vec<&str> = held.iter().map(|held| held.role).collect();
        places.into_iter().any(|team| {
            let place = Place {
                team,
                owner: Some(self.id),
            };
            let thing = match action.about() {
                About::Whole => Thing::Whole,
                About::Node => Thing::Node(place),
                About::Session => Thing::Session(place),
                About::Question => Thing::Question {
                    team,
                    requesters: &[],
                    asks: &asks,
                },
            };
            self.allows(action, (self.org, &thing), Circumstances::BEST)
        })
    }

    fn reach(&self, action: Action, team: Option<&str>) -> Reach {
        let may = |owner| {
            let place = Place { team, owner };
            let thing = match action.about() {
                About::Node => Thing::Node(place),
                About::Session => Thing::Session(place),
                // These are not asked by where a machine belongs.
                About::Whole | About::Question => return false,
            };
            self.allows(action, (self.org, &thing), Circumstances::BEST)
        };
        if may(None) {
            Reach::All
        } else if may(Some(self.id)) {
            Reach::Own
        } else {
            Reach::Nothing
        }
    }
}

/// Returns the thing that a session of a machine, or anything in it, is.
pub(crate) fn session(node: &NodeRow) -> Thing<'_> {
    Thing::Session(place(node))
}

/// Returns the thing that a machine is.
pub(crate) fn machine(node: &NodeRow) -> Thing<'_> {
    Thing::Node(place(node))
}

fn place(node: &NodeRow) -> Place<'_> {
    Place {
        team: node.team.as_ref().map(TeamId::as_str),
        owner: node.owner.as_ref().map(|owner| owner.0.as_str()),
    }
}

/// Returns the roles that a question asks: now, later, or to override it.
pub(crate) fn asks(row: &QuestionRow) -> Vec<&str> {
    let review = &row.sent.review;
    let stages = review.stages().map(|stage| &stage.role);
    let late = review
        .stages()
        .filter_map(|stage| stage.escalation.as_ref());
    let glass = review.break_glass.iter().map(|glass| &glass.role);
    let roles = stages.chain(late.map(|then| &then.role)).chain(glass);
    roles.map(|role| role.0.as_str()).collect()
}

impl Caller {
    fn who(&self) -> Who<'_> {
        Who {
            org: &self.org,
            id: &self.user.0,
            roles: self.roles.iter().map(|role| role.0.as_str()).collect(),
            team_roles: &self.team_roles,
        }
    }

    /// Decides whether the caller may do something with a thing of the organisation `org`.
    pub(crate) fn allows(
        &self,
        action: Action,
        (org, thing): (&str, &Thing<'_>),
        how: Circumstances,
    ) -> bool {
        self.who().allows(action, (org, thing), how)
    }

    /// Tells whether there could be anything with which the caller may do it.
    pub(crate) fn may(&self, action: Action) -> bool {
        self.who().may(action)
    }

    /// Says how far the caller may do something with machines and sessions.
    pub(crate) fn sight(&self, action: Action) -> Sight {
        let who = self.who();
        let teams = self.team_roles.iter().map(|held| &held.team);
        let mut reached = BTreeMap::new();
        for team in teams {
            reached
                .entry(team.clone())
                .or_insert_with(|| who.reach(action, Some(team.as_str())));
        }
        Sight {
            own: self.user.clone(),
            teams: reached,
            elsewhere: who.reach(action, None),
        }
    }

    /// Tells whether the caller may see a question, or answer it, on a machine of a team.
    pub(crate) fn allows_question(
        &self,
        action: Action,
        row: &QuestionRow,
        team: Option<&TeamId>,
        how: Circumstances,
    ) -> bool {
        let requesters: Vec<&str> = row.requesters.iter().map(|id| id.0.as_str()).collect();
        let thing = Thing::Question {
            team: team.map(TeamId::as_str),
            requesters: &requesters,
            asks: &asks(row),
        };
        self.allows(action, (&self.org, &thing), how)
    }

    /// Returns the teams beyond which the caller sees no machine and nothing of one; `None` if that can be any.
    /// It narrows what is read; what is shown is decided for each row.
    pub(crate) fn teams(&self) -> Option<Vec<TeamId>> {
        if !self.roles.is_empty() {
            return None;
        }
        let teams = self.team_roles.iter().map(|held| held.team.clone());
        let mut teams: Vec<TeamId> = teams.collect();
        teams.dedup();
        Some(teams)
    }

    /// Returns the roles of the caller that count for machines of a team.
    pub(crate) fn roles_within(&self, team: Option<&TeamId>) -> Vec<Role> {
        let of_team = self
            .team_roles
            .iter()
            .filter(|held| Some(&held.team) == team);
        let mut roles = self.roles.clone();
        for held in of_team {
            let role = Role(held.role.clone());
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        roles
    }
}

/// Says an action as part of a sentence that begins with "your roles do not let you".
pub(crate) const fn words(action: Action) -> &'static str {
    match action {
        Action::SeeOverview => "see the overview",
        Action::SeeQuestions => "see questions",
        Action::Vote => "answer questions",
        Action::SeeSessions => "see sessions",
        Action::StopSession => "end sessions",
        Action::ReadContent => "read what was said in sessions",
        Action::TriageFindings => "settle findings",
        Action::SeeIntegrity => "see whether records are whole",
        Action::SeeFleet => "see machines",
        Action::ManageFleet => "enrol or retire machines",
        Action::SeePolicy => "see policy",
        Action::ProposePolicy => "propose policy",
        Action::PublishPolicy => "publish policy",
        Action::SeePeople => "see people",
        Action::ManagePeople => "invite people or change roles",
        Action::SeeAudit => "see the record of the server",
        Action::SeeMetrics => "see what the server counts",
    }
}
