//! Steps that build the file view below the new root, and enter it.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use stockade_plan::{CacheKind, Identity, OverlayPart, Owner};
use stockade_sys::{
    Outcome, SysError,
    mount::{self, BindAccess},
};
use stockade_types::{AbsPath, RawText};

/// Directory of the new root for files that are bound elsewhere; it is empty when the root is
/// entered.
const STAGING: &str = ".stockade-staging";
/// Directory of the new root in which the tmpfs of all private directories is, until it is entered.
const POOL: &str = ".stockade-pool";
/// Limit of all private directories together, as a share of the machine's memory.
const POOL_PERCENT: u8 = 50;
/// Limit of the root itself: names, and small files that are bound elsewhere.
const ROOT_PERCENT: u8 = 1;

/// The root being built.
#[derive(Debug, Default)]
pub(super) struct View {
    root: PathBuf,
    staged: u32,
    private: u32,
    /// Inodes of the covers on paths, so that nothing is covered twice.
    covers: Vec<u64>,
    /// Overlays, by the directory below them, and the place of each until the root is entered.
    overlays: Vec<(AbsPath, PathBuf)>,
}

/// A writable bind without devices.
const WRITABLE: BindAccess = BindAccess {
    read_only: false,
    devices: false,
};

impl View {
    pub(super) fn new_root(&mut self, at: &AbsPath) -> Outcome<()> {
        mount::tmpfs(at.as_path(), 0o755, ROOT_PERCENT)?;
        at.as_path().clone_into(&mut self.root);
        let staging = self.root.join(STAGING);
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&staging)
            .map_err(|e| SysError::on("create", staging.display(), e))
    }

    /// Returns the place of a path inside while the root is being built.
    fn at(&self, path: &AbsPath) -> PathBuf {
        let relative = path.as_path().strip_prefix("/").unwrap_or(path.as_path());
        self.root.join(relative)
    }

    fn make_directories(path: &Path) -> Outcome<()> {
        match fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
        {
            Ok(()) => Ok(()),
            Err(e) => Err(SysError::on("create directory", path.display(), e)),
        }
    }

    pub(super) fn symlink(&self, path: &AbsPath, target: &RawText) -> Outcome<()> {
        let wrong = |e: io::Error| SysError::on("create link", path, e);
        let (parent, name) = self.parent(path).map_err(wrong)?;
        rustix::fs::symlinkat(target.to_os(), parent, name).map_err(|e| wrong(e.into()))
    }

    /// Writes a file. If one already exists (on a read-only bind), the new one is bound over it; if
    /// a link there has no target inside, nothing is shown.
    pub(super) fn file(&mut self, path: &AbsPath, contents: &str) -> Outcome<()> {
        let wrong = |e: io::Error| SysError::on("create", path, e);
        match self.find(path) {
            Ok(at) => {
                let staged = self.stage();
                write_new(&staged, contents)?;
                let access = BindAccess {
                    read_only: true,
                    devices: false,
                };
                return mount::bind_at(&staged, at.as_fd(), access);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(wrong(e)),
        }
        let (parent, name) = self.parent(path).map_err(wrong)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        match rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)) {
            Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(wrong(e.into())),
            Ok(fd) => fs::File::from(fd)
                .write_all(contents.as_bytes())
                .map_err(wrong),
        }
    }

    fn stage(&mut self) -> PathBuf {
        self.staged += 1;
        self.root.join(STAGING).join(self.staged.to_string())
    }

    pub(super) fn bind(&self, from: &AbsPath, path: &AbsPath, access: BindAccess) -> Outcome<()> {
        let metadata = fs::metadata(from).map_err(|e| SysError::on("bind", from, e))?;
        let at = match self.find(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.make(path, metadata.is_dir()),
            found => found,
        };
        let at = at.map_err(|e| SysError::on("bind at", path, e))?;
        mount::bind_at(from.as_path(), at.as_fd(), access)
    }

    /// Finds the file at `path` inside. Links are followed as they will be inside, so that the
    /// agent's links in its own directories cannot lead elsewhere.
    fn find(&self, path: &AbsPath) -> io::Result<OwnedFd> {
        let root = rustix::fs::open(&self.root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let relative = path.as_path().strip_prefix("/").unwrap_or(path.as_path());
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Ok(rustix::fs::openat2(
            root,
            relative,
            flags,
            Mode::empty(),
            resolve,
        )?)
    }

    /// Makes an empty directory or file at `path` inside, with its parents, and opens it.
    fn make(&self, path: &AbsPath, is_directory: bool) -> io::Result<OwnedFd> {
        let (parent, name) = self.parent(path)?;
        if is_directory {
            rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
            // It belongs to the owner of its parent: a home belongs to the command's user, even if
            // root builds the view.
            let above = rustix::fs::fstat(&parent)?;
            let owner = Some(rustix::fs::Uid::from_raw(above.st_uid));
            let group = Some(rustix::fs::Gid::from_raw(above.st_gid));
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&parent, name, owner, group, flags)?;
        } else {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644))?;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&parent, name, flags, Mode::empty())?)
    }

    /// Opens the parent directory of `path` inside, and makes it if it is missing.
    fn parent<'p>(&self, path: &'p AbsPath) -> io::Result<(OwnedFd, &'p OsStr)> {
        let path = path.as_path();
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::AlreadyExists.into());
        };
        let parent = AbsPath::new(parent).map_err(io::Error::other)?;
        let directory = match self.find(&parent) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.make(&parent, true)?,
            found => found?,
        };
        Ok((directory, name))
    }

    /// Mounts a private overlay over a directory of the host, at a hidden place. Written files
    /// belong to the command's user, as if the command had made them; without a directory of ours
    /// they go to the memory of all private directories.
    pub(super) fn overlay(
        &mut self,
        over: &AbsPath,
        upper: Option<&AbsPath>,
        identity: Identity,
    ) -> Outcome<()> {
        let at = self.private_part()?;
        let own = match upper {
            Some(upper) => upper.as_path().to_owned(),
            None => self.private_part()?,
        };
        let (upper, work) = (own.join("upper"), own.join("work"));
        let there = fs::metadata(over).map_err(|e| SysError::on("lay over", over, e))?;
        for directory in [&upper, &work] {
            Self::make_directories(directory)?;
        }
        // The directory itself appears with mode and owner of the upper one.
        let mode = (there.permissions().mode() & 0o777) | 0o700;
        set_mode_and_owner(&upper, mode, Owner::Command, identity)?;
        mount::overlay(over.as_path(), &upper, &work, &at)?;
        self.overlays.push((over.clone(), at));
        Ok(())
    }

    /// Shows a part of an overlay. If the part is within another one, an earlier session may have
    /// put something else at its place: the other part shows that, and no link in it is followed.
    pub(super) fn overlay_part(&self, part: &OverlayPart, identity: Identity) -> Outcome<()> {
        let OverlayPart {
            over,
            from,
            path,
            kind,
        } = part;
        let wrong = |e: io::Error| SysError::on("show", path, e);
        let overlay = self.overlays.iter().find(|(place, _)| place == over);
        let (_, root) = overlay.ok_or_else(|| wrong(io::ErrorKind::NotFound.into()))?;
        let below = from.as_path().strip_prefix(over.as_path());
        let below = below.map_err(|e| wrong(io::Error::other(e)))?;
        let below = if below.as_os_str().is_empty() {
            Path::new(".")
        } else {
            below
        };
        let root = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| wrong(e.into()))?;
        let found = match kind {
            CacheKind::Directory => within(&root, below, OFlags::PATH | OFlags::DIRECTORY),
            CacheKind::List => Self::list(&root, below, identity).map_err(wrong)?,
        };
        let found = match found {
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Ok(()),
            found => found.map_err(|e| wrong(e.into()))?,
        };
        let at = match self.find(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.make(path, *kind == CacheKind::Directory)
            }
            found => found,
        };
        let at = at.map_err(wrong)?;
        mount::bind_open(found.as_fd(), at.as_fd(), WRITABLE)
    }

    /// Opens a list of a tool; if there is none, makes an empty one that belongs to the command's
    /// user.
    fn list(
        root: &OwnedFd,
        below: &Path,
        identity: Identity,
    ) -> io::Result<Result<OwnedFd, Errno>> {
        let found = within(root, below, OFlags::PATH);
        if !matches!(found, Err(Errno::NOENT)) {
            return Ok(found);
        }
        let (Some(parent), Some(name)) = (below.parent(), below.file_name()) else {
            return Ok(found);
        };
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        let parent = match within(root, parent, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(parent) => parent,
            Err(error) => return Ok(Err(error)),
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644))?;
        let owner = rustix::fs::Uid::from_raw(identity.uid);
        let group = rustix::fs::Gid::from_raw(identity.gid);
        rustix::fs::fchown(&made, Some(owner), Some(group))?;
        Ok(within(root, below, OFlags::PATH))
    }

    /// Makes a new part of the tmpfs that all private directories of a session share.
    fn private_part(&mut self) -> Outcome<PathBuf> {
        let pool = self.root.join(POOL);
        if self.private == 0 {
            Self::make_directories(&pool)?;
            mount::tmpfs(&pool, 0o700, POOL_PERCENT)?;
        }
        self.private += 1;
        let own = pool.join(self.private.to_string());
        Self::make_directories(&own)?;
        Ok(own)
    }

    /// Mounts a private directory. All of a session are parts of one tmpfs, and so share one limit.
    pub(super) fn tmpfs(
        &mut self,
        path: &AbsPath,
        mode: u32,
        executable: bool,
        owner: Owner,
        identity: Identity,
    ) -> Outcome<()> {
        let at = self.at(path);
        Self::make_directories(&at)?;
        let own = self.private_part()?;
        mount::bind_private(&own, &at, executable)?;
        set_mode_and_owner(&at, mode, owner, identity)
    }

    pub(super) fn processes(&self, path: &AbsPath) -> Outcome<()> {
        let at = self.at(path);
        Self::make_directories(&at)?;
        mount::proc(&at)
    }

    pub(super) fn terminals(&self, path: &AbsPath) -> Outcome<()> {
        let at = self.at(path);
        Self::make_directories(&at)?;
        mount::devpts(&at)
    }

    /// Makes the mount at `path` read-only in place, but not the mounts below it.
    pub(super) fn read_only(&self, path: &AbsPath) -> Outcome<()> {
        mount::make_read_only(&self.at(path))
    }

    /// Binds an existing path onto itself. A path that is missing from this kernel's `/proc` has
    /// nothing to protect; one of the workspace existed a moment ago and must be there.
    pub(super) fn protect(&self, path: &AbsPath, read_only: bool) -> Outcome<()> {
        let at = self.at(path);
        match fs::symlink_metadata(&at) {
            Err(e)
                if e.kind() == io::ErrorKind::NotFound && path.as_path().starts_with("/proc") =>
            {
                return Ok(());
            }
            Err(e) => return Err(SysError::on("protect", path, e)),
            Ok(metadata) if metadata.is_symlink() => {
                return Err(SysError::on(
                    "protect",
                    path,
                    io::Error::other("it is a link"),
                ));
            }
            Ok(_) => {}
        }
        mount::bind(
            &at,
            &at,
            BindAccess {
                read_only,
                devices: false,
            },
        )
    }

    /// Covers a path as [`View::cover`] does, if it exists.
    pub(super) fn mask(&mut self, path: &AbsPath) -> Outcome<()> {
        match self.find(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(SysError::on("mask", path, e)),
            Ok(at) => self.cover_at(path, &at),
        }
    }

    /// Covers a path with an empty directory or file that cannot be changed.
    pub(super) fn cover(&mut self, path: &AbsPath) -> Outcome<()> {
        let at = self
            .find(path)
            .map_err(|e| SysError::on("cover", path, e))?;
        self.cover_at(path, &at)
    }

    fn cover_at(&mut self, path: &AbsPath, at: &OwnedFd) -> Outcome<()> {
        let wrong = |e: io::Error| SysError::on("cover", path, e);
        let there = rustix::fs::fstat(at).map_err(|e| wrong(e.into()))?;
        let own = rustix::fs::stat(&self.root).map_err(|e| wrong(e.into()))?;
        if there.st_dev == own.st_dev && self.covers.contains(&there.st_ino) {
            return Ok(());
        }
        let is_directory = rustix::fs::FileType::from_raw_mode(there.st_mode).is_dir();
        let empty = self.stage();
        if is_directory {
            Self::make_directories(&empty)?;
        } else {
            write_new(&empty, "")?;
        }
        let permissions = fs::Permissions::from_mode(if is_directory { 0o555 } else { 0o444 });
        fs::set_permissions(&empty, permissions).map_err(wrong)?;
        let made = rustix::fs::stat(&empty).map_err(|e| wrong(e.into()))?;
        self.covers.push(made.st_ino);
        let access = BindAccess {
            read_only: true,
            devices: false,
        };
        mount::bind_at(&empty, at.as_fd(), access)
    }

    /// Removes the directories that only the setup needs, and makes the root tmpfs itself
    /// read-only.
    pub(super) fn seal(&self) -> Outcome<()> {
        let staging = self.root.join(STAGING);
        fs::remove_dir_all(&staging).map_err(|e| SysError::on("remove", staging.display(), e))?;
        if self.private > 0 {
            let pool = self.root.join(POOL);
            mount::detach(&pool)?;
            match fs::remove_dir(&pool) {
                Ok(()) => {}
                // The place of this root is also visible inside, where it is covered; the kernel
                // keeps the names of mounts in it. The directory stays, empty and read-only.
                Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {}
                Err(e) => return Err(SysError::on("remove", pool.display(), e)),
            }
        }
        mount::make_read_only(&self.root)
    }

    pub(super) fn enter(&self) -> Outcome<()> {
        mount::pivot_into(&self.root)
    }
}

/// Opens a path below an open directory without following links.
fn within(root: &OwnedFd, below: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = flags | OFlags::CLOEXEC;
    rustix::fs::openat2(root, below, flags, Mode::empty(), resolve)
}

fn set_mode_and_owner(at: &Path, mode: u32, owner: Owner, identity: Identity) -> Outcome<()> {
    fs::set_permissions(at, fs::Permissions::from_mode(mode))
        .map_err(|e| SysError::on("set mode of", at.display(), e))?;
    match owner {
        Owner::Setup => Ok(()),
        Owner::Command => chown(at, Some(identity.uid), Some(identity.gid))
            .map_err(|e| SysError::on("set owner of", at.display(), e)),
    }
}

fn write_new(path: &Path, contents: &str) -> Outcome<()> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
        .and_then(|mut file| file.write_all(contents.as_bytes()))
        .map_err(|e| SysError::on("create", path.display(), e))
}
