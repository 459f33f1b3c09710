//! A folder that every user can read, for programs that another user runs.
//!
//! The repository may be in a place that only root can read (`/root` is closed), so programs and
//! files are linked or copied out of it first.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{process, user::User};

/// Not `/tmp`: sandboxes put a fresh one there, and agents refuse a home in it.
const PARENT: &str = "/var/tmp";

/// Removed with everything in it at the end.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: TempDir,
}

impl Stage {
    /// Makes an empty stage.
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("stockade-stage-")
            .tempdir_in(PARENT);
        let folder = folder.with_context(|| format!("no folder could be made in `{PARENT}`"))?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))
            .context("the stage cannot be opened to all")?;
        Ok(Self { folder })
    }

    /// Returns a path in the stage.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a folder, which belongs to a user if one is given.
    pub(crate) fn folder(&self, name: &str, owner: Option<User>) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path)
            .with_context(|| format!("`{}` cannot be made", path.display()))?;
        if let Some(user) = owner {
            chown(&path, Some(user.uid), Some(user.gid))
                .with_context(|| format!("`{}` cannot be given away", path.display()))?;
        }
        Ok(path)
    }

    /// Puts one file in, as a link if the file system allows it.
    pub(crate) fn link(&self, source: &Path, name: impl AsRef<Path>) -> Result<PathBuf> {
        let target = self.prepare(name.as_ref())?;
        if fs::hard_link(source, &target).is_err() {
            copy(source, &target)?;
        }
        Ok(target)
    }

    /// Puts one file in as a copy, so that a change to it stays here.
    pub(crate) fn copy(&self, source: &Path, name: impl AsRef<Path>) -> Result<PathBuf> {
        let target = self.prepare(name.as_ref())?;
        copy(source, &target)?;
        Ok(target)
    }

    /// Puts a whole folder in, with its files as links if the file system allows it.
    pub(crate) fn tree(&self, source: &Path, name: &str) -> Result<PathBuf> {
        let target = self.path(name);
        let linked = process::stdout(Command::new("cp").arg("-al").arg(source).arg(&target));
        if linked.is_err() {
            drop(fs::remove_dir_all(&target));
            process::stdout(Command::new("cp").arg("-a").arg(source).arg(&target))?;
        }
        Ok(target)
    }

    fn prepare(&self, name: &Path) -> Result<PathBuf> {
        let target = self.path(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("`{}` cannot be made", parent.display()))?;
        }
        Ok(target)
    }
}

fn copy(source: &Path, target: &Path) -> Result<()> {
    fs::copy(source, target).with_context(|| {
        format!(
            "`{}` cannot be copied to `{}`",
            source.display(),
            target.display()
        )
    })?;
    let mode = fs::metadata(target)
        .context("a copy has no metadata")?
        .permissions()
        .mode();
    // Everyone gets its owner's rights, except writing.
    let mode = mode | ((mode & 0o500) >> 3) | ((mode & 0o500) >> 6);
    fs::set_permissions(target, Permissions::from_mode(mode))
        .context("a copy cannot be opened to all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_brought_in_can_be_read_by_all() {
        let stage = Stage::new().unwrap();
        let private = stage.path("private");
        fs::write(&private, "x").unwrap();
        fs::set_permissions(&private, Permissions::from_mode(0o700)).unwrap();
        let copied = stage.copy(&private, "deep/copy").unwrap();
        assert_eq!(
            fs::metadata(copied).unwrap().permissions().mode() & 0o777,
            0o755
        );
        let linked = stage.link(&private, "deep/link").unwrap();
        assert_eq!(fs::read_to_string(linked).unwrap(), "x");
    }

    #[test]
    fn a_tree_keeps_its_symbolic_links() {
        let stage = Stage::new().unwrap();
        let source = stage.folder("source", None).unwrap();
        fs::write(source.join("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", source.join("name")).unwrap();
        let tree = stage.tree(&source, "tree").unwrap();
        assert_eq!(fs::read_link(tree.join("name")).unwrap(), Path::new("file"));
        assert_eq!(fs::read_to_string(tree.join("name")).unwrap(), "x");
    }
}
