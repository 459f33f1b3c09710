//! JSON in which a member can be there twice: servers differ in which of the two they take.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::limits::JSON_VALUES_MAX;

/// A value, with the members of objects in their order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    Text(String),
    Flag(bool),
    /// A number or nothing.
    Other,
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// Reads a whole text; `None` if it is not JSON or has too many values.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let left = Cell::new(JSON_VALUES_MAX);
        let mut reader = serde_json::Deserializer::from_slice(text);
        let tree = Any(&left).deserialize(&mut reader).ok()?;
        reader.end().ok()?;
        Some(tree)
    }

    /// Returns a member of an object, in any letter case, where there is at most one such.
    pub(super) fn member(&self, name: &str) -> Result<Option<&Self>, Doubled> {
        let Self::Object(members) = self else {
            return Ok(None);
        };
        one(members, name)
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Flag(_) | Self::Other | Self::List(_) | Self::Object(_) => None,
        }
    }
}

/// A member is there more than once, or not in the letters in which it is known.
#[derive(Debug)]
pub(super) struct Doubled;

/// Finds the one member with a name.
fn one<'t>(members: &'t [(String, Tree)], name: &str) -> Result<Option<&'t Tree>, Doubled> {
    let mut found = members
        .iter()
        .filter(|(own, _)| own.eq_ignore_ascii_case(name));
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some((own, value)), None) if own == name => Ok(Some(value)),
        (Some(_), _) => Err(Doubled),
    }
}

/// The members of the outermost object that have one of `names` in any letter case; the others, which
/// are most of a conversation, are not kept.
pub(super) fn members(text: &[u8], names: &[&str]) -> Option<Tree> {
    let left = Cell::new(JSON_VALUES_MAX);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let seed = Outer { names, left: &left };
    let tree = seed.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(tree)
}

struct Outer<'a> {
    names: &'a [&'a str],
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Outer<'_> {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Tree, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Outer<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if self.names.iter().any(|own| own.eq_ignore_ascii_case(&name)) {
                members.push((name, map.next_value_seed(Any(self.left))?));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Tree::Object(members))
    }
}

/// Any value, as long as there is room for it.
struct Any<'a>(&'a Cell<usize>);

impl Any<'_> {
    fn take<E: Error>(&self) -> Result<(), E> {
        let left = self
            .0
            .get()
            .checked_sub(1)
            .ok_or_else(|| E::custom("too many values"))?;
        self.0.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Any<'_> {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Tree, D::Error> {
        self.take()?;
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Flag(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(Any(self.0))? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            members.push((name, map.next_value_seed(Any(self.0))?));
        }
        Ok(Tree::Object(members))
    }
}
