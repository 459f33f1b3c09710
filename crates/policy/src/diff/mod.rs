//! What another policy would change, in words.
//!
//! The comparison is of what policies do, not of their texts: a rule that was moved, renamed or written
//! in another way is no difference. Each rule is taken apart into its patterns ([`parts`]); a pattern
//! that both policies have, with the same conditions, terms, reviewers and layer, changes nothing. What
//! is left are the changes:
//!
//! - The **direction** follows from how rules combine: an allow more can only loosen, a deny more can only
//!   tighten, an ask more can do both. So nothing that loosens is ever called harmless.
//! - A change is left out only if it is **proved** to have no effect: a rule that is in both policies
//!   covers it ([`proof`]).
//! - An effect is **certain** if a request was found that the two policies judge so; it is shown as the
//!   example ([`sample`]). Otherwise the words are "may be".
//!
//! Settings are compared one by one ([`settings`]).

mod credentials;
mod limits;
mod pair;
mod parts;
mod proof;
mod rules;
mod sample;
mod settings;
mod terms;
mod words;

use serde::Serialize;
use stockade_types::{Digest, RuleId, Verdict};

use crate::{Origin, Policy, Request, canonical::Canonical, rule::Rule};

/// What a change is about; the order is that in which changes are shown.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Connections to hosts.
    Connections,
    /// HTTP requests, by method, path or what they mean.
    Requests,
    /// Calls of models.
    Models,
    /// Executions of programs.
    Executions,
    /// Changes of files.
    Files,
    /// Tool calls, and definitions of tools.
    Tools,
    /// Rules in Cedar, which can be about any of these.
    Cedar,
    /// Credentials, and keys of ssh.
    Credentials,
    /// People in roles who are asked.
    Stages,
    /// Values that the organisation pins.
    Pins,
    /// All other settings.
    Settings,
}

/// Whether a change lets more happen.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// It lets more happen, or could.
    Loosens,
    /// It lets less happen, and certainly no more.
    Tightens,
    /// It can do both.
    Both,
    /// It changes no verdict and no wall.
    Neither,
}

/// How one sort of requests is judged by the old and by the new policy.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The verdict of the old policy.
    pub before: Verdict,
    /// The verdict of the new policy.
    pub after: Verdict,
    /// A request that is judged so; without one the effect is only possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
}

/// A rule or a setting in one of the policies.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The id of the rule or credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<RuleId>,
    /// Its layer.
    pub origin: Origin,
    /// Its place, as `file:line`.
    pub source: String,
}

/// One difference.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it is about.
    pub topic: Topic,
    /// Whether it lets more happen.
    pub direction: Direction,
    /// What is different, in words.
    pub what: String,
    /// What becomes of requests; empty if no verdict depends on it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
    /// Where the old policy says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<At>,
    /// Where the new policy says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<At>,
    /// Names this change, whatever the names and places of rules are: an acknowledgement is for it.
    pub digest: Digest,
    /// The patterns that it is about.
    #[serde(skip)]
    about: Vec<Pattern>,
}

/// Which policy of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Old,
    New,
}

/// One pattern of one rule of one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pattern {
    side: Side,
    rule: usize,
    number: usize,
}

/// What another policy would change.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct PolicyDiff {
    /// Revision of the old policy.
    pub old: Digest,
    /// Revision of the new policy.
    pub new: Digest,
    /// The differences, by topic; those that let more happen come first.
    pub changes: Vec<Change>,
}

impl PolicyDiff {
    /// Compares two policies. The time is bounded by their sizes and the limits of this module, which only
    /// make effects "possible" that could be certain.
    pub fn new(old: &Policy, new: &Policy) -> Self {
        let mut changes = rules::changes(old, new);
        changes.extend(settings::changes(old.settings(), new.settings()));
        changes.extend(credentials::changes(old, new));
        let rank = |change: &Change| match change.direction {
            Direction::Loosens => 0,
            Direction::Both => 1,
            Direction::Tightens => 2,
            Direction::Neither => 3,
        };
        changes.sort_by(|a, b| {
            let order = (a.topic, rank(a)).cmp(&(b.topic, rank(b)));
            order.then_with(|| a.what.cmp(&b.what))
        });
        Self {
            old: old.revision(),
            new: new.revision(),
            changes,
        }
    }

    /// Returns whether the policies do the same.
    pub const fn is_same(&self) -> bool {
        self.changes.is_empty()
    }

    /// Lists the changes that let more happen, or could: whoever approves the new policy has to
    /// acknowledge each.
    pub fn loosening(&self) -> Vec<&Change> {
        let loosens = |change: &&Change| change.loosens();
        self.changes.iter().filter(loosens).collect()
    }

    /// Names all that [`Self::loosening`] lists; `None` if that is nothing. An acknowledgement of this digest is for
    /// exactly these changes.
    pub fn acknowledges(&self) -> Option<Digest> {
        let loosening = self.loosening();
        let mut digests: Vec<Digest> = loosening.iter().map(|change| change.digest).collect();
        digests.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        let mut hash = Canonical::new(b"stockade acknowledged 1");
        for digest in &digests {
            hash.field(digest.as_bytes());
        }
        (!digests.is_empty()).then(|| hash.finish())
    }

    /// Lists the changes of rules that have a part in how a request is judged. The policies must be those that
    /// were compared.
    pub fn about<'d>(&'d self, old: &Policy, new: &Policy, request: &Request) -> Vec<&'d Change> {
        let is_about = |change: &&Change| {
            change.about.iter().any(|at| {
                let policy = match at.side {
                    Side::Old => old,
                    Side::New => new,
                };
                let rule = policy.rule_list().get(at.rule);
                rule.is_some_and(|rule| parts::could_judge(rule, at.number, request))
            })
        };
        self.changes.iter().filter(is_about).collect()
    }
}

impl Change {
    /// Makes a change; its digest follows from what it says, without names and places.
    fn new(topic: Topic, direction: Direction, what: String) -> Self {
        Self {
            topic,
            direction,
            digest: digest(topic, &what, b""),
            what,
            effects: Vec::new(),
            old: None,
            new: None,
            about: Vec::new(),
        }
    }

    /// Returns whether it lets more happen, or could.
    pub const fn loosens(&self) -> bool {
        match self.direction {
            Direction::Loosens | Direction::Both => true,
            Direction::Tightens | Direction::Neither => false,
        }
    }

    /// Returns whether a request was found that the policies judge in different ways.
    pub fn is_certain(&self) -> bool {
        self.effects.iter().any(|effect| effect.example.is_some())
    }
}

impl Effect {
    /// Returns whether the new policy lets more happen.
    pub fn loosens(&self) -> bool {
        self.after < self.before
    }
}

fn digest(topic: Topic, what: &str, key: &[u8]) -> Digest {
    let mut hash = Canonical::new(b"stockade change 1");
    hash.field(&[topic as u8]);
    hash.field(what.as_bytes()).field(key);
    hash.finish()
}

impl From<&Rule> for At {
    fn from(rule: &Rule) -> Self {
        Self {
            id: Some(rule.id.clone()),
            origin: rule.origin,
            source: rule.place.clone(),
        }
    }
}
