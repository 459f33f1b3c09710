//! A log record or a span, as far as it is read.

use std::borrow::Cow;

use stockade_types::RawText;

use crate::{
    content::{Content, name},
    json::{Json, Shape},
    limits::ATTRIBUTES_MAX,
    tree::Tree,
};

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Text(Cow<'a, [u8]>),
    Whole(i64),
    Real(f64),
    Flag(bool),
    /// The first text of a list.
    First(Cow<'a, [u8]>),
    /// Nothing, or what is not read.
    None,
}

/// A log record or a span.
#[derive(Clone, Debug, Default)]
pub(super) struct Record<'a> {
    /// Who made it: the name of its instrumentation scope.
    pub(super) scope: Cow<'a, [u8]>,
    /// The name of its event, if it has one as a field.
    pub(super) event: Cow<'a, [u8]>,
    /// The text of a log record.
    pub(super) body: Cow<'a, [u8]>,
    /// When a span began, in nanoseconds.
    pub(super) start: u64,
    /// When it ended.
    pub(super) end: u64,
    pub(super) attributes: Vec<(Cow<'a, [u8]>, Value<'a>)>,
}

impl<'a> Record<'a> {
    /// Adds an attribute, as long as there is room.
    pub(super) fn add(&mut self, name: Cow<'a, [u8]>, value: Value<'a>) {
        if self.attributes.len() < ATTRIBUTES_MAX {
            self.attributes.push((name, value));
        }
    }

    fn get(&self, name: &str) -> Option<&Value<'a>> {
        let mut all = self.attributes.iter();
        let found = all.find(|(own, _)| own.as_ref() == name.as_bytes());
        found.map(|(_, value)| value)
    }

    /// Tells whether there is an attribute.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| *value != Value::None)
    }

    /// Returns a text that is not empty.
    pub(super) fn text(&self, name: &str) -> Option<&[u8]> {
        match self.get(name)? {
            Value::Text(text) | Value::First(text) if !text.is_empty() => Some(text),
            Value::Text(_)
            | Value::First(_)
            | Value::Whole(_)
            | Value::Real(_)
            | Value::Flag(_)
            | Value::None => None,
        }
    }

    /// Tells whether an attribute is this text.
    pub(super) fn is(&self, name: &str, text: &str) -> bool {
        self.text(name) == Some(text.as_bytes())
    }

    /// Returns a short text.
    pub(super) fn name(&self, of: &str) -> Option<RawText> {
        self.text(of).map(name)
    }

    /// Returns what was said.
    pub(super) fn content(&self, name: &str) -> Option<Content> {
        self.text(name).map(Content::of)
    }

    /// Returns a count, which some write as a text.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Whole(number) => u64::try_from(*number).ok(),
            Value::Real(number) => whole(*number),
            Value::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            Value::First(_) | Value::Flag(_) | Value::None => None,
        }
    }

    /// Returns the JSON that an attribute holds as a text.
    pub(super) fn json(&self, name: &str) -> Option<Tree> {
        let mut json = Json::new(Shape::ALL);
        json.feed(self.text(name)?);
        let (tree, extent) = json.finish();
        tree.filter(|_| !extent.is_cut)
    }

    /// Returns how long a span took, in milliseconds.
    pub(super) fn span_ms(&self) -> Option<u64> {
        let span = self.end.checked_sub(self.start)?;
        (self.start > 0).then_some(span / 1_000_000)
    }
}

/// Returns the whole part of a number that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates, and negative ones are left out"
)]
fn whole(number: f64) -> Option<u64> {
    (number >= 0.0).then_some(number as u64)
}
