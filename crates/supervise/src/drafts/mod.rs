//! Drafts: new content of protected files, kept in memory until a person has seen it.
//!
//! An answer to a change of a protected file covers its content, not only its name. A program that
//! opens such a file for writing gets a file in memory; one question shows its final content,
//! together with everything else that the same program wrote, and an answer holds for these bytes
//! at these paths. Then the supervisor writes a copy, so no program keeps a descriptor of the real
//! file. A change of the working tree by git is one question: it is asked when the new index is to
//! take its place, before any protected file was changed.
//!
//! Of other programs only the files of hook managers become drafts; other protected files are
//! refused at once, and so are all of them if no person can be asked.

mod asked;
mod difference;
mod outside;

pub(super) use asked::Firsts;
use outside::writable;

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, MemfdFlags, Mode, OFlags},
    io::Errno,
    process::{Pid, Signal},
};
use stockade_policy::WorkspaceSettings;
use stockade_types::{ProcessId, Subject, Verdict, ignored};

use super::{
    Answer, ERRNO_NOT_JUDGED, Hands, Reply, Supervision, act,
    changes::{Deed, FLAG_APPEND, FLAG_CREATE, FLAG_EXCLUSIVE, FLAG_TRUNCATE, NO_REPLACE},
    git::read_at,
    judged::{Found, GitFile, Judged, errno},
    state,
};
use crate::{areas::Area, later, locate::Place, procfs, resolve::Resolver};
use stockade_types::AskMode;

/// Drafts at a time: a hook manager writes some twenty, and a person does not read more.
const DRAFTS_MAX: usize = 64;
/// Largest file that is shown; hooks and settings are a few kilobytes.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// Directories of hook managers: git runs the files in them.
const HOOK_DIRECTORIES: [&[u8]; 4] = [b".husky", b".githooks", b".lefthook", b".lefthook-local"];
/// `O_ACCMODE`.
const ACCESS_MODE: u32 = 3;

/// One change of a protected path that no answer covers yet.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The process that made it.
    owner: ProcessId,
    /// Whether it is part of a change of the working tree.
    checkout: bool,
    place: Place,
    judged: Judged,
    subject: Subject,
    what: What,
    /// Whether an empty file exists meanwhile: programs check the files that they have written.
    placeholder: bool,
}

/// The result of a draft at its path.
#[derive(Debug)]
enum What {
    /// A file with the bytes and the mode of this one in memory.
    Text(OwnedFd),
    /// Nothing.
    Gone,
    /// A directory, which exists already; it is removed again if it stays empty.
    Directory,
}

/// What happens next, as far as it matters for the current drafts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// A program is about to run: it could read the new content.
    Runs,
    /// The process ends.
    Ends,
    /// The process makes another change.
    GoesOn,
}

impl Supervision {
    /// Takes a change that protection refuses as a draft, or asks about the drafts of a process
    /// that makes another change. `None` if it does neither.
    pub(super) fn draft(
        &self,
        hands: &mut Hands,
        resolver: &Resolver,
        found: &mut Found,
    ) -> Option<Reply> {
        let denied = found.has(Verdict::Deny);
        if !denied && state(self).drafts.is_empty() {
            return None;
        }
        let tid = resolver.tid();
        let checkout = self.is_in_checkout(tid);
        // Some parts of a change of the working tree are known to be harmless only once it is
        // complete.
        if checkout.is_none() && self.desk.mode() == AskMode::Deny {
            return None;
        }
        let owner = procfs::identity(tid).ok()?.id;
        match checkout {
            Some(true) => None,
            Some(false) if !denied => {
                let index = matches!(found.call.deed, Deed::Rename { .. })
                    && found.places.last().is_some_and(|to| self.is_new_index(to));
                let drafts = self.take(|one| index && one.checkout && one.owner == owner);
                (!drafts.is_empty()).then(|| ask_checkout(drafts, tid))
            }
            None if !denied => self.ask_first(Moment::GoesOn, tid),
            _ => self.take_draft(hands, resolver, found, (owner, checkout.is_some())),
        }
    }

