//! Files that point git to another directory: `.git` of a worktree or a submodule, and `commondir`;
//! and samples of hooks that a program other than git makes.
//!
//! Git writes such a file in one go, after opening it. Its text decides, so the caller gets a pipe.
//! The supervisor judges the text once the pipe is closed, before any other call of the session,
//! and only then makes the file.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType},
    io::Errno,
    pipe::PipeFlags,
};
use stockade_event::Durability;
use stockade_policy::{Control, Decision};

use super::{GitFile, REMEDY, normal, open_straight, read_at, replace, samples};
use crate::{
    Hands, Supervision, judged::Judged, locate::Place, push::parse_settings, resolve::Resolver,
};

/// Bytes of a pointer: twice the longest path that the kernel takes.
pub(super) const BYTES_MAX: u64 = 8192;
/// Bytes of a sample or of settings that are written in one go: what a pipe holds.
const WRITTEN_BYTES_MAX: u64 = 64 << 10;
/// Pointers that are being written at a time.
const PENDING_MAX: usize = 64;

/// A pointer that is being written.
pub(crate) struct Pending {
    file: GitFile,
    place: Place,
    judged: Judged,
    mode: u32,
    reader: OwnedFd,
    text: Vec<u8>,
}

/// The pointers that are being written.
pub(crate) type Pointers = Vec<Pending>;

/// The result of reading further.
enum Written {
    NotYet,
    Whole,
    TooMuch,
}

impl Pending {
    fn read_on(&mut self) -> Written {
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&self.reader, &mut buffer) {
                Ok(0) => return Written::Whole,
                Ok(count) => self
                    .text
                    .extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(_) => return Written::NotYet,
            }
            if u64::try_from(self.text.len()).is_ok_and(|bytes| bytes > WRITTEN_BYTES_MAX) {
                return Written::TooMuch;
            }
        }
    }
}

impl Supervision {
    /// Gives the caller a pipe to write a pointer to.
    ///
    /// # Errors
    /// When there is no pipe, or too many are open.
    pub(crate) fn open_pointer(
        &self,
        file: GitFile,
        place: Place,
        judged: Judged,
        mode: u32,
    ) -> io::Result<OwnedFd> {
        let mut pointers = crate::recorder::lock(&self.pointers);
        if pointers.len() >= PENDING_MAX {
            return Err(Errno::MFILE.into());
        }
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        pointers.push(Pending {
            file,
            place,
            judged,
            mode,
            reader,
            text: Vec::new(),
        });
        Ok(writer)
    }

    /// Makes the pointers that are complete by now; the caller has the turn.
    pub(crate) fn settle_pointers(&self, hands: &mut Hands, resolver: &Resolver) {
        let written = {
            let mut pointers = crate::recorder::lock(&self.pointers);
            let mut written = Vec::new();
            let mut at = 0;
            while let Some(pending) = pointers.get_mut(at) {
                match pending.read_on() {
                    Written::NotYet => at += 1,
                    Written::Whole => written.push(pointers.remove(at)),
                    Written::TooMuch => {
                        pending.text.clear();
                        written.push(pointers.remove(at));
                    }
                }
            }
            written
        };
        for pending in written {
            self.make_pointer(hands, resolver, pending);
        }
    }

    fn make_pointer(&self, hands: &mut Hands, resolver: &Resolver, pending: Pending) {
        let Pending {
            file,
            place,
            mut judged,
            mode,
            text,
            ..
        } = pending;
        // In our own identity: the session cannot reach the file.
        let noted = match file {
            GitFile::Settings => self.remotes.note(&[], &text).is_ok(),
            GitFile::Pointer
            | GitFile::CommonDirectory
            | GitFile::Mark
            | GitFile::Hook
            | GitFile::HookDirectory
            | GitFile::Other => true,
        };
        let made = hands.identity.act(|| {
            if !noted {
                return Err(("its remotes could not be written down", Errno::IO));
            }
            if file == GitFile::Mark && text.is_empty() && is_there(&place) {
                return Ok(());
            }
            if is_there(&place) && !self.is_made(&place) {
                return Err(("another program has put something there", Errno::EXIST));
            }
            let leads = self.leads_back(resolver, file, &place, &text);
            leads.map_err(|reason| (reason, Errno::ACCESS))?;
            replace(place.parent(), &place.name(), &text, mode)
                .map_err(|_| ("it could not be written", Errno::IO))
        });
        match made.unwrap_or(Err((
            "the session's identity could not be taken",
            Errno::PERM,
        ))) {
            Ok(()) => {
                self.note_made(&place);
                // A journal that fails ends the session.
                self.note_changes(vec![judged], resolver.tid())
                    .unwrap_or_default();
            }
            Err((reason, _)) => {
                judged.decision = Decision {
                    remedy: REMEDY.to_owned(),
                    ..Control::Protected.denies(
                        format!("what git follows or runs is judged by its text; {reason}"),
                        REMEDY,
                    )
                };
                judged.request.subject = self.subject(resolver.tid());
                let id = self.recorder.new_decision();
                let request = stockade_policy::Request::File(judged.request.clone());
                let record = self.recorder.record(id, &request, &judged.decision);
                self.write(&judged.denied(record), Durability::Written)
                    .unwrap_or_default();
            }
        }
    }

