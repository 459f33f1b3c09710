//! What requests mean to the services that they are for, and the conditions of rules on that.
//!
//! The head of a request is read here, because `policy test` has nothing else; what only the body says
//! is read where the bytes are and comes with the request. An allow matches only what is certain; an
//! ask or a deny matches whatever could be meant.

mod forge;
mod git;
mod model;
mod package;
mod registry;
mod words;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stockade_types::{RawText, Verdict};

pub use forge::{Forge, ForgeOperation};
pub use git::{Git, GitOperation, RefChange, RefEffect};
pub use model::{HostedTool, Model, Provider};
pub use package::{Age, Package, PackageOperation};
pub use registry::{Ecosystem, PackagePart};

use crate::{
    fields::{Fields, File},
    kinds::Fit,
    request_path::RequestPath,
};
use forge::ForgeCondition;
use git::GitCondition;
use model::ModelCondition;
use package::PackageCondition;

/// Items of a meaning, such as changed refs, that a record lists: as many as its words name.
const TYPED_MAX: usize = 8;

/// What a request means, in the terms of the service that it is for.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Meaning {
    /// Something about a git repository.
    Git(Git),
    /// Something about a package of a registry.
    Package(Package),
    /// Something at a code host, through its interface for programs.
    Forge(Forge),
    /// A call of a model.
    Model(Model),
}

impl Meaning {
    /// Reads what the head of a request says; nothing where it means nothing that rules know.
    pub(crate) fn of_head(topics: &[Topic], method: &str, path: &[u8]) -> Vec<Self> {
        if topics.is_empty() {
            return Vec::new();
        }
        let path = RequestPath::new(path);
        let read = |topic: &Topic| topic.of_head(method, &path);
        topics.iter().filter_map(read).collect()
    }

    /// Returns what it is about.
    pub(crate) const fn topic(&self) -> Topic {
        match self {
            Self::Git(_) => Topic::Git,
            Self::Package(package) => Topic::Package(Some(package.ecosystem)),
            Self::Forge(_) => Topic::Forge,
            Self::Model(_) => Topic::Model,
        }
    }

    /// Returns it in words, for people; names in it are as they were sent.
    pub fn in_words(&self) -> RawText {
        let text = match self {
            Self::Git(git) => git.in_words(),
            Self::Package(package) => package.in_words(),
            Self::Forge(forge) => forge.in_words(),
            Self::Model(model) => model.in_words(),
        };
        RawText::from(text.as_str())
    }

    /// Returns it with what `hide` returns in the place of each text that has secrets, if it can be
    /// written so, and whether there was one.
    pub(crate) fn hide(&self, hide: &dyn Fn(&RawText) -> Option<RawText>) -> (Option<Self>, bool) {
        let Ok(mut value) = serde_json::to_value(self) else {
            return (None, true);
        };
        if !hide_texts(&mut value, hide) {
            return (Some(self.clone()), false);
        }
        (serde_json::from_value(value).ok(), true)
    }

    /// Returns it as records keep it; `None` where that would be long.
    pub(crate) fn typed(&self) -> Option<Value> {
        let is_long = match self {
            Self::Git(git) => git
                .changes
                .as_ref()
                .is_some_and(|all| all.len() > TYPED_MAX),
            Self::Forge(forge) => forge
                .actions
                .as_ref()
                .is_some_and(|all| all.len() > TYPED_MAX),
            Self::Model(model) => {
                let tools = model.hosted_tools.as_ref();
                tools.is_some_and(|all| all.len() > TYPED_MAX)
            }
            Self::Package(_) => false,
        };
        let value = (!is_long).then(|| serde_json::to_value(self));
        value.and_then(Result::ok)
    }

    /// Returns what an answer wider than counted uses binds; `None` if it is not known well enough.
    pub(crate) fn bound(&self) -> Option<String> {
        match self {
            Self::Git(git) => git.bound(),
            Self::Package(package) => package.bound(),
            Self::Forge(forge) => forge.bound(),
            Self::Model(model) => model.bound(),
        }
    }
}

/// Hides secrets in every text of a value, and tells whether there was one.
fn hide_texts(value: &mut Value, hide: &dyn Fn(&RawText) -> Option<RawText>) -> bool {
    match value {
        Value::String(text) => match hide(&RawText::from(text.as_str())) {
            Some(hidden) => {
                *text = String::from_utf8_lossy(hidden.as_bytes()).into_owned();
                true
            }
            None => false,
        },
        // All are looked at, whatever the others have.
        Value::Array(all) => all
            .iter_mut()
            .fold(false, |any, one| hide_texts(one, hide) | any),
        Value::Object(all) => all
            .values_mut()
            .fold(false, |any, one| hide_texts(one, hide) | any),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// What a rule says about the meaning of requests.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Git(GitCondition),
    Package(PackageCondition),
    Forge(ForgeCondition),
    Model(ModelCondition),
}

/// The subjects of conditions on the meaning; a registry's is that of its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    Git,
    /// `None` where it is not said yet which protocols.
    Package(Option<Ecosystem>),
    Forge,
    Model,
}