    fn take_draft(
        &self,
        hands: &mut Hands,
        resolver: &Resolver,
        found: &mut Found,
        (owner, checkout): (ProcessId, bool),
    ) -> Option<Reply> {
        let (_, path) = Self::refused_by_protection(&found.judged)?;
        let at = found.places.iter().position(|place| place.path == path)?;
        if state(self).drafts.len() >= DRAFTS_MAX {
            return None;
        }
        let place = found.places.get(at)?;
        let renames = matches!(found.call.deed, Deed::Rename { .. });
        if place.object().is_some() || !self.may_be_draft(place, checkout, renames) {
            return None;
        }
        let (answer, what) = match &found.call.deed {
            Deed::Mode { .. } if self.has_draft(&path) => {
                return self.ask_first(Moment::GoesOn, resolver.tid());
            }
            // It is removed with the last file in it, once that may be removed.
            Deed::Remove { directory: true } if checkout => {
                return Some(Reply::Refuse(Errno::NOTEMPTY.raw_os_error()));
            }
            Deed::Rename { flags: NO_REPLACE } if at == 1 && place.stat.is_some() => {
                return Some(Reply::Refuse(Errno::EXIST.raw_os_error()));
            }
            Deed::Rename {
                flags: 0 | NO_REPLACE,
            } if at == 1 && !checkout => {
                return self.ask_about_rename(hands, resolver, found, owner);
            }
            deed => {
                hands.take_mask(self, resolver.tid());
                let mask = hands.mask();
                let begun = hands.identity.act(|| self.begin(deed, place, mask));
                match begun.unwrap_or_else(|_| Err(Errno::PERM.into())) {
                    Ok(begun) => begun?,
                    Err(error) => return Some(Reply::Refuse(errno(&error))),
                }
            }
        };
        if let Some(what) = what {
            let fresh = matches!(what, What::Text(_)) && place.stat.is_none() && !checkout;
            let put = || self.put_placeholder(place);
            let placeholder = fresh && matches!(hands.identity.act(put), Ok(Ok(())));
            let (place, judged) = (found.places.remove(at), found.take_denied()?);
            let subject = self.caller(resolver.tid());
            let draft = Draft {
                owner,
                checkout,
                place,
                judged,
                subject,
                what,
                placeholder,
            };
            let mut state = state(self);
            state.drafts.retain(|one| one.place.path != path);
            state.drafts.push(draft);
        }
        Some(Reply::Now(answer))
    }

    /// Makes a call's change in a draft; returns its answer and the draft to remember, or `None` if
    /// the call makes no draft.
    fn begin(
        &self,
        deed: &Deed,
        place: &Place,
        mask: u32,
    ) -> io::Result<Option<(Answer, Option<What>)>> {
        let begun = match deed {
            Deed::Open { flags, mode } if flags & ACCESS_MODE != 0 => {
                let (file, what) = self.open_draft(place, *flags, mode & !mask)?;
                (opened_as(file, *flags), what)
            }
            Deed::Remove { directory: false } if place.kind() == Some(FileType::RegularFile) => {
                (Answer::Returns, Some(What::Gone))
            }
            Deed::Directory { mode } if place.stat.is_none() => {
                let mode = Mode::from_raw_mode(mode & !mask & 0o777);
                rustix::fs::mkdirat(&writable(place)?, place.name(), mode)?;
                self.note_made(place);
                (Answer::Returns, Some(What::Directory))
            }
            Deed::Open { .. }
            | Deed::Directory { .. }
            | Deed::Node { .. }
            | Deed::Symlink { .. }
            | Deed::Link
            | Deed::Rename { .. }
            | Deed::Remove { .. }
            | Deed::Truncate { .. }
            | Deed::Mode { .. }
            | Deed::Bind { .. }
            | Deed::Nothing => return Ok(None),
        };
        Ok(Some(begun))
    }

