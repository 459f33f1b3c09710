//! Who may do what: one table of roles and actions. A route names the action that it needs, and nothing
//! else on the server grants anything.

use serde::Serialize;
use stockade_trust::Role;

pub(crate) use crate::roles::is_role_name;

/// Something that a person can do on the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// See the first page.
    SeeOverview,
    /// See questions.
    SeeQuestions,
    /// Answer a question. The case itself decides whose vote counts.
    Vote,
    /// See sessions and their events.
    SeeSessions,
    /// End a session.
    StopSession,
    /// Read what people and models said in a session.
    ReadContent,
    /// Say what a finding is.
    TriageFindings,
    /// See whether records are whole.
    SeeIntegrity,
    /// See machines.
    SeeFleet,
    /// Enrol and retire machines.
    ManageFleet,
    /// See policy.
    SeePolicy,
    /// Propose policy.
    ProposePolicy,
    /// Approve proposals of others and publish them, and move rollouts.
    PublishPolicy,
    /// See people and their roles.
    SeePeople,
    /// Invite people and change their roles.
    ManagePeople,
    /// See the record of the server.
    SeeAudit,
    /// See what the server counts of itself.
    SeeMetrics,
}

/// Every action.
#[cfg(test)]
const ACTIONS: [Action; 17] = [
    Action::SeeOverview,
    Action::SeeQuestions,
    Action::Vote,
    Action::SeeSessions,
    Action::StopSession,
    Action::ReadContent,
    Action::TriageFindings,
    Action::SeeIntegrity,
    Action::SeeFleet,
    Action::ManageFleet,
    Action::SeePolicy,
    Action::ProposePolicy,
    Action::PublishPolicy,
    Action::SeePeople,
    Action::ManagePeople,
    Action::SeeAudit,
    Action::SeeMetrics,
];

/// How much of what an action is about a person may do it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reach {
    /// What is the person's own: sessions on own machines, and questions of these. Of questions also
    /// those that a role of the person may answer.
    Own,
    /// Everything of the organisation.
    All,
}

/// Roles that the program knows. Every other name is a role that some policy asks, and gives [`ANSWERS`].
pub(crate) const ROLES: [(&str, &[(Action, Reach)]); 12] = [
    ("viewer", SEES),
    ("developer", DEVELOPS),
    ("policy-author", PROPOSES),
    ("policy-approver", PUBLISHES),
    ("fleet-operator", OPERATES),
    ("analyst", ANALYSES),
    ("auditor", AUDITS),
    ("privacy-officer", GUARDS_PRIVACY),
    ("incident-lead", LEADS),
    ("monitor", MEASURES),
    ("content-reader", READS_CONTENT),
    ("admin", ADMINISTERS),
];

use Action::{
    ManageFleet, ManagePeople, ProposePolicy, PublishPolicy, ReadContent, SeeAudit, SeeFleet,
    SeeIntegrity, SeeMetrics, SeeOverview, SeePeople, SeePolicy, SeeQuestions, SeeSessions,
    StopSession, TriageFindings, Vote,
};
use Reach::{All, Own};

const SEES: &[(Action, Reach)] = &[
    (SeeOverview, All),
    (SeeQuestions, All),
    (SeeSessions, All),
    (SeeFleet, All),
    (SeePolicy, All),
    (SeeIntegrity, All),
];
const DEVELOPS: &[(Action, Reach)] = &[
    (SeeOverview, Own),
    (SeeQuestions, Own),
    (SeeSessions, Own),
    (SeePolicy, All),
    (StopSession, Own),
    (SeeIntegrity, Own),
];
const PROPOSES: &[(Action, Reach)] = &[(SeeOverview, Own), (SeePolicy, All), (ProposePolicy, All)];
const PUBLISHES: &[(Action, Reach)] = &[
    (SeeOverview, Own),
    (SeePolicy, All),
    (ProposePolicy, All),
    (PublishPolicy, All),
    (SeeFleet, All),
];
const OPERATES: &[(Action, Reach)] = &[
    (SeeOverview, All),
    (SeeSessions, All),
    (SeeFleet, All),
    (ManageFleet, All),
    (SeePolicy, All),
    (SeeMetrics, All),
    (StopSession, All),
    (SeeIntegrity, All),
];
/// Programs that watch the server.
const MEASURES: &[(Action, Reach)] = &[(SeeMetrics, All)];
const ANALYSES: &[(Action, Reach)] = &[
    (SeeOverview, All),
    (SeeQuestions, All),
    (SeeSessions, All),
    (SeeFleet, All),
    (SeePolicy, All),
    (TriageFindings, All),
    (SeeIntegrity, All),
];
const AUDITS: &[(Action, Reach)] = &[
    (SeeOverview, All),
    (SeeQuestions, All),
    (SeeSessions, All),
    (SeeFleet, All),
    (SeePolicy, All),
    (SeePeople, All),
    (SeeAudit, All),
    (SeeIntegrity, All),
];
const GUARDS_PRIVACY: &[(Action, Reach)] = &[(SeeOverview, Own), (SeePeople, All), (SeeAudit, All)];
const LEADS: &[(Action, Reach)] = &[
    (SeeOverview, All),
    (SeeQuestions, All),
    (Vote, All),
    (SeeSessions, All),
    (SeeFleet, All),
    (StopSession, All),
    (ReadContent, All),
    (TriageFindings, All),
    (SeeIntegrity, All),
];
/// Reads what was said, with a reason that the person concerned sees. No other role reads it unseen.
const READS_CONTENT: &[(Action, Reach)] =
    &[(SeeOverview, Own), (SeeSessions, All), (ReadContent, All)];
