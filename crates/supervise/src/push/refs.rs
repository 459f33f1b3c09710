//! Branches and their commits, read from the files of a repository (gitrepository-layout(5)).

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::Files;

/// Links of references to references that are followed, as git does (`SYMREF_MAXDEPTH`).
const LINKS_MAX: usize = 5;
/// Directories above the working directory that are searched for a repository.
const PARENTS_MAX: usize = 64;
/// Digits of an object name that are shown.
const SHOWN_DIGITS: usize = 12;

/// The directories of a repository.
#[derive(Debug)]
pub(super) struct Repository {
    /// The directory of this work tree: `HEAD`.
    pub(super) own: PathBuf,
    /// The directory that all work trees share: settings and branches.
    pub(super) common: PathBuf,
}

impl Repository {
    /// Finds the repository that git would find from `directory` upwards.
    pub(super) fn find(files: &dyn Files, directory: &Path) -> Option<Self> {
        directory.ancestors().take(PARENTS_MAX).find_map(|parent| {
            Self::at(files, &parent.join(".git")).or_else(|| Self::at(files, parent))
        })
    }

    /// Opens the repository at a path, which may be a file that points to it.
    pub(super) fn at(files: &dyn Files, path: &Path) -> Option<Self> {
        let own = match files.read(path) {
            Ok(Some(text)) => {
                let target = text.strip_prefix(b"gitdir: ")?.trim_ascii_end();
                path.parent()?.join(OsStr::from_bytes(target))
            }
            _ => path.to_owned(),
        };
        files.read(&own.join("HEAD")).ok()??;
        let common = match files.read(&own.join("commondir")) {
            Ok(Some(text)) => own.join(OsStr::from_bytes(text.trim_ascii_end())),
            _ => own.clone(),
        };
        // Git's test for the directory of a repository.
        files.is_directory(&common.join("objects")).then_some(())?;
        files.is_directory(&common.join("refs")).then_some(())?;
        Some(Self { own, common })
    }

    /// Returns the full name of the branch that is checked out.
    pub(super) fn current(&self, files: &dyn Files) -> Option<Vec<u8>> {
        let head = files.read(&self.own.join("HEAD")).ok()??;
        let target = head.strip_prefix(b"ref:")?;
        Some(target.trim_ascii().to_vec())
    }

    /// Returns the full name that git would choose for a short one, and the object.
    pub(super) fn resolve(&self, files: &dyn Files, name: &[u8]) -> Option<(Vec<u8>, String)> {
        if name == b"HEAD" || name == b"@" {
            let object = self.object(files, b"HEAD")?;
            let branch = self.current(files).unwrap_or_else(|| b"HEAD".to_vec());
            return Some((branch, object));
        }
        let places: [&[u8]; 4] = [b"", b"refs/", b"refs/tags/", b"refs/heads/"];
        places.iter().find_map(|place| {
            let full = [place, name].concat();
            full.starts_with(b"refs/").then_some(())?;
            Some((full.clone(), self.object(files, &full)?))
        })
    }

    /// Returns the beginning of the name of the object behind a full name.
    pub(super) fn object(&self, files: &dyn Files, name: &[u8]) -> Option<String> {
        let mut name = name.to_vec();
        for _ in 0..LINKS_MAX {
            if name.split(|byte| *byte == b'/').any(|part| part == b"..") {
                return None;
            }
            let base = if name == b"HEAD" {
                &self.own
            } else {
                &self.common
            };
            let text = files.read(&base.join(OsStr::from_bytes(&name))).ok()?;
            let Some(text) = text else {
                return self.packed(files, &name);
            };
            match text.strip_prefix(b"ref:") {
                Some(target) => name = target.trim_ascii().to_vec(),
                None => return digits(text.trim_ascii()),
            }
        }
        None
    }

    fn packed(&self, files: &dyn Files, name: &[u8]) -> Option<String> {
        let text = files.read(&self.common.join("packed-refs")).ok()??;
        text.split(|byte| *byte == b'\n').find_map(|line| {
            let space = line.iter().position(|byte| *byte == b' ')?;
            let (object, own) = line.split_at(space);
            (own.trim_ascii() == name).then(|| digits(object))?
        })
    }
}

fn digits(object: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(object).ok()?;
    let is_name = text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_name.then(|| text.chars().take(SHOWN_DIGITS).collect())
}
