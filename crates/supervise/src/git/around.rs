//! The surroundings in the session that values of settings are compared with.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::{is_read_only, normal, open_straight, pointers, read_at, settings};
use crate::{Supervision, resolve::Resolver};

/// The surroundings that values of settings are compared with.
pub(super) struct Around<'a> {
    pub(super) supervision: &'a Supervision,
    pub(super) resolver: &'a Resolver,
    /// The git directory, as a path inside.
    pub(super) directory: &'a Path,
}

impl settings::Surroundings for Around<'_> {
    fn is_own_work_tree(&self, value: &[u8]) -> bool {
        let at = normal(&self.directory.join(OsStr::from_bytes(value)));
        let Ok(tree) = open_straight(self.resolver, &at) else {
            return false;
        };
        let text = read_at(tree.as_fd(), OsStr::new(".git"), pointers::BYTES_MAX);
        let leads = text.ok().and_then(|text| pointers::target(&at, &text));
        self.supervision.areas.of(&at).is_some() && leads.as_deref() == Some(self.directory)
    }

    fn is_seen(&self, path: &[u8]) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        let Ok(found) = open_straight(self.resolver, path) else {
            return false;
        };
        self.supervision.areas.of(path).is_some() || is_read_only(&found)
    }

    fn is_new_hook_place(&self, value: &[u8]) -> bool {
        let at = Path::new(OsStr::from_bytes(value));
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        let (Some(tree), true) = (self.directory.parent(), at.components().all(plain)) else {
            return false;
        };
        let unused = |path: &Path| match open_straight(self.resolver, path) {
            Ok(found) => names_in(&found).is_some_and(|names| names.iter().all(is_sample)),
            Err(error) => error.raw_os_error() == Some(Errno::NOENT.raw_os_error()),
        };
        let place = tree.join(at);
        self.directory.file_name() == Some(OsStr::new(".git"))
            && self.supervision.takes_hooks(&place)
            && unused(&place)
            && unused(&self.directory.join("hooks"))
    }
}

fn is_sample(name: &OsString) -> bool {
    name.as_bytes().ends_with(b".sample")
}

/// Lists a directory that is open as a path.
fn names_in(directory: &OwnedFd) -> Option<Vec<OsString>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(directory, ".", flags, Mode::empty()).ok()?;
    let entries = rustix::fs::Dir::new(opened).ok()?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.ok()?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Some(names)
}
