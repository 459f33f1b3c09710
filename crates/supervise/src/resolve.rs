//! Canonical paths as a process of the session would resolve them.
//!
//! The walk happens in the session's mount namespace, through a descriptor of its root directory,
//! one component at a time and without trusting any text: links are read and followed by hand, so
//! that `/proc/self/…` refers to the judged process and not to us. A path that cannot be resolved
//! gives an error number, which the caller returns to the process instead of guessing.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use stockade_sys::proc_text::Status;

use crate::{mountinfo::SessionMounts, procfs};

/// Links that one path may go through, as in the kernel (path_resolution(7)).
pub(crate) const LINKS_MAX: usize = 40;
/// Longest name in a directory (`NAME_MAX`, linux/limits.h).
const NAME_BYTES_MAX: usize = 255;
/// Magic number of the process file system (linux/magic.h).
const PROC_MAGIC: u64 = 0x9FA0;

/// Whether a link in the last component is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// As `open` and `execve` do.
    Follow,
    /// As `rename` and `unlink` do.
    Keep,
}

/// A directory and a name in it; the name may not exist yet.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The directory, opened as a path.
    pub(crate) parent: OwnedFd,
    /// Name in it; empty for the root itself.
    pub(crate) name: OsString,
    /// Canonical path inside.
    pub(crate) path: PathBuf,
    /// The kind of the file there, if any.
    pub(crate) kind: Option<FileType>,
}

impl Resolved {
    /// Reads the kind of `name` in `parent`; an empty name is the directory itself.
    fn look(parent: OwnedFd, name: OsString) -> io::Result<Self> {
        let kind = if name.is_empty() {
            Some(FileType::Directory)
        } else {
            kind_of(&parent, &name)
        };
        Self::known(parent, name, kind)
    }

    fn known(parent: OwnedFd, name: OsString, kind: Option<FileType>) -> io::Result<Self> {
        let path = procfs::path_of(&parent)?.join(&name);
        Ok(Self {
            parent,
            name,
            path,
            kind,
        })
    }

    /// Opens the object there as a path, without following a link.
    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        let name: &OsStr = if self.name.is_empty() {
            OsStr::new(".")
        } else {
            &self.name
        };
        open_path(&self.parent, name)
    }
}

/// The common facts of all threads of the session.
#[derive(Debug)]
struct View {
    root: OwnedFd,
    mounts: SessionMounts,
    /// The user that its processes run as.
    user: u32,
}

/// Resolves paths of one thread of the session.
#[derive(Debug)]
pub(crate) struct Resolver {
    tid: u32,
    view: Arc<View>,
}

impl Resolver {
    /// Opens the root directory of `tid`, a process of `user`, and reads its mounts.
    pub(crate) fn new(tid: u32, user: u32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{tid}/root"), flags, Mode::empty())?;
        let view = View {
            root,
            mounts: SessionMounts::of(tid)?,
            user,
        };
        Ok(Self {
            tid,
            view: Arc::new(view),
        })
    }

    /// Returns the thread.
    pub(crate) const fn tid(&self) -> u32 {
        self.tid
    }

