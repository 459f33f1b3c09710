//! Lists of patterns over names, as the conditions on meaning have them.

use std::fmt;

use stockade_types::Verdict;

use crate::{
    fields::{Fields, File, values},
    kinds::{is_allow, join, list_within},
    pattern::{Glob, PathPattern, glob::Case},
};

/// Names with slashes, such as repositories: `team/*`, `team/**`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Option<Vec<PathPattern>>);

impl Names {
    pub(crate) fn read(file: &mut File<'_>, fields: &Fields<'_>, key: &str) -> Self {
        let name = |text: &str| {
            if text.starts_with('/') || text.ends_with('/') {
                return Err(format!(
                    "`{}` begins or ends with `/`; leave it out",
                    text.escape_debug()
                ));
            }
            PathPattern::parse(&format!("/{text}")).map_err(|error| error.to_string())
        };
        Self(fields.list(file, key, name).map(values))
    }

    pub(crate) const fn is_any(&self) -> bool {
        self.0.is_none()
    }

    /// Tells whether a name fits; `None` is one that nobody could read.
    pub(crate) fn fit(&self, effect: Verdict, name: Option<&str>) -> bool {
        let Some(patterns) = &self.0 else { return true };
        let Some(name) = name else {
            return !is_allow(effect);
        };
        // Names are often the same in any letter case.
        let case = if is_allow(effect) {
            Case::Exact
        } else {
            Case::Ignore
        };
        patterns
            .iter()
            .any(|own| own.matches(name.as_bytes(), case))
    }

    pub(crate) fn lie_within(&self, outer: &Self) -> bool {
        list_within(self.0.as_deref(), outer.0.as_deref(), PathPattern::contains)
    }

    /// Writes them as `; LABEL a, b`, or nothing.
    pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>, label: &str) -> fmt::Result {
        let Some(patterns) = &self.0 else {
            return Ok(());
        };
        let texts = patterns
            .iter()
            .map(|own| own.text().trim_start_matches('/'));
        write!(f, "; {label} {}", join(texts))
    }
}

/// One of a few words each, such as operations.
#[derive(Clone, Debug)]
pub(crate) struct Choice<T>(pub(crate) Option<Vec<T>>);

impl<T: Copy + PartialEq> Choice<T> {
    pub(crate) fn read(
        file: &mut File<'_>,
        fields: &Fields<'_>,
        key: &str,
        known: &[(&'static str, T)],
    ) -> Self {
        let word = |text: &str| {
            let found = known.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| {
                let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
                format!(
                    "`{}` is not one of {}",
                    text.escape_debug(),
                    words.join(", ")
                )
            })
        };
        Self(fields.list(file, key, word).map(values))
    }

    pub(crate) fn is_any(&self) -> bool {
        self.0.is_none()
    }

    /// Tells whether it is named, or nothing is.
    pub(crate) fn has(&self, value: T) -> bool {
        self.0.as_ref().is_none_or(|own| own.contains(&value))
    }

    pub(crate) fn lie_within(&self, outer: &Self) -> bool {
        list_within(self.0.as_deref(), outer.0.as_deref(), PartialEq::eq)
    }

    /// Writes them as `; LABEL a, b`, or nothing.
    pub(crate) fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        label: &str,
        word: impl Fn(T) -> &'static str,
    ) -> fmt::Result {
        let Some(own) = &self.0 else { return Ok(()) };
        write!(f, "; {label} {}", join(own.iter().map(|one| word(*one))))
    }
}

/// Texts in which a `*` stands for anything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Globs(Option<Vec<Glob>>);

impl Globs {
    /// Reads them, each made whole by `complete`.
    pub(crate) fn read(
        file: &mut File<'_>,
        fields: &Fields<'_>,
        key: &str,
        complete: impl Fn(&str) -> String,
    ) -> Self {
        let glob = |text: &str| {
            if text.is_empty() {
                return Err("an empty text names nothing".to_owned());
            }
            Glob::parse(&complete(text)).map_err(|error| error.to_string())
        };
        Self(fields.list(file, key, glob).map(values))
    }

    pub(crate) fn is_any(&self) -> bool {
        self.0.is_none()
    }

    /// Tells whether a text fits; `None` is one that nobody could read.
    pub(crate) fn fit(&self, effect: Verdict, text: Option<&[u8]>) -> bool {
        let Some(globs) = &self.0 else { return true };
        let Some(text) = text else {
            return !is_allow(effect);
        };
        let case = if is_allow(effect) {
            Case::Exact
        } else {
            Case::Ignore
        };
        globs.iter().any(|own| own.matches(text, case))
    }

    pub(crate) fn lie_within(&self, outer: &Self) -> bool {
        list_within(self.0.as_deref(), outer.0.as_deref(), |outer, inner| {
            outer.contains(inner)
        })
    }

    /// Writes them as `; LABEL a, b`, or nothing.
    pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>, label: &str) -> fmt::Result {
        let Some(globs) = &self.0 else { return Ok(()) };
        write!(f, "; {label} {}", join(globs.iter().map(Glob::text)))
    }
}

/// Compares a fact, of which nobody may know whether it holds, with what a rule says of it.
pub(crate) fn holds(effect: Verdict, wanted: Option<bool>, known: Option<bool>) -> bool {
    match (wanted, known) {
        (None, _) => true,
        (Some(wanted), Some(known)) => wanted == known,
        (Some(_), None) => !is_allow(effect),
    }
}

/// Tells whether a condition on a fact is at least as narrow as `outer`.
pub(crate) fn fact_within(inner: Option<bool>, outer: Option<bool>) -> bool {
    outer.is_none() || inner == outer
}
