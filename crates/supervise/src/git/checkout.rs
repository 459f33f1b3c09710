//! A change of the working tree that git makes as a whole: a switch, a merge, a rebase, a stash.
//!
//! Git holds `index.lock` meanwhile. For git, a protected file that cannot be replaced is only a
//! warning: it continues, and the next commit reverts the other branch's file, or a merge stays
//! half-made. So the first refusal ends the whole change: the supervisor takes back the steps
//! before it, makes none after it, and does not let the new index take its place. Git then reports
//! that it failed.

use std::{
    ffi::OsStr,
    fs::File,
    io::Write as _,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, Timespec, Timestamps};
use stockade_policy::Control;
use stockade_types::{ProcessId, RawText, Verdict};

use super::{GitFile, REMEDY, open_straight, read_at};
use crate::{
    Hands, Supervision,
    areas::Area,
    changes::{Call, Deed, FLAG_CREATE, FLAG_TRUNCATE},
    judged::Found,
    locate::Place,
    procfs,
    resolve::Resolver,
    state,
};
use stockade_types::AskMode;

/// The owner's remedy if no person can be asked.
pub(crate) const REMEDY_CHECKOUT: &str = "run the session where somebody can be asked (on a terminal, or with \
                               `--ask inbox`), or do this outside the session";
/// Git's lock on the index, and the index.
const LOCK: &str = "index.lock";
const INDEX: &str = "index";
/// What a merge notes before the index takes its place; it is a merge's that is made.
const MERGED: &str = "AUTO_MERGE";
/// Steps that can be taken back; git rarely removes more before it reaches a protected name.
const STEPS_MAX: usize = 4096;
/// Bytes of removed or overwritten content, of one file and of all.
const FILE_BYTES_MAX: u64 = 8 << 20;
const ALL_BYTES_MAX: usize = 64 << 20;

/// The changes of one process to the working tree while it holds the lock.
#[derive(Debug)]
pub(crate) struct Checkout {
    process: ProcessId,
    steps: Vec<Step>,
    bytes: usize,
    /// Steps that cannot be taken back.
    left: usize,
    /// The protected path that ended it.
    refused: Option<RawText>,
}

/// One step, by its path inside, with the data to take it back.
#[derive(Debug)]
pub(crate) enum Step {
    /// This is there by now.
    Made(PathBuf, (u32, u32, u64)),
    Directory(PathBuf),
    /// This was there.
    Removed(PathBuf, Content),
    Emptied(PathBuf, Mode),
}

/// The content of a path.
#[derive(Debug)]
pub(crate) enum Content {
    File {
        text: Vec<u8>,
        mode: Mode,
        times: Timestamps,
    },
    Link(Vec<u8>),
}

/// What a call is about to do, noted before it is carried out.
pub(crate) enum Ahead {
    Nothing,
    /// The lock is taken.
    Begins,
    /// The lock is released, or the new index takes its place.
    Ends,
    /// Something appears at the path.
    Makes,
    MakesDirectory,
    /// Something appears at the call's last path.
    MakesLast,
    Takes(Step),
    /// It cannot be taken back.
    Unknown,
}

