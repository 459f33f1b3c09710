//! The file that is about to run: identity by device and inode, content by digest.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
};

use rustix::{
    fs::{FileType, Mode, OFlags, StatVfsMountFlags},
    io::Errno,
};
use sha2::{Digest as _, Sha256};
use stockade_types::Digest;

use super::interpreter::{FIRST_BYTES, Interpreter};
use crate::{
    lanes,
    locate::reopen_path,
    procfs,
    recorder::lock,
    resolve::{Resolver, reopen},
};

/// Files that the session can write are hashed at every execution up to this size, which takes a
/// few milliseconds. Larger ones are hashed only if a verdict may depend on it: a rule names
/// digests, or a program of that size.
const HASHED_BYTES_MAX: u64 = 8 << 20;
/// Larger files are hashed while another thread answers: hashing this many takes as long as the
/// handover.
const QUICK_BYTES_MAX: u64 = 64 << 10;
/// Known contents; each is about 100 bytes.
const KNOWN_MAX: usize = 20_000;

/// The properties that identify a file with its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds of the last change of content, and of the file.
    modified: (i64, u64),
    changed: (i64, u64),
}

/// A file that is about to run.
#[derive(Debug)]
pub(crate) struct ProgramFile {
    /// Canonical path inside.
    pub(crate) path: PathBuf,
    /// The absolute path that led to it; `None` for a file behind a descriptor.
    asked: Option<PathBuf>,
    fd: OwnedFd,
    key: Key,
    /// Whether the session can write at its place: its content can then change at any time, and a
    /// mapping does not even change its times.
    writable: bool,
}

impl ProgramFile {
    /// Opens the file that an absolute path leads to.
    pub(crate) fn at(resolver: &Resolver, asked: &Path) -> io::Result<Self> {
        let (fd, path) = resolver.open(asked)?;
        Ok(Self {
            asked: Some(asked.to_owned()),
            ..Self::from_fd(fd, path)?
        })
    }

    /// Takes the absolute path that led to it.
    pub(super) fn into_asked(self) -> Option<PathBuf> {
        self.asked
    }

    /// Opens the file behind a descriptor of `tid`.
    pub(crate) fn behind_descriptor(tid: u32, descriptor: i32) -> io::Result<Self> {
        match Self::behind_link(&format!("/proc/{tid}/fd/{descriptor}")) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let copy = procfs::copy_of(tid, descriptor)?;
                let shown = procfs::path_of(&copy)?;
                Self::from_fd(reopen_path(&copy)?, shown)
            }
            file => file,
        }
    }

    /// Opens the file that a process runs.
    pub(crate) fn of_process(pid: u32) -> io::Result<Self> {
        Self::behind_link(&format!("/proc/{pid}/exe"))
    }

    fn behind_link(link: &str) -> io::Result<Self> {
        let fd = rustix::fs::open(link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let shown = procfs::path_of(&fd)?;
        Self::from_fd(fd, shown)
    }

    fn from_fd(fd: OwnedFd, path: PathBuf) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::ACCESS.into());
        }
        let mount = rustix::fs::fstatvfs(&fd)?;
        Ok(Self {
            path,
            asked: None,
            fd,
            key: Key {
                device: stat.st_dev,
                inode: stat.st_ino,
                size: stat.st_size.try_into().unwrap_or_default(),
                modified: (stat.st_mtime, stat.st_mtime_nsec),
                changed: (stat.st_ctime, stat.st_ctime_nsec),
            },
            writable: !mount.f_flag.contains(StatVfsMountFlags::RDONLY),
        })
    }

    /// Reads the interpreter that the kernel would start for a script; `None` for other files.
    fn interpreter(&self) -> io::Result<Option<Interpreter>> {
        let mut head = [0; FIRST_BYTES];
        let mut file = reopen(&self.fd)?;
        let mut filled = 0;
        while let Some(rest) = head.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read(rest)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(Interpreter::of(&head))
    }

    /// Whether the session can change it.
    pub(super) const fn is_writable(&self) -> bool {
        self.writable
    }

    /// Hashes its current content.
    pub(super) fn digest(&self) -> io::Result<Digest> {
        if self.key.size > QUICK_BYTES_MAX {
            lanes::slow();
        }
        hash(reopen(&self.fd)?)
    }

    /// Returns device and inode.
    pub(crate) const fn image(&self) -> (u64, u64) {
        (self.key.device, self.key.inode)
    }
}

/// Hashes a file piece by piece: programs can be larger than all of our memory.
fn hash(mut file: File) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(Digest::from_bytes(hasher.finalize().into()));
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}

