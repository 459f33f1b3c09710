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

/// Where git is installed on most machines; libraries look there too.
const PREFIXES: [&str; 2] = ["/usr", "/usr/local"];
/// The one interpreter that a sample names.
const INTERPRETER: &[u8] = b"#!/bin/sh";

/// Whether a file in the directory of hooks has a name that git never runs.
pub(super) fn has_name(place: &Place) -> bool {
    let name = place.name();
    let name = name.to_string_lossy();
    name.strip_suffix(".sample")
        .is_some_and(|front| !front.is_empty())
}

/// Whether a text equals that of the same file in the machine's own template.
pub(super) fn is_template(resolver: &Resolver, place: &Place, text: &[u8]) -> bool {
    let all = PREFIXES.iter().map(Path::new);
    all.filter_map(|prefix| template(resolver, prefix, place))
        .any(|own| own == text)
}

/// Whether a text does nothing if it is run: libraries that make repositories put one sample there
/// that only explains hooks.
pub(super) fn does_nothing(text: &[u8]) -> bool {
    let mut lines = text.split(|byte| *byte == b'\n');
    let plain = text.iter().all(|byte| *byte == b'\n' || *byte >= b' ');
    let first = lines.next().unwrap_or_default();
    plain
        && (first == INTERPRETER || first.is_empty())
        && lines.all(|line| line.is_empty() || line.starts_with(b"#"))
}

/// Whether the caller is git: another program gets an error instead of a file with other content
/// than it wrote. This check permits nothing.
pub(super) fn is_git(resolver: &Resolver) -> bool {
    let program = procfs::link(resolver.tid(), "exe").to_os();
    let name = Path::new(&program).file_name().map(OsStr::to_owned);
    name.is_some_and(|name| name == "git" || name.to_string_lossy().starts_with("git-"))
}

/// Whether the caller is git itself, not one of the programs that come with it.
pub(super) fn is_git_itself(resolver: &Resolver) -> bool {
    let program = procfs::link(resolver.tid(), "exe").to_os();
    Path::new(&program).file_name() == Some(OsStr::new("git"))
}

/// Returns the text of a hook's file in the template of the caller's own git. No process inside can
/// write there, so the owner's git would put the same text into a new repository.
pub(super) fn of(resolver: &Resolver, place: &Place) -> Option<Vec<u8>> {
    if !is_git(resolver) {
        return None;
    }
    let program = procfs::link(resolver.tid(), "exe").to_os();
    let mut above = Path::new(&program).ancestors().skip(1);
    above.find_map(|prefix| template(resolver, prefix, place))
}

/// Reads a file of the template below the directory in which git is installed.
fn template(resolver: &Resolver, prefix: &Path, place: &Place) -> Option<Vec<u8>> {
    let hooks = open_straight(resolver, &prefix.join(TEMPLATES)).ok()?;
    if !is_read_only(&hooks) {
        return None;
    }
    read_at(hooks.as_fd(), &place.name(), SAMPLE_BYTES_MAX).ok()
}

#[cfg(test)]
mod tests {
    use super::does_nothing;

    #[test]
    fn a_sample_of_comments_does_nothing() {
        assert!(does_nothing(b"#!/bin/sh\n#\n# See `git help hooks`.\n\n"));
        assert!(does_nothing(b""));
        for text in [
            &b"#!/bin/sh\nexit\n"[..],
            b"#!/tmp/x\n#\n",
            b"exit",
            b"#!/bin/sh\n#\rexit",
            b"#!/bin/sh\n \t#\n",
            b"#!/bin/sh -e\n",
        ] {
            assert!(!does_nothing(text), "{text:?}");
        }
    }
}
