//! Who may do what on the server of an organisation, decided by Cedar.
//!
//! `access.cedar` says it, over the entities of `access.cedarschema`. What is asked about is made into entities
//! for each decision: the caller with the roles that it holds, the thing, and the team of the thing. A decision
//! that Cedar cannot make is a no.

mod entities;

use std::sync::LazyLock;

use cedar_policy::{Authorizer, Decision, PolicySet, Schema};
use serde::Serialize;

use self::entities::Makes;

/// What the policies say, and what they are about.
const POLICIES: &str = include_str!("access.cedar");
const SCHEMA: &str = include_str!("access.cedarschema");

/// Something that a person can do on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
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
    /// Enrol and retire machines, and give them to a team.
    ManageFleet,
    /// See policy.
    SeePolicy,
    /// Propose policy.
    ProposePolicy,
    /// Approve proposals of others and publish them, and move rollouts.
    PublishPolicy,
    /// See people and their roles.
    SeePeople,
    /// Invite people, and change teams and roles.
    ManagePeople,
    /// See the record of the server.
    SeeAudit,
    /// See what the server counts of itself.
    SeeMetrics,
}

/// What kind of thing an action is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The organisation as a whole.
    Whole,
    /// A machine.
    Node,
    /// A session, or what was found in it.
    Session,
    /// A question.
    Question,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 17] = [
        Self::SeeOverview,
        Self::SeeQuestions,
        Self::Vote,
        Self::SeeSessions,
        Self::StopSession,
        Self::ReadContent,
        Self::TriageFindings,
        Self::SeeIntegrity,
        Self::SeeFleet,
        Self::ManageFleet,
        Self::SeePolicy,
        Self::ProposePolicy,
        Self::PublishPolicy,
        Self::SeePeople,
        Self::ManagePeople,
        Self::SeeAudit,
        Self::SeeMetrics,
    ];

    /// Returns its name in the policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SeeOverview => "see-overview",
            Self::SeeQuestions => "see-questions",
            Self::Vote => "vote",
            Self::SeeSessions => "see-sessions",
            Self::StopSession => "stop-session",
            Self::ReadContent => "read-content",
            Self::TriageFindings => "triage-findings",
            Self::SeeIntegrity => "see-integrity",
            Self::SeeFleet => "see-fleet",
            Self::ManageFleet => "manage-fleet",
            Self::SeePolicy => "see-policy",
            Self::ProposePolicy => "propose-policy",
            Self::PublishPolicy => "publish-policy",
            Self::SeePeople => "see-people",
            Self::ManagePeople => "manage-people",
            Self::SeeAudit => "see-audit",
            Self::SeeMetrics => "see-metrics",
        }
    }

    /// Returns what it is about.
    pub const fn about(self) -> About {
        match self {
            Self::SeeQuestions | Self::Vote => About::Question,
            Self::SeeSessions
            | Self::StopSession
            | Self::ReadContent
            | Self::TriageFindings
            | Self::SeeIntegrity => About::Session,
            Self::SeeFleet | Self::ManageFleet => About::Node,
            Self::SeeOverview
            | Self::SeePolicy
            | Self::ProposePolicy
            | Self::PublishPolicy
            | Self::SeePeople
            | Self::ManagePeople
            | Self::SeeAudit
            | Self::SeeMetrics => About::Whole,
        }
    }
}

/// A role that somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held<'a> {
    /// The role.
    pub role: &'a str,
    /// The id of the team for which it is held; `None` for the whole organisation.
    pub team: Option<&'a str>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Principal<'a> {
    /// The organisation.
    pub org: &'a str,
    /// The id of the person or of the token.
    pub id: &'a str,
    /// The roles.
    pub held: &'a [Held<'a>],
}

/// Where a thing belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// The id of the team of its machine.
    pub team: Option<&'a str>,
    /// The id of the person whose machine it is.
    pub owner: Option<&'a str>,
}

/// What it is about.
#[derive(Clone, Copy, Debug)]
pub enum Thing<'a> {
    /// The organisation as a whole.
    Whole,
    /// A machine.
    Node(Place<'a>),
    /// A session, or what was found in it.
    Session(Place<'a>),
    /// A question.
    Question {
        /// The id of the team of its machine.
        team: Option<&'a str>,
        /// Ids of the people who ask.
        requesters: &'a [&'a str],
        /// The roles that are asked.
        asks: &'a [&'a str],
    },
    /// A proposal of policy, and the id of its author.
    Proposal(&'a str),
}

/// What a decision may depend on beside who and what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own that the policies name"
)]
pub struct Circumstances {
    /// The caller has proved within the last five minutes who it is, or proves it with this very request.
    pub step_up: bool,
    /// The caller is one of those who ask.
    pub is_requester: bool,
    /// The caller has made the proposal.
    pub is_author: bool,
    /// The caller has given a reason.
    pub has_reason: bool,
}

impl Circumstances {
    /// The ones in which most is allowed.
    pub const BEST: Self = Self {
        step_up: true,
        is_requester: false,
        is_author: false,
        has_reason: true,
    };
}

/// The roles that the program knows. Every other one is a role that some policy asks, an approver's.
pub const ROLES: [&str; 12] = [
    "viewer",
    "developer",
    "policy-author",
    "policy-approver",
    "fleet-operator",
    "analyst",
    "auditor",
    "privacy-officer",
    "incident-lead",
    "monitor",
    "content-reader",
    "admin",
];

/// Those of them that are about the organisation as a whole, and are held for all of it alone.
pub const ROLES_OF_THE_WHOLE: [&str; 5] = [
    "policy-author",
    "policy-approver",
    "privacy-officer",
    "monitor",
    "admin",
];

/// Tells whether a role can be held for one team.
pub fn is_for_teams(role: &str) -> bool {
    !ROLES_OF_THE_WHOLE.contains(&role)
}

/// The policies, read.
struct Rules {
    authorizer: Authorizer,
    policies: PolicySet,
    makes: Makes,
}

static RULES: LazyLock<Result<Rules, String>> = LazyLock::new(|| {
    Ok(Rules {
        authorizer: Authorizer::new(),
        policies: policies()?,
        makes: Makes::new()?,
    })
});

fn policies() -> Result<PolicySet, String> {
    POLICIES.parse().map_err(|error| format!("{error}"))
}

/// Reads the schema.
///
/// # Errors
/// When it has a mistake, which is one of the program.
pub fn schema() -> Result<Schema, String> {
    Schema::from_cedarschema_str(SCHEMA)
        .map(|(schema, _)| schema)
        .map_err(|error| error.to_string())
}

/// Decides whether somebody of the organisation `org` of the server may do something with a thing of it.
pub fn allows(
    principal: &Principal<'_>,
    action: Action,
    (org, thing): (&str, &Thing<'_>),
    circumstances: Circumstances,
) -> bool {
    let Ok(rules) = RULES.as_ref() else {
        return false;
    };
    let made = rules
        .makes
        .request(principal, action, (org, thing), circumstances);
    let Ok((request, entities)) = made else {
        return false;
    };
    let response = rules
        .authorizer
        .is_authorized(&request, &rules.policies, &entities);
    // Cedar skips a policy that errors; to skip a forbid would be to allow.
    let is_whole = response.diagnostics().errors().next().is_none();
    is_whole && response.decision() == Decision::Allow
}

#[cfg(test)]
mod tests;
