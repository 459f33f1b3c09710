//! The changes of protected files that git needs for its ordinary work, judged by value.
//!
//! Settings are replaced if every difference is a setting that runs nothing ([`settings`]); a new
//! repository gets the samples of hooks from git's own template ([`samples`]); a pointer is made if
//! it leads to a git directory of the same repository that leads back ([`pointers`]). The
//! supervisor writes only copies that it read and judged: nothing is read again, and no program
//! inside keeps a descriptor of them. A session may remove files that it made itself ([`made`]). A
//! change of the working tree in which one step is refused is not made at all ([`checkout`]).

mod around;
mod checkout;
mod doing;
mod made;
mod pointers;
mod remotes;
mod samples;
mod settings;

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags},
    io::Errno,
};
use stockade_policy::Control;
use stockade_types::Verdict;

pub(crate) use checkout::{Checkout, REMEDY_CHECKOUT};
pub(crate) use made::Made;
pub(crate) use pointers::Pointers;
pub use remotes::{Remotes, addresses_of_remotes};

use super::{
    Hands, Supervision,
    changes::{Call, Deed, FLAG_APPEND, FLAG_CREATE, FLAG_TRUNCATE},
    judged::{GitFile, Harmless, Judged, in_view},
    state,
};
use crate::{areas::Area, locate::Place, resolve::Resolver};

/// Largest file of settings that is judged; git's own are a few kilobytes.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;
/// `RENAME_NOREPLACE`.
const NO_REPLACE: u32 = 1;
/// The text of the link with which git tests whether links are supported. Its target can only be a
/// path that the same name protects.
const PROBE: &[u8] = b"testing";
/// The bit of a mode with which git tests whether a mode can be set (`S_IXUSR`).
const MODE_TRIED: u32 = 0o100;
/// Mode bits that change whom a program runs as (set-user-id, set-group-id), and the sticky bit.
const MODE_SPECIAL: u32 = 0o7000;
/// The owner's remedy for a change that a session may not make.
pub(crate) const REMEDY: &str = "make this change yourself, outside the session";

/// The owner's remedy for a hook that is not installed.
const REMEDY_HOOK: &str = "run `git init` there yourself, outside the session, to have it";

impl GitFile {
    /// Returns the role of a path below the workspace for git; a name in another spelling has none.
    fn of(path: &[u8]) -> Option<Self> {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let at = parts.iter().rposition(|part| *part == b".git")?;
        let below = parts.get(at + 1..)?;
        let Some((name, directory)) = below.split_last() else {
            return Some(Self::Pointer);
        };
        let hooks = || {
            let (last, above) = directory.split_last()?;
            (*last == b"hooks" && is_git_directory(above)).then_some(Self::Hook)
        };
        match *name {
            _ if hooks().is_some() => Some(Self::Hook),
            b"config" if directory.is_empty() || directory.contains(&&b"modules"[..]) => {
                is_git_directory(directory).then_some(Self::Settings)
            }
            b"config.worktree" if is_git_directory(directory) => Some(Self::Settings),
            b"hooks" if is_git_directory(directory) => Some(Self::HookDirectory),
            b"commondir" if matches!(directory, [b"worktrees", _]) => Some(Self::CommonDirectory),
            _ if is_git_directory(directory) => Some(Self::Other),
            _ => None,
        }
    }
}

/// Whether a path below `.git` can be a git directory: its own, of a submodule, of a worktree.
fn is_git_directory(parts: &[&[u8]]) -> bool {
    match parts {
        [] => true,
        [first, _, ..] => [&b"modules"[..], b"worktrees"].contains(first),
        [_] => false,
    }
}

