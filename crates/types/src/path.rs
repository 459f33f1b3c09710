//! Absolute, lexically normal paths.

use std::{
    ffi::OsStr,
    fmt,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::RawText;

/// Why a path is not an [`AbsPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("`{0}` is not an absolute path")]
    Relative(String),
    /// It has a `..` component, whose meaning depends on links.
    #[error("`{0}` has a `..` component; write the path without it")]
    Parent(String),
    /// It has a NUL byte, which no Linux path can carry.
    #[error("`{0}` has a NUL byte")]
    Nul(String),
}

/// An absolute path without `.`, `..`, doubled or trailing slashes. It says nothing about links.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "RawText", into = "RawText")]
pub struct AbsPath(PathBuf);

impl AbsPath {
    /// Parses `path`.
    ///
    /// # Errors
    /// When it is relative, has `..` or has a NUL byte.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, PathError> {
        let path = path.as_ref();
        let shown = || RawText::from_os(path.as_os_str()).display();
        if !path.is_absolute() {
            return Err(PathError::Relative(shown()));
        }
        if path.as_os_str().as_bytes().contains(&0) {
            return Err(PathError::Nul(shown()));
        }
        let mut normal = PathBuf::from("/");
        for component in path.components() {
            match component {
                Component::Normal(name) => normal.push(name),
                Component::ParentDir => return Err(PathError::Parent(shown())),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Ok(Self(normal))
    }

    /// Returns the path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Appends a relative path that has no `..`.
    ///
    /// # Errors
    /// When `relative` has `..` or a NUL byte; an absolute `relative` is refused as such.
    pub fn join(&self, relative: impl AsRef<Path>) -> Result<Self, PathError> {
        let relative = relative.as_ref();
        if relative.is_absolute() {
            let shown = RawText::from_os(relative.as_os_str()).display();
            return Err(PathError::Relative(shown));
        }
        Self::new(self.0.join(relative))
    }

    /// Tells whether this path is `ancestor` or lies below it, component by component.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        self.0.starts_with(&ancestor.0)
    }
}

impl AsRef<Path> for AbsPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for AbsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&RawText::from_os(self.0.as_os_str()).display())
    }
}

impl fmt::Debug for AbsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<RawText> for AbsPath {
    type Error = PathError;

    fn try_from(text: RawText) -> Result<Self, PathError> {
        Self::new(OsStr::from_bytes(text.as_bytes()))
    }
}

impl From<AbsPath> for RawText {
    fn from(path: AbsPath) -> Self {
        Self::from_os(path.0.as_os_str())
    }
}

#[cfg(test)]
mod tests {
    use super::AbsPath;

    #[test]
    fn paths_are_normal_and_compare_by_component() {
        let app = AbsPath::new("/work//./app/").unwrap();
        assert_eq!(app, AbsPath::new("/work/app").unwrap());
        assert!(AbsPath::new("/work/app/x").unwrap().is_within(&app));
        assert!(!AbsPath::new("/work/app-evil/x").unwrap().is_within(&app));
    }

    #[test]
    fn what_needs_the_file_system_to_be_understood_is_refused() {
        for text in ["relative", "", "/a/../b", "/a\0b"] {
            assert!(AbsPath::new(text).is_err(), "{text:?}");
        }
        assert!(AbsPath::new("/a").unwrap().join("../b").is_err());
        assert!(AbsPath::new("/a").unwrap().join("/b").is_err());
    }
}
