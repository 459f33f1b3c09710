//! The parties that can settle a question: a closed set, written as in records.

/// The party that settles a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A person, by the words for the terminal or inbox: `terminal`, `inbox uid 1000`.
    Person(String),
    /// The answer to another question, which also covers this one: `approval 7f3a0001`.
    Grant(String),
    /// It has expired.
    Timeout,
    /// No program waits for it any more.
    Withdrawn,
    /// The session ends.
    SessionEnd,
    /// There is no one to ask.
    NoOne,
    /// It could not be recorded.
    Journal,
    /// The rules for grants.
    Policy,
}

impl By {
    /// The parties that are neither a person nor a grant.
    const OWN: [Self; 6] = [
        Self::Timeout,
        Self::Withdrawn,
        Self::SessionEnd,
        Self::NoOne,
        Self::Journal,
        Self::Policy,
    ];

    /// Finds the one of ours that records write like this.
    pub(super) fn of(words: &str) -> Option<Self> {
        Self::OWN.into_iter().find(|own| own.as_str() == words)
    }

    /// Returns the words of records.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Person(words) | Self::Grant(words) => words,
            Self::Timeout => "timeout",
            Self::Withdrawn => "withdrawn",
            Self::SessionEnd => "session-end",
            Self::NoOne => "no-one-to-ask",
            Self::Journal => "journal",
            Self::Policy => "policy",
        }
    }
}
