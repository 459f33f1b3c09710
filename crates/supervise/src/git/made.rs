//! Protected files that a session made itself: it may remove them again.

use std::collections::HashSet;

use rustix::fs::{AtFlags, StatxFlags};

use crate::locate::Place;

/// Files that are remembered; a session that makes more repositories cannot remove the later ones.
const MADE_MAX: usize = 100_000;

/// Identifies a file or directory, so that a later one at its place is not taken for it.
type Key = (u32, u32, u64, i64, u32);

/// Files and directories that were made on behalf of the session.
#[derive(Debug, Default)]
pub(crate) struct Made(HashSet<Key>);

impl Made {
    /// Notes the current file at a place.
    pub(super) fn note(&mut self, place: &Place) {
        if self.0.len() < MADE_MAX
            && let Some(key) = key(place)
        {
            self.0.insert(key);
        }
    }

    /// Whether the file at a place was made by the session and is unchanged.
    pub(super) fn has(&self, place: &Place) -> bool {
        key(place).is_some_and(|key| self.0.contains(&key))
    }
}

/// A file is identified by its last change, whose time cannot be set: a written or replaced file is
/// another one. A directory is identified by its birth, since its entries are judged by themselves.
fn key(place: &Place) -> Option<Key> {
    let asked = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::CTIME | StatxFlags::BTIME;
    // The target of a caller's descriptor is that object, whatever its name is by now.
    let found = if let Some(object) = place.object() {
        rustix::fs::statx(object, "", AtFlags::EMPTY_PATH, asked)
    } else {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::statx(place.parent(), place.name(), flags, asked)
    };
    let found = found.ok()?;
    let directory = u32::from(found.stx_mode) & 0o170_000 == 0o040_000;
    let (time, wanted) = if directory {
        (found.stx_btime, StatxFlags::BTIME)
    } else {
        (found.stx_ctime, StatxFlags::CTIME)
    };
    (found.stx_mask & wanted.bits() != 0).then_some((
        found.stx_dev_major,
        found.stx_dev_minor,
        found.stx_ino,
        time.tv_sec,
        time.tv_nsec,
    ))
}