impl Supervision {
    /// Ends a change of the working tree at its first refusal, and refuses the rest of it.
    pub(crate) fn hold_checkout(&self, hands: &Hands, resolver: &Resolver, found: &mut Found) {
        if state(self).checkouts.is_empty() {
            return;
        }
        let Ok(identity) = procfs::identity(resolver.tid()) else {
            return;
        };
        let denied = |one: &&mut crate::judged::Judged| one.decision.verdict == Verdict::Deny;
        let in_tree = found
            .places
            .iter()
            .any(|place| self.is_in_tree(&place.path));
        let index = matches!(found.call.deed, Deed::Rename { .. })
            && found
                .places
                .last()
                .is_some_and(|to| self.is_index(to, INDEX));
        let state = state(self);
        let known = state.checkouts.get(&identity.id.pid);
        let Some(checkout) = known.filter(|known| known.process == identity.id) else {
            return;
        };
        if let Some(refused) = &checkout.refused {
            // Without a directory git stops at once, and leaves its unfinished work behind; for a
            // file it reports one error of many. The directory is removed when git ends.
            let directory = matches!(found.call.deed, Deed::Directory { .. });
            let empty = directory
                && !found
                    .judged
                    .iter()
                    .any(|one| one.decision.verdict == Verdict::Deny);
            if (in_tree || index) && !empty {
                let reason = format!(
                    "git wanted to replace `{refused}`, which is protected, so nothing of this change of \
                     the working tree is made"
                );
                if let Some(one) = found.judged.first_mut() {
                    one.decision = Control::Protected.denies(reason, REMEDY);
                }
            }
            return;
        }
        drop(state);
        if let Some(one) = found.judged.iter_mut().find(denied).filter(|_| in_tree) {
            let path = one.request.path.clone();
            let left = self.give_up_checkout(hands, resolver.tid(), path);
            let rest = if left == 0 {
                "nothing of this change of the working tree is made".to_owned()
            } else {
                format!(
                    "git stops here; {left} of its changes before this stay, `git status` shows them"
                )
            };
            one.decision.reason = format!("{}; {rest}", one.decision.reason);
            if self.desk.mode() == AskMode::Deny {
                REMEDY_CHECKOUT.clone_into(&mut one.decision.remedy);
            }
        }
    }

    /// Takes back a process's changes to the working tree, and refuses the rest of them; returns
    /// the number of steps that could not be taken back. The caller has the turn.
    pub(crate) fn give_up_checkout(&self, hands: &Hands, tid: u32, refused: RawText) -> usize {
        let (Ok(identity), Ok(resolver)) = (procfs::identity(tid), self.resolver(tid)) else {
            return 1;
        };
        self.forget_drafts(hands, identity.id);
        let mut state = state(self);
        let Some(checkout) = state.checkouts.get_mut(&identity.id.pid) else {
            return 0;
        };
        checkout.refused = Some(refused);
        let steps = std::mem::take(&mut checkout.steps);
        let left = checkout.left;
        drop(state);
        let failed = hands.identity.act(|| take_back(&resolver, steps));
        left + failed.unwrap_or(1)
    }

    /// Whether git's new index is to take this place.
    pub(crate) fn is_new_index(&self, to: &Place) -> bool {
        self.is_index(to, INDEX)
    }

    /// Returns what a call of git is about to do to the working tree.
    pub(crate) fn ahead(&self, hands: &Hands, tid: u32, call: &Call, places: &[Place]) -> Ahead {
        let [place, ..] = places else {
            return Ahead::Nothing;
        };
        let begins = matches!(call.deed, Deed::Open { flags, .. } if flags & FLAG_CREATE != 0)
            && place.stat.is_none()
            && self.is_index(place, LOCK);
        if begins {
            return Ahead::Begins;
        }
        let Some(refused) = self.is_in_checkout(tid) else {
            return Ahead::Nothing;
        };
        if refused && !matches!(call.deed, Deed::Directory { .. }) {
            return Ahead::Nothing;
        }
        let ends = matches!(call.deed, Deed::Rename { .. } | Deed::Remove { .. });
        if ends && self.is_index(place, LOCK) {
            return Ahead::Ends;
        }
        let last = places.last().unwrap_or(place);
        let merged = matches!(call.deed, Deed::Rename { .. } | Deed::Open { .. });
        if merged && last.stat.is_none() && self.is_index(last, MERGED) {
            return Ahead::MakesLast;
        }
        if !self.is_in_tree(&place.path) {
            return Ahead::Nothing;
        }
        let path = || place.path.clone();
        let taken = || hands.identity.act(|| content(place)).ok().flatten();
        match (&call.deed, place.kind()) {
            (Deed::Open { flags, .. }, None) if flags & FLAG_CREATE != 0 => Ahead::Makes,
            (Deed::Symlink { .. }, None) => Ahead::Makes,
            (Deed::Directory { .. }, None) => Ahead::MakesDirectory,
            (Deed::Remove { directory: true }, Some(FileType::Directory)) => {
                let mode = super::mode_at(place.parent(), &place.name()).unwrap_or(0o755);
                Ahead::Takes(Step::Emptied(path(), Mode::from_raw_mode(mode)))
            }
            (Deed::Remove { directory: false }, Some(_)) => taken().map_or(Ahead::Unknown, |was| {
                Ahead::Takes(Step::Removed(path(), was))
            }),
            (Deed::Open { flags, .. }, Some(FileType::RegularFile))
                if flags & FLAG_TRUNCATE != 0 =>
            {
                taken().map_or(Ahead::Unknown, |was| {
                    Ahead::Takes(Step::Removed(path(), was))
                })
            }
            (Deed::Open { .. }, Some(FileType::RegularFile)) | (Deed::Rename { .. }, _) => {
                Ahead::Unknown
            }
            _ => Ahead::Nothing,
        }
    }