    /// Makes an empty file without execute permission at the place of a draft.
    fn put_placeholder(&self, place: &Place) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        rustix::fs::openat(&writable(place)?, place.name(), flags, mode)?;
        self.note_made(place);
        Ok(())
    }

    /// Opens the draft of a file; also returns it to be remembered if it is new.
    fn open_draft(
        &self,
        place: &Place,
        flags: u32,
        mode: u32,
    ) -> io::Result<(OwnedFd, Option<What>)> {
        let known = {
            let state = state(self);
            let known = state.drafts.iter().find(|one| one.place.path == place.path);
            known.map(|one| match &one.what {
                What::Text(text) => text.try_clone().map(Some),
                What::Gone | What::Directory => Ok(None),
            })
        };
        let draft = known.transpose()?;
        let there = match &draft {
            Some(text) => text.is_some(),
            None => place.stat.is_some(),
        };
        if there && flags & FLAG_EXCLUSIVE != 0 {
            return Err(Errno::EXIST.into());
        }
        if !there && flags & FLAG_CREATE == 0 {
            return Err(Errno::NOENT.into());
        }
        if let Some(Some(text)) = draft {
            if flags & FLAG_TRUNCATE != 0 {
                rustix::fs::ftruncate(&text, 0)?;
            }
            return Ok((again(&text, flags)?, None));
        }
        let (mut bytes, mut mode) = (Vec::new(), mode);
        if draft.is_none() && there {
            let stat = rustix::fs::statat(place.parent(), place.name(), AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(Errno::ACCESS.into());
            }
            mode = stat.st_mode;
            if flags & FLAG_TRUNCATE == 0 {
                bytes = read_at(place.parent(), &place.name(), FILE_BYTES_MAX)?;
            }
        }
        let text = in_memory(&bytes, mode & 0o777)?;
        Ok((again(&text, flags)?, Some(What::Text(text))))
    }

    /// Asks about a file that is to replace a protected one: its content exists already.
    fn ask_about_rename(
        &self,
        hands: &mut Hands,
        resolver: &Resolver,
        found: &mut Found,
        owner: ProcessId,
    ) -> Option<Reply> {
        let read = {
            let [from, _] = found.places.as_slice() else {
                return None;
            };
            if from.kind() != Some(FileType::RegularFile) || from.object().is_some() {
                return None;
            }
            let read = || {
                let bytes = read_at(from.parent(), &from.name(), FILE_BYTES_MAX)?;
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                let stat = rustix::fs::statat(from.parent(), from.name(), flags)?;
                in_memory(&bytes, stat.st_mode & 0o777)
            };
            hands.identity.act(read).ok()?.ok()?
        };
        let judged = found.take_denied()?;
        let (to, from) = (found.places.pop()?, found.places.pop()?);
        let mut drafts = self.ready(Moment::GoesOn, owner);
        drafts.push(Draft {
            owner,
            checkout: false,
            place: to,
            judged,
            subject: self.caller(resolver.tid()),
            what: What::Text(read),
            placeholder: false,
        });
        let tid = resolver.tid();
        Some(later(move |caller| async move {
            let shared = &caller.shared;
            if let Err(errno) = shared.settle_drafts(drafts, tid, &caller).await {
                return Answer::Fails(errno);
            }
            let turn = shared.turns.taken().await;
            let remove = || rustix::fs::unlinkat(from.parent(), from.name(), AtFlags::empty());
            let removed = Hands::with(|hands| hands.identity.act(remove));
            drop(turn);
            match removed {
                Some(Ok(Ok(()))) => Answer::Returns,
                Some(Ok(Err(error))) => Answer::Fails(error.raw_os_error()),
                Some(Err(_)) | None => Answer::Fails(ERRNO_NOT_JUDGED),
            }
        }))
    }

    /// Asks about drafts before another event; `None` if none is ready.
    pub(super) fn ask_first(&self, moment: Moment, tid: u32) -> Option<Reply> {
        if state(self).drafts.is_empty() {
            return None;
        }
        let owner = procfs::identity(tid).ok()?.id;
        let drafts = self.ready(moment, owner);
        if drafts.is_empty() {
            return None;
        }
        Some(later(move |caller| async move {
            let settled = caller.shared.settle_drafts(drafts, tid, &caller).await;
            match (settled, moment) {
                (Err(errno), Moment::GoesOn) => Answer::Fails(errno),
                (Err(_), Moment::Ends) => {
                    // It has done all its work, and would report success.
                    if caller.is_waiting() {
                        end_as_failed(owner);
                    }
                    caller.resume().await
                }
                // The writer learns at its next change that the file is missing.
                (Err(_), Moment::Runs) | (Ok(()), _) => caller.resume().await,
            }
        }))
    }

    /// Takes out the drafts to be asked about at this moment: those of a process that has finished
    /// writing them.
    fn ready(&self, moment: Moment, owner: ProcessId) -> Vec<Draft> {
        self.take(|one| {
            let own = one.owner == owner;
            let open = || matches!(&one.what, What::Text(text) if is_open(one.owner, text));
            match moment {
                _ if one.checkout => false,
                Moment::Runs => !open(),
                Moment::Ends => own,
                Moment::GoesOn => own && !open(),
            }
        })
    }

    /// Takes out drafts.
    fn take(&self, which: impl FnMut(&mut Draft) -> bool) -> Vec<Draft> {
        state(self).drafts.extract_if(.., which).collect()
    }

    /// Forgets the drafts of a change of the working tree that is not made.
    pub(super) fn forget_drafts(&self, hands: &Hands, owner: ProcessId) {
        let drafts = self.take(|one| one.checkout && one.owner == owner);
        drop_drafts(hands, &drafts);
    }

    fn has_draft(&self, path: &Path) -> bool {
        let state = state(self);
        state.drafts.iter().any(|one| one.place.path == path)
    }

    /// Whether new hooks below this path are asked about.
    pub(super) fn takes_hooks(&self, path: &Path) -> bool {
        let Some((Area::Workspace, relative)) = self.areas.of(path) else {
            return false;
        };
        let below = relative.as_os_str().as_bytes();
        let settings = self.protection(Area::Workspace);
        let can_ask = self.desk.mode() != AskMode::Deny && !settings.is_held(below);
        can_ask && is_of_hooks(settings, below)
    }

    /// Whether a change of this path may be asked about by its content.
    fn may_be_draft(&self, place: &Place, checkout: bool, renames: bool) -> bool {
        let Some((Area::Workspace, relative)) = self.areas.of(&place.path) else {
            return false;
        };
        let below = relative.as_os_str().as_bytes();
        let settings = self.protection(Area::Workspace);
        if settings.protects(below).is_none() || settings.is_held(below) {
            return false;
        }
        let is_git = |part: &[u8]| part.eq_ignore_ascii_case(b".git");
        let names = self.git_names(&place.path);
        if names
            .iter()
            .any(|name| name.split(|byte| *byte == b'/').any(is_git))
        {
            return match self.git_file(&place.path) {
                Some(GitFile::Hook) => !checkout,
                Some(GitFile::Settings) => renames && !checkout,
                Some(
                    GitFile::HookDirectory
                    | GitFile::CommonDirectory
                    | GitFile::Pointer
                    | GitFile::Mark
                    | GitFile::Other,
                )
                | None => false,
            };
        }
        checkout || is_of_hooks(settings, below)
    }
}

