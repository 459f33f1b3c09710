//! Values of JSON as far as they are kept.

use crate::content::{Content, Growing};

/// A value. Members of objects keep their order, also where one is there twice.
#[derive(Clone, Debug)]
pub(crate) enum Tree {
    Null,
    Flag(bool),
    /// As it was written.
    Number(String),
    Text(Growing),
    List(Vec<Tree>),
    Object(Vec<(Vec<u8>, Tree)>),
    /// What would have come next when the text was cut.
    Cut,
}

impl Tree {
    /// Returns a member: the last one of its name, as most readers do.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else {
            return None;
        };
        let mut members = members.iter().rev();
        members
            .find(|(own, _)| own == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// Returns what is at the end of a path of members.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |tree, name| tree.get(name))
    }

    /// Returns a text that is kept.
    pub(crate) fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => text.text(),
            Self::Null
            | Self::Flag(_)
            | Self::Number(_)
            | Self::List(_)
            | Self::Object(_)
            | Self::Cut => None,
        }
    }

    /// Returns the text of a member, if it is kept.
    pub(crate) fn text_of(&self, name: &str) -> Option<&[u8]> {
        self.get(name)?.text()
    }

    /// Tells whether a member is this text.
    pub(crate) fn is(&self, name: &str, text: &str) -> bool {
        self.text_of(name) == Some(text.as_bytes())
    }

    /// Returns a text with its length, kept or not.
    pub(crate) fn said(&self) -> Option<&Growing> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null
            | Self::Flag(_)
            | Self::Number(_)
            | Self::List(_)
            | Self::Object(_)
            | Self::Cut => None,
        }
    }

    /// Returns a number that is not negative; a fraction is left out.
    pub(crate) fn number(&self) -> Option<u64> {
        let Self::Number(digits) = self else {
            return None;
        };
        let whole = digits.split('.').next().unwrap_or_default();
        whole.parse().ok().filter(|_| !digits.contains(['e', 'E']))
    }

    /// Returns the number of a member.
    pub(crate) fn number_of(&self, name: &str) -> Option<u64> {
        self.get(name)?.number()
    }

    /// Returns the items of a list; none of anything else.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            Self::Null
            | Self::Flag(_)
            | Self::Number(_)
            | Self::Text(_)
            | Self::Object(_)
            | Self::Cut => &[],
        }
    }

    /// Returns the items of a member.
    pub(crate) fn items_of(&self, name: &str) -> &[Self] {
        self.get(name).map_or(&[], Self::items)
    }

    /// Returns the names of the members.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        let members = match self {
            Self::Object(members) => members.as_slice(),
            Self::Null
            | Self::Flag(_)
            | Self::Number(_)
            | Self::Text(_)
            | Self::List(_)
            | Self::Cut => &[],
        };
        members.iter().map(|(name, _)| name.as_slice())
    }

    pub(crate) const fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }

    /// Tells whether the text was cut inside of it.
    pub(crate) fn is_cut(&self) -> bool {
        match self {
            Self::Null | Self::Flag(_) | Self::Number(_) | Self::Text(_) => false,
            Self::List(items) => items.iter().any(Self::is_cut),
            Self::Object(members) => members.iter().any(|(_, value)| value.is_cut()),
            Self::Cut => true,
        }
    }

    /// Returns how many values it has, and how many bytes of the room for longer texts.
    pub(crate) fn weight(&self) -> (usize, usize) {
        let add = |(values, text): (usize, usize), inner: &Self| {
            let (more, longer) = inner.weight();
            (values + more, text + longer)
        };
        match self {
            Self::Null | Self::Flag(_) | Self::Number(_) | Self::Cut => (1, 0),
            Self::Text(text) => (1, text.charged()),
            Self::List(items) => items.iter().fold((1, 0), add),
            Self::Object(members) => members.iter().map(|(_, value)| value).fold((1, 0), add),
        }
    }

    /// Writes it without blanks and with the members in the order of their names, so that the same
    /// arguments have the same digest however they were sent; `None` if a text in it is not kept, or it was cut.
    pub(crate) fn arguments(&self) -> Option<Content> {
        let mut text = Vec::new();
        self.write(&mut text, &|_, _| None)?;
        Some(Content::of(&text))
    }

    /// Writes the same up to the first text that is not kept; `true` if all of it is there.
    pub(crate) fn as_far_as_kept(&self) -> (Vec<u8>, bool) {
        let mut text = Vec::new();
        let is_whole = self.write(&mut text, &|_, _| None).is_some();
        (text, is_whole)
    }

    /// Writes it; `unkept` stands in for texts that are not kept, or says that there is nothing. `None` if it
    /// was cut.
    pub(crate) fn write(
        &self,
        to: &mut Vec<u8>,
        unkept: &dyn Fn(&Growing, &mut Vec<u8>) -> Option<()>,
    ) -> Option<()> {
        match self {
            Self::Cut => return None,
            Self::Null => to.extend_from_slice(b"null"),
            Self::Flag(true) => to.extend_from_slice(b"true"),
            Self::Flag(false) => to.extend_from_slice(b"false"),
            Self::Number(digits) => to.extend_from_slice(digits.as_bytes()),
            Self::Text(text) => match text.text() {
                Some(text) => quote(text, to),
                None => unkept(text, to)?,
            },
            Self::List(items) => {
                to.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        to.push(b',');
                    }
                    item.write(to, unkept)?;
                }
                to.push(b']');
            }
            Self::Object(members) => {
                let mut sorted: Vec<_> = members.iter().collect();
                sorted.sort_by_key(|(name, _)| name);
                to.push(b'{');
                for (index, (name, value)) in sorted.into_iter().enumerate() {
                    if index > 0 {
                        to.push(b',');
                    }
                    quote(name, to);
                    to.push(b':');
                    value.write(to, unkept)?;
                }
                to.push(b'}');
            }
        }
        Some(())
    }
}

pub(crate) fn quote(text: &[u8], to: &mut Vec<u8>) {
    to.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => to.extend([b'\\', *byte]),
            b'\n' => to.extend_from_slice(b"\\n"),
            b'\r' => to.extend_from_slice(b"\\r"),
            b'\t' => to.extend_from_slice(b"\\t"),
            0..=31 => to.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => to.push(*byte),
        }
    }
    to.push(b'"');
}