    /// Notes what a call of git has done.
    pub(crate) fn behind(&self, hands: &Hands, tid: u32, ahead: Ahead, places: &[Place]) {
        if matches!(ahead, Ahead::Nothing) {
            return;
        }
        let (Ok(identity), Some(place)) = (procfs::identity(tid), places.first()) else {
            return;
        };
        let pid = identity.id.pid;
        if matches!(ahead, Ahead::Ends) {
            // The lock is released: drafts that no question covers by now are not made.
            self.forget_drafts(hands, identity.id);
        }
        let mut state = state(self);
        if matches!(ahead, Ahead::Begins) {
            let known = state.checkouts.get(&pid);
            if !known.is_some_and(|one| one.process == identity.id && one.refused.is_some()) {
                state.checkouts.insert(
                    pid,
                    Checkout {
                        process: identity.id,
                        steps: Vec::new(),
                        bytes: 0,
                        left: 0,
                        refused: None,
                    },
                );
            }
            return;
        }
        let Some(checkout) = state.checkouts.get_mut(&pid) else {
            return;
        };
        match ahead {
            Ahead::Ends => {
                if checkout.refused.is_none() {
                    state.checkouts.remove(&pid);
                }
            }
            Ahead::Makes => match id_at(place) {
                Some(id) => checkout.add(Step::Made(place.path.clone(), id)),
                None => checkout.left += 1,
            },
            Ahead::MakesLast => {
                let made = places.last().and_then(|last| Some((last, id_at(last)?)));
                if let Some((last, id)) = made {
                    checkout.add(Step::Made(last.path.clone(), id));
                }
            }
            Ahead::MakesDirectory => checkout.add(Step::Directory(place.path.clone())),
            Ahead::Takes(step) => checkout.add(step),
            Ahead::Unknown => checkout.left += 1,
            Ahead::Begins | Ahead::Nothing => {}
        }
    }

    /// Forgets the change of a process that ends, and removes directories that it made in vain;
    /// `None` if another call has the turn.
    pub(crate) fn end_checkout(&self, hands: &Hands, tid: u32) -> Option<()> {
        if state(self).checkouts.is_empty() {
            return Some(());
        }
        let Ok(identity) = procfs::identity(tid) else {
            return Some(());
        };
        let turn = self.turns.take()?;
        let known = state(self).checkouts.remove(&identity.id.pid);
        self.forget_drafts(hands, identity.id);
        let refused = known.filter(|one| one.process == identity.id && one.refused.is_some());
        if let (Some(checkout), Ok(resolver)) = (refused, self.resolver(tid)) {
            let back = || take_back(&resolver, checkout.steps);
            // A directory that is not empty by now is in use.
            hands.identity.act(back).unwrap_or_default();
        }
        drop(turn);
        Some(())
    }

    /// Tells whether a process changes the working tree as a whole, and if so whether that was refused.
    pub(crate) fn is_in_checkout(&self, tid: u32) -> Option<bool> {
        if state(self).checkouts.is_empty() {
            return None;
        }
        let identity = procfs::identity(tid).ok()?;
        let state = state(self);
        let known = state.checkouts.get(&identity.id.pid);
        let known = known.filter(|one| one.process == identity.id)?;
        Some(known.refused.is_some())
    }

    /// Whether a path is in the workspace, and not in a directory of git.
    fn is_in_tree(&self, path: &Path) -> bool {
        let in_git = |name: &Vec<u8>| name.split(|byte| *byte == b'/').any(|part| part == b".git");
        self.areas
            .of(path)
            .is_some_and(|(area, _)| area == Area::Workspace)
            && !self.git_names(path).iter().any(in_git)
    }

