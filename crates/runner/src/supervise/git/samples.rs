//! The samples of hooks that git puts into a new repository.

use std::{ffi::OsStr, os::fd::AsFd as _, path::Path};

use crate::{locate::Place, procfs, resolve::Resolver};

use super::{is_read_only, open_straight, read_at};

/// The mode of a sample, as git's template has it.
pub(super) const MODE: u32 = 0o755;
/// Largest sample; the longest of git's own has 5 kB.
const SAMPLE_BYTES_MAX: u64 = 64 << 10;
/// Where templates lie below the directory in which git is installed.
const TEMPLATES: &str = "share/git-core/templates/hooks";

/// Whether the caller is git: another program gets an error instead of a file that is not what it
/// wrote. Nothing is allowed for it.
pub(super) fn is_git(resolver: &Resolver) -> bool {
    let program = procfs::link(resolver.tid(), "exe").to_os();
    let name = Path::new(&program).file_name().map(OsStr::to_owned);
    name.is_some_and(|name| name == "git" || name.to_string_lossy().starts_with("git-"))
}

/// Returns the text of a hook's file in the template of the caller's own git. Nothing inside can
/// write there, so it is what the owner's git would put into a new repository.
pub(super) fn of(resolver: &Resolver, place: &Place) -> Option<Vec<u8>> {
    if !is_git(resolver) {
        return None;
    }
    let program = procfs::link(resolver.tid(), "exe").to_os();
    let mut above = Path::new(&program).ancestors().skip(1);
    above.find_map(|directory| {
        let hooks = open_straight(resolver, &directory.join(TEMPLATES)).ok()?;
        if !is_read_only(&hooks) {
            return None;
        }
        read_at(hooks.as_fd(), &place.name(), SAMPLE_BYTES_MAX).ok()
    })
}
