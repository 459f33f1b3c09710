//! What people do to the server, and machines with it: each is noted with the change that it makes.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use stockade_event::Event;
use stockade_types::{Digest, ignored};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The server began to serve.
    #[serde(rename = "server.started")]
    ServerStarted,
    /// A link that works once was made.
    #[serde(rename = "link.issued")]
    LinkIssued,
    /// A person was added.
    #[serde(rename = "user.added")]
    UserAdded,
    /// A person may sign in and vote no more.
    #[serde(rename = "user.removed")]
    UserRemoved,
    /// A person has signed in.
    #[serde(rename = "user.signed_in")]
    SignedIn,
    /// A person has a new password or second factor.
    #[serde(rename = "secret.set")]
    SecretSet,
    /// A person has a new passkey.
    #[serde(rename = "passkey.added")]
    PasskeyAdded,
    /// A passkey counts no more.
    #[serde(rename = "passkey.revoked")]
    PasskeyRevoked,
    /// A terminal asks to be signed in.
    #[serde(rename = "device.asked")]
    DeviceAsked,
    /// A person has confirmed it.
    #[serde(rename = "device.confirmed")]
    DeviceConfirmed,
    /// A person has refused it.
    #[serde(rename = "device.refused")]
    DeviceRefused,
    /// A terminal has taken the token of the person who confirmed.
    #[serde(rename = "terminal.signed_in")]
    TerminalSignedIn,
    /// The token of a terminal does not work any more.
    #[serde(rename = "terminal.signed_out")]
    TerminalSignedOut,
    /// A person has registered an approver key, which counts once another person has approved it.
    #[serde(rename = "approver_key.registered")]
    ApproverKeyRegistered,
    /// Another person has approved an approver key.
    #[serde(rename = "approver_key.approved")]
    ApproverKeyApproved,
    /// An approver key counts no more.
    #[serde(rename = "approver_key.revoked")]
    ApproverKeyRevoked,
    /// A person has a new role.
    #[serde(rename = "role.given")]
    RoleGiven,
    /// A person has a role no more.
    #[serde(rename = "role.taken")]
    RoleTaken,
    /// A team was made.
    #[serde(rename = "team.made")]
    TeamMade,
    /// A team has another name.
    #[serde(rename = "team.renamed")]
    TeamRenamed,
    /// A team was removed.
    #[serde(rename = "team.removed")]
    TeamRemoved,
    /// A machine belongs to another team.
    #[serde(rename = "node.moved")]
    NodeMoved,
    /// A token for programs or for enrolment was made.
    #[serde(rename = "token.issued")]
    TokenIssued,
    /// A token for programs does not work any more.
    #[serde(rename = "token.revoked")]
    TokenRevoked,
    /// Jobs of a platform may enrol machines.
    #[serde(rename = "rule.added")]
    RuleAdded,
    /// They may not any more.
    #[serde(rename = "rule.removed")]
    RuleRemoved,
    /// A machine belongs to the organisation.
    #[serde(rename = "node.enrolled")]
    NodeEnrolled,
    /// A machine was not let in.
    #[serde(rename = "node.refused")]
    NodeRefused,
    /// A machine does not belong to it any more.
    #[serde(rename = "node.retired")]
    NodeRetired,
    /// A machine did what it must not.
    #[serde(rename = "node.accused")]
    NodeAccused,
    /// The people were said anew to all machines.
    #[serde(rename = "directory.published")]
    DirectoryPublished,
    /// A policy was said to all machines.
    #[serde(rename = "bundle.published")]
    BundlePublished,
    /// A person has proposed a policy.
    #[serde(rename = "proposal.made")]
    ProposalMade,
    /// A proposal was approved, rejected or withdrawn.
    #[serde(rename = "proposal.reviewed")]
    ProposalReviewed,
    /// A rollout was moved, held or halted.
    #[serde(rename = "rollout.moved")]
    RolloutMoved,
    /// A person has reported a refusal of a candidate as wrong.
    #[serde(rename = "refusal.reported")]
    RefusalReported,
    /// A person has voted.
    #[serde(rename = "vote.cast")]
    VoteCast,
    /// A grant was signed.
    #[serde(rename = "grant.issued")]
    GrantIssued,
    /// A stage that took long asks others too.
    #[serde(rename = "case.escalated")]
    CaseEscalated,
    /// One person has overridden all stages.
    #[serde(rename = "glass.broken")]
    GlassBroken,
    /// Another person has looked at that.
    #[serde(rename = "override.reviewed")]
    OverrideReviewed,
    /// Nobody has looked at it in time.
    #[serde(rename = "review.overdue")]
    ReviewOverdue,
    /// An order was signed.
    #[serde(rename = "order.given")]
    OrderGiven,
    /// A person has looked at what people and models said in a session.
    #[serde(rename = "content.read")]
    ContentRead,
    /// A person has said what a finding is.
    #[serde(rename = "finding.triaged")]
    FindingTriaged,
    /// A person has had the journals of a machine verified again.
    #[serde(rename = "journal.verified")]
    JournalVerified,
    /// Something is told over a new channel, or at a mail address of a person.
    #[serde(rename = "channel.added")]
    ChannelAdded,
    /// It is not any more.
    #[serde(rename = "channel.removed")]
    ChannelRemoved,
    /// A receiver could not be told of something.
    #[serde(rename = "notice.failed")]
    NoticeFailed,
    /// A person has that tried again.
    #[serde(rename = "notice.resent")]
    NoticeResent,
}

