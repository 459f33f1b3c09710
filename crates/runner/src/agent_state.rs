//! Private state directories: what an agent writes about itself stays with us, apart for each
//! workspace, and begins with copies of what the user configured.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, MetadataExt, PermissionsExt},
        },
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};

use stockade_plan::StateFact;
use stockade_policy::{Policy, StateDir};
use stockade_types::{AbsPath, Digest};

use crate::{RunError, facts::Caller};

/// Largest file that is copied as a seed; configuration is small.
const SEED_BYTES_MAX: u64 = 16 << 20;
/// Deepest seed directory.
const SEED_DEPTH_MAX: usize = 8;

/// Says where the directories that the policy names are, outside and inside.
pub(crate) fn places(
    policy: &Policy,
    caller: &Caller,
    state_dir: &Path,
    workspace: &AbsPath,
) -> Result<Vec<StateFact>, RunError> {
    let settings = policy.settings();
    let key = Digest::of(workspace.as_path().as_os_str().as_encoded_bytes()).short();
    let preset = if settings.preset.name.is_empty() {
        "generic"
    } else {
        &settings.preset.name
    };
    let base = state_dir.join("agents").join(preset).join(key);
    settings
        .filesystem
        .state
        .iter()
        .filter_map(|state| Some((state, place(&state.value, caller)?)))
        .map(|(state, path)| {
            let from = base.join(state.value.path.replace(['/', '~'], "_"));
            let from = AbsPath::new(&from).map_err(|_| RunError::Path(from))?;
            Ok(StateFact { from, path })
        })
        .collect()
}

/// Where the agent looks for a directory: what its variable says, or the usual place.
fn place(state: &StateDir, caller: &Caller) -> Option<AbsPath> {
    let named = state
        .path_from
        .as_deref()
        .and_then(|name| caller.variable(name));
    named
        .and_then(|path| AbsPath::new(path.to_os()).ok())
        .or_else(|| caller.expand(&state.path))
}

/// Makes and seeds the directories of [`places`].
pub(crate) fn make(
    policy: &Policy,
    caller: &Caller,
    state_dir: &Path,
    facts: &[StateFact],
) -> Result<(), RunError> {
    for (state, fact) in policy.settings().filesystem.state.iter().zip(facts) {
        let from = fact.from.as_path();
        let wrong = |source| RunError::AgentState {
            path: from.to_owned(),
            source,
        };
        private_directories(state_dir, from).map_err(wrong)?;
        let directory = Directory::open(from, caller).map_err(wrong)?;
        for seed in &state.value.seed {
            let seed = seed.strip_suffix("/**").unwrap_or(seed);
            let (from, name) = match seed.strip_prefix("~/") {
                Some(name) => (&caller.home, name),
                None => (&fact.path, seed),
            };
            // Only names directly in the directory: a deeper one would need its parents first.
            if !name.contains('/') {
                let original = from.as_path().join(name);
                directory
                    .seed(OsStr::new(name), &original, 0)
                    .map_err(wrong)?;
            }
        }
    }
    Ok(())
}

