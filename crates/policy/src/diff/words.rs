//! Changes as lines of text.

use stockade_types::Verdict;

use super::{At, Change, Direction, Effect, PolicyDiff, Topic};

impl Topic {
    /// Returns the heading of the topic.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Requests => "requests",
            Self::Models => "models",
            Self::Executions => "executions",
            Self::Files => "files",
            Self::Tools => "tools",
            Self::Cedar => "rules in Cedar",
            Self::Credentials => "credentials",
            Self::Stages => "stages",
            Self::Pins => "pins",
            Self::Settings => "settings",
        }
    }
}

impl Direction {
    /// Says whether the change lets more happen.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Loosens => "loosens",
            Self::Tightens => "tightens",
            Self::Both => "loosens and tightens",
            Self::Neither => "neither",
        }
    }
}

impl Effect {
    /// Says what becomes of requests, for example `newly allowed (was asked)`; `may be` where no request shows
    /// it.
    pub fn in_words(&self) -> String {
        let word = |verdict| match verdict {
            Verdict::Allow => "allowed",
            Verdict::Ask => "asked",
            Verdict::Deny => "denied",
        };
        let may = if self.example.is_some() {
            ""
        } else {
            "may be "
        };
        format!(
            "{may}newly {} (was {})",
            word(self.after),
            word(self.before)
        )
    }
}

impl Effect {
    /// As [`Self::in_words`], with the request that shows it.
    pub fn with_example(&self) -> String {
        let words = self.in_words();
        match &self.example {
            Some(line) => format!("{words}: for example `{line}`"),
            None => words,
        }
    }
}

impl At {
    fn in_words(&self) -> String {
        match &self.id {
            Some(id) => format!("`{id}` ({}, {})", self.origin, self.source),
            None => format!("({}, {})", self.origin, self.source),
        }
    }
}

impl Change {
    /// Says it in lines: what is different, then each effect.
    pub fn in_words(&self) -> Vec<String> {
        let places = match (&self.old, &self.new) {
            (Some(old), Some(new)) if old == new => new.in_words(),
            (Some(old), Some(new)) => format!("{} -> {}", old.in_words(), new.in_words()),
            (Some(one), None) | (None, Some(one)) => one.in_words(),
            (None, None) => String::new(),
        };
        let first = format!("{}: {} {places}", self.direction.in_words(), self.what);
        let mut lines = vec![first.trim_end().to_owned()];
        for effect in &self.effects {
            lines.push(effect.with_example());
        }
        lines
    }
}

impl PolicyDiff {
    /// Returns the topics that have changes, each with them, in order.
    pub fn by_topic(&self) -> Vec<(Topic, Vec<&Change>)> {
        let mut topics: Vec<(Topic, Vec<&Change>)> = Vec::new();
        for change in &self.changes {
            match topics
                .last_mut()
                .filter(|(topic, _)| *topic == change.topic)
            {
                Some((_, changes)) => changes.push(change),
                None => topics.push((change.topic, vec![change])),
            }
        }
        topics
    }
}
