//! Conditions on the arguments of a tool call.

use std::fmt;

use super::{
    Argument,
    features::{PLACE_BYTES_MAX, ToolFeatures, Value},
    names::{folded, is_place},
};
use crate::{
    kinds::without_home,
    pattern::{Glob, PathPattern, glob::Case},
};

/// Which arguments a condition is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// Each of them, written `*`.
    Any,
    /// One, by the names of the members that lead to it.
    Path { text: String, folded: Vec<u8> },
}

/// Patterns on one argument: one of them must match.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) name: Name,
    pub(crate) patterns: Vec<ArgumentPattern>,
}

/// A pattern on the text of an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArgumentPattern {
    glob: Glob,
    /// The same as a pattern on a place; `None` if it cannot be one.
    place: Option<PathPattern>,
}

impl Name {
    pub(super) fn parse(text: &str) -> Self {
        if text == "*" {
            return Self::Any;
        }
        Self::Path {
            text: text.to_owned(),
            folded: folded(text.as_bytes()),
        }
    }

    fn could_be(&self, value: &Value<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Path { folded, .. } => *folded == value.folded,
        }
    }

    fn is(&self, argument: &Argument) -> bool {
        match self {
            Self::Any => true,
            Self::Path { text, .. } => text.as_bytes() == argument.path.as_bytes(),
        }
    }

    /// Returns whether every argument that `inner` is about is one of these.
    fn contains(&self, inner: &Self) -> bool {
        *self == Self::Any || self == inner
    }

    /// Whether it can name an argument that is a place.
    fn may_be_place(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Path { folded, .. } => is_place(folded),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Path { text, .. } => f.write_str(text),
        }
    }
}

impl Condition {
    /// Whether an ask or a deny must take the call for one of those that it names.
    ///
    /// An argument that is not there was not given, so a rule about it is about other calls. That needs
    /// all arguments: if some could not be read, or one has two values, any of them could be meant.
    pub(super) fn could_hold(&self, features: &ToolFeatures<'_>) -> bool {
        let mut values = features.values.iter();
        !features.request.arguments.is_whole()
            || values.any(|value| {
                let is_named = self.name.could_be(value);
                let patterns = || {
                    self.patterns
                        .iter()
                        .any(|own| own.could_match(value, features))
                };
                is_named && (value.argument.is_cut() || patterns())
            })
    }

    /// Whether an allow is certainly about the call: the argument is there, and all that its name can mean
    /// matches.
    pub(super) fn surely_holds(&self, features: &ToolFeatures<'_>) -> bool {
        let named = || {
            features
                .values
                .iter()
                .filter(|value| self.name.is(value.argument))
        };
        let holds = |value: &Value<'_>| {
            let mut patterns = self.patterns.iter();
            value.argument.is_certain() && patterns.any(|own| own.surely_matches(value, features))
        };
        features.request.arguments.is_whole() && named().next().is_some() && named().all(holds)
    }

    /// Returns whether every call that an allow with `inner` names lies within this condition of an ask.
    pub(super) fn contains(&self, inner: &Self) -> bool {
        let is_place = inner.name.may_be_place();
        let covered = |inner: &ArgumentPattern| {
            let mut own = self.patterns.iter();
            own.any(|own| own.contains(inner, is_place))
        };
        self.name.contains(&inner.name) && inner.patterns.iter().all(covered)
    }
}

impl ArgumentPattern {
    pub(super) fn parse(text: &str, name: &Name) -> Result<Self, String> {
        if name.may_be_place() {
            without_home(text)?;
        }
        let glob = Glob::parse(text).map_err(|error| error.to_string())?;
        // A slash at the end means the directory and everything below it.
        let place = match text.strip_suffix('/') {
            Some(directory) => PathPattern::parse(&format!("{directory}/**")),
            None => PathPattern::parse(text),
        };
        Ok(Self {
            glob,
            place: place.ok(),
        })
    }

    pub(crate) fn text(&self) -> &str {
        self.glob.text()
    }

    pub(super) fn is_any(&self) -> bool {
        self.glob.is_any()
    }

    /// Letter case is ignored, and so is how many blanks stand between words; ` *` at the end also stands
    /// for nothing. A place is compared with every path that it could be.
    fn could_match(&self, value: &Value<'_>, features: &ToolFeatures<'_>) -> bool {
        let text = value.argument.text.as_bytes();
        let spaced = value.words();
        let words = spaced.strip_suffix(b" ").unwrap_or(spaced);
        let texts = [text, words, spaced];
        (texts.iter()).any(|text| self.glob.matches(text, Case::Ignore))
            || (value.is_place && self.could_be_at(value, features))
    }

    fn could_be_at(&self, value: &Value<'_>, features: &ToolFeatures<'_>) -> bool {
        let Some(place) = &self.place else {
            return false;
        };
        let paths = value.paths(features);
        paths
            .iter()
            .any(|path| path.len() > PLACE_BYTES_MAX || place.matches_or_heads(path, Case::Ignore))
    }

    fn surely_matches(&self, value: &Value<'_>, features: &ToolFeatures<'_>) -> bool {
        if !value.is_place {
            return self
                .glob
                .matches(value.argument.text.as_bytes(), Case::Exact);
        }
        if self.is_any() {
            return true;
        }
        let path = value.plain_path().and_then(|path| features.absolute(path));
        let (Some(place), Some(path)) = (&self.place, path) else {
            return false;
        };
        if place.is_rooted() {
            return place.matches(&path, Case::Exact);
        }
        let below = features.below_workspace(&path);
        below.is_some_and(|below| place.matches(below, Case::Exact))
    }

    fn contains(&self, inner: &Self, is_place: bool) -> bool {
        if self.is_any() || self == inner {
            return true;
        }
        if !is_place {
            return self.glob.covers(&inner.glob);
        }
        let places = self.place.as_ref().zip(inner.place.as_ref());
        places.is_some_and(|(own, inner)| own.contains(inner))
    }
}
