//! Control groups that a session makes for itself below the existing ones and removes again.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::Pid;

use crate::{Outcome, SysError};

/// A place in which we can use one controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// `memory`, `pids`, `cpu`, or `unified` for version 2 without controllers.
    pub controller: &'static str,
    /// Directory of the caller's own group in it, below which groups are made.
    pub directory: PathBuf,
}

/// The version 1 controllers that limits use.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// Finds the version 1 hierarchies in which the caller may make groups (it owns the directory).
pub fn writable_hierarchies() -> Vec<Hierarchy> {
    let Ok(own) = fs::read_to_string("/proc/self/cgroup") else {
        return Vec::new();
    };
    CONTROLLERS
        .into_iter()
        .filter_map(|controller| {
            let path = own.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let names = fields.next()?;
                let path = fields.next()?;
                names
                    .split(',')
                    .any(|name| name == controller)
                    .then_some(path)
            })?;
            let directory = Path::new("/sys/fs/cgroup")
                .join(controller)
                .join(path.trim_start_matches('/'));
            let writable = rustix::fs::access(&directory, rustix::fs::Access::WRITE_OK).is_ok();
            writable.then_some(Hierarchy {
                controller,
                directory,
            })
        })
        .collect()
}

/// One group that exists until it is dropped; dropping kills the processes left in it and removes
/// it.
#[derive(Debug)]
pub struct Group {
    directory: PathBuf,
}

impl Group {
    /// Makes the group `name` below `parent`.
    ///
    /// # Errors
    /// EEXIST when the name is taken, EACCES without the right.
    pub fn create(parent: &Path, name: &str) -> Outcome<Self> {
        let directory = parent.join(name);
        fs::create_dir(&directory)
            .map_err(|e| SysError::on("create cgroup", directory.display(), e))?;
        Ok(Self { directory })
    }

    /// Returns where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes one control file, `memory.limit_in_bytes` for example.
    ///
    /// # Errors
    /// When the controller refuses the value.
    pub fn set(&self, file: &str, value: &str) -> Outcome<()> {
        let path = self.directory.join(file);
        fs::write(&path, value).map_err(|e| SysError::on("write", path.display(), e))
    }

    /// Reads one control file.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn get(&self, file: &str) -> Outcome<String> {
        let path = self.directory.join(file);
        fs::read_to_string(&path).map_err(|e| SysError::on("read", path.display(), e))
    }

    /// Moves a process into the group.
    ///
    /// # Errors
    /// When the process is gone or the group full.
    pub fn add(&self, pid: Pid) -> Outcome<()> {
        self.set("cgroup.procs", &pid.as_raw_nonzero().to_string())
    }

    /// Removes the group; waits briefly for the kernel to forget processes that just ended.
    ///
    /// # Errors
    /// EBUSY when processes stay in it.
    pub fn remove(&self) -> Outcome<()> {
        let mut last = io::Error::from(io::ErrorKind::Other);
        for _ in 0..REMOVE_TRIES_MAX {
            match fs::remove_dir(&self.directory) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(e) => last = e,
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Err(SysError::on(
            "remove cgroup",
            self.directory.display(),
            last,
        ))
    }
}

/// 500 tries of 2 ms: the kernel needs a few ms after the last process; a second is ample.
const REMOVE_TRIES_MAX: u32 = 500;
