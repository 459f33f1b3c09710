//! The folders and the user of a measurement, the same for every contender.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::ground::Ground;
use crate::{
    out, process,
    stage::Stage,
    user::{self, User},
};

/// Room for everything that the workloads make.
const MEMORY: &str = "size=4g,mode=755";

/// Where measurements happen.
pub(super) struct Lab {
    pub(super) stage: Stage,
    /// Workspaces of the workloads, one folder each.
    pub(super) workspaces: PathBuf,
    pub(super) home: PathBuf,
    pub(super) account: Option<User>,
    /// Whether the workspaces are in memory.
    pub(super) in_memory: bool,
    grounds: RefCell<BTreeSet<Ground>>,
}

impl Lab {
    /// As root the measurement is made as an ordinary user, since that is the main use, with the
    /// workspaces in memory, so that the state of a disk is no part of a row. The caller must then be
    /// in a mount namespace of its own.
    pub(super) fn new() -> Result<Self> {
        let account = if user::is_root() {
            Some(user::ensure()?)
        } else {
            None
        };
        let mut lab = Self::on(Stage::new()?, account)?;
        if account.is_some() {
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", MEMORY, "tmpfs"]);
            process::stdout(mount.arg(&lab.workspaces))
                .context("no file system in memory for the workspaces")?;
            lab.in_memory = true;
        }
        Ok(lab)
    }

    fn on(stage: Stage, account: Option<User>) -> Result<Self> {
        let workspaces = stage.folder("workspaces", None)?;
        let home = stage.folder("home", account)?;
        Ok(Self {
            stage,
            workspaces,
            home,
            account,
            in_memory: false,
            grounds: RefCell::default(),
        })
    }

    #[cfg(test)]
    pub(super) fn for_test() -> Self {
        Self::on(Stage::new().unwrap(), None).unwrap()
    }

    /// Makes the files of a workload if they are not there, and returns their folder.
    pub(super) fn ground(&self, ground: Ground) -> Result<PathBuf> {
        let folder = self.workspaces.join(ground.folder());
        if self.grounds.borrow_mut().insert(ground) {
            out::note(format_args!("bench: making {}", ground.folder()));
            fs::create_dir_all(&folder)
                .with_context(|| format!("`{}` cannot be made", folder.display()))?;
            ground.fill(&folder)?;
            self.hand_over(&folder)?;
        }
        Ok(folder)
    }

    /// Gives files to the measuring user.
    pub(super) fn hand_over(&self, folder: &Path) -> Result<()> {
        if let Some(User { uid, gid }) = self.account {
            process::stdout(
                Command::new("chown")
                    .args(["-R", &format!("{uid}:{gid}")])
                    .arg(folder),
            )?;
        }
        Ok(())
    }

    /// Has a command run as the measuring user, with a home of its own, in a folder.
    pub(super) fn prepare(&self, mut command: Command, folder: &Path) -> Command {
        match self.account {
            Some(account) => account.apply(&mut command, &self.home),
            None => user::clean_environment(&mut command, &self.home),
        }
        command.current_dir(folder);
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.in_memory {
            // Without it the stage cannot be removed; the namespace takes the mount along anyway.
            process::stdout(Command::new("umount").arg(&self.workspaces)).ok();
        }
    }
}