/// Administrators do not answer questions, and do not read what was said: these are other roles, which
/// someone has to give them.
const ADMINISTERS: &[(Action, Reach)] = &[
    (SeeOverview, All),
    (SeeQuestions, All),
    (SeeSessions, All),
    (SeeFleet, All),
    (ManageFleet, All),
    (SeePolicy, All),
    (ProposePolicy, All),
    (PublishPolicy, All),
    (SeePeople, All),
    (ManagePeople, All),
    (SeeAudit, All),
    (SeeMetrics, All),
    (StopSession, All),
    (TriageFindings, All),
    (SeeIntegrity, All),
];
/// What a role gives that a policy asks, for example `security`.
const ANSWERS: &[(Action, Reach)] = &[
    (SeeOverview, Own),
    (SeeQuestions, Own),
    (Vote, Own),
    (SeeSessions, Own),
];

fn granted(role: &Role) -> &'static [(Action, Reach)] {
    let known = ROLES.iter().find(|(name, _)| *name == role.0);
    known.map_or(ANSWERS, |(_, actions)| actions)
}

/// Says how far people with these roles may do something; `None` if they may not at all.
pub(crate) fn reach(roles: &[Role], action: Action) -> Option<Reach> {
    let of = roles.iter().flat_map(granted);
    of.filter(|(granted, _)| *granted == action)
        .map(|(_, reach)| *reach)
        .max()
}

impl Action {
    /// Says it as part of a sentence that begins with "your roles do not let you".
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::SeeOverview => "see the overview",
            Self::SeeQuestions => "see questions",
            Self::Vote => "answer questions",
            Self::SeeSessions => "see sessions",
            Self::StopSession => "end sessions",
            Self::ReadContent => "read what was said in sessions",
            Self::TriageFindings => "settle findings",
            Self::SeeIntegrity => "see whether records are whole",
            Self::SeeFleet => "see machines",
            Self::ManageFleet => "enrol or retire machines",
            Self::SeePolicy => "see policy",
            Self::ProposePolicy => "propose policy",
            Self::PublishPolicy => "publish policy",
            Self::SeePeople => "see people",
            Self::ManagePeople => "invite people or change roles",
            Self::SeeAudit => "see the record of the server",
            Self::SeeMetrics => "see what the server counts",
        }
    }
}

#[cfg(test)]
mod tests {
    use stockade_trust::Role;

    use super::{ACTIONS, Action, ROLES, Reach, is_role_name, reach};

    fn roles(names: &[&str]) -> Vec<Role> {
        names.iter().map(|name| Role((*name).to_owned())).collect()
    }

    #[test]
    fn without_a_role_nothing_is_allowed() {
        for action in ACTIONS {
            assert_eq!(reach(&[], action), None, "{action:?}");
        }
    }

    #[test]
    fn changes_need_roles_of_their_own() {
        let may = |action| {
            let has = |(name, _): &&(&str, _)| reach(&roles(&[name]), action).is_some();
            let names = ROLES.iter().filter(has).map(|(name, _)| *name);
            names.collect::<Vec<_>>()
        };
        assert_eq!(may(Action::Vote), ["incident-lead"]);
        assert_eq!(may(Action::ManagePeople), ["admin"]);
        assert_eq!(may(Action::ManageFleet), ["fleet-operator", "admin"]);
        assert_eq!(
            may(Action::ProposePolicy),
            ["policy-author", "policy-approver", "admin"]
        );
        assert_eq!(may(Action::PublishPolicy), ["policy-approver", "admin"]);
        assert_eq!(
            may(Action::StopSession),
            ["developer", "fleet-operator", "incident-lead", "admin"]
        );
        // What was said is for two roles, and not for who administers or audits.
        assert_eq!(
            may(Action::ReadContent),
            ["incident-lead", "content-reader"]
        );
        assert_eq!(
            may(Action::TriageFindings),
            ["analyst", "incident-lead", "admin"]
        );
        assert_eq!(
            may(Action::SeeAudit),
            ["auditor", "privacy-officer", "admin"]
        );
        // A role that a policy asks answers, and changes nothing else.
        for action in [
            Action::ManagePeople,
            Action::ManageFleet,
            Action::ProposePolicy,
            Action::PublishPolicy,
            Action::StopSession,
            Action::ReadContent,
            Action::TriageFindings,
        ] {
            assert_eq!(reach(&roles(&["security"]), action), None);
        }
        assert_eq!(reach(&roles(&["security"]), Action::Vote), Some(Reach::Own));
    }

    #[test]
    fn the_widest_of_several_roles_counts() {
        let both = roles(&["developer", "viewer"]);
        assert_eq!(reach(&both, Action::SeeSessions), Some(Reach::All));
        assert_eq!(reach(&both, Action::Vote), None);
    }

    #[test]
    fn names_of_roles_are_plain() {
        assert!(is_role_name("code-owner"));
        for wrong in ["", "Admin", "-x", "a b", "a\u{202e}", "ä", &"a".repeat(41)] {
            assert!(!is_role_name(wrong), "{wrong:?}");
        }
    }
}
