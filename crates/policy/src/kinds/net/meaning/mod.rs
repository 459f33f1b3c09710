//! What requests mean to the services that they are for, and the conditions of rules on that.
//!
//! The head of a request is read here, because `policy test` has nothing else; what only the body says
//! is read where the bytes are and comes with the request. An allow matches only what is certain; an
//! ask or a deny matches whatever could be meant.

mod git;
mod words;

use std::fmt;

use serde::{Deserialize, Serialize};
use stockade_types::{RawText, Verdict};

pub(crate) use git::GitCondition;
pub use git::{Git, GitOperation, RefChange, RefEffect};

use crate::{
    fields::{Fields, File},
    kinds::Fit,
    request_path::RequestPath,
};

/// What a request means, in the terms of the service that it is for.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Meaning {
    /// Something about a git repository.
    Git(Git),
}

impl Meaning {
    /// Reads what the head of a request says; nothing where it means nothing that rules know.
    pub(crate) fn of_head(topics: &[Topic], method: &str, path: &[u8]) -> Vec<Self> {
        if topics.is_empty() {
            return Vec::new();
        }
        let path = RequestPath::new(path);
        let read = |topic: &Topic| match topic {
            Topic::Git => Git::of_head(method, &path).map(Self::Git),
        };
        topics.iter().filter_map(read).collect()
    }

    /// Returns it in words, for people; names in it are as they were sent.
    pub fn in_words(&self) -> RawText {
        let text = match self {
            Self::Git(git) => git.in_words(),
        };
        RawText::from(text.as_str())
    }

    /// Returns what an answer wider than counted uses binds; `None` if it is not known well enough.
    pub(crate) fn bound(&self) -> Option<String> {
        match self {
            Self::Git(git) => git.bound(),
        }
    }
}

/// What a rule says about the meaning of requests.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Git(GitCondition),
}

/// The subjects of conditions on the meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    Git,
}

impl Topic {
    /// Returns the word of the key `what`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Git => "git",
        }
    }

    /// Returns the fields that such a rule has in addition to those of a rule about hosts.
    pub(crate) const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Git => &git::FIELDS,
        }
    }

    /// Reads those fields.
    pub(crate) fn read(
        self,
        file: &mut File<'_>,
        fields: &Fields<'_>,
        effect: Verdict,
    ) -> Condition {
        match self {
            Self::Git => Condition::Git(GitCondition::read(file, fields, effect)),
        }
    }
}

impl Condition {
    /// Returns what it is about.
    pub(crate) const fn topic(&self) -> Topic {
        match self {
            Self::Git(_) => Topic::Git,
        }
    }

    /// Judges a request by its meaning; `None` if it is not what the rule is about.
    pub(crate) fn fit(
        &self,
        effect: Verdict,
        (method, path): (&str, &RequestPath<'_>),
        meaning: &[Meaning],
    ) -> Option<Fit> {
        match self {
            Self::Git(condition) => {
                let read = meaning.iter().map(|Meaning::Git(git)| git).next_back();
                let head = Git::of_head(method, path);
                // What came with the request was read with its body; the head alone says less.
                condition.fit(effect, read.or(head.as_ref())?)
            }
        }
    }

    /// Tells whether all that this condition lets through certainly satisfies `outer`.
    pub(crate) fn lies_within(&self, outer: &Self) -> bool {
        match (self, outer) {
            (Self::Git(inner), Self::Git(outer)) => inner.lies_within(outer),
        }
    }
}

impl fmt::Display for Condition {
    /// Writes the condition behind the hosts of a rule, for example `; repositories team/*`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Git(condition) => condition.fmt(f),
        }
    }
}
