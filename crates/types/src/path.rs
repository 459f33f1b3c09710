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
    /// It has a `..` component, whose meaning depends on symbolic links.
    #[error("`{0}` has a `..` component; write the path without it")]
    Parent(String),
    /// It has a NUL byte, which no Linux path can contain.
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
    /// When `relative` has `..` or a NUL byte; an absolute `relative` is refused too.
    pub fn join(&self, relative: impl AsRef<Path>) -> Result<Self, PathError> {
        let relative = relative.as_ref();
        if relative.is_absolute() {
            let shown = RawText::from_os(relative.as_os_str()).display();
            return Err(PathError::Relative(shown));
        }
        Self::new(self.0.join(relative))
    }

    /// Appends the components of `path`.
    #[must_use]
    pub fn below(&self, path: FixedPath) -> Self {
        let relative = path.0.trim_start_matches('/');
        if relative.is_empty() {
            return self.clone();
        }
        Self(self.0.join(relative))
    }

    /// Returns whether this path is `ancestor` or lies below it, component by component.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        self.0.starts_with(&ancestor.0)
    }
}

/// An absolute path that is written in our own code: the compiler finds a mistake in it.
///
/// The compiler checks constants and statics of this type; [`Self::new`] has no other use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedPath(&'static str);

impl FixedPath {
    /// The root of the file system.
    pub const ROOT: Self = Self("/");

    /// Takes a path that begins with `/` and has no empty, `.` or `..` component and no NUL byte.
    /// In a constant, any other text stops the compilation.
    ///
    /// # Panics
    /// On any other text, if this is not a constant.
    #[allow(
        clippy::indexing_slicing,
        reason = "`at` is below the length, and constants cannot call `get`"
    )]
    pub const fn new(text: &'static str) -> Self {
        let bytes = text.as_bytes();
        assert!(bytes.len() > 1 && bytes[0] == b'/', "not an absolute path");
        let mut at = 0;
        // Length of the component that contains `at`, and how many of its bytes are dots.
        let (mut length, mut dots) = (1, 0);
        while at < bytes.len() {
            assert!(bytes[at] != 0, "a NUL byte");
            if bytes[at] == b'/' {
                assert!(length > 0, "an empty component");
                assert!(dots == 0 || dots != length || dots > 2, "`.` or `..`");
                (length, dots) = (0, 0);
            } else {
                length += 1;
                dots += (bytes[at] == b'.') as usize;
            }
            at += 1;
        }
        assert!(length > 0, "a slash at the end");
        assert!(dots != length || dots > 2, "`.` or `..`");
        Self(text)
    }

    /// Returns the text.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl From<FixedPath> for AbsPath {
    fn from(path: FixedPath) -> Self {
        Self(PathBuf::from(path.0))
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
    use super::{AbsPath, FixedPath};

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

    /// The compiler accepts a constant exactly if the parser accepts the same text.
    #[test]
    fn fixed_paths_are_those_that_are_normal() {
        for text in ["/a", "/a/b", "/.a", "/a/...", "/a./b", "/..a"] {
            let path = AbsPath::from(FixedPath::new(text));
            assert_eq!(Ok(path), AbsPath::new(text));
        }
        for text in [
            "", "/", "a", "//a", "/a/", "/a//b", "/.", "/..", "/a/..", "/./a", "/../a", "/a\0",
        ] {
            let made = std::panic::catch_unwind(|| FixedPath::new(text));
            assert!(made.is_err(), "{text:?}");
        }
        let work = AbsPath::new("/work").unwrap();
        let inside = work.below(FixedPath::new("/inside/ssh"));
        assert_eq!(inside, AbsPath::new("/work/inside/ssh").unwrap());
        assert_eq!(work.below(FixedPath::ROOT), work);
        assert_eq!(AbsPath::from(FixedPath::ROOT), AbsPath::new("/").unwrap());
    }
}