/// Dynamic loaders in their standard places: a copy is recognised as a loader.
const LOADERS: [&str; 5] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// The known facts of a file besides its path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) digest: Option<Digest>,
    pub(crate) aliases: Vec<String>,
    /// Its interpreter, if it is a script.
    pub(crate) interpreter: Option<Interpreter>,
    /// Whether a verdict may depend on the digest, of a file whose content can still change.
    pub(crate) by_content: bool,
}

/// Contents seen in this session, and the contents of programs that rules name.
#[derive(Debug)]
pub(crate) struct Identities {
    digests: Mutex<HashMap<Key, Digest>>,
    /// Interpreters of files that the session cannot write.
    interpreters: Mutex<HashMap<Key, Option<Interpreter>>>,
    names: Vec<String>,
    /// Whether rules name digests.
    by_digest: bool,
    /// Size, path and lazily the digest of programs that rules name.
    named: OnceLock<Mutex<Vec<Named>>>,
}

#[derive(Debug)]
struct Named {
    name: String,
    file: (u64, u64),
    size: u64,
    path: PathBuf,
    digest: Option<Digest>,
}

impl Identities {
    /// Remembers whether rules name digests, and the names of programs in rules, so that a copy
    /// under another name is still recognised.
    pub(crate) fn new(names: Vec<String>, by_digest: bool) -> Self {
        Self {
            by_digest,
            digests: Mutex::default(),
            interpreters: Mutex::default(),
            names,
            named: OnceLock::new(),
        }
    }

    /// Finds those programs in the system directories; only if a file that the session can write
    /// runs.
    fn named(&self) -> &Mutex<Vec<Named>> {
        self.named.get_or_init(|| {
            // On most machines `/bin` is `/usr/bin`.
            let directories: BTreeSet<PathBuf> = ["/usr/bin", "/usr/local/bin", "/bin"]
                .into_iter()
                .filter_map(|directory| fs::canonicalize(directory).ok())
                .collect();
            let programs = self.names.iter().flat_map(|name| {
                let directories = directories.iter();
                directories.map(move |directory| (name.clone(), directory.join(name)))
            });
            let loaders = LOADERS.iter().map(PathBuf::from).filter_map(|path| {
                let name = path.file_name()?.to_str()?.to_owned();
                Some((name, path))
            });
            let found = programs
                .chain(loaders)
                .filter_map(|(name, path)| {
                    let metadata = fs::metadata(&path).ok()?;
                    Some(Named {
                        name,
                        file: (metadata.dev(), metadata.ino()),
                        size: metadata.len(),
                        path,
                        digest: None,
                    })
                })
                .collect();
            Mutex::new(found)
        })
    }

    /// Returns the known facts of `file`, with its digest if rules name digests by now; a file that the session can write is read and hashed each
    /// time. An error if it cannot be read: then its identity is unknown, and so is its behaviour
    /// once it runs.
    pub(crate) fn know(&self, file: &ProgramFile, by_digest: bool) -> io::Result<Known> {
        let by_digest = self.by_digest || by_digest;
        if !file.writable {
            let digest = if by_digest {
                Some(self.digest(file)?)
            } else {
                lock(&self.digests).get(&file.key).copied()
            };
            return Ok(Known {
                digest,
                aliases: self.other_names(file),
                interpreter: self.interpreter(file)?,
                by_content: false,
            });
        }
        let size = file.key.size;
        let by_content = by_digest || self.is_size_of_named(size);
        let digest = if by_content || size <= HASHED_BYTES_MAX {
            Some(self.digest(file)?)
        } else {
            None
        };
        Ok(Known {
            digest,
            aliases: digest.map_or_else(Vec::new, |digest| self.aliases(size, digest)),
            interpreter: file.interpreter()?,
            by_content,
        })
    }

    /// Finds the names and paths in rules that lead to this file of the system: `python3` is
    /// `python3.11` on a machine that links it, and `/bin/curl` is `/usr/bin/curl`. It adds no
    /// others, since one file can be many programs (`busybox`) that depend on the name of the call.
    fn other_names(&self, file: &ProgramFile) -> Vec<String> {
        let own = file.path.file_name().and_then(OsStr::to_str);
        let Some(own) = own else {
            return Vec::new();
        };
        let could_be = |name: &&String| could_be(own, name);
        let candidates: Vec<&String> = self.names.iter().filter(could_be).collect();
        if candidates.is_empty() {
            return Vec::new();
        }
        let named = lock(self.named());
        let found = named.iter().filter(|program| {
            program.file == (file.key.device, file.key.inode) && candidates.contains(&&program.name)
        });
        found.map(|program| program.name.clone()).collect()
    }