/// Makes a directory of ours with its parents; the agent never sees anything above it.
fn private_directories(state_dir: &Path, path: &Path) -> io::Result<()> {
    // A preset cannot name a place outside: its path became one component.
    if !path.starts_with(state_dir) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// A directory that the agent may have filled with links; every step below it is by descriptor.
struct Directory {
    fd: OwnedFd,
    owner: (u32, u32),
}

impl Directory {
    fn open(path: &Path, caller: &Caller) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let directory = Self {
            fd,
            owner: (caller.uid, caller.gid),
        };
        directory.give(&directory.fd)?;
        Ok(directory)
    }

    /// Hands a new entry to the identity that the command runs as, where that is not ours.
    fn give(&self, fd: &OwnedFd) -> io::Result<()> {
        if stockade_sys::identity::own() == self.owner {
            return Ok(());
        }
        let (uid, gid) = self.owner;
        std::os::unix::fs::fchown(fd, Some(uid), Some(gid))
    }

    /// Opens or makes the directory `name`; anything else of that name is taken away.
    fn enter(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&self.fd, name, flags, Mode::empty());
        let fd = match open() {
            Ok(fd) => fd,
            Err(errno) => {
                if errno != Errno::NOENT {
                    rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?;
                }
                rustix::fs::mkdirat(&self.fd, name, Mode::RWXU)?;
                open()?
            }
        };
        let directory = Self {
            fd,
            owner: self.owner,
        };
        directory.give(&directory.fd)?;
        Ok(directory)
    }

    /// Copies a file or directory unless the copy is newer: what the agent changed since stays.
    fn seed(&self, name: &OsStr, from: &Path, depth: usize) -> io::Result<()> {
        let metadata = match fs::metadata(from) {
            Ok(metadata) => metadata,
            Err(e) if is_absent(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        if metadata.is_dir() && depth < SEED_DEPTH_MAX {
            let below = self.enter(name)?;
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                below.seed(&entry.file_name(), &entry.path(), depth + 1)?;
            }
            return Ok(());
        }
        if !metadata.is_file() || metadata.len() > SEED_BYTES_MAX {
            return Ok(());
        }
        let copy = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        if copy.is_ok_and(|copy| copy.st_mtime >= metadata.mtime()) {
            return Ok(());
        }
        match fs::read(from) {
            Ok(contents) => self.replace(name, &contents, metadata.permissions().mode()),
            Err(e) if is_absent(&e) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Puts a file in place as a whole; a link of that name is replaced, not followed.
    fn replace(&self, name: &OsStr, contents: &[u8], mode: u32) -> io::Result<()> {
        let temporary = [name.as_bytes(), b".stockade-new"].concat();
        let temporary = OsStr::from_bytes(&temporary);
        match rustix::fs::unlinkat(&self.fd, temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(mode & 0o700 | 0o600);
        let fd = rustix::fs::openat(&self.fd, temporary, flags | OFlags::CLOEXEC, mode)?;
        self.give(&fd)?;
        fs::File::from(fd).write_all(contents)?;
        Ok(rustix::fs::renameat(&self.fd, temporary, &self.fd, name)?)
    }
}

/// What the user does not have or we may not read is not copied.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use stockade_types::AbsPath;

    use super::{Caller, Directory};

    #[test]
    fn a_link_left_by_the_agent_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        for name in ["real/prompts", "private", "victim"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        fs::write(base.join("real/config.toml"), "mine").unwrap();
        fs::write(base.join("real/prompts/a"), "mine").unwrap();
        fs::write(base.join("victim/file"), "untouched").unwrap();
        symlink(base.join("victim/file"), base.join("private/config.toml")).unwrap();
        symlink(base.join("victim"), base.join("private/prompts")).unwrap();
        let (uid, gid) = stockade_sys::identity::own();
        let home = AbsPath::new(&base).unwrap();
        let caller = Caller {
            uid,
            gid,
            home,
            user: String::new(),
            environment: Vec::new(),
        };
        // The copies must look older than the originals for them to be replaced.
        let past = std::time::SystemTime::UNIX_EPOCH;
        let directory = Directory::open(&base.join("private"), &caller).unwrap();
        directory
            .seed("prompts".as_ref(), &base.join("real/prompts"), 0)
            .unwrap();
        assert_eq!(fs::read_dir(base.join("victim")).unwrap().count(), 1);
        assert_eq!(
            fs::read_to_string(base.join("private/prompts/a")).unwrap(),
            "mine"
        );
        fs::File::open(base.join("private/prompts/a"))
            .unwrap()
            .set_modified(past)
            .unwrap();
        fs::remove_file(base.join("private/config.toml")).unwrap();
        symlink("../victim/file", base.join("private/config.toml")).unwrap();
        directory
            .replace("config.toml".as_ref(), b"mine", 0o600)
            .unwrap();
        assert_eq!(
            fs::read_to_string(base.join("victim/file")).unwrap(),
            "untouched"
        );
        assert_eq!(
            fs::read_to_string(base.join("private/config.toml")).unwrap(),
            "mine"
        );
    }
}