impl Supervision {
    /// Checks whether a change that protection refuses is harmless the way git makes it; then it is
    /// allowed. If its value is the reason that it is not, the refusal says so.
    pub(super) fn harmless(
        &self,
        hands: &Hands,
        resolver: &Resolver,
        call: &Call,
        places: &[Place],
        judged: &mut [Judged],
    ) -> Option<Harmless> {
        let (at, one) = Self::refused_by_protection(judged)?;
        // The call's change of its other path was judged by itself.
        let place = places.iter().find(|place| place.path == one)?;
        let made = || self.is_made(place);
        // If the owner had a file here, the session's file is a change of it.
        let goes = || made() && !self.had_first(place);
        let Some(file) = self.git_file(&place.path) else {
            let fits = match call.deed {
                Deed::Remove { .. } => goes(),
                Deed::Directory { .. } => self.is_open_below(&place.path),
                _ => false,
            };
            if !fits {
                return None;
            }
            judged.get_mut(at)?.decision = in_view();
            return Some(Harmless::Itself);
        };
        let harmless = match &call.deed {
            Deed::Rename { flags: 0 } if file == GitFile::Settings => {
                let [from, to] = places else { return None };
                if to.path != place.path {
                    return None;
                }
                let text = hands
                    .identity
                    .act(|| self.judged_settings(resolver, from, to));
                match text.unwrap_or(Err(None)) {
                    Ok(text) => Harmless::Settings(text),
                    Err(reason) => {
                        explain(judged.get_mut(at)?, reason);
                        return None;
                    }
                }
            }
            Deed::Open { flags, .. } => self.harmless_open(resolver, file, place, *flags)?,
            // If it exists already, the kernel reports that.
            Deed::Directory { .. } if file == GitFile::HookDirectory => Harmless::Itself,
            Deed::Symlink { text } if file == GitFile::Other && text == PROBE => Harmless::Itself,
            // Programs try this before they rename.
            Deed::Rename { flags: NO_REPLACE } | Deed::Link
                if file == GitFile::Settings && place.stat.is_some() =>
            {
                Harmless::Exists
            }
            Deed::Remove { .. } if goes() => Harmless::Itself,
            Deed::Mode { mode } if file == GitFile::Settings && !made() => {
                let read = || tried_mode(place, mode & 0o7777);
                let text = hands.identity.act(read).ok().flatten()?;
                Harmless::Mode(text, *mode & 0o777)
            }
            Deed::Mode { mode } if mode & MODE_SPECIAL == 0 && made() => Harmless::Itself,
            Deed::Directory { .. }
            | Deed::Node { .. }
            | Deed::Symlink { .. }
            | Deed::Link
            | Deed::Rename { .. }
            | Deed::Remove { .. }
            | Deed::Truncate { .. }
            | Deed::Mode { .. }
            | Deed::Bind { .. }
            | Deed::Nothing => return None,
        };
        judged.get_mut(at)?.decision = in_view();
        Some(harmless)
    }

    /// Checks whether a new file may be opened for writing: its content decides later.
    fn harmless_open(
        &self,
        resolver: &Resolver,
        file: GitFile,
        place: &Place,
        flags: u32,
    ) -> Option<Harmless> {
        let writes = flags & FLAG_CREATE != 0 && flags & 3 == 1;
        let fits = match file {
            GitFile::Hook if place.stat.is_none() && writes => {
                if let Some(text) = samples::of(resolver, place) {
                    return Some(Harmless::Sample(text));
                }
                // Git writes no other hooks, and fails as a whole if one cannot be written.
                if samples::is_git_itself(resolver) {
                    return Some(Harmless::Nowhere);
                }
                samples::has_name(place)
            }
            // A program that has content to write says so, and is refused at once.
            GitFile::Pointer
                if writes
                    && flags & (FLAG_TRUNCATE | FLAG_APPEND) == 0
                    && !samples::is_git(resolver) =>
            {
                return self
                    .may_be_mark(place)
                    .then_some(Harmless::Pointer(GitFile::Mark));
            }
            GitFile::Pointer | GitFile::CommonDirectory => {
                samples::is_git(resolver) && (place.stat.is_none() || self.is_made(place))
            }
            GitFile::Settings => place.stat.is_none() && is_being_made(place),
            GitFile::HookDirectory | GitFile::Hook | GitFile::Other | GitFile::Mark => false,
        };
        (writes && fits).then_some(Harmless::Pointer(file))
    }

    /// Whether an empty file `.git` may be made or opened there: below the top of its area, whose git is
    /// the owner's, and where there is nothing yet, or a file that is empty.
    fn may_be_mark(&self, place: &Place) -> bool {
        let area = self.areas.of(&place.path);
        let is_below = area.is_some_and(|(_, relative)| relative.components().count() > 1);
        is_below && (place.stat.is_none() || pointers::is_empty(place))
    }

    /// Whether a protected directory is only the place of something that protection leaves open.
    fn is_open_below(&self, path: &Path) -> bool {
        self.areas.of(path).is_some_and(|(area, relative)| {
            let settings = self.protection(area);
            let below = relative.as_os_str().as_bytes();
            settings.opens_below(below) && !settings.is_held(below)
        })
    }