    /// Returns the session's root directory.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.view.root.as_fd()
    }

    /// Returns the session's mounts.
    pub(crate) fn mounts(&self) -> &SessionMounts {
        &self.view.mounts
    }

    /// Returns the user that the session's processes run as.
    pub(crate) fn user(&self) -> u32 {
        self.view.user
    }

    /// Reads the id, in the session's pid namespace, of the thread's process.
    pub(crate) fn inner_process(&self) -> io::Result<String> {
        let status = procfs::status(self.tid)?;
        inner_id(&Status::new(&status).process_ids()?)
    }

    /// Reads the id of the thread in the session's pid namespace.
    pub(crate) fn inner_thread(&self) -> io::Result<String> {
        let status = procfs::status(self.tid)?;
        inner_id(&Status::new(&status).thread_ids()?)
    }

    /// Resolves for another thread that has the same root directory.
    pub(crate) fn for_thread(&self, tid: u32) -> Self {
        Self {
            tid,
            view: Arc::clone(&self.view),
        }
    }

    /// Makes a path of a system call absolute: it is relative to the directory behind `directory`
    /// or (`AT_FDCWD`) to the working directory.
    pub(crate) fn absolute(&self, directory: i32, path: &[u8]) -> io::Result<PathBuf> {
        let path = Path::new(OsStr::from_bytes(path));
        if path.is_absolute() {
            return Ok(path.to_owned());
        }
        let wrong = |_| io::Error::from(Errno::BADF);
        let base = if directory == AT_FDCWD {
            let link = format!("/proc/{}/cwd", self.tid);
            let base = std::fs::read_link(&link).map_err(wrong)?;
            self.live(base, || Ok(rustix::fs::stat(&link)?))?
        } else {
            let base = procfs::path_behind(self.tid, directory).map_err(wrong)?;
            self.live(base, || procfs::stat_behind(self.tid, directory))?
        };
        Ok(base.join(path))
    }

    /// Returns the path in a magic link's text if it leads to `actual`. The kernel appends `
    /// (deleted)` to the path of a removed file, and a name may end like that as well.
    fn live(
        &self,
        shown: PathBuf,
        actual: impl FnOnce() -> io::Result<Stat>,
    ) -> io::Result<PathBuf> {
        if !shown.is_absolute() {
            return Err(Errno::NOENT.into());
        }
        if !procfs::is_deleted(&shown) {
            return Ok(shown);
        }
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let there = rustix::fs::openat2(&self.view.root, &shown, flags, Mode::empty(), how)?;
        let (there, actual) = (rustix::fs::fstat(&there)?, actual()?);
        if (there.st_dev, there.st_ino) == (actual.st_dev, actual.st_ino) {
            Ok(shown)
        } else {
            Err(Errno::NOENT.into())
        }
    }

    /// Resolves an absolute path.
    pub(crate) fn resolve(&self, path: &Path, last: Last) -> io::Result<Resolved> {
        if path.as_os_str().len() >= stockade_sys::memory::PATH_BYTES_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        match self.plain(path, last) {
            Ok(Some(resolved)) => Ok(resolved),
            Ok(None) => self.walk(path, last),
            Err(error) => Err(error),
        }
    }

    /// The usual case in one call: the path has no link. `None` if the walk by hand is needed.
    fn plain(&self, path: &Path, last: Last) -> io::Result<Option<Resolved>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        if name.len() > NAME_BYTES_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        if path.starts_with("/proc") || path.as_os_str().as_bytes().ends_with(b"/") {
            return Ok(None);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let parent = match rustix::fs::openat2(&self.view.root, parent, flags, Mode::empty(), how) {
            Ok(parent) => parent,
            // A link, or a mount or rename somewhere on the machine while `..` was walked
            // (openat2(2), EAGAIN): the long way needs neither.
            Err(Errno::LOOP | Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let kind = kind_of(&parent, name);
        if last == Last::Follow && kind == Some(FileType::Symlink) {
            return Ok(None);
        }
        Resolved::known(parent, name.to_owned(), kind).map(Some)
    }

    /// Opens the file that an absolute path leads to, as a path, and returns its canonical path.
    pub(crate) fn open(&self, path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
        // From here the kernel resolves ordinary links alike, below the same root. Links of `/proc`
        // may refer to us, or to nothing; a path that is not found at once is walked by hand.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if let Ok(file) = rustix::fs::openat2(&self.view.root, path, flags, Mode::empty(), how) {
            let shown = procfs::path_of(&file)?;
            if !shown.starts_with("/proc") && !procfs::is_deleted(&shown) {
                return Ok((file, shown));
            }
        }
        match self.resolve(path, Last::Follow) {
            Ok(resolved) => Ok((resolved.open()?, resolved.path)),
            // A memory file or a removed one: it exists only behind the link of the process.
            Err(error) if is_no_path(&error) => {
                let link = self.resolve(path, Last::Keep)?;
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&link.parent, &link.name, flags, Mode::empty())?;
                let shown = procfs::path_of(&file)?;
                Ok((file, shown))
            }
            Err(error) => Err(error),
        }
    }

    fn walk(&self, path: &Path, last: Last) -> io::Result<Resolved> {
        let mut stack: Vec<(OwnedFd, OsString)> = Vec::new();
        let mut todo: VecDeque<OsString> = components(path);
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                stack.pop();
                continue;
            }
            let parent = match stack.last() {
                Some((parent, _)) => parent.as_fd(),
                None => self.view.root.as_fd(),
            };
            let here = match open_path(parent, &name) {
                Ok(here) => here,
                Err(error) if error.kind() == io::ErrorKind::NotFound && todo.is_empty() => {
                    return self.found(&stack, name);
                }
                Err(error) => return Err(error),
            };
            let kind = FileType::from_raw_mode(rustix::fs::fstat(&here)?.st_mode);
            if kind == FileType::Symlink {
                if todo.is_empty() && last == Last::Keep {
                    return self.found(&stack, name);
                }
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP.into());
                }
                let target = match self.target(&stack, &here, &name) {
                    // Only the last component can be an object without a path. Before it this is a
                    // removed directory, from which `..` still leads into the tree.
                    Err(error) if !todo.is_empty() && is_no_path(&error) => {
                        return Err(Errno::NOENT.into());
                    }
                    target => target?,
                };
                if target.is_absolute() {
                    stack.clear();
                }
                let mut front = components(&target);
                front.extend(todo);
                todo = front;
                continue;
            }
            if todo.is_empty() {
                return self.found(&stack, name);
            }
            if kind != FileType::Directory {
                return Err(Errno::NOTDIR.into());
            }
            stack.push((here, name));
        }
        // The path ended in `..` or was the root: it names the last directory.
        match stack.pop() {
            Some((_, name)) => self.found(&stack, name),
            None => self.found(&[], OsString::new()),
        }
    }

    fn found(&self, stack: &[(OwnedFd, OsString)], name: OsString) -> io::Result<Resolved> {
        let parent = match stack.last() {
            Some((fd, _)) => fd.try_clone()?,
            None => self.view.root.try_clone()?,
        };
        Resolved::look(parent, name)
    }

    /// Reads a link. Links of `/proc` for processes and descriptors are read for the judged thread.
    fn target(
        &self,
        stack: &[(OwnedFd, OsString)],
        link: &OwnedFd,
        name: &OsStr,
    ) -> io::Result<PathBuf> {
        if !on_proc(link) {
            let text = rustix::fs::readlinkat(link, "", Vec::new())?;
            return Ok(PathBuf::from(OsString::from_vec(text.into_bytes())));
        }
        let names: Vec<&OsStr> = stack.iter().map(|(_, name)| name.as_os_str()).collect();
        match names.as_slice() {
            // `/proc/self`: always the judged thread's process; it stays symbolic.
            [proc] if *proc == "proc" && (name == "self" || name == "thread-self") => {
                let group = self.inner_process()?;
                if name == "self" {
                    return Ok(PathBuf::from(group));
                }
                Ok(PathBuf::from(format!(
                    "{group}/task/{}",
                    self.inner_thread()?
                )))
            }
            [proc] if *proc == "proc" => {
                let text = rustix::fs::readlinkat(link, "", Vec::new())?;
                Ok(PathBuf::from(OsString::from_vec(text.into_bytes())))
            }
            // A magic link of some process: its text is a path inside, or no path at all.
            _ => {
                let shown = rustix::fs::readlinkat(link, "", Vec::new())?;
                let shown = PathBuf::from(OsString::from_vec(shown.into_bytes()));
                let parent = match stack.last() {
                    Some((parent, _)) => parent.as_fd(),
                    None => self.view.root.as_fd(),
                };
                let actual = || Ok(rustix::fs::statat(parent, name, AtFlags::empty())?);
                self.live(shown, actual)
                    .map_err(|_| Errno::OPNOTSUPP.into())
            }
        }
    }
}

