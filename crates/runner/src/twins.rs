//! Second names of a file: hard links among the files that a session sees.

use std::{fs, mem::MaybeUninit, os::unix::fs::MetadataExt, path::PathBuf};

use rustix::fs::{FileType, Mode, OFlags, RawDir};
use stockade_types::AbsPath;

use crate::RunError;

/// Bytes of directory entries that one call returns: about 2,000 names.
const LISTING_BYTES: usize = 64 * 1024;
/// Entries that are examined, as for protected paths.
const ENTRIES_MAX: usize = 2_000_000;

/// Finds the other names that the files among `places` have in `shares`. It searches only for files
/// with more than one name, so that it costs nothing if there are none.
///
/// # Errors
/// [`RunError::TwinsUnknown`] when there are too many entries.
pub(crate) fn find(
    places: &[AbsPath],
    shares: &[AbsPath],
) -> Result<Vec<(AbsPath, AbsPath)>, RunError> {
    let wanted: Vec<(u64, u64, &AbsPath)> = places
        .iter()
        .filter_map(|place| {
            let metadata = fs::symlink_metadata(place).ok()?;
            let has_more = metadata.is_file() && metadata.nlink() > 1;
            has_more.then(|| (metadata.dev(), metadata.ino(), place))
        })
        .collect();
    let mut found = Vec::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    for share in shares {
        search(share, &wanted, places, &mut found)?;
    }
    Ok(found)
}

fn search(
    share: &AbsPath,
    wanted: &[(u64, u64, &AbsPath)],
    places: &[AbsPath],
    found: &mut Vec<(AbsPath, AbsPath)>,
) -> Result<(), RunError> {
    let mut todo: Vec<PathBuf> = vec![share.as_path().to_owned()];
    let mut buffer = vec![MaybeUninit::uninit(); LISTING_BYTES];
    let mut seen = 0_usize;
    while let Some(directory) = todo.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // A directory that we cannot list, the session, which runs as the same user, cannot list
        // either.
        let Ok(fd) = rustix::fs::open(&directory, flags, Mode::empty()) else {
            continue;
        };
        let mut listing = RawDir::new(&fd, &mut buffer);
        while let Some(Ok(entry)) = listing.next() {
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            seen += 1;
            if seen > ENTRIES_MAX {
                let (place, share) = (wanted.first().map(|(_, _, place)| (*place).clone()), share);
                return Err(RunError::TwinsUnknown {
                    place: place.unwrap_or_else(|| share.clone()),
                    share: share.clone(),
                });
            }
            let path = || {
                directory.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name))
            };
            let kind = entry.file_type();
            if kind == FileType::Directory || kind == FileType::Unknown {
                todo.push(path());
            }
            if kind == FileType::Directory || wanted.iter().all(|(_, ino, _)| *ino != entry.ino()) {
                continue;
            }
            let path = path();
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            let is = |(dev, ino, _): &&(u64, u64, &AbsPath)| {
                (*dev, *ino) == (metadata.dev(), metadata.ino())
            };
            if let (Some((_, _, place)), Ok(name)) = (wanted.iter().find(is), AbsPath::new(&path))
                && !places.contains(&name)
            {
                found.push(((*place).clone(), name));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use stockade_types::AbsPath;

    #[test]
    fn hard_links_are_found_and_only_those() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        let at = |name: &str| AbsPath::new(base.join(name)).unwrap();
        fs::create_dir_all(base.join("share/a/b")).unwrap();
        fs::write(base.join("secret"), "x").unwrap();
        fs::write(base.join("share/other"), "x").unwrap();
        assert_eq!(super::find(&[at("secret")], &[at("share")]).unwrap(), []);
        fs::hard_link(base.join("secret"), base.join("share/a/b/twin")).unwrap();
        let found = super::find(&[at("secret")], &[at("share")]).unwrap();
        assert_eq!(found, [(at("secret"), at("share/a/b/twin"))]);
        let known = [at("secret"), at("share/a/b/twin")];
        assert_eq!(super::find(&known, &[at("share")]).unwrap(), []);
    }
}