    /// Returns the one path that protection refuses, if nothing else is refused.
    pub(crate) fn refused_by_protection(judged: &[Judged]) -> Option<(usize, PathBuf)> {
        let denied = |one: &(usize, &Judged)| one.1.decision.verdict == Verdict::Deny;
        let mut denied = judged.iter().enumerate().filter(denied);
        let (at, one) = denied.next()?;
        let protected =
            |rule: &stockade_types::RuleId| rule.as_str() == Control::Protected.as_str();
        let alone = denied.next().is_none() && one.decision.rule.as_ref().is_some_and(protected);
        alone.then(|| (at, PathBuf::from(one.request.path.to_os())))
    }

    /// Returns the role of a path for git, by its own name or by one that a pointer of the owner
    /// gives it.
    pub(crate) fn git_file(&self, path: &Path) -> Option<GitFile> {
        let names = self.git_names(path);
        names.iter().find_map(|name| GitFile::of(name))
    }

    pub(crate) fn git_names(&self, path: &Path) -> Vec<Vec<u8>> {
        let Some((area, relative)) = self.areas.of(path) else {
            return Vec::new();
        };
        let below = relative.as_os_str().as_bytes();
        let mut names = vec![below.to_vec()];
        match area {
            Area::Workspace => names.extend(self.places.names(below)),
            Area::Share | Area::Packages | Area::Git => {}
        }
        names
    }

    /// Reads settings that are to replace others, and judges the difference.
    ///
    /// # Errors
    /// With the message for the caller, or `None` if it is no such change at all.
    fn judged_settings(
        &self,
        resolver: &Resolver,
        from: &Place,
        to: &Place,
    ) -> Result<Vec<u8>, Option<String>> {
        let mut lock = to.name();
        lock.push(".lock");
        let same = from.path.parent() == to.path.parent() && from.name() == lock;
        if !same || from.kind() != Some(FileType::RegularFile) || from.object().is_some() {
            return Err(None);
        }
        let new = read_at(from.parent(), &lock, SETTINGS_BYTES_MAX).map_err(|_| None)?;
        let old = match to.kind() {
            None => None,
            Some(FileType::RegularFile) => {
                let old = read_at(to.parent(), &to.name(), SETTINGS_BYTES_MAX);
                Some(old.map_err(|_| None)?)
            }
            Some(_) => return Err(None),
        };
        let first = {
            let mut state = state(self);
            let made = old.is_some() && state.made.has(to);
            let known = state.first_settings.entry(to.path.clone());
            let first = known.or_insert_with(|| old.clone().filter(|_| !made));
            // The session's settings are gone, and the owner has put others there.
            if first.is_none() && !made {
                first.clone_from(&old);
            }
            first.clone()
        };
        let change = settings::Change {
            first: first.as_deref(),
            old: old.as_deref(),
            new: &new,
        };
        let around = around::Around {
            supervision: self,
            resolver,
            directory: to.path.parent().unwrap_or(&to.path),
        };
        match settings::judge(&change, &around) {
            Ok(()) => Ok(new),
            Err(refused) => Err(Some(format!(
                "`{}` {}; git runs programs that these settings name",
                stockade_types::RawText::from_bytes(refused.setting).display(),
                refused.why
            ))),
        }
    }

    /// Judges settings where there were none.
    fn are_new_settings(
        &self,
        resolver: &Resolver,
        place: &Place,
        text: &[u8],
    ) -> Result<(), &'static str> {
        let change = settings::Change {
            first: None,
            old: None,
            new: text,
        };
        let around = around::Around {
            supervision: self,
            resolver,
            directory: place.path.parent().unwrap_or(&place.path),
        };
        settings::judge(&change, &around).map_err(|refused| refused.why)?;
        let mut state = state(self);
        let first = state.first_settings.entry(place.path.clone());
        first.or_insert(None);
        Ok(())
    }

    pub(crate) fn is_made(&self, place: &Place) -> bool {
        state(self).made.has(place)
    }

    /// Notes the current file at a place as one that the session made.
    pub(crate) fn note_made(&self, place: &Place) {
        state(self).made.note(place);
    }
}

fn explain(one: &mut Judged, reason: Option<String>) {
    if let Some(reason) = reason {
        one.decision.reason = reason;
        REMEDY.clone_into(&mut one.decision.remedy);
    }
}

/// Reads a regular file of a directory, up to a length.
pub(crate) fn read_at(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    bytes_max: u64,
) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(directory, name, flags, Mode::empty(), how)?;
    let stat = rustix::fs::fstat(&opened)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL.into());
    }
    let mut text = Vec::new();
    File::from(opened)
        .take(bytes_max + 1)
        .read_to_end(&mut text)?;
    let fits = u64::try_from(text.len()).is_ok_and(|bytes| bytes <= bytes_max);
    fits.then_some(text).ok_or_else(|| Errno::FBIG.into())
}