    /// Whether a place is a file of this name in a git directory.
    fn is_index(&self, place: &Place, name: &str) -> bool {
        place.name() == name && self.git_file(&place.path) == Some(GitFile::Other)
    }
}

impl Checkout {
    fn add(&mut self, step: Step) {
        if let Step::Removed(_, Content::File { text, .. }) = &step {
            self.bytes += text.len();
        }
        if self.steps.len() >= STEPS_MAX || self.bytes > ALL_BYTES_MAX {
            self.left += 1;
        } else {
            self.steps.push(step);
        }
    }
}

/// Reads the content of a place, as far as it can be restored.
fn content(place: &Place) -> Option<Content> {
    let stat = rustix::fs::statat(place.parent(), place.name(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let text = read_at(place.parent(), &place.name(), FILE_BYTES_MAX).ok()?;
            let time = |seconds, nanoseconds: u64| {
                Some(Timespec {
                    tv_sec: seconds,
                    tv_nsec: nanoseconds.try_into().ok()?,
                })
            };
            Some(Content::File {
                text,
                mode: Mode::from_raw_mode(stat.st_mode & 0o777),
                times: Timestamps {
                    last_access: time(stat.st_atime, stat.st_atime_nsec)?,
                    last_modification: time(stat.st_mtime, stat.st_mtime_nsec)?,
                },
            })
        }
        FileType::Symlink => {
            let text = rustix::fs::readlinkat(place.parent(), place.name(), Vec::new()).ok()?;
            Some(Content::Link(text.into_bytes()))
        }
        _ => None,
    }
}

fn id_at(place: &Place) -> Option<(u32, u32, u64)> {
    id(place.parent(), &place.name())
}

fn id(directory: impl std::os::fd::AsFd, name: &OsStr) -> Option<(u32, u32, u64)> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let found = rustix::fs::statx(directory, name, flags, StatxFlags::INO).ok()?;
    Some((found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
}

/// Takes steps back, the last one first; returns how many could not be taken back.
fn take_back(resolver: &Resolver, steps: Vec<Step>) -> usize {
    let back = |step: Step| match step {
        Step::Made(path, made) => {
            let (directory, name) = directory_of(resolver, &path)?;
            if id(&directory, name)? != made {
                return None;
            }
            rustix::fs::unlinkat(&directory, name, AtFlags::empty()).ok()
        }
        Step::Directory(path) => {
            let (directory, name) = directory_of(resolver, &path)?;
            rustix::fs::unlinkat(&directory, name, AtFlags::REMOVEDIR).ok()
        }
        Step::Removed(path, content) => put_back(resolver, &path, &content),
        Step::Emptied(path, mode) => {
            let (directory, name) = directory_of(resolver, &path)?;
            rustix::fs::mkdirat(&directory, name, mode).ok()
        }
    };
    let all = steps.into_iter().rev();
    all.filter_map(|step| back(step).is_none().then_some(()))
        .count()
}

fn directory_of<'p>(resolver: &Resolver, path: &'p Path) -> Option<(OwnedFd, &'p OsStr)> {
    let directory = open_straight(resolver, path.parent()?).ok()?;
    Some((directory, path.file_name()?))
}

/// Restores a file; a file that was only emptied still exists.
fn put_back(resolver: &Resolver, path: &Path, content: &Content) -> Option<()> {
    let (directory, name) = directory_of(resolver, path)?;
    match content {
        Content::Link(text) => {
            rustix::fs::symlinkat(OsStr::from_bytes(text), &directory, name).ok()
        }
        Content::File { text, mode, times } => {
            let flags = OFlags::WRONLY
                | OFlags::CREATE
                | OFlags::TRUNC
                | OFlags::NOFOLLOW
                | OFlags::NONBLOCK
                | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(&directory, name, flags, *mode).ok()?;
            let mut file = File::from(opened);
            file.write_all(text).ok()?;
            rustix::fs::fchmod(&file, *mode).ok()?;
            rustix::fs::futimens(file.as_fd(), times).ok()
        }
    }
}
