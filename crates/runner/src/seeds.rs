//! Copies the user's configuration into the directory that an agent keeps between its sessions.
//!
//! The agent may have left anything there. Every step uses descriptors, and anything in the way is
//! put aside. A list that no session sees records what was copied last: if only the user's own file
//! has changed since, it is copied again; if only the agent's has, that stays; settings that both
//! changed are merged by keys. A login is always the user's, and is removed when the user no longer
//! has one.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt as _},
            fs::{OpenOptionsExt as _, PermissionsExt},
        },
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};
use stockade_policy::StateDir;
use stockade_types::Digest;

use crate::{
    caller::Caller,
    credentials::{HeldLogins, InsideFile},
    instructions,
    seed_list::{Deed, Inside, Kind, Original, Seeded, decide},
    whole_files::random,
};

/// Largest file that is copied as a seed; configuration is small.
const SEED_BYTES_MAX: u64 = 16 << 20;
/// Deepest seed directory.
const SEED_DEPTH_MAX: usize = 8;
/// Follows the name of an entry that was put aside, before its number.
const ASIDE: &str = ".stockade-kept-";

/// The inputs and results of seeding one directory.
pub(crate) struct Seeding<'a> {
    pub(crate) state: &'a StateDir,
    /// The files last copied.
    pub(crate) list: Seeded,
    /// The text about the boundary in the agent's instructions.
    pub(crate) told: &'a str,
    /// Paths of the user's files that exist, or could not be examined.
    pub(crate) seen: BTreeSet<String>,
    /// Changes on both sides that were not reported before.
    pub(crate) contests: Vec<Contest>,
    /// Logins whose tokens stay outside.
    pub(crate) outside: Option<&'a HeldLogins>,
}

/// A file that both sides changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contest {
    /// Its path below the directory.
    pub(crate) path: String,
    /// Its changed keys, if it has keys.
    pub(crate) keys: Vec<String>,
}

impl<'a> Seeding<'a> {
    pub(crate) const fn new(state: &'a StateDir, list: Seeded, told: &'a str) -> Self {
        Self {
            state,
            list,
            told,
            seen: BTreeSet::new(),
            contests: Vec::new(),
            outside: None,
        }
    }

    pub(crate) fn kind(&self, path: &str) -> Kind {
        if self.state.logins.iter().any(|login| login.file == path) {
            Kind::Login
        } else if self.state.merged.iter().any(|file| file == path) {
            Kind::Merged
        } else {
            Kind::Settings
        }
    }

    /// Returns the part of a file that we did not write.
    pub(crate) fn part(&self, path: &str, contents: Vec<u8>) -> Vec<u8> {
        if self.is_instructions(path) {
            instructions::without(&contents)
        } else {
            contents
        }
    }

    fn is_instructions(&self, path: &str) -> bool {
        self.state.instructions.as_deref() == Some(path)
    }
}

/// A directory that the agent may have filled with anything.
pub(crate) struct Directory {
    fd: OwnedFd,
    owner: (u32, u32),
    /// Path below the agent's directory, which names its entries in the list.
    below: String,
}