/// One thing that happened, as it stands in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// What.
    pub action: Action,
    /// Who did it: a person, a token, or nobody for the command line of the server.
    pub by: Option<String>,
    /// To whom or what: a person, a machine, a policy, a question.
    pub about: Option<String>,
    /// The machine.
    pub node: Option<String>,
    /// The session on it.
    pub session: Option<String>,
    /// The digest of what was signed or published.
    pub digest: Option<Digest>,
    /// More, for people.
    pub detail: String,
}

impl Act {
    /// Begins with what happened.
    pub fn new(action: Action) -> Self {
        Self {
            action,
            by: None,
            about: None,
            node: None,
            session: None,
            digest: None,
            detail: String::new(),
        }
    }

    /// Says who did it; an empty text is the command line of the server.
    #[must_use]
    pub fn by(mut self, who: &str) -> Self {
        self.by = (!who.is_empty()).then(|| who.to_owned());
        self
    }

    /// Says to whom or what.
    #[must_use]
    pub fn about(mut self, what: &str) -> Self {
        self.about = (!what.is_empty()).then(|| what.to_owned());
        self
    }

    /// Says on which machine.
    #[must_use]
    pub fn node(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    /// Says in which session.
    #[must_use]
    pub fn session(mut self, session: &str) -> Self {
        self.session = Some(session.to_owned());
        self
    }

    /// Says what was signed or published.
    #[must_use]
    pub fn digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Says more.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

impl Act {
    /// Makes the event of it.
    pub(crate) fn event(&self) -> Event {
        let mut detail = String::new();
        let digest = self.digest.map(|digest| digest.to_string());
        for (name, value) in [
            ("about", &self.about),
            ("node", &self.node),
            ("session", &self.session),
            ("digest", &digest),
        ] {
            if let Some(value) = value {
                ignored(write!(detail, "{name}={value} "), "a text takes all");
            }
        }
        detail.push_str(&self.detail);
        Event::OperatorActed {
            action: self.action.word(),
            by: self.by.clone().unwrap_or_else(|| "command line".to_owned()),
            detail,
        }
    }

    /// Tells whether machines have to learn of it by a new directory of people.
    pub(crate) const fn concerns_people(&self) -> bool {
        match self.action {
            Action::UserAdded
            | Action::UserRemoved
            | Action::PasskeyAdded
            | Action::PasskeyRevoked
            | Action::ApproverKeyApproved
            | Action::ApproverKeyRevoked
            | Action::RoleGiven
            | Action::RoleTaken => true,
            Action::ServerStarted
            | Action::LinkIssued
            | Action::SignedIn
            | Action::SecretSet
            | Action::DeviceAsked
            | Action::DeviceConfirmed
            | Action::DeviceRefused
            | Action::TerminalSignedIn
            | Action::TerminalSignedOut
            | Action::ApproverKeyRegistered
            | Action::TeamMade
            | Action::TeamRenamed
            | Action::TeamRemoved
            | Action::NodeMoved
            | Action::TokenIssued
            | Action::TokenRevoked
            | Action::RuleAdded
            | Action::RuleRemoved
            | Action::NodeEnrolled
            | Action::NodeRefused
            | Action::NodeRetired
            | Action::NodeAccused
            | Action::DirectoryPublished
            | Action::BundlePublished
            | Action::ProposalMade
            | Action::ProposalReviewed
            | Action::RolloutMoved
            | Action::RefusalReported
            | Action::VoteCast
            | Action::GrantIssued
            | Action::OrderGiven
            | Action::ContentRead
            | Action::FindingTriaged
            | Action::JournalVerified
            | Action::ChannelAdded
            | Action::ChannelRemoved
            | Action::NoticeFailed
            | Action::NoticeResent
            | Action::CaseEscalated
            | Action::GlassBroken
            | Action::OverrideReviewed
            | Action::ReviewOverdue => false,
        }
    }
}

impl Action {
    /// Returns its name in the record.
    fn word(self) -> String {
        let json = serde_json::to_value(self).ok();
        let word = json.as_ref().and_then(serde_json::Value::as_str);
        word.unwrap_or_default().to_owned()
    }
}