    /// Reads the interpreter line of a file, or its remembered one if the session cannot write it.
    fn interpreter(&self, file: &ProgramFile) -> io::Result<Option<Interpreter>> {
        if let Some(known) = lock(&self.interpreters).get(&file.key) {
            return Ok(known.clone());
        }
        let line = file.interpreter()?;
        remember(&self.interpreters, file.key, line.clone());
        Ok(line)
    }

    fn is_size_of_named(&self, size: u64) -> bool {
        lock(self.named())
            .iter()
            .any(|program| program.size == size)
    }

    fn aliases(&self, size: u64, digest: Digest) -> Vec<String> {
        self.hash_named(size);
        let named = lock(self.named());
        let alike = named
            .iter()
            .filter(|program| program.size == size && program.digest == Some(digest));
        without_parts(alike.map(|program| program.name.clone()).collect())
    }

    /// Hashes the programs of this size that rules name; it does so only when a caller needs them.
    fn hash_named(&self, size: u64) {
        let unknown = |program: &&Named| program.size == size && program.digest.is_none();
        let paths: Vec<PathBuf> = lock(self.named())
            .iter()
            .filter(unknown)
            .map(|program| program.path.clone())
            .collect();
        for path in paths {
            lanes::slow();
            let digest = File::open(&path).and_then(hash).ok();
            let mut named = lock(self.named());
            for program in named.iter_mut().filter(|program| program.path == path) {
                program.digest = digest;
            }
        }
    }

    /// Hashes `file`, or returns its remembered digest if the session cannot change it.
    pub(crate) fn digest(&self, file: &ProgramFile) -> io::Result<Digest> {
        if file.writable {
            return file.digest();
        }
        if let Some(digest) = lock(&self.digests).get(&file.key) {
            return Ok(*digest);
        }
        let digest = file.digest()?;
        remember(&self.digests, file.key, digest);
        Ok(digest)
    }
}

fn remember<V>(known: &Mutex<HashMap<Key, V>>, key: Key, value: V) {
    let mut known = lock(known);
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    known.insert(key, value);
}

/// Whether a name or path in a rule could mean the file of the system that is called `own`.
fn could_be(own: &str, name: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or_default();
    let is_version = |rest: &str| rest.starts_with(|c: char| matches!(c, '.' | '-' | '0'..='9'));
    own.strip_prefix(base).is_some_and(is_version) || (name.contains('/') && base == own)
}

/// Leaves out names that are parts of others: `git-receive-pack` is `git` by another name, but `git` is
/// not `git-receive-pack`.
fn without_parts(mut aliases: Vec<String>) -> Vec<String> {
    let parts: Vec<String> = aliases.iter().map(|name| format!("{name}-")).collect();
    aliases.retain(|name| !parts.iter().any(|part| name.starts_with(part.as_str())));
    aliases
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _, os::fd::AsRawFd as _};

    use super::{HASHED_BYTES_MAX, Identities, ProgramFile, could_be, without_parts};

    #[test]
    fn names_in_rules_mean_versions_and_paths_of_programs() {
        for (own, name, could) in [
            ("python3.11", "python3", true),
            ("python3.11", "/usr/bin/python3", true),
            ("git", "/bin/git", true),
            ("git-receive-pack", "git", true),
            ("git", "git", false),
            ("github", "git", false),
            ("busybox", "sh", false),
            ("python", "python3", false),
        ] {
            assert_eq!(could_be(own, name), could, "{own} {name}");
        }
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect();
        let all: Vec<String> = names(&["git-receive-pack", "git", "hg"]);
        assert_eq!(without_parts(all), ["git", "hg"]);
    }

    /// A file that the session can write is hashed at each execution, up to a size or if a rule
    /// needs it.
    #[test]
    fn what_can_change_is_read_each_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let known = |by_digest: bool| {
            let opened = fs::File::open(file.path()).unwrap();
            let own = std::process::id();
            let program = ProgramFile::behind_descriptor(own, opened.as_raw_fd()).unwrap();
            assert!(program.is_writable());
            Identities::new(Vec::new(), by_digest)
                .know(&program, false)
                .unwrap()
        };
        file.as_file().write_all(b"#!/bin/sh -e\n").unwrap();
        let first = known(false);
        assert!(first.digest.is_some() && !first.by_content);
        let line = first.interpreter.map(|script| script.line()).unwrap();
        assert_eq!(line.display(), "/bin/sh -e");
        file.as_file().write_all(b"exit\n").unwrap();
        let second = known(true);
        assert_ne!(first.digest, second.digest);
        assert!(second.by_content, "a rule names digests");
        file.as_file().set_len(HASHED_BYTES_MAX + 1).unwrap();
        assert_eq!(known(false).digest, None);
        assert!(known(true).digest.is_some());
    }
}