impl Topic {
    /// Returns the word of the key `what`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Package(_) => "package",
            Self::Forge => "forge",
            Self::Model => "model",
        }
    }

    /// Returns the fields that such a rule has in addition to those of a rule about hosts.
    pub(crate) const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Git => &git::FIELDS,
            Self::Package(_) => &package::FIELDS,
            Self::Forge => &forge::FIELDS,
            Self::Model => &model::FIELDS,
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
            Self::Package(_) => Condition::Package(PackageCondition::read(file, fields, effect)),
            Self::Forge => Condition::Forge(ForgeCondition::read(file, fields)),
            Self::Model => Condition::Model(ModelCondition::read(file, fields)),
        }
    }

    /// Reads the head of a request; `None` if it is certainly nothing of this.
    fn of_head(self, method: &str, path: &RequestPath<'_>) -> Option<Meaning> {
        match self {
            Self::Git => Git::of_head(method, path).map(Meaning::Git),
            Self::Package(ecosystem) => {
                let ecosystem = ecosystem?;
                Some(Meaning::Package(Package::of_head(ecosystem, method, path)))
            }
            Self::Forge => Some(Meaning::Forge(Forge::of_head(method, path))),
            Self::Model => Model::of_head(method, path).map(Meaning::Model),
        }
    }
}

impl Condition {
    /// Returns what it is about.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        match self {
            Self::Git(_) => vec![Topic::Git],
            Self::Package(condition) => {
                let ecosystems = condition.ecosystems().iter();
                ecosystems.map(|one| Topic::Package(Some(*one))).collect()
            }
            Self::Forge(_) => vec![Topic::Forge],
            Self::Model(_) => vec![Topic::Model],
        }
    }

    /// Returns the word of the key `what`.
    pub(crate) const fn what(&self) -> &'static str {
        match self {
            Self::Git(_) => Topic::Git.as_str(),
            Self::Package(_) => Topic::Package(None).as_str(),
            Self::Forge(_) => Topic::Forge.as_str(),
            Self::Model(_) => Topic::Model.as_str(),
        }
    }

    /// Judges a request by its meaning; `None` if it is not what the rule is about. `meaning` is what
    /// came with the request and was read with its body; of anything else the head alone is known.
    pub(crate) fn fit(
        &self,
        effect: Verdict,
        (method, path): (&str, &RequestPath<'_>),
        meaning: &[Meaning],
    ) -> Option<Fit> {
        let read = |topic: Topic| {
            let read = meaning.iter().find(|one| one.topic() == topic).cloned();
            read.or_else(|| topic.of_head(method, path))
        };
        let read: Vec<Meaning> = self.topics().into_iter().filter_map(read).collect();
        // What one registry has said of a file is not in doubt because others have no such files.
        let has_age = |one: &Meaning| match one {
            Meaning::Package(package) => matches!(package.age, Some(Age::Seconds(_))),
            Meaning::Git(_) | Meaning::Forge(_) | Meaning::Model(_) => false,
        };
        let is_known = self.looks_at_ages() && read.iter().any(has_age);
        let fit = |read: &Meaning| match (self, read) {
            (Self::Git(own), Meaning::Git(git)) => own.fit(effect, git),
            (Self::Package(_), Meaning::Package(package))
                if is_known && package.part == PackagePart::Unknown =>
            {
                None
            }
            (Self::Package(own), Meaning::Package(package)) => own.fit(effect, package),
            (Self::Forge(own), Meaning::Forge(forge)) => own.fit(effect, forge),
            (Self::Model(own), Meaning::Model(model)) => own.fit(effect, model),
            (Self::Git(_) | Self::Package(_) | Self::Forge(_) | Self::Model(_), _) => None,
        };
        read.iter().find_map(fit)
    }

    /// Tells whether the age of versions counts.
    pub(crate) const fn looks_at_ages(&self) -> bool {
        match self {
            Self::Package(condition) => condition.looks_at_ages(),
            Self::Git(_) | Self::Forge(_) | Self::Model(_) => false,
        }
    }

    /// Tells whether all that this condition lets through certainly satisfies `outer`.
    pub(crate) fn lies_within(&self, outer: &Self) -> bool {
        match (self, outer) {
            (Self::Git(inner), Self::Git(outer)) => inner.lies_within(outer),
            (Self::Package(inner), Self::Package(outer)) => inner.lies_within(outer),
            (Self::Forge(inner), Self::Forge(outer)) => inner.lies_within(outer),
            (Self::Model(inner), Self::Model(outer)) => inner.lies_within(outer),
            (Self::Git(_) | Self::Package(_) | Self::Forge(_) | Self::Model(_), _) => false,
        }
    }
}

impl fmt::Display for Condition {
    /// Writes the condition behind the hosts of a rule, for example `; repositories team/*`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Git(condition) => condition.fmt(f),
            Self::Package(condition) => condition.fmt(f),
            Self::Forge(condition) => condition.fmt(f),
            Self::Model(condition) => condition.fmt(f),
        }
    }
}
