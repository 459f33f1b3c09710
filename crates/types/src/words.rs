//! A list of words that many values share.

use std::{ops::Deref, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::RawText;

/// A list of byte strings, for example an argument vector, that is never changed.
///
/// A copy only increments a counter: a process has thousands of events and one argument vector. In
/// JSON it is a list of [`RawText`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(Arc<[RawText]>);

impl Words {
    /// Returns whether both are the same list in memory: this is quick, but misses equal lists.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Default for Words {
    fn default() -> Self {
        Self(Arc::from([]))
    }
}

impl Deref for Words {
    type Target = [RawText];

    fn deref(&self) -> &[RawText] {
        &self.0
    }
}

impl From<Vec<RawText>> for Words {
    fn from(words: Vec<RawText>) -> Self {
        Self(words.into())
    }
}

impl FromIterator<RawText> for Words {
    fn from_iter<I: IntoIterator<Item = RawText>>(words: I) -> Self {
        Self(words.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Words {
    type Item = &'a RawText;
    type IntoIter = std::slice::Iter<'a, RawText>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}