/// Whether a place is for the settings of a repository that is being made: a `.git`, or a directory
/// with the other directories of a repository, has none yet.
fn is_being_made(place: &Place) -> bool {
    let is_directory = |name: &str| {
        let found = rustix::fs::statat(place.parent(), name, AtFlags::SYMLINK_NOFOLLOW);
        found.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
    };
    let above = place.path.parent().and_then(Path::file_name);
    let is_git = above.is_some_and(|name| name == ".git");
    place.name() == "config" && (is_git || is_directory("objects") && is_directory("refs"))
}

/// Returns the text of settings that get another mode, if it differs only in the bit that git
/// tests.
fn tried_mode(place: &Place, mode: u32) -> Option<Vec<u8>> {
    if place.kind() != Some(FileType::RegularFile) || place.object().is_some() {
        return None;
    }
    let now = mode_at(place.parent(), &place.name()).ok()?;
    let text = read_at(place.parent(), &place.name(), SETTINGS_BYTES_MAX).ok()?;
    ((now ^ mode) & !MODE_TRIED == 0).then_some(text)
}

fn mode_at(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<u32> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(stat.st_mode & 0o777)
}

/// Puts a new file with this text at a name. No process inside has a descriptor of it: changes are
/// made one after the other, and this is one.
pub(crate) fn replace(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    text: &[u8],
    mode: u32,
) -> io::Result<()> {
    let mut temporary = OsString::from(name);
    temporary.push(".stockade");
    let gone = rustix::fs::unlinkat(directory, &temporary, AtFlags::empty());
    if let Err(error) = gone
        && error != Errno::NOENT
    {
        return Err(error.into());
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(directory, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(opened);
    let written = file.write_all(text).and_then(|()| {
        rustix::fs::fchmod(file.as_fd(), Mode::from_raw_mode(mode))?;
        let empty = RenameFlags::empty();
        rustix::fs::renameat_with(directory, &temporary, directory, name, empty)?;
        Ok(())
    });
    if written.is_err() {
        // The first error counts; the removal may fail too.
        rustix::fs::unlinkat(directory, &temporary, AtFlags::empty()).unwrap_or_default();
    }
    written
}

/// Takes `.` and `..` out of a path that has no links.
fn normal(path: &Path) -> PathBuf {
    let mut whole = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => whole.push(name),
            Component::ParentDir => {
                whole.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    whole
}

/// Opens a path of the session as a path; nothing on the way may be a link.
pub(crate) fn open_straight(resolver: &Resolver, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    Ok(rustix::fs::openat2(
        resolver.root(),
        path,
        flags,
        Mode::empty(),
        how,
    )?)
}

/// Whether no process inside can change anything below this path: it lies in a read-only mount.
pub(crate) fn is_read_only(found: &impl std::os::fd::AsFd) -> bool {
    let read_only = rustix::fs::StatVfsMountFlags::RDONLY;
    rustix::fs::fstatvfs(found).is_ok_and(|stat| stat.f_flag.contains(read_only))
}

#[cfg(test)]
mod tests {
    use super::GitFile;

    #[test]
    fn files_of_git_are_known_by_where_they_lie() {
        for (path, file) in [
            (".git/config", Some(GitFile::Settings)),
            ("a/.git/config", Some(GitFile::Settings)),
            (".git/config.worktree", Some(GitFile::Settings)),
            (".git/worktrees/w/config.worktree", Some(GitFile::Settings)),
            (".git/modules/a/b/config", Some(GitFile::Settings)),
            (".git/worktrees/w/modules/m/config", Some(GitFile::Settings)),
            (".git/hooks", Some(GitFile::HookDirectory)),
            (".git/modules/a/hooks", Some(GitFile::HookDirectory)),
            (".git/hooks/x", Some(GitFile::Hook)),
            (".git/modules/a/hooks/x", Some(GitFile::Hook)),
            (".git/worktrees/w/commondir", Some(GitFile::CommonDirectory)),
            ("sub/.git", Some(GitFile::Pointer)),
            (".git/modules/.git", Some(GitFile::Pointer)),
            (".GIT/config", None),
            ("config", None),
            (".git/objects/config", None),
            (".git/worktrees/w/config", Some(GitFile::Other)),
            (".git/modules/config", None),
            (".git/hooks/a/b", None),
            (".git/commondir", Some(GitFile::Other)),
            (".git/modules/a/commondir", Some(GitFile::Other)),
            (".git/info/attributes", None),
            (".git/objects/info/alternates", None),
        ] {
            assert_eq!(GitFile::of(path.as_bytes()), file, "{path}");
        }
    }
}