/// Asks about everything that a change of the working tree would do to protected files, before the
/// index records it as done.
fn ask_checkout(drafts: Vec<Draft>, tid: u32) -> Reply {
    later(move |caller| async move {
        let shared = &caller.shared;
        let first = drafts.first().map(|one| one.judged.request.path.clone());
        match shared.settle_drafts(drafts, tid, &caller).await {
            Ok(()) => caller.resume().await,
            Err(errno) => {
                let turn = shared.turns.taken().await;
                let path = first.unwrap_or_default();
                // Steps that could not be taken back were counted with the steps.
                Hands::with(|hands| shared.give_up_checkout(hands, tid, path));
                drop(turn);
                Answer::Fails(errno)
            }
        }
    })
}

/// Kills a process in its last call, so that its parent sees that it failed.
fn end_as_failed(process: ProcessId) {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
    let Some(Ok(descriptor)) = pid.map(stockade_sys::process::pidfd) else {
        return;
    };
    // The descriptor refers to this process if the process still existed after the open.
    if procfs::of_process(process.pid).is_ok_and(|found| found.id == process) {
        // A process that has ended needs no signal.
        rustix::process::pidfd_send_signal(&descriptor, Signal::KILL).unwrap_or_default();
    }
}

/// Removes the directories that were made for drafts, if they are empty.
fn drop_drafts(hands: &Hands, drafts: &[Draft]) {
    let directories = drafts.iter().rev();
    for one in directories.filter(|one| matches!(one.what, What::Directory)) {
        let remove = || {
            let parent = writable(&one.place)?;
            rustix::fs::unlinkat(parent, one.place.name(), AtFlags::REMOVEDIR)?;
            io::Result::Ok(())
        };
        ignored(
            hands.identity.act(remove),
            "a directory that is not empty by now stays",
        );
    }
}

/// Whether a path lies in a directory of a hook manager.
fn is_of_hooks(settings: &WorkspaceSettings, below: &[u8]) -> bool {
    let mut parts = below.split(|byte| *byte == b'/');
    parts.any(|part| HOOK_DIRECTORIES.contains(&part)) && settings.protects(below).is_some()
}

fn opened_as(file: OwnedFd, flags: u32) -> Answer {
    Answer::Opened {
        file,
        close_on_exec: act::closes_on_exec(flags),
    }
}

/// Makes a file in memory that can be sealed.
fn in_memory(bytes: &[u8], mode: u32) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create("draft", flags)?);
    file.write_all(bytes)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode | 0o600))?;
    Ok(file.into())
}

/// Opens a file in memory once more, as the caller wants it.
fn again(text: &OwnedFd, flags: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::from_bits_retain(flags & (ACCESS_MODE | FLAG_APPEND)) | OFlags::CLOEXEC;
    let path = format!("/proc/self/fd/{}", text.as_raw_fd());
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Whether a process still has a descriptor of a file in memory; if it cannot be read, it has.
fn is_open(process: ProcessId, text: &OwnedFd) -> bool {
    let Ok(own) = rustix::fs::fstat(text) else {
        return true;
    };
    let Ok(identity) = procfs::of_process(process.pid) else {
        return false;
    };
    let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", process.pid)) else {
        return identity.id == process;
    };
    let is_own = |entry: fs::DirEntry| {
        fs::metadata(entry.path())
            .is_ok_and(|found| (found.dev(), found.ino()) == (own.st_dev, own.st_ino))
    };
    identity.id == process && entries.flatten().any(is_own)
}
