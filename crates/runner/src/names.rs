//! All names of a place on the host: mounts can show one tree at several paths.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, StatxFlags};
use stockade_types::AbsPath;

use stockade_supervise::mountinfo::{self, Mount};

/// System directories in which programs are found, as far as they exist.
pub(crate) const SYSTEM: [&str; 12] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/nix/store",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
];

/// The mounts of our namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mounts(Vec<Mount>);

impl Mounts {
    /// Reads the mounts.
    pub(crate) fn read() -> io::Result<Self> {
        mountinfo::read("/proc/self/mountinfo").map(Self)
    }

    /// Returns every name of `path`, which has no links: first the path itself, then its names
    /// through bind mounts.
    pub(crate) fn names(&self, path: &AbsPath) -> Vec<AbsPath> {
        let mut names = vec![path.clone()];
        let Some(inner) = self.inner(path.as_path()) else {
            return names;
        };
        let (device, inner) = inner;
        let own = identity(path.as_path());
        for mount in self.0.iter().filter(|mount| mount.device == device) {
            let Ok(below) = inner.strip_prefix(&mount.root) else {
                continue;
            };
            let name = if below.as_os_str().is_empty() {
                mount.at.clone()
            } else {
                mount.at.join(below)
            };
            // Another mount may cover it there. A place that we cannot examine may be the same.
            let other = identity(&name);
            let differs = match (&own, &other) {
                (Ok(own), Ok(other)) => own != other,
                (_, Err(error)) => error.kind() == io::ErrorKind::NotFound,
                (Err(_), Ok(_)) => false,
            };
            if let (false, Ok(name)) = (differs, AbsPath::new(&name))
                && !names.contains(&name)
            {
                names.push(name);
            }
        }
        names
    }

    /// Returns the file system of a path and the path within it.
    fn inner(&self, path: &Path) -> Option<(Vec<u8>, PathBuf)> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let id = rustix::fs::statx(CWD, path, flags, StatxFlags::MNT_ID).ok()?;
        let mount = self.0.iter().find(|mount| mount.id == id.stx_mnt_id)?;
        let below = path.strip_prefix(&mount.at).ok()?;
        let inner = if below.as_os_str().is_empty() {
            mount.root.clone()
        } else {
            mount.root.join(below)
        };
        Some((mount.device.clone(), inner))
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Resolves the links of `path` as far as it exists; appends the rest unchanged.
pub(crate) fn resolved(path: &Path) -> Option<AbsPath> {
    let mut missing = Vec::new();
    for ancestor in path.ancestors() {
        match fs::canonicalize(ancestor) {
            Ok(mut real) => {
                real.extend(missing.iter().rev());
                return AbsPath::new(real).ok();
            }
            Err(_) => missing.push(ancestor.file_name()?.to_owned()),
        }
    }
    None
}

/// A path taken apart: every link on the way, and the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// Each link, by a path without links, with its text.
    pub(crate) links: Vec<(PathBuf, PathBuf)>,
    /// The end, without links; it need not exist.
    pub(crate) end: PathBuf,
}

/// Links that the kernel follows in one path.
const LINKS_MAX: usize = 40;

/// Follows `path`, which is absolute, link by link.
///
/// # Errors
/// The kernel's error, or that there are too many links.
pub(crate) fn way(path: &Path) -> io::Result<Way> {
    let mut way = Way {
        links: Vec::new(),
        end: PathBuf::from("/"),
    };
    let mut todo: Vec<OsString> = parts(path);
    while let Some(part) = todo.pop() {
        if part.as_bytes() == b".." {
            way.end.pop();
            continue;
        }
        let next = way.end.join(&part);
        let is_link = match fs::symlink_metadata(&next) {
            Ok(metadata) => metadata.is_symlink(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !is_link {
            way.end = next;
            continue;
        }
        if way.links.len() == LINKS_MAX {
            return Err(rustix::io::Errno::LOOP.into());
        }
        let target = fs::read_link(&next)?;
        if target.is_absolute() {
            way.end = PathBuf::from("/");
        }
        todo.extend(parts(&target));
        way.links.push((next, target));
    }
    Ok(way)
}

/// Returns the parts of a path, the first one last.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.as_os_str().as_bytes().split(|b| *b == b'/');
    let parts = parts.filter(|part| !part.is_empty() && *part != b".");
    parts
        .rev()
        .map(|part| OsString::from_vec(part.to_vec()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use stockade_types::AbsPath;

    use super::{Mounts, way};

    #[test]
    fn a_bind_mount_gives_a_second_name() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        for name in ["a/state", "b/state", "c"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        let mut mounts = Mounts::read().unwrap();
        let path = AbsPath::new(base.join("a/state")).unwrap();
        assert_eq!(mounts.names(&path), std::slice::from_ref(&path));
        // As if `a` were bound at `b` and at `c`; `b/state` is a different directory, so the first
        // no longer matches, and `c/state` does not exist.
        let (device, inner) = mounts.inner(&base.join("a")).unwrap();
        for at in ["b", "c"] {
            mounts.0.push(super::Mount {
                id: 0,
                device: device.clone(),
                root: inner.clone(),
                at: base.join(at),
            });
        }
        assert_eq!(mounts.names(&path), std::slice::from_ref(&path));
        fs::remove_dir(base.join("b/state")).unwrap();
        symlink(base.join("a"), base.join("d")).unwrap();
        mounts.0.push(super::Mount {
            id: 0,
            device,
            root: inner,
            at: base.join("d"),
        });
        let also = AbsPath::new(base.join("d/state")).unwrap();
        assert_eq!(mounts.names(&path), [path, also]);
    }

    #[test]
    fn every_link_on_the_way_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(base.join("real/bin")).unwrap();
        fs::write(base.join("real/bin/tool"), "").unwrap();
        symlink("real", base.join("current")).unwrap();
        symlink("../current/bin/tool", base.join("real/link")).unwrap();
        symlink("loop", base.join("loop")).unwrap();
        let found = way(&base.join("current/link")).unwrap();
        assert_eq!(found.end, base.join("real/bin/tool"));
        let links: Vec<_> = found.links.iter().map(|(path, _)| path.clone()).collect();
        let expected = ["current", "real/link", "current"].map(|name| base.join(name));
        assert_eq!(links, expected);
        assert!(way(&base.join("loop/x")).is_err());
        assert_eq!(way(&base.join("none/x")).unwrap().end, base.join("none/x"));
    }
}