    /// Whether a pointer leads to a git directory of its repository, and that directory back to it.
    fn leads_back(
        &self,
        resolver: &Resolver,
        file: GitFile,
        place: &Place,
        text: &[u8],
    ) -> Result<(), &'static str> {
        if file == GitFile::Hook {
            let sample = samples::does_nothing(text) || samples::is_template(resolver, place, text);
            return sample
                .then_some(())
                .ok_or("it is no sample that only explains");
        }
        if file == GitFile::Settings {
            return self.are_new_settings(resolver, place, text);
        }
        if file == GitFile::Mark {
            let reason = "only git leads to a git directory; another program may make it empty";
            return text.is_empty().then_some(()).ok_or(reason);
        }
        let at = place.path.as_path();
        let directory = at.parent().ok_or("it lies nowhere")?;
        if file == GitFile::CommonDirectory {
            let top = directory.parent().and_then(Path::parent);
            let line = text.strip_suffix(b"\n").unwrap_or(text);
            let same = Path::new(OsStr::from_bytes(line)) == top.unwrap_or(directory);
            return (line == b"../.." || same)
                .then_some(())
                .ok_or("it does not lead to the directory that holds it");
        }
        if u64::try_from(text.len()).is_ok_and(|bytes| bytes > BYTES_MAX) {
            return Err("it is too long");
        }
        let target = target(directory, text).ok_or("it is no pointer as git writes them")?;
        let names = self.git_names(&target);
        let kind = names.iter().find_map(|name| Kind::of(name));
        let kind =
            kind.ok_or("it leads to no directory in which git keeps a submodule or worktree")?;
        if leads_through_link(resolver, &target) {
            return Err("there is a link on the way");
        }
        let found = open_straight(resolver, &target).ok();
        let read = |name: &str| {
            let found = found.as_ref()?;
            read_at(found.as_fd(), OsStr::new(name), 1 << 20).ok()
        };
        match kind {
            Kind::Worktree => {
                let back = read("gitdir").ok_or("its worktree is not known there")?;
                let line = back.strip_suffix(b"\n").unwrap_or(&back);
                let back = normal(&target.join(OsStr::from_bytes(line)));
                (back == at)
                    .then_some(())
                    .ok_or("another worktree is known there")
            }
            Kind::Submodule => {
                let settings = read("config").and_then(|text| parse_settings(&text));
                let tree = settings.unwrap_or_default().into_iter().rev();
                let tree = tree.into_iter().find(|one| one.name == b"core.worktree");
                let other = tree.is_some_and(|tree| {
                    normal(&target.join(OsStr::from_bytes(&tree.value))) != directory
                });
                (!other)
                    .then_some(())
                    .ok_or("another working tree is known there")
            }
        }
    }
}

/// Whether there is a file without content.
pub(super) fn is_empty(place: &Place) -> bool {
    let stat = rustix::fs::statat(place.parent(), place.name(), AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file() && stat.st_size == 0)
}

fn is_there(place: &Place) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::statat(place.parent(), place.name(), flags).is_ok()
}

/// The kind of a git directory below that of the repository.
#[derive(Clone, Copy)]
enum Kind {
    Worktree,
    Submodule,
}

impl Kind {
    fn of(name: &[u8]) -> Option<Self> {
        let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').collect();
        let at = parts.iter().rposition(|part| *part == b".git")?;
        match parts.get(at + 1..)? {
            [b"worktrees", _] => Some(Self::Worktree),
            [b"modules", _, ..] | [b"worktrees", _, b"modules", _, ..] => Some(Self::Submodule),
            _ => None,
        }
    }
}

/// Returns the target of a pointer in this directory, if it is written as git writes it.
pub(super) fn target(directory: &Path, text: &[u8]) -> Option<PathBuf> {
    let path = text.strip_prefix(b"gitdir: ")?;
    let path = path.strip_suffix(b"\n").unwrap_or(path);
    let plain = |byte: &u8| *byte >= b' ' && *byte != 0x7f;
    (!path.is_empty() && path.iter().all(plain))
        .then(|| normal(&directory.join(OsStr::from_bytes(path))))
}

/// Whether the existing part of a path contains a link.
fn leads_through_link(resolver: &Resolver, path: &Path) -> bool {
    for front in path.ancestors() {
        match open_straight(resolver, front) {
            Ok(found) => {
                let stat = rustix::fs::fstat(&found);
                let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
                return !kind.is_ok_and(FileType::is_dir);
            }
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
            Err(_) => return true,
        }
    }
    true
}
