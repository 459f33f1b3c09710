//! What people can be told, and over which channels.

mod channel;

use serde::{Deserialize, Serialize};
use stockade_api::{
    NodeId,
    node::{Ack, AckState},
};
use stockade_trust::UserId;
use stockade_types::UnixMillis;

pub use channel::{CHANNELS_MAX, Channel, Form};
pub(crate) use channel::{NAME_CHARS_MAX, TO_BYTES_MAX, is_address};

/// Milliseconds of an hour.
const HOUR_MS: u64 = 60 * 60 * 1_000;

/// What channels can hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A question waits for people in a role.
    #[serde(rename = "question.waiting")]
    QuestionWaiting,
    /// A stage that took long asks others, too.
    #[serde(rename = "case.escalated")]
    CaseEscalated,
    /// One person has overridden all stages.
    #[serde(rename = "glass.broken")]
    GlassBroken,
    /// A rollout was halted.
    #[serde(rename = "rollout.halted")]
    RolloutHalted,
    /// A machine cannot use a policy.
    #[serde(rename = "bundle.refused")]
    BundleRefused,
    /// A finding that must be looked at.
    #[serde(rename = "finding.high")]
    FindingHigh,
    /// Somebody tries a channel.
    #[serde(rename = "channel.test")]
    Test,
}

impl Kind {
    /// Those that a channel can be made for: the word, and what it means.
    pub const ALL: [(Self, &'static str, &'static str); 6] = [
        (
            Self::QuestionWaiting,
            "question.waiting",
            "a question waits for people in a role",
        ),
        (
            Self::CaseEscalated,
            "case.escalated",
            "a stage takes long and asks others, too",
        ),
        (
            Self::GlassBroken,
            "glass.broken",
            "one person has overridden all stages",
        ),
        (
            Self::RolloutHalted,
            "rollout.halted",
            "a rollout was halted",
        ),
        (
            Self::BundleRefused,
            "bundle.refused",
            "a machine cannot use a policy",
        ),
        (
            Self::FindingHigh,
            "finding.high",
            "a finding of high severity",
        ),
    ];

    /// Returns its word.
    pub fn word(self) -> &'static str {
        let known = Self::ALL.iter().find(|(kind, ..)| *kind == self);
        known.map_or("channel.test", |(_, word, _)| word)
    }

    /// Tells whether machines alone can make it happen, as often as they like.
    pub(crate) const fn is_by_machines(self) -> bool {
        match self {
            Self::QuestionWaiting
            | Self::CaseEscalated
            | Self::BundleRefused
            | Self::FindingHigh => true,
            Self::GlassBroken | Self::RolloutHalted | Self::Test => false,
        }
    }

    /// Returns the kind of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        let known = Self::ALL.iter().find(|(_, known, _)| *known == word);
        known.map(|(kind, ..)| *kind)
    }
}

/// Something that is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Notice {
    pub(crate) kind: Kind,
    pub(crate) at: UnixMillis,
    /// The role whose people are asked.
    pub(crate) role: Option<String>,
    /// The question.
    pub(crate) question: Option<String>,
    /// People who have no vote on it.
    pub(crate) requesters: Vec<UserId>,
    pub(crate) node: Option<NodeId>,
    /// The rule that asks.
    pub(crate) rule: Option<String>,
    /// What the lists of the pages show; foreign text.
    pub(crate) summary: String,
    /// The page, below the server's own address.
    pub(crate) path: String,
    /// When the question ends.
    pub(crate) expires: Option<UnixMillis>,
    /// Whether more of this machine is not told for some minutes.
    #[serde(default)]
    pub(crate) last: bool,
}

impl Notice {
    /// Begins with what happened, and the page that has it.
    pub(crate) fn new(kind: Kind, at: UnixMillis, path: String) -> Self {
        Self {
            kind,
            at,
            role: None,
            question: None,
            requesters: Vec::new(),
            node: None,
            rule: None,
            summary: String::new(),
            path,
            expires: None,
            last: false,
        }
    }

    /// What a test says.
    pub(crate) fn test(now: UnixMillis) -> Self {
        Self::new(Kind::Test, now, "/settings".to_owned())
    }
}

/// Makes what is told when a machine cannot use a policy: once an hour for each policy, since what one
/// machine refuses all of them may.
pub(crate) fn refused_bundle(
    node: &NodeId,
    ack: &Ack,
    now: UnixMillis,
) -> Option<(String, Notice)> {
    match ack.state {
        AckState::Stored | AckState::Active => return None,
        AckState::Failed => {}
    }
    let notice = Notice {
        node: Some(node.clone()),
        summary: ack.error.clone().unwrap_or_default(),
        ..Notice::new(Kind::BundleRefused, now, "/fleet".to_owned())
    };
    let hour = now.0 / HOUR_MS;
    Some((
        format!("bundle {} {} {hour}", ack.channel, ack.serial),
        notice,
    ))
}

/// Makes what is told of a finding.
pub(crate) fn finding(node: &NodeId, id: &str, summary: String, now: UnixMillis) -> Notice {
    let path = if id.is_empty() {
        "/findings".to_owned()
    } else {
        let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
        format!("/findings?which=all&id={id}")
    };
    Notice {
        node: Some(node.clone()),
        summary,
        ..Notice::new(Kind::FindingHigh, now, path)
    }
}