impl Directory {
    /// Opens an agent's directory, which we can enter whatever mode the agent gave it.
    pub(crate) fn open(path: &Path, caller: &Caller) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::open(path, flags, Mode::empty())?;
        let owner = (caller.uid, caller.gid);
        Self::entered(&place, owner, String::new())
    }

    /// Opens a directory, held by an `O_PATH` descriptor, with all rights for its owner.
    fn entered(place: &OwnedFd, owner: (u32, u32), below: String) -> io::Result<Self> {
        let mode = Mode::from_raw_mode(rustix::fs::fstat(place)?.st_mode);
        if !mode.contains(Mode::RWXU) {
            rustix::fs::chmod(by_descriptor(place), mode | Mode::RWXU)?;
        }
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(by_descriptor(place), flags, Mode::empty())?;
        let directory = Self { fd, owner, below };
        directory.give(&directory.fd)?;
        Ok(directory)
    }

    /// Gives a new entry to the command's identity, if that is not ours.
    fn give(&self, fd: &OwnedFd) -> io::Result<()> {
        if stockade_sys::identity::own() == self.owner {
            return Ok(());
        }
        let (uid, gid) = self.owner;
        std::os::unix::fs::fchown(fd, Some(uid), Some(gid))
    }

    fn kind(&self, name: &OsStr) -> io::Result<Option<FileType>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Renames the entry `name` to another name beside it.
    fn set_aside(&self, name: &OsStr) -> io::Result<()> {
        let number = random()?;
        let suffix = format!("{ASIDE}{number:016x}");
        // Cut a long name to make room for the suffix.
        let kept = name.as_bytes();
        let kept = kept.get(..kept.len().min(200)).unwrap_or(kept);
        let aside = OsString::from_vec([kept, suffix.as_bytes()].concat());
        Ok(rustix::fs::renameat(&self.fd, name, &self.fd, aside)?)
    }

    /// Opens or makes the directory `name`; any other entry of that name is put aside.
    fn enter(&self, name: &OsStr) -> io::Result<Self> {
        match self.kind(name)? {
            Some(FileType::Directory) => {}
            other => {
                if other.is_some() {
                    self.set_aside(name)?;
                }
                rustix::fs::mkdirat(&self.fd, name, Mode::RWXU)?;
            }
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::openat(&self.fd, name, flags, Mode::empty())?;
        Self::entered(&place, self.owner, self.path_of(name))
    }

    fn path_of(&self, name: &OsStr) -> String {
        let name = name.to_string_lossy();
        if self.below.is_empty() {
            return name.into_owned();
        }
        format!("{}/{name}", self.below)
    }

    /// Copies a file or directory of the user, as far as it has changed since the last time.
    pub(crate) fn seed(
        &self,
        name: &OsStr,
        from: &Path,
        seeding: &mut Seeding<'_>,
        depth: usize,
    ) -> io::Result<()> {
        let path = self.path_of(name);
        let metadata = match fs::metadata(from) {
            Ok(metadata) => Some(metadata),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                seeding.seen.insert(path);
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let is_directory = metadata.as_ref().is_some_and(fs::Metadata::is_dir);
        if is_directory && depth < SEED_DEPTH_MAX {
            let below = self.enter(name)?;
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                below.seed(&entry.file_name(), &entry.path(), seeding, depth + 1)?;
            }
            return Ok(());
        }
        let is_small_file =
            |metadata: &&fs::Metadata| metadata.is_file() && metadata.len() <= SEED_BYTES_MAX;
        let metadata = metadata.as_ref().filter(is_small_file);
        if seeding.is_instructions(&path) {
            return self.seed_instructions(name, from, metadata, seeding);
        }
        let Some(metadata) = metadata else {
            return Ok(());
        };
        let inside = seeding.outside.map(|logins| logins.inside(from));
        let covered = match inside.unwrap_or(InsideFile::Same) {
            InsideFile::Same => None,
            InsideFile::Content(content) => Some(content),
            // As if there were none: what an earlier session had of it goes too.
            InsideFile::Nothing => return Ok(()),
        };
        seeding.seen.insert(path.clone());
        let known = seeding.list.get(&path);
        let there = self.kind(name)?;
        let is_file = there == Some(FileType::RegularFile);
        if covered.is_none() && is_file && known.is_some_and(|known| known.is(metadata)) {
            return Ok(());
        }
        let contents = match covered.map_or_else(|| read(from), Ok) {
            Ok(contents) => contents,
            Err(e) if is_absent(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        let inside = self.contents(name);
        let deed = decide(
            &path,
            known,
            &contents,
            seen(there, inside.as_deref()),
            seeding.kind(&path),
        );
        let original = Original::of(&path, Some(metadata), &contents);
        let mode = metadata.permissions().mode();
        self.carry_out(name, deed, original, mode, seeding)
    }

    /// Carries out the decision, and records it.
    fn carry_out(
        &self,
        name: &OsStr,
        deed: Deed,
        original: Original,
        mode: u32,
        seeding: &mut Seeding<'_>,
    ) -> io::Result<()> {
        let path = self.path_of(name);
        match deed {
            Deed::Leave => seeding.list.set(&path, original),
            Deed::Put(contents, keys) => {
                self.replace(name, &contents, mode)?;
                seeding.list.set(&path, original);
                if !keys.is_empty() {
                    seeding.contests.push(Contest { path, keys });
                }
            }
            Deed::PutAside(contents) => {
                self.set_aside(name)?;
                self.replace(name, &contents, mode)?;
                seeding.list.set(&path, original);
            }
            Deed::Keep { is_new } => {
                if is_new {
                    // Keep the old record, so that the two are compared again.
                    if let Some(known) = seeding.list.get(&path) {
                        let mut known = known.clone();
                        known.tell(original.digest);
                        seeding.list.set(&path, known);
                    }
                    let keys = Vec::new();
                    seeding.contests.push(Contest { path, keys });
                }
            }
        }
        Ok(())
    }

    /// Copies the file that the agent reads as its user's instructions, followed by the text about
    /// the boundary; the file is made even if the user has none.
    fn seed_instructions(
        &self,
        name: &OsStr,
        from: &Path,
        metadata: Option<&fs::Metadata>,
        seeding: &mut Seeding<'_>,
    ) -> io::Result<()> {
        let path = self.path_of(name);
        seeding.seen.insert(path.clone());
        let owner = match metadata.map(|_| read(from)) {
            Some(Ok(contents)) => instructions::without(&contents),
            Some(Err(e)) if !is_absent(&e) => return Err(e),
            Some(Err(_)) | None => Vec::new(),
        };
        let there = self.kind(name)?;
        let inside = self.contents(name);
        let part = inside.as_deref().map(instructions::without);
        let known = seeding.list.get(&path);
        let deed = decide(
            &path,
            known,
            &owner,
            seen(there, part.as_deref()),
            Kind::Settings,
        );
        let with = |part: &[u8]| instructions::with(part, seeding.told);
        let deed = match deed {
            Deed::Put(contents, keys) => Deed::Put(with(&contents), keys),
            Deed::PutAside(contents) => Deed::PutAside(with(&contents)),
            Deed::Leave | Deed::Keep { .. } => {
                // The agent's own text stays, with the present text about the boundary.
                let wanted = with(part.as_deref().unwrap_or_default());
                if inside.as_deref() != Some(&wanted) {
                    self.replace(name, &wanted, 0o600)?;
                }
                deed
            }
        };
        let original = Original::of(&path, metadata, &owner);
        let mode = metadata.map_or(0o600, |metadata| metadata.permissions().mode());
        self.carry_out(name, deed, original, mode, seeding)
    }

    /// Removes what the user no longer has: a login in any case, and any other file if the agent
    /// did not change its copy.
    pub(crate) fn follow_removals(&self, seeding: &mut Seeding<'_>) -> io::Result<()> {
        for path in seeding.list.paths() {
            if seeding.seen.contains(&path) {
                continue;
            }
            if let Some((directory, name)) = self.find(&path)? {
                let copy = directory.contents(&name).map(|bytes| Digest::of(&bytes));
                let is_copy = seeding.list.get(&path).map(|known| known.digest) == copy;
                if is_copy || seeding.kind(&path) == Kind::Login {
                    directory.remove(&name)?;
                }
            }
            seeding.list.forget(&path);
        }
        Ok(())
    }

    /// Removes anything other than a directory; a directory is put aside.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        match self.kind(name)? {
            None => Ok(()),
            Some(FileType::Directory) => self.set_aside(name),
            Some(_) => Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?),
        }
    }

    /// Removes anything other than a directory; returns whether there was such an entry.
    pub(crate) fn remove_file(&self, name: &OsStr) -> io::Result<bool> {
        match self.kind(name)? {
            None | Some(FileType::Directory) => Ok(false),
            Some(_) => {
                rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?;
                Ok(true)
            }
        }
    }

    /// Finds the directory of a path below this one; `None` if there is none.
    pub(crate) fn find(&self, path: &str) -> io::Result<Option<(Self, OsString)>> {
        let (first, rest) = match path.split_once('/') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path, None),
        };
        let Some(rest) = rest else {
            let fd = self.fd.try_clone()?;
            let (owner, below) = (self.owner, self.below.clone());
            return Ok(Some((Self { fd, owner, below }, path.into())));
        };
        if self.kind(OsStr::new(first))? != Some(FileType::Directory) {
            return Ok(None);
        }
        self.enter(OsStr::new(first))?.find(rest)
    }

    /// Returns the content of a small regular file that can be read.
    pub(crate) fn contents(&self, name: &OsStr) -> Option<Vec<u8>> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty()).ok()?;
        let file = fs::File::from(fd);
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || metadata.len() > SEED_BYTES_MAX {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(SEED_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Replaces a file as a whole.
    fn replace(&self, name: &OsStr, contents: &[u8], mode: u32) -> io::Result<()> {
        let number = random()?;
        let temporary = format!(".stockade-new-{number:016x}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(mode & 0o700 | 0o600);
        let fd = rustix::fs::openat(&self.fd, &temporary, flags | OFlags::CLOEXEC, mode)?;
        self.give(&fd)?;
        fs::File::from(fd).write_all(contents)?;
        Ok(rustix::fs::renameat(&self.fd, &temporary, &self.fd, name)?)
    }
}

/// Describes the entry in the place of a copy.
fn seen(there: Option<FileType>, contents: Option<&[u8]>) -> Inside<'_> {
    match (there, contents) {
        (None, _) => Inside::Nothing,
        (Some(_), Some(contents)) => Inside::File(contents),
        (Some(_), None) => Inside::Other,
    }
}

fn by_descriptor(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Reads a user's file; never blocks if it has become something else meanwhile.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)?;
    let mut bytes = Vec::new();
    file.take(SEED_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether the user does not have a file or we may not read it; such a file is not copied.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
#[path = "tests/seeds.rs"]
mod tests;