/// `AT_FDCWD` of the kernel's interface.
pub(crate) const AT_FDCWD: i32 = -100;

/// Picks from ids, outermost namespace first, the one in the session's own: later ones belong to
/// namespaces that the session made, which have no `/proc` of their own.
fn inner_id(ids: &[i32]) -> io::Result<String> {
    let id = ids.iter().take(2).next_back().ok_or(Errno::NOENT)?;
    Ok(id.to_string())
}

/// Whether a magic link has no path.
pub(crate) fn is_no_path(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error())
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.as_os_str()
        .as_bytes()
        .split(|b| *b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(|part| OsStr::from_bytes(part).to_owned())
        .collect()
}

fn open_path(parent: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn kind_of(parent: &OwnedFd, name: &OsStr) -> Option<FileType> {
    rustix::fs::statat(parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .ok()
        .map(|stat| FileType::from_raw_mode(stat.st_mode))
}

pub(crate) fn on_proc(fd: &OwnedFd) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(PROC_MAGIC))
}

/// Opens the object of an `O_PATH` descriptor for reading.
pub(crate) fn reopen(fd: &OwnedFd) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    File::open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::{fs, io, os::unix::fs::symlink, path::Path};

    use rustix::io::Errno;

    use super::{Last, Resolver, reopen};

    fn ours() -> Resolver {
        Resolver::new(std::process::id(), rustix::process::geteuid().as_raw()).unwrap()
    }

    fn path(text: &Path, last: Last) -> Result<std::path::PathBuf, Option<i32>> {
        ours()
            .resolve(text, last)
            .map(|r| r.path)
            .map_err(|e| e.raw_os_error())
    }

    #[test]
    fn links_are_followed_as_the_kernel_would() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(base.join("real/deep")).unwrap();
        fs::write(base.join("real/file"), "").unwrap();
        symlink("real", base.join("link")).unwrap();
        symlink(base.join("real/file"), base.join("real/deep/up")).unwrap();
        symlink("loop", base.join("loop")).unwrap();
        symlink("nowhere", base.join("dangling")).unwrap();
        let real = base.join("real/file");
        assert_eq!(path(&base.join("link/file"), Last::Keep), Ok(real.clone()));
        assert_eq!(
            path(&base.join("link/deep/up"), Last::Follow),
            Ok(real.clone())
        );
        assert_eq!(
            path(&base.join("link/deep/up"), Last::Keep),
            Ok(base.join("real/deep/up"))
        );
        assert_eq!(path(&base.join("link/deep/../file"), Last::Keep), Ok(real));
        assert_eq!(
            path(&base.join("dangling"), Last::Follow),
            Ok(base.join("nowhere"))
        );
        assert_eq!(
            path(&base.join("loop"), Last::Follow),
            Err(Some(libc_eloop()))
        );
        assert!(path(&base.join("real/file/x"), Last::Keep).is_err());
        assert!(path(&base.join("missing/x"), Last::Keep).is_err());
        let long = base.join("n".repeat(300));
        assert!(path(&long, Last::Follow).is_err());
    }

    #[test]
    fn a_file_is_opened_where_its_path_leads() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir(base.join("real")).unwrap();
        fs::write(base.join("real/file"), "content").unwrap();
        symlink("real", base.join("link")).unwrap();
        symlink("/proc/self/cwd", base.join("here")).unwrap();
        let open = |path: &Path| ours().open(path).map_err(|e| e.raw_os_error());
        let (file, shown) = open(&base.join("link/../link/file")).unwrap();
        assert_eq!(shown, base.join("real/file"));
        let opened = reopen(&file).and_then(io::read_to_string).unwrap();
        assert_eq!(opened, "content");
        // Through a magic link, and to one: only the walk by hand follows those.
        let cwd = std::env::current_dir().unwrap();
        let (_, shown) = open(&base.join("here/Cargo.toml")).unwrap();
        assert_eq!(shown, cwd.join("Cargo.toml"));
        let exe = fs::read_link("/proc/self/exe").unwrap();
        assert_eq!(open(Path::new("/proc/self/exe")).unwrap().1, exe);
        let missing = open(&base.join("missing")).unwrap_err();
        assert_eq!(missing, Some(Errno::NOENT.raw_os_error()));
    }

    #[test]
    fn process_links_mean_the_judged_process() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        let cwd = std::env::current_dir().unwrap();
        symlink("/proc/self/cwd", base.join("here")).unwrap();
        assert_eq!(path(&base.join("here/x"), Last::Keep), Ok(cwd.join("x")));
        assert_eq!(
            path(Path::new("/proc/self/root/etc/hosts"), Last::Keep),
            Ok("/etc/hosts".into())
        );
        let exe = fs::read_link("/proc/self/exe").unwrap();
        assert_eq!(path(Path::new("/proc/self/exe"), Last::Follow), Ok(exe));
    }

    fn libc_eloop() -> i32 {
        rustix::io::Errno::LOOP.raw_os_error()
    }
}
