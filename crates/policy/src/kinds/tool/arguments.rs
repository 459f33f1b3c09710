//! The arguments of a tool call, taken apart: each text, number or truth value under the names of the
//! members that lead to it.
//!
//! The JSON comes from a model, through an agent, and can be anything. It is read once, in one pass, into
//! bounded memory. Whatever could have another meaning for its reader than it has here is marked: a
//! member that comes twice, a name that has a dot, a text in a list, a text that was cut. An allow relies
//! on none of these; an ask or a deny takes them for what they could be.

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Serialize,
    de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor},
};
use stockade_types::{Digest, RawText};

/// Most values of one call that are read.
const VALUES_MAX: usize = 512;
/// Most bytes of all their texts and paths together; a longer text is cut.
const TEXT_BYTES_MAX: usize = 256 << 10;
/// Most bytes of the names that lead to a value.
const PATH_BYTES_MAX: usize = 512;
/// Deepest nesting that is read.
const DEPTH_MAX: usize = 32;
/// The name of what is sent without one: a text, as for a patch.
pub(super) const UNNAMED: &str = "input";

/// One value of the arguments.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The names of the members that lead to it, joined by dots; those in a list have the list's name.
    pub path: RawText,
    /// The text; numbers, truth values and `null` as JSON writes them, `{}` and `[]` for what is empty.
    pub text: RawText,
    /// No list and no name with a dot leads to it, so it is the only one that the name can mean.
    is_plain: bool,
    /// The text goes on.
    is_cut: bool,
}

impl Argument {
    /// Whether this is certainly the value of its name, and all of it.
    pub(super) const fn is_certain(&self) -> bool {
        self.is_plain && !self.is_cut
    }

    pub(crate) const fn is_cut(&self) -> bool {
        self.is_cut
    }
}

/// What a tool is called with.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ToolArguments {
    values: Vec<Argument>,
    digest: Digest,
    /// Every value was read, and each member has one.
    is_whole: bool,
}

impl ToolArguments {
    /// Reads arguments in JSON, as they were sent; no bytes are no arguments. What is no JSON is read as
    /// one text, and counts as not whole.
    pub fn read(json: &[u8]) -> Self {
        let mut reading = Reading::default();
        let mut reader = serde_json::Deserializer::from_slice(json);
        let place = Place {
            reading: &mut reading,
            path: String::new(),
            depth: 0,
            is_plain: true,
        };
        let is_json =
            json.is_empty() || (place.deserialize(&mut reader).is_ok() && reader.end().is_ok());
        if !is_json {
            reading.values.clear();
            reading.bytes = 0;
            reading.lacks = true;
            reading.add(UNNAMED, json, true);
        }
        Self {
            values: reading.values,
            digest: Digest::of(json),
            is_whole: !reading.lacks,
        }
    }

    /// Returns the values, in the order in which they were sent.
    pub fn values(&self) -> &[Argument] {
        &self.values
    }

    /// Returns the hash of the arguments as they were sent.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns whether every value was read, and each member had one.
    pub const fn is_whole(&self) -> bool {
        self.is_whole
    }
}

/// What was read so far.
#[derive(Default)]
struct Reading {
    values: Vec<Argument>,
    bytes: usize,
    lacks: bool,
}

impl Reading {
    fn add(&mut self, path: &str, text: &[u8], is_plain: bool) {
        let left = TEXT_BYTES_MAX.saturating_sub(self.bytes);
        if self.values.len() >= VALUES_MAX || path.len() > PATH_BYTES_MAX.min(left) {
            self.lacks = true;
            return;
        }
        let kept = text.get(..left - path.len()).unwrap_or(text);
        self.bytes += path.len() + kept.len();
        self.values.push(Argument {
            path: path.into(),
            text: RawText::from_bytes(kept),
            is_plain,
            is_cut: kept.len() < text.len(),
        });
    }
}

/// Where a value stands.
struct Place<'r> {
    reading: &'r mut Reading,
    path: String,
    depth: usize,
    is_plain: bool,
}

impl Place<'_> {
    fn value(self, text: &[u8]) {
        let path = if self.path.is_empty() {
            UNNAMED
        } else {
            &self.path
        };
        self.reading.add(path, text, self.is_plain);
    }

    fn enter<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.depth < DEPTH_MAX {
            return Ok(());
        }
        Err(E::custom("nested too deeply"))
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.value(value.to_string().as_bytes());
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.value(value.to_string().as_bytes());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.value(value.to_string().as_bytes());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.value(value.to_string().as_bytes());
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.value(value.as_bytes());
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.value(b"null");
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.enter()?;
        let first = self.reading.values.len();
        let mut items = 0_usize;
        loop {
            let place = Place {
                reading: &mut *self.reading,
                path: self.path.clone(),
                depth: self.depth + 1,
                is_plain: false,
            };
            if list.next_element_seed(place)?.is_none() {
                break;
            }
            items += 1;
        }
        if items == 0 {
            self.value(b"[]");
            return Ok(());
        }
        // A list of words is often a command; a rule may name it as one text.
        let own = |value: &&Argument| value.path.as_bytes() == self.path.as_bytes();
        let words: Vec<&[u8]> = (self.reading.values.iter().skip(first))
            .take_while(own)
            .map(|value| value.text.as_bytes())
            .collect();
        if items > 1 && words.len() == items {
            let words = words.join(&b' ');
            self.value_in_list(&words);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.enter()?;
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if names.len() >= VALUES_MAX {
                return Err(A::Error::custom("too many members"));
            }
            let path = if self.path.is_empty() {
                name.clone()
            } else {
                format!("{}.{name}", self.path)
            };
            if path.len() > PATH_BYTES_MAX {
                return Err(A::Error::custom("the names are too long"));
            }
            map.next_value_seed(Place {
                path,
                depth: self.depth + 1,
                is_plain: self.is_plain && !name.contains('.') && !name.is_empty(),
                reading: &mut *self.reading,
            })?;
            // Which of two values a reader takes is its own choice.
            self.reading.lacks |= !names.insert(name);
        }
        if names.is_empty() && self.depth > 0 {
            self.value(b"{}");
        }
        Ok(())
    }
}

impl Place<'_> {
    fn value_in_list(self, text: &[u8]) {
        Place {
            is_plain: false,
            ..self
        }
        .value(text);
    }
}
