//! Which file is about to run: identity by device and inode, content by digest.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
};

use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};
use sha2::{Digest as _, Sha256};
use stockade_types::{Digest, RawText};

use crate::{
    procfs,
    recorder::lock,
    resolve::{Resolver, reopen},
};

/// Files in places that the session can write are hashed up to this size at every new identity: a
/// copied `git` is found again, and the time stays below that of starting the program. Larger ones
/// only where they are as large as a program that a rule names.
const HASHED_BYTES_MAX: u64 = 32 << 20;
/// Known contents; each is about 100 bytes.
const KNOWN_MAX: usize = 20_000;
/// Bytes of a first line that the kernel reads.
const FIRST_LINE_BYTES: usize = 256;

/// What makes a file the same file with the same content.
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
    fd: OwnedFd,
    key: Key,
}

impl ProgramFile {
    /// Opens the file that an absolute path leads to.
    pub(crate) fn at(resolver: &Resolver, path: &Path) -> io::Result<Self> {
        let (fd, path) = resolver.open(path)?;
        Self::from_fd(fd, path)
    }

    /// Opens what a descriptor of `tid` stands for.
    pub(crate) fn behind_descriptor(tid: u32, descriptor: i32) -> io::Result<Self> {
        match Self::behind_link(&format!("/proc/{tid}/fd/{descriptor}")) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let copy = procfs::copy_of(tid, descriptor)?;
                let shown = procfs::path_of(&copy)?;
                Self::from_fd(copy, shown)
            }
            file => file,
        }
    }

    /// Opens what a process runs.
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
        Ok(Self {
            path,
            fd,
            key: Key {
                device: stat.st_dev,
                inode: stat.st_ino,
                size: stat.st_size.try_into().unwrap_or_default(),
                modified: (stat.st_mtime, stat.st_mtime_nsec),
                changed: (stat.st_ctime, stat.st_ctime_nsec),
            },
        })
    }

    /// Reads the interpreter line of a script; `None` where it is none.
    fn interpreter(&self) -> io::Result<Option<RawText>> {
        let mut head = vec![0; FIRST_LINE_BYTES];
        let count = reopen(&self.fd)?.read(&mut head)?;
        let line = || {
            head.get(..count)?
                .strip_prefix(b"#!")?
                .split(|b| *b == b'\n')
                .next()
        };
        Ok(line().map(|line| RawText::from_bytes(line.trim_ascii())))
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

/// Dynamic loaders where programs expect them: copies of them are known as what they are.
const LOADERS: [&str; 5] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// What is known of a file besides its path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) digest: Option<Digest>,
    pub(crate) aliases: Vec<String>,
    /// Its interpreter line, if it is a script.
    pub(crate) interpreter: Option<RawText>,
}

/// Contents seen in this session, and the contents of programs that rules name.
#[derive(Debug)]
pub(crate) struct Identities {
    digests: Mutex<HashMap<Key, Digest>>,
    /// Interpreter lines of files that the session cannot write.
    interpreters: Mutex<HashMap<Key, Option<RawText>>>,
    names: Vec<String>,
    /// Size, path and lazily the digest of programs that rules name.
    named: OnceLock<Mutex<Vec<Named>>>,
}

#[derive(Debug)]
struct Named {
    name: String,
    size: u64,
    path: PathBuf,
    digest: Option<Digest>,
}

impl Identities {
    /// Remembers the names of programs that rules name, so that a copy under another name is still
    /// known for what it is.
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self {
            digests: Mutex::default(),
            interpreters: Mutex::default(),
            names,
            named: OnceLock::new(),
        }
    }

    /// Finds those programs in the system directories; only when a file of the session's own runs.
    fn named(&self) -> &Mutex<Vec<Named>> {
        self.named.get_or_init(|| {
            let programs = self.names.iter().flat_map(|name| {
                ["/usr/bin", "/usr/local/bin", "/bin"]
                    .map(|directory| (name.clone(), PathBuf::from(directory).join(name)))
            });
            let loaders = LOADERS.iter().map(PathBuf::from).filter_map(|path| {
                let name = path.file_name()?.to_str()?.to_owned();
                Some((name, path))
            });
            let found = programs
                .chain(loaders)
                .filter_map(|(name, path)| {
                    let path = std::fs::canonicalize(path).ok()?;
                    let size = std::fs::metadata(&path).ok()?.len();
                    Some(Named {
                        name,
                        size,
                        path,
                        digest: None,
                    })
                })
                .collect();
            Mutex::new(found)
        })
    }

    /// Tells what is known of `file`; one in a writable place is read each time, and hashed. An
    /// error where it cannot be read: nobody knows what it is then, nor, once it runs, what it does.
    pub(crate) fn know(&self, file: &ProgramFile, writable: bool) -> io::Result<Known> {
        if !writable {
            return Ok(Known {
                digest: lock(&self.digests).get(&file.key).copied(),
                aliases: Vec::new(),
                interpreter: self.interpreter(file)?,
            });
        }
        let size = file.key.size;
        let digest = if size <= HASHED_BYTES_MAX || self.is_size_of_named(size) {
            Some(self.digest(file)?)
        } else {
            lock(&self.digests).get(&file.key).copied()
        };
        Ok(Known {
            digest,
            aliases: digest.map_or_else(Vec::new, |digest| self.aliases(size, digest)),
            interpreter: file.interpreter()?,
        })
    }

    /// Reads the interpreter line of a file that the session cannot write, or remembers it.
    fn interpreter(&self, file: &ProgramFile) -> io::Result<Option<RawText>> {
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
        let mut named = lock(self.named());
        let mut aliases = Vec::new();
        for program in named.iter_mut().filter(|program| program.size == size) {
            if program.digest.is_none() {
                program.digest = File::open(&program.path).and_then(hash).ok();
            }
            if program.digest == Some(digest) {
                aliases.push(program.name.clone());
            }
        }
        aliases
    }

    /// Hashes `file`, or remembers its digest.
    pub(crate) fn digest(&self, file: &ProgramFile) -> io::Result<Digest> {
        if let Some(digest) = lock(&self.digests).get(&file.key) {
            return Ok(*digest);
        }
        let digest = hash(reopen(&file.fd)?)?;
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
