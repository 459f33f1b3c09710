//! The parties that can settle a question: a closed set, written as in records and on sockets.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{ApprovalId, Circumstance, RuleId};

/// A text names no party that can settle a question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` settles no question; expected terminal, inbox uid NUMBER, people NAMES, approval ID, \
     rule ID, or one of {}", Circumstance::ALL.map(Circumstance::as_str).join(", ")
)]
pub struct AnswererError {
    /// The text.
    pub text: String,
}

/// A person who answers, by the place. Only a person's answer becomes a separate grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Person {
    /// At the terminal of the session.
    Terminal,
    /// At an inbox.
    Inbox {
        /// Their user id, as the kernel reports it.
        uid: u32,
    },
}

/// Most people who say yes together: as many votes as a statement of them can have.
const PEOPLE_MAX: usize = 64;
/// Longest name of one, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// People in roles, by the names that their organisation has for them: each a word of letters, digits and
/// `@ . _ + -`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct People(Vec<String>);

impl People {
    /// Takes the names of at least one; `None` if there are too many, or one is no such word.
    pub fn new(names: Vec<String>) -> Option<Self> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"@._+-".contains(&byte);
        let is_name =
            |name: &String| (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_part);
        let is_right = (1..=PEOPLE_MAX).contains(&names.len()) && names.iter().all(is_name);
        is_right.then_some(Self(names))
    }

    /// Returns the names.
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for People {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "people {}", self.0.join(", "))
    }
}

/// The party that settles a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Answerer {
    /// A person.
    Person(Person),
    /// People in roles, whose votes this machine has checked.
    People(People),
    /// The answer to another question, which also covers this one.
    Approval(ApprovalId),
    /// A rule that allows the command to which the request belongs.
    Rule(RuleId),
    /// No one: a circumstance settles it.
    Circumstance(Circumstance),
}

impl From<Person> for Answerer {
    fn from(person: Person) -> Self {
        Self::Person(person)
    }
}

impl From<Circumstance> for Answerer {
    fn from(circumstance: Circumstance) -> Self {
        Self::Circumstance(circumstance)
    }
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Terminal => f.write_str("terminal"),
            Self::Inbox { uid } => write!(f, "inbox uid {uid}"),
        }
    }
}

impl fmt::Display for Answerer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(person) => person.fmt(f),
            Self::People(people) => people.fmt(f),
            Self::Approval(id) => write!(f, "approval {id}"),
            Self::Rule(id) => write!(f, "rule {id}"),
            Self::Circumstance(circumstance) => circumstance.fmt(f),
        }
    }
}

impl FromStr for Answerer {
    type Err = AnswererError;

    fn from_str(text: &str) -> Result<Self, AnswererError> {
        let unknown = || AnswererError {
            text: text.to_owned(),
        };
        if text == "terminal" {
            return Ok(Person::Terminal.into());
        }
        if let Ok(circumstance) = text.parse::<Circumstance>() {
            return Ok(circumstance.into());
        }
        if let Some(number) = text.strip_prefix("inbox uid ") {
            let uid: u32 = number.parse().map_err(|_| unknown())?;
            let person = Person::Inbox { uid };
            // Each number has only one spelling: `+1` and `01` are invalid.
            return if person.to_string() == text {
                Ok(person.into())
            } else {
                Err(unknown())
            };
        }
        if let Some(names) = text.strip_prefix("people ") {
            let names = names.split(", ").map(str::to_owned).collect();
            return People::new(names).map(Self::People).ok_or_else(unknown);
        }
        if let Some(id) = text.strip_prefix("approval ") {
            return id.parse().map(Self::Approval).map_err(|_| unknown());
        }
        let rule = text.strip_prefix("rule ").ok_or_else(unknown)?;
        rule.parse().map(Self::Rule).map_err(|_| unknown())
    }
}

impl TryFrom<String> for Answerer {
    type Error = AnswererError;

    fn try_from(text: String) -> Result<Self, AnswererError> {
        text.parse()
    }
}

impl From<Answerer> for String {
    fn from(answerer: Answerer) -> Self {
        answerer.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answerer_is_read_as_it_is_written_and_nothing_else_is_one() {
        let approval = Answerer::Approval(ApprovalId::from_random(0x7f3a_0001));
        let rule = Answerer::Rule("no-push".parse().unwrap());
        let uid = u32::MAX;
        let mut all = vec![
            (Person::Terminal.into(), "terminal"),
            (Person::Inbox { uid }.into(), "inbox uid 4294967295"),
            (Person::Inbox { uid: 0 }.into(), "inbox uid 0"),
            (
                Answerer::People(People::new(vec!["ann".to_owned(), "u-7@x".to_owned()]).unwrap()),
                "people ann, u-7@x",
            ),
            (approval, "approval 7f3a0001"),
            (rule, "rule no-push"),
        ];
        all.extend(Circumstance::ALL.map(|one| (one.into(), one.as_str())));
        for (answerer, text) in all {
            assert_eq!(answerer.to_string(), text);
            assert_eq!(text.parse(), Ok(answerer.clone()));
            let json = serde_json::to_string(&answerer).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Answerer>(&json).unwrap(), answerer);
        }
        for text in [
            "",
            "Terminal",
            "terminal ",
            "inbox",
            "inbox uid",
            "inbox uid -1",
            "inbox uid +1",
            "inbox uid 01",
            "inbox uid 4294967296",
            "inbox uid 1 terminal",
            "people ",
            "people ann,ben",
            "people ann, ",
            "people a b",
            "people ann, terminal\n",
            "approval 7F3A0001",
            "approval ",
            "rule ",
            "rule a b",
            "person",
        ] {
            let error = text.parse::<Answerer>().unwrap_err().to_string();
            assert!(error.contains("inbox uid NUMBER"), "{text}: {error}");
            assert!(error.contains("no-one-to-ask"), "{text}: {error}");
        }
    }
}
