//! Steps that build the file view below the new root, and enter it.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use stockade_plan::{Identity, Owner};
use stockade_sys::{
    Outcome, SysError,
    mount::{self, BindAccess},
};
use stockade_types::AbsPath;

/// Directory of the new root for files that are bound elsewhere; it is empty when the root is
/// entered.
const STAGING: &str = ".stockade-staging";
/// Directory of the new root where the tmpfs of all private directories is, until it is entered.
const POOL: &str = ".stockade-pool";
/// What all private directories hold together, of the machine's memory.
const POOL_PERCENT: u8 = 50;
/// What the root itself holds: names, and small files that are bound elsewhere.
const ROOT_PERCENT: u8 = 1;

/// The root being built.
#[derive(Debug, Default)]
pub(super) struct View {
    root: PathBuf,
    staged: u32,
    private: u32,
}

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

    /// Where a path inside lies while the root is being built.
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

    pub(super) fn directory(
        &self,
        path: &AbsPath,
        mode: u32,
        owner: Owner,
        identity: Identity,
    ) -> Outcome<()> {
        let at = self.at(path);
        Self::make_directories(&at)?;
        set_mode_and_owner(&at, mode, owner, identity)
    }

    pub(super) fn symlink(&self, path: &AbsPath, target: &str) -> Outcome<()> {
        let at = self.at(path);
        if let Some(parent) = at.parent() {
            Self::make_directories(parent)?;
        }
        std::os::unix::fs::symlink(target, &at)
            .map_err(|e| SysError::on("create link", at.display(), e))
    }

    /// Writes a file. Where one exists already (on a read-only bind), the new one is bound over it.
    pub(super) fn file(&mut self, path: &AbsPath, contents: &str) -> Outcome<()> {
        let at = self.at(path);
        let exists = fs::symlink_metadata(&at).is_ok();
        let target = if exists { self.stage() } else { at.clone() };
        if let Some(parent) = target.parent() {
            Self::make_directories(parent)?;
        }
        write_new(&target, contents)?;
        if exists {
            let access = BindAccess {
                read_only: true,
                devices: false,
            };
            mount::bind(&target, &at, access)?;
        }
        Ok(())
    }

    fn stage(&mut self) -> PathBuf {
        self.staged += 1;
        self.root.join(STAGING).join(self.staged.to_string())
    }

    pub(super) fn bind(
        &self,
        from: &AbsPath,
        path: &AbsPath,
        read_only: bool,
        devices: bool,
    ) -> Outcome<()> {
        let at = self.at(path);
        let metadata = fs::metadata(from).map_err(|e| SysError::on("bind", from, e))?;
        if fs::symlink_metadata(&at).is_err() {
            if metadata.is_dir() {
                Self::make_directories(&at)?;
            } else {
                if let Some(parent) = at.parent() {
                    Self::make_directories(parent)?;
                }
                write_new(&at, "")?;
            }
        }
        mount::bind(from.as_path(), &at, BindAccess { read_only, devices })
    }

    /// Mounts a private directory. All of a session are parts of one tmpfs, and so have one bound.
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
        let pool = self.root.join(POOL);
        if self.private == 0 {
            Self::make_directories(&pool)?;
            mount::tmpfs(&pool, 0o700, POOL_PERCENT)?;
        }
        self.private += 1;
        let own = pool.join(self.private.to_string());
        Self::make_directories(&own)?;
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

    /// Makes the mount at `path` read-only in place, without what is mounted below it.
    pub(super) fn read_only(&self, path: &AbsPath) -> Outcome<()> {
        mount::make_read_only(&self.at(path))
    }

    /// Binds an existing path onto itself. A path that does not exist in this kernel's `/proc` has
    /// nothing to protect; one of the workspace was seen a moment ago and must be there.
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

    /// Covers a path with an empty directory or file that cannot be changed.
    pub(super) fn mask(&mut self, path: &AbsPath) -> Outcome<()> {
        let at = self.at(path);
        let metadata = match fs::metadata(&at) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(SysError::on("mask", path, e)),
            Ok(metadata) => metadata,
        };
        let empty = self.stage();
        if metadata.is_dir() {
            Self::make_directories(&empty)?;
        } else {
            write_new(&empty, "")?;
        }
        let permissions = fs::Permissions::from_mode(if metadata.is_dir() { 0o555 } else { 0o444 });
        fs::set_permissions(&empty, permissions).map_err(|e| SysError::on("mask", path, e))?;
        mount::bind(
            &empty,
            &at,
            BindAccess {
                read_only: true,
                devices: false,
            },
        )
    }

    /// Removes the directories that only the setup needs and makes the root tmpfs itself read-only.
    pub(super) fn seal(&self) -> Outcome<()> {
        let staging = self.root.join(STAGING);
        fs::remove_dir_all(&staging).map_err(|e| SysError::on("remove", staging.display(), e))?;
        if self.private > 0 {
            let pool = self.root.join(POOL);
            mount::detach(&pool)?;
            fs::remove_dir(&pool).map_err(|e| SysError::on("remove", pool.display(), e))?;
        }
        mount::make_read_only(&self.root)
    }

    pub(super) fn enter(&self) -> Outcome<()> {
        mount::pivot_into(&self.root)
    }
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
    use std::io::Write;
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
        .and_then(|mut file| file.write_all(contents.as_bytes()))
        .map_err(|e| SysError::on("create", path.display(), e))
}
